"""How often, and for how much, the sign of the forecast is right.

Rows in which the forecast or the candle does not move have no direction and are left out, so
persistence, which forecasts no direction, scores NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from btcml.forecast.metrics.table import BP, horizon_of, known, metric, moves
from btcml.forecast.statistics import (
    NORMAL_95,
    DirectionTest,
    diebold_mariano,
    long_run_variance,
    newey_west_lags,
    pesaran_timmermann,
    wilson_interval,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


_TOP = 0.1


def _moved(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    actual, forecast = moves(forecasts)
    moved = (actual != 0) & (forecast != 0)
    return actual[moved], forecast[moved]


def _top(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    actual, forecast = _moved(forecasts)
    size = np.abs(forecast)
    top = size >= np.quantile(size, 1 - _TOP) if len(size) else size > 0
    return actual[top], forecast[top]


def _right(actual: Floats, forecast: Floats) -> float:
    return float((np.sign(actual) == np.sign(forecast)).mean()) if len(actual) else math.nan


def _wilson(forecasts: pd.DataFrame) -> tuple[float, float]:
    actual, forecast = _moved(forecasts)
    return wilson_interval(int((np.sign(actual) == np.sign(forecast)).sum()), len(actual))


@metric("direction", "Right signs", "share", "more")
def direction(forecasts: pd.DataFrame) -> float:
    """Share of right signs among rows in which forecast and candle moved."""
    return _right(*_moved(forecasts))


@metric("direction", "Right signs, 95 % from", "share", "more")
def direction_low(forecasts: pd.DataFrame) -> float:
    """Lower end of Wilson's 95 % interval of `direction`."""
    return _wilson(forecasts)[0]


@metric("direction", "Right signs, 95 % to", "share", "more")
def direction_high(forecasts: pd.DataFrame) -> float:
    """Upper end of Wilson's 95 % interval of `direction`."""
    return _wilson(forecasts)[1]


@metric("direction", "Right signs by size of move", "share", "more")
def wda(forecasts: pd.DataFrame) -> float:
    """Weighted direction accuracy: share of the summed absolute moves whose sign was right."""
    actual, forecast = _moved(forecasts)
    size = np.abs(actual)
    return float(size[np.sign(actual) == np.sign(forecast)].sum() / size.sum()) if len(size) else math.nan


@metric("direction", "Right signs, top decile", "share", "more")
def top_direction(forecasts: pd.DataFrame) -> float:
    """Share of right signs among the tenth of rows with the largest forecast moves."""
    return _right(*_top(forecasts))


@metric("direction", "Gross gain a trade, top decile", "bp", "more")
def top_gain_bp(forecasts: pd.DataFrame) -> float:
    """Mean move in the direction of the forecast, in bp, before costs, in that tenth."""
    actual, forecast = _top(forecasts)
    return float((BP * np.sign(forecast) * actual).mean()) if len(actual) else math.nan


def _independence(forecasts: pd.DataFrame) -> DirectionTest:
    return pesaran_timmermann(*moves(forecasts))


@metric("direction", "Pesaran-Timmermann z", "z", "more")
def pt_z(forecasts: pd.DataFrame) -> float:
    """Pesaran and Timmermann's statistic; NaN where all forecasts have one sign."""
    return _independence(forecasts).statistic


@metric("direction", "Pesaran-Timmermann p", "p", "less")
def pt_p(forecasts: pd.DataFrame) -> float:
    """One-sided p of "forecast and outcome signs are independent"; 1 where the test is not defined."""
    return _independence(forecasts).p


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
    ours, theirs = np.square(probability - up), np.square(up.mean() - up)
    return diebold_mariano(ours, theirs, horizon=horizon_of(forecasts)).statistic


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
        One row per bin of about equally many rows, by ascending probability: ``probability`` (mean forecast),
        ``frequency`` (share of ups), ``low`` and ``high`` (its 95 % Wilson interval), ``rows``. Empty without
        probabilities; rows of equal probability are in one bin.
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


class Calibration(NamedTuple):
    """Probabilities against outcomes on a whole span.

    Attributes
    ----------
    brier, base
        `brier`, and that of the base rate: the share of ups in these very rows.
    p
        One-sided Diebold-Mariano p of "no better than the base rate".
    slope, low, high
        Slope of the outcome on the probability by least squares, and its 95 % interval (HAC): 1 is calibrated,
        below 1 the probabilities are too far from the base rate, below 0 they point the wrong way.
    """

    brier: float
    base: float
    p: float
    slope: float
    low: float
    high: float


def calibration(forecasts: pd.DataFrame) -> Calibration | None:
    """Judge the probabilities of one model; None where fewer than two are known or all are equal."""
    up, probability = _outcomes(forecasts)
    spread = probability - probability.mean() if len(up) else probability
    if len(up) <= 1 or not np.ptp(probability) > 0:
        return None
    ours, theirs = np.square(probability - up), np.square(up.mean() - up)
    slope = float(spread @ (up - up.mean()) / (spread @ spread))
    noise = long_run_variance(spread * (up - up.mean() - slope * spread), newey_west_lags(len(up)))
    width = NORMAL_95 * math.sqrt(len(up) * noise) / float(spread @ spread)
    test = diebold_mariano(ours, theirs, horizon=horizon_of(forecasts))
    return Calibration(float(ours.mean()), float(theirs.mean()), test.p_better, slope, slope - width, slope + width)
