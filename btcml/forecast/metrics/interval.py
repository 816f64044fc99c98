"""Interval metrics: coverage of the whole span and of its parts, width and scores.

The nominal level is the frame's column ``level``; without one it is 90 %, at which btcml publishes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.metrics.table import BP, GROUPS, THIRDS, known, metric

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


_MISSES = 1 - 1e-9  # expected in a usual day or month; with fewer its lowest coverage would say nothing

LEVEL = 0.9
"""Nominal coverage of ``lo`` and ``hi`` in a forecast frame without a column ``level``."""


def _level(forecasts: pd.DataFrame) -> float:
    return float(forecasts["level"].iloc[0]) if "level" in forecasts and len(forecasts) else LEVEL


def _inside(forecasts: pd.DataFrame) -> pd.Series:
    rows = forecasts[["y", "lo", "hi"]].dropna()
    return rows["y"].between(rows["lo"], rows["hi"])


def _third(forecasts: pd.DataFrame, name: str) -> float:
    inside = _inside(forecasts)
    return _mean_of(inside[GROUPS["third"](forecasts)[inside.index] == name])


def _mean_of(inside: pd.Series) -> float:
    return float(inside.mean()) if len(inside) else math.nan


def worst_share(inside: pd.Series, labels: pd.Series, level: float) -> float:
    """Lowest coverage of a group with at least half the usual rows; NaN where the usual group should have no miss.

    Parameters
    ----------
    inside
        Whether each outcome lies in its interval.
    labels
        Group of each row.
    level
        Nominal coverage.
    """
    groups = inside.groupby(labels[inside.index])
    shares, rows = groups.mean(), groups.size()
    misses = len(rows) and (1 - level) * rows.median() >= _MISSES
    return float(shares[rows >= rows.median() / 2].min()) if misses else math.nan


def _worst(forecasts: pd.DataFrame, labels: pd.Series) -> float:
    return worst_share(_inside(forecasts), labels, _level(forecasts))


@metric("interval", "Coverage of 90 %", "share", "level")
def coverage(forecasts: pd.DataFrame) -> float:
    """Share of outcomes inside the interval, ends included."""
    return _mean_of(_inside(forecasts))


@metric("interval", "Coverage, calm third", "share", "level")
def coverage_calm(forecasts: pd.DataFrame) -> float:
    """Coverage in the calm volatility third."""
    return _third(forecasts, THIRDS[0])


@metric("interval", "Coverage, middle third", "share", "level")
def coverage_middle(forecasts: pd.DataFrame) -> float:
    """Coverage in the middle volatility third."""
    return _third(forecasts, THIRDS[1])


@metric("interval", "Coverage, stormy third", "share", "level")
def coverage_storm(forecasts: pd.DataFrame) -> float:
    """Coverage in the stormy volatility third."""
    return _third(forecasts, THIRDS[2])


@metric("interval", "Coverage, worst month", "share", "more")
def coverage_worst_month(forecasts: pd.DataFrame) -> float:
    """Lowest coverage of a month (UTC) with at least half the usual rows; NaN where it should hold them all."""
    return _worst(forecasts, GROUPS["month"](forecasts))


@metric("interval", "Coverage, worst day", "share", "more")
def coverage_worst_day(forecasts: pd.DataFrame) -> float:
    """Lowest coverage of a day (UTC) with at least half the usual rows; NaN where it should hold them all."""
    return _worst(forecasts, forecasts["open_time"].dt.floor("D"))


def _ends(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    # Distances of the outcome above the lower and below the upper end, in bp of log return.
    y, lo, hi = known(forecasts, "y", "lo", "hi")
    return BP * np.log(y / lo), BP * np.log(hi / y)


@metric("interval", "Width", "bp", "less")
def width_bp(forecasts: pd.DataFrame) -> float:
    """Mean width of the interval."""
    above, below = _ends(forecasts)
    return float((above + below).mean()) if len(above) else math.nan


@metric("interval", "Winkler score", "bp", "less")
def winkler_bp(forecasts: pd.DataFrame) -> float:
    """Mean width plus 2 / (1 - level) times the distance of outcomes outside (Winkler 1972)."""
    above, below = _ends(forecasts)
    missed = np.maximum(-above, 0) + np.maximum(-below, 0)
    return float((above + below + 2 / (1 - _level(forecasts)) * missed).mean()) if len(above) else math.nan


@metric("interval", "Pinball loss", "bp", "less")
def pinball_bp(forecasts: pd.DataFrame) -> float:
    """Mean pinball loss of both ends as quantiles (Koenker & Bassett 1978)."""
    above, below = _ends(forecasts)
    tail = (1 - _level(forecasts)) / 2
    lower = np.maximum(tail * above, (tail - 1) * above)
    upper = np.maximum((tail - 1) * below, tail * below)
    return float((lower + upper).mean() / 2) if len(above) else math.nan
