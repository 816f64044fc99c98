"""Out-of-sample forecasts joined with what happened: the points of ``/series``, and their figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.forecast.artifacts import load_forecasts
from btcml.forecast.evaluation import SpanEvaluation, evaluate_span
from btcml.forecast.metrics import PERSISTENCE
from btcml.pipeline.evaluate import walk_forward_file
from btcml.store.candles import read_candles, read_last_candles
from btcml.store.forecasts import read_scored

if TYPE_CHECKING:
    from btcml.candles import SeriesKey
    from btcml.settings import Settings
    from btcml.store.engine import Store
    from btcml.store.models import ModelRecord

    Span = tuple[pd.Timestamp, pd.Timestamp]


ORIGINS = ("walk-forward", "sealed")
"""Origin of an out-of-sample forecast."""

_PRICES = ("open", "high", "low", "close", "amp")
_FORECAST = ("open_time", "cutoff", *_PRICES, "lo", "hi", "prob_up", "base", "origin")
_EVEN = 0.5
_REAL = ("open", "high", "low", "close", "volume")
_DIGITS, _PROBABILITY_PLACES = 10, 6


def read_points(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    span: Span,
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
    forecasts = _forecasts(store, settings, key, span, model, own=own)
    candles = read_candles(store, key, start - 2 * key.delta, end)[["open_time", *_REAL]]
    before = candles[["open_time"]].assign(open_time=candles["open_time"] + 2 * key.delta, before=candles["close"])
    found = forecasts.merge(_real(candles), on="open_time")
    return found.merge(before, on="open_time", how="left").reset_index(drop=True)


def _real(candles: pd.DataFrame) -> pd.DataFrame:
    return candles[["open_time", *_REAL]].rename(columns={name: f"real_{name}" for name in _REAL})


def _forecasts(
    store: Store, settings: Settings, key: SeriesKey, span: Span, model: str | None, *, own: bool
) -> pd.DataFrame:
    """Forecasts of the candles of a span, one a candle."""
    sealed = read_scored(store, key, *span, role=None if own else "champion")
    kept = sealed["status"].eq("sealed") & (sealed["model"].eq(str(model)) | (not own))
    sealed = sealed[kept].assign(origin="sealed")[list(_FORECAST)]
    walked = load_forecasts(walk_forward_file(settings, key), model, span) if model is not None else sealed.head(0)
    if walked.empty:
        return sealed.drop_duplicates("open_time", keep="last").sort_values("open_time")
    walked = walked.assign(close=walked["y_hat"], origin="walk-forward")[list(_FORECAST)]
    found = pd.concat([walked, sealed], ignore_index=True) if len(sealed) else walked
    return found.drop_duplicates("open_time", keep="last").sort_values("open_time")


def read_series(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    span: Span,
    model: str | None,
    *,
    own: bool = False,
) -> pd.DataFrame:
    """Candles of a span, each with the forecast of the next one, oldest first.

    A candle is there if the next one was forecast out of sample, or if it was forecast itself. So the
    forecast of a row is about the candle of the row below it, also around gaps; that of the newest candle
    has no outcome yet.

    Parameters
    ----------
    model, own
        As in `read_points`.

    Returns
    -------
    DataFrame
        ``open_time, real_open, real_high, real_low, real_close, real_volume`` of the candle; ``open, high,
        low, close, amp, lo, hi, prob_up, base, origin`` of the forecast; ``next_high, next_low,
        next_close`` of the next candle; NaN where there is none.
    """
    start, end = span
    forecasts = _forecasts(store, settings, key, (start, end + key.delta), model, own=own)
    candles = read_candles(store, key, start, end + key.delta)
    after = candles[["high", "low", "close"]].add_prefix("next_").assign(open_time=candles["open_time"] - key.delta)
    rows = _real(candles[candles["open_time"] < end]).merge(after, on="open_time", how="left")
    made = forecasts.assign(open_time=forecasts["open_time"] - key.delta)
    rows = rows.merge(made, on="open_time", how="left")
    rows.loc[rows["next_close"].isna() & (rows["open_time"] < _newest(store, key)), list(_FORECAST[1:])] = None
    return rows[rows["close"].notna() | rows["open_time"].isin(forecasts["open_time"])].reset_index(drop=True)


def _newest(store: Store, key: SeriesKey) -> pd.Timestamp:
    """Open time of the newest candle: only its forecast may be without an outcome that comes."""
    newest = read_last_candles(store, key, 1)
    return newest["open_time"].iloc[-1] if len(newest) else pd.Timestamp.min.tz_localize("UTC")


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
    trials: int = 1,
) -> SpanEvaluation:
    """Evaluate points as `read_points` gives them.

    Parameters
    ----------
    model
        Name for the scores.
    origin
        One of `ORIGINS`; None takes both.
    cost_bp, threshold_bp, trials
        As in `btcml.forecast.evaluation.evaluate_span`.
    """
    chosen = points if origin is None else points[points["origin"] == origin]
    frame = chosen.assign(model=model, y=chosen["real_close"], y_hat=chosen["close"])
    return evaluate_span(frame, cost_bp=cost_bp, threshold_bp=threshold_bp, trials=trials)


_SHAPE = {
    "real": {name: f"real_{name}" for name in ("time", *_REAL)},
    "pred": {f"{name}_next": name for name in _PRICES},
    "cls": {name: name for name in ("dir_next", "prob_up", "prob_down")},
    "err": {name: name for name in ("close_abs", "close_signed", "amp_abs", "persistence_abs")},
}


def point_list(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `read_series` as JSON values: ``real`` of a candle; ``pred``, ``cls`` and ``err`` about the next one.

    Prices have ten digits and probabilities six: more is noise, which does not compress.
    """
    columns = {name: _values(column) for name, column in _columns(rows).items()}
    parts = {
        part: [
            dict(zip(shape, values, strict=True))
            for values in zip(*(columns[name] for name in shape.values()), strict=True)
        ]
        for part, shape in _SHAPE.items()
    }
    sides = [columns["close"], columns["close_abs"], columns["lo"], columns["hi"], columns["origin"]]
    return [
        {
            "real": real,
            "pred": None if close is None else pred,
            "cls": None if close is None else cls,
            "err": None if error is None else err,
            "lo": lo,
            "hi": hi,
            "origin": origin,
        }
        for real, pred, cls, err, close, error, lo, hi, origin in zip(*parts.values(), *sides, strict=True)
    ]


def _columns(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns of the points by name; errors are those of the rounded forecasts."""
    scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(rows["real_close"])).clip(upper=_DIGITS - 1))
    made = rows[[*_PRICES, "lo", "hi", "base"]].mul(scale, axis=0).round().div(scale, axis=0)
    errors = {
        "close_signed": made["close"] - rows["next_close"],
        "amp_abs": (made["amp"] - (rows["next_high"] - rows["next_low"])).abs(),
        "persistence_abs": (made["base"] - rows["next_close"]).abs(),
    }
    errors = {name: (error * scale).round() / scale for name, error in errors.items()}
    up = rows["prob_up"].round(_PROBABILITY_PLACES)
    return {
        **{str(name): rows[name] for name in rows.columns},
        **{str(name): made[name] for name in made.columns},
        **errors,
        "close_abs": errors["close_signed"].abs(),
        "real_time": rows["open_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dir_next": (up >= _EVEN).astype(int).astype(object).where(up.notna(), None),
        "prob_up": up,
        "prob_down": (1 - up).round(_PROBABILITY_PLACES),
    }


def _values(column: pd.Series) -> list[Any]:
    """Values of a column; None where there is none."""
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN is unequal to itself
