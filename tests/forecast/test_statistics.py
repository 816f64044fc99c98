"""Diebold-Mariano, Clark-West and Holm equal independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.bootstrap import MCS, SPA, IIDBootstrap
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from btcml.errors import UsageError
from btcml.forecast.statistics import (
    clark_west,
    deflated_sharpe,
    diebold_mariano,
    expected_maximum_sharpe,
    holm,
    long_run_variance,
    model_confidence_set,
    newey_west_lags,
    pesaran_timmermann,
    probabilistic_sharpe,
    sharpe_ratio,
    skill_interval,
    superior_predictive_ability,
    wilson_interval,
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


def test_the_variance_of_overlapping_outcomes_has_twice_as_many_lags_as_they_overlap() -> None:
    """The larger of the usual lags and 2 (h - 1); sums of 48 independent differences are not called significant."""
    ours, theirs = losses(6)
    assert [diebold_mariano(ours, theirs, horizon=h).lags for h in (1, 3, 48)] == [
        newey_west_lags(len(ours)),
        max(newey_west_lags(len(ours)), 4),
        94,
    ]
    steps = np.random.default_rng(0).normal(size=(200, 5_047))
    total = np.cumsum(np.hstack([np.zeros((200, 1)), steps]), axis=1)
    overlapping = total[:, 48:] - total[:, :-48]
    none = np.zeros(overlapping.shape[1])
    rejected = [
        np.mean([diebold_mariano(row, none, horizon=48, lags=lags).p_two_sided < 0.05 for row in overlapping])
        for lags in (None, 23)
    ]
    assert rejected[0] < 0.11 < rejected[1]


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


def test_clark_west_finds_skill_that_noise_hides_from_diebold_mariano() -> None:
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


@pytest.mark.parametrize(
    ("hits", "observations", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_printed_one(hits: int, observations: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3, to its four digits."""
    ends = wilson_interval(hits, observations)
    assert [round(end, 4) for end in ends] == [low, high]


@pytest.mark.parametrize(("hits", "observations"), [(0, 9), (5, 9), (9, 9), (137_900, 262_621)])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_wilsons_interval_equals_statsmodels(hits: int, observations: int, level: float) -> None:
    """Both ends, also for none and all."""
    expected = proportion_confint(hits, observations, alpha=1 - level, method="wilson")
    assert wilson_interval(hits, observations, level) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_pesaran_timmermann_squared_is_pearsons_statistic(seed: int) -> None:
    """S² = chi² n / (n - 1) of the 2 x 2 table of signs, by scipy."""
    rng = np.random.default_rng(seed)
    move = rng.normal(0.1, 1, 501)
    forecast = 0.2 * move + rng.normal(0.3, 1, 501)
    table = np.histogram2d(move > 0, forecast > 0, bins=2)[0]
    chi2 = stats.chi2_contingency(table, correction=False).statistic
    result = pesaran_timmermann(move, forecast)
    assert result.statistic**2 == pytest.approx(chi2 * 501 / 500, rel=1e-10)
    assert result.p == pytest.approx(stats.norm.sf(math.sqrt(chi2 * 501 / 500)), rel=1e-9)


def test_a_forecast_that_always_says_up_has_no_test() -> None:
    """In a rising market it is often right, which proves nothing."""
    result = pesaran_timmermann([1, 1, 1, -1.0], [2, 2, 2, 2.0])
    assert (result.hits, result.expected, result.p) == (0.75, 0.75, 1.0)
    assert math.isnan(result.statistic)


def test_rows_without_a_move_have_no_direction() -> None:
    """Zeros and NaN on either side are left out; with nothing left p is 1."""
    result = pesaran_timmermann([1, -1, 0, 1, np.nan], [1, -1, 1, 0, 1])
    assert (result.observations, result.hits) == (2, 1.0)
    assert pesaran_timmermann([0.0], [1.0]).p == 1.0


