"""The server's side of an HTTP connection, with time-outs and a limit of the header size."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport


HEADER_TIMEOUT_S = 10.0
"""Time in which a client must send the headers of a request."""

WRITE_TIMEOUT_S = 30.0
"""Time after which a client that reads nothing of its response is disconnected."""

MAX_CONNECTIONS = 200
"""Connections beyond which the one that has been idle for longest is closed; half of what refuses requests."""

MAX_HEADER_BYTES = 65_536
"""Largest size of a request but its body: headers, and the sizes, extensions and trailers of its chunks."""

_PROBLEM = json.dumps(
    {
        "type": "about:blank",
        "title": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE.phrase,
        "status": 431,
        "detail": f"the headers of a request may have at most {MAX_HEADER_BYTES} bytes: send fewer or shorter headers",
    }
).encode()
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_PROBLEM), _PROBLEM)
)


class TimeoutProtocol(HttpToolsProtocol):
    """uvicorn's protocol; a client that sends no request or reads no response is disconnected."""

    idle_since = 0.0
    _header_bytes = 0
    _receiving = False
    _timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the time-out of the headers; many idle connections make room for a new one."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self._start_timer()
        if len(self.connections) > MAX_CONNECTIONS:
            others = (one for one in self.connections if isinstance(one, TimeoutProtocol) and one is not self)
            idle = min((one for one in others if one.is_idle()), key=lambda one: one.idle_since, default=None)
            if idle is not None:
                idle.transport.abort()

    def is_idle(self) -> bool:
        """Whether the connection is open and no request is being answered."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    def on_response_complete(self) -> None:
        """Note since when the connection is idle; a client may not go on sending a body for long."""
        self.idle_since = self.loop.time()
        super().on_response_complete()
        if self._receiving:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Pass data on, unless there is too much of it that is no body."""
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse()

    def _refuse(self) -> None:
        """Answer 431, unless a response has begun, and disconnect."""
        if self.transport.is_closing():
            return
        if self._timer is not None or not self.cycle.response_started:
            self.transport.write(_TOO_LARGE)
        self.transport.close()

    def on_message_begin(self) -> None:
        """Start the time-out of the headers again."""
        self._start_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the time-out, and hand the request over unless its headers are too large."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEADER_BYTES:
            self._refuse()
        self._stop_timer()
        if not self.transport.is_closing():
            self._receiving = True
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of a body apart."""
        self._header_bytes -= len(body)
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count again: the request is there."""
        self._header_bytes, self._receiving = 0, False
        self._stop_timer()
        if not self.transport.is_closing():
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the time-out of the response: the client reads too slowly."""
        super().pause_writing()
        self._watch_write()

    def _watch_write(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT_S, self._check_write, waiting)

    def _check_write(self, before: int) -> None:
        """Disconnect a client that has read nothing since; one that reads slowly is kept."""
        if self.transport.get_write_buffer_size() < before:
            self._watch_write()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """Stop the time-out: the client reads."""
        self._stop_write_timer()
        super().resume_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
