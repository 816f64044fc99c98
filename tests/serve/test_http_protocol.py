from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import requests
from fastapi import FastAPI, Request, Response

from btcml.serve import http_protocol

from ..processes import WAIT_S, until  # noqa: TID252 - of all tests
from .conftest import Listening


def test_a_client_that_sends_no_request_is_disconnected(monkeypatch):
    """Half a head, and then nothing: the connection ends; others are answered."""
    monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT_S", 0.3)
    app = FastAPI()
    app.add_api_route("/health", lambda: {"status": "ok"})
    with Listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as slow:
                slow.sendall(begun)
                assert slow.recv(100) == b""
        monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT_S", WAIT_S)
        assert requests.get(url + "/health", timeout=WAIT_S).status_code == 200


def test_idle_connections_make_room_for_others(monkeypatch):
    """Whoever holds hundreds of connections open loses the oldest; requests of others are answered."""
    monkeypatch.setattr(http_protocol, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT_S", WAIT_S)
    app = FastAPI()
    app.add_api_route("/health", lambda: {"status": "ok"})
    with Listening(app, limit_concurrency=20) as url, contextlib.ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        idle = [stack.enter_context(socket.create_connection((host, int(port)), timeout=WAIT_S)) for _ in range(60)]
        assert requests.get(url + "/health", timeout=WAIT_S).status_code == 200
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
        idle[-1].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle[-1].recv(12) == b"HTTP/1.1 200"


def test_headers_without_an_end_are_refused():
    """Ten seconds of headers are a lot of memory: 431 at 64 KiB, whole heads and long bodies pass."""
    app = FastAPI()
    app.add_api_route("/health", lambda: {"status": "ok"}, methods=["GET", "POST"])
    with Listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as endless:
            endless.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * http_protocol.MAX_HEADER_BYTES)
            assert endless.recv(100).startswith(b"HTTP/1.1 431 ")
        assert requests.get(url + "/health", headers={"X-Long": "a" * 20_000}, timeout=WAIT_S).status_code == 200
        with requests.Session() as session:
            for _ in range(3):
                assert session.post(url + "/health", data=b"a" * 200_000, timeout=WAIT_S).status_code == 200


def test_a_client_that_does_not_read_its_response_is_disconnected(monkeypatch):
    """A long response that is not read is dropped; a client that reads slowly gets all of it."""
    monkeypatch.setattr(http_protocol, "WRITE_TIMEOUT_S", 0.3)
    cut, lost = threading.Event(), http_protocol.TimeoutProtocol.connection_lost
    monkeypatch.setattr(
        http_protocol.TimeoutProtocol, "connection_lost", lambda self, error: (cut.set(), lost(self, error))[1]
    )
    app = FastAPI()
    app.add_api_route("/long", lambda: Response(bytes(50_000_000)))
    with Listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as slow:
            slow.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
            assert cut.wait(WAIT_S)
            assert _received(slow) < 50_000_000
        monkeypatch.setattr(http_protocol, "WRITE_TIMEOUT_S", 2.0)  # a busy machine reads slowly, too
        with requests.get(url + "/long", timeout=WAIT_S, stream=True) as steady:
            parts = (time.sleep(0.1) or len(part) for part in steady.iter_content(2_000_000))
            assert sum(parts) == 50_000_000


def _received(connection):
    """Bytes that still come until the end, however it comes."""
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 20):
            count += len(chunk)
    return count


CHUNKED = b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n",
        CHUNKED + b"5\r\nabcde\r\n0\r\n" + b"X-Trailer: 1\r\n" * 10_000,
        CHUNKED + b"5;name=" + b"a" * 100_000,
        CHUNKED + b"1\r\na\r\n" * 20_000,
    ],
    ids=["one header", "many headers", "trailers", "a chunk's extension", "small chunks"],
)
def test_what_is_no_body_has_a_limit_wherever_it_stands(flood):
    """Whole in one piece, behind a chunked body or between its chunks: 431, and the connection ends."""
    app = FastAPI()

    @app.api_route("/health", methods=["GET", "POST"])
    async def health(request: Request):
        await request.body()

    with Listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as client:
            with contextlib.suppress(OSError):
                client.sendall(flood)
            assert _first(client) in {b"HTTP/1.1 431 ", b""}  # reset, where the client was still sending
        assert requests.post(url + "/health", data=iter([b"a" * 1000] * 100), timeout=WAIT_S).status_code == 200


def _first(connection):
    """The beginning of the answer; nothing where the connection was reset."""
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(13)
    return b""


def test_a_body_that_goes_on_after_its_response_is_cut(monkeypatch):
    """A client may not hold a connection by sending what nobody reads."""
    monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT_S", 0.3)
    app = FastAPI()
    app.add_api_route("/health", lambda: {"status": "ok"}, methods=["POST"])
    with Listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as endless:
            endless.sendall(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            assert endless.recv(100).startswith(b"HTTP/1.1 200 ")
            until(lambda: not _sent(endless))


def _sent(connection):
    """Whether more can be sent."""
    try:
        connection.sendall(b"x")
    except OSError:
        return False
    return True
