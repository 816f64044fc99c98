"""The input of every feature: candles as arrays, log returns, their scale and the age of a segment."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from btcml.candles import interval_delta
from btcml.forecast.features.windows import ewm, lag, rolling_max, rolling_min, segment_age

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


SCALE_SPAN = 96
"""Span of the exponentially weighted deviation that scales features and targets."""

SPIKE = 10.0
"""A return enters the scale with at most this many times the largest return of the calmest third of the
`SCALE_SPAN` candles before it, so that a price step or a false price does not inflate the scale for a day."""

FLOOR = 1e-6
"""Minimum scale, 0.01 basis points: no division by zero where the price does not move."""

RANGE_FLOOR = 5e-5
"""Minimum log range, half a basis point: below it a range is a tick or two, and its logarithm is noise."""

_MINUTE_US = 60_000_000


class Prepared:
    """Candles as float64 arrays, with the quantities that many features share.

    Parameters
    ----------
    candles
        Candle frame of n rows.
    interval
        Name of its interval.

    Attributes
    ----------
    age
        Rows since the last gap, shape (n,); a gap restarts the series.
    """

    def __init__(self, candles: pd.DataFrame, interval: str) -> None:
        self._candles = candles
        self.step_us = int(interval_delta(interval).total_seconds() * 1e6)
        self.ticks = candles["open_time"].dt.as_unit("us").astype("int64").to_numpy()
        self.age = segment_age(self.ticks, self.step_us)
        self._means: dict[tuple[str, int], Array] = {}

    def column(self, name: str) -> Array:
        """One column of the candle frame as float64; NaN where the source does not know it."""
        return self._candles[name].to_numpy(dtype="float64")

    @cached_property
    def open(self) -> Array:
        """Opening price."""
        return self.column("open")

    @cached_property
    def high(self) -> Array:
        """Highest price."""
        return self.column("high")

    @cached_property
    def low(self) -> Array:
        """Lowest price."""
        return self.column("low")

    @cached_property
    def close(self) -> Array:
        """Closing price."""
        return self.column("close")

    @cached_property
    def volume(self) -> Array:
        """Base volume."""
        return self.column("volume")

    @cached_property
    def quote_volume(self) -> Array:
        """Quote volume; where a source does not know it, the typical price times the volume."""
        known = self.column("quote_volume")
        return np.where(np.isnan(known), (self.high + self.low + self.close) / 3 * self.volume, known)

    @cached_property
    def log_close(self) -> Array:
        """Natural logarithm of the close."""
        return np.log(self.close)

    @cached_property
    def log_return(self) -> Array:
        """log(close / close of the candle before); NaN after a gap."""
        return np.where(self.age > 0, self.log_close - lag(self.log_close, 1), np.nan)

    @cached_property
    def log_range(self) -> Array:
        """log(high / low), at least `RANGE_FLOOR`."""
        return np.maximum(np.log(self.high / self.low), RANGE_FLOOR)

    @cached_property
    def log_log_range(self) -> Array:
        """Logarithm of the log range."""
        return np.log(self.log_range)

    @cached_property
    def log_scale(self) -> Array:
        """Logarithm of the scale."""
        return np.log(self.scale)

    @cached_property
    def scale(self) -> Array:
        """Square root of the EWMA of squared log returns without spikes (`SPIKE`); NaN until `SCALE_SPAN` is full."""
        s = np.maximum(np.sqrt(self.mean("capped_square", SCALE_SPAN)), FLOOR)
        return np.where(self.age >= SCALE_SPAN, s, np.nan)

    @cached_property
    def next_minute(self) -> Array:
        """Minutes from the epoch to the open of the NEXT candle: known at this candle's close."""
        return (self.ticks + self.step_us) / _MINUTE_US

    def mean(self, name: str, span: int) -> Array:
        """Exponentially weighted mean of a named series, restarted after gaps; cached.

        Parameters
        ----------
        name
            ``log_close``, ``square`` (of log returns), ``capped_square`` (of those without spikes), ``log_range``
            (its logarithm) or a column.
        span
            Span in rows.
        """
        key = (name, span)
        if key not in self._means:
            self._means[key] = ewm(self._series(name), self.age, span)
        return self._means[key]

    def _series(self, name: str) -> Array:
        if name == "square":
            return self.log_return**2
        if name == "capped_square":
            return self._capped_return() ** 2
        if name == "log_range":
            return self.log_log_range
        return self.log_close if name == "log_close" else self.column(name)

    def _capped_return(self) -> Array:
        """Sizes of log returns without spikes; two spikes in two thirds of the span do not raise the cap."""
        size, third = np.abs(self.log_return), SCALE_SPAN // 3
        largest = rolling_max(size, third)
        calm = np.minimum.reduce([lag(largest, 1 + third * n) for n in range(3)])
        cap = SPIKE * np.maximum(calm, RANGE_FLOOR)
        return np.where(size > cap, cap, size)  # where the cap is not known yet, the size is kept

    def past_return(self, n: int) -> Array:
        """log(close / close of n candles before)."""
        return self.log_close - lag(self.log_close, n)

    def since(self, minutes: int) -> Array:
        """log(close / close before the clock's current span of `minutes` began).

        The span is the one that this candle's close lies in or completes; a longer candle is used instead.
        """
        passed = self.next_minute % minutes
        steps = np.maximum(np.where(passed == 0, minutes, passed) * _MINUTE_US // self.step_us, 1).astype("int64")
        begin = np.arange(len(steps)) - steps
        return np.where(self.age >= steps, self.log_close - self.log_close[np.maximum(begin, 0)], np.nan)

    def position(self, n: int) -> Array:
        """Where the close lies in the range of the last n candles, -1 (low) to 1 (high)."""
        top, bottom = rolling_max(self.high, n), rolling_min(self.low, n)
        width = top - bottom
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(width == 0, 0.0, (2 * self.close - top - bottom) / width)
