"""Diebold-Mariano, Clark-West and Holm equal independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests

from btcml.errors import UsageError
from btcml.forecast.statistics import (
    clark_west,
    diebold_mariano,
    holm,
    long_run_variance,
    newey_west_lags,
)


def losses(seed: int, n: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """Two series of autocorrelated losses."""
    noise = np.abs(np.random.default_rng(seed).normal(size=(2, n + 1)))
    ours, theirs = noise[:, 1:] + 0.7 * noise[:, :-1]
    return ours, theirs


@pytest.mark.parametrize("seed", range(5))
def test_diebold_mariano_equals_a_regression_on_a_constant_with_hac_errors(seed: int) -> None:
    """Statistic and p equal statsmodels' OLS with Newey-West errors, times Harvey's factor."""
    ours, theirs = losses(seed)
    n = len(ours)
    result = diebold_mariano(ours, theirs)
    peer = sm.OLS(ours - theirs, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": result.lags})
    statistic = float(peer.tvalues[0]) * math.sqrt((n - 1) / n)
    assert result.statistic == pytest.approx(statistic, rel=1e-10)
    assert result.p_better == pytest.approx(stats.t.cdf(statistic, n - 1), rel=1e-10)
    assert result.p_two_sided == pytest.approx(2 * stats.t.sf(abs(statistic), n - 1), rel=1e-10)


def test_without_lags_diebold_mariano_is_a_paired_t_test() -> None:
    """At one step and no lag, scipy's paired t test gives the same p and statistic."""
    ours, theirs = losses(3)
    result, peer = diebold_mariano(ours, theirs, lags=0), stats.ttest_rel(ours, theirs)
    assert result.statistic == pytest.approx(peer.statistic, rel=1e-10)
    assert result.p_two_sided == pytest.approx(peer.pvalue, rel=1e-10)


def test_harveys_factor_at_four_steps_is_its_formula() -> None:
    """The factor of horizon 4 over that of horizon 1 is sqrt((n - 7 + 12 / n) / (n - 1))."""
    ours, theirs = losses(4)
    n = len(ours)
    four, one = (diebold_mariano(ours, theirs, horizon=h, lags=9).statistic for h in (4, 1))
    assert four / one == pytest.approx(math.sqrt((n - 7 + 12 / n) / (n - 1)), rel=1e-12)


def test_persistence_against_itself_has_p_one() -> None:
    """Equal losses say nothing on either side."""
    ours, _ = losses(5)
    result = diebold_mariano(ours, ours)
    assert (result.statistic, result.p_better, result.p_two_sided) == (0.0, 1.0, 1.0)


def test_a_smaller_loss_in_every_row_is_better_with_certainty() -> None:
    """A constant advantage has no variance: the statistic is infinite and p is 0."""
    result = diebold_mariano(np.zeros(50), np.ones(50))
    assert (result.statistic, result.p_better) == (-math.inf, 0.0)


def test_rows_with_nan_are_left_out() -> None:
    """A NaN on either side removes the row from both."""
    ours, theirs = losses(6)
    holes = ours.copy()
    holes[::7] = np.nan
    kept = ~np.isnan(holes)
    assert diebold_mariano(holes, theirs) == diebold_mariano(ours[kept], theirs[kept])


def test_long_run_variance_equals_the_definition_written_as_loops() -> None:
    """Sum over all pairs of rows, weighted by Bartlett's triangle."""
    x = np.random.default_rng(1).normal(size=40)
    d = x - x.mean()
    slow = sum(d[i] * d[j] * max(0.0, 1 - abs(i - j) / 6) for i in range(len(d)) for j in range(len(d))) / len(d)
    assert long_run_variance(x, 5) == pytest.approx(slow, rel=1e-12)


def test_the_lag_rule_grows_slowly_and_never_exceeds_the_rows() -> None:
    """floor(4 (n / 100) ** (2 / 9)), at most n - 1."""
    assert [newey_west_lags(n) for n in (1, 2, 100, 1000, 100_000)] == [0, 1, 4, 6, 18]


def test_clark_west_equals_a_regression_on_a_constant_with_hac_errors() -> None:
    """The adjusted differential of the paper, tested by statsmodels."""
    rng = np.random.default_rng(7)
    y, forecast = rng.normal(size=500), 0.3 * rng.normal(size=500)
    adjusted = y**2 - ((y - forecast) ** 2 - forecast**2)
    result = clark_west(y, np.zeros(500), forecast)
    peer = sm.OLS(adjusted, np.ones(500)).fit(cov_type="HAC", cov_kwds={"maxlags": result.lags})
    assert result.statistic == pytest.approx(float(peer.tvalues[0]), rel=1e-10)
    assert result.p_better == pytest.approx(stats.norm.sf(peer.tvalues[0]), rel=1e-10)


def test_clark_west_sees_skill_that_noise_hides_from_diebold_mariano() -> None:
    """A true but noisy larger model loses by squares and is still found to know something."""
    rng = np.random.default_rng(8)
    signal = 0.1 * rng.normal(size=3000)
    y = signal + rng.normal(size=3000)
    forecast = signal + 0.15 * rng.normal(size=3000)
    assert diebold_mariano((y - forecast) ** 2, y**2).statistic > 0
    assert clark_west(y, np.zeros(3000), forecast).p_better < 0.01
    assert clark_west(y, np.zeros(3000), np.zeros(3000)).p_better == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_holm_equals_statsmodels(seed: int) -> None:
    """Adjusted p-values equal those of multipletests, in the order given."""
    p = pd.Series(np.random.default_rng(seed).uniform(0, 0.2, 12), list("abcdefghijkl"))
    expected = multipletests(p.to_numpy(), method="holm")[1]
    np.testing.assert_allclose(holm(p).to_numpy(), expected, rtol=1e-12)
    assert holm(p).index.equals(p.index)


def test_looks_multiply_and_nan_counts_as_one() -> None:
    """Three looks cost a factor of three, and an undefined test never wins."""
    assert holm(pd.Series({"a": 0.01, "b": np.nan}), looks=3).to_dict() == {"a": 0.06, "b": 1.0}


def test_bad_calls_are_refused() -> None:
    """Unequal lengths, too few rows and no look have their sentences."""
    with pytest.raises(UsageError, match="one length"):
        diebold_mariano([1.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="at least 2 rows"):
        diebold_mariano([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(UsageError, match="looks must be at least 1"):
        holm(pd.Series({"a": 0.1}), looks=0)
