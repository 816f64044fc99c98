"""What tests of the verbs share: a market whose clock is moved by hand, and one training."""

from __future__ import annotations

import dataclasses
import shutil

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.forecast.artifacts import save_forecaster
from btcml.forecast.experiment import Experiment
from btcml.forecast.forecaster import train_forecaster, train_horizons
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.ingest import backfill
from btcml.store.models import ModelRecord, record_training

from ..replayed import turn_clock  # noqa: TID252 - where drills begin

NOW = pd.Timestamp("2025-03-01 12:00:02", tz="UTC")
EXPERIMENT = Experiment("5m", "2025-02-25", models=("autoreg",))


@dataclasses.dataclass
class StillMarket:
    """The simulated market as a replay that stands still until the test sets its clock."""

    store: object
    owner: object
    time: pd.Timestamp
    market: str = "replay:still"

    def now(self):
        return self.time

    def default_end(self, symbol):  # noqa: ARG002 - the same for every symbol
        return self.time

    def fetch_candles(self, symbol, interval, start, end, on_page=None):
        return SimulatedMarket(clock=self.now).fetch_candles(symbol, interval, start, end, on_page)

    def turn(self, time):
        """Set the market's clock, and the database's knowledge of it."""
        self.time = time
        turn_clock(self.owner, self.market, time)


@pytest.fixture
def market(store, owner):
    """A market that stands still two seconds after noon."""
    found = StillMarket(store, owner, NOW)
    found.turn(NOW)
    return found


@pytest.fixture
def series(store, market):
    """A series of nine days, up to the market's present."""
    key = SeriesKey(market.market, "BTCUSDT", "5m")
    backfill(store, market, key, (NOW - pd.Timedelta(days=9), NOW))
    return key


@pytest.fixture(scope="session")
def forecaster():
    """One small training for all tests that only need some model."""
    start = NOW.floor("5min") - pd.Timedelta(days=9)
    candles = SimulatedMarket(clock=lambda: NOW).fetch_candles("BTCUSDT", "5m", start, NOW)
    facts = {"series": "replay:still/BTCUSDT/5m"}
    return train_forecaster(candles, EXPERIMENT, jobs=1, metadata=facts), candles


@pytest.fixture(scope="session")
def ahead(forecaster):
    """The same training with models of two longer horizons."""
    fitted, candles = forecaster
    result = Experiment.default(candles, "5m", (3, 12)).replace(models=("ridge",)).run(candles, jobs=1)
    horizons = train_horizons(result.family, jobs=1)
    return dataclasses.replace(fitted, horizons=horizons), candles


@pytest.fixture
def trained(store, settings, series, market, forecaster):
    """The series with that training in service; persistence is its champion."""
    return _in_service(store, settings, series, market, *forecaster)


@pytest.fixture
def trained_ahead(store, settings, series, market, ahead):
    """The same with the longer horizons."""
    return _in_service(store, settings, series, market, *ahead)


def _in_service(store, settings, series, market, fitted, candles):
    shutil.rmtree(series_folder(settings, series), ignore_errors=True)  # of an earlier test
    name = f"{market.time:%Y%m%dT%H%M%S}-test"
    save_forecaster(fitted, series_folder(settings, series) / name, candles)
    shared = {"artifact": name, "key": series, "trained_at": market.time, "snapshot": "0" * 64, "samples": 2500}
    shared |= {"window_start": candles["open_time"].iloc[0], "window_end": candles["open_time"].iloc[-1]}
    shared |= {"metrics": {}, "verdict": {"champion": "persistence", "skill": 0.0, "reason": "a test"}}
    shared |= {"judged_at": market.time, "bytes": 1, "kept": True}
    roles = {"persistence": "champion", "autoreg": "challenger"}
    record_training(store, [ModelRecord(name=name, role=role, **shared) for name, role in roles.items()])
    return series
