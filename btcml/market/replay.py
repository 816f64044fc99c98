"""What the replay exchange answers: the exchange's rules over candles of any source.

Everything here is a pure function of the source, the clock and the request; HTTP is in
`btcml.market.exchange`, the archive's files in `btcml.market.replay_archive`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import INTERVALS, empty_candles, interval_delta, interval_floor
from btcml.errors import UsageError
from btcml.market.klines import format_klines
from btcml.market.simulate import ORIGIN, SimulatedMarket
from btcml.market.source import Clock, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.market.faults import Row
    from btcml.market.source import Source

__all__ = ["PAGE", "Refusal", "Replay", "ReplayClock"]

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
        self._lock = RLock()
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
