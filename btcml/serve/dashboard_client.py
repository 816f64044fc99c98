"""What the dashboard's kernel asks of the API, and what it answers when the API does not: never an exception.

Light on purpose: a kernel of its own serves every visitor, so nothing here loads pandas, SQL or models.
Bodies pass through as bytes; the page reads them.
"""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROUTES", "Client", "Outcome", "Route"]

_SERIES = ("symbol", "interval")
_OK, _UNCHANGED, _BAD = 200, 304, 400
_FEW = 1024  # bytes that are not worth packing


@dataclass(frozen=True)
class Route:
    """A route of the API that the page may ask for.

    Attributes
    ----------
    method, path
        As the API has them; ``{id}`` stands for a job's number.
    names
        Parameters that are passed on; all others are dropped.
    changes
        Whether it changes something: off loopback it needs the dashboard's password.
    patience_s
        Seconds without a byte after which the API counts as too slow.
    """

    method: str
    path: str
    names: tuple[str, ...] = _SERIES
    changes: bool = False
    patience_s: float = 30.0


ROUTES = {
    "ready": Route("GET", "/ready", ()),
    "prices": Route("GET", "/prices/latest", (*_SERIES, "n")),
    "series": Route("GET", "/series", (*_SERIES, "start", "end", "fallback_days", "limit", "model")),
    "futures": Route("GET", "/futuros", (*_SERIES, "start", "limit")),
    "metrics": Route("GET", "/metrics", (*_SERIES, "limit")),
    "model": Route("GET", "/model/info"),
    "predict": Route("POST", "/predict"),
    "job": Route("GET", "/jobs/{id}", ()),
    "jobs": Route("GET", "/jobs", ("kind", "status", "limit")),
    "ingest": Route("POST", "/ingest/run", changes=True, patience_s=600.0),
    "train": Route("POST", "/train", (*_SERIES, "days"), changes=True, patience_s=60.0),
}
"""What the page may ask for, by name; nothing else reaches the API."""


@dataclass(frozen=True)
class Outcome:
    """What came of a question.

    Attributes
    ----------
    code
        ``ok``; ``unchanged`` (as the ETag said); ``problem`` (the API refused, with a sentence);
        ``unreachable``, ``slow`` or ``foreign`` (something answered that is not the API).
    status
        HTTP status, 0 where nothing answered.
    detail
        The API's own sentence, or empty.
    request_id
        By which the API's log knows the request, or empty.
    body
        JSON as it came, packed by gzip where ``packed``.
    """

    code: str
    status: int = 0
    detail: str = ""
    request_id: str = ""
    etag: str = ""
    body: bytes = field(default=b"", repr=False)
    packed: bool = False


class Client:
    """Asks the API on behalf of the page.

    Parameters
    ----------
    url
        Address of the API.
    key
        ``BTCML_API_KEY``; it stays in the kernel and never reaches a browser.
    connect_s
        Seconds to wait for a connection.
    """

    def __init__(self, url: str, key: str | None = None, *, connect_s: float = 3.0) -> None:
        self.url = url.rstrip("/")
        self._key, self._connect_s = key, connect_s
        self._local = threading.local()

    def ask(self, name: str, query: Mapping[str, Any], *, etag: str = "", patience_s: float | None = None) -> Outcome:
        """Ask for a route by name.

        Examples
        --------
        >>> Client("http://127.0.0.1:9").ask("ready", {}).code
        'unreachable'
        """
        route = ROUTES.get(name)
        if route is None:
            return Outcome("problem", detail=f"the dashboard has no route {name!r}: known are {', '.join(ROUTES)}")
        try:
            return _outcome(self._send(route, query, etag, patience_s or route.patience_s))
        except requests.ConnectTimeout:
            return Outcome("unreachable")
        except requests.Timeout:
            return Outcome("slow")
        except (requests.RequestException, OSError) as error:
            return Outcome("slow" if "timed out" in str(error) else "unreachable")

    def _send(self, route: Route, query: Mapping[str, Any], etag: str, patience_s: float) -> requests.Response:
        path = route.path.replace("{id}", str(int(query.get("id", 0)))) if "{id}" in route.path else route.path
        params = {name: str(query[name]) for name in route.names if query.get(name) not in (None, "")}
        headers = {"Accept": "application/json"}
        if etag:
            headers["If-None-Match"] = etag
        if route.changes:
            headers["Prefer"] = "respond-async"
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
        timeout = (self._connect_s, patience_s)
        return self._session().request(
            route.method, self.url + path, params=params, headers=headers, timeout=timeout, allow_redirects=False
        )

    def _session(self) -> requests.Session:
        """Return the thread's own session: one connection is kept open, proxies of the environment are not for us."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session


def _outcome(answer: requests.Response) -> Outcome:
    request_id = answer.headers.get("X-Request-ID", "")
    if answer.status_code == _UNCHANGED:
        return Outcome("unchanged", _UNCHANGED, request_id=request_id)
    if "json" not in answer.headers.get("Content-Type", ""):
        return Outcome("foreign", answer.status_code, request_id=request_id)
    if answer.status_code >= _BAD:
        return _problem(answer, request_id)
    body, packed = answer.content, len(answer.content) > _FEW
    return Outcome(
        "ok",
        answer.status_code,
        request_id=request_id,
        etag=answer.headers.get("ETag", ""),
        body=gzip.compress(body, 2) if packed else body,
        packed=packed,
    )


def _problem(answer: requests.Response, request_id: str) -> Outcome:
    try:
        facts = answer.json()
    except ValueError:
        return Outcome("foreign", answer.status_code, request_id=request_id)
    if not isinstance(facts, dict):
        return Outcome("foreign", answer.status_code, request_id=request_id)
    if "missing" in facts:  # /ready says 503 and what is missing: an answer, not a failure
        return Outcome("ok", answer.status_code, request_id=request_id, body=answer.content)
    detail = str(facts.get("detail") or facts.get("title") or "")
    return Outcome("problem", answer.status_code, detail, str(facts.get("request_id") or request_id))
