"""The dashboard: one widget whose module draws everything; this side only requests data from the API.

`show` is all that the notebook calls. Importing this module loads neither pandas nor SQL nor models,
because every visitor has their own kernel. Responses pass through as bytes; an API that fails
becomes an `Outcome`, never an exception.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anywidget
import requests
import traitlets

from btcml import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping


FILES = Path(__file__).parent / "dashboard_files"
"""Folder that Jupyter searches for our template."""

STATIC = FILES / "voila" / "templates" / "btcml" / "static"
"""Folder of what a browser loads."""

LIBRARY_SHA256 = "1bb1ee79f9d4dd17261b53d930f7a8995748276f80e7ba0e24412b5068062f5f"
"""Of lightweight-charts 5.2.1, dist/lightweight-charts.standalone.production.mjs, unmodified (Apache 2.0)."""

MODULES = (
    "lightweight-charts.js",
    "words.js",
    "format.js",
    "link.js",
    "layers.js",
    "charts.js",
    "drawings.js",
    "layout.js",
    "dashboard.js",
)
"""Modules, each after those that it imports; the last one is the widget."""

_LOADER = """
const made = {};
for (const [name, text] of files) {
  const linked = text.replace(/from "\\.\\/([\\w.-]+)"/g, (_, other) => `from "${made[other]}"`);
  made[name] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
}
const widget = await import(made[files[files.length - 1][0]]);
export default widget.default;
"""


def module_text() -> str:
    """One module that carries all of them, for JupyterLab: a relative import does not work there."""
    files = [(name, (STATIC / name).read_text(encoding="utf-8")) for name in MODULES]
    return f"const files = {json.dumps(files)};\n{_LOADER}"


def style_text() -> str:
    """Style sheet of the page."""
    return (STATIC / "dashboard.css").read_text(encoding="utf-8")


def assets_hash() -> str:
    """Short hash of all files: a browser may keep them until it changes."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


_SERIES = ("symbol", "interval")
_OK, _UNCHANGED, _BAD = 200, 304, 400
_UNCOMPRESSED = 1024  # bytes up to which compression is not worth it


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
    timeout_s
        Seconds without a byte after which the API counts as too slow.
    """

    method: str
    path: str
    names: tuple[str, ...] = _SERIES
    changes: bool = False
    timeout_s: float = 30.0


ROUTES = {
    "ready": Route("GET", "/ready", ()),
    "prices": Route("GET", "/prices/latest", (*_SERIES, "n")),
    "series": Route("GET", "/series", (*_SERIES, "start", "end", "fallback_days", "limit", "model")),
    "evaluation": Route(
        "GET",
        "/evaluation",
        (*_SERIES, "start", "end", "fallback_days", "model", "origin", "cost_bp", "threshold_bp", "curves"),
    ),
    "futures": Route("GET", "/futuros", (*_SERIES, "start", "limit")),
    "metrics": Route("GET", "/metrics", (*_SERIES, "limit")),
    "model": Route("GET", "/model/info"),
    "predict": Route("POST", "/predict"),
    "job": Route("GET", "/jobs/{id}", ()),
    "jobs": Route("GET", "/jobs", ("kind", "status", "limit")),
    "ingest": Route("POST", "/ingest/run", changes=True, timeout_s=600.0),
    "train": Route("POST", "/train", (*_SERIES, "days"), changes=True, timeout_s=60.0),
}
"""Routes that the page may request, by name; nothing else reaches the API."""


@dataclass(frozen=True)
class Outcome:
    """Result of a request.

    Attributes
    ----------
    code
        ``ok``; ``unchanged`` (by its ETag); ``problem`` (an error of the API, with its message);
        ``unreachable``, ``slow`` or ``foreign`` (a response of another program).
    status
        HTTP status, 0 where nothing answered.
    detail
        The API's message, or empty.
    request_id
        Id of the request in the API's log, or empty.
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
    """Sends the requests of the page to the API.

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

    def request(
        self, name: str, query: Mapping[str, Any], *, etag: str = "", timeout_s: float | None = None
    ) -> Outcome:
        """Ask for a route by name.

        Examples
        --------
        >>> Client("http://127.0.0.1:9").request("ready", {}).code
        'unreachable'
        """
        route = ROUTES.get(name)
        if route is None:
            return Outcome("problem", detail=f"the dashboard has no route {name!r}: known are {', '.join(ROUTES)}")
        try:
            return _outcome(self._send(route, query, etag, timeout_s or route.timeout_s))
        except requests.ConnectTimeout:
            return Outcome("unreachable")
        except requests.Timeout:
            return Outcome("slow")
        except (requests.RequestException, OSError) as error:
            return Outcome("slow" if "timed out" in str(error) else "unreachable")

    def _send(self, route: Route, query: Mapping[str, Any], etag: str, timeout_s: float) -> requests.Response:
        path = route.path.replace("{id}", str(int(query.get("id", 0)))) if "{id}" in route.path else route.path
        params = {name: str(query[name]) for name in route.names if query.get(name) not in (None, "")}
        headers = {"Accept": "application/json"}
        if etag:
            headers["If-None-Match"] = etag
        if route.changes:
            headers["Prefer"] = "respond-async"
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
        timeout = (self._connect_s, timeout_s)
        return self._session().request(
            route.method, self.url + path, params=params, headers=headers, timeout=timeout, allow_redirects=False
        )

    def _session(self) -> requests.Session:
        """Return the thread's own session: one connection is kept open, proxies of the environment are not used."""
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
    body, packed = answer.content, len(answer.content) > _UNCOMPRESSED
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
    if "missing" in facts:  # /ready reports with 503 what is missing: not a failure
        return Outcome("ok", answer.status_code, request_id=request_id, body=answer.content)
    detail = str(facts.get("detail") or facts.get("title") or "")
    return Outcome("problem", answer.status_code, detail, str(facts.get("request_id") or request_id))


