"""Sharpe ratios that remember how many strategies were tried (Bailey & López de Prado 2014)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from btcml.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["deflated_sharpe", "expected_maximum_sharpe", "probabilistic_sharpe", "sharpe_ratio"]

_FEWEST = 2


def sharpe_ratio(returns: ArrayLike) -> float:
    """Mean over standard deviation (ddof 1) of returns, per period, not annualised.

    Returns
    -------
    float
        NaN for fewer than two returns or returns that never vary.
    """
    values = np.asarray(returns, dtype=float)
    if len(values) < _FEWEST or np.ptp(values) == 0:
        return math.nan
    return float(values.mean() / values.std(ddof=1))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Sharpe ratio that the best of `trials` strategies without skill is expected to show.

    sqrt(V) ((1 - g) z(1 - 1 / N) + g z(1 - 1 / (N e))), g the Euler-Mascheroni constant and z the
    normal quantile; 0 for a single trial.

    Parameters
    ----------
    trials
        Number N of independent strategies tried.
    variance
        Variance V of their Sharpe ratios, per period.

    Raises
    ------
    UsageError
        If there is no trial.

    Examples
    --------
    The example of Bailey & López de Prado (2014): 100 trials, annual variance 1/2, 250 days.

    >>> round(expected_maximum_sharpe(100, 0.5 / 250), 4)
    0.1132
    """
    if trials < 1:
        msg = f"trials must be at least 1, found {trials}: the strategy itself is one"
        raise UsageError(msg)
    if trials == 1:
        return 0.0
    first, second = (float(stats.norm.isf(tail / trials)) for tail in (1, 1 / math.e))
    return math.sqrt(variance) * ((1 - np.euler_gamma) * first + np.euler_gamma * second)


def probabilistic_sharpe(
    sharpe: float, observations: int, *, threshold: float = 0.0, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Probability that the true Sharpe ratio exceeds a threshold (Bailey & López de Prado 2012).

    Parameters
    ----------
    sharpe, threshold
        Per period.
    observations
        Number of returns.
    skew, kurtosis
        Moments of the returns; a normal distribution has 0 and 3.

    Examples
    --------
    The paper's strategy of annual Sharpe ratio 2.5 in 1,250 days, found in 100 trials:

    >>> threshold = expected_maximum_sharpe(100, 0.5 / 250)
    >>> round(probabilistic_sharpe(2.5 / 250**0.5, 1250, threshold=threshold, skew=-3, kurtosis=10), 4)
    0.9004
    """
    spread = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if math.isnan(sharpe) or spread <= 0:
        return math.nan
    return float(stats.norm.cdf((sharpe - threshold) * math.sqrt(observations - 1) / math.sqrt(spread)))


def deflated_sharpe(returns: ArrayLike, trials: int, variance: float | None = None) -> float:
    """Probability that a strategy has skill, though it is the best of `trials`.

    Parameters
    ----------
    returns
        Returns per period of shape (n,).
    trials
        Number of independent strategies tried, this one included.
    variance
        Variance of the trials' Sharpe ratios per period; unknown, it is taken as that of
        strategies without skill, 1 / (n - 1).

    Returns
    -------
    float
        NaN for fewer than two returns or returns that never vary.

    Raises
    ------
    UsageError
        If there is no trial.
    """
    values = np.asarray(returns, dtype=float)
    sharpe = sharpe_ratio(values)
    if math.isnan(sharpe):
        return math.nan
    n = len(values)
    return probabilistic_sharpe(
        sharpe,
        n,
        threshold=expected_maximum_sharpe(trials, 1 / (n - 1) if variance is None else variance),
        skew=float(stats.skew(values)),
        kurtosis=float(stats.kurtosis(values, fisher=False)),
    )
