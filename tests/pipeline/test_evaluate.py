"""Evaluate: an experiment on stored candles, every look and try counted."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError, UsageError
from btcml.forecast.experiment import Experiment
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.cluster import joblib_backend
from btcml.pipeline.evaluate import check_enough, evaluate, minute_prices, read_newest, search_before
from btcml.store.candles import read_candles, upsert_candles
from btcml.store.models import read_champion, read_research, read_trials

KEY = SeriesKey("simulated", "BTCUSDT", "1h")
END = pd.Timestamp("2025-06-01", tz="UTC")


@pytest.fixture
def candles(store):
    """Three hundred days of hourly candles, stored."""
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "1h", END - pd.Timedelta(days=300), END)
    upsert_candles(store, KEY, frame, source="test", at=END)
    return read_candles(store, KEY)


def quick(candles, *models):
    return Experiment.default(candles, "1h").replace(models=models or ("autoreg",))


def test_evaluating_counts_a_look_but_puts_no_model_into_service(store, candles):
    """The same on the same candles counts once; another setting is a try of its own."""
    first = evaluate(store, KEY, candles, experiment=quick(candles), jobs=1)
    assert first.looks == 1
    trials = read_trials(store, KEY)
    assert trials["model"].tolist() == ["autoreg"]
    assert trials["settings"].tolist() == ['{"models": ["autoreg"]}']
    evaluate(store, KEY, candles, experiment=quick(candles), jobs=1)
    assert len(read_trials(store, KEY)) == 1
    assert evaluate(store, KEY, candles, experiment=quick(candles, "drift"), jobs=1).looks == 2
    assert read_champion(store, KEY) is None


def test_an_evaluation_is_the_same_again(store, candles):
    """No figure depends on chance."""
    results = [evaluate(store, KEY, candles, experiment=quick(candles), jobs=1) for _ in range(2)]
    pd.testing.assert_frame_equal(results[0].forecasts, results[1].forecasts, check_exact=True)


def test_money_is_entered_a_minute_late_where_the_minutes_are_stored(store, candles):
    """Without one-minute candles a late entry is a whole candle late."""
    result = evaluate(store, KEY, candles, experiment=quick(candles), jobs=1)
    assert minute_prices(store, KEY, result) is None
    assert set(result.money()["entry"]) == {"at once", "a candle late"}
    minutes = SimulatedMarket().fetch_candles("BTCUSDT", "1m", END - pd.Timedelta(days=3), END)
    upsert_candles(store, replace(KEY, interval="1m"), minutes, source="test", at=END)
    found = result.money(late=minute_prices(store, KEY, result))
    assert set(found["entry"]) == {"at once", "a minute late"}
    assert 0 < found.loc[found["entry"] == "a minute late", "trips"].max() <= 3 * 24


def test_too_few_candles_are_an_error_with_advice(store):
    """One sentence."""
    with pytest.raises(NotReadyError, match="backfill more first"):
        check_enough(KEY, read_newest(store, KEY, 30), 30)


def test_every_try_of_a_search_is_counted(store, candles):
    """The number of tries enters the verdict; trying the same again adds nothing."""
    experiment = quick(candles)
    tries = search_before(store, KEY, candles, experiment, 4, jobs=1)
    assert len(tries) >= 4
    counted = len(tries.drop_duplicates(["parameters"]))
    assert len(read_trials(store, KEY)) == counted
    search_before(store, KEY, candles, experiment, 4, jobs=1)
    trials = read_trials(store, KEY)
    assert len(trials) == counted
    assert trials["test_start"].isna().all()
    assert experiment.looks(candles, trials, read_research(KEY)) == 1 + counted


def test_a_search_needs_candles_and_a_try(store, candles):
    """Zero tries and a test before the first candle are refused."""
    with pytest.raises(UsageError, match="at least one try"):
        search_before(store, KEY, candles, quick(candles), 0)
    with pytest.raises(NotReadyError, match="before 2020"):
        search_before(store, KEY, candles, quick(candles).replace(test_from="2020-01-01"), 2)


def test_a_cluster_that_is_not_there_is_one_sentence():
    """Without an address, the processes of this machine."""
    with joblib_backend(None) as name:
        assert name == "loky"
    with pytest.raises(UsageError, match="dask"), joblib_backend("tcp://127.0.0.1:1"):
        pass
