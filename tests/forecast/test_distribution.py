"""Predictive distributions: quantiles, probabilities and scores against independent formulas and simulations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, norm
from scipy.stats import t as student

from btcml.errors import UsageError
from btcml.forecast.distribution import (
    COVERAGES,
    LEVELS,
    Distribution,
    _at_levels,
    crps,
    decide,
    distribution_columns,
    distribution_scores,
    learn,
    learn_newest,
    probability_below,
    quantile_at,
    stretch_quantiles,
)

RNG = np.random.default_rng(7)
NORMAL = norm.ppf(LEVELS)


def garch(n, horizon, seed):
    """Log returns over a horizon from every step of a GARCH(1,1), and their true conditional deviation."""
    rng, omega, alpha, beta = np.random.default_rng(seed), 1e-8, 0.08, 0.9
    variance, returns, level = np.empty(n + horizon), np.empty(n + horizon), omega / (1 - alpha - beta)
    current = level
    for t, shock in enumerate(rng.normal(size=n + horizon)):
        variance[t], returns[t] = current, np.sqrt(current) * shock
        current = omega + alpha * returns[t] ** 2 + beta * current
    total = np.append(0.0, np.cumsum(returns))
    steps = (1 - (alpha + beta) ** horizon) / (1 - alpha - beta)
    return (total[horizon:] - total[:-horizon])[:n], np.sqrt(horizon * level + (variance[:n] - level) * steps)


def columns_of(outcome, scale, horizon, reference=None):
    """Columns of 5-minute forecasts around no change."""
    row, none = np.arange(len(outcome)), np.zeros(len(outcome))
    days = (row + horizon - 1) // 288, row // 288
    return distribution_columns(outcome, none, scale, scale if reference is None else reference, *days, 0.9)


def uniform_distance(outcome, scale, horizon):
    """Kolmogorov-Smirnov distance of the PIT from uniform, on every h-th forecast."""
    pit = columns_of(outcome, scale, horizon)["pit"]
    return kstest(pit[np.isfinite(pit)][::horizon], "uniform").statistic


@pytest.mark.parametrize("horizon", [1, 3, 12, 48])
def test_the_pit_is_uniform_under_a_known_model_at_every_horizon(horizon):
    """The critical value is that of the same pipeline on twenty other paths of the model; a wrong scale exceeds it."""
    n = 12 * 288
    others = [uniform_distance(*garch(n, horizon, seed), horizon) for seed in range(1, 21)]
    outcome, scale = garch(n, horizon, 0)
    assert uniform_distance(outcome, scale, horizon) <= max(others)
    leaning = outcome + 1.5 * scale * (np.arange(n) > n // 2)  # a drift begins half-way
    assert uniform_distance(leaning, scale, horizon) > max(others)


@pytest.mark.parametrize("horizon", [1, 12])
def test_coverage_is_nominal_and_a_true_scale_beats_a_constant_one(horizon):
    """Central intervals of a GARCH hold what they say, in each third of volatility, and the CRPS skill is positive."""
    n = 40 * 288
    outcome, scale = garch(n, horizon, 3)
    found = columns_of(outcome, scale, horizon, np.full(n, scale.mean()))
    times = pd.Series(pd.date_range("2025-01-01", periods=n, freq="5min", tz="UTC"))
    frame = pd.DataFrame(found).assign(open_time=times, base=100 * np.exp(np.cumsum(garch(n, 1, 3)[0])))
    scores = distribution_scores(frame, horizon)
    for level in COVERAGES:
        assert scores[f"coverage_{100 * level:.0f}"] == pytest.approx(level, abs=0.03)
    for third in ("calm", "middle", "storm"):
        assert scores[f"coverage_90_{third}"] == pytest.approx(0.9, abs=0.06)
    assert scores["crps_skill"] > 0
    assert ((outcome >= found["lo"]) & (outcome <= found["hi"]))[-n // 2 :].mean() == pytest.approx(0.9, abs=0.03)


def test_the_crps_is_that_of_an_independent_library():
    """Of quantiles as scoringrules has it, and of many normal draws as its closed form."""
    scoringrules = pytest.importorskip("scoringrules")
    quantiles, y = np.sort(RNG.standard_t(4, (300, 99)), axis=1), RNG.normal(size=300)
    np.testing.assert_allclose(crps(quantiles, y), scoringrules.crps_quantile(y, quantiles, LEVELS), rtol=1e-12)
    exact = scoringrules.crps_normal(y, 0.0, 1.0)
    np.testing.assert_allclose(crps(np.tile(NORMAL, (300, 1)), y), exact, rtol=0.02)


def test_quantiles_never_cross_and_undo_probabilities():
    """At any level, in the tails too; a probability rises with the price."""
    quantiles = np.sort(RNG.standard_t(3, (200, 99)), axis=1)
    levels = np.concatenate([[0.0001, 0.004], np.linspace(0.01, 0.99, 57), [0.996, 0.9999]])
    table = np.column_stack([quantile_at(quantiles, level) for level in levels])
    assert (np.diff(table, axis=1) >= 0).all()
    back = np.column_stack([probability_below(quantiles, column) for column in table.T])
    np.testing.assert_allclose(back, np.tile(levels, (200, 1)), atol=1e-9)


def test_stretched_quantiles_go_through_their_points_and_never_cross():
    """The ends exactly, the middle to a thousandth of probability, with tails stretched like the piece beside them."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        drawn, up = np.sort(rng.standard_t(3, 99)).round(rng.integers(1, 9)), rng.uniform(0.4, 0.6)
        bent = stretch_quantiles(drawn, {0.05: -0.002, 1 - up: 0.0, 0.95: 0.002})
        assert (np.diff(bent) >= 0).all()
        assert [quantile_at(bent[None], level)[0] for level in (0.05, 0.95)] == pytest.approx([-0.002, 0.002])
        assert bent[0] - bent[4] == pytest.approx((drawn[0] - drawn[4]) * (bent[8] - bent[4]) / (drawn[8] - drawn[4]))
    smooth = stretch_quantiles(NORMAL, {0.05: -0.002, 0.4777: 0.0, 0.95: 0.002})
    assert probability_below(smooth[None], np.zeros(1))[0] == pytest.approx(0.4777, abs=0.001)
    assert np.isnan(stretch_quantiles(np.zeros(99), {0.05: -0.002, 0.95: 0.002})).all()


