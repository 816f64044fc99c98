"""Is one forecast better than another: Diebold-Mariano, Clark-West where models nest, Holm for many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import fft, stats

from btcml.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Comparison", "clark_west", "diebold_mariano", "holm", "long_run_variance", "newey_west_lags"]

_FEWEST = 2


@dataclass(frozen=True)
class Comparison:
    """Outcome of a test that a forecast is as good as another.

    Attributes
    ----------
    statistic
        Negative where the first forecast is better (Clark-West: positive).
    p_better
        One-sided p-value of "the first is not better".
    p_two_sided
        Two-sided p-value of "they are equally good".
    lags
        Lags of the HAC variance.
    observations
        Number of rows compared.
    """

    statistic: float
    p_better: float
    p_two_sided: float
    lags: int
    observations: int


def newey_west_lags(observations: int) -> int:
    """Lags of the HAC variance: floor(4 (n / 100) ** (2 / 9)), Newey & West (1994).

    Examples
    --------
    >>> newey_west_lags(100), newey_west_lags(262_621)
    (4, 23)
    """
    return min(int(4 * (observations / 100) ** (2 / 9)), max(observations - 1, 0))


def long_run_variance(values: ArrayLike, lags: int) -> float:
    """Newey-West (1987) long-run variance with Bartlett weights 1 - j / (lags + 1).

    Parameters
    ----------
    values
        Array of shape (n,) without NaN; the mean is taken off, autocovariances divide by n.
    lags
        Number of lags; 0 gives the plain variance.
    """
    centred = np.asarray(values, dtype=float)
    centred = centred - centred.mean()
    n = len(centred)
    # All autocovariances by one transform: twenty products of a quarter of a million rows are slow.
    size = fft.next_fast_len(n + lags, real=True)
    products = fft.irfft(np.abs(fft.rfft(centred, size)) ** 2, size)[: lags + 1]
    weights = 2 * (1 - np.arange(lags + 1) / (lags + 1))
    return float(products @ weights - products[0]) / n


def diebold_mariano(loss: ArrayLike, benchmark: ArrayLike, *, horizon: int = 1, lags: int | None = None) -> Comparison:
    """Diebold-Mariano test on two series of losses, with the correction of Harvey et al.

    The mean of ``loss - benchmark`` over its HAC standard error, times
    sqrt((n + 1 - 2 h + h (h - 1) / n) / n), against Student's t with n - 1 degrees of freedom
    (Diebold & Mariano 1995; Harvey, Leybourne & Newbold 1997).

    Parameters
    ----------
    loss, benchmark
        Losses (absolute or squared errors, …) of shape (n,) on the same rows; a row in which
        either is NaN is left out.
    horizon
        Steps ahead of the forecast.
    lags
        Lags of the HAC variance; the default is the larger of `newey_west_lags` and
        ``horizon - 1``.

    Returns
    -------
    Comparison
        Negative statistic: `loss` is smaller. Losses that are equal in every row give statistic
        0 and p = 1 on either side.

    Raises
    ------
    UsageError
        If the lengths differ or fewer than two rows are left.

    Examples
    --------
    >>> diebold_mariano([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).p_better
    1.0
    """
    ours, theirs = _known(loss, benchmark)
    difference = ours - theirs
    n = len(difference)
    chosen = max(newey_west_lags(n), horizon - 1) if lags is None else lags
    if not difference.any():
        return Comparison(0.0, 1.0, 1.0, chosen, n)
    factor = math.sqrt(max(n + 1 - 2 * horizon + horizon * (horizon - 1) / n, 0.0) / n)
    return _judge(difference, chosen, factor, better=-1)


def clark_west(y: ArrayLike, benchmark: ArrayLike, forecast: ArrayLike) -> Comparison:
    """Clark-West test of a forecast whose model contains the benchmark's.

    Squared errors of the larger model are relieved of the noise that its useless parameters
    add: f = (y - b)² - ((y - f)² - (b - f)²), tested for a positive mean with a HAC variance
    against the normal distribution (Clark & West 2007).

    Parameters
    ----------
    y, benchmark, forecast
        Outcomes and the two forecasts, shape (n,), in the unit in which squares are meant (log
        returns, with 0 as the benchmark, for persistence); a row with a NaN is left out.

    Returns
    -------
    Comparison
        Positive statistic: the larger model knows something. Equal forecasts give 0 and p = 1.

    Raises
    ------
    UsageError
        If the lengths differ or fewer than two rows are left.
    """
    outcome, small, large = _known(y, benchmark, forecast)
    adjusted = (outcome - small) ** 2 - ((outcome - large) ** 2 - (small - large) ** 2)
    n = len(adjusted)
    lags = newey_west_lags(n)
    if not adjusted.any():
        return Comparison(0.0, 1.0, 1.0, lags, n)
    return _judge(adjusted, lags, 1.0, better=1, normal=True)


def holm(p_values: pd.Series, looks: int = 1) -> pd.Series:
    """Holm's (1979) adjusted p-values of a family, with looks at the data counted.

    Parameters
    ----------
    p_values
        One p-value a hypothesis; NaN counts as 1.
    looks
        How often the family was tested on (parts of) these data; each adjusted p-value is
        multiplied by it (Bonferroni over looks).

    Returns
    -------
    Series
        On the index of `p_values`, at most 1.

    Raises
    ------
    UsageError
        If `looks` is below 1.

    Examples
    --------
    >>> holm(pd.Series({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})).round(2).to_dict()
    {'a': 0.03, 'b': 0.06, 'c': 0.06, 'd': 0.02}
    """
    if looks < 1:
        msg = f"looks must be at least 1, found {looks}"
        raise UsageError(msg)
    ordered = p_values.fillna(1.0).sort_values(kind="stable")
    steps = np.arange(len(ordered), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(ordered.to_numpy() * steps) * looks, 1.0)
    return pd.Series(adjusted, ordered.index).reindex(p_values.index)


def _known(*series: ArrayLike) -> list[Floats]:
    arrays = [np.asarray(values, dtype=float) for values in series]
    shapes = [values.shape for values in arrays]
    if arrays[0].ndim != 1 or len(set(shapes)) > 1:
        msg = f"series of one length are needed, found shapes {', '.join(map(str, shapes))}"
        raise UsageError(msg)
    known = ~np.isnan(arrays).any(axis=0)
    if known.sum() < _FEWEST:
        msg = f"a comparison needs at least {_FEWEST} rows without NaN, found {known.sum()}"
        raise UsageError(msg)
    return [values[known] for values in arrays]


def _judge(values: Floats, lags: int, factor: float, *, better: int, normal: bool = False) -> Comparison:
    n = len(values)
    error = math.sqrt(max(long_run_variance(values, lags), 0.0) / n)
    mean = float(values.mean())
    statistic = factor * mean / error if error > 0 else math.copysign(math.inf, mean)
    distribution = stats.norm if normal else stats.t(n - 1)
    return Comparison(
        statistic=statistic,
        p_better=float(distribution.sf(better * statistic)),
        p_two_sided=float(2 * distribution.sf(abs(statistic))),
        lags=lags,
        observations=n,
    )
