"""The simulated market's known predictability is found by the whole back-test, and not more."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from btcml.forecast.experiment import Experiment
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
    plan = Experiment("5m", "2025-01-01", models=("ridge",), burn_in="1 months")
    results = {name: plan.replace(features=name).run(candles) for name in ("core", "ohlcv")}
    scores = {name: result.scores().set_index("model").loc["ridge"] for name, result in results.items()}
    assert scores["core"]["r2"] == pytest.approx(attainable_r2("5m"), rel=0.25)
    assert scores["core"]["ratio"] > math.sqrt(1 - true_r2("5m")) - 0.0015
    assert results["core"].verdict.champion == "ridge"
    assert scores["core"]["brier_z"] < -5
    assert scores["core"]["coverage"] == pytest.approx(0.9, abs=0.01)
    assert scores["ohlcv"]["r2"] < attainable_r2("5m") / 4
    assert results["ohlcv"].verdict.champion == "persistence"
