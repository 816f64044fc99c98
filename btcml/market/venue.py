"""The replay exchange without its wires: routes, weights, bans and faults.

Routes: ``/api/v3/ping``, ``/api/v3/time``, ``/api/v3/klines``, ``/api/v3/exchangeInfo``, and the
archive's ``/data/spot/{monthly,daily}/klines/…``. Candles come from any `Source`; the newest may
be in progress; weights are counted and told; faults (`btcml.market.faults`) are committed on
demand. It says its name in the header ``X-Btcml-Market``, so that nobody takes it for the exchange.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd

from btcml.candles import INTERVALS
from btcml.market.faults import Fault, FaultBook, spoil_rows
from btcml.market.replay import Refusal, Replay
from btcml.market.replay_archive import ReplayArchive
from btcml.market.source import MARKET_HEADER, Clock, utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btcml.market.faults import Row
    from btcml.market.source import Source

__all__ = ["Answer", "Exchange", "Seen"]

_HTML = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>"
_LOCATION = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in the terms of "
    "use. Please contact customer service if you believe you received this message in error."
)
_SLOW = "Too much request weight used; current limit is {} request weight per 1 MINUTE."
_MISSING = b"<Error><Code>NoSuchKey</Code></Error>"
_DELIVERIES = frozenset({"reset", "truncated", "drip", "truncated_zip"})
_BANNED = "Way too much request weight used; IP banned until {}. Please use the websocket."
_WEIGHTS = {"klines": 2, "exchangeInfo": 20}


@dataclass(frozen=True)
class Seen:
    """One request as the exchange saw it: the log that tests ask."""

    time: pd.Timestamp
    path: str
    query: dict[str, str]
    status: int
    during_ban: bool


@dataclass
class Answer:
    """One answer, and the fault in its delivery, if any."""

    status: int
    body: bytes
    kind: str = "application/json;charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Fault | None = None


class Exchange:
    """The exchange behind the server: routes, weights, bans and faults.

    Parameters
    ----------
    source, clock
        See `Replay`.
    faults
        Faults to commit; `faults` is the book, to which more can be added.
    name
        What the header says after ``replay:``.
    weight_limit
        Weight in a minute; more is a 429, and going on nevertheless a ban of two minutes.
    wall
        Real time, by which weights and bans are counted.
    """

    def __init__(
        self,
        source: Source,
        clock: Clock | None = None,
        faults: Sequence[Fault] = (),
        name: str = "exchange",
        *,
        weight_limit: int = 6000,
        wall: Clock = utc_now,
    ) -> None:
        self.replay = Replay(source, clock)
        self.archive = ReplayArchive(self.replay)
        self.faults = FaultBook(tuple(faults))
        self.market = f"replay:{name}"
        self.log: deque[Seen] = deque(maxlen=200_000)
        self.weight_limit = weight_limit
        self.url = ""
        self._wall = wall
        self._weights: dict[pd.Timestamp, int] = {}
        self._banned_until = pd.Timestamp(0, tz="UTC")
        self._lock = threading.Lock()
        self._page: list[Row] = []

    def respond(self, target: str) -> Answer:
        """Answer one GET request and write it into the log."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        with self._lock:
            now = self._wall()
            banned = now < self._banned_until
            answer = self._ban_answer(now) if banned else self._answer(parts.path, query, now)
            answer.headers |= self._headers(now)
            self.log.append(Seen(now, parts.path, query, answer.status, banned))
        return answer

    def _headers(self, now: pd.Timestamp) -> dict[str, str]:
        used = str(self._weights.get(now.floor("min"), 0))
        date = format_datetime(self.replay.now().to_pydatetime().replace(microsecond=0), usegmt=True)
        return {MARKET_HEADER: self.market, "X-MBX-USED-WEIGHT-1M": used, "Date": date}

    def _answer(self, path: str, query: dict[str, str], now: pd.Timestamp) -> Answer:
        """Answer a request of somebody who is not banned."""
        if path.startswith("/api/"):
            refused = self._weigh(path, now)
            if refused is not None:
                return refused
        route = _route(path)
        faults = self.faults.due(route)
        self.replay.shift = pd.Timedelta(seconds=sum(fault.seconds for fault in faults if fault.kind == "clock"))
        for fault in faults:
            refused = self._refuse(fault, now)
            if refused is not None:
                return refused
        answer = self._serve(route, path, query, faults)
        answer.delivery = next((fault for fault in faults if fault.kind in _DELIVERIES), None)
        return answer

    def _weigh(self, path: str, now: pd.Timestamp) -> Answer | None:
        """Count the weight; too much is a 429, and going on nevertheless a ban."""
        minute = now.floor("min")
        used = self._weights.get(minute, 0) + _WEIGHTS.get(_route(path), 1)
        self._weights = {minute: used}
        if used <= self.weight_limit:
            return None
        if used > 1.1 * self.weight_limit:
            self._banned_until = now + pd.Timedelta("2min")
            return self._ban_answer(now)
        wait = (minute + pd.Timedelta("1min") - now).total_seconds()
        return _refusal(429, -1003, _SLOW.format(self.weight_limit), retry_after=wait)

    def _ban_answer(self, now: pd.Timestamp) -> Answer:
        left = (self._banned_until - now).total_seconds()
        until = int(self._banned_until.value // 10**6)
        return _refusal(418, -1003, _BANNED.format(until), retry_after=left)

    def _refuse(self, fault: Fault, now: pd.Timestamp) -> Answer | None:
        """Refuse with a status of the exchange; None if the fault is of another sort."""
        if fault.kind == "rate_limit":
            wait = 1.0 if fault.retry_after is None else fault.retry_after
            return _refusal(429, -1003, _SLOW.format(self.weight_limit), retry_after=wait)
        if fault.kind == "ban":
            self._banned_until = now + pd.Timedelta(seconds=120 if fault.retry_after is None else fault.retry_after)
            return self._ban_answer(now)
        if fault.kind == "location":
            return _refusal(451, 0, _LOCATION)
        if fault.kind == "server_error":
            return Answer(503, _HTML, "text/html")
        if fault.kind == "not_json":
            return Answer(200, _HTML, "text/html")
        return Answer(404, _MISSING, "application/xml") if fault.kind == "missing" else None

    def _serve(self, route: str, path: str, query: dict[str, str], faults: list[Fault]) -> Answer:
        if route in {"archive", "checksum"}:
            content = self.archive.answer(path)
            if content is None:
                return Answer(404, _MISSING, "application/xml")
            if any(fault.kind == "wrong_checksum" for fault in faults):
                content = b"0" * 64 + content[64:]
            return Answer(200, content, "application/octet-stream")
        try:
            return _json(self._api(path, query, faults))
        except Refusal as refusal:
            return _refusal(400, refusal.code, str(refusal))

    def _api(self, path: str, query: dict[str, str], faults: list[Fault]) -> Any:
        if path == "/api/v3/ping":
            return {}
        if path == "/api/v3/time":
            return {"serverTime": self.replay.milliseconds()}
        if path == "/api/v3/exchangeInfo":
            return self.replay.exchange_info()
        if path == "/api/v3/klines":
            return self._klines(query, faults)
        raise Refusal(-1000, f"There is no route {path}.")

    def _klines(self, query: dict[str, str], faults: list[Fault]) -> list[Row]:
        for fault in faults:
            if fault.kind == "overlapping" and query.get("interval") in INTERVALS and "startTime" in query:
                early = INTERVALS[query["interval"]] * fault.rows // pd.Timedelta(milliseconds=1)
                query = query | {"startTime": str(max(0, int(query["startTime"]) - early))}
        rows = self.replay.klines(query)
        for fault in faults:
            rows = (self._page or rows) if fault.kind == "repeated" else spoil_rows(rows, fault)
        self._page = rows
        return rows


def _route(path: str) -> str:
    if path.startswith("/data/"):
        return "checksum" if path.endswith(".CHECKSUM") else "archive"
    return path.rsplit("/", 1)[-1]


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content, separators=(",", ":")).encode())


def _refusal(status: int, code: int, message: str, retry_after: float | None = None) -> Answer:
    answer = _json({"code": code, "msg": message}, status)
    if retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, -int(-retry_after // 1)) if retry_after else 0)
    return answer