def test_intervals_of_a_longer_horizon_are_wider_and_hold_each_other():
    """A distribution at four times the horizon, of twice the deviation."""
    short, long = (Distribution(50_000.0, tuple(width * NORMAL)) for width in (0.001, 0.002))
    for level in (0.5, 0.9, 0.99):
        (a, b), (c, d) = long.interval(level), short.interval(level)
        assert a < c < 50_000 < d < b


def test_probabilities_of_crossing_are_those_of_simulated_paths():
    """The close beyond a price, and the price reached on the way, within three standard errors of 40,000 paths.

    Volatility differs between the paths; within a step a Brownian bridge says exactly whether the price was reached.
    """
    paths, steps = 40_000, 48
    deviation = 0.001 * np.exp(RNG.normal(0, 0.4, (paths, 1)))
    moves = np.cumsum(deviation * RNG.normal(size=(paths, steps)), axis=1)
    before = np.hstack([np.zeros((paths, 1)), moves[:, :-1]])
    made = Distribution(100.0, tuple(np.quantile(moves[:, -1], LEVELS)))
    for price in (100.3, 100.7, 101.5):
        far = np.log(price / 100)
        missed = np.where(
            (moves < far) & (before < far), -np.expm1(-2 * (far - moves) * (far - before) / deviation**2), 0
        )
        touched, ended = 1 - missed.prod(axis=1), moves[:, -1] > far
        for said, share in ((made.probability_reached(price), touched), (made.probability_above(price), ended)):
            assert said == pytest.approx(share.mean(), abs=3 * share.std() / np.sqrt(paths) + 0.002)
    size = np.abs(moves[:, -1]) > 0.005
    assert made.probability_move(50) == pytest.approx(size.mean(), abs=3 * size.std() / np.sqrt(paths) + 0.002)
    assert made.probability_reached(99.7) == pytest.approx(made.probability_reached(100.3), abs=0.02)


def test_a_day_learns_from_the_outcomes_of_the_days_before_it_only():
    """Other outcomes from a day on leave the quantiles up to that day as they were, at a horizon of 48."""
    outcome, scale = garch(3_000, 48, 5)
    row = np.arange(3_000)
    day, made = (row + 47) // 288, row // 288
    cut = 7 * 288 - 47  # the first row whose candle is of day 7
    other = np.where(row >= cut, outcome[::-1], outcome)
    first, second = (learn(values / scale, scale, day, made) for values in (outcome, other))
    known = made <= 7
    np.testing.assert_array_equal(first.row[known], second.row[known])
    used = first.row[known].max() + 1
    np.testing.assert_array_equal(first.tables[:used], second.tables[:used])
    assert not np.array_equal(first.tables[used:], second.tables[used:])


def test_too_few_outcomes_give_no_distribution():
    """Columns are there, and unknown."""
    outcome, scale = garch(300, 1, 0)
    found = columns_of(outcome, scale, 1)
    assert all(np.isnan(values).all() for values in found.values())
    assert distribution_scores(pd.DataFrame(found), 1) == {}


