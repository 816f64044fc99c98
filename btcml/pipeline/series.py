"""Out-of-sample forecasts joined with what happened: the points of ``/series``, and their figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.forecast.artifacts import load_result
from btcml.forecast.evaluation import SpanEvaluation, evaluate_span
from btcml.forecast.metrics import PERSISTENCE
from btcml.pipeline.evaluate import walk_forward_file
from btcml.store.candles import read_candles
from btcml.store.forecasts import read_scored

if TYPE_CHECKING:
    from btcml.candles import SeriesKey
    from btcml.settings import Settings
    from btcml.store.engine import Store
    from btcml.store.models import ModelRecord


ORIGINS = ("walk-forward", "sealed")
"""Origin of an out-of-sample forecast."""

_FORECAST = ("cutoff", "open_time", "open", "high", "low", "close", "amp", "lo", "hi", "prob_up", "base", "origin")
_EVEN = 0.5
_REAL = ("open", "high", "low", "close", "volume")


def read_points(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    span: tuple[pd.Timestamp, pd.Timestamp],
    model: str | None,
    *,
    own: bool = False,
) -> pd.DataFrame:
    """Forecasts of a span with their outcomes, oldest first; those without an outcome left out.

    Parameters
    ----------
    model
        Whose walk-forward is shown: the champion's; sealed forecasts replace it where there are any.
    own
        Whether the sealed forecasts are the model's own, in whatever role, instead of those that were served.

    Returns
    -------
    DataFrame
        ``cutoff, open_time``, the forecast's ``open, high, low, close, amp, lo, hi, prob_up, base, origin``,
        the candle's ``real_open, real_high, real_low, real_close, real_volume``, and ``before``: the close
        before the base, NaN where that candle is missing.
    """
    start, end = span
    sealed = read_scored(store, key, start, end, role=None if own else "champion")
    kept = sealed["status"].eq("sealed") & (sealed["model"].eq(str(model)) | (not own))
    sealed = sealed[kept].assign(origin="sealed")[list(_FORECAST)]
    parts = [part for part in (_walked(settings, key, span, model), sealed) if len(part)]
    forecasts = pd.concat(parts, ignore_index=True) if parts else sealed
    forecasts = forecasts.drop_duplicates("open_time", keep="last").sort_values("open_time")
    candles = read_candles(store, key, start - 2 * key.delta, end)[["open_time", *_REAL]]
    before = candles[["open_time"]].assign(open_time=candles["open_time"] + 2 * key.delta, before=candles["close"])
    real = candles.rename(columns={name: f"real_{name}" for name in _REAL})
    return forecasts.merge(real, on="open_time").merge(before, on="open_time", how="left").reset_index(drop=True)


def _walked(
    settings: Settings, key: SeriesKey, span: tuple[pd.Timestamp, pd.Timestamp], model: str | None
) -> pd.DataFrame:
    result = load_result(walk_forward_file(settings, key)) if model is not None else None
    if result is None:
        return pd.DataFrame(columns=list(_FORECAST))
    walk = result.forecasts
    chosen = walk["model"].eq(str(model)) & walk["open_time"].ge(span[0]) & walk["open_time"].lt(span[1])
    return walk[chosen].assign(close=walk["y_hat"], origin="walk-forward")[list(_FORECAST)]


def best_model(champion: ModelRecord | None) -> str | None:
    """The champion, or the challenger with the smallest error where persistence serves; None before a training."""
    if champion is None or champion.name != PERSISTENCE:
        return None if champion is None else champion.name
    others = [row["model"] for row in champion.verdict.get("table", []) if row["model"] != PERSISTENCE]
    return str(others[0]) if others else PERSISTENCE


def evaluate_series(
    points: pd.DataFrame,
    model: str,
    *,
    origin: str | None = None,
    cost_bp: float = 2.0,
    threshold_bp: float = 0.0,
) -> SpanEvaluation:
    """Evaluate points as `read_points` gives them.

    Parameters
    ----------
    model
        Name for the scores.
    origin
        One of `ORIGINS`; None takes both.
    cost_bp, threshold_bp
        As in `btcml.forecast.evaluation.evaluate_span`.
    """
    chosen = points if origin is None else points[points["origin"] == origin]
    frame = chosen.assign(model=model, y=chosen["real_close"], y_hat=chosen["close"])
    return evaluate_span(frame, cost_bp=cost_bp, threshold_bp=threshold_bp)


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
