"""The exchange's REST interface as a market: final candles in pages of a thousand.

The exchange's limits are kept here and nowhere else: used weight stays under half of the limit; 429
waits for Retry-After; 418 is a ban, stored, and no request is sent before it ends;
451 and a host that keeps failing lead to the next host.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import TIME, candle_gaps, final_candles, interval_delta, interval_floor, on_grid_times
from btcml.errors import BannedError, LocationError, MarketError, SourceError, UsageError
from btcml.market import MARKET_HEADER, SPEED_HEADER, Clock, utc_now
from btcml.market import transport as http
from btcml.market.klines import merge_candles, parse_klines
from btcml.market.transport import Reply, TransientError, fetch_reply, host_of

if TYPE_CHECKING:
    from btcml.market import OnPage


_PAGE = 1000
_OK, _BANNED, _TOO_MANY, _LOCATION, _SERVER = 200, 418, 429, 451, 500
_REDIRECTS = range(300, 400)
_OVERLOADED = frozenset({-1003, -1008})  # too many requests; the server is busy
_WRONG_REQUEST = range(-1199, -1099)  # the exchange's codes for what the caller can put right
_WEIGHT_RESET = pd.Timedelta(seconds=61)  # a minute later the exchange restarts its count, at any clock
_DEFAULT_PAUSE_S, _DEFAULT_BAN_S = 30.0, 600.0
_MAX_HOLES, _STRAYS = 20, 20
_DAY = pd.Timedelta(days=1)
_FIRST_MS, _LAST_MS = 1_230_768_000_000, 7_258_118_400_000  # the years 2009 and 2200
_INVALID_SYMBOL, _ILLEGAL = -1121, -1100


class RejectedError(UsageError):
    """The exchange rejects the request itself (codes -1100 to -1199).

    Parameters
    ----------
    code
        The exchange's error code, such as -1121 for an invalid symbol.
    message
        Its message.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the exchange rejects the request: {message.rstrip('.')} (code {code})")
        self.code = code


