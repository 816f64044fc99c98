"""Scores of frames whose y, y_hat and base are log ranges or log volatilities, not prices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from btcml.forecast.inference import diebold_mariano
from btcml.forecast.metrics.losses import known, losses
from btcml.forecast.metrics.registry import metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["mse_ratio", "qlike", "qlike_z", "range_r2"]


@metric("range", "R² of the log range", "share", "more")
def range_r2(forecasts: pd.DataFrame) -> float:
    """One minus the sum of squared errors over the variance of the outcomes around their mean."""
    y, y_hat = known(forecasts, "y", "y_hat")
    return 1 - float(((y - y_hat) ** 2).mean() / y.var()) if len(y) and y.var() > 0 else math.nan


@metric("range", "QLIKE", "", "less")
def qlike(forecasts: pd.DataFrame) -> float:
    """Mean of exp(e) - e - 1 with e = y - y_hat; 0 for an oracle."""
    ours, _ = losses(forecasts, "qlike")
    return float(ours.mean()) if len(ours) else math.nan


@metric("range", "QLIKE z against no change", "z", "less")
def qlike_z(forecasts: pd.DataFrame) -> float:
    """Diebold-Mariano statistic of QLIKE against "as the last candle"; negative is better."""
    ours, theirs = losses(forecasts, "qlike")
    return diebold_mariano(ours, theirs).statistic if len(ours) > 1 else math.nan


@metric("range", "MSE against no change", "", "less")
def mse_ratio(forecasts: pd.DataFrame) -> float:
    """Mean squared error over that of "as the last candle"; 1 for persistence."""
    ours, theirs = losses(forecasts, "level")
    return float(ours.sum() / theirs.sum()) if theirs.sum() > 0 else math.nan
