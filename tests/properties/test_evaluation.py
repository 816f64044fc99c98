"""The evaluation on known inputs must give the known results.

Random walks by the hundred (by the thousand under ``soak``) give the rate at which each test cries
skill where there is none. Each such drill stands beside a planted bug that it must catch.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.metrics import evaluate, forecast_frame, loss_table
from btcml.forecast.statistics import (
    clark_west,
    diebold_mariano,
    model_confidence_set,
    pesaran_timmermann,
    superior_predictive_ability,
)
from btcml.forecast.verdict import verdict

N = 500
NOMINAL = 0.05
MANY = [pytest.param(200, id="200"), pytest.param(1000, id="1000", marks=pytest.mark.soak)]
FEW = [pytest.param(60, id="60"), pytest.param(1000, id="1000", marks=pytest.mark.soak)]


def most(walks: int, rate: float = NOMINAL) -> int:
    """Rejections that a test of the nominal rate exceeds once in a thousand drills."""
    return int(stats.binom.isf(1e-3, walks, rate))


def fewest(walks: int, rate: float = NOMINAL) -> int:
    """Rejections that a test of the nominal rate falls short of once in a thousand drills."""
    return int(stats.binom.ppf(1e-3, walks, rate))


def walk(seed: int, n: int = N) -> np.ndarray:
    """Returns of a random walk with fat tails and clustered volatility."""
    rng = np.random.default_rng(seed)
    volatility = np.exp(0.3 * np.sin(np.arange(n) / 40 + rng.uniform(0, 6)))
    return 1e-3 * volatility * rng.standard_t(5, n)


def prices(returns: np.ndarray) -> np.ndarray:
    """Closes, one more than returns."""
    return 100 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))


def fitted(returns: np.ndarray, lag: int = 1) -> np.ndarray:
    """Forecasts of an autoregression on one lag, refitted on all rows before each row."""
    past = np.concatenate([np.zeros(lag), returns[:-lag]])
    products, squares = np.cumsum(past * returns), np.cumsum(past**2)
    slope = np.concatenate([[0.0], products[:-1]]) / np.maximum(np.concatenate([[0.0], squares[:-1]]), 1e-12)
    slope[:20] = 0
    return slope * past


def nested(seed: int, models: int = 3) -> dict[str, dict[str, np.ndarray]]:
    """Autoregressions that know nothing of a random walk, each fitted on its own lag."""
    returns = walk(seed)
    base = prices(returns)[:-1]
    return {f"lag{lag}": {"y_hat": base * np.exp(fitted(returns, lag))} for lag in range(1, models + 1)}


def spied(returns: np.ndarray, share: float = 0.2) -> dict[str, np.ndarray]:
    """The planted leak: a forecast that has seen a share of the outcome."""
    return {"y_hat": prices(returns)[:-1] * np.exp(share * returns)}


@pytest.mark.parametrize("walks", MANY)
def test_diebold_mariano_rejects_equal_forecasts_at_its_nominal_rate(walks: int) -> None:
    """Two forecasts of equal merit, neither nested in the other, differ "significantly" 5 times in 100."""
    rejected = 0
    for seed in range(walks):
        first, second, noise = np.random.default_rng(seed).normal(size=(3, N))
        y = first + second + noise
        rejected += diebold_mariano(np.abs(y - first), np.abs(y - second)).p_two_sided < NOMINAL
    assert fewest(walks) <= rejected <= most(walks)


def test_without_hac_the_same_drill_fails_on_losses_that_cluster() -> None:
    """The planted bug: no lags, and autocorrelated differences reject far more often than they may."""
    plain, hac = 0, 0
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(size=(2, N + 9))
        one, two = (np.convolve(row, np.ones(10), "valid") for row in noise)
        plain += diebold_mariano(one, two, lags=0).p_two_sided < NOMINAL
        hac += diebold_mariano(one, two, lags=40).p_two_sided < NOMINAL
    assert plain > 80
    assert hac < plain / 3


@pytest.mark.parametrize("walks", MANY)
def test_pesaran_timmermann_rejects_random_signs_at_its_nominal_rate(walks: int) -> None:
    """Also where the market rises and the forecast mostly says so."""
    rejected = 0
    for seed in range(walks):
        said = np.random.default_rng(10_000 + seed).normal(0.3, 1, N)
        rejected += pesaran_timmermann(walk(seed) + 2e-4, said).p < NOMINAL
    assert fewest(walks) <= rejected <= most(walks)


def test_counting_hits_against_a_half_fails_the_same_drill() -> None:
    """The planted bug: in a rising market an optimist looks skilled, though his signs are random."""
    naive = 0
    for seed in range(200):
        said = np.random.default_rng(10_000 + seed).normal(1.0, 1, N)
        hits = int((np.sign(walk(seed) + 2e-4) == np.sign(said)).sum())
        naive += stats.binomtest(hits, N, 0.5, alternative="greater").pvalue < NOMINAL
    assert naive > 3 * most(200)


@pytest.mark.parametrize("walks", MANY)
def test_models_fitted_to_random_walks_beat_persistence_at_most_at_the_nominal_rate(walks: int) -> None:
    """Nested models: Diebold-Mariano is conservative, Clark-West near its rate."""
    mariano, clark = 0, 0
    for seed in range(walks):
        returns = walk(seed)
        said = fitted(returns)
        mariano += diebold_mariano(np.abs(returns - said), np.abs(returns)).p_better < NOMINAL
        clark += clark_west(returns, np.zeros(N), said).p_better < NOMINAL
    assert mariano <= most(walks)
    assert clark <= most(walks)


@pytest.mark.parametrize("walks", FEW)
def test_the_best_of_many_models_of_random_walks_is_luck(walks: int) -> None:
    """SPA over five models rejects at most at its rate."""
    rejected = 0
    for seed in range(walks):
        table = loss_table(forecast_frame(prices(walk(seed)), nested(seed, 5)))
        rejected += superior_predictive_ability(table, reps=100, seed=seed).p_consistent < NOMINAL
    assert rejected <= most(walks)


@pytest.mark.soak
@pytest.mark.parametrize("walks", [1000])
def test_the_verdict_promotes_models_of_random_walks_at_most_at_its_rate(walks: int) -> None:
    """Three models a walk, level 5 %: Holm and the last six months hold the promise together."""
    promoted = 0
    for seed in range(walks):
        frame = forecast_frame(prices(walk(seed)), nested(seed))
        promoted += verdict(frame, alpha=NOMINAL).champion != "persistence"
    assert promoted <= most(walks)


@pytest.mark.soak
@pytest.mark.parametrize("walks", [1000])
def test_equal_champions_replace_each_other_at_most_at_the_nominal_rate(walks: int) -> None:
    """Two models with equal and real skill: the incumbent is nearly always kept."""
    replaced = 0
    for seed in range(walks):
        first, second, noise = 1e-3 * np.random.default_rng(seed).normal(size=(3, N))
        base = prices(first + second + noise)
        models = {"one": {"y_hat": base[:-1] * np.exp(first)}, "two": {"y_hat": base[:-1] * np.exp(second)}}
        replaced += verdict(forecast_frame(base, models), alpha=NOMINAL, incumbent="one").champion != "one"
    assert replaced <= most(walks)


def test_a_rule_without_holm_would_promote_luck() -> None:
    """The planted bug: the best of fifteen useless models, judged as if it were alone."""
    careless, holm = 0, 0
    for seed in range(30):
        returns = walk(seed)
        noise = np.random.default_rng(seed).normal(0, 1e-5, (15, N))
        models = {f"m{i}": {"y_hat": prices(returns)[:-1] * np.exp(row)} for i, row in enumerate(noise)}
        table = verdict(forecast_frame(prices(returns), models), alpha=NOMINAL).table
        careless += bool((table["p"] < NOMINAL).any())
        holm += bool((table["p_holm"] < NOMINAL).any())
    assert careless > 1.5 * most(30)
    assert holm <= most(30)


def test_a_leak_into_the_forecast_is_seen_by_every_test() -> None:
    """A fifth of the outcome leaks on every walk: skill 0.2, and no test stays silent."""
    for seed in range(5):
        returns = walk(seed)
        frame = forecast_frame(prices(returns), {"leak": spied(returns)})
        scores = evaluate(frame).set_index("model").loc["leak"]
        assert scores["skill"] == pytest.approx(0.2)
        assert max(scores[["dm_p", "dm_squared_p", "clark_west_p", "pt_p"]]) < 1e-6
        assert superior_predictive_ability(loss_table(frame), reps=100).p_consistent < 0.02
        assert verdict(frame).champion == "leak"


def test_an_autoregression_has_the_scores_of_theory() -> None:
    """AR(1), 0.3, normal: ratio sqrt(1 - 0.09), R² 0.09, right signs 1/2 + asin(0.3) / pi."""
    returns = lfilter([1], [1, -0.3], np.random.default_rng(3).normal(0, 1e-3, 100_001))
    base = prices(returns[1:])[:-1]
    true = {"y_hat": base * np.exp(0.3 * returns[:-1])}
    learned = {"y_hat": base * np.exp(fitted(returns)[1:])}
    table = evaluate(forecast_frame(prices(returns[1:]), {"true": true, "learned": learned})).set_index("model")
    for model in ("true", "learned"):
        scores = table.loc[model]
        assert scores["ratio"] == pytest.approx(math.sqrt(0.91), abs=0.003)
        assert scores["r2"] == pytest.approx(0.09, abs=0.005)
        assert scores["direction"] == pytest.approx(0.5 + math.asin(0.3) / math.pi, abs=0.005)
        assert abs(scores["skill"] - 1 + math.sqrt(0.91)) < scores["skill_high"] - scores["skill_low"] < 0.006
        assert scores["dm_z"] < -30


def garch(seed: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Returns and true deviations of a GARCH(1,1)."""
    shocks = np.random.default_rng(seed).normal(size=n)
    returns, deviation, variance = np.empty(n), np.empty(n), 1e-6
    for t in range(n):
        deviation[t] = math.sqrt(variance)
        returns[t] = deviation[t] * shocks[t]
        variance = 1e-8 + 0.1 * returns[t] ** 2 + 0.89 * variance
    return returns, deviation


