"""ASGI middleware around every request: an id, a log line, metrics, and a limit of the body size."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from btcml.serve.problems import problem_response
from btcml.serve.prometheus import observe_request

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


MAX_BODY_BYTES = 65_536
"""Largest size of a request's body: every parameter is in the query."""

_log = logging.getLogger("btcml.access")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    """ASGI middleware around an application.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, then count and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500
        request_id = scope["request_id"] = _given_id(scope) or uuid.uuid4().hex[:16]

        async def answer(message: Message) -> None:
            """Keep the status of the response and add headers."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_headers(request_id)]
            await send(message)

        try:
            await (_refuse if _too_long(scope) else self._app)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begin
            route = getattr(scope.get("route"), "path", "other")
            observe_request(scope["method"] if route != "other" else "other", route, status, seconds)
            if _log.isEnabledFor(logging.INFO):
                _log.info(json.dumps(_line(scope, request_id, status, seconds)))


def _headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if _ID.fullmatch(text) else None
    return None


def _line(scope: Scope, request_id: str, status: int, seconds: float) -> dict[str, Any]:
    return {
        "event": "request",
        "request_id": request_id,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(1000 * seconds, 2),
    }


def _too_long(scope: Scope) -> bool:
    """Whether a request announces a body that is too large."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return any(not length.isdigit() or int(length) > MAX_BODY_BYTES for length in lengths)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    sentence = f"a request body may have at most {MAX_BODY_BYTES} bytes: put the parameters into the query"
    await problem_response(Request(scope), 413, sentence)(scope, receive, send)
