"""Statistical tests and intervals: is one forecast better than another, and could it be luck.

Diebold-Mariano and Clark-West with HAC variances, Holm for many models, Wilson and
Pesaran-Timmermann for directions, Sharpe ratios deflated by the number of trials, a block bootstrap
of the skill, Hansen's SPA and the model confidence set. `arch` and statsmodels are imported where they
are used: loading them takes a second, which a service that only forecasts should not pay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from btcml.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


NORMAL_95 = 1.96
"""Standard errors on either side of a mean that hold 95 % of a normal distribution."""

_MIN = 2


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
    from arch.covariance.kernel import Bartlett  # noqa: PLC0415

    series = np.asarray(values, dtype=float)
    return float(np.asarray(Bartlett(series, bandwidth=lags, force_int=True).cov.long_run).item())


def _lags(n: int, horizon: int) -> int:
    return max(newey_west_lags(n), min(2 * (horizon - 1), n - 1))


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
        ``2 (horizon - 1)``: with ``horizon - 1`` Bartlett's weights would leave out a third of the
        variance of outcomes that overlap.

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
    chosen = _lags(n, horizon) if lags is None else lags
    if not difference.any():
        return Comparison(0.0, 1.0, 1.0, chosen, n)
    factor = math.sqrt(max(n + 1 - 2 * horizon + horizon * (horizon - 1) / n, 0.0) / n)
    return _judge(difference, chosen, factor, better=-1)


def clark_west(y: ArrayLike, benchmark: ArrayLike, forecast: ArrayLike, *, horizon: int = 1) -> Comparison:
    """Clark-West test of a forecast whose model contains the benchmark's.

    Squared errors of the larger model are adjusted for the noise that its superfluous parameters add: f = (y - b)²
    - ((y - f)² - (b - f)²), tested for a positive mean with a HAC variance against the normal distribution (Clark
    & West 2007).

    Parameters
    ----------
    y, benchmark, forecast
        Outcomes and the two forecasts, shape (n,), in the unit in which squares are meant (log
        returns, with 0 as the benchmark, for persistence); a row with a NaN is left out.
    horizon
        Steps ahead of the forecast, for the lags as in `diebold_mariano`.

    Returns
    -------
    Comparison
        Positive statistic: the larger model is better. Equal forecasts give 0 and p = 1.

    Raises
    ------
    UsageError
        If the lengths differ or fewer than two rows are left.
    """
    outcome, small, large = _known(y, benchmark, forecast)
    adjusted = (outcome - small) ** 2 - ((outcome - large) ** 2 - (small - large) ** 2)
    n = len(adjusted)
    lags = _lags(n, horizon)
    if not adjusted.any():
        return Comparison(0.0, 1.0, 1.0, lags, n)
    return _judge(adjusted, lags, 1.0, better=1, normal=True)


def holm(p_values: pd.Series, looks: int = 1) -> pd.Series:
    """Holm's (1979) adjusted p-values of a family, with looks at the data counted.

    Parameters
    ----------
    p_values
        One p-value per hypothesis; NaN counts as 1.
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
    p = p_values.fillna(1.0).to_numpy(dtype=float)
    order = np.argsort(p)
    adjusted = np.empty(len(p))  # not statsmodels' multipletests: its gc.collect() takes up to half a second
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return pd.Series(np.minimum(adjusted * looks, 1.0), p_values.index)


def _known(*series: ArrayLike) -> list[Floats]:
    arrays = [np.asarray(values, dtype=float) for values in series]
    shapes = [values.shape for values in arrays]
    if arrays[0].ndim != 1 or len(set(shapes)) > 1:
        msg = f"series of one length are needed, found shapes {', '.join(map(str, shapes))}"
        raise UsageError(msg)
    known = ~np.isnan(arrays).any(axis=0)
    if known.sum() < _MIN:
        msg = f"a comparison needs at least {_MIN} rows without NaN, found {known.sum()}"
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
    from statsmodels.stats.proportion import proportion_confint  # noqa: PLC0415

    low, high = proportion_confint(hits, observations, alpha=1 - level, method="wilson")
    return float(low), float(high)


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