def test_impossible_counts_and_unequal_lengths_are_refused() -> None:
    """Impossible counts and unequal lengths have their sentences."""
    with pytest.raises(UsageError, match="5 of 3"):
        wilson_interval(5, 3)
    with pytest.raises(UsageError, match="one length"):
        pesaran_timmermann([1.0], [1.0, 2.0])
    assert all(math.isnan(end) for end in wilson_interval(0, 0))


def test_the_example_of_bailey_and_lopez_de_prado_is_met_to_its_digits() -> None:
    """The Deflated Sharpe Ratio (2014): threshold 0.1132, probability 0.9004; 46 trials give 0.9505."""
    sharpe, moments = 2.5 / math.sqrt(250), {"skew": -3.0, "kurtosis": 10.0}
    threshold = expected_maximum_sharpe(100, 0.5 / 250)
    fewer = expected_maximum_sharpe(46, 0.5 / 250)
    assert round(threshold, 4) == 0.1132
    assert round(probabilistic_sharpe(sharpe, 1250, **moments, threshold=threshold), 4) == 0.9004
    assert round(probabilistic_sharpe(sharpe, 1250, **moments, threshold=fewer), 4) == 0.9505


def test_the_best_of_many_strategies_without_skill_is_as_good_as_expected() -> None:
    """The formula equals the mean maximum of simulated normal Sharpe ratios within 2 %."""
    best = np.random.default_rng(1).normal(0, 0.05, (4000, 100)).max(axis=1).mean()
    assert expected_maximum_sharpe(100, 0.05**2) == pytest.approx(best, rel=0.02)


def test_deflated_sharpe_puts_the_pieces_together() -> None:
    """Moments by scipy, threshold of strategies without skill, probability of the first paper."""
    returns = np.random.default_rng(2).standard_t(5, 900) * 0.01 + 0.0005
    sharpe = returns.mean() / returns.std(ddof=1)
    threshold = expected_maximum_sharpe(20, 1 / 899)
    spread = 1 - stats.skew(returns) * sharpe + (stats.kurtosis(returns) + 2) / 4 * sharpe**2
    expected = stats.norm.cdf((sharpe - threshold) * math.sqrt(899 / spread))
    assert sharpe_ratio(returns) == pytest.approx(sharpe, rel=1e-12)
    assert deflated_sharpe(returns, 20) == pytest.approx(expected, rel=1e-10)
    assert deflated_sharpe(returns, 20) < deflated_sharpe(returns, 1)
    assert deflated_sharpe(returns, 20, variance=0.0) == deflated_sharpe(returns, 1)


def test_returns_that_never_vary_have_no_sharpe_ratio() -> None:
    """NaN, without a warning, for a strategy that never trades."""
    assert math.isnan(sharpe_ratio(np.zeros(10)))
    assert math.isnan(deflated_sharpe(np.zeros(10), 3))
    assert math.isnan(sharpe_ratio([0.1]))


def test_no_trial_at_all_is_refused() -> None:
    """The strategy itself is one trial."""
    with pytest.raises(UsageError, match="trials must be at least 1"):
        expected_maximum_sharpe(0, 0.1)


def test_the_interval_of_skill_holds_the_truth_at_its_level() -> None:
    """Over 200 series of autocorrelated losses the 90 % interval holds the truth in 85 to 95 %."""
    rng, held = np.random.default_rng(5), 0
    for seed in range(200):
        noise = rng.exponential(size=(2, 901))
        theirs = 1 + noise[0, 1:] + noise[0, :-1]
        ours = 0.8 * theirs + 0.1 * (noise[1, 1:] - 1)
        low, high = skill_interval(ours, theirs, level=0.9, reps=200, seed=seed)
        held += low <= 0.2 <= high
    assert 0.85 <= held / 200 <= 0.95


