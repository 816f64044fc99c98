"""The walk-forward back-test: every model on every fold, one long frame out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from btcml.forecast.dataset import Dataset, make_dataset, ticks
from btcml.forecast.models import make_model
from btcml.forecast.multiplier import trailing_multiplier
from btcml.forecast.splits import Fold, WalkForward

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from btcml.forecast.models.sample import Sample

    Array = NDArray[np.float64]

__all__ = ["COLUMNS", "MEANS", "run_backtest"]

COLUMNS = ("cutoff", "open_time", "model", "y", "y_hat", "lo", "hi", "prob_up", "base")
"""Columns of a forecast frame."""

DAY_US = 86_400_000_000
BOLD = ("close", "open")
"""Targets whose forecasts are multiplied: moves around 0."""

MEANS: dict[str, tuple[str, ...]] = {"lightgbm_mean": ("lightgbm_huber", "lightgbm_l1")}
"""Models that are the mean of others, which are fitted once for both."""


def run_backtest(  # noqa: PLR0913 - an experiment has this many knobs
    candles: pd.DataFrame,
    interval: str,
    models: Sequence[str],
    plan: WalkForward,
    *,
    features: str | Iterable[str] = "core",
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
        Set or names of features.
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
        lo, hi and prob_up are NaN where nothing gives them.

    Raises
    ------
    UsageError
        If a model, feature or target is unknown.
    NotReadyError
        If there are no candles before the test.
    """
    data = make_dataset(candles, interval, features, target, suspects)
    folds = plan.folds(candles["open_time"], interval)
    rows = [_test_rows(data, fold) for fold in folds]
    raw = _forecasts(data, folds, rows, _members(models), jobs, backend)
    cutoff = np.repeat(np.array([ticks(fold.cutoff) for fold in folds]), [len(part) for part in rows])
    frame = _long(data, np.concatenate(rows), cutoff, _combined(data, np.concatenate(rows), raw, models))
    return frame[frame["open_time"] >= plan.first_test].reset_index(drop=True)


def _members(models: Sequence[str]) -> list[str]:
    """Names to fit: means stand for their members."""
    return list(dict.fromkeys(member for name in models for member in MEANS.get(name, (name,))))


def _test_rows(data: Dataset, fold: Fold) -> NDArray[np.int64]:
    last = fold.test_end - pd.Timedelta(microseconds=1)
    return np.flatnonzero(data.known & data.between(fold.test_start, last))


def _forecasts(  # noqa: PLR0913 - what one round of fits needs
    data: Dataset,
    folds: Sequence[Fold],
    rows: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    jobs: int,
    backend: str,
) -> dict[str, Array]:
    """Scaled forecasts of each model, folds one after the other."""
    tasks = [(name, fold, test) for name in names for fold, test in zip(folds, rows, strict=True)]
    calls = [
        delayed(_fit_predict)(
            name, data.sample, data.training_rows(fold.train_start, fold.cutoff), test, data.ready
        )
        for name, fold, test in tasks
    ]
    parts = Parallel(n_jobs=jobs, backend=backend)(calls)
    chunks = [parts[first : first + len(folds)] for first in range(0, len(parts), len(folds))]
    return {name: np.concatenate(chunk) for name, chunk in zip(names, chunks, strict=True)}


def _fit_predict(
    name: str, sample: Sample, train: NDArray[np.int64], test: NDArray[np.int64], ready: NDArray[np.bool_]
) -> Array:
    """One task: fit on the training rows, forecast the test rows, NaN where features are not warm."""
    with threadpool_limits(1):
        fitted = make_model(name).fit(sample.at(train))
        return np.where(ready[test], fitted.predict(sample.at(test)), np.nan)


def _combined(
    data: Dataset, rows: NDArray[np.int64], raw: dict[str, Array], models: Sequence[str]
) -> dict[str, Array]:
    """Scaled forecasts by model name, means made and multipliers applied; NaN is persistence."""
    out = {"persistence": np.full(len(rows), np.nan)}
    day = data.target_time[rows] // DAY_US
    for name in models:
        members = MEANS.get(name, (name,))
        scaled = np.mean([raw[member] for member in members], axis=0)
        if data.target in BOLD:
            prior = float(np.mean([make_model(member).multiplier for member in members]))
            scaled = scaled * trailing_multiplier(
                scaled, data.sample.y[rows], data.prepared.scale[rows], day, prior
            )
        out[name] = scaled
    return out


def _long(
    data: Dataset, rows: NDArray[np.int64], cutoff: NDArray[np.int64], scaled: dict[str, Array]
) -> pd.DataFrame:
    """One block of rows a model, models in order of their names."""
    base, parts = data.persistence[rows], []
    shared = {
        "cutoff": _times(cutoff),
        "open_time": _times(data.target_time[rows]),
        "y": data.level[rows],
        "base": base,
    }
    for name in sorted(scaled):
        level = data.level_of(rows, scaled[name])
        part = pd.DataFrame(shared).assign(model=name, y_hat=np.where(np.isnan(level), base, level))
        parts.append(part.assign(lo=np.nan, hi=np.nan, prob_up=np.nan)[list(COLUMNS)])
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(model=frame["model"].astype(pd.CategoricalDtype(sorted(scaled))))


def _times(stamps: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.to_datetime(stamps, unit="us", utc=True).as_unit("us")