_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class _Built(NamedTuple):
    """A built report: whether it covers the model's candles, the end of its own, its first page."""

    exact: bool
    until: str
    page: Path


def find_report(folder: str, *, market: str, symbol: str, interval: str, start: str, end: str) -> dict[str, Any]:
    """Find the report of a model's candles, else the one of the series whose candles are the newest.

    Parameters
    ----------
    folder
        Where reports are built, ``market/symbol/interval/run/pages``; empty: none.
    start, end
        Open times of the first and last candle that the model was fitted on.

    Returns
    -------
    dict
        ``path`` of the page below the folder, or empty; ``exact``: whether the report has every candle
        that the model has seen; ``until``: end of the report's candles, or empty where it cannot be read.

    Examples
    --------
    >>> find_report("", market="simulated", symbol="BTCUSDT", interval="5m", start="", end="")
    {'path': '', 'exact': False, 'until': ''}
    """
    parts = (market.replace(":", "-"), symbol, interval)
    if not folder or not all(_SAFE_NAME.fullmatch(part) for part in parts):
        return {"path": "", "exact": False, "until": ""}
    root = Path(folder)
    pages = root.joinpath(*parts).glob("*/pages/index.html")
    built = sorted((_built(page, _time(start), _time(end)) for page in pages), reverse=True)
    if not built:
        return {"path": "", "exact": False, "until": ""}
    return {"path": built[0].page.relative_to(root).as_posix(), "exact": built[0].exact, "until": built[0].until}