class Hosts:
    """Sends requests to the exchange, to the first of its hosts that answers.

    Parameters
    ----------
    urls
        Addresses, tried in this order; the last one that answered first.
    bans
        Where bans are remembered; by default in this object alone.
    timeout
        Seconds for one whole answer.
    attempts
        Maximum number of tries at one host.
    clock, sleep
        Local time and how to wait; replaced in tests.
    weight_limit
        The exchange's limit in a minute, of which half is used.
    """

    def __init__(
        self,
        urls: Sequence[str],
        bans: http.BanMemory | None = None,
        *,
        timeout: float = 10.0,
        attempts: int = 4,
        clock: Clock = utc_now,
        sleep: Callable[[float], Any] = time.sleep,
        weight_limit: int = 6000,
    ) -> None:
        if not urls:
            msg = "expected at least one address of the exchange, found none: set BTCML_BINANCE_URLS"
            raise UsageError(msg)
        self.urls = [url.rstrip("/") for url in urls]
        self.market: str | None = None
        self.speed: float | None = None
        self.retried = partial(http.with_retries, attempts=attempts, sleep=sleep)
        self._bans: http.BanMemory = bans or http.LocalBans()
        self._session = http.new_session()
        self._timeout, self._clock, self._sleep = timeout, clock, sleep
        self._weight_limit = weight_limit
        self._resume = pd.Timestamp(0, tz="UTC")

    def get_json(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of the exchange's response.

        Raises
        ------
        RejectedError
            If it rejects the request.
        BannedError
            If this address is banned; nothing was called.
        LocationError
            If no host that responds serves this location.
        MarketError
            If no host answers as it should; the message lists their responses.
        """
        failures: list[MarketError] = []
        for url in list(self.urls):
            try:
                content = self.retried(lambda url=url: self._once(url, path, params))  # type: ignore[misc]
            except BannedError:
                raise
            except MarketError as error:
                failures.append(error)
                continue
            self.urls = sorted(self.urls, key=lambda other: other != url)  # not in place: other threads read it
            return content
        raise _summary(failures)

    def _once(self, url: str, path: str, params: Mapping[str, str] | None) -> Any:
        self._wait_until_allowed()
        reply = fetch_reply(self._session, url + path, params, self._timeout)
        self._read_headers(url, reply)
        if reply.status in {_BANNED, _TOO_MANY} or _code(reply) in _OVERLOADED:
            raise self._limited(url, reply)
        return _content(url, reply)

    def ban_end(self) -> pd.Timestamp | None:
        """Return the end of a ban that still holds for any host, or None.

        A ban is of this machine's address, so it holds for all hosts.
        """
        ends = [end for url in self.urls if (end := self._bans.until(host_of(url))) is not None]
        return max(ends) if ends and max(ends) > self._clock() else None

    def check_time(self, now: pd.Timestamp) -> None:
        """Check a time of the real exchange: were it in the future, candles in progress would be taken for final.

        Raises
        ------
        MarketError
            If it is more than a day ahead of this machine's.
        """
        if self.market == "binance" and now - self._clock() > _DAY:
            found = f"the exchange's time is {now:%Y-%m-%d %H:%M}, this machine's {self._clock():%Y-%m-%d %H:%M} UTC"
            msg = f"{found}: one of them is wrong; set this machine's clock, or try again later"
            raise MarketError(msg)

    def accepts(self, url: str, reply: Reply) -> bool:
        """Whether the response to a ping is the exchange's own, an empty object; bans in it are remembered.

        Raises
        ------
        BannedError
            If this address is banned.
        """
        self._read_headers(url, reply)
        if reply.status not in {_BANNED, _TOO_MANY}:
            return reply.status == _OK and _json(reply) == {}
        error = self._limited(url, reply)
        if isinstance(error, BannedError):
            raise error
        return True

    def _wait_until_allowed(self) -> None:
        """Wait until a request may be sent, or raise where that is too long."""
        end = self.ban_end()
        if end is not None and (end - self._clock()).total_seconds() > http.LONGEST_WAIT_S:
            raise _banned(end)
        for until in (end, self._resume):
            left = (until - self._clock()).total_seconds() if until is not None else 0.0
            if left > 0:
                self._sleep(left)

    def _read_headers(self, url: str, reply: Reply) -> None:
        """Read the market's name and the used weight."""
        market = reply.headers.get(MARKET_HEADER, "binance")
        if not re.fullmatch(r"binance|replay:[A-Za-z0-9._-]{1,80}", market):
            msg = f"{host_of(url)} announces the market {market[:80]!r}: expected replay:NAME"
            raise MarketError(msg)
        if self.market not in {None, market}:
            msg = f"{host_of(url)} is the market {market}, before it was {self.market}: markets never mix, start again"
            raise MarketError(msg)
        self.market = market
        self.speed = reply.seconds(SPEED_HEADER)
        used = reply.seconds("X-MBX-USED-WEIGHT-1M")
        if used is not None and used >= self._weight_limit / 2 - 2:
            self._resume = self._clock() + _WEIGHT_RESET

    def _limited(self, url: str, reply: Reply) -> MarketError:
        """Store how long no request may be sent; short pauses are waited for."""
        banned = reply.status == _BANNED
        wait = reply.seconds("Retry-After")
        seconds = wait if wait is not None else (_DEFAULT_BAN_S if banned else _DEFAULT_PAUSE_S)
        end = self._clock() + pd.Timedelta(seconds=seconds)
        match = re.search(rb"banned until (\d{13})", reply.body)
        if match and banned and self.market == "binance":  # the replay's clock is its own
            stated = pd.Timestamp(int(match[1]), unit="ms", tz="UTC")
            end = max(end, min(stated, self._clock() + pd.Timedelta(seconds=http.LONGEST_BAN_S)))
        for other in self.urls:
            self._bans.remember(host_of(other), end, f"HTTP {reply.status} from {host_of(url)}")
        if banned or seconds > http.LONGEST_WAIT_S:
            return _banned(end)
        return TransientError(f"{host_of(url)} keeps limiting the rate (HTTP {reply.status}{_words(reply)})")


def _banned(end: pd.Timestamp) -> BannedError:
    until = end.strftime("%Y-%m-%d %H:%M:%S UTC")
    msg = f"the exchange has banned this address until {until}: no request is sent before that, try again then"
    return BannedError(msg, end.to_pydatetime())


def _json(reply: Reply) -> Any:
    """Content of a response, or None where it is not JSON."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _code(reply: Reply) -> int | None:
    """Return the exchange's error code of a response of any status; None where there is none."""
    content = _json(reply) if reply.body[:1] == b"{" else None
    code = content.get("code") if isinstance(content, dict) else None
    return int(str(code)) if re.fullmatch(r"-?\d{1,6}", str(code)) else None


def _words(reply: Reply) -> str:
    """The exchange's message of an error, with its code."""
    code = _code(reply)
    return "" if code is None else f": {str(_json(reply).get('msg', '')).rstrip('.')}, code {code}"


def _content(url: str, reply: Reply) -> Any:
    """Return the JSON of an answer, or raise what its status and its code mean."""
    host, code = host_of(url), _code(reply)
    if reply.status == _LOCATION:
        msg = f"{host} does not serve this location (HTTP 451)"
        raise LocationError(msg)
    if reply.status >= _SERVER:
        msg = f"{host} is out of service (HTTP {reply.status}{_words(reply)})"
        raise TransientError(msg)
    if code is not None and code in _WRONG_REQUEST:
        raise RejectedError(code, str(_json(reply).get("msg", "")))
    if reply.status in _REDIRECTS:
        msg = f"{host} redirects to {reply.headers.get('Location', 'nowhere')[:200]}: it is not the exchange"
        raise MarketError(msg)
    if reply.status != _OK or code is not None:
        msg = f"{host} rejects the request (HTTP {reply.status}{_words(reply)})"
        raise MarketError(msg)
    content = _json(reply)
    if content is None:
        msg = f"{host} sent a response that is not JSON"
        raise TransientError(msg)
    return content


def _summary(failures: Sequence[MarketError]) -> MarketError:
    reasons = "; ".join(dict.fromkeys(map(str, failures)))
    if any(isinstance(error, LocationError) for error in failures):
        msg = (
            f"the exchange does not serve this location: {reasons}: put https://data-api.binance.vision "
            "first in BTCML_BINANCE_URLS, or use a file or SOURCE=simulated"
        )
        return LocationError(msg)
    return MarketError(f"the exchange cannot be reached: {reasons}: try again later, or use a file or SOURCE=simulated")


class BinanceMarket:
    """Binance spot, or a replay exchange that behaves like it.

    Parameters
    ----------
    urls
        The exchange's hosts, tried in this order.
    bans
        Where bans are remembered across restarts; by default only as long as this object lives.
    **options
        ``timeout``, ``attempts``, ``clock``, ``sleep``, ``weight_limit``: see `Hosts`.
    """

    def __init__(self, urls: Sequence[str], bans: http.BanMemory | None = None, **options: Any) -> None:
        self._hosts = Hosts(urls, bans, **options)

    @property
    def market(self) -> str:
        """``binance``, or ``replay:NAME`` where the server announces one; requested once."""
        if self._hosts.market is None:
            self._hosts.get_json("/api/v3/ping")
        return self._hosts.market or "binance"

    @property
    def speed(self) -> float | None:
        """Speed of a replay's clock, where the server announces it."""
        return self._hosts.speed if self.market != "binance" else None

    def reachable(self, timeout: float = 2.5) -> bool:
        """Whether any host answers a ping within `timeout` seconds, all asked at once.

        Raises
        ------
        BannedError
            If this address is banned: then no request is sent, and the simulated market must not
            replace the exchange unnoticed.
        """
        end = self._hosts.ban_end()
        if end is not None:
            raise _banned(end)
        answers: queue.Queue[tuple[str, Reply | None]] = queue.Queue()
        for url in self._hosts.urls:  # daemon threads: looking up a name can hang longer than the time-out
            threading.Thread(target=lambda url=url: answers.put((url, _ping(url, timeout))), daemon=True).start()
        for _ in list(self._hosts.urls):
            try:
                url, reply = answers.get(timeout=timeout + 0.5)
            except queue.Empty:
                return False
            if reply is not None and self._hosts.accepts(url, reply):
                return True
        return False

    def now(self) -> pd.Timestamp:
        """Return the exchange's own time, asked for now (weight 1): never the local clock.

        It is the time at which the exchange answered, so it is never ahead of the exchange.
        """
        answer = self._hosts.get_json("/api/v3/time")
        time = answer.get("serverTime") if isinstance(answer, dict) else None
        if not isinstance(time, int) or not _FIRST_MS <= time < _LAST_MS:
            msg = f"the exchange's time is wrong: expected serverTime in milliseconds, found {str(time)[:40]}"
            raise MarketError(msg)
        now = pd.Timestamp(time, unit="ms", tz="UTC").as_unit("us")
        self._hosts.check_time(now)
        return now

    def default_end(self, symbol: str) -> pd.Timestamp:  # noqa: ARG002 - the same for every symbol
        """Return the exchange's time now: a report ends with the newest final candle."""
        return self.now()

    def fetch_candles(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
    ) -> pd.DataFrame:
        """Final candles with open time in [start, end), by the exchange's own clock.

        One call for the time and one for each thousand candles; a hole is asked for once more,
        for it may be the answer's and not the exchange's.

        Raises
        ------
        UsageError
            If the symbol or the interval does not exist.
        BannedError, LocationError, MarketError
            If the exchange rejects the request or cannot be reached.
        """
        now = self.now()
        end = min(end, interval_floor(now, interval))
        frame = self._pages(symbol, interval, start, end, on_page)
        holes = [self._pages(symbol, interval, *hole, hole=True) for hole in _holes(frame, interval, start)]
        return final_candles(merge_candles([frame, *holes]), now)

    def extent(self, symbol: str, interval: str) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """Return the open time of the first candle of a series and the end of its last; None if it has none."""
        query = {"symbol": symbol, "interval": interval, "limit": "1"}
        edges = [
            parse_klines(self._hosts.get_json("/api/v3/klines", query | more), interval)
            for more in ({"startTime": "0"}, {})
        ]
        if edges[0].empty or edges[1].empty:
            return None
        return edges[0]["open_time"].iloc[0], edges[1]["open_time"].iloc[-1] + interval_delta(interval)

    def _pages(
        self,
        symbol: str,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        on_page: OnPage | None = None,
        *,
        hole: bool = False,
    ) -> pd.DataFrame:
        """Pages from start on until the end or two empty ones: a short page alone proves nothing."""
        delta, pages, rows, cursor = interval_delta(interval), [], 0, start
        expected = max(0, -((start - end) // delta))
        while cursor < end:
            page = self._page(symbol, interval, cursor, end, hole=hole)
            if page.empty:  # one empty answer may be a fault, two are a market without candles
                page = self._page(symbol, interval, cursor, end, hole=hole)
            pages.append(page[~((page["open_time"] < start) | (page["open_time"] >= end))])
            reached = pages[-1]["open_time"].max()  # a time beyond the range is no progress
            if not reached >= cursor:
                break
            rows += len(pages[-1])
            cursor = interval_floor(reached, interval) + delta
            if on_page is not None:
                on_page(rows, max(rows, expected))
        return merge_candles(pages)

    def _page(self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, *, hole: bool) -> pd.DataFrame:
        """One page; what is no candle, or not of the range, is asked for again, at last left to the contract.

        In a hole a row of another time is the broken one whose slot is asked for: its time is not known.
        """
        bounds = {"startTime": str(_milliseconds(start)), "endTime": str(_milliseconds(end) - 1)}
        query = {"symbol": symbol, "interval": interval, "limit": str(_PAGE)} | bounds
        answers: list[Any] = []

        def _work() -> pd.DataFrame:
            answers[:] = [self._hosts.get_json("/api/v3/klines", query)]
            return _page_of(answers[0], interval, start, end)

        try:
            return self._hosts.retried(_work)
        except RejectedError as error:
            raise _explained(error, symbol) from error
        except TransientError as error:
            with suppress(TransientError, IndexError):
                return _page_of(answers[0], interval, start, end, lenient=True, hole=hole)
            msg = f"the exchange answers {symbol} {interval} with rows that are not the candles asked for: {error}"
            raise MarketError(msg) from error


def _page_of(
    answer: Any, interval: str, start: pd.Timestamp, end: pd.Timestamp, *, lenient: bool = False, hole: bool = False
) -> pd.DataFrame:
    """Candles of an answer that has some of the range, or none at all."""
    try:
        page = parse_klines(answer, interval, lenient=lenient)
    except SourceError as error:
        raise TransientError(str(error)) from error
    outside = bool(len(page)) and (page["open_time"].max() < start or page["open_time"].min() >= end)
    if outside and lenient and hole and len(page) <= min((end - start) // interval_delta(interval), _STRAYS):
        return page.assign(open_time=pd.Series(pd.NaT, page.index, TIME))
    if outside:
        msg = f"they are not of the range from {start} to {end}"
        raise TransientError(msg)
    return page


def _ping(url: str, timeout: float) -> Reply | None:
    try:
        with http.new_session() as session:
            return fetch_reply(session, f"{url}/api/v3/ping", timeout=timeout)
    except TransientError:
        return None


def _milliseconds(time: pd.Timestamp) -> int:
    """Milliseconds since the epoch, rounded up: a bound never lets an earlier candle in; none is older than 1970."""
    return max(0, -(-time.value // 10**6))


def _explained(error: RejectedError, symbol: str) -> UsageError:
    if error.code == _INVALID_SYMBOL or (error.code == _ILLEGAL and "'symbol'" in str(error)):
        return UsageError(f"the exchange has no symbol {symbol!r}: give one that it trades, such as BTCUSDT")
    return error


def _holes(frame: pd.DataFrame, interval: str, start: pd.Timestamp) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return the newest holes between candles on the grid, and the one before the first."""
    times = on_grid_times(frame["open_time"], interval)
    if times.empty:
        return []
    gaps = candle_gaps(times, interval).tail(_MAX_HOLES)
    holes = list(zip(gaps["start"], gaps["end"], strict=True))
    return [(start, times.iloc[0]), *holes] if times.iloc[0] - start >= interval_delta(interval) else holes
