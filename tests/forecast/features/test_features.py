"""Features: the registry, gaps, unknown columns, and one row against the whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.candles import OPTIONAL_COLUMNS
from btcml.errors import UsageError
from btcml.forecast.dataset import make_dataset
from btcml.forecast.features import (
    REGISTRY,
    SETS,
    Feature,
    Prepared,
    definition_hash,
    feature_frame,
    features_of,
    newest_features,
    register,
    tail_length,
)


def test_each_set_is_named_and_names_no_feature_twice():
    """The sets that models ask for; ``range`` has all of the core."""
    assert set(SETS) == {"core", "all", "ohlcv", "range", "wide", "system0", "system1"}
    assert all(names and len(set(names)) == len(names) for names in SETS.values())
    assert set(SETS["core"]) < set(SETS["range"])
    assert set(SETS["core"]) < set(SETS["wide"])
    assert set(SETS["all"]) == set(REGISTRY)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_feature_is_described_and_known_after_its_warmup(candles, name):
    """Null in the warm-up of both segments, and known everywhere else."""
    item = REGISTRY[name]
    assert item.formula
    assert item.source
    assert item.memory > item.warmup
    values = feature_frame(candles, "5m", [name])[name].to_numpy()
    age = Prepared(candles, "5m").age
    assert np.isnan(values[age < item.warmup]).all()
    assert np.isfinite(values[age >= item.warmup]).all()


@pytest.mark.parametrize("name", REGISTRY)
def test_a_tail_gives_the_value_of_the_whole_to_a_billionth(candles, name):
    """One function for training and serving; started later, computed alone."""
    whole = feature_frame(candles, "5m", [name])[name]
    scale = max(float(whole.std()), 1e-300)
    for end in (len(candles), len(candles) - 700):
        alone = newest_features(candles.iloc[:end], "5m", [name])[name]
        assert abs(alone - whole.iloc[end - 1]) <= 1e-9 * scale


@pytest.mark.parametrize("name", [name for name, item in REGISTRY.items() if item.memory > 1])
def test_half_of_the_candles_that_a_feature_needs_do_not_give_its_value(candles, name):
    """What the catalogue calls needed is no more than that."""
    whole = feature_frame(candles, "5m", [name])[name].iloc[-1]
    half = candles.tail(REGISTRY[name].memory // 2)
    assert feature_frame(half, "5m", [name])[name].iloc[-1] != whole


def test_a_gap_nulls_the_windows_that_would_reach_across(candles):
    """After a hole the core is null until its warm-up is over again."""
    age = Prepared(candles, "5m").age
    ready = feature_frame(candles, "5m").notna().all(axis=1).to_numpy()
    assert (age == 0).sum() == 2
    assert ready.tolist() == (age >= 96).tolist()


def test_ohlcv_alone_is_enough_for_the_core_and_the_ohlcv_set(candles):
    """Columns that a source does not know null optional features only, and none of the long windows."""
    bare = candles.assign(**dict.fromkeys(OPTIONAL_COLUMNS, np.nan))
    frame = feature_frame(bare, "5m", "all")
    null = {name for name in frame if frame[name].isna().all()}
    assert null == {"taker_imbalance_1", "taker_imbalance_12", "trades_ratio_1_96"}
    assert all(REGISTRY[name].optional for name in null)


def test_the_long_windows_do_not_delay_a_forecast(candles):
    """A row is ready after the warm-up of the core; a long window that is not full yet counts as 0."""
    short, wide = (make_dataset(candles, "5m", features) for features in ("core", "wide"))
    np.testing.assert_array_equal(wide.ready, short.ready)
    young = wide.ready & (wide.prepared.age < 672)
    assert young.any()
    assert not wide.sample.x[young, wide.sample.names.index("return_672")].any()


def test_the_scale_is_the_ewma_deviation_of_log_returns(candles):
    """Against pandas; 576 rows of memory leave out six millionths of the weight."""
    part = candles.iloc[:1500]
    squares = np.log(part["close"]).diff() ** 2
    expected = np.sqrt(squares.ewm(span=96).mean())
    found = Prepared(part, "5m").scale
    np.testing.assert_allclose(found[200:], expected[200:], rtol=1e-4)


@pytest.mark.parametrize(("interval", "time", "steps"), [("5m", "09:20", 4), ("5m", "10:00", 12), ("1h", "10:00", 1)])
def test_the_return_since_the_hour_begins_at_the_clock_not_at_the_row(interval, time, steps):
    """20 minutes past it is four candles of 5m, on the hour the whole hour; an hourly candle is its own hour."""
    opens = pd.date_range("2025-01-01", periods=300, freq=pd.Timedelta(interval), tz="UTC").as_unit("us")
    close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 300).cumsum())
    flat = pd.DataFrame({"open_time": opens, **dict.fromkeys(["open", "high", "low", "close"], close), "volume": 1.0})
    row = int(np.flatnonzero(opens == pd.Timestamp(f"2025-01-01 {time}", tz="UTC"))[0]) - 1
    prepared = Prepared(flat, interval)
    assert prepared.since(60)[row] == pytest.approx(np.log(close[row] / close[row - steps]))


def test_a_constant_price_gives_finite_features():
    """A price that never moves and no trade at all: nothing is infinite."""
    time = pd.date_range("2025-01-01", periods=400, freq="5min", tz="UTC").as_unit("us")
    flat = pd.DataFrame({"open_time": time, **dict.fromkeys(["open", "high", "low", "close"], 7.0), "volume": 0.0})
    flat = flat.assign(**dict.fromkeys(OPTIONAL_COLUMNS, 0.0))
    frame = feature_frame(flat, "5m", SETS["core"] + SETS["range"][:5])
    assert np.isfinite(frame.iloc[-1].to_numpy()).all()


def test_the_hash_changes_with_a_definition_and_with_the_order():
    """What a saved model is bound to."""
    assert definition_hash("core") == definition_hash(SETS["core"])
    assert definition_hash(["minute", "hour"]) != definition_hash(["hour", "minute"])


def test_unknown_and_doubled_names_are_refused_in_one_sentence():
    """The caller's mistakes."""
    with pytest.raises(UsageError, match="feature set is one of core"):
        features_of("cores")
    with pytest.raises(UsageError, match="unknown: nothing"):
        features_of(["minute", "nothing"])
    with pytest.raises(UsageError, match="registered already"):
        register(Feature("minute", "f", 0, 1, "s", lambda p: p.close))


