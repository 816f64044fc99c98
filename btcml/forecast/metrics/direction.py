"""How often, and for how much, the sign of the forecast is right.

Rows in which the forecast or the candle does not move have no direction and are left out, so
persistence, which never says a direction, scores NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.inference import DirectionTest, pesaran_timmermann, wilson_interval
from btcml.forecast.metrics.losses import BP, moves
from btcml.forecast.metrics.registry import metric

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "direction",
    "direction_high",
    "direction_low",
    "pt_p",
    "pt_z",
    "top_direction",
    "top_gain_bp",
    "wda",
]

_TOP = 0.1


def _moved(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    actual, forecast = moves(forecasts)
    moved = (actual != 0) & (forecast != 0)
    return actual[moved], forecast[moved]


def _top(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    actual, forecast = _moved(forecasts)
    size = np.abs(forecast)
    top = size >= np.quantile(size, 1 - _TOP) if len(size) else size > 0
    return actual[top], forecast[top]


def _right(actual: Floats, forecast: Floats) -> float:
    return float((np.sign(actual) == np.sign(forecast)).mean()) if len(actual) else math.nan


def _wilson(forecasts: pd.DataFrame) -> tuple[float, float]:
    actual, forecast = _moved(forecasts)
    return wilson_interval(int((np.sign(actual) == np.sign(forecast)).sum()), len(actual))


@metric("direction", "Right signs", "share", "more")
def direction(forecasts: pd.DataFrame) -> float:
    """Share of right signs among rows in which forecast and candle moved."""
    return _right(*_moved(forecasts))


@metric("direction", "Right signs, 95 % from", "share", "more")
def direction_low(forecasts: pd.DataFrame) -> float:
    """Lower end of Wilson's 95 % interval of `direction`."""
    return _wilson(forecasts)[0]


@metric("direction", "Right signs, 95 % to", "share", "more")
def direction_high(forecasts: pd.DataFrame) -> float:
    """Upper end of Wilson's 95 % interval of `direction`."""
    return _wilson(forecasts)[1]


@metric("direction", "Right signs by size of move", "share", "more")
def wda(forecasts: pd.DataFrame) -> float:
    """Weighted direction accuracy: share of the summed absolute moves whose sign was right."""
    actual, forecast = _moved(forecasts)
    size = np.abs(actual)
    return float(size[np.sign(actual) == np.sign(forecast)].sum() / size.sum()) if len(size) else math.nan


@metric("direction", "Right signs, top decile", "share", "more")
def top_direction(forecasts: pd.DataFrame) -> float:
    """Share of right signs among the tenth of rows with the largest forecast moves."""
    return _right(*_top(forecasts))


@metric("direction", "Gross gain a trade, top decile", "bp", "more")
def top_gain_bp(forecasts: pd.DataFrame) -> float:
    """Mean move in the direction of the forecast, in bp, before costs, in that tenth."""
    actual, forecast = _top(forecasts)
    return float((BP * np.sign(forecast) * actual).mean()) if len(actual) else math.nan


def _independence(forecasts: pd.DataFrame) -> DirectionTest:
    return pesaran_timmermann(*moves(forecasts))


@metric("direction", "Pesaran-Timmermann z", "z", "more")
def pt_z(forecasts: pd.DataFrame) -> float:
    """Pesaran and Timmermann's statistic; NaN where all forecasts have one sign."""
    return _independence(forecasts).statistic


@metric("direction", "Pesaran-Timmermann p", "p", "less")
def pt_p(forecasts: pd.DataFrame) -> float:
    """One-sided p that forecast signs say nothing; 1 where the test is not defined."""
    return _independence(forecasts).p
