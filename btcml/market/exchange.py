"""The replay exchange on the wire: a real HTTP server over the answers of `btcml.market.venue`.

The standard library's server, since a drill must be able to reset a connection in the middle of a
body and to drip a body slowly.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from btcml.errors import UsageError
from btcml.market.source import Clock, utc_now
from btcml.market.venue import Answer, Exchange, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btcml.market.faults import Fault
    from btcml.market.source import Source

__all__ = ["Exchange", "Seen", "running_exchange", "serve_exchange"]

_PIECES = 10


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: do not wait between them
    server: _Server

    def do_GET(self) -> None:
        """Answer, and commit the fault of delivery, if there is one."""
        answer = self.server.exchange.respond(self.path)
        delivery = answer.delivery.kind if answer.delivery else ""
        body = answer.body[: len(answer.body) // 2] if delivery.startswith("truncated") else answer.body
        self._head(answer, len(body))
        with contextlib.suppress(OSError):  # the client gave up: its right
            if delivery == "reset":
                self._reset(body)
            elif answer.delivery is not None and delivery == "drip":
                self._drip(body, answer.delivery.seconds)
            else:
                self.wfile.write(body)

    def _head(self, answer: Answer, length: int) -> None:
        self.send_response_only(answer.status)
        for name, value in (answer.headers | {"Content-Type": answer.kind}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _reset(self, body: bytes) -> None:
        """Send half, then a reset: closing with a linger of zero seconds sends RST."""
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _drip(self, body: bytes, seconds: float) -> None:
        size = -(-len(body) // _PIECES) or 1
        for begin in range(0, len(body), size):
            self.wfile.write(body[begin : begin + size])
            self.wfile.flush()
            if self.server.stopped.wait(seconds / _PIECES):
                return

    def log_message(self, *args: object) -> None:
        """Keep silent: the exchange has a log of its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], exchange: Exchange) -> None:
        self.exchange = exchange
        self.stopped = threading.Event()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep silent: a client that went away is no error of the exchange."""


def _bind(host: str, port: int, exchange: Exchange) -> _Server:
    try:
        server = _Server((host, port), exchange)
    except OSError as error:
        msg = f"the exchange cannot listen on {host}:{port}: {error.strerror}: choose another --port"
        raise UsageError(msg) from error
    exchange.url = f"http://{host}:{server.server_port}"
    return server


@contextlib.contextmanager
def running_exchange(
    source: Source,
    clock: Clock | None = None,
    faults: Sequence[Fault] = (),
    *,
    name: str = "exchange",
    weight_limit: int = 6000,
    wall: Clock = utc_now,
) -> Iterator[Exchange]:
    """Run the exchange on a free port of the loopback address, in a thread, until the block ends.

    Yields
    ------
    Exchange
        Its ``url``, its request ``log`` and its book of ``faults``.

    Examples
    --------
    >>> import requests
    >>> from btcml.market.simulate import SimulatedMarket
    >>> with running_exchange(SimulatedMarket()) as exchange:
    ...     requests.get(exchange.url + "/api/v3/ping", timeout=5).json()
    {}
    """
    exchange = Exchange(source, clock, faults, name=name, weight_limit=weight_limit, wall=wall)
    server = _bind("127.0.0.1", 0, exchange)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield exchange
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def serve_exchange(
    source: Source,
    host: str = "127.0.0.1",
    port: int = 8090,
    *,
    clock: Clock | None = None,
    faults: Sequence[Fault] = (),
    name: str = "exchange",
) -> None:
    """Serve until interrupted.

    Raises
    ------
    UsageError
        If the port is taken.
    """
    server = _bind(host, port, Exchange(source, clock, faults, name=name))
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    server.stopped.set()
