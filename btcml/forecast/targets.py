"""Targets: what the next candles do, scaled by volatility, and the way back to prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.features import RANGE_FLOOR, Prepared
from btcml.forecast.features.windows import rolling_max, rolling_min, rolling_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def next_value(values: Array, age: NDArray[np.int64], horizon: int = 1) -> Array:
    """Values `horizon` candles later; NaN in the last rows and where a gap follows before.

    Examples
    --------
    >>> next_value(np.array([1.0, 2.0, 3.0]), np.array([0, 1, 0]))
    array([ 2., nan, nan])
    """
    out = np.full(len(values), np.nan)
    joined = age[horizon:] >= horizon
    out[: len(joined)][joined] = values[horizon:][joined]
    return out


def horizon_scale(prepared: Prepared, horizon: int) -> Array:
    """Scale of a move over `horizon` candles: s times the square root of the horizon."""
    return prepared.scale * np.sqrt(horizon)


def _move(p: Prepared, column: Array, horizon: int) -> Array:
    return (np.log(next_value(column, p.age, horizon)) - p.log_close) / horizon_scale(p, horizon)


def _height(p: Prepared, horizon: int) -> Array:
    """High minus low of the last `horizon` candles together."""
    return rolling_max(p.high, horizon) - rolling_min(p.low, horizon)


def _amplitude(p: Prepared, horizon: int) -> Array:
    return next_value(_height(p, horizon), p.age, horizon) / (p.close * horizon_scale(p, horizon))


def _direction(p: Prepared, horizon: int) -> Array:
    following = next_value(p.close, p.age, horizon)
    return np.where(np.isnan(following + p.scale), np.nan, following > p.close)


def _range(p: Prepared, horizon: int) -> Array:
    """Log range of the last `horizon` candles together."""
    if horizon == 1:
        return p.log_range
    return np.maximum(np.log(rolling_max(p.high, horizon) / rolling_min(p.low, horizon)), RANGE_FLOOR)


def _deviation(p: Prepared, horizon: int) -> Array:
    """Deviation of the last `horizon` candles: Garman-Klass of one, the root of the summed squared returns of more."""
    if horizon == 1:
        body = np.log(p.close / p.open)
        variance = 0.5 * np.log(p.high / p.low) ** 2 - (2 * np.log(2) - 1) * body**2
    else:
        variance = rolling_sum(p.log_return**2, horizon)
    return np.sqrt(np.maximum(variance, RANGE_FLOOR**2))


def _log_ratio(p: Prepared, size: Array, horizon: int) -> Array:
    return np.log(next_value(size, p.age, horizon) / horizon_scale(p, horizon))


class Target(NamedTuple):
    """A target over a horizon: its scaled outcome, the way back to its level, and persistence's forecast of it."""

    scaled: Callable[[Prepared, int], Array]
    level: Callable[[Prepared, Array, int], Array]
    persistence: Callable[[Prepared, int], Array]


def _price(prepared: Prepared, scaled: Array, horizon: int) -> Array:
    return price_of(prepared.close, scaled, horizon_scale(prepared, horizon))


def _log_level(prepared: Prepared, scaled: Array, horizon: int) -> Array:
    return scaled + np.log(horizon_scale(prepared, horizon))


TARGETS: dict[str, Target] = {
    "close": Target(lambda p, h: _move(p, p.close, h), _price, lambda p, _: p.close),
    "open": Target(lambda p, h: _move(p, p.open, h), _price, lambda p, _: p.close),
    "high": Target(lambda p, h: _move(p, rolling_max(p.high, h), h), _price, lambda p, _: p.close * p.high / p.open),
    "low": Target(lambda p, h: _move(p, rolling_min(p.low, h), h), _price, lambda p, _: p.close * p.low / p.open),
    "amplitude": Target(_amplitude, lambda p, f, h: f * p.close * horizon_scale(p, h), _height),
    "direction": Target(_direction, lambda _, f, __: f, lambda p, _: np.full(len(p.close), 0.5)),
    "log_range": Target(lambda p, h: _log_ratio(p, _range(p, h), h), _log_level, lambda p, h: np.log(_range(p, h))),
    "realized_volatility": Target(
        lambda p, h: _log_ratio(p, _deviation(p, h), h), _log_level, lambda p, h: np.log(_deviation(p, h))
    ),
}
"""Target by name. With C and s of the forecasting row, h candles, S = s sqrt(h), O' and C' of the last of them and H'
and L' of all of them together: close, open, high and low are log(X' / C) / S; amplitude (H' - L') / (C S); direction 1
when C' > C, else 0; log_range log(log(H' / L') / S); realized_volatility log(v' / S) with the root v' of the summed
squared returns, of one candle the Garman-Klass (1980) deviation. Levels are prices, price differences, probabilities
and logarithms of log(H' / L') and v'. Persistence of a size is that of the last h candles."""


def target_frame(
    candles: pd.DataFrame, interval: str, targets: Iterable[str] = tuple(TARGETS), horizon: int = 1
) -> pd.DataFrame:
    """Targets of every candle: what the NEXT candles do, in units of the scale known now.

    Parameters
    ----------
    candles
        Candle frame of n rows.
    interval
        Its interval.
    targets
        Names out of `TARGETS`.
    horizon
        Candles ahead.

    Returns
    -------
    DataFrame
        n rows aligned with `candles`. Null in the last `horizon` rows, across gaps, and while the
        scale warms up.

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
    return pd.DataFrame({name: TARGETS[name].scaled(prepared, horizon) for name in names})


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
