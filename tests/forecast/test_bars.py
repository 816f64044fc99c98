"""The bars of real candles: 5m, 15m and 1h from 2023-01-01 to 2025-06-30, refit every half year."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from btcml.candles import as_candles, interval_delta, resample_candles
from btcml.forecast.experiment import Experiment
from btcml.forecast.features import RANGE_FLOOR

MODELS = ("lightgbm_mean", "lightgbm_l1", "extra_trees", "autoreg")
BARS = {
    # interval: ratio, z, direction, top decile, R² of the log range
    "5m": (0.9952, -19.0, 0.525, 0.573, 0.635),
    "15m": (0.9915, -17.0, 0.538, 0.595, 0.635),
    "1h": (0.990, -9.0, 0.545, 0.605, 0.575),
}


@pytest.fixture(scope="module")
def walk(shared_data):
    """Walk each interval once: every model that has a bar."""
    candles = as_candles(pd.read_parquet(shared_data / "BTCUSDT-5m.parquet"), "5m")
    known = {}

    def walked(interval):
        if interval not in known:
            frame = candles if interval == "5m" else resample_candles(candles, interval)
            day = pd.Timedelta(days=1) // interval_delta(interval)
            plan = Experiment(interval, "2023-01-01", "2025-07-01", models=MODELS, refit="6 months", purge=day)
            known[interval] = plan.run(frame)
        return known[interval]

    return walked


@pytest.mark.real
@pytest.mark.soak
@pytest.mark.parametrize("interval", BARS)
def test_the_champion_clears_the_bars_of_its_interval(walk, interval):
    """Ratio to persistence, Diebold-Mariano z, direction, direction among the largest forecasts, range R²."""
    ratio, z, direction, top, r2 = BARS[interval]
    result = walk(interval)
    own = (
        result.scores(metrics=["ratio", "dm_z", "direction", "top_direction"])
        .set_index("model")
        .loc[result.verdict.champion]
    )
    assert own["ratio"] <= ratio
    assert own["dm_z"] <= z
    assert own["direction"] >= direction
    assert own["top_direction"] >= top
    assert result.range_scores().set_index("model").loc["range_boosting", "range_r2"] >= r2


@pytest.mark.real
@pytest.mark.soak
def test_forest_and_statsmodels_clear_theirs_and_no_month_is_lost_at_5m(walk):
    """The forest alone, the baseline, and the champion in each of the 30 months."""
    result = walk("5m")
    table = result.scores(metrics=["ratio", "dm_z"]).set_index("model")
    assert table.loc["extra_trees", "ratio"] <= 0.9970
    assert table.loc["extra_trees", "dm_z"] <= -16
    assert table.loc["autoreg", "ratio"] <= 0.9987
    months = result.scores("month", ["ratio"]).set_index("model").loc[result.verdict.champion, "ratio"]
    assert len(months) == 30
    assert (months < 1).all()


@pytest.mark.real
@pytest.mark.soak
def test_interval_probability_and_range_clear_theirs_at_5m(walk):
    """Coverage overall and by third, width, worst day; Brier and calibration; QLIKE."""
    result = walk("5m")
    thirds = ["coverage_calm", "coverage_middle", "coverage_storm"]
    own = result.scores(
        metrics=["coverage", *thirds, "winkler_bp", "coverage_worst_day", "brier_z", "calibration_error"]
    ).set_index("model")
    own = own.loc[result.verdict.champion]
    assert own["coverage"] == pytest.approx(0.9, abs=0.003)
    assert (own[thirds] - 0.9).abs().max() <= 0.015
    assert own["winkler_bp"] <= 56.5
    assert own["coverage_worst_day"] >= 0.84
    assert own["brier_z"] <= -5
    assert own["calibration_error"] <= 0.01
    assert result.range_scores().set_index("model").loc["range_boosting", "qlike"] <= 0.145


@pytest.mark.real
@pytest.mark.soak
def test_the_readme_says_what_the_least_size_of_a_range_is_worth(walk, shared_data):
    """Candles below it in the newest year, and R² with their own ranges and with the least."""
    ranges = walk("5m").ranges
    newest = ranges["open_time"] >= pd.Timestamp("2024-07-01", tz="UTC")
    ranges = ranges[newest & (ranges["model"] == "range_boosting")]
    candles = as_candles(pd.read_parquet(shared_data / "BTCUSDT-5m.parquet"), "5m")
    joined = ranges.merge(candles[["open_time", "high", "low"]], on="open_time").dropna(subset=["y", "y_hat"])
    own = np.log(joined["high"] / joined["low"])
    known = own > 0
    shares = [
        1 - ((y - y_hat) ** 2).mean() / y.var()
        for y, y_hat in ((np.log(own[known]), joined["y_hat"][known]), (joined["y"], joined["y_hat"]))
    ]
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    told = re.search(r"([\d,]+) of the ([\d,]+) candles of .* would be (0\.\d+) in place of (0\.\d+)", readme).groups()
    assert told == (f"{(own < RANGE_FLOOR).sum():,}", f"{len(own):,}", *(f"{share:.2f}" for share in shares))