def test_the_skill_of_persistence_is_zero_without_doubt() -> None:
    """The interval of equal losses is the point 0; a benchmark without loss has none."""
    ours = np.abs(np.random.default_rng(6).normal(size=500))
    assert skill_interval(ours, ours) == (0.0, 0.0)
    assert all(math.isnan(end) for end in skill_interval(ours, np.zeros(500)))


def test_the_interval_is_that_of_archs_bootstrap_of_whole_blocks() -> None:
    """arch, drawing the same block sums itself, ends within the noise of 20,000 replications."""
    noise = np.random.default_rng(7).exponential(size=(2, 400))
    ours, theirs = noise[0] + noise[1], 2 * noise[1]
    sums = np.column_stack([ours.reshape(20, 20).sum(axis=1), theirs.reshape(20, 20).sum(axis=1)])
    bootstrap = IIDBootstrap(sums, seed=1)
    peer = bootstrap.conf_int(lambda x: 1 - x[:, 0].sum() / x[:, 1].sum(), reps=20_000, method="percentile")[:, 0]
    assert skill_interval(ours, theirs, reps=20_000) == pytest.approx(tuple(peer), abs=0.004)


def loss_frame(rows: int = 600, seed: int = 1) -> pd.DataFrame:
    """Losses of persistence, a better, an equal and a worse model."""
    common, *own = np.abs(np.random.default_rng(seed).normal(size=(5, rows)))
    shift = {"persistence": 0.0, "better": -0.3, "equal": 0.0, "worse": 0.3}
    return pd.DataFrame({name: common + part + shift[name] for name, part in zip(shift, own, strict=True)})


def test_superior_ability_is_archs_figure_on_short_spans() -> None:
    """With the same seed and block the p-values are those of arch's SPA."""
    table = loss_frame()
    peer = SPA(
        table["persistence"].to_numpy(),
        table.drop(columns="persistence").to_numpy(),
        block_size=9,
        reps=300,
        seed=3,
    )
    peer.compute()
    ours = superior_predictive_ability(table, reps=300, seed=3)
    assert (ours.p_lower, ours.p_consistent, ours.p_upper) == tuple(peer.pvalues)
    assert ours.p_consistent < 0.01


def test_no_superior_ability_without_a_better_model() -> None:
    """Equal and worse models leave p high; persistence alone or its twin leaves p = 1."""
    table = loss_frame().drop(columns="better")
    assert superior_predictive_ability(table, reps=300).p_consistent > 0.1
    alone = table[["persistence"]].assign(twin=table["persistence"])
    assert superior_predictive_ability(alone).p_consistent == 1.0


def test_thinning_keeps_the_answer() -> None:
    """40,000 rows averaged to 4,000 find the same better model."""
    assert superior_predictive_ability(loss_frame(40_000), reps=200).p_consistent < 0.01


def test_the_confidence_set_is_archs_and_holds_the_best() -> None:
    """P-values equal arch's MCS; only the better model is included."""
    table = loss_frame()
    peer = MCS(table, size=0.1, reps=300, block_size=9, seed=3)
    peer.compute()
    ours = model_confidence_set(table, reps=300, seed=3).set_index("model")
    pd.testing.assert_series_equal(ours["p"].sort_index(), peer.pvalues["Pvalue"].sort_index(), check_names=False)
    assert ours.index[ours["included"]].tolist() == ["better"]


def test_identical_models_share_their_p_value_in_the_confidence_set() -> None:
    """Two columns equal to the bit have no variance between them and get one p."""
    table = loss_frame().assign(twin=lambda frame: frame["better"])
    ours = model_confidence_set(table, reps=300).set_index("model")
    assert ours["p"][["twin", "better"]].tolist() == [1.0, 1.0]
    assert model_confidence_set(table[["twin", "better"]])["included"].all()


def test_a_benchmark_that_is_not_there_is_refused() -> None:
    """The sentence names the models that are."""
    with pytest.raises(UsageError, match="'drift' is not among the models persistence, better"):
        superior_predictive_ability(loss_frame(), "drift")
