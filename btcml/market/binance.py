"""The exchange's REST interface as a market: its hosts and rules, and final candles in pages of a thousand.

The rules of the exchange, kept here and nowhere else: used weight stays under half of the limit;
429 waits as long as Retry-After says; 418 is a ban, remembered, and nothing is called before it
ends; 451 and a host that fails for good lead to the next host.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import candle_gaps, final_candles, interval_delta, interval_floor
from btcml.errors import BannedError, LocationError, MarketError, SourceError, UsageError
from btcml.market import MARKET_HEADER, Clock, utc_now
from btcml.market.klines import merge_candles, parse_klines
from btcml.market.transport import (
    BanMemory,
    Jittered,
    LocalBans,
    Reply,
    TransientError,
    fetch_reply,
    host_of,
    new_session,
)

if TYPE_CHECKING:
    from btcml.market import OnPage

__all__ = ["PAGE", "BinanceMarket", "Hosts", "RejectedError"]

_OK, _BAD_REQUEST, _TEAPOT, _TOO_MANY, _LOCATION, _SERVER = 200, 400, 418, 429, 451, 500
_PATIENCE = 75.0
_A_MINUTE = pd.Timedelta(seconds=61)  # after it the exchange has begun to count anew, whatever its clock says
_UNTOLD_PAUSE, _UNTOLD_BAN = 30.0, 600.0


class RejectedError(UsageError):
    """The exchange calls the request itself wrong (status 400).

    Parameters
    ----------
    code
        The exchange's own number, such as -1121 for an invalid symbol.
    message
        Its words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the exchange refuses the request: {message.rstrip('.')} (code {code})")
        self.code = code


