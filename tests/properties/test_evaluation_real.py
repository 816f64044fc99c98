"""The interval keeps its figures on real 5m candles, with a plain scale forecast made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.metrics import evaluate, metric_names

if TYPE_CHECKING:
    from pathlib import Path

SPANS = (1, 4, 12, 48, 288, 2016)


def scale_inputs(candles: pd.DataFrame) -> np.ndarray:
    """EWMAs of log range and of squared returns, hour and minute of the next candle; shape (n, k)."""
    move = np.log(candles["close"]).diff().fillna(0)
    log_range = np.log(np.log(candles["high"] / candles["low"]).clip(lower=1e-5))
    following = candles["open_time"] + pd.Timedelta(minutes=5)
    columns = [log_range.ewm(span=span).mean() for span in SPANS]
    columns += [0.5 * np.log((move**2).ewm(span=span).mean() + 1e-12) for span in SPANS[1:]]
    columns += [pd.get_dummies(part, drop_first=True, dtype=float) for part in (following.dt.hour, following.dt.minute)]
    return np.column_stack([np.ones(len(candles)), *columns])


def scales(inputs: np.ndarray, target: np.ndarray, times: pd.Series) -> np.ndarray:
    """Least squares on the 36 months before each half year, forecast for that half year."""
    said = np.full(len(target), np.nan)
    for start in pd.date_range("2022-07-01", "2025-01-01", freq="6MS", tz="UTC"):
        recent = times.between(start - pd.DateOffset(months=36), start - pd.Timedelta(days=1))
        train = recent.to_numpy() & np.isfinite(target)
        test = times.between(start, start + pd.DateOffset(months=6), inclusive="left").to_numpy()
        said[test] = inputs[test] @ np.linalg.lstsq(inputs[train], target[train], rcond=None)[0]
    return said


@pytest.mark.real
@pytest.mark.soak
def test_a_simple_scale_forecast_is_enough_for_calibrated_intervals(shared_data: Path) -> None:
    """Coverage 0.900 ± 0.003, volatility thirds ± 0.015, Winkler at most 57 bp, worst day at least 0.83.

    The scale is the geometric mean of linear forecasts of the log range and of the log absolute
    return: a rougher one than the range model's, whose own bars are stricter.
    """
    candles = pd.read_parquet(shared_data / "BTCUSDT-5m.parquet")
    close, times = candles["close"].to_numpy(), candles["open_time"]
    whole = (times.shift(-1) - times == pd.Timedelta(minutes=5)).to_numpy()
    move = np.where(whole, np.log(np.append(close[1:], np.nan) / close), np.nan)
    log_range = np.log(np.log(candles["high"] / candles["low"]).clip(lower=1e-5)).shift(-1).to_numpy()
    inputs = scale_inputs(candles)
    targets = (log_range, np.log(np.maximum(np.abs(move), 2e-5)))
    scale = np.exp(np.mean([scales(inputs, target, times) for target in targets], axis=0))
    bounds = AdaptiveInterval().run(move, scale)
    ends = {name: close * np.exp(values) for name, values in (("y", move), ("lo", bounds["lo"]), ("hi", bounds["hi"]))}
    frame = pd.DataFrame({"open_time": times + pd.Timedelta(minutes=5), "base": close, "y_hat": close, **ends})
    frame = frame.assign(cutoff=times, model="persistence", prob_up=np.nan)
    test = (times >= "2023-01-01").to_numpy() & frame[["y", "lo"]].notna().all(axis=1)
    frame = frame[test].reset_index(drop=True)
    scores = evaluate(frame, metric_names("interval")).iloc[0]
    assert scores["coverage"] == pytest.approx(0.9, abs=0.003)
    assert scores[["coverage_calm", "coverage_middle", "coverage_storm"]].sub(0.9).abs().max() < 0.015
    assert scores["winkler_bp"] < 57
    assert scores["coverage_worst_day"] >= 0.83
