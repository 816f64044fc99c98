"""Candle frames: columns, intervals, finality, resampling.

A candle frame is a `pandas.DataFrame` with exactly the columns of `COLUMNS`, a `RangeIndex`,
``open_time`` ascending and unique, times as ``datetime64[us, UTC]`` and numbers as ``float64``
(``trades`` too: columns beyond ``volume`` are NaN where a source does not know them).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from btcml.errors import SourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


TIME: Final = "datetime64[us, UTC]"
"""Dtype of every time in a frame."""

COLUMNS: tuple[str, ...] = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
"""The eleven data columns of an exchange kline, in the exchange's order."""

OPTIONAL_COLUMNS: tuple[str, ...] = COLUMNS[7:]
"""Columns that a source may not know; NaN there."""

INTERVALS: dict[str, pd.Timedelta] = {
    name: pd.Timedelta(name.replace("d", "D"))
    for name in ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d")
} | {"1w": pd.Timedelta(days=7)}
"""The exchange's intervals of fixed length, by name."""

SYMBOL = r"[^\W_a-z]{2,20}"
"""Pattern of a symbol: the exchange has some with letters beyond ASCII."""

_SUM = ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")
_MONDAY = pd.Timestamp("1970-01-05", tz="UTC")
_LISTING = pd.Timestamp("2017-08-17", tz="UTC")
_TICK = pd.Timedelta(milliseconds=1)
_MICROSECOND = pd.Timedelta(microseconds=1)


LONGEST_HORIZON = 1000
"""Longest horizon of a forecast in candles."""


def check_symbol(text: str) -> str:
    """Return a symbol that is written as the exchange writes it.

    Raises
    ------
    UsageError
        If it is written in another way; the message says how to write it.

    Examples
    --------
    >>> check_symbol("btc/usdt")
    Traceback (most recent call last):
    ...
    btcml.errors.UsageError: a symbol is 2 to 20 capital letters and digits, found 'btc/usdt': write BTCUSDT
    """
    if re.fullmatch(SYMBOL, text):
        return text
    near = re.sub(r"[\W_]", "", text.upper())
    advice = f"write {near}" if re.fullmatch(SYMBOL, near) else "write it as the exchange does, such as BTCUSDT"
    msg = f"a symbol is 2 to 20 capital letters and digits, found {text!r}: {advice}"
    raise UsageError(msg)


@dataclass(frozen=True, order=True)
class SeriesKey:
    """What one series of candles is: market, symbol and interval.

    Raises
    ------
    UsageError
        If the symbol or the market has characters that no exchange uses, or the interval does
        not exist.

    Examples
    --------
    >>> str(SeriesKey("simulated", "BTCUSDT", "5m"))
    'simulated/BTCUSDT/5m'
    """

    market: str
    symbol: str
    interval: str

    def __post_init__(self) -> None:
        check_symbol(self.symbol)
        if not re.fullmatch(r"binance|simulated|(replay|file):[A-Za-z0-9._-]{1,80}", self.market):
            msg = f"a market is binance, simulated, replay:NAME or file:NAME, found {self.market!r}"
            raise UsageError(msg)
        interval_delta(self.interval)

    def __str__(self) -> str:
        return f"{self.market}/{self.symbol}/{self.interval}"

    @property
    def delta(self) -> pd.Timedelta:
        """Length of one candle."""
        return interval_delta(self.interval)


def interval_delta(interval: str) -> pd.Timedelta:
    """Length of an interval by its name.

    Raises
    ------
    UsageError
        If the exchange has no such interval of fixed length.

    Examples
    --------
    >>> interval_delta("15m")
    Timedelta('0 days 00:15:00')
    """
    if interval in {"1s", "1M"}:
        msg = f"the exchange has {interval}, btcml does not: give one of {', '.join(INTERVALS)}"
        raise UsageError(msg)
    if interval not in INTERVALS:
        msg = f"the interval must be one of {', '.join(INTERVALS)}, found {interval!r}"
        raise UsageError(msg)
    return INTERVALS[interval]


def interval_origin(interval: str) -> pd.Timestamp:
    """Time from which the candles of an interval are counted."""
    return {"1w": _MONDAY, "3d": _LISTING}.get(interval, pd.Timestamp(0, tz="UTC"))


