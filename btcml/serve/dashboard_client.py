"""What the dashboard asks: the API by the names of its routes, and the folder of built reports.

Importing this module loads neither pandas nor SQL nor models, because every visitor has their own
kernel. An API that fails becomes an `Outcome`, never an exception.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests

from btcml.serve.dashboard_text import second

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SERIES = ("symbol", "interval")
_BAD = 400
_PARSING = threading.Lock()  # one body at a time: a kernel is small


@dataclass(frozen=True)
class Route:
    """A route of the API that the dashboard may ask for.

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
    reduce
        Of each object of the JSON while it is read, where a long response has more than the charts draw:
        a kernel has to stay small.
    """

    method: str
    path: str
    names: tuple[str, ...] = _SERIES
    changes: bool = False
    timeout_s: float = 30.0
    reduce: Callable[[dict[str, Any]], Any] | None = None


def _candle(item: dict[str, Any]) -> Any:
    """What the charts draw of a candle; nothing of the copy for older clients."""
    if "open" not in item:
        return None if "ts" in item else item
    return {"time": second(item["time"])} | {name: item[name] for name in ("open", "high", "low", "close", "volume")}


def _point(item: dict[str, Any]) -> Any:
    """What the charts draw of a forecast of ``/series``, with the time of the candle before it."""
    if not (pred := item.get("pred")):
        return None if "pred" in item else item
    prices = {name: pred[f"{name}_next"] for name in ("open", "high", "low", "close")}
    place = {"time": second(item["real"]["time"]), "value": pred["close_next"]}
    return prices | place | {name: item[name] for name in ("lo", "hi", "origin")}


ROUTES = {
    "ready": Route("GET", "/ready", ()),
    "prices": Route("GET", "/prices/latest", (*_SERIES, "n"), reduce=_candle),
    "series": Route("GET", "/series", (*_SERIES, "start", "end", "fallback_days", "limit", "model"), reduce=_point),
    "evaluation": Route(
        "GET",
        "/evaluation",
        (*_SERIES, "start", "end", "fallback_days", "model", "origin", "cost_bp", "threshold_bp", "curves"),
    ),
    "futures": Route("GET", "/futuros", (*_SERIES, "start", "limit", "horizon")),
    "metrics": Route("GET", "/metrics", (*_SERIES, "limit")),
    "model": Route("GET", "/model/info"),
    "predict": Route("POST", "/predict", (*_SERIES, "cost_bp")),
    "job": Route("GET", "/jobs/{id}", ()),
    "jobs": Route("GET", "/jobs", ("kind", "status", "limit")),
    "ingest": Route("POST", "/ingest/run", changes=True, timeout_s=600.0),
    "train": Route("POST", "/train", (*_SERIES, "days"), changes=True, timeout_s=60.0),
}
"""Routes that the dashboard may request, by name; nothing else reaches the API."""


@dataclass(frozen=True)
class Outcome:
    """Result of a request.

    Attributes
    ----------
    code
        ``ok``; ``problem`` (an error of the API, with its message); ``unreachable``, ``slow`` or
        ``foreign`` (a response of another program).
    status
        HTTP status, 0 where nothing answered.
    detail
        The API's message, or empty.
    request_id
        Id of the request in the API's log, or empty.
    data
        The JSON of the response, where the code is ``ok``.
    """

    code: str
    status: int = 0
    detail: str = ""
    request_id: str = ""
    data: Any = None


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

    def request(self, name: str, query: Mapping[str, Any], *, timeout_s: float | None = None) -> Outcome:
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
            return _outcome(self._send(route, query, timeout_s or route.timeout_s), route.reduce)
        except requests.ConnectTimeout:
            return Outcome("unreachable")
        except requests.Timeout:
            return Outcome("slow")
        except (requests.RequestException, OSError) as error:
            return Outcome("slow" if "timed out" in str(error) else "unreachable")

    def _send(self, route: Route, query: Mapping[str, Any], timeout_s: float) -> requests.Response:
        path = route.path.replace("{id}", str(int(query.get("id", 0)))) if "{id}" in route.path else route.path
        params = {name: str(query[name]) for name in route.names if query.get(name) not in (None, "")}
        headers = {"Accept": "application/json"}
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


def _outcome(answer: requests.Response, reduce: Callable[[dict[str, Any]], Any] | None = None) -> Outcome:
    request_id, status = answer.headers.get("X-Request-ID", ""), answer.status_code
    try:
        with _PARSING:
            facts = answer.json(object_hook=reduce) if "json" in answer.headers.get("Content-Type", "") else None
    except (ValueError, LookupError, TypeError):  # no JSON, or not of this API
        facts = None
    if not isinstance(facts, dict):
        return Outcome("foreign", status, request_id=request_id)
    if status < _BAD or "missing" in facts:  # /ready reports with 503 what is missing: not a failure
        return Outcome("ok", status, request_id=request_id, data=facts)
    detail = str(facts.get("detail") or facts.get("title") or "")
    return Outcome("problem", status, detail, str(facts.get("request_id") or request_id))


_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class _Built(NamedTuple):
    """A built report: whether it covers the model's candles, the end of its own, its language, its first page."""

    exact: bool
    until: str
    own: bool
    page: Path


def find_report(
    folder: str, *, market: str, symbol: str, interval: str, start: str, end: str, language: str = "en"
) -> dict[str, Any]:
    """Find the report of a model's candles, else the one of the series whose candles are the newest.

    Parameters
    ----------
    folder
        Where reports are built, ``market/symbol/interval/run/pages``; empty: none.
    start, end
        Open times of the first and last candle that the model was fitted on.
    language
        Of two reports on the same candles, that of this language is taken.

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
    built = sorted((_built(page, _time(start), _time(end), language) for page in pages), reverse=True)
    if not built:
        return {"path": "", "exact": False, "until": ""}
    return {"path": built[0].page.relative_to(root).as_posix(), "exact": built[0].exact, "until": built[0].until}


def _built(page: Path, start: datetime | None, end: datetime | None, language: str) -> _Built:
    own = page.parents[1].name.endswith("-pt-BR") == (language == "pt-BR")
    try:
        facts = json.loads((page.parents[1] / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        first, until = _time(str(facts["start"])), _time(str(facts["end"]))
    except (OSError, ValueError, KeyError, TypeError):
        first = until = None
    if first is None or until is None:
        return _Built(exact=False, until="", own=own, page=page)
    exact = start is not None and end is not None and first <= start and end < until
    return _Built(exact=exact, until=until.isoformat(), own=own, page=page)


def _time(text: str) -> datetime | None:
    """A time with a zone, or None: the text is not trusted."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
