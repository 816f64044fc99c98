"""Live is offline: what was sealed while the clock ran is what the same models say of the stored candles."""

from __future__ import annotations

import threading
import time

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.forecast.artifacts import load_forecaster
from btcml.market import utc_now
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.evaluate import series_folder
from btcml.serve.schedule import Scheduler
from btcml.serve.work import Bench
from btcml.store.candles import read_candles
from btcml.store.chain import verify_chain
from btcml.store.forecasts import market_now, read_scored
from btcml.testing.exchange import ReplayClock

from ..replayed import trained_replay  # noqa: TID252 - where drills begin

BEGIN = pd.Timestamp("2025-03-01", tz="UTC")
FIVE = pd.Timedelta("5min")
KEY = SeriesKey("replay:parity", "BTCUSDT", "5m")
CANDLES = 6
SPEED = 200.0
PRICES = ("open", "high", "low", "close", "amp", "lo", "hi", "prob_up", "base")


@pytest.fixture
def scheduler(settings, store):
    """A scheduler on an exchange whose clock runs two hundred times as fast as ours."""
    clock = ReplayClock(BEGIN, utc_now(), SPEED)
    with trained_replay(settings, store, SimulatedMarket(), clock, KEY, btcml_train_every="9d") as (ours, source):
        found = Scheduler(Bench(ours, store, source), days=9)
        thread = threading.Thread(target=found.run)
        thread.start()
        yield found
        found.stop.set()
        thread.join()


def test_what_was_sealed_by_a_running_clock_is_what_is_computed_offline(scheduler, settings, store):
    """Every price of every sealed forecast, champion and challengers, to a millionth of a dollar."""
    until = market_now(store, KEY.market) + (CANDLES + 2) * FIVE
    while market_now(store, KEY.market) < until:
        time.sleep(0.1)
    scheduler.stop.set()
    sealed, candles = read_scored(store, KEY), read_candles(store, KEY)
    assert verify_chain(store, KEY) is None
    assert sealed["open_time"].nunique() >= CANDLES - 1
    assert (sealed["made_at"] >= sealed["open_time"]).all()
    served = {name: load_forecaster(series_folder(settings, KEY) / name) for name in sealed["artifact"].unique()}
    for row in sealed.to_dict("records"):
        offline = served[row["artifact"]].predict(
            candles[candles["open_time"] < row["open_time"]].reset_index(drop=True)
        )
        assert offline.open_time == row["open_time"]
        assert offline.closes[row["model"]] == pytest.approx(row["close"], abs=1e-6, rel=0)
        if row["role"] == "champion":
            theirs = {name: getattr(offline, "last_close" if name == "base" else name) for name in PRICES}
            assert theirs == pytest.approx({name: row[name] for name in PRICES}, abs=1e-6, rel=0)
