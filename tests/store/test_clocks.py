from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.errors import StoreError
from btcml.store.clocks import clock_known, keep_clock, market_now

THEN = pd.Timestamp("2020-05-01", tz="UTC")


def test_a_replays_clock_is_set_once(store):
    """A second origin is not taken, and nobody of the application can change the row."""
    keep_clock(store, "replay:once", THEN, speed=0.0)
    keep_clock(store, "replay:once", THEN + pd.Timedelta("1h"), speed=5.0)
    assert market_now(store, "replay:once") == THEN
    assert clock_known(store, "replay:once") == 0.0
    with pytest.raises(DBAPIError, match="set once"), store.engine.begin() as connection:
        connection.execute(text("UPDATE market_clocks SET speed = 2"))


def test_a_replays_clock_runs_at_its_speed(store):
    """A thousand market seconds pass in a real one."""
    keep_clock(store, "replay:fast", THEN, speed=1000.0)
    first, second = market_now(store, "replay:fast"), market_now(store, "replay:fast")
    assert THEN < first < second < THEN + pd.Timedelta(days=1)


def test_binances_offset_is_measured_anew_but_never_beyond_a_minute(store):
    """A clock two minutes off is a fault of the machine, not an offset."""
    now = pd.Timestamp.now(tz="UTC")
    keep_clock(store, "binance", now + pd.Timedelta("20s"))
    keep_clock(store, "binance", now + pd.Timedelta("3s"))
    assert abs(market_now(store, "binance") - pd.Timestamp.now(tz="UTC")) < pd.Timedelta("15s")
    with pytest.raises(StoreError, match="more than a minute"):
        keep_clock(store, "binance", now + pd.Timedelta("2min"))


def test_other_markets_live_by_real_time(store):
    """A simulated market has no clock in the database."""
    keep_clock(store, "simulated", THEN)
    assert clock_known(store, "simulated") is None
    assert abs(market_now(store, "simulated") - pd.Timestamp.now(tz="UTC")) < pd.Timedelta("1min")
