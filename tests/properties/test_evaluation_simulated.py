"""The simulated market's known predictability is found by the whole back-test, and not more."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from btcml.forecast.backtest import run_backtest
from btcml.forecast.metrics import evaluate
from btcml.forecast.splits import WalkForward
from btcml.forecast.verdict import verdict
from btcml.market.simulate import SimulatedMarket, attainable_r2, true_r2


def at(text: str) -> pd.Timestamp:
    """Time in UTC."""
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.soak
def test_the_flow_of_the_simulated_market_is_found_and_nothing_else() -> None:
    """With the order flow, R² is the closed form's within a quarter; from prices alone, far less.

    A look-ahead anywhere between candles and score would show as more skill than the ideal
    forecast's, whose MAE is sqrt(1 - R²) of persistence's.
    """
    market = SimulatedMarket(clock=lambda: at("2026-11-20"))
    candles = market.fetch_candles("BTCUSDT", "5m", at("2024-01-01"), at("2025-04-01"))
    plan = WalkForward("2025-01-01", burn_in="1 months")
    frames = {name: run_backtest(candles, "5m", ["ridge"], plan, features=name) for name in ("core", "ohlcv")}
    scores = {name: evaluate(frame).set_index("model").loc["ridge"] for name, frame in frames.items()}
    assert scores["core"]["r2"] == pytest.approx(attainable_r2("5m"), rel=0.25)
    assert scores["core"]["ratio"] > math.sqrt(1 - true_r2("5m")) - 0.0015
    assert verdict(frames["core"]).champion == "ridge"
    assert scores["core"]["brier_z"] < -5
    assert scores["core"]["coverage"] == pytest.approx(0.9, abs=0.01)
    assert scores["ohlcv"]["r2"] < attainable_r2("5m") / 4
    assert verdict(frames["ohlcv"]).champion == "persistence"