def interval_floor(time: pd.Timestamp, interval: str) -> pd.Timestamp:
    """Open time of the candle that contains `time`.

    Weeks open on Monday; every other interval counts from the Unix epoch, except three-day
    candles, which count from the exchange's first day of trading.

    Examples
    --------
    >>> interval_floor(pd.Timestamp("2025-06-30 12:34:56", tz="UTC"), "5m")
    Timestamp('2025-06-30 12:30:00+0000', tz='UTC')
    """
    origin = interval_origin(interval)
    return origin + (time - origin) // interval_delta(interval) * interval_delta(interval)


def interval_floors(times: pd.Series, interval: str) -> pd.Series:
    """Open times of the candles that contain `times`: `interval_floor` for a column of `TIME`."""
    step = interval_delta(interval) // pd.Timedelta(microseconds=1)
    origin = interval_origin(interval).value // 1000
    ticks = times.astype("int64")
    return pd.to_datetime((ticks - origin) // step * step + origin, unit="us", utc=True).astype(TIME)


def on_grid_times(times: pd.Series, interval: str) -> pd.Series:
    """Open times that an interval can have, ascending and unique: what lies between, or is missing, is left out."""
    known = times.dropna()
    return known[known == interval_floors(known, interval)].drop_duplicates().sort_values(ignore_index=True)


def empty_candles() -> pd.DataFrame:
    """Return a candle frame without rows."""
    times = {"open_time": TIME, "close_time": TIME}
    return pd.DataFrame({name: pd.Series(dtype=times.get(name, "float64")) for name in COLUMNS})


def as_candles(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Bring a frame into the canonical form, sorted by ``open_time``.

    Parameters
    ----------
    frame
        At least ``open_time`` (timezone-aware), open, high, low, close and volume.
    interval
        Fills ``close_time`` where it is absent: open + interval - 1 ms, as the exchange does.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; unknown optional columns are NaN. Rows are neither checked nor dropped: the contract
        does that.

    Raises
    ------
    SourceError
        If a required column is missing or holds text, or the times have no zone.
    """
    missing = [name for name in COLUMNS[:6] if name not in frame]
    if missing:
        msg = f"candles need the columns {', '.join(COLUMNS[:6])}, missing: {', '.join(missing)}"
        raise SourceError(msg)
    columns = {name: _numbers(frame[name], name) for name in COLUMNS[1:6]}
    columns["open_time"] = _times(frame["open_time"], "open_time")
    columns["close_time"] = (
        _times(frame["close_time"], "close_time")
        if "close_time" in frame
        else columns["open_time"] + interval_delta(interval) - _TICK
    )
    for name in OPTIONAL_COLUMNS:
        columns[name] = _numbers(frame[name], name) if name in frame else pd.Series(np.nan, frame.index)
    result = pd.DataFrame({name: columns[name] for name in COLUMNS})
    if not result["open_time"].is_monotonic_increasing:
        result = result.sort_values("open_time", kind="stable")
    return result.reset_index(drop=True)


def _numbers(column: pd.Series, name: str) -> pd.Series:
    try:
        return pd.to_numeric(column).astype("float64")
    except (TypeError, ValueError) as error:
        msg = f"column {name} must hold numbers: {error}"
        raise SourceError(msg) from error


def _times(column: pd.Series, name: str) -> pd.Series:
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        msg = f"column {name} must hold timezone-aware times, found {column.dtype}"
        raise SourceError(msg)
    return column.dt.tz_convert("UTC").astype(TIME)


def final_candles(frame: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Rows whose close time is before `now`, the exchange's clock; one without a close time is the contract's to judge.

    Examples
    --------
    >>> import pandas as pd
    >>> open_time = pd.to_datetime(["2025-01-01 00:00", "2025-01-01 00:05"], utc=True)
    >>> frame = pd.DataFrame({"open_time": open_time, "open": 1, "high": 1, "low": 1, "close": 1, "volume": 0})
    >>> len(final_candles(as_candles(frame, "5m"), pd.Timestamp("2025-01-01 00:07", tz="UTC")))
    1
    """
    return frame[~(frame["close_time"] >= now)].reset_index(drop=True)


def infer_interval(open_time: pd.Series) -> str:
    """Name of the interval of a series: the most frequent step.

    Raises
    ------
    SourceError
        If there are fewer than two rows or the step is no interval of the exchange.
    """
    steps = open_time.diff().dropna()
    if steps.empty:
        msg = "the interval cannot be inferred from fewer than two candles"
        raise SourceError(msg)
    step = pd.Timedelta(steps.mode().iloc[0])
    for name, delta in INTERVALS.items():
        if delta == step:
            return name
    msg = f"candles {step} apart are not of an interval of the exchange ({', '.join(INTERVALS)})"
    raise SourceError(msg)


def candle_gaps(open_time: pd.Series, interval: str) -> pd.DataFrame:
    """Holes between consecutive candles.

    Returns
    -------
    DataFrame
        One row per hole: ``start`` (first missing open time), ``end`` (the next open time that is
        there) and ``missing`` (number of candles).
    """
    delta = interval_delta(interval)
    step = open_time.diff()
    after = step > delta
    return pd.DataFrame(
        {
            "start": (open_time.shift(1) + delta)[after].astype(TIME),
            "end": open_time[after].astype(TIME),
            "missing": np.rint(step[after].to_numpy() / delta.to_timedelta64()).astype("int64") - 1,
        }
    ).reset_index(drop=True)


def span_gaps(open_time: pd.Series, start: pd.Timestamp, end: pd.Timestamp, interval: str) -> pd.DataFrame:
    """Holes of a span, as `candle_gaps` gives them, also before its first candle and after its last.

    Parameters
    ----------
    open_time
        Open times inside the span, ascending.
    start, end
        From, to (exclusive).
    """
    edges = pd.Series([interval_floor(start - _MICROSECOND, interval), end]).astype(TIME)
    times = pd.concat([edges[:1], open_time.astype(TIME), edges[1:]], ignore_index=True)
    return candle_gaps(times, interval)


def join_gaps(gaps: pd.DataFrame, within: pd.Timedelta) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Spans that cover holes, ascending; holes less than `within` apart come as one, for they are one page."""
    if gaps.empty:
        return []
    apart = (gaps["start"] - gaps["end"].shift() >= within).cumsum()
    joined = gaps.groupby(apart).agg(start=("start", "first"), end=("end", "last"))
    return list(zip(joined["start"], joined["end"], strict=True))


def resample_candles(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Longer candles out of shorter ones, exactly as the exchange makes them.

    A candle without trades (``volume`` 0) adds no price: its open, high, low and close are the
    exchange's filler. A group with no trade at all keeps the filler, as the exchange does. Groups
    at either end that are not covered from their first to their last candle are left out, for
    they would be unfinished; holes inside stay holes of prices only.
    """
    if frame.empty:
        return frame
    source = interval_delta(infer_interval(frame["open_time"])) if len(frame) > 1 else interval_delta(interval)
    group = interval_floors(frame["open_time"], interval)
    traded = frame["volume"] > 0
    priced = frame[traded | ~traded.groupby(group).transform("any")]
    by = priced.groupby(group[priced.index])
    result = by.agg(open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"))
    sums = frame.groupby(group)[list(_SUM)].sum(min_count=1)
    result = result.join(sums).rename_axis("open_time").reset_index()
    result = as_candles(result, interval)
    first, last = frame["open_time"].iloc[0], frame["open_time"].iloc[-1] + source
    whole = (result["open_time"] >= first) & (result["open_time"] + interval_delta(interval) <= last)
    return result[whole].reset_index(drop=True)


def content_hash(frames: Iterable[tuple[str, pd.DataFrame]]) -> str:
    """SHA-256 over the content of named frames, independent of the file format that stores them.

    Each column adds its name, its kind and its little-endian values; NaN has one bit pattern;
    text is UTF-8 with its length. The order of rows and columns counts.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for title, frame in frames:
        digest.update(f"frame {title} {len(frame)}\n".encode())
        for name in frame.columns:
            kind, payload = _column_bytes(frame[name])
            digest.update(f"column {name} {kind}\n".encode())
            digest.update(payload)
    return digest.hexdigest()


def _column_bytes(column: pd.Series) -> tuple[str, bytes]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "time", column.astype(TIME).astype("int64").to_numpy().astype("<i8").tobytes()
    if pd.api.types.is_bool_dtype(column.dtype):
        return "bool", column.to_numpy(dtype="u1").tobytes()
    if pd.api.types.is_integer_dtype(column.dtype):
        return "int", column.to_numpy(dtype="<i8").tobytes()
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(dtype="<f8", copy=True)
        values[np.isnan(values)] = np.nan
        return "float", (values + 0.0).tobytes()
    texts = ["" if pd.isna(value) else str(value) for value in column]
    return "text", b"".join(f"{len(text.encode())}:{text}".encode() for text in texts)
