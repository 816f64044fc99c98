"""The contest: one command from candles to a verdict, with every figure beside persistence."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError, UsageError
from btcml.forecast.splits import WalkForward
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.cluster import joblib_backend
from btcml.pipeline.contest import contest, search_before
from btcml.store.candles import upsert_candles
from btcml.store.models import count_trials

KEY = SeriesKey("simulated", "BTCUSDT", "1h")
END = pd.Timestamp("2025-06-01", tz="UTC")
PLAN = WalkForward("2025-03-01", window="6 months", refit="2 months", purge=24, burn_in="30 days")


@pytest.fixture
def filled(store):
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "1h", END - pd.Timedelta(days=300), END)
    upsert_candles(store, KEY, frame, source="test", at=END)
    return store


def test_a_contest_scores_every_model_beside_persistence(filled):
    """Persistence is the first row with ratio 1; months, interval and range are there."""
    found = contest(filled, KEY, PLAN, models=("ridge", "autoreg"), jobs=1)
    assert found.close["model"].iloc[0] == "persistence"
    assert found.close["ratio"].iloc[0] == 1
    assert set(found.close["model"]) == {"persistence", "ridge", "autoreg"}
    assert len(found.months) == 3
    assert found.log_range["model"].iloc[0] == "persistence"
    assert 0.8 < found.interval["coverage"].iloc[0] < 0.97
    for part in ("next close", "90 % interval", "log range", "by age", "money before costs", "months with a smaller"):
        assert part in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_money_is_entered_a_minute_late_where_the_minutes_are_stored(filled):
    """Without one-minute candles a late entry is a whole candle late."""
    assert set(contest(filled, KEY, PLAN, models=("ridge",), jobs=1).money["entry"]) == {"at once", "a candle late"}
    minutes = SimulatedMarket().fetch_candles("BTCUSDT", "1m", END - pd.Timedelta(days=3), END)
    upsert_candles(filled, replace(KEY, interval="1m"), minutes, source="test", at=END)
    found = contest(filled, KEY, PLAN, models=("ridge",), jobs=1).money
    assert set(found["entry"]) == {"at once", "a minute late"}
    assert 0 < found.loc[found["entry"] == "a minute late", "trips"].max() <= 3 * 24


def test_a_contest_is_the_same_again(filled):
    """No figure depends on chance."""
    first, second = (contest(filled, KEY, PLAN, models=("ridge",), jobs=1) for _ in range(2))
    pd.testing.assert_frame_equal(first.close, second.close, check_exact=True)


def test_a_contest_without_candles_says_what_to_do(store):
    """One sentence with the command."""
    with pytest.raises(NotReadyError, match="btcml backfill"):
        contest(store, KEY, PLAN)


def test_every_try_of_a_search_is_counted(filled):
    """The number of trials is what the report uses to deflate; trying the same again adds nothing."""
    tries = search_before(filled, KEY, "2025-03-01", 4, jobs=1)
    assert len(tries) >= 4
    assert count_trials(filled, KEY) == len(tries.drop_duplicates(["parameters"]))
    search_before(filled, KEY, "2025-03-01", 4, jobs=1)
    assert count_trials(filled, KEY) == len(tries.drop_duplicates(["parameters"]))


def test_a_search_needs_candles_and_a_try(filled):
    """Zero tries and a test before the first candle are refused."""
    with pytest.raises(UsageError, match="at least one try"):
        search_before(filled, KEY, "2025-03-01", 0)
    with pytest.raises(NotReadyError, match="before 2020"):
        search_before(filled, KEY, "2020-01-01", 2)


def test_a_cluster_that_is_not_there_is_one_sentence():
    """Without an address, the processes of this machine."""
    with joblib_backend(None) as name:
        assert name == "loky"
    with pytest.raises(UsageError, match="dask"), joblib_backend("tcp://127.0.0.1:1"):
        pass
