"""Coins left out: models that never saw a coin, judged on it, and a coin without a past that they serve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from btcml.candles import as_candles
from btcml.errors import NotReadyError, UsageError
from btcml.forecast.artifacts import load_forecaster, save_forecaster
from btcml.forecast.experiment import Experiment
from btcml.forecast.forecaster import begin_interval, mean_learned, train_forecaster
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.left_out import cold_start_experiment, is_cold_start, leave_one_out, left_out_experiment
from btcml.forecast.walk import interval_inputs
from btcml.market.simulate import SimulatedMarket

START = pd.Timestamp("2025-01-01", tz="UTC")
DAYS = 100
MODEL = "others_ridge"
PLAN = Experiment("5m", "2025-01-15", models=(MODEL,), window=None, purge=12, burn_in=None, pool=("COPYUSDT",))


def random_walk(seed, days=DAYS):
    """Candles of 15 minutes whose returns are independent."""
    rng, n = np.random.default_rng(seed), 96 * days
    close = 100 * np.exp(rng.normal(0, 0.005, n + 1).cumsum())
    wick = np.exp(np.abs(rng.normal(0, 0.003, (2, n))))
    ends = np.maximum(close[:-1], close[1:]), np.minimum(close[:-1], close[1:])
    volume = rng.lognormal(3, 0.3, n)
    prices = {"open": close[:-1], "high": ends[0] * wick[0], "low": ends[1] / wick[1], "close": close[1:]}
    flow = {"volume": volume, "taker_buy_base": volume * rng.uniform(0.4, 0.6, n)}
    times = pd.date_range(START, periods=n, freq="15min").as_unit("us")
    return as_candles(pd.DataFrame({"open_time": times} | prices | flow), "15m")


@pytest.fixture(scope="module")
def coins():
    """Three simulated coins with a past, whose next move is known to be predictable."""
    symbols, end = ("BTCUSDT", "ETHUSDT", "SOLUSDT"), START + pd.Timedelta(days=DAYS)
    return {symbol: SimulatedMarket().fetch_candles(symbol, "15m", START, end) for symbol in symbols}


@pytest.fixture(scope="module")
def proof(coins):
    return leave_one_out(left_out_experiment(coins, "15m", MODEL), coins, jobs=1)


def test_predictable_coins_are_proven_by_models_that_never_saw_them(proof):
    """Each coin is a row with its test, over one span; the reason names all of them."""
    table = proof.table.set_index("coin")
    assert list(table.index) == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert proof.proven
    assert (table["ratio"] < 0.995).all()
    assert (table["z"] < -2.5).all()
    assert set(table["rows"]) == {table["rows"].iloc[0]}
    assert "is proven on coins left out: BTCUSDT, ETHUSDT, SOLUSDT, each without its own candles, have" in proof.reason


def test_a_pool_of_random_walks_is_not_proven():
    """Nothing can be learned from independent returns."""
    walks = {f"W{seed}USDT": random_walk(seed) for seed in range(3)}
    found = leave_one_out(left_out_experiment(walks, "15m", MODEL), walks, jobs=1)
    assert not found.proven
    assert "is not proven on coins left out: without its own candles W0USDT has" in found.reason


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_no_pool_of_random_walks_is_proven(seed):
    """Neither by the linear model nor by the one in service."""
    walks = {f"W{n}USDT": random_walk(100 * seed + n) for n in range(3)}
    for model in (MODEL, "others_lightgbm_mean"):
        assert not leave_one_out(left_out_experiment(walks, "15m", model), walks, jobs=1).table["proven"].any()


def test_one_coin_that_is_not_forecast_better_refutes_the_proof(coins):
    """The reason names it, with its figures; looks raise the bar of a coin as those of every verdict do."""
    mixed = {name: coins[name] for name in ("BTCUSDT", "ETHUSDT")} | {"WALKUSDT": random_walk(7)}
    plan = left_out_experiment(mixed, "15m", MODEL)
    found = leave_one_out(plan, mixed, looks={"ETHUSDT": 10**60}, jobs=1)
    assert list(found.table["proven"]) == [True, False, False]
    assert list(found.table["looks"]) == [1, 10**60, 1]
    assert not found.proven
    assert "without its own candles ETHUSDT has" in found.reason
    assert ", and WALKUSDT has" in found.reason


def test_a_model_that_serves_a_coin_stays_at_a_single_look(coins, proof):
    """As the incumbent of every verdict does."""
    plan, many = left_out_experiment(coins, "15m", MODEL), dict.fromkeys(coins, 10**60)
    found = leave_one_out(plan, coins, looks=many, incumbent=True, jobs=1)
    assert found.proven
    assert (found.table["p_holm"] == 1).all()
    assert proof.table["looks"].eq(1).all()


def test_coins_are_left_out_of_at_least_two(coins):
    """One coin alone has no other."""
    with pytest.raises(UsageError, match="at least 2, found 1"):
        leave_one_out(left_out_experiment(coins, "15m", MODEL), {"BTCUSDT": coins["BTCUSDT"]})


def test_range_and_direction_are_learned_from_the_others_too(candles):
    """From a copy they are bit for bit those of own candles; from other candles they are not."""
    own = PLAN.replace(models=("ridge",), pool=()).run(candles, jobs=1)
    copied = PLAN.run(candles, others={"COPYUSDT": candles}, jobs=1)
    pd.testing.assert_frame_equal(own.ranges, copied.ranges)
    np.testing.assert_array_equal(own.raw.direction.raw["direction"], copied.raw.direction.raw["direction"])
    backwards = candles.assign(close=candles["close"][::-1].to_numpy())
    other = PLAN.run(candles, others={"COPYUSDT": backwards}, jobs=1)
    assert (other.raw.direction.raw["direction"] != copied.raw.direction.raw["direction"]).any()


def test_a_coin_needs_no_past_of_its_own_to_be_forecast_by_others(candles):
    """Its first candle is the first of the test; models are fitted on what others had before."""
    young = candles.iloc[-600:].reset_index(drop=True)
    plan = cold_start_experiment(young, "5m", ("OLDUSDT",), MODEL)
    result = plan.run(young, others={"OLDUSDT": candles}, jobs=1)
    assert result.forecasts["open_time"].min() == young["open_time"].iloc[97]  # after the warm-up
    assert result.forecasts["cutoff"].min() < young["open_time"].iloc[0] - pd.Timedelta(days=1)


def test_candles_of_others_after_the_cutoff_change_nothing_for_a_young_coin(candles):
    """The mirrored future of the pool leaves every forecast bit for bit."""
    young, other = candles.iloc[-600:].reset_index(drop=True), candles.copy()
    later = other["open_time"] >= young["open_time"].iloc[0]
    last = other.loc[~later, "close"].iloc[-1]
    other.loc[later, ["open", "high", "low", "close"]] = last**2 / other.loc[later, ["open", "low", "high", "close"]]
    plan = cold_start_experiment(young, "5m", ("OLDUSDT",), MODEL)
    both = [plan.run(young, others={"OLDUSDT": frame}, jobs=1).forecasts for frame in (candles, other)]
    same = [frame[frame["cutoff"] < young["open_time"].iloc[0]] for frame in both]
    pd.testing.assert_frame_equal(*same, check_exact=True)
    assert len(same[0]) > len(both[0]) / 2


@pytest.fixture(scope="module")
def young(coins, proof):
    """Two days of a fourth coin, the others, and a forecaster of it with what coins left out have taught."""
    end = START + pd.Timedelta(days=DAYS)
    own = SimulatedMarket().fetch_candles("BNBUSDT", "15m", end - pd.Timedelta(days=2), end)
    plan = cold_start_experiment(own, "15m", tuple(coins), MODEL)
    return own, train_forecaster(own, plan, champion=MODEL, others=coins, start=proof.start, jobs=1)


def test_two_days_of_a_coin_give_a_whole_forecast(young, tmp_path):
    """Move, range, interval, probability and quantiles, which the saved models repeat without any other coin."""
    own, fitted = young
    made = load_forecaster(save_forecaster(fitted, tmp_path / "young", own)).predict(own)
    assert made == fitted.predict(own)
    assert made.model == MODEL
    assert made.close != made.last_close
    assert made.low <= min(made.lo, made.close) or made.lo < made.low < made.close
    assert made.lo < made.last_close < made.hi
    assert 0 < made.prob_up < 1
    assert made.distribution is not None
    assert fitted.metadata["samples"] > 3 * 96 * (DAYS - 2)


def test_the_interval_of_a_coin_without_outcomes_holds_what_it_says(coins, proof):
    """The fourth coin's first week, scaled by its own volatility, at three times."""
    held = []
    for before in (0, 20, 40):
        end = START + pd.Timedelta(days=DAYS - before)
        own = SimulatedMarket().fetch_candles("BNBUSDT", "15m", end - pd.Timedelta(days=8), end)
        others = {name: frame[frame["open_time"] < end] for name, frame in coins.items()}
        plan = cold_start_experiment(own, "15m", tuple(coins), MODEL)
        raw = plan.run(own, others=others, jobs=1).raw
        held.append(_held(raw, proof.start))
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def _held(raw, start):
    y, scale = interval_inputs(raw)
    bounds = begin_interval(raw, 0.9, start).run(y, scale, raw.close.scale)
    known = bounds["lo"].notna().to_numpy()
    assert known.sum() > 650
    return (bounds["lo"].le(y) & bounds["hi"].ge(y))[known].mean()


