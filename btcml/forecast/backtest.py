"""The walk-forward back-test: every model on every fold, one long frame out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.models import make_model
from btcml.forecast.multiplier import (
    CAUTION,
    calibrated,
    probability_losses,
    return_losses,
    trailing_factor,
)
from btcml.forecast.naming import DIRECTION, RANGE, members_of
from btcml.forecast.walk import Walked, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from btcml.forecast.splits import Fold, WalkForward

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]

__all__ = [
    "COLUMNS",
    "Backtest",
    "WalkedAll",
    "assemble",
    "boldness",
    "interval_inputs",
    "run_backtest",
    "run_backtests",
    "walk_all",
    "work_of",
]

COLUMNS = ("cutoff", "open_time", "model", "y", "y_hat", "lo", "hi", "prob_up", "base")
"""Columns of a forecast frame."""

BOLD = ("close", "open")
"""Targets whose forecasts are multiplied: moves around 0."""

VOLATILE = ("log_range", "realized_volatility", "amplitude")
"""Targets that are forecast from the range features unless others are named."""


class Backtest(NamedTuple):
    """Forecast frames of one walk-forward."""

    close: pd.DataFrame
    log_range: pd.DataFrame


def run_backtest(  # noqa: PLR0913 - an experiment has this many knobs
    candles: pd.DataFrame,
    interval: str,
    models: str | Sequence[str],
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
        One or several names for `models.make_model` or `MEANS`; persistence is always added.
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
        `COLUMNS`, sorted by model and open_time: one row for each model and each test candle whose
        scale is known: the warm-up after a gap is not scored. Where a model's own features are not
        warm its forecast is persistence's.
        For the close, lo and hi are the 90 % interval around the last close and prob_up the
        calibrated probability of a rise (not for persistence); for other targets they are NaN.

    Raises
    ------
    UsageError
        If a model, feature or target is unknown.
    NotReadyError
        If there are no candles before the test.
    """
    models = [models] if isinstance(models, str) else models
    if target == "close":
        both = run_backtests(
            candles, interval, models, plan, features=features or "core", jobs=jobs, backend=backend, suspects=suspects
        )
        return both.close
    chosen = features or ("range" if target in VOLATILE else "core")
    data = make_dataset(candles, interval, chosen, target, suspects)
    walked = walk([(data, _members(models))], plan.folds(candles["open_time"], interval), jobs, backend)[0]
    return _tested(_long(walked, _named(walked, models)), plan)


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
    folds = plan.folds(candles["open_time"], interval)
    walked = walk_all(close, folds, models, range_models, jobs, backend)
    return assemble(walked, models, range_models, plan)


class WalkedAll(NamedTuple):
    """Raw forecasts of close, direction and range over the same folds."""

    close: Walked
    direction: Walked
    ranges: Walked


def work_of(
    close: Dataset, models: Sequence[str], range_models: Sequence[str] = (RANGE,)
) -> list[tuple[Dataset, list[str]]]:
    """Datasets with the models that learn from them: close, direction and range, in this order."""
    ranges = close.with_features("range").with_target("log_range")
    range_names = dict.fromkeys([RANGE, *_members(range_models)])
    return [(close, _members(models)), (close.with_target("direction"), [DIRECTION]), (ranges, list(range_names))]


def walk_all(
    close: Dataset,
    folds: Sequence[Fold],
    models: Sequence[str],
    range_models: Sequence[str] = (RANGE,),
    jobs: int = 2,
    backend: str = "loky",
) -> WalkedAll:
    """Raw forecasts of the models, the classifier and the range models, all fits in one pool."""
    return WalkedAll(*walk(work_of(close, models, range_models), folds, jobs, backend))


def assemble(walked: WalkedAll, models: Sequence[str], range_models: Sequence[str], plan: WalkForward) -> Backtest:
    """Forecast frames of the test out of raw forecasts that include the burn-in."""
    frame = _long(walked.close, _named(walked.close, models))
    frame = _with_probability(_with_interval(frame, walked), walked.direction)
    ranges = _long(walked.ranges, _named(walked.ranges, range_models))
    return Backtest(_tested(frame, plan), _tested(ranges, plan))


def _members(models: Sequence[str]) -> list[str]:
    """Names to fit, each once."""
    return list(dict.fromkeys(member for name in models for member in members_of(name)))


def boldness(walked: Walked, name: str) -> tuple[Array, Array, float]:
    """Raw forecast of a model or mean, its losses under each factor, and its prior factor."""
    members = members_of(name)
    raw = np.mean([walked.raw[member] for member in members], axis=0)
    prior = float(np.mean([make_model(member).multiplier for member in members]))
    return raw, return_losses(raw, walked.outcome, walked.scale), prior


def _named(walked: Walked, models: Sequence[str]) -> dict[str, Array]:
    """Scaled forecasts by model name, multiplied where the target is a move; NaN is persistence."""
    out = {"persistence": np.full(len(walked.rows), np.nan)}
    for name in models:
        if name == "persistence":
            continue
        raw, losses, prior = boldness(walked, name)
        bold = walked.data.target in BOLD
        out[name] = raw * trailing_factor(losses, walked.day, prior, CAUTION) if bold else raw
    return out


def _long(walked: Walked, scaled: dict[str, Array]) -> pd.DataFrame:
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


def interval_inputs(walked: WalkedAll) -> tuple[Array, Array]:
    """Realised log returns and the range forecasts that scale their intervals, shape (n,)."""
    close, ranges = walked.close, walked.ranges
    level = ranges.data.level_of(ranges.rows, ranges.raw[RANGE])
    forecast = pd.Series(level, ranges.rows).reindex(close.rows)
    return np.log(close.data.level[close.rows] / close.data.persistence[close.rows]), np.exp(forecast.to_numpy())


def _with_interval(frame: pd.DataFrame, walked: WalkedAll) -> pd.DataFrame:
    """Bounds around the last close, scaled by the range forecast."""
    bounds = AdaptiveInterval(level=0.9).run(*interval_inputs(walked))
    base = walked.close.data.persistence[walked.close.rows]
    copies = frame["model"].nunique()
    lo, hi = (np.tile(base * np.exp(bounds[side].to_numpy()), copies) for side in ("lo", "hi"))
    return frame.assign(lo=lo, hi=hi)


def _with_probability(frame: pd.DataFrame, directed: Walked) -> pd.DataFrame:
    """Calibrated probability of a rise, beside every model but persistence."""
    raw = directed.raw[DIRECTION]
    factor = trailing_factor(probability_losses(raw, directed.outcome), directed.day, 1.0)
    tiled = np.tile(calibrated(raw, factor), frame["model"].nunique())
    return frame.assign(prob_up=np.where(frame["model"] == "persistence", np.nan, tiled))


def _tested(frame: pd.DataFrame, plan: WalkForward) -> pd.DataFrame:
    """Rows of the test, without the burn-in."""
    return frame[frame["open_time"] >= plan.first_test].reset_index(drop=True)
