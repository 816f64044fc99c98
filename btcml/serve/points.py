"""Points of ``/series``: out-of-sample forecasts joined with what happened."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.forecast.artifacts import load_result
from btcml.pipeline.evaluate import walk_forward_file
from btcml.store.candles import read_candles
from btcml.store.forecasts import read_scored

if TYPE_CHECKING:
    from btcml.candles import SeriesKey
    from btcml.settings import Settings
    from btcml.store.engine import Store

__all__ = ["point_list", "points_of"]

_FORECAST = ("open_time", "open", "high", "low", "close", "amp", "lo", "hi", "prob_up", "base", "origin")
_EVEN = 0.5
_REAL = ("open", "high", "low", "close", "volume")


def points_of(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    span: tuple[pd.Timestamp, pd.Timestamp],
    model: str | None,
    *,
    beside: bool = False,
) -> pd.DataFrame:
    """Forecasts of a span with their outcomes, oldest first; those without an outcome left out.

    Parameters
    ----------
    model
        Whose walk-forward is shown: the champion's; sealed forecasts replace it where there are any.
    beside
        Whether the sealed forecasts are the model's own, in whatever role, instead of those that were served.

    Returns
    -------
    DataFrame
        ``open_time``, the forecast's ``open, high, low, close, amp, lo, hi, prob_up, base, origin``
        and the candle's ``real_open, real_high, real_low, real_close, real_volume``.
    """
    start, end = span
    sealed = read_scored(store, key, start, end, role=None if beside else "champion")
    kept = sealed["status"].eq("sealed") & (sealed["model"].eq(str(model)) | (not beside))
    sealed = sealed[kept].assign(origin="sealed")[list(_FORECAST)]
    parts = [part for part in (_walked(settings, key, span, model), sealed) if len(part)]
    forecasts = pd.concat(parts, ignore_index=True) if parts else sealed
    forecasts = forecasts.drop_duplicates("open_time", keep="last").sort_values("open_time")
    candles = read_candles(store, key, start, end)[["open_time", *_REAL]]
    real = candles.rename(columns={name: f"real_{name}" for name in _REAL})
    return forecasts.merge(real, on="open_time").reset_index(drop=True)


def _walked(
    settings: Settings, key: SeriesKey, span: tuple[pd.Timestamp, pd.Timestamp], model: str | None
) -> pd.DataFrame:
    result = load_result(walk_forward_file(settings, key)) if model is not None else None
    if result is None:
        return pd.DataFrame(columns=list(_FORECAST))
    walk = result.forecasts
    chosen = walk["model"].eq(str(model)) & walk["open_time"].ge(span[0]) & walk["open_time"].lt(span[1])
    return walk[chosen].assign(close=walk["y_hat"], origin="walk-forward")[list(_FORECAST)]


def point_list(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Points as JSON values."""
    if points.empty:
        return []
    times = points["open_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ").tolist()
    up = [None if math.isnan(value) else int(value >= _EVEN) for value in points["prob_up"]]
    real_amp = points["real_high"] - points["real_low"]
    columns = {
        "close_abs": (points["close"] - points["real_close"]).abs(),
        "close_signed": points["close"] - points["real_close"],
        "amp_abs": (points["amp"] - real_amp).abs(),
        "persistence_abs": (points["base"] - points["real_close"]).abs(),
    }
    real, pred = _records(points, "real_", _REAL), _records(points, "", ("open", "high", "low", "close", "amp"))
    errors = _records(pd.DataFrame(columns), "", tuple(columns))
    sides = _records(points, "", ("lo", "hi", "prob_up"))
    rows = zip(times, real, pred, up, sides, errors, points["origin"], strict=True)
    return [
        {
            "real": {"time": time} | real_row,
            "pred": {f"{name}_next": value for name, value in pred_row.items()},
            "cls": _direction(direction, side["prob_up"]),
            "err": error,
            "lo": side["lo"],
            "hi": side["hi"],
            "origin": origin,
        }
        for time, real_row, pred_row, direction, side, error, origin in rows
    ]


def _records(points: pd.DataFrame, prefix: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    frame = points[[prefix + name for name in names]].set_axis(list(names), axis=1).astype(object)
    return [{str(k): v for k, v in row.items()} for row in frame.where(frame.notna(), None).to_dict("records")]


def _direction(direction: int | None, up: float | None) -> dict[str, Any]:
    return {"dir_next": direction, "prob_up": up, "prob_down": None if up is None else 1 - up}
