"""How bold to be: the factor on a model's forecasts, learned from its earlier out-of-sample ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["GRID", "LEAST_DAYS", "WINDOW_DAYS", "newest_multiplier", "trailing_multiplier"]

GRID = np.round(np.arange(0.4, 2.01, 0.1), 1)
"""Factors that are tried."""

WINDOW_DAYS = 90
"""Days of earlier forecasts that are looked at."""

LEAST_DAYS = 30
"""Days before the prior gives way."""


def _daily_errors(
    scaled: Array, outcome: Array, scale: Array, day: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array]:
    """Sums of absolute errors by day and factor, shape (days, factors)."""
    days, position = np.unique(day, return_inverse=True)
    sums = np.empty((len(days), len(GRID)))
    for column, factor in enumerate(GRID):
        error = np.abs(outcome - factor * scaled) * scale
        sums[:, column] = np.bincount(position, np.nan_to_num(error), len(days))
    return days, sums


def trailing_multiplier(
    scaled: Array, outcome: Array, scale: Array, day: NDArray[np.int64], prior: float
) -> Array:
    """Best factor of the last `WINDOW_DAYS` days BEFORE each row's day, by absolute error.

    Parameters
    ----------
    scaled, outcome
        Forecasts and outcomes in units of the scale, shape (n,), in order of time; NaN is no
        forecast.
    scale
        The scale: errors count in log returns.
    day
        Day number of each forecast candle. Every outcome of an earlier day is known when a day's
        first forecast is made, so nothing of the present day is used.
    prior
        Factor until `LEAST_DAYS` days are there.

    Returns
    -------
    ndarray
        Shape (n,).
    """
    days, sums = _daily_errors(scaled, outcome, scale, day)
    total = np.vstack([np.zeros(len(GRID)), np.cumsum(sums, axis=0)])
    first = np.searchsorted(days, days - WINDOW_DAYS)
    window = total[np.arange(len(days))] - total[first]
    enough = np.arange(len(days)) - first >= LEAST_DAYS
    best = np.where(enough, GRID[np.argmin(window, axis=1)], prior)
    return best[np.searchsorted(days, day)]


def newest_multiplier(
    scaled: Array, outcome: Array, scale: Array, day: NDArray[np.int64], prior: float
) -> float:
    """Factor for the day after the last: what `trailing_multiplier` would use next."""
    following = np.append(day, day[-1] + 1) if len(day) else np.array([0])
    padded = (np.append(values, np.nan) for values in (scaled, outcome, scale))
    return float(trailing_multiplier(*padded, following, prior)[-1])
