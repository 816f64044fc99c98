"""Are the signs right more often than by luck: Wilson's interval and Pesaran-Timmermann."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from btcml.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["DirectionTest", "pesaran_timmermann", "wilson_interval"]


@dataclass(frozen=True)
class DirectionTest:
    """Outcome of Pesaran and Timmermann's test.

    Attributes
    ----------
    statistic
        Standard normal without skill, positive with it; NaN where it is not defined.
    p
        One-sided p-value of "the signs are independent"; 1 where it is not defined.
    hits
        Share of right signs.
    expected
        Share of right signs of an independent forecast with the same share of ups.
    observations
        Rows in which both forecast and outcome moved.
    """

    statistic: float
    p: float
    hits: float
    expected: float
    observations: int


def wilson_interval(hits: int, observations: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's (1927) score interval of a proportion.

    Returns
    -------
    tuple of float
        Lower and upper end; NaN without observations.

    Raises
    ------
    UsageError
        If `hits` lies outside 0 to `observations` or `level` outside 0 to 1.

    Examples
    --------
    >>> low, high = wilson_interval(81, 263)
    >>> round(low, 4), round(high, 4)
    (0.2553, 0.3662)
    """
    if not 0 <= hits <= observations or not 0 < level < 1:
        msg = f"hits must lie in 0..observations and level in 0..1, found {hits} of {observations} at {level}"
        raise UsageError(msg)
    if not observations:
        return math.nan, math.nan
    z = float(stats.norm.isf((1 - level) / 2))
    share, weight = hits / observations, z**2 / observations
    centre = share + weight / 2
    spread = z * math.sqrt(share * (1 - share) / observations + weight / (4 * observations))
    # The ends of none and all are 0 and 1, which rounding misses by a bit.
    low = 0.0 if hits == 0 else (centre - spread) / (1 + weight)
    high = 1.0 if hits == observations else (centre + spread) / (1 + weight)
    return low, high


def pesaran_timmermann(move: ArrayLike, forecast: ArrayLike) -> DirectionTest:
    """Pesaran-Timmermann (1992) test that forecast signs and outcome signs are independent.

    Parameters
    ----------
    move, forecast
        Outcome and forecast moves of shape (n,), any unit; rows in which either is 0 or NaN have
        no direction and are left out.

    Returns
    -------
    DirectionTest
        Not defined (NaN, p = 1) where all forecasts or all outcomes have one sign.

    Raises
    ------
    UsageError
        If the lengths differ.
    """
    actual, said = np.sign(np.asarray(move, dtype=float)), np.sign(np.asarray(forecast, dtype=float))
    if actual.shape != said.shape:
        msg = f"two series of one length are needed, found shapes {actual.shape} and {said.shape}"
        raise UsageError(msg)
    moved = np.isfinite(actual) & np.isfinite(said) & (actual != 0) & (said != 0)
    n = int(moved.sum())
    if not n:
        return DirectionTest(math.nan, 1.0, math.nan, math.nan, 0)
    up, said_up = float((actual[moved] > 0).mean()), float((said[moved] > 0).mean())
    hits = float((actual[moved] == said[moved]).mean())
    expected = up * said_up + (1 - up) * (1 - said_up)
    spread_up, spread_said = up * (1 - up), said_up * (1 - said_up)
    variance = expected * (1 - expected) / n
    variance_expected = ((2 * up - 1) ** 2 * spread_said + (2 * said_up - 1) ** 2 * spread_up) / n
    variance_expected += 4 * spread_up * spread_said / n**2
    if not spread_up * spread_said or variance <= variance_expected:
        return DirectionTest(math.nan, 1.0, hits, expected, n)
    statistic = (hits - expected) / math.sqrt(variance - variance_expected)
    return DirectionTest(statistic, float(stats.norm.sf(statistic)), hits, expected, n)
