"""The server's side of a connection, with an end to its patience."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport

__all__ = ["MOST_HEAD", "SLOWEST_READ_S", "SLOWEST_S", "PatientProtocol"]

SLOWEST_S = 10.0
"""Seconds that a client may take to send the head of a request."""

SLOWEST_READ_S = 30.0
"""Seconds that a client may let an answer wait without reading on."""

MOST_HEAD = 65_536
"""Bytes that the head of a request may have."""

_PROBLEM = json.dumps(
    {
        "type": "about:blank",
        "title": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE.phrase,
        "status": 431,
        "detail": f"the head of a request has at most {MOST_HEAD} bytes here: send fewer or shorter headers",
    }
).encode()
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_PROBLEM), _PROBLEM)
)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol that cuts off a client which opens a connection and does not ask."""

    _head = 0
    _timer: TimerHandle | None = None
    _reading: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on, but no head without an end."""
        super().data_received(data)
        if self._timer is not None:
            self._head += len(data)
            if self._head > MOST_HEAD and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the head."""
        self._head = 0
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._cancel()
        self._read_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._look_again()

    def _look_again(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(SLOWEST_READ_S, self._check_reading, waiting)

    def _check_reading(self, before: int) -> None:
        """Cut off a client that has read nothing since; one that reads slowly may go on."""
        if self.transport.get_write_buffer_size() < before:
            self._look_again()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """Wait no longer: it reads."""
        self._read_on()
        super().resume_writing()

    def _read_on(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _wait(self) -> None:
        self._cancel()
        self._timer = self.loop.call_later(SLOWEST_S, self.transport.abort)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
