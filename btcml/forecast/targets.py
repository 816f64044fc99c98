"""Targets: moves of the next candle, scaled by volatility, and the way back to prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.features import RANGE_FLOOR, Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def next_value(values: Array, age: NDArray[np.int64]) -> Array:
    """Values of the next candle; NaN in the last row and where a gap follows.

    Examples
    --------
    >>> next_value(np.array([1.0, 2.0, 3.0]), np.array([0, 1, 0]))
    array([ 2., nan, nan])
    """
    out = np.full(len(values), np.nan)
    joined = age[1:] > 0
    out[:-1][joined] = values[1:][joined]
    return out


def _move(p: Prepared, column: Array) -> Array:
    return (np.log(next_value(column, p.age)) - p.log_close) / p.scale


def _amplitude(p: Prepared) -> Array:
    return next_value(p.high - p.low, p.age) / (p.close * p.scale)


def _direction(p: Prepared) -> Array:
    following = next_value(p.close, p.age)
    return np.where(np.isnan(following + p.scale), np.nan, following > p.close)


def _log_range(p: Prepared) -> Array:
    return np.log(next_value(p.log_range, p.age) / p.scale)


def _deviation(p: Prepared) -> Array:
    body = np.log(p.close / p.open)
    variance = 0.5 * np.log(p.high / p.low) ** 2 - (2 * np.log(2) - 1) * body**2
    return np.sqrt(np.maximum(variance, RANGE_FLOOR**2))


def _realized_volatility(p: Prepared) -> Array:
    return np.log(next_value(_deviation(p), p.age) / p.scale)


class Target(NamedTuple):
    """A target: its scaled outcome, the way back to its level, and persistence's forecast of it."""

    scaled: Callable[[Prepared], Array]
    level: Callable[[Prepared, Array], Array]
    persistence: Callable[[Prepared], Array]


def _price(prepared: Prepared, scaled: Array) -> Array:
    return price_of(prepared.close, scaled, prepared.scale)


def _log_level(prepared: Prepared, scaled: Array) -> Array:
    return scaled + np.log(prepared.scale)


TARGETS: dict[str, Target] = {
    "close": Target(lambda p: _move(p, p.close), _price, lambda p: p.close),
    "open": Target(lambda p: _move(p, p.open), _price, lambda p: p.close),
    "high": Target(lambda p: _move(p, p.high), _price, lambda p: p.close * p.high / p.open),
    "low": Target(lambda p: _move(p, p.low), _price, lambda p: p.close * p.low / p.open),
    "amplitude": Target(_amplitude, lambda p, f: f * p.close * p.scale, lambda p: p.high - p.low),
    "direction": Target(_direction, lambda _, f: f, lambda p: np.full(len(p.close), 0.5)),
    "log_range": Target(_log_range, _log_level, lambda p: np.log(p.log_range)),
    "realized_volatility": Target(_realized_volatility, _log_level, lambda p: np.log(_deviation(p))),
}
"""Target by name. With C, s of the forecasting row and ' for the next candle: close, open, high and
low are log(X' / C) / s; amplitude (H' - L') / (C s); direction 1 when C' > C, else 0; log_range
log(log(H' / L') / s); realized_volatility log(v' / s) with the Garman-Klass (1980) deviation v'.
Levels are prices, price differences, probabilities and logarithms of log(H' / L') and v'."""


def target_frame(candles: pd.DataFrame, interval: str, targets: Iterable[str] = tuple(TARGETS)) -> pd.DataFrame:
    """Targets of every candle: what the NEXT candle does, in units of the scale known now.

    Parameters
    ----------
    candles
        Candle frame of n rows.
    interval
        Its interval.
    targets
        Names out of `TARGETS`.

    Returns
    -------
    DataFrame
        n rows aligned with `candles`. Null in the last row, across gaps, and while the scale
        warms up.

    Raises
    ------
    UsageError
        If a target is unknown.
    """
    names = list(targets)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        msg = f"a target is one of {', '.join(TARGETS)}, unknown: {', '.join(unknown)}: name one of them"
        raise UsageError(msg)
    prepared = Prepared(candles, interval)
    return pd.DataFrame({name: TARGETS[name].scaled(prepared) for name in names})


def price_of(last_close: ArrayLike, scaled: ArrayLike, scale: ArrayLike) -> Array:
    """Price of a scaled move: last close · exp(f · s).

    Examples
    --------
    >>> float(price_of(100.0, 0.0, 0.001))
    100.0
    """
    return np.asarray(last_close) * np.exp(np.asarray(scaled) * np.asarray(scale))


class NextCandle(NamedTuple):
    """Forecast prices of one candle (or arrays of them), consistent with each other."""

    open: Array
    high: Array
    low: Array
    close: Array
    amp: Array


def prices(last_close: ArrayLike, close: ArrayLike, high: ArrayLike, low: ArrayLike, scale: ArrayLike) -> NextCandle:
    """Prices of the next candle from scaled forecasts of its close, high and low.

    The open is the last close: the market is continuous, and persistence is its best forecast.
    The high is at least open and close, the low at most, and amp is their difference.

    Examples
    --------
    >>> candle = prices(100.0, 0.5, 0.2, -0.4, 0.01)
    >>> [round(float(price), 3) for price in candle]
    [100.0, 100.501, 99.601, 100.501, 0.9]
    """
    first = np.asarray(last_close, dtype="float64")
    last = price_of(last_close, close, scale)
    top = np.maximum(np.maximum(first, last), price_of(last_close, high, scale))
    bottom = np.minimum(np.minimum(first, last), price_of(last_close, low, scale))
    return NextCandle(first, top, bottom, last, top - bottom)