def test_a_wrong_distribution_or_level_is_refused_in_one_sentence():
    """Quantiles that cross, too few of them, no price, a level in per cent, a negative cost."""
    for base, quantiles in ((100.0, -NORMAL), (100.0, NORMAL[:5]), (0.0, NORMAL)):
        with pytest.raises(UsageError, match="99 ascending quantiles"):
            Distribution(base, tuple(quantiles))
    made = Distribution(100.0, tuple(0.01 * NORMAL))
    with pytest.raises(UsageError, match="between 0 and 1, found 90"):
        made.quantile(90)
    with pytest.raises(UsageError, match="at least 0 bp, found -1"):
        decide(made, -1)


@pytest.mark.parametrize("cost", [0, 0.5, 10, 1e4])
@pytest.mark.parametrize("shape", [norm, student(3)])
def test_on_a_random_walk_every_decision_is_no_trade(cost, shape):
    """A distribution symmetric around no change, of any shape and width, at any cost, also at none."""
    for width in np.geomspace(1e-6, 0.5, 40):
        found = decide(Distribution(100.0, tuple(width * shape.ppf(LEVELS))), cost)
        assert found.action == "no trade"
        assert "does not pay" in found.reason


def test_a_trade_needs_an_expected_move_beyond_its_cost():
    """A move of 12 bp pays 10 bp and not 15 bp, in either direction; the probability is that of a move beyond 10 bp."""
    up, down = (Distribution(100.0, tuple(side * 0.0012 + 0.01 * NORMAL)) for side in (1, -1))
    assert [decide(*of).action for of in ((up, 10), (down, 10), (up, 15))] == ["long", "short", "no trade"]
    found = decide(down, 10)
    assert found.reason == "short: the expected move of -12.0 bp pays a cost of 10 bp"
    assert found.probability == pytest.approx(norm.sf(-0.02) + norm.sf(0.22), abs=0.001)
    assert (found.expected_bp, found.needed_bp) == (pytest.approx(-12), 10)


def test_a_decision_shows_on_which_side_of_the_cost_the_move_is():
    """A move of 9.99 bp is not printed as 10.0 beside a cost of 10."""
    near = Distribution(100.0, tuple(0.01 * NORMAL), move=9.99e-4)
    assert decide(near, 10).reason == "no trade: the expected move of +9.99 bp does not pay a cost of 10 bp"


def test_the_drift_of_past_errors_is_no_expected_move():
    """A bull market lies in the quantiles; traded is the forecast alone, and without a proven model nothing."""
    drifting = tuple(0.0030 + 0.01 * NORMAL)
    assert decide(Distribution(100.0, drifting, move=0.0), 2).action == "no trade"
    assert decide(Distribution(100.0, drifting, move=0.0005), 2).expected_bp == pytest.approx(5)
    found = decide(Distribution(100.0, drifting), 2, proven=False)
    assert (found.action, found.reason) == ("no trade", "no trade: no model is proven to beat no change")
    assert found.probability > 0.9


def test_before_its_warm_up_a_distribution_is_not_traded():
    """What is not known is NaN."""
    found = decide(None, 2)
    assert (found.action, np.isnan(found.probability)) == ("no trade", True)
    assert "not known yet" in found.reason


@pytest.mark.parametrize("days", [3, 400])
def test_the_quantiles_that_are_served_are_those_of_the_next_day(days):
    """As `learn` would use them for the first forecast of the day after the last."""
    rng, day = np.random.default_rng(days), np.repeat(np.arange(days), 288)
    scale, error = np.exp(rng.normal(size=len(day))), rng.normal(size=len(day)) * (1 + day / days)
    tables, edges = learn_newest(error, scale, day)
    for size in (0.1, 1.0, 10.0):
        later = np.append(day, days)
        learned = learn(np.append(error, np.nan), np.append(scale, size), later, later)
        np.testing.assert_array_equal(learned.tables[learned.row[-1]], tables[np.searchsorted(edges, np.log(size))])


def test_too_few_errors_have_no_quantiles():
    """Nothing is served before the warm-up."""
    tables, edges = learn_newest(np.zeros(100), np.ones(100), np.zeros(100, dtype="int64"))
    assert (tables.shape, edges.shape) == ((0, 99), (0,))


@pytest.mark.parametrize("rows", [1, 200, 401, 5_000])
def test_quantiles_are_those_of_numpy_bit_for_bit(rows):
    """Oracle: `numpy.quantile`, also where errors are equal."""
    errors = np.random.default_rng(rows).standard_t(3, size=rows)
    for values in (errors, errors.round(1), np.zeros(rows)):
        assert (_at_levels(values) == np.quantile(values, LEVELS)).all()