def test_what_several_coins_teach_is_their_mean(proof):
    """Of one part it is itself, with edges counted from its own median; a coin without an interval is left out."""
    start = proof.start
    again = mean_learned([start, start])
    assert again.interval_state == start.interval_state
    assert again.shape == pytest.approx(start.shape)
    empty = dataclasses.replace(AdaptiveInterval(), warmup=500).state()
    none = start._replace(interval_state=empty, quantiles=[], edges=[])
    assert mean_learned([none, start]).interval_state["quantiles"] == start.interval_state["quantiles"]
    assert mean_learned([none]).interval_state["unit"] is None


def test_too_few_candles_for_the_features_are_refused_in_a_sentence(young):
    """A day of them is the warm-up; with less there is nothing to forecast from."""
    own, fitted = young
    with pytest.raises(NotReadyError, match="a forecast needs 97 candles without a gap, found 60: ingest more"):
        fitted.predict(own.iloc[-60:])


def test_eighteen_months_are_no_longer_young():
    """The newest third then has the six months of the rule; below 2,000 candles a coin is young in any case."""
    times = pd.DataFrame({"open_time": pd.date_range(START, periods=24 * 560, freq="h")})
    assert not is_cold_start(times)
    assert is_cold_start(times.iloc[-24 * 540 :])
    assert is_cold_start(times.iloc[::8])


