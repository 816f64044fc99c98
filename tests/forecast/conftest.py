"""Simulated candles for the tests of the core."""

from __future__ import annotations

import pandas as pd
import pytest

from btcml.market.simulate import SimulatedMarket


@pytest.fixture(scope="session")
def candles() -> pd.DataFrame:
    """Eighteen days of simulated 5m candles with one hole of two hours, after six days."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta(days=18))
    hole = frame["open_time"].between(start + pd.Timedelta(days=6), start + pd.Timedelta(days=6, hours=2))
    return frame[~hole].reset_index(drop=True)
