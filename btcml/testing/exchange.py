"""A replay exchange: the exchange's answers over candles of any source, with weights, bans and faults.

Routes: ``/api/v3/ping``, ``/api/v3/time``, ``/api/v3/klines``, ``/api/v3/exchangeInfo``, and the
archive's ``/data/spot/{monthly,daily}/klines/…``. The newest candle may be in progress; weights are
counted; faults (`btcml.testing.faults`) are injected on demand. It announces its name in the header
``X-Btcml-Market``, so that no client takes it for the exchange.

`Replay` answers from source, clock and request alone, `Exchange` adds limits and faults, and the
server is the standard library's, since it must be able to reset a connection in the middle of a
body and to send a body slowly.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import re
import socket
import struct
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import pandas as pd

from btcml.candles import INTERVALS, empty_candles, interval_delta, interval_floor
from btcml.errors import UsageError
from btcml.market import MARKET_HEADER, SPEED_HEADER, Clock, utc_now
from btcml.market.klines import format_klines
from btcml.market.simulate import ORIGIN, SimulatedMarket
from btcml.system import check_port
from btcml.testing.faults import Fault, FaultBook, spoil_rows

if TYPE_CHECKING:
    from btcml.market import Source
    from btcml.testing.faults import Row


_MAX_PAGE, _DEFAULT_PAGE = 1000, 500
_FAR_FUTURE = pd.Timestamp("2099-01-01", tz="UTC")
_MS = pd.Timedelta(milliseconds=1)
_MICROSECONDS_SINCE = pd.Timestamp("2025-01-01", tz="UTC")  # as in the exchange's own archive
_FILE = re.compile(
    r"/data/spot/(?P<period>monthly|daily)/klines/(?P<symbol>[^/]+)/(?P<interval>\w+)/"
    r"(?P<name>(?P=symbol)-(?P=interval)-(?P<date>\d{4}-\d{2}(-\d{2})?))\.zip(?P<checksum>\.CHECKSUM)?"
)
_SYMBOL = r"[\w.-]{1,20}"
_HTML = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>"
_MESSAGES = {
    "banned": "Way too much request weight used; IP banned until {}. Please use the websocket.",
    "illegal": "Illegal characters found in parameter '{}'; legal range is '^{}$'.",
    "location": "Service unavailable from a restricted location according to 'b. Eligibility' in the terms of "
    "use. Please contact customer service if you believe you received this message in error.",
    "slow": "Too much request weight used; current limit is {} request weight per 1 MINUTE.",
}
_WEIGHTS = {"klines": 2, "exchangeInfo": 20}
_DELIVERIES = frozenset({"reset", "truncated", "drip", "truncated_zip"})
_DRIP_PIECES = 10


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


class _Refusal(Exception):  # noqa: N818 - an answer of the exchange, not an error of ours
    """A request that the exchange rejects: status 400 with its own code and message."""

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
        self._series: dict[tuple[str, str], pd.DataFrame] = {}
        self._zip = lru_cache(maxsize=64)(self._make_zip)
        if isinstance(source, SimulatedMarket):
            self._source = replace(source, clock=lambda: _FAR_FUTURE)
            self._clock = clock or utc_now
        else:
            self._clock = clock or ReplayClock(source.now(), utc_now())

    @property
    def speed(self) -> float | None:
        """Speed of its clock; None of a clock of another kind."""
        return 1.0 if self._clock is utc_now else getattr(self._clock, "speed", None)

    def now(self) -> pd.Timestamp:
        """Time of the exchange: its clock and the shift of a fault."""
        return self._clock() + self.shift

    def api(self, path: str, query: Mapping[str, str]) -> Any:
        """Answer a route of the API but klines."""
        milliseconds = int(self.now().value // 10**6)
        if path == "/api/v3/ping":
            return {}
        if path == "/api/v3/time":
            return {"serverTime": milliseconds}
        if path == "/api/v3/exchangeInfo":
            limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
            symbols = [{"symbol": name, "status": "TRADING"} for name in getattr(self._source, "symbols", ())]
            return {"timezone": "UTC", "serverTime": milliseconds, "rateLimits": [limit], "symbols": symbols}
        if path == "/api/v3/klines":
            return self.klines(query)
        raise _Refusal(-1000, f"There is no route {path}.")

    def klines(self, query: Mapping[str, str]) -> list[Row]:
        """Answer ``/api/v3/klines``, or reject an unknown symbol or interval and an ill-formed parameter."""
        for name in ("symbol", "interval"):
            if not query.get(name):
                raise _Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        _check(query, "symbol", _SYMBOL)
        numbers = {name: _integer(query, name) for name in ("startTime", "endTime", "limit")}
        count = min(numbers["limit"] or _DEFAULT_PAGE, _MAX_PAGE)
        frame = self.candles(query["symbol"], query["interval"], numbers["startTime"], numbers["endTime"], count)
        return format_klines(frame, query["interval"])

    def candles(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, count: int) -> pd.DataFrame:
        """Candles of a page, the one in progress included: at most `count`, oldest first."""
        if interval not in INTERVALS:
            raise _Refusal(-1120, "Invalid interval.")
        now = self.now()
        last = interval_floor(now, interval) + _MS
        end = min(_time(end_ms) + _MS, last) if end_ms is not None else last
        span = interval_delta(interval) * count
        if hasattr(self._source, "span"):  # a source that ends: read it once
            whole = self._whole(symbol, interval)
            opened = whole["open_time"]
            stop = int(opened.searchsorted(end))
            begin = max(0, stop - count) if start_ms is None else int(opened.searchsorted(_time(start_ms)))
            frame = whole[begin : min(stop, begin + count)].reset_index(drop=True)
        else:
            start = max(_time(start_ms), ORIGIN) if start_ms is not None else end - span
            frame = self._fetch(symbol, interval, start, min(end, start + span + interval_delta(interval))).head(count)
        return _in_progress(frame, now)

    def _whole(self, symbol: str, interval: str) -> pd.DataFrame:
        with self._lock:
            if (symbol, interval) not in self._series:
                try:
                    span = self._source.span(symbol)  # type: ignore[attr-defined]
                except UsageError as error:
                    raise _Refusal(-1121, "Invalid symbol.") from error
                self._series[symbol, interval] = self._fetch(symbol, interval, *span)
            return self._series[symbol, interval]

    def _fetch(self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        if start >= end:
            return empty_candles()
        try:
            return self._source.fetch_candles(symbol, interval, start, end)
        except UsageError as error:
            wrong = "symbol" if "symbol" in str(error) else "interval"
            raise _Refusal(-1121 if wrong == "symbol" else -1120, f"Invalid {wrong}.") from error

    def file(self, path: str, restated: tuple[Fault, ...] = ()) -> bytes | None:
        """Content of a file of the archive; None where there is none (404).

        Parameters
        ----------
        path
            ``/data/spot/{monthly,daily}/klines/SYMBOL/INTERVAL/SYMBOL-INTERVAL-DATE.zip`` of a month
            or day that is over, or the same with ``.CHECKSUM``, as ``sha256sum`` writes it.
        restated
            Faults of that kind, which are in the file as in a page.
        """
        match = _FILE.fullmatch(path)
        if match is None or (match["period"] == "daily") != (len(match["date"]) == len("2025-01-01")):
            return None
        start = pd.Timestamp(match["date"], tz="UTC")
        end = start + (pd.DateOffset(months=1) if match["period"] == "monthly" else pd.DateOffset(days=1))
        content = (
            self._zip(match["symbol"], match["interval"], match["name"], start, end, restated)
            if end <= self.now()
            else None
        )
        if content is None or not match["checksum"]:
            return content
        return f"{hashlib.sha256(content).hexdigest()}  {match['name']}.zip\n".encode()

    def _make_zip(
        self,
        symbol: str,
        interval: str,
        name: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        restated: tuple[Fault, ...] = (),
    ) -> bytes | None:
        with contextlib.suppress(_Refusal):
            frame = self.candles(symbol, interval, start.value // 10**6, end.value // 10**6 - 1, 31 * 1440)
            rows = format_klines(frame, interval, "us" if start >= _MICROSECONDS_SINCE else "ms")
            for fault in restated:
                rows = spoil_rows(rows, fault)
            text = "".join(",".join("" if value is None else str(value) for value in row) + "\n" for row in rows)
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(zipfile.ZipInfo(f"{name}.csv"), text, zipfile.ZIP_DEFLATED)
            return buffer.getvalue() if rows else None
        return None


def _time(milliseconds: int) -> pd.Timestamp:
    return pd.Timestamp(min(max(milliseconds, 0), _FAR_FUTURE.value // 10**6), unit="ms", tz="UTC")


def _check(query: Mapping[str, str], name: str, pattern: str) -> None:
    if not re.fullmatch(pattern, query[name]):
        raise _Refusal(-1100, _MESSAGES["illegal"].format(name, pattern))


def _integer(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    _check(query, name, "[0-9]{1,20}")
    return int(query[name])


def _in_progress(frame: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Show the candle in progress as far as `now`: a share of its price moves and volume."""
    if frame.empty or frame["close_time"].iloc[-1] < now:
        return frame
    row = frame.iloc[-1]
    share = 0.9 * float(np.clip((now - row["open_time"]) / (row["close_time"] - row["open_time"]), 0, 1))
    changed = {name: round(row["open"] + (row[name] - row["open"]) * share, 2) for name in ("high", "low", "close")}
    amounts = ("volume", "quote_volume", "taker_buy_base", "taker_buy_quote")
    changed |= {name: round(row[name] * share, 5) for name in amounts} | {"trades": np.floor(row["trades"] * share)}
    frame = frame.copy()
    frame.loc[frame.index[-1], list(changed)] = list(changed.values())
    return frame


