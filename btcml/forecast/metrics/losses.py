"""Losses row by row: what metrics average and tests compare.

Close forecasts are judged as log returns in basis points, so that 2019 and 2025 weigh alike; range
forecasts are log ranges already and are judged as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.metrics.frame import PERSISTENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["BP", "LOSSES", "known", "loss_of", "loss_table", "losses", "moves"]

BP = 1e4
"""Basis points in one."""


def _absolute(y: Floats, y_hat: Floats) -> Floats:
    return np.abs(BP * np.log(y_hat / y))


def _squared(y: Floats, y_hat: Floats) -> Floats:
    return np.square(BP * np.log(y_hat / y))


def _level(y: Floats, y_hat: Floats) -> Floats:
    return np.square(y - y_hat)


def _qlike(y: Floats, y_hat: Floats) -> Floats:
    return np.exp(y - y_hat) - (y - y_hat) - 1


LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "absolute": _absolute,
    "squared": _squared,
    "level": _level,
    "qlike": _qlike,
}
"""By name: absolute error in bp and its square (prices); squared error and QLIKE (log ranges).

QLIKE is exp(e) - e - 1 with e = y - y_hat (Patton 2011, of the range itself): it punishes a range
forecast too low more than one too high, and is robust to noise in the range.
"""


def known(forecasts: pd.DataFrame, *columns: str) -> list[Floats]:
    """Columns as arrays, without the rows in which any of them is NaN."""
    arrays = [forecasts[name].to_numpy(dtype=float) for name in columns]
    whole = ~np.isnan(arrays).any(axis=0)
    return arrays if whole.all() else [values[whole] for values in arrays]


def moves(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    """Actual and forecast log return from the last close, rows without NaN, shape (n,) each."""
    y, y_hat, base = known(forecasts, "y", "y_hat", "base")
    return np.log(y / base), np.log(y_hat / base)


def loss_of(forecasts: pd.DataFrame, loss: str = "absolute", column: str = "y_hat") -> Floats:
    """Loss of every row, NaN where it is not known, shape (n,).

    Raises
    ------
    UsageError
        If there is no loss of that name.
    """
    if loss not in LOSSES:
        msg = f"there is no loss {loss!r}: choose from {', '.join(LOSSES)}"
        raise UsageError(msg)
    return LOSSES[loss](forecasts["y"].to_numpy(dtype=float), forecasts[column].to_numpy(dtype=float))


def losses(forecasts: pd.DataFrame, loss: str = "absolute") -> tuple[Floats, Floats]:
    """Losses of one model and of persistence on the same rows, without NaN."""
    ours, theirs = loss_of(forecasts, loss), loss_of(forecasts, loss, "base")
    whole = ~(np.isnan(ours) | np.isnan(theirs))
    return ours[whole], theirs[whole]


def loss_table(forecasts: pd.DataFrame, loss: str = "absolute") -> pd.DataFrame:
    """Losses of all models on the rows that all of them forecast.

    Returns
    -------
    DataFrame
        Index ``open_time`` ascending, one column a model by name, persistence first; no NaN.

    Raises
    ------
    UsageError
        If a model forecasts one candle twice, or there is no loss of that name.
    """
    # As text: a category that nobody uses would be a model without forecasts, and empty the table.
    keys = pd.MultiIndex.from_arrays([forecasts["open_time"], forecasts["model"].astype(str)])
    if keys.has_duplicates:
        time, model = keys[keys.duplicated()][0]
        msg = f"one forecast a candle and model is needed, found two by {model} for {time}: drop one"
        raise UsageError(msg)
    table = pd.Series(loss_of(forecasts, loss), keys).unstack("model").dropna().sort_index()  # noqa: PD010
    table.columns.name = None
    return table[sorted(table, key=lambda name: (name != PERSISTENCE, name))]