def test_the_tail_is_short():
    """Three days of 5m candles are enough for the newest row."""
    assert tail_length("all") == tail_length("range") == 769
    assert tail_length("core") == 673


def stepped(candles, factor, until=None):
    """The candles with their prices multiplied from row 900 on, until another row."""
    rows = candles.index >= 900 if until is None else candles.index.isin(range(900, until))
    prices = ["open", "high", "low", "close"]
    return candles.assign(**candles[prices].mul(np.where(rows, factor, 1.0), axis=0))


@pytest.mark.parametrize(("factor", "until"), [(10.0, None), (0.1, None), (10.0, 901), (10.0, 930), (1.1, 901)])
def test_a_step_or_a_false_price_hardly_inflates_the_scale(candles, factor, until):
    """A price step of ten, up or down, for good, for one candle or for half an hour."""
    part = candles.iloc[:1500]
    usual, found = Prepared(part, "5m").scale, Prepared(stepped(part, factor, until), "5m").scale
    assert np.nanmax(found / usual) < 5
    assert np.array_equal(found[:900], usual[:900], equal_nan=True)


def test_the_scale_of_usual_candles_has_every_return_in_it(candles):
    """No simulated return is a spike, nor are the first moves after a night without any."""
    prepared = Prepared(candles, "5m")
    squares = prepared.mean("square", 96)
    assert np.array_equal(prepared.scale[prepared.age >= 96], np.sqrt(squares[prepared.age >= 96]))
    still = candles.iloc[:600].assign(open=100.0, high=100.0, low=100.0, close=100.0)
    still.loc[300:, "close"] = np.where(np.arange(300) % 2, 100.1, 100.0)
    assert 5e-4 < Prepared(still, "5m").scale[599] < 1.1e-3
