"""What a report needs of its candles, and how it calls its models."""

from __future__ import annotations

import pandas as pd

from btcml.candles import interval_delta
from btcml.errors import UsageError

__all__ = ["FEATURES", "SIZE_MODELS", "TITLES", "check_length", "check_request", "title_of"]

FEATURES = "core"
"""The set of features that the published experiment sees."""

SIZE_MODELS: tuple[str, ...] = ("ewma", "har", "linear")
"""Quick models of the size of the next move."""

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


_SHORTEST = 20
_FEWEST = 200  # candles without which no verdict falls
_DAY = pd.Timedelta(days=1)


def check_length(first: pd.Timestamp, end: pd.Timestamp, interval: str) -> None:
    """Refuse candles from `first` to `end` (exclusive) that are too few for a report.

    Raises
    ------
    UsageError
        If they span fewer than twenty days, or hold too few candles for a verdict.
    """
    days = (end - interval_delta(interval) - first) // _DAY
    start = (end - interval_delta(interval) - min(365, days // 3) * _DAY).floor("D")
    span, tested = end - first, (end - start) // interval_delta(interval)
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
    check_length(end - days * _DAY, end, interval)