class Hosts:
    """Asks the exchange, whichever of its hosts answers.

    Parameters
    ----------
    urls
        Addresses, tried in this order; the last one that answered first.
    bans
        Where bans are remembered; by default in this object alone.
    timeout
        Seconds for one whole answer.
    attempts
        Most tries at one host.
    clock, sleep
        Local time and how to wait; replaced in tests.
    weight_limit
        The exchange's limit in a minute, of which half is used.
    """

    def __init__(
        self,
        urls: Sequence[str],
        bans: BanMemory | None = None,
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
        self._bans: BanMemory = bans or LocalBans()
        self._session = new_session()
        self._timeout, self._clock, self._sleep = timeout, clock, sleep
        self.retried = Jittered(attempts, sleep)
        self._weight_limit = weight_limit
        self._resume = pd.Timestamp(0, tz="UTC")

    def ask(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON that the exchange answers.

        Raises
        ------
        RejectedError
            If it calls the request wrong.
        BannedError
            If this address is banned; nothing was called.
        LocationError
            If every host that answers refuses this location.
        MarketError
            If no host answers as it should; the sentence says what each of them did.
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
            self.urls.sort(key=lambda other: other != url)
            return content
        raise _summary(failures)

    def _once(self, url: str, path: str, params: Mapping[str, str] | None) -> Any:
        self._hold()
        reply = fetch_reply(self._session, url + path, params, self._timeout)
        self._note(url, reply)
        if reply.status in {_TEAPOT, _TOO_MANY}:
            raise self._slowed(url, reply)
        return _content(url, reply)

    def check_bans(self) -> pd.Timestamp | None:
        """Return the end of a ban that still holds for any host, or None.

        A ban is of this machine's address, so it holds for all hosts.
        """
        ends = [end for url in self.urls if (end := self._bans.until(host_of(url))) is not None]
        return max(ends) if ends and max(ends) > self._clock() else None

    def heard(self, url: str, reply: Reply) -> bool:
        """Whether an answer to a ping is the exchange's, in service; what it says of bans is remembered.

        Raises
        ------
        BannedError
            If it says that this address is banned.
        """
        self._note(url, reply)
        if reply.status not in {_TEAPOT, _TOO_MANY}:
            return reply.status == _OK
        error = self._slowed(url, reply)
        if isinstance(error, BannedError):
            raise error
        return True

    def _hold(self) -> None:
        """Wait until a request may be sent, or raise where that is too long."""
        end = self.check_bans()
        if end is not None and (end - self._clock()).total_seconds() > _PATIENCE:
            raise _banned(end)
        for until in (end, self._resume):
            left = (until - self._clock()).total_seconds() if until is not None else 0.0
            if left > 0:
                self._sleep(left)

    def _note(self, url: str, reply: Reply) -> None:
        """Read the market's name and the used weight."""
        market = reply.headers.get(MARKET_HEADER, "binance")
        if not re.fullmatch(r"binance|replay:[A-Za-z0-9._-]{1,80}", market):
            msg = f"{host_of(url)} says that it is the market {market[:80]!r}: expected replay:NAME"
            raise MarketError(msg)
        if self.market not in {None, market}:
            msg = f"{host_of(url)} is the market {market}, before it was {self.market}: markets never mix"
            raise MarketError(msg)
        self.market = market
        used = reply.seconds("X-MBX-USED-WEIGHT-1M")
        if used is not None and used >= self._weight_limit / 2 - 2:
            self._resume = self._clock() + _A_MINUTE

    def _slowed(self, url: str, reply: Reply) -> MarketError:
        """Remember how long nothing may be called; short pauses are waited for."""
        teapot = reply.status == _TEAPOT
        told = reply.seconds("Retry-After")
        seconds = told if told is not None else (_UNTOLD_BAN if teapot else _UNTOLD_PAUSE)
        end = self._clock() + pd.Timedelta(seconds=seconds)
        match = re.search(rb"banned until (\d{13})", reply.body)
        if match and teapot and self.market == "binance":  # the replay's clock is its own
            end = max(end, pd.Timestamp(int(match[1]), unit="ms", tz="UTC"))
        for other in self.urls:
            self._bans.remember(host_of(other), end, f"HTTP {reply.status} from {host_of(url)}")
        if teapot or seconds > _PATIENCE:
            return _banned(end)
        return TransientError(f"{host_of(url)} keeps asking to slow down (HTTP 429)")


def _banned(end: pd.Timestamp) -> BannedError:
    until = end.strftime("%Y-%m-%d %H:%M:%S UTC")
    msg = f"the exchange has banned this address until {until}: nothing is asked before that, try again then"
    return BannedError(msg, end.to_pydatetime())


def _content(url: str, reply: Reply) -> Any:
    """Return the JSON of an answer, or raise what its status means."""
    if reply.status == _LOCATION:
        msg = f"{host_of(url)} refuses this location (HTTP 451)"
        raise LocationError(msg)
    if reply.status >= _SERVER:
        msg = f"{host_of(url)} is out of order (HTTP {reply.status})"
        raise TransientError(msg)
    try:
        content = json.loads(reply.body)
    except ValueError as error:
        if reply.status == _OK:
            msg = f"{host_of(url)} answered something that is no JSON"
            raise TransientError(msg) from error
        content = {}
    if reply.status == _BAD_REQUEST and isinstance(content, dict) and "code" in content:
        raise RejectedError(int(content["code"]), str(content.get("msg", "")))
    if reply.status != _OK:
        msg = f"{host_of(url)} refuses (HTTP {reply.status})"
        raise MarketError(msg)
    return content


def _summary(failures: Sequence[MarketError]) -> MarketError:
    reasons = "; ".join(dict.fromkeys(map(str, failures)))
    if any(isinstance(error, LocationError) for error in failures):
        msg = (
            f"the exchange does not serve this location: {reasons}: put https://data-api.binance.vision "
            "first in BTCML_BINANCE_URLS, or use a file or SOURCE=simulated"
        )
        return LocationError(msg)
    msg = f"the exchange cannot be reached: {reasons}: try again later, or use a file or SOURCE=simulated"
    return MarketError(msg)


PAGE = 1000
"""Rows of a page: the exchange's most."""

_HOLES = 20
_INVALID_SYMBOL, _ILLEGAL = -1121, -1100


class BinanceMarket:
    """Binance spot, or a replay exchange that behaves like it.

    Parameters
    ----------
    urls
        The exchange's hosts, tried in this order.
    bans
        Where bans are remembered across restarts; by default only as long as this object lives.
    **knobs
        ``timeout``, ``attempts``, ``clock``, ``sleep``, ``weight_limit``: see `Hosts`.
    """

    def __init__(self, urls: Sequence[str], bans: BanMemory | None = None, **knobs: Any) -> None:
        self._hosts = Hosts(urls, bans, **knobs)

    @property
    def market(self) -> str:
        """``binance``, or ``replay:NAME`` where the server says that it is one; asks once."""
        if self._hosts.market is None:
            self._hosts.ask("/api/v3/ping")
        return self._hosts.market or "binance"

    def reachable(self, timeout: float = 2.5) -> bool:
        """Whether any host answers a ping within `timeout` seconds, all asked at once.

        Raises
        ------
        BannedError
            If this address is banned: then nothing is asked, and the simulated market is no
            substitute that anybody wants in silence.
        """
        end = self._hosts.check_bans()
        if end is not None:
            msg = f"the exchange has banned this address until {end:%Y-%m-%d %H:%M:%S} UTC: try again then"
            raise BannedError(msg, end.to_pydatetime())
        answers: queue.Queue[tuple[str, Reply | None]] = queue.Queue()
        for url in self._hosts.urls:  # daemons: looking up a name can hang longer than anybody waits
            threading.Thread(target=lambda url=url: answers.put((url, _ping(url, timeout))), daemon=True).start()
        for _ in list(self._hosts.urls):
            try:
                url, reply = answers.get(timeout=timeout + 0.5)
            except queue.Empty:
                return False
            if reply is not None and self._hosts.heard(url, reply):
                return True
        return False

    def now(self) -> pd.Timestamp:
        """Return the exchange's own time, asked for now (weight 1): never the local clock.

        It is the time at which the exchange answered, so it is never ahead of the exchange.
        """
        answer = self._hosts.ask("/api/v3/time")
        if not isinstance(answer, dict) or not isinstance(answer.get("serverTime"), int):
            msg = "the exchange does not tell its time: expected serverTime in /api/v3/time"
            raise MarketError(msg)
        return pd.Timestamp(answer["serverTime"], unit="ms", tz="UTC").as_unit("us")

    def default_end(self, symbol: str) -> pd.Timestamp:  # noqa: ARG002 - the same for every symbol
        """Return the exchange's time now: a report ends with the newest final candle."""
        return self.now()

    def fetch_candles(
        self,
        symbol: str,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        on_page: OnPage | None = None,
    ) -> pd.DataFrame:
        """Final candles with open time in [start, end), by the exchange's own clock.

        One call for the time and one for each thousand candles; a hole is asked for once more,
        for it may be the answer's and not the exchange's.

        Raises
        ------
        UsageError
            If the symbol or the interval does not exist.
        BannedError, LocationError, MarketError
            If the exchange refuses or cannot be reached.
        """
        delta = interval_delta(interval)
        now = self.now()
        end = min(end, interval_floor(now, interval))
        expected = max(0, -((start - end) // delta))
        frame = self._pages(symbol, interval, start, end, on_page, expected)
        for hole_start, hole_end in _holes(frame, interval, start):
            frame = merge_candles([frame, self._pages(symbol, interval, hole_start, hole_end, None, expected)])
        return final_candles(frame, now)

    def _pages(
        self,
        symbol: str,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        on_page: OnPage | None,
        expected: int,
    ) -> pd.DataFrame:
        """Pages from start on until the end or two empty ones: a short page alone proves nothing."""
        delta, pages, rows = interval_delta(interval), [], 0
        cursor = start
        while cursor < end:
            page = self._page(symbol, interval, cursor, end)
            if page.empty:  # whoever believes one empty answer takes a fault for a halt of years
                page = self._page(symbol, interval, cursor, end)
            if page.empty:
                break
            pages.append(page[(page["open_time"] >= start) & (page["open_time"] < end)])
            rows += len(pages[-1])
            cursor = page["open_time"].iloc[-1] + delta
            if on_page is not None:
                on_page(rows, max(rows, expected))
        return merge_candles(pages)

    def _page(self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """One page; what is no candle, or not of the range, is asked for again."""

        def _work() -> pd.DataFrame:
            try:
                page = parse_klines(_checked(self._hosts.ask("/api/v3/klines", query)), interval)
            except SourceError as error:
                raise TransientError(str(error)) from error
            if len(page) and (page["open_time"].iloc[-1] < start or page["open_time"].iloc[0] >= end):
                msg = f"they are not of the range from {start} to {end}"
                raise TransientError(msg)
            return page

        bounds = {"startTime": str(_milliseconds(start)), "endTime": str(_milliseconds(end) - 1)}
        query = {"symbol": symbol, "interval": interval, "limit": str(PAGE)} | bounds
        try:
            return self._hosts.retried(_work)
        except RejectedError as error:
            raise _explained(error, symbol) from error
        except TransientError as error:
            msg = f"the exchange answers {symbol} {interval} with rows that are not the candles asked for: {error}"
            raise MarketError(msg) from error


def _ping(url: str, timeout: float) -> Reply | None:
    try:
        with new_session() as session:
            return fetch_reply(session, f"{url}/api/v3/ping", timeout=timeout)
    except TransientError:
        return None


def _milliseconds(time: pd.Timestamp) -> int:
    """Milliseconds since the epoch, rounded up: a bound never lets an earlier candle in; none is older than 1970."""
    return max(0, -(-time.value // 10**6))


def _checked(rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        msg = f"expected a list of klines, found {type(rows).__name__}"
        raise SourceError(msg)
    return rows


def _explained(error: RejectedError, symbol: str) -> UsageError:
    if error.code == _INVALID_SYMBOL or (error.code == _ILLEGAL and "'symbol'" in str(error)):
        msg = f"the exchange has no symbol {symbol!r}: give one that it trades, such as BTCUSDT"
        return UsageError(msg)
    return error


def _holes(frame: pd.DataFrame, interval: str, start: pd.Timestamp) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return the newest holes, and the one before the first candle."""
    if frame.empty:
        return []
    gaps = candle_gaps(frame["open_time"], interval).tail(_HOLES)
    holes = list(zip(gaps["start"], gaps["end"], strict=True))
    first = frame["open_time"].iloc[0]
    return [(start, first), *holes] if first - start >= interval_delta(interval) else holes