@pytest.mark.parametrize("seed", range(4))
def test_intervals_on_garch_hold_what_they_say(seed: int) -> None:
    """Coverage 0.9 ± 0.01 with the true scale and with a rough one; Winkler near 41.25 deviations."""
    returns, deviation = garch(seed)
    rough = np.sqrt(np.convolve(np.concatenate([[1e-6], returns[:-1] ** 2]), np.full(24, 1 / 24))[: len(returns)])
    base = prices(returns)[:-1]
    bounds = {name: AdaptiveInterval().run(returns, s) for name, s in (("true", deviation), ("rough", rough))}
    models = {
        name: {"y_hat": base, "lo": base * np.exp(run["lo"]), "hi": base * np.exp(run["hi"])}
        for name, run in bounds.items()
    }
    table = evaluate(forecast_frame(prices(returns), models), ["coverage", "winkler_bp"]).set_index("model")
    assert table["coverage"][["true", "rough"]].sub(0.9).abs().max() < 0.01
    best = 1e4 * 40 * stats.norm.pdf(stats.norm.isf(0.05)) * deviation[500:].mean()
    assert table["winkler_bp"]["true"] == pytest.approx(best, rel=0.02)
    assert table["winkler_bp"]["rough"] > table["winkler_bp"]["true"]


