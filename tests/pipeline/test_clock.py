from __future__ import annotations

import pandas as pd
import pytest

from btcml.errors import StoreError
from btcml.market import utc_now
from btcml.market.binance import BinanceMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.clock import register_clock
from btcml.store.forecasts import market_now, read_clock_speed
from btcml.testing.exchange import ReplayClock, running_exchange

THEN = pd.Timestamp("2025-03-01", tz="UTC")


def test_a_replays_speed_is_measured_and_its_clock_recorded(store):
    """The database's clock of a replay is the replay's own, at a speed that was listened to."""
    clock = ReplayClock(THEN, utc_now(), 50.0)
    with running_exchange(SimulatedMarket(), clock, name="heard") as exchange:
        source = BinanceMarket([exchange.url])
        register_clock(store, source, listen=1.0)
        assert 40 < read_clock_speed(store, "replay:heard") < 60
        assert abs((market_now(store, "replay:heard") - source.now()).total_seconds()) < 100
        register_clock(store, source)


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
