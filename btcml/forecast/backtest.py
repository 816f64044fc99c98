"""The walk-forward back-test: every model on every fold, one long frame out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from btcml.forecast.dataset import Dataset, make_dataset, ticks
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.models import make_model
from btcml.forecast.multiplier import (
    calibrated,
    probability_losses,
    return_losses,
    trailing_factor,
)
from btcml.forecast.walk import test_rows, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from btcml.forecast.splits import Fold, WalkForward

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]

__all__ = ["COLUMNS", "DIRECTION", "MEANS", "RANGE", "Backtest", "run_backtest", "run_backtests"]

COLUMNS = ("cutoff", "open_time", "model", "y", "y_hat", "lo", "hi", "prob_up", "base")
"""Columns of a forecast frame."""

DAY_US = 86_400_000_000
BOLD = ("close", "open")
"""Targets whose forecasts are multiplied: moves around 0."""

MEANS: dict[str, tuple[str, ...]] = {"lightgbm_mean": ("lightgbm_huber", "lightgbm_l1")}
"""Models that are the mean of others, which are fitted once for both."""

DIRECTION = "direction"
"""The classifier that gives prob_up."""

RANGE = "range_boosting"
"""The range model that scales the intervals."""


class Backtest(NamedTuple):
    """Forecast frames of one walk-forward."""

    close: pd.DataFrame
    log_range: pd.DataFrame


@dataclass(frozen=True)
class _Walked:
    """Raw out-of-sample forecasts over all folds, burn-in included."""

    data: Dataset
    rows: Rows
    cutoff: NDArray[np.int64]
    raw: dict[str, Array]


def run_backtest(  # noqa: PLR0913 - an experiment has this many knobs
    candles: pd.DataFrame,
    interval: str,
    models: Sequence[str],
    plan: WalkForward,
    *,
    features: str | Iterable[str] | None = None,
    target: str = "close",
    jobs: int = 2,
    backend: str = "loky",
    suspects: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Forecast every test candle by models fitted before it.

    Parameters
    ----------
    candles
        Candle frame.
    interval
        Its interval.
    models
        Names for `models.make_model` or `MEANS`; persistence is always added.
    plan
        The folds.
    features
        Set or names of features; left out, ``core``, or ``range`` for ranges and volatility.
    target
        A name in `targets.TARGETS`.
    jobs, backend
        Parallel fits, and joblib's backend for them; the forecasts do not depend on either.
    suspects
        One boolean a candle: rows not to fit on.

    Returns
    -------
    DataFrame
        `COLUMNS`, sorted by model and open_time: one row for each model and each test candle that
        follows another without a gap. Where features are not warm the forecast is persistence's.
        For the close, lo and hi are the 90 % interval around the last close and prob_up the
        calibrated probability of a rise (not for persistence); for other targets they are NaN.

    Raises
    ------
    UsageError
        If a model, feature or target is unknown.
    NotReadyError
        If there are no candles before the test.
    """
    if target == "close":
        both = run_backtests(
            candles, interval, models, plan, features=features or "core", jobs=jobs, backend=backend, suspects=suspects
        )
        return both.close
    features = features or ("range" if target in {"log_range", "realized_volatility", "amplitude"} else "core")
    data = make_dataset(candles, interval, features, target, suspects)
    walked = _walk([(data, _members(models))], plan.folds(candles["open_time"], interval), jobs, backend)[0]
    return _tested(_long(walked, _bold(walked, models)), plan)


def run_backtests(  # noqa: PLR0913 - an experiment has this many knobs
    candles: pd.DataFrame,
    interval: str,
    models: Sequence[str],
    plan: WalkForward,
    *,
    range_models: Sequence[str] = (RANGE,),
    features: str | Iterable[str] = "core",
    jobs: int = 2,
    backend: str = "loky",
    suspects: NDArray[np.bool_] | None = None,
) -> Backtest:
    """Back-test close and log range in one walk, as `run_backtest` does; nothing is fitted twice.

    Returns
    -------
    Backtest
        Frames ``close`` (with intervals and probabilities) and ``log_range``.
    """
    close = make_dataset(candles, interval, features, "close", suspects)
    ranges = make_dataset(candles, interval, "range", "log_range", suspects)
    work = [
        (ranges, list(dict.fromkeys([RANGE, *_members(range_models)]))),
        (close.with_target("direction"), [DIRECTION]),
        (close, _members(models)),
    ]
    ranged, directed, closed = _walk(work, plan.folds(candles["open_time"], interval), jobs, backend)
    frame = _long(closed, _bold(closed, models))
    frame = _with_interval(frame, closed, ranged)
    frame = _with_probability(frame, directed)
    kept = {name: ranged.raw[name] for name in range_models}
    return Backtest(_tested(frame, plan), _tested(_long(ranged, _bold_free(kept, ranged)), plan))


