"""Tables of scores: models by metrics, persistence in the first row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.metrics.frame import FORECAST_COLUMNS, PERSISTENCE
from btcml.forecast.metrics.groups import GROUPS
from btcml.forecast.metrics.registry import Metric, metric_names, metrics_named

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["evaluate"]

_PRICE_FAMILIES = ("point", "direction", "probability", "interval")


def evaluate(forecasts: pd.DataFrame, metrics: Iterable[str] | None = None, by: str | None = None) -> pd.DataFrame:
    """Score every model by every metric, on the rows that all models forecast.

    Parameters
    ----------
    forecasts
        Long forecast frame of one target with the columns of `FORECAST_COLUMNS` and the model
        `PERSISTENCE`.
    metrics
        Names of metrics, in the order wanted; by default all that suit prices (frames of log
        ranges want ``metric_names("range")``).
    by
        ``year``, ``month``, ``hour``, ``third``, ``age`` or None for the whole span.

    Returns
    -------
    DataFrame
        Columns ``model``, with `by` its label, ``rows``, then one a metric. Persistence comes
        first, the others by the first metric's column in the order better to worse; NaN where a
        model has nothing to score.

    Raises
    ------
    UsageError
        If a column, persistence or a common row is missing, or a name is unknown.

    Notes
    -----
    A model that could not forecast a candle takes that candle from all models: nobody is scored
    on easier rows. Volatility thirds are cut on the whole span.

    Examples
    --------
    >>> from btcml.forecast.metrics import forecast_frame
    >>> frame = forecast_frame([100, 101, 99, 100], {"oracle": {"y_hat": [101, 99, 100]}})
    >>> evaluate(frame, ["skill", "mae_usd"])[["model", "skill"]].to_dict("list")
    {'model': ['persistence', 'oracle'], 'skill': [0.0, 1.0]}
    """
    chosen = metrics_named(metric_names(*_PRICE_FAMILIES) if metrics is None else metrics)
    frames = _common_frames(forecasts)
    labels = _labels(next(iter(frames.values())), by)
    rows = [
        {"model": model, **({by: label} if by else {}), **_scores(part, chosen)}
        for model, frame in frames.items()
        for label, part in frame.groupby(labels, observed=True, sort=True)
    ]
    return _ordered(pd.DataFrame(rows), chosen)


def _scores(part: pd.DataFrame, chosen: list[Metric]) -> dict[str, float]:
    return {"rows": len(part), **{entry.name: entry(part) for entry in chosen}}


def _common_frames(forecasts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    missing = [name for name in FORECAST_COLUMNS if name not in forecasts]
    if missing:
        msg = f"a forecast frame needs the columns {', '.join(FORECAST_COLUMNS)}, missing: {', '.join(missing)}"
        raise UsageError(msg)
    scorable = forecasts[forecasts[["y", "y_hat", "base"]].notna().all(axis=1)]
    models = [str(name) for name in scorable["model"].unique()]
    if PERSISTENCE not in models:
        msg = f"the model {PERSISTENCE} must be among the forecasts, found {', '.join(models) or 'none'}"
        raise UsageError(msg)
    forecast_by = scorable.groupby("open_time")["model"].transform("nunique")
    common = scorable[forecast_by == len(models)].sort_values("open_time", kind="stable")
    if common.empty:
        msg = f"no candle is forecast by all of {', '.join(models)}: score them on one span"
        raise UsageError(msg)
    names = [PERSISTENCE, *(name for name in models if name != PERSISTENCE)]
    return {name: common[common["model"] == name].reset_index(drop=True) for name in names}


def _labels(frame: pd.DataFrame, by: str | None) -> pd.Series:
    if by is None:
        return pd.Series("all", frame.index)
    if by not in GROUPS:
        msg = f"by must be one of {', '.join(GROUPS)}, found {by!r}"
        raise UsageError(msg)
    return GROUPS[by](frame)


def _ordered(table: pd.DataFrame, chosen: list[Metric]) -> pd.DataFrame:
    first = chosen[0]
    mean = table.groupby("model")[first.name].mean() * (-1 if first.better == "more" else 1)
    mean[PERSISTENCE] = float("-inf")
    rank = table["model"].map(mean.rank(method="first"))
    return table.assign(rank=rank).sort_values("rank", kind="stable", ignore_index=True).drop(columns="rank")
