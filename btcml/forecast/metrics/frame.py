"""Forecast frames out of arrays, for examples, tests and simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import interval_delta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

__all__ = ["FORECAST_COLUMNS", "PERSISTENCE", "forecast_frame"]

FORECAST_COLUMNS = ("cutoff", "open_time", "model", "y", "y_hat", "lo", "hi", "prob_up", "base")
"""Columns of a forecast frame."""

PERSISTENCE = "persistence"
"""The model that says "no change"; it is in every frame."""


def forecast_frame(
    close: ArrayLike,
    forecasts: Mapping[str, Mapping[str, ArrayLike]],
    *,
    start: str = "2024-01-01",
    interval: str = "5m",
) -> pd.DataFrame:
    """Forecast frame of consecutive candles; persistence joins by itself.

    Parameters
    ----------
    close
        Closes of shape (n + 1,): the first is only the base of the first forecast.
    forecasts
        For each model its columns of shape (n,): ``y_hat`` and, where it has them, ``lo``, ``hi``
        and ``prob_up``.
    start
        Open time (UTC) of the first target candle.
    interval
        Name of the interval.

    Returns
    -------
    DataFrame
        Columns `FORECAST_COLUMNS`, sorted by model and open time; `cutoff` is the candle before
        the first target.

    Examples
    --------
    >>> frame = forecast_frame([100, 101, 99], {"oracle": {"y_hat": [101, 99]}})
    >>> frame[["model", "base", "y", "y_hat"]].to_dict("list")  # doctest: +NORMALIZE_WHITESPACE
    {'model': ['oracle', 'oracle', 'persistence', 'persistence'],
     'base': [100.0, 101.0, 100.0, 101.0], 'y': [101.0, 99.0, 101.0, 99.0],
     'y_hat': [101.0, 99.0, 100.0, 101.0]}
    """
    prices = np.asarray(close, dtype=float)
    first, step = pd.Timestamp(start, tz="UTC"), interval_delta(interval)
    times = pd.Series(pd.date_range(first, periods=len(prices) - 1, freq=step, unit="us"))
    common = pd.DataFrame({"cutoff": first - step, "open_time": times, "y": prices[1:], "base": prices[:-1]})
    everybody = {**forecasts, PERSISTENCE: {"y_hat": prices[:-1]}}
    parts = [_part(common.assign(model=name), everybody[name]) for name in sorted(everybody)]
    return pd.concat(parts, ignore_index=True)


def _part(common: pd.DataFrame, columns: Mapping[str, ArrayLike]) -> pd.DataFrame:
    for name in ("y_hat", "lo", "hi", "prob_up"):
        common[name] = np.asarray(columns.get(name, np.nan), dtype=float)
    return common[list(FORECAST_COLUMNS)]
