"""A short record: five sealed forecasts, each with its outcome."""

from __future__ import annotations

import pandas as pd
import pytest

from btcml.candles import SeriesKey, as_candles
from btcml.store.candles import upsert_candles
from btcml.store.forecasts import append_forecasts

from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand

FIVE = pd.Timedelta("5min")
TARGET = pd.Timestamp("2025-03-01 12:00", tz="UTC")
RECORD = SeriesKey("replay:record", "BTCUSDT", "5m")


def one_candle(open_time, close):
    """Candle whose close is given."""
    prices = {"open": 100.0, "high": 110.0, "low": 90.0, "close": close, "volume": 1.0}
    return as_candles(pd.DataFrame([{"open_time": open_time} | prices]), "5m")


def one_forecast(open_time, close, base=100.0):
    """Forecast whose close is given, and the close before."""
    row = {"open_time": open_time, "role": "champion", "model": "m", "artifact": "20250301T000000-aaaa"}
    return row | {"cutoff": open_time - FIVE, "base": base, "close": close}


@pytest.fixture
def record(store, owner):
    """Each forecast is sealed two seconds after its candle opened, when the candle before is known; 1 % too high."""
    for step in range(6):
        now = TARGET + step * FIVE
        turn_clock(owner, RECORD.market, now + pd.Timedelta("2s"))
        if step:
            upsert_candles(store, RECORD, one_candle(now - FIVE, 100.0 + step), source=RECORD.market, at=now)
        if step < 5:
            append_forecasts(store, RECORD, [one_forecast(now, 1.01 * (101.0 + step), 100.0 + step)])
    return store
