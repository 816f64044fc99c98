"""The experiment that the report tells of: which models, fitted and tested when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import interval_delta
from btcml.continuity import suspect_rows
from btcml.errors import UsageError
from btcml.forecast.backtest import run_backtest, run_backtests
from btcml.forecast.naming import RANGE
from btcml.forecast.splits import WalkForward

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btcml.forecast.backtest import Backtest

__all__ = [
    "FEATURES",
    "MODELS",
    "TITLES",
    "check_request",
    "plan_for",
    "title_of",
    "volatility_forward",
    "walk_forward",
]

MODELS: tuple[str, ...] = ("autoreg", "ridge", "random_forest", "lightgbm_mean")
"""What is set against persistence in the story, from the plainest to the most flexible."""

FEATURES = "core"
"""The set of features that all of them see."""

SIZE_MODELS: tuple[str, ...] = ("ewma", "har", "linear")
"""Quick models of the size of the next move; for the range there is also the one that scales the intervals."""

TITLES: dict[str, str] = {
    "persistence": "Persistence",
    "drift": "Drift",
    "autoreg": "AutoReg (statsmodels)",
    "arma": "ARMA (statsmodels)",
    "ridge": "Ridge regression",
    "random_forest": "Random forest",
    "extra_trees": "Extra trees",
    "lightgbm_huber": "LightGBM (Huber loss)",
    "lightgbm_l1": "LightGBM (absolute loss)",
    "lightgbm_mean": "LightGBM",
    "ewma": "Best moving average (EWMA)",
    "har": "HAR (statsmodels)",
    "linear": "Linear regression",
    "range_boosting": "Linear regression and LightGBM",
}
"""How models are called in the story; a model that is not here goes by its own name."""


def title_of(model: str) -> str:
    """Return how a model is called in the story.

    Examples
    --------
    >>> title_of("random_forest"), title_of("sklearn.linear_model.Lars")
    ('Random forest', 'sklearn.linear_model.Lars')
    """
    return TITLES.get(model, model)


_LONGEST_TEST, _SHORTEST = 365, 20
_FEWEST = 200  # candles without which no verdict falls
_DAY = pd.Timedelta(days=1)


def plan_for(candles: pd.DataFrame, interval: str) -> WalkForward:
    """Return the walk-forward plan: the last third of the span is tested, at most a year of it.

    Models are fitted anew at half of the test and see everything before, less a day.

    Raises
    ------
    UsageError
        If there are fewer than twenty days, or too few candles for a verdict.
    """
    times, delta = candles["open_time"], interval_delta(interval)
    start, test = _first_test(times.iloc[0], times.iloc[-1])
    _check_length(times.iloc[-1] + delta - times.iloc[0], int((times >= start).sum()))
    refit = f"{math.ceil((test + 1) / 2)} days"
    purge = max(1, math.ceil(_DAY / delta))
    return WalkForward(start.to_pydatetime(), window="48 months", refit=refit, purge=purge, burn_in=refit)


def _first_test(first: pd.Timestamp, last: pd.Timestamp) -> tuple[pd.Timestamp, int]:
    """When the test begins, and its whole days, for candles that open from `first` to `last`."""
    test = min(_LONGEST_TEST, (last - first) // _DAY // 3)
    return (last - test * _DAY).floor("D"), test


def _check_length(span: pd.Timedelta, tested: int) -> None:
    if span < _SHORTEST * _DAY or tested < _FEWEST:
        msg = (
            f"a report needs {_SHORTEST} days and {_FEWEST} candles in their last third (of a year at most), found "
            f"{span // _DAY} days and {tested:,} candles: give more DAYS or a shorter INTERVAL"
        )
        raise UsageError(msg)


def check_request(days: int, interval: str, end: pd.Timestamp, now: pd.Timestamp) -> None:
    """Refuse a report that cannot come out, before anything is fetched.

    Parameters
    ----------
    days, interval, end
        The span that is asked for; `end` is exclusive.
    now
        The time of the source's clock.

    Raises
    ------
    UsageError
        If the span ends in the future, holds fewer than twenty days, or too few candles for a verdict.
    """
    if end > now:
        msg = (
            f"END may not be after {now:%Y-%m-%d %H:%M} UTC, where the source ends, found {end:%Y-%m-%d %H:%M}: "
            "give an earlier END"
        )
        raise UsageError(msg)
    span, delta = days * _DAY, interval_delta(interval)
    start, _ = _first_test(end - span, end - delta)
    _check_length(span, (end - start) // delta)


def walk_forward(candles: pd.DataFrame, interval: str) -> Backtest:
    """Forecast frames of the next close and range over the plan; suspect candles are not fitted on."""
    suspects: NDArray[np.bool_] = suspect_rows(candles, interval)
    sizes = (RANGE, *SIZE_MODELS)
    plan = plan_for(candles, interval)
    return run_backtests(candles, interval, MODELS, plan, range_models=sizes, features=FEATURES, suspects=suspects)


def volatility_forward(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Forecast frame of the log of the next candle's volatility (Garman-Klass) over the same plan."""
    suspects: NDArray[np.bool_] = suspect_rows(candles, interval)
    plan, target = plan_for(candles, interval), "realized_volatility"
    return run_backtest(candles, interval, SIZE_MODELS, plan, target=target, jobs=1, suspects=suspects)