@dataclass(frozen=True)
class Seen:
    """One request: an entry of the exchange's log."""

    time: pd.Timestamp
    path: str
    query: dict[str, str]
    status: int
    during_ban: bool


@dataclass
class _Answer:
    """One answer, and the fault in its delivery, if any."""

    status: int
    body: bytes
    kind: str = "application/json;charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Fault | None = None


_MISSING = (404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")


class Exchange:
    """The exchange behind the server: routes, weights, bans and faults.

    Parameters
    ----------
    source, clock
        See `Replay`.
    faults
        Faults to inject; the attribute `faults` is the book, to which more can be added.
    name
        The name in the header after ``replay:``.
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
        *,
        name: str = "exchange",
        weight_limit: int = 6000,
        wall: Clock = utc_now,
    ) -> None:
        self.replay = Replay(source, clock)
        self.faults = FaultBook(tuple(faults))
        self.market = f"replay:{name}"
        self.log: deque[Seen] = deque(maxlen=200_000)
        self.url = ""
        self._weight_limit, self._wall = weight_limit, wall
        self._weights: dict[pd.Timestamp, int] = {}
        self._banned_until = pd.Timestamp(0, tz="UTC")
        self._lock = threading.Lock()
        self._page: list[Row] = []

    def respond(self, target: str) -> _Answer:
        """Answer one GET request and write it into the log."""
        parts = urlsplit(target)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        with self._lock:
            now = self._wall()
            banned = now < self._banned_until
            answer = self._ban(now) if banned else self._answer(path, query, now)
            used = str(self._weights.get(now.floor("min"), 0))
            date = format_datetime(self.replay.now().to_pydatetime().replace(microsecond=0), usegmt=True)
            answer.headers |= {MARKET_HEADER: self.market, "X-MBX-USED-WEIGHT-1M": used, "Date": date}
            if self.replay.speed is not None:
                answer.headers[SPEED_HEADER] = str(self.replay.speed)
            self.log.append(Seen(now, path, query, answer.status, banned))
        return answer

    def _answer(self, path: str, query: dict[str, str], now: pd.Timestamp) -> _Answer:
        """Answer a client that is not banned."""
        route = _route(path)
        refused = self._weigh(route, now) if path.startswith("/api/") else None
        if refused is not None:
            return refused
        faults = self.faults.due(route)
        self.replay.shift = pd.Timedelta(seconds=sum(fault.seconds for fault in faults if fault.kind == "clock"))
        refusals = (self._refuse(fault, now) for fault in faults)
        answer = next((refused for refused in refusals if refused), None) or self._serve(route, path, query, faults)
        answer.delivery = next((fault for fault in faults if fault.kind in _DELIVERIES), None)
        return answer

    def _weigh(self, route: str, now: pd.Timestamp) -> _Answer | None:
        """Count the weight; too much is a 429, and going on nevertheless a ban."""
        minute = now.floor("min")
        used = self._weights.get(minute, 0) + _WEIGHTS.get(route, 1)
        self._weights = {minute: used}
        if used <= self._weight_limit:
            return None
        if used > 1.1 * self._weight_limit:
            return self._ban(now, 120)
        return self._slow((minute + pd.Timedelta("1min") - now).total_seconds())

    def _slow(self, wait: float) -> _Answer:
        return _refusal(429, -1003, _MESSAGES["slow"].format(self._weight_limit), wait)

    def _ban(self, now: pd.Timestamp, seconds: float | None = None) -> _Answer:
        """Answer a banned client; with `seconds` the ban begins."""
        if seconds is not None:
            self._banned_until = now + pd.Timedelta(seconds=seconds)
        message = _MESSAGES["banned"].format(int(self._banned_until.value // 10**6))
        return _refusal(418, -1003, message, (self._banned_until - now).total_seconds())

    def _refuse(self, fault: Fault, now: pd.Timestamp) -> _Answer | None:
        """Refuse with a status of the exchange; None if the fault is of another sort."""
        refusals: dict[str, Callable[[], _Answer]] = {
            "rate_limit": lambda: self._slow(1.0 if fault.retry_after is None else fault.retry_after),
            "ban": lambda: self._ban(now, 120.0 if fault.retry_after is None else fault.retry_after),
            "location": lambda: _refusal(451, 0, _MESSAGES["location"]),
            "server_error": lambda: _Answer(503, _HTML, "text/html"),
            "not_json": lambda: _Answer(200, _HTML, "text/html"),
            "missing": lambda: _Answer(*_MISSING),
        }
        return refusals[fault.kind]() if fault.kind in refusals else None

    def _serve(self, route: str, path: str, query: dict[str, str], faults: list[Fault]) -> _Answer:
        if route in {"archive", "checksum"}:
            content = self.replay.file(path, tuple(fault for fault in faults if fault.kind == "restated"))
            if content is None:
                return _Answer(*_MISSING)
            wrong = any(fault.kind == "wrong_checksum" for fault in faults)
            return _Answer(200, b"0" * 64 + content[64:] if wrong else content, "application/octet-stream")
        try:
            return _json(self._klines(query, faults) if route == "klines" else self.replay.api(path, query))
        except _Refusal as refusal:
            return _refusal(400, refusal.code, str(refusal))

    def _klines(self, query: dict[str, str], faults: list[Fault]) -> list[Row]:
        for fault in faults:
            if fault.kind == "overlapping" and query.get("interval") in INTERVALS and "startTime" in query:
                early = INTERVALS[query["interval"]] * fault.rows // _MS
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


def _json(content: Any, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(content, separators=(",", ":")).encode())


def _refusal(status: int, code: int, message: str, retry_after: float | None = None) -> _Answer:
    answer = _json({"code": code, "msg": message}, status)
    if retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, math.ceil(retry_after)) if retry_after else 0)
    return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: do not wait between them
    server: _Server

    def do_GET(self) -> None:
        """Answer, with the fault of delivery, if there is one."""
        answer = self.server.exchange.respond(self.path)
        delivery = answer.delivery.kind if answer.delivery else ""
        body = answer.body[: len(answer.body) // 2] if delivery.startswith("truncated") else answer.body
        self.send_response_only(answer.status)
        for name, value in (answer.headers | {"Content-Type": answer.kind, "Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client closed the connection
            if delivery == "reset":
                self._reset(body)
            elif answer.delivery is not None and delivery == "drip":
                self._drip(body, answer.delivery.seconds)
            else:
                self.wfile.write(body)

    def _reset(self, body: bytes) -> None:
        """Send half, then a reset: closing with a linger of zero seconds sends RST."""
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _drip(self, body: bytes, seconds: float) -> None:
        size = -(-len(body) // _DRIP_PIECES) or 1
        for begin in range(0, len(body), size):
            self.wfile.write(body[begin : begin + size])
            self.wfile.flush()
            if self.server.stopped.wait(seconds / _DRIP_PIECES):
                return

    def log_message(self, *args: object) -> None:
        """Log nothing: the exchange has a log of its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int, exchange: Exchange) -> None:
        self.exchange = exchange
        self.stopped = threading.Event()
        super().__init__((host, port), _Handler)
        exchange.url = f"http://{host}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that closed the connection."""


@contextlib.contextmanager
def running_exchange(
    source: Source, clock: Clock | None = None, faults: Sequence[Fault] = (), **options: Any
) -> Iterator[Exchange]:
    """Run the exchange on a free port of the loopback address, in a thread, until the block ends.

    Parameters
    ----------
    source, clock, faults, **options
        See `Exchange`.

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
    server = _Server("127.0.0.1", 0, Exchange(source, clock, faults, **options))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.exchange
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def serve_exchange(exchange: Exchange, host: str = "127.0.0.1", port: int = 8090) -> None:
    """Serve until interrupted.

    Raises
    ------
    UsageError
        If the port is taken.
    """
    check_port("replay exchange", host, port)
    server = _Server(host, port, exchange)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    server.stopped.set()