@pytest.mark.soak
def test_the_confidence_set_holds_the_best_model_at_its_level() -> None:
    """Of 200 samples at size 10 %, a truly best model (by a little) is in the set at least 170 times."""
    held = 0
    for seed in range(200):
        first, second, noise = np.random.default_rng(seed).normal(size=(3, N))
        y = 1.05 * first + second + noise
        losses = {"persistence": np.abs(y), "first": np.abs(y - 1.05 * first), "second": np.abs(y - second)}
        frame = loss_table(forecast_frame(prices(1e-3 * y), {})).iloc[:, :0].assign(**losses)
        inside = model_confidence_set(frame, reps=200, seed=seed).set_index("model")["included"]
        held += bool(inside["first"])
    assert held >= 170


@given(t=st.integers(0, 1499), seed=st.integers(0, 5))
def test_no_interval_uses_anything_at_or_after_its_candle(t: int, seed: int) -> None:
    """Outcomes from t on are replaced: every bound up to and at t keeps all its bits."""
    returns, deviation = garch(seed, 1500)
    other = returns.copy()
    other[t:] = np.random.default_rng(t).normal(0, 1, 1500 - t)
    one, two = (AdaptiveInterval(warmup=100).run(y, deviation)[: t + 1] for y in (returns, other))
    assert one.equals(two)


@given(moves=st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=50), level=st.floats(1e-6, 1e6))
def test_persistence_has_no_skill_whatever_the_market_does(moves: list[float], level: float) -> None:
    """Skill exactly 0 (or nothing to score in a market without a move), p exactly 1."""
    close = level * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
    scores = evaluate(forecast_frame(close, {}), ["skill", "dm_p", "dm_squared_p", "r2"]).iloc[0]
    assert scores["skill"] == 0 or (math.isnan(scores["skill"]) and (close == close[0]).all())
    assert scores["dm_p"] == scores["dm_squared_p"] == 1.0
