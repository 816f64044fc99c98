"""Rows in every table, for drills that must lose none of them."""

from __future__ import annotations

import pandas as pd
from sqlalchemy import text

from btcml.candles import SeriesKey, interval_floor
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import upsert_candles
from btcml.store.forecasts import append_forecasts

KEY = SeriesKey("simulated", "BTCUSDT", "5m")


def candles(days=1):
    """Final candles of the simulated market, the newest last."""
    end = pd.Timestamp("2025-06-30", tz="UTC")
    return SimulatedMarket().fetch_candles(KEY.symbol, KEY.interval, end - pd.Timedelta(days=days), end)


def fill(store, key=KEY):
    """Candles, a revision, a broken row, a sealed forecast, a job, a model, a ban and a trial."""
    frame, at = candles(), pd.Timestamp("2025-06-30", tz="UTC")
    upsert_candles(store, key, frame, source="test", at=at)
    changed = frame.tail(2).assign(volume=[1.0, -1.0])
    upsert_candles(store, key, changed, source="test", at=at)
    now = pd.Timestamp.now(tz="UTC")
    opens = interval_floor(now, key.interval)
    row = {"open_time": opens, "role": "champion", "model": "persistence", "artifact": "20250630T000000-test"}
    prices = {"base": 100.0, "open": 100.0, "high": 101.0, "low": 99.0, "close": 100.1, "lo": 99.5, "hi": 100.5}
    append_forecasts(store, key, [row | prices | {"cutoff": opens - key.delta}])
    with store.engine.begin() as connection:
        connection.execute(text("INSERT INTO bans VALUES ('host', now(), 'test', now())"))
        connection.execute(
            text(
                "INSERT INTO jobs (kind, market, symbol, interval, asked_by, status, finished_at, result) "
                "VALUES ('train', 'simulated', 'BTCUSDT', '5m', 'cli', 'ok', now(), '{\"mae\": 1.5}')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO trials (market, symbol, interval, model, parameters, snapshot, score, tried_at) "
                "VALUES ('simulated', 'BTCUSDT', '5m', 'forest', '{}', 'x', 0.99, now())"
            )
        )
