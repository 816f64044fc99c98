"""Calibration: factors of forecasts and log-odds, learned from earlier out-of-sample forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Days = NDArray[np.int64]


GRID = np.round(np.arange(0.4, 2.01, 0.1), 1)
"""Candidate factors."""

WINDOW_DAYS = 60
"""Days of earlier forecasts that are used."""

CAUTION = 0.9
"""Multiplier of the best past factor of a move, which was partly luck: a smaller factor costs little, as the
loss is flat there, and makes the gain more certain."""

UNSEEN = 0.7
"""Factor of a model that is fitted on other coins alone: chosen on four coins left out, in 2021 and 2022."""

MIN_DAYS = 30
"""Days of forecasts below which the prior is used."""


def return_losses(scaled: Array, outcome: Array, scale: Array) -> Array:
    """Absolute errors in log return for each factor of `GRID`, shape (n, factors); NaN counts 0."""
    errors = [np.abs(outcome - factor * scaled) * scale for factor in GRID]
    return np.nan_to_num(np.column_stack(errors))


def calibrated(probability: Array, factor: Array | float) -> Array:
    """Probabilities with their log-odds multiplied.

    Examples
    --------
    >>> calibrated(np.array([0.5, 0.8]), 1.0)
    array([0.5, 0.8])
    """
    with np.errstate(divide="ignore"):
        return 1 / (1 + ((1 - probability) / probability) ** factor)


def probability_losses(probability: Array, up: Array) -> Array:
    """Squared errors (Brier) for each factor of `GRID` on the log-odds, shape (n, factors)."""
    errors = [(up - calibrated(probability, factor)) ** 2 for factor in GRID]
    return np.nan_to_num(np.column_stack(errors))


def trailing_factor(losses: Array, day: Days, prior: float, caution: float = 1.0, made: Days | None = None) -> Array:
    """Best factor of the last `WINDOW_DAYS` days BEFORE each row's day.

    Parameters
    ----------
    losses
        Loss of each row under each factor of `GRID`, shape (n, factors).
    day
        Day number of each forecast candle, ascending.
    prior
        Factor until there are `MIN_DAYS` days of forecasts.
    caution
        What the best factor is multiplied by.
    made
        Day number on which each forecast is made, where it is not that of its candle. Every outcome of an
        earlier day is known when a day's first forecast is made; nothing of the present day is used.

    Returns
    -------
    ndarray
        Shape (n,).
    """
    days, position = np.unique(day, return_inverse=True)
    sums = np.column_stack([np.bincount(position, column, len(days)) for column in losses.T])
    total = np.vstack([np.zeros(len(GRID)), np.cumsum(sums, axis=0)])
    makers, position = np.unique(day if made is None else made, return_inverse=True)
    first, end = np.searchsorted(days, makers - WINDOW_DAYS), np.searchsorted(days, makers)
    best = np.where(end - first >= MIN_DAYS, caution * GRID[np.argmin(total[end] - total[first], axis=1)], prior)
    return best[position]


def newest_factor(losses: Array, day: Days, prior: float, caution: float = 1.0) -> float:
    """Factor for the day after the last: what `trailing_factor` would use next."""
    if not len(day):
        return prior
    padded = np.vstack([losses, np.zeros(len(GRID))])
    return float(trailing_factor(padded, np.append(day, day[-1] + 1), prior, caution)[-1])
