"""Live is offline: what was sealed while the clock went on is what the same models say of the stored candles."""

from __future__ import annotations

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.forecast.artifacts import load_forecaster
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.jobs import JobContext
from btcml.pipeline.schedule import Scheduler
from btcml.store.candles import read_candles
from btcml.store.chain import verify_chain
from btcml.store.forecasts import read_scored
from btcml.store.jobs import append_job, finish_job

from ..replayed import TurnedClock, trained_replay, turn_clock  # noqa: TID252 - where drills begin

BEGIN = pd.Timestamp("2025-03-01 00:00:02", tz="UTC")
FIVE = pd.Timedelta("5min")
KEY = SeriesKey("replay:parity", "BTCUSDT", "5m")
CANDLES = 6
PRICES = ("open", "high", "low", "close", "amp", "lo", "hi", "prob_up", "base")


@pytest.fixture
def scored(settings, store, owner):
    """Forecasts of a scheduler on an exchange whose clock goes on when a candle's work is done."""
    clock = TurnedClock(BEGIN)
    with trained_replay(settings, store, SimulatedMarket(), clock, KEY, btcml_train_every="9d") as (ours, source):
        trained = append_job(store, "train", KEY, asked_by="scheduler", due_at=BEGIN)  # none is due meanwhile
        finish_job(store, trained, result={})
        scheduler = Scheduler(JobContext(ours, store, source), days=9)
        for step in range(CANDLES):
            clock.time = BEGIN + step * FIVE
            turn_clock(owner, KEY.market, clock.time)
            scheduler.tick()
    return read_scored(store, KEY)


def test_what_was_sealed_by_the_scheduler_is_what_is_computed_offline(scored, settings, store):
    """Every price of every sealed forecast, champion and challengers, to a millionth of a dollar."""
    candles = read_candles(store, KEY)
    assert verify_chain(store, KEY) is None
    assert scored["status"].eq("sealed").all()
    assert list(scored["open_time"].unique()) == [BEGIN.floor("5min") + step * FIVE for step in range(CANDLES)]
    assert scored["role"].value_counts().to_dict() == {"champion": CANDLES, "challenger": CANDLES}
    served = {name: load_forecaster(series_folder(settings, KEY) / name) for name in scored["artifact"].unique()}
    for row in scored.to_dict("records"):
        offline = served[row["artifact"]].predict(
            candles[candles["open_time"] < row["open_time"]].reset_index(drop=True)
        )
        assert offline.open_time == row["open_time"]
        assert offline.closes[row["model"]] == pytest.approx(row["close"], abs=1e-6, rel=0)
        if row["role"] == "champion":
            theirs = {name: getattr(offline, "last_close" if name == "base" else name) for name in PRICES}
            assert theirs == pytest.approx({name: row[name] for name in PRICES}, abs=1e-6, rel=0)
