"""A replay exchange: the exchange's answers over candles of any source, with weights, bans and faults.

Routes: ``/api/v3/ping``, ``/api/v3/time``, ``/api/v3/klines``, ``/api/v3/exchangeInfo``, and the
archive's ``/data/spot/{monthly,daily}/klines/…``. The newest candle may be in progress; weights are
counted and told; faults (`btcml.testing.faults`) are committed on demand. It says its name in the
header ``X-Btcml-Market``, so that nobody takes it for the exchange.

`Replay` and `ReplayArchive` are pure functions of source, clock and request, `Exchange` adds the
rules, and the server is the standard library's, since it must be able to reset a connection in the
middle of a body and to drip a body slowly.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import socket
import struct
import threading
import zipfile
from collections import deque
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd

from btcml.candles import INTERVALS, empty_candles, interval_delta, interval_floor
from btcml.errors import UsageError
from btcml.market import MARKET_HEADER, Clock, utc_now
from btcml.market.klines import format_klines
from btcml.market.simulate import ORIGIN, SimulatedMarket
from btcml.testing.faults import Fault, FaultBook, spoil_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from btcml.market import Source
    from btcml.testing.faults import Row

__all__ = ["Answer", "Exchange", "Replay", "ReplayArchive", "ReplayClock", "Seen", "running_exchange", "serve_exchange"]

PAGE = 1000
"""Most rows of a page."""

_DEFAULT_PAGE = 500
_FOREVER = pd.Timestamp("2099-01-01", tz="UTC")
_MS = pd.Timedelta(milliseconds=1)


@dataclass(frozen=True)
class ReplayClock:
    """A clock that starts at a time of the market and may run faster or slower than real time.

    Parameters
    ----------
    origin_market
        Time of the market at `origin_real`.
    origin_real
        Real time at which it starts.
    speed
        Seconds of the market in a second; 0 stands still.
    real
        Real time.

    Examples
    --------
    >>> import pandas as pd
    >>> begin, later = (pd.Timestamp(day, tz="UTC") for day in ("2026-01-01", "2026-01-02"))
    >>> ReplayClock(pd.Timestamp("2020-05-01", tz="UTC"), begin, 60, lambda: later)()
    Timestamp('2020-06-30 00:00:00+0000', tz='UTC')
    """

    origin_market: pd.Timestamp
    origin_real: pd.Timestamp
    speed: float = 1.0
    real: Clock = utc_now

    def __call__(self) -> pd.Timestamp:
        """Time of the market now."""
        return self.origin_market + (self.real() - self.origin_real) * self.speed


class Refusal(Exception):  # noqa: N818 - an answer of the exchange, not an error of ours
    """A request that the exchange refuses: status 400 with its own code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Replay:
    """The exchange's answers over a source.

    Parameters
    ----------
    source
        Where its candles come from.
    clock
        The exchange's clock; without one, real time for the simulated market, and for a file a
        clock that starts at its last close.
    """

    def __init__(self, source: Source, clock: Clock | None = None) -> None:
        self._source = source
        self._lock = threading.RLock()
        self.shift = pd.Timedelta(0)
        self._whole: dict[tuple[str, str], pd.DataFrame] = {}
        if isinstance(source, SimulatedMarket):
            self._source = replace(source, clock=lambda: _FOREVER)
            self._clock = clock or utc_now
        else:
            self._clock = clock or ReplayClock(source.now(), utc_now())

    def now(self) -> pd.Timestamp:
        """Time of the exchange: its clock and the shift of a fault."""
        return self._clock() + self.shift

    def klines(self, query: Mapping[str, str]) -> list[Row]:
        """Answer ``/api/v3/klines``.

        Raises
        ------
        Refusal
            As the exchange refuses: unknown symbol or interval, missing or ill-formed parameter.
        """
        symbol, interval = _required(query, "symbol"), _required(query, "interval")
        start, end, limit = (_integer(query, name) for name in ("startTime", "endTime", "limit"))
        count = PAGE if limit is not None and limit > PAGE else limit or _DEFAULT_PAGE
        frame = self.candles(symbol, interval, start, end, count)
        return format_klines(frame, interval)

    def candles(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, count: int) -> pd.DataFrame:
        """Candles of a page, the one in progress included: at most `count`, oldest first."""
        now = self.now()
        last = interval_floor(now, _known_interval(interval)) + _MS
        end = min(_time(end_ms) + _MS, last) if end_ms is not None else last
        span = interval_delta(interval) * count
        whole = self._series(symbol, interval)
        if whole is not None:
            opened = whole["open_time"]
            stop = int(opened.searchsorted(end))
            first = 0 if start_ms is None else int(opened.searchsorted(_time(start_ms)))
            begin = max(first, stop - count) if start_ms is None else first
            frame = whole[begin : min(stop, begin + count)].reset_index(drop=True)
        else:
            start = max(_time(start_ms), ORIGIN) if start_ms is not None else end - span
            stop_at = min(end, start + span + interval_delta(interval))
            frame = self._fetch(symbol, interval, start, stop_at).head(count)
        return _in_progress(frame, now)

    def _series(self, symbol: str, interval: str) -> pd.DataFrame | None:
        """Whole series of a source that has a span, kept; None for one without end."""
        span = getattr(self._source, "span", None)
        if span is None:
            return None
        with self._lock:
            if (symbol, interval) not in self._whole:
                try:
                    start, end = span(symbol)
                except UsageError as error:
                    raise Refusal(-1121, "Invalid symbol.") from error
                self._whole[symbol, interval] = self._fetch(symbol, interval, start, end)
            return self._whole[symbol, interval]

    def _fetch(self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        if start >= end:
            return empty_candles()
        try:
            return self._source.fetch_candles(symbol, interval, start, end)
        except UsageError as error:
            wrong = "symbol" if "symbol" in str(error) else "interval"
            raise Refusal(-1121 if wrong == "symbol" else -1120, f"Invalid {wrong}.") from error

    def exchange_info(self) -> dict[str, object]:
        """Answer ``/api/v3/exchangeInfo``, in small."""
        symbols = getattr(self._source, "symbols", ())
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        return {
            "timezone": "UTC",
            "serverTime": self.milliseconds(),
            "rateLimits": [limit],
            "exchangeFilters": [],
            "symbols": [{"symbol": symbol, "status": "TRADING"} for symbol in symbols],
        }

    def milliseconds(self) -> int:
        """Time of the exchange, as ``/api/v3/time`` tells it."""
        return int(self.now().value // 10**6)


def _time(milliseconds: int) -> pd.Timestamp:
    bounded = min(max(milliseconds, 0), _FOREVER.value // 10**6)
    return pd.Timestamp(bounded, unit="ms", tz="UTC")


def _required(query: Mapping[str, str], name: str) -> str:
    if not query.get(name):
        raise Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    if name == "symbol" and not re.fullmatch(r"[A-Z0-9-_.]{1,20}", query[name]):
        raise Refusal(-1100, "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.")
    return query[name]


def _known_interval(interval: str) -> str:
    if interval not in INTERVALS:
        raise Refusal(-1120, "Invalid interval.")
    return interval


def _integer(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", query[name]):
        raise Refusal(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return int(query[name])


def _in_progress(frame: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Let the candle in progress have come only as far as `now`: a share of its way and volume."""
    if frame.empty or frame["close_time"].iloc[-1] < now:
        return frame
    row = frame.iloc[-1]
    share = 0.9 * float(np.clip((now - row["open_time"]) / (row["close_time"] - row["open_time"]), 0, 1))
    frame = frame.copy()
    for name in ("high", "low", "close"):
        frame.loc[frame.index[-1], name] = round(row["open"] + (row[name] - row["open"]) * share, 2)
    for name in ("volume", "quote_volume", "taker_buy_base", "taker_buy_quote"):
        frame.loc[frame.index[-1], name] = round(row[name] * share, 5)
    frame.loc[frame.index[-1], "trades"] = np.floor(row["trades"] * share)
    return frame


MICROSECONDS_SINCE = pd.Timestamp("2025-01-01", tz="UTC")
"""First day that the archive writes in microseconds."""

_ARCHIVE_PATH = re.compile(
    r"/data/spot/(?P<period>monthly|daily)/klines/(?P<symbol>[A-Z0-9]+)/(?P<interval>\w+)/"
    r"(?P<name>(?P=symbol)-(?P=interval)-(?P<date>\d{4}-\d{2}(-\d{2})?))\.zip(?P<checksum>\.CHECKSUM)?"
)


class ReplayArchive:
    """Files under ``/data/spot/…`` for every month and day that is over by the exchange's clock."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._zip = lru_cache(maxsize=64)(self._make_zip)

    def answer(self, path: str) -> bytes | None:
        """Content of a file of the archive; None where there is none (404).

        Parameters
        ----------
        path
            ``/data/spot/{monthly,daily}/klines/SYMBOL/INTERVAL/SYMBOL-INTERVAL-DATE.zip`` or the
            same with ``.CHECKSUM``: the SHA-256 and the name, as ``sha256sum`` writes them.
        """
        match = _ARCHIVE_PATH.fullmatch(path)
        if match is None or (match["period"] == "daily") != (len(match["date"]) == len("2025-01-01")):
            return None
        start = pd.Timestamp(match["date"], tz="UTC")
        end = start + (pd.DateOffset(months=1) if match["period"] == "monthly" else pd.DateOffset(days=1))
        if end > self._replay.now():
            return None
        content = self._zip(match["symbol"], match["interval"], match["name"], start, end)
        if content is None or not match["checksum"]:
            return content
        return f"{hashlib.sha256(content).hexdigest()}  {match['name']}.zip\n".encode()

    def _make_zip(self, symbol: str, interval: str, name: str, start: pd.Timestamp, end: pd.Timestamp) -> bytes | None:
        span_ms = int(start.value // 10**6), int(end.value // 10**6) - 1
        try:
            frame = self._replay.candles(symbol, interval, *span_ms, 31 * 1440)
        except Refusal:
            return None
        if frame.empty:
            return None
        unit = "us" if start >= MICROSECONDS_SINCE else "ms"
        rows = format_klines(frame, interval, unit)
        text = "".join(",".join("" if field is None else str(field) for field in row) + "\n" for row in rows)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(f"{name}.csv"), text, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()


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
