from __future__ import annotations

import dataclasses
import itertools
import time

import pandas as pd
import pytest

from btcml.errors import StoreError
from btcml.market import utc_now
from btcml.market.archive import ArchiveMarket
from btcml.market.binance import BinanceMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline import clock as market_clock
from btcml.pipeline.clock import register_clock
from btcml.store.forecasts import market_now, read_clock_speed, record_clock
from btcml.testing.exchange import ReplayClock, running_exchange

THEN = pd.Timestamp("2025-03-01", tz="UTC")


@dataclasses.dataclass
class SlowMarket:
    """A replay that takes its time to say what time it is; each answer is a hundredth of a second later."""

    speed: float | None = None
    pause: float = 0.0
    market: str = "replay:slow"
    calls: itertools.count = dataclasses.field(default_factory=itertools.count)

    def now(self):
        time.sleep(self.pause)
        return THEN + pd.Timedelta(next(self.calls) * 10, "ms")


def test_a_replay_announces_its_speed_and_its_clock_is_recorded(store, tmp_path):
    """The database's clock of a replay is the replay's own."""
    clock = ReplayClock(THEN, utc_now(), 50.0)
    with running_exchange(SimulatedMarket(), clock, name="heard") as exchange:
        source = ArchiveMarket(BinanceMarket([exchange.url]), exchange.url, tmp_path)
        assert source.speed == 50.0
        register_clock(store, source)
        assert read_clock_speed(store, "replay:heard") == 50.0
        assert abs((market_now(store, "replay:heard") - source.now()).total_seconds()) < 100
        register_clock(store, source)


def test_an_announced_speed_is_not_measured(store):
    """A measurement on a busy machine once recorded 57 for 60, for ever: soon each ingest was refused."""
    register_clock(store, SlowMarket(speed=0.0))
    assert read_clock_speed(store, "replay:slow") == 0.0


def test_a_speed_is_measured_where_it_is_not_announced(store):
    """As that of a server of another program."""
    clock = ReplayClock(THEN, utc_now(), 50.0)
    with running_exchange(SimulatedMarket(), clock.__call__, name="mute") as exchange:
        source = BinanceMarket([exchange.url])
        assert source.speed is None
        register_clock(store, source, listen=120)
        assert 49 < read_clock_speed(store, "replay:mute") < 51


@pytest.mark.parametrize("slowest", [0.001, 60.0])
def test_a_speed_that_cannot_be_measured_is_not_recorded(store, monkeypatch, slowest):
    """Slow answers are the cause that is told, not a replay that was started again."""
    monkeypatch.setattr(market_clock, "_TOLERANCE_S", slowest)
    with pytest.raises(StoreError, match=r"since its answers take 0\.\d+ s: try again when"):
        register_clock(store, SlowMarket(pause=0.05), listen=0.2)
    assert read_clock_speed(store, "replay:slow") is None


def test_another_speed_than_the_recorded_one_is_the_cause_that_is_told(store, market):
    """It was started with another --speed, or the recorded speed was measured badly."""
    market.time += pd.Timedelta("1h")
    market.speed = 60.0
    with pytest.raises(StoreError, match="since it runs 60 times as fast as real time, and the recorded one 0 times"):
        register_clock(store, market)


def test_a_clock_that_the_database_does_not_record_is_told_why(store):
    """A speed beyond its bounds, and a measurement that took too long."""
    with pytest.raises(StoreError, match=r"runs 1e\+06 times as fast as real time: expected 0 to 100000"):
        record_clock(store, "replay:fast", THEN, speed=1e6)
    asked = pd.Timestamp.now(tz="UTC") - pd.Timedelta("1min")
    with pytest.raises(StoreError, match="took more than 30 s"):
        record_clock(store, "replay:late", THEN, asked_at=asked)


def test_a_restarted_replay_under_its_old_name_is_refused(store, market):
    """Its forecasts would be sealed by a clock that is not its own."""
    register_clock(store, market)
    market.time += pd.Timedelta("1h")
    with pytest.raises(StoreError, match="another name"):
        register_clock(store, market)


def test_a_market_of_real_time_needs_no_clock(store):
    """The simulated market uses the database's clock."""
    assert register_clock(store, SimulatedMarket(clock=lambda: THEN)) == THEN
    assert read_clock_speed(store, "simulated") is None
