"""Point metrics: errors of the forecast close, beside those of "no change"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.metrics.table import BP, horizon_of, known, losses, metric, moves
from btcml.forecast.statistics import Comparison, clark_west, diebold_mariano, skill_interval

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


_PERCENT = 100
_UNDEFINED = Comparison(math.nan, math.nan, math.nan, 0, 0)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _share(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    return float(ours.sum() / theirs.sum()) if theirs.sum() > 0 else math.nan


@metric("point", "MAE against no change", "", "less")
def ratio(forecasts: pd.DataFrame) -> float:
    """Mean absolute error in bp over that of persistence; 1 for persistence, 0 for an oracle."""
    return _share(*losses(forecasts))


@metric("point", "Skill", "share", "more")
def skill(forecasts: pd.DataFrame) -> float:
    """One minus `ratio`: exactly 0 for persistence, 1 for an oracle."""
    return 1 - ratio(forecasts)


@metric("point", "Skill, 95 % from", "share", "more")
def skill_low(forecasts: pd.DataFrame) -> float:
    """Lower end of the 95 % block-bootstrap interval of `skill`."""
    return skill_interval(*losses(forecasts))[0]


@metric("point", "Skill, 95 % to", "share", "more")
def skill_high(forecasts: pd.DataFrame) -> float:
    """Upper end of the 95 % block-bootstrap interval of `skill`."""
    return skill_interval(*losses(forecasts))[1]


def _compare(forecasts: pd.DataFrame, loss: str) -> Comparison:
    ours, theirs = losses(forecasts, loss)
    return diebold_mariano(ours, theirs, horizon=horizon_of(forecasts)) if len(ours) > 1 else _UNDEFINED


@metric("point", "Diebold-Mariano z", "z", "less")
def dm_z(forecasts: pd.DataFrame) -> float:
    """Diebold-Mariano statistic on absolute errors against persistence; negative is better."""
    return _compare(forecasts, "absolute").statistic


@metric("point", "Diebold-Mariano p", "p", "less")
def dm_p(forecasts: pd.DataFrame) -> float:
    """One-sided p of "not better than persistence" on absolute errors; 1 for persistence."""
    return _compare(forecasts, "absolute").p_better


@metric("point", "Diebold-Mariano z, squares", "z", "less")
def dm_squared_z(forecasts: pd.DataFrame) -> float:
    """Diebold-Mariano statistic on squared errors against persistence; negative is better."""
    return _compare(forecasts, "squared").statistic


@metric("point", "Diebold-Mariano p, squares", "p", "less")
def dm_squared_p(forecasts: pd.DataFrame) -> float:
    """One-sided p of "not better than persistence" on squared errors; 1 for persistence."""
    return _compare(forecasts, "squared").p_better


@metric("point", "Clark-West p", "p", "less")
def clark_west_p(forecasts: pd.DataFrame) -> float:
    """One-sided p of Clark and West: "a model that contains persistence is no better"."""
    actual, forecast = moves(forecasts)
    if len(actual) <= 1:
        return math.nan
    return clark_west(actual, np.zeros_like(actual), forecast, horizon=horizon_of(forecasts)).p_better


@metric("point", "MAE", "USD", "less")
def mae_usd(forecasts: pd.DataFrame) -> float:
    """Mean absolute error in quote units."""
    y, y_hat = known(forecasts, "y", "y_hat")
    return _mean(np.abs(y_hat - y))


@metric("point", "RMSE", "USD", "less")
def rmse_usd(forecasts: pd.DataFrame) -> float:
    """Root of the mean squared error in quote units."""
    y, y_hat = known(forecasts, "y", "y_hat")
    return math.sqrt(_mean(np.square(y_hat - y)))


@metric("point", "MAE", "bp", "less")
def mae_bp(forecasts: pd.DataFrame) -> float:
    """Mean of 1e4 |log(y_hat / y)|."""
    return _mean(losses(forecasts)[0])


@metric("point", "RMSE", "bp", "less")
def rmse_bp(forecasts: pd.DataFrame) -> float:
    """Root of the mean square of 1e4 log(y_hat / y)."""
    return math.sqrt(_mean(losses(forecasts, "squared")[0]))


@metric("point", "R² against no change", "share", "more")
def r2(forecasts: pd.DataFrame) -> float:
    """One minus the sum of squared errors in bp over that of persistence.

    Not the R² of price levels, which is 0.99 for any forecast near the last close.
    """
    return 1 - _share(*losses(forecasts, "squared"))


@metric("point", "MAPE", "%", "less")
def mape(forecasts: pd.DataFrame) -> float:
    """Mean absolute error in per cent of the outcome."""
    y, y_hat = known(forecasts, "y", "y_hat")
    return _mean(_PERCENT * np.abs(y_hat / y - 1))


@metric("point", "sMAPE", "%", "less")
def smape(forecasts: pd.DataFrame) -> float:
    """Mean absolute error in per cent of the mean of forecast and outcome."""
    y, y_hat = known(forecasts, "y", "y_hat")
    return _mean(_PERCENT * np.abs(y_hat - y) / ((np.abs(y) + np.abs(y_hat)) / 2))


@metric("point", "Bias", "bp", "level")
def bias_bp(forecasts: pd.DataFrame) -> float:
    """Mean of 1e4 log(y_hat / y): positive where forecasts are too high."""
    y, y_hat = known(forecasts, "y", "y_hat")
    return _mean(BP * np.log(y_hat / y))


@metric("range", "R² of the log range", "share", "more")
def range_r2(forecasts: pd.DataFrame) -> float:
    """One minus the sum of squared errors over the variance of the outcomes, ranges of half a basis point at least."""
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
    return diebold_mariano(ours, theirs, horizon=horizon_of(forecasts)).statistic if len(ours) > 1 else math.nan


@metric("range", "MSE against no change", "", "less")
def mse_ratio(forecasts: pd.DataFrame) -> float:
    """Mean squared error over that of "as the last candle"; 1 for persistence."""
    ours, theirs = losses(forecasts, "level")
    return float(ours.sum() / theirs.sum()) if theirs.sum() > 0 else math.nan