def _members(models: Sequence[str]) -> list[str]:
    """Names to fit: means stand for their members, persistence needs no fit."""
    names = dict.fromkeys(member for name in models for member in MEANS.get(name, (name,)))
    return [name for name in names if name != "persistence"]


def _walk(
    work: Sequence[tuple[Dataset, Sequence[str]]], folds: Sequence[Fold], jobs: int, backend: str
) -> list[_Walked]:
    """All fits of all datasets in one pool."""
    flat = [(name, data) for data, names in work for name in names]
    forecasts = iter(walk(flat, folds, jobs, backend))
    walked = []
    for data, names in work:
        parts = [test_rows(data, fold) for fold in folds]
        cutoff = np.repeat(np.array([ticks(fold.cutoff) for fold in folds]), [len(part) for part in parts])
        walked.append(_Walked(data, np.concatenate(parts), cutoff, {name: next(forecasts) for name in names}))
    return walked


def _bold_free(raw: dict[str, Array], walked: _Walked) -> dict[str, Array]:
    """Forecasts as they are, with persistence (NaN) beside them."""
    return {"persistence": np.full(len(walked.rows), np.nan)} | raw


def _bold(walked: _Walked, models: Sequence[str]) -> dict[str, Array]:
    """Scaled forecasts by model name: means made, and multiplied where the target is a move."""
    data, rows = walked.data, walked.rows
    out = {}
    for name in models:
        members = MEANS.get(name, (name,))
        if name == "persistence":
            continue
        scaled = np.mean([walked.raw[member] for member in members], axis=0)
        if data.target in BOLD:
            losses = return_losses(scaled, data.sample.y[rows], data.prepared.scale[rows])
            prior = float(np.mean([make_model(member).multiplier for member in members]))
            scaled = scaled * trailing_factor(losses, data.target_time[rows] // DAY_US, prior)
        out[name] = scaled
    return _bold_free(out, walked)


def _long(walked: _Walked, scaled: dict[str, Array]) -> pd.DataFrame:
    """One block of rows a model, in order of their names."""
    data, rows = walked.data, walked.rows
    base = data.persistence[rows]
    shared = pd.DataFrame(
        {"cutoff": _times(walked.cutoff), "open_time": _times(data.target_time[rows]), "y": data.level[rows]}
    )
    parts = []
    for name in sorted(scaled):
        level = data.level_of(rows, scaled[name])
        parts.append(shared.assign(model=name, y_hat=np.where(np.isnan(level), base, level), base=base))
    frame = pd.concat(parts, ignore_index=True).assign(lo=np.nan, hi=np.nan, prob_up=np.nan)
    return frame.assign(model=frame["model"].astype(pd.CategoricalDtype(sorted(scaled))))[list(COLUMNS)]


def _times(stamps: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.to_datetime(stamps, unit="us", utc=True).as_unit("us")


def _with_interval(frame: pd.DataFrame, closed: _Walked, ranged: _Walked) -> pd.DataFrame:
    """Bounds around the last close, scaled by the range forecast."""
    forecast = pd.Series(ranged.data.level_of(ranged.rows, ranged.raw[RANGE]), ranged.rows).reindex(closed.rows)
    base = closed.data.persistence[closed.rows]
    bounds = AdaptiveInterval(level=0.9).run(np.log(closed.data.level[closed.rows] / base), np.exp(forecast.to_numpy()))
    copies = frame["model"].nunique()
    lo, hi = (np.tile(base * np.exp(bounds[side].to_numpy()), copies) for side in ("lo", "hi"))
    return frame.assign(lo=lo, hi=hi)


def _with_probability(frame: pd.DataFrame, directed: _Walked) -> pd.DataFrame:
    """Calibrated probability of a rise, beside every model but persistence."""
    raw, rows = directed.raw[DIRECTION], directed.rows
    losses = probability_losses(raw, directed.data.sample.y[rows])
    day = directed.data.target_time[rows] // DAY_US
    prob = calibrated(raw, trailing_factor(losses, day, make_model(DIRECTION).multiplier))
    tiled = np.tile(prob, frame["model"].nunique())
    return frame.assign(prob_up=np.where(frame["model"] == "persistence", np.nan, tiled))


def _tested(frame: pd.DataFrame, plan: WalkForward) -> pd.DataFrame:
    """Rows of the test, without the burn-in."""
    return frame[frame["open_time"] >= plan.first_test].reset_index(drop=True)
