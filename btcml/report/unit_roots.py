"""Tests of whether a series keeps its level or wanders."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa.stattools import adfuller, kpss

from btcml.errors import ReportError

__all__ = ["stationarity"]

_CHANCE = 0.05


def stationarity(candles: pd.DataFrame, most: int = 20_000) -> pd.DataFrame:
    """Unit-root (ADF) and stationarity (KPSS) tests of the log close and of its returns.

    Parameters
    ----------
    most
        Candles at most, evenly thinned beyond, for the tests' power grows with the span, not the rows.

    Returns
    -------
    DataFrame
        ``series``, ``test``, ``statistic``, ``p`` (KPSS tables end at 0.01 and 0.1) and
        ``stationary`` (what the test says at five per cent).
    """
    step = max(1, len(candles) // most)
    level = np.log(candles["close"].iloc[::step])
    series = {"log price": level, "log return": level.diff().dropna()}
    rows = [row for name, values in series.items() for row in _unit_roots(name, values)]
    return pd.DataFrame(rows, columns=["series", "test", "statistic", "p", "stationary"])


def _unit_roots(name: str, values: pd.Series) -> list[tuple[str, str, float, float, bool]]:
    if len(values) < 50 or (values == values.iloc[0]).all():  # noqa: PLR2004 - fewer say nothing
        msg = f"the stationarity tests need 50 moving values of the {name}, found {len(values)}: ask for more days"
        raise ReportError(msg)
    adf = adfuller(values, maxlag=12, autolag=None, result_object=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)  # the p-value is at its table's end: said in the page
        level = kpss(values, nlags="auto", result_object=False)
    return [
        (name, "ADF", float(adf[0]), float(adf[1]), bool(adf[1] < _CHANCE)),
        (name, "KPSS", float(level[0]), float(level[1]), bool(level[1] >= _CHANCE)),
    ]