def _built(page: Path, start: datetime | None, end: datetime | None) -> _Built:
    try:
        facts = json.loads((page.parents[1] / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        first, until = _time(str(facts["start"])), _time(str(facts["end"]))
    except (OSError, ValueError, KeyError, TypeError):
        first = until = None
    if first is None or until is None:
        return _Built(exact=False, until="", page=page)
    exact = start is not None and end is not None and first <= start and end < until
    return _Built(exact=exact, until=until.isoformat(), page=page)


def _time(text: str) -> datetime | None:
    """A time with a zone, or None: the text is not trusted."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


_THREADS = 6
_WRONG_PASSWORD_S = 1.0
_SLEEP_S = 600


class Dashboard(anywidget.AnyWidget):
    """The whole page as one widget.

    Parameters
    ----------
    client
        Asks the API.
    environment
        Where the settings of the page come from, as variables.

    Notes
    -----
    The page sends ``{id, ask, query, etag}`` and is answered ``{id, code, status, detail, request_id}``
    with the API's JSON as a buffer. ``ask`` is a name of `ROUTES`, or ``hello``, ``unlock``, ``report``.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)

    def __init__(self, client: Client, environment: Mapping[str, str]) -> None:
        own_page = environment.get("BTCML_DASHBOARD_PAGE") == "1"  # it loads the files itself
        super().__init__(_esm="" if own_page else module_text(), _css="" if own_page else style_text())
        self._client, self._environment = client, environment
        self._password = environment.get("BTCML_DASHBOARD_PASSWORD", "")
        self.locked = environment.get("BTCML_DASHBOARD_LOCKED") == "1"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="btcml-ask")
        self._sending = threading.Lock()
        self.on_msg(lambda _, content, __: self._threads.submit(self._reply, content))

    def _reply(self, content: Any) -> None:
        """Answer one message of the page, which is not trusted."""
        question = content if isinstance(content, dict) else {}
        query = question.get("query")
        name, query = str(question.get("ask", "")), query if isinstance(query, dict) else {}
        facts, body = self.answer(name, query, str(question.get("etag") or ""))
        with self._sending:
            self.send({"id": question.get("id")} | facts, [body] if body else None)

    def answer(self, name: str, query: Mapping[str, Any], etag: str = "") -> tuple[dict[str, Any], bytes]:
        """Facts and body of the answer to a question of the page."""
        own = {"hello": self._hello, "unlock": self._unlock, "report": self._report}
        if name in own:
            return {"code": "ok", "status": 200} | own[name](query), b""
        if name in ROUTES and ROUTES[name].changes and self.locked:
            return {"code": "locked", "status": 401}, b""
        try:
            outcome = self._client.request(name, query, etag=etag)
        except Exception as error:  # noqa: BLE001 - the page waits for a response
            outcome = Outcome("problem", detail=f"unexpected {type(error).__name__} in the dashboard: {error}")
        facts = {key: value for key, value in vars(outcome).items() if key != "body"}
        return facts, outcome.body

    def _hello(self, _: Mapping[str, Any]) -> dict[str, Any]:
        environment = self._environment
        symbols = [name.strip() for name in environment.get("BTCML_SYMBOLS", "BTCUSDT").split(",") if name.strip()]
        return {
            "version": __version__,
            "symbols": symbols,
            "interval": environment.get("BTCML_INTERVAL", "5m"),
            "api": environment.get("BTCML_API_PUBLIC_URL") or self._client.url,
            "documents": environment.get("BTCML_DOCUMENTS", ""),
            "adminer": environment.get("BTCML_ADMINER_URL", ""),
            "locked": self.locked,
            "password": bool(self._password),
            "sleep_s": int(environment.get("BTCML_DASHBOARD_SLEEP") or _SLEEP_S),
        }

    def _unlock(self, query: Mapping[str, Any]) -> dict[str, Any]:
        given = str(query.get("password", ""))
        if self._password and hmac.compare_digest(given.encode(), self._password.encode()):
            self.locked = False
        elif self.locked:
            time.sleep(_WRONG_PASSWORD_S)  # slows guessing down
        return {"locked": self.locked}

    def _report(self, query: Mapping[str, Any]) -> dict[str, Any]:
        facts = {name: str(query.get(name, "")) for name in ("market", "symbol", "interval", "start", "end")}
        return find_report(self._environment.get("BTCML_REPORTS_DIR", ""), **facts)


def show() -> Dashboard:
    """Make the dashboard of this kernel, from ``API_BASE_URL`` and ``BTCML_API_KEY``."""
    url = os.environ.get("API_BASE_URL") or "http://127.0.0.1:8000"
    return Dashboard(Client(url, os.environ.get("BTCML_API_KEY") or None), dict(os.environ))
