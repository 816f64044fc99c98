"""Whether a probability of "up" (close above the last close) means what it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.forecast.inference import diebold_mariano, wilson_interval
from btcml.forecast.metrics.losses import known
from btcml.forecast.metrics.registry import metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["brier", "brier_skill", "brier_z", "calibration_error", "log_loss", "reliability"]

_BINS = 10
_CLIP = 1e-12


def _outcomes(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    y, base, probability = known(forecasts, "y", "base", "prob_up")
    return (y > base).astype(float), probability


@metric("probability", "Brier score", "", "less")
def brier(forecasts: pd.DataFrame) -> float:
    """Mean squared distance of the probability from what happened (1 up, 0 not up)."""
    up, probability = _outcomes(forecasts)
    return float(np.square(probability - up).mean()) if len(up) else math.nan


@metric("probability", "Brier skill", "share", "more")
def brier_skill(forecasts: pd.DataFrame) -> float:
    """One minus `brier` over that of the base rate: the share of ups in these very rows."""
    up, _ = _outcomes(forecasts)
    return 1 - brier(forecasts) / float(up.var()) if len(up) and up.var() > 0 else math.nan


@metric("probability", "Brier z against base rate", "z", "less")
def brier_z(forecasts: pd.DataFrame) -> float:
    """Diebold-Mariano statistic of the squared distances against those of the base rate."""
    up, probability = _outcomes(forecasts)
    if len(up) <= 1:
        return math.nan
    return diebold_mariano(np.square(probability - up), np.square(up.mean() - up)).statistic


@metric("probability", "Calibration error", "share", "less")
def calibration_error(forecasts: pd.DataFrame) -> float:
    """Mean absolute difference of probability and frequency over ten equally filled bins."""
    table = reliability(forecasts)
    if table.empty:
        return math.nan
    distance = (table["probability"] - table["frequency"]).abs()
    return float((distance * table["rows"]).sum() / table["rows"].sum())


@metric("probability", "Log loss", "", "less")
def log_loss(forecasts: pd.DataFrame) -> float:
    """Mean negative log likelihood in nats; probabilities are kept 1e-12 away from 0 and 1."""
    up, probability = _outcomes(forecasts)
    sure = np.clip(probability, _CLIP, 1 - _CLIP)
    return float(-np.log(np.where(up > 0, sure, 1 - sure)).mean()) if len(up) else math.nan


def reliability(forecasts: pd.DataFrame, bins: int = _BINS) -> pd.DataFrame:
    """Points of a reliability diagram.

    Returns
    -------
    DataFrame
        One row a bin of about equally many rows, by ascending probability: ``probability`` (mean
        said), ``frequency`` (share of ups), ``low`` and ``high`` (its 95 % Wilson interval),
        ``rows``. Empty without probabilities; equal probabilities are never parted.
    """
    up, probability = _outcomes(forecasts)
    edges = np.unique(np.quantile(probability, np.arange(1, bins) / bins)) if len(up) else np.empty(0)
    by = pd.DataFrame({"probability": probability, "up": up}).groupby(np.digitize(probability, edges))
    table = by.agg(probability=("probability", "mean"), frequency=("up", "mean"), rows=("up", "size"))
    hits = (table["frequency"] * table["rows"]).round().astype(int)
    ends = [wilson_interval(int(k), int(n)) for k, n in zip(hits, table["rows"], strict=True)]
    low_high = pd.DataFrame(ends, columns=["low", "high"], dtype=float, index=table.index)
    result = table.join(low_high)[["probability", "frequency", "low", "high", "rows"]]
    return result.reset_index(drop=True)