def sharpe_ratio(returns: ArrayLike) -> float:
    """Mean over standard deviation (ddof 1) of returns, per period, not annualised.

    Returns
    -------
    float
        NaN for fewer than two returns or returns that never vary.
    """
    values = np.asarray(returns, dtype=float)
    if len(values) < _MIN or np.ptp(values) == 0:
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
    """Probability that a strategy has skill, given that it is the best of `trials`.

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


def skill_interval(
    loss: ArrayLike, benchmark: ArrayLike, *, level: float = 0.95, reps: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Block-bootstrap interval of the skill 1 - mean(loss) / mean(benchmark).

    Parameters
    ----------
    loss, benchmark
        Losses on the same rows in order of time, shape (n,), without NaN.
    level
        Confidence of the percentile interval.
    reps, seed
        Number of replications, and the seed of their draws.

    Returns
    -------
    tuple of float
        Lower and upper end; NaN where the benchmark has no loss at all.

    Notes
    -----
    Blocks of about sqrt(n) consecutive rows are drawn whole (Carlstein 1986), so dependence
    within hours (5m candles: two days) survives; the remainder of the rows joins the last block.
    A block drawn k times is a block weighed k times: one matrix product makes all replications.
    """
    ours, theirs = np.asarray(loss, dtype=float), np.asarray(benchmark, dtype=float)
    if not theirs.sum() > 0:
        return math.nan, math.nan
    blocks = math.isqrt(len(theirs))
    starts = np.arange(blocks) * blocks
    sums = np.column_stack([np.add.reduceat(ours, starts), np.add.reduceat(theirs, starts)])
    weights = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=reps)
    drawn = weights @ sums
    low, high = np.quantile(1 - drawn[:, 0] / drawn[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


_MAX_ROWS = 4000
_BLOCK_EXPONENT = 1 / 3


@dataclass(frozen=True)
class SuperiorAbility:
    """Hansen's (2005) test that no model beats the benchmark.

    Attributes
    ----------
    p_lower, p_consistent, p_upper
        P-values of the liberal, consistent and conservative recentring; the consistent one leads.
    models
        Number of models compared with the benchmark.
    """

    p_lower: float
    p_consistent: float
    p_upper: float
    models: int


def superior_predictive_ability(
    losses: pd.DataFrame, benchmark: str = "persistence", *, reps: int = 1000, seed: int = 0
) -> SuperiorAbility:
    """Hansen's SPA test by `arch`: is the best of all models better than the benchmark beyond chance.

    Parameters
    ----------
    losses
        One row per candle in order of time, one column per model, without NaN.
    benchmark
        Column that the others must beat.
    reps, seed
        Replications of the stationary bootstrap, and its seed.

    Returns
    -------
    SuperiorAbility
        p = 1 where no column differs from the benchmark.

    Raises
    ------
    UsageError
        If the benchmark is no column.

    Notes
    -----
    More than 4,000 rows are averaged over spans of equal length first: means and long-run
    variances stay, and the bootstrap of a quarter of a million candles takes a second.
    """
    table = _thin(losses)
    if benchmark not in table:
        msg = f"the benchmark {benchmark!r} is not among the models {', '.join(map(str, table))}"
        raise UsageError(msg)
    reference = table[benchmark].to_numpy()
    models = table.drop(columns=benchmark).to_numpy()
    models = models[:, (models != reference[:, None]).any(axis=0)]
    if not models.shape[1]:
        return SuperiorAbility(1.0, 1.0, 1.0, 0)
    from arch.bootstrap import SPA  # noqa: PLC0415

    test = SPA(reference, models, block_size=_block(len(table)), reps=reps, seed=seed)
    test.compute()
    p = test.pvalues
    return SuperiorAbility(float(p["lower"]), float(p["consistent"]), float(p["upper"]), models.shape[1])


def model_confidence_set(losses: pd.DataFrame, *, size: float = 0.1, reps: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Models that are not significantly worse than the best one: Hansen, Lunde & Nason (2011), by `arch`.

    Parameters
    ----------
    losses
        One row per candle in order of time, one column per model, without NaN; thinned as in
        `superior_predictive_ability`.
    size
        Size of the test: the set holds the best model with probability 1 - size.
    reps, seed
        Replications of the stationary bootstrap, and its seed.

    Returns
    -------
    DataFrame
        Columns ``model``, ``p``, ``included``, best p first.
    """
    table = _thin(losses)
    # Of identical columns only one is tested: their differences have no variance.
    twins = table.T.duplicated()
    distinct = table.loc[:, ~twins]
    p = pd.Series(1.0, distinct.columns)
    if distinct.shape[1] > 1:
        from arch.bootstrap import MCS  # noqa: PLC0415

        test = MCS(distinct, size=size, reps=reps, block_size=_block(len(table)), seed=seed)
        test.compute()
        p = test.pvalues["Pvalue"].astype(float)
    for twin in table.columns[twins].astype(str):
        original = (distinct.to_numpy() == table[[twin]].to_numpy()).all(axis=0)
        p[twin] = float(p[distinct.columns[original]].iloc[0])
    result = p.rename("p").rename_axis("model").reset_index()
    result["included"] = result["p"] > size
    return result.sort_values(["p", "model"], ascending=[False, True], ignore_index=True)


def _thin(losses: pd.DataFrame) -> pd.DataFrame:
    span = math.ceil(len(losses) / _MAX_ROWS)
    if span == 1:
        return losses.reset_index(drop=True)
    whole = losses.iloc[len(losses) % span :]
    return whole.groupby(np.arange(len(whole)) // span).mean()


def _block(rows: int) -> int:
    return max(2, math.ceil(math.pow(rows, _BLOCK_EXPONENT)))