def test_tries_of_models_of_others_are_looks_of_their_own(coins):
    """They raise no bar for the coin's own models, nor those for them; daily ones count by new evidence."""
    plan, candles = left_out_experiment(coins, "15m", MODEL), coins["BTCUSDT"]
    own = Experiment.default(candles, "15m")
    span = pd.Timestamp(plan.test_from), candles["open_time"].iloc[-1] + pd.Timedelta(minutes=15)
    setting = '{"models": ["others_ridge"], "burn_in": null, "test_from": "2024-01-01"}'
    rows = [(MODEL, *span, setting)] * 5 + [("ridge", *span, '{"models": ["ridge"]}')] * 8
    columns = ["model", "test_start", "test_end", "settings"]
    trials = pd.DataFrame(rows, columns=columns)
    research = pd.DataFrame({"kind": [], "what": [], "start": [], "end": [], "tries": []})
    research = research.astype({"start": candles["open_time"].dtype, "end": candles["open_time"].dtype, "tries": int})
    assert plan.looks(candles, trials, research) == 1
    assert own.looks(candles, trials, research) == 1 + 2
    other = trials.assign(settings='{"models": ["others_ridge"], "window": "6 months"}')
    assert plan.looks(candles, other, research) == 6


@pytest.mark.real
@pytest.mark.soak
def test_each_of_four_real_coins_is_forecast_better_by_models_of_the_others(shared_data):
    """The newest year of hourly candles, by the model in service."""
    names = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")
    real = {name: as_candles(pd.read_parquet(shared_data / f"{name}-1h.parquet"), "1h") for name in names}
    real = {name: frame.iloc[-24 * 1095 :].reset_index(drop=True) for name, frame in real.items()}
    found = leave_one_out(left_out_experiment(real, "1h"), real)
    assert found.proven
    assert (found.table["ratio"] < 0.9965).all()
