"""ASGI middleware: an id, a log line, metrics and limits for every request; responses that are kept."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
import weakref
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request

from btcml.serve.problems import problem_response
from btcml.serve.prometheus import observe_request
from btcml.serve.service import SHOWN

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from btcml.serve.service import ChangeListener


MAX_BODY_BYTES = 65_536
"""Largest size of a request's body: every parameter is in the query."""

BODY_TIMEOUT_S = 10.0
"""Time in which a client must send a body whose length it does not announce."""

_COMPRESSION = 6  # of 9: a third of the time, and hardly more bytes
_MAX_KEPT, _MAX_KEPT_BYTES = 256, 64 * 2**20
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
        # A response to HEAD is that to GET; the server, which has the scope as it was, leaves its body out.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope

        async def answer(message: Message) -> None:
            """Keep the status of the response and add headers."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_headers(request_id)]
            await send(message)

        try:
            await self._limited(inner, receive, answer)
        finally:
            seconds = time.perf_counter() - begin
            route = getattr(inner.get("route"), "path", "other")
            observe_request(scope["method"] if route != "other" else "other", route, status, seconds)
            if _log.isEnabledFor(logging.INFO):
                _log.info(json.dumps(_line(scope, request_id, status, seconds)))

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless its body is too large."""
        try:
            receive = await _checked_body(scope, receive)
        except HTTPException as error:
            await problem_response(Request(scope), error.status_code, error.detail)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


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


async def _checked_body(scope: Scope, receive: Receive) -> Receive:
    """Reject a body that is too large; one of unknown length is read first, and then given again."""
    chunked = False
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > MAX_BODY_BYTES):
            raise _too_large()
        chunked |= name == b"transfer-encoding"
    if not chunked:
        return receive
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            messages = await _read_body(receive)
    except TimeoutError as error:
        sentence = f"a request body must arrive within {BODY_TIMEOUT_S:g} s: put the parameters into the query"
        raise HTTPException(408, sentence) from error
    parts = iter(messages)

    async def again() -> Message:
        """Return what was read, then what comes."""
        return next(parts, None) or await receive()

    return again


def _too_large() -> HTTPException:
    return HTTPException(
        413, f"a request body may have at most {MAX_BODY_BYTES} bytes: put the parameters into the query"
    )


async def _read_body(receive: Receive) -> list[Message]:
    messages, size = [await receive()], 0
    while (size := size + len(messages[-1].get("body", b""))) <= MAX_BODY_BYTES:
        if not messages[-1].get("more_body"):
            return messages
        messages.append(await receive())
    raise _too_large()


def has_tag(tag: str, known: str | None) -> bool:
    """Whether the ETag of a response is among those of an ``If-None-Match`` header.

    Examples
    --------
    >>> has_tag('"a"', 'W/"a", "b"'), has_tag('"a"', None)
    (True, False)
    """
    return known is not None and tag in [part.strip().removeprefix("W/") for part in known.split(",")]


@dataclass(frozen=True)
class _Response:
    """A whole response and the route that made it."""

    start: Message
    body: bytes
    route: Any

    async def send(self, known: str | None, send: Send) -> None:
        """Send it, or 304 where the client has it already."""
        headers = Headers(raw=self.start["headers"])
        if self.start["status"] == HTTPStatus.OK and has_tag(headers.get("etag", ""), known):
            kept = [(name, value) for name, value in self.start["headers"] if not name.startswith(b"content-")]
            await send({**self.start, "status": HTTPStatus.NOT_MODIFIED.value, "headers": kept})
            await send({"type": "http.response.body"})
        else:
            await send(dict(self.start))
            await send({"type": "http.response.body", "body": self.body})


class ResponseCache:
    """ASGI middleware that compresses responses and keeps them until the database reports a change.

    Clients that ask for the same at once wait for one computation.

    Parameters
    ----------
    app
        The application.
    paths
        Paths of the routes whose responses follow from the tables and the query alone.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app, self._paths = app, paths
        self._compressed = GZipMiddleware(app, minimum_size=1024, compresslevel=_COMPRESSION)
        self._kept: dict[tuple[Any, ...], _Response] = {}
        self._version: tuple[int, ...] = ()
        self._locks: weakref.WeakValueDictionary[tuple[Any, ...], asyncio.Lock] = weakref.WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the kept response, or compute it."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if path not in self._paths or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = path, scope["query_string"], "gzip" in headers.get("accept-encoding", "")
        changes: ChangeListener = scope["app"].state.service.changes
        found = self._find(key, changes)
        if found is None:
            async with self._locks.setdefault(key, asyncio.Lock()):
                found = self._find(key, changes) or await self._compute(key, changes, scope, receive)
        scope["route"] = found.route
        await found.send(headers.get("if-none-match"), send)

    def _find(self, key: tuple[Any, ...], changes: ChangeListener) -> _Response | None:
        if not changes.alive or self._version != changes.version(*SHOWN):
            self._kept.clear()
            self._version = changes.version(*SHOWN)
        return self._kept.get(key)

    async def _compute(
        self, key: tuple[Any, ...], changes: ChangeListener, scope: Scope, receive: Receive
    ) -> _Response:
        version = changes.version(*SHOWN)
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            """Collect the response."""
            messages.append(message)

        await self._compressed(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        found = _Response(messages[0], body, scope.get("route"))
        same = changes.alive and version == self._version == changes.version(*SHOWN)
        if same and found.start["status"] == HTTPStatus.OK:
            self._kept[key] = found
            while len(self._kept) > _MAX_KEPT or sum(len(one.body) for one in self._kept.values()) > _MAX_KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
        return found


class RootPath:
    """ASGI middleware for an application below a path, which a proxy may take away or leave.

    Parameters
    ----------
    app
        The application.
    path
        The path, such as ``/api``.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the path as the place of the application."""
        if scope["type"] == "http":
            below = scope["path"] if f"{scope['path']}/".startswith(f"{self._path}/") else self._path + scope["path"]
            scope = {**scope, "root_path": self._path, "path": below}
        await self._app(scope, receive, send)
