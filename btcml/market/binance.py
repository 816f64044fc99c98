"""The exchange's REST interface as a market: final candles in pages of a thousand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import candle_gaps, final_candles, interval_delta, interval_floor
from btcml.errors import BannedError, MarketError, SourceError, UsageError
from btcml.market.hosts import Hosts, RejectedError
from btcml.market.klines import merge_candles, parse_klines
from btcml.market.transport import Reply, TransientError, fetch_reply, new_session

if TYPE_CHECKING:
    from btcml.market.bans import BanMemory
    from btcml.market.source import OnPage

__all__ = ["PAGE", "BinanceMarket"]

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
