"""Fit and forecast fold by fold in parallel; the result does not depend on the number of processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships none

from btcml.errors import UsageError
from btcml.forecast.calibration import (
    CAUTION,
    calibrated,
    probability_losses,
    return_losses,
    trailing_factor,
)
from btcml.forecast.dataset import ticks
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.metrics import FORECAST_COLUMNS, PERSISTENCE
from btcml.forecast.metrics.interval import LEVEL
from btcml.forecast.models import DIRECTION, RANGE, make_model, members_of
from btcml.forecast.targets import next_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btcml.forecast.dataset import Dataset
    from btcml.forecast.models import Model, Sample
    from btcml.forecast.splits import Fold

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]


DAY_US = 86_400_000_000

MOVES = ("close", "open")
"""Targets whose forecasts are multiplied by a factor: moves around 0."""


@dataclass(frozen=True)
class Walked:
    """Raw out-of-sample forecasts of one dataset over all folds, burn-in included.

    Parameters
    ----------
    data
        The dataset.
    rows
        The rows that were forecast, in order of time, shape (n,).
    cutoff
        The last training outcome's open time for each row, microseconds of UTC.
    raw
        Scaled forecasts by model before any factor, shape (n,); NaN where features are not warm.
    """

    data: Dataset
    rows: Rows
    cutoff: Rows
    raw: dict[str, Array]

    @property
    def day(self) -> Rows:
        """Day number of each target candle."""
        return self.data.target_time[self.rows] // DAY_US

    @property
    def outcome(self) -> Array:
        """Scaled outcome of each row."""
        return self.data.sample.y[self.rows]

    @property
    def scale(self) -> Array:
        """Scale of each row."""
        return self.data.prepared.scale[self.rows]


class Raw(NamedTuple):
    """Raw forecasts of close, direction and range over the same folds."""

    close: Walked
    direction: Walked
    ranges: Walked


def walk(
    work: Sequence[tuple[Dataset, Sequence[str]]],
    folds: Sequence[Fold],
    jobs: int = 1,
    backend: str = "loky",
) -> list[Walked]:
    """Out-of-sample forecasts of every model of every dataset, all fits in one pool.

    Parameters
    ----------
    work
        Datasets, each with the names of the models that learn from it; the slowest first.
    folds
        The folds, in order.
    jobs, backend
        Processes, and the name of the joblib backend (``loky``, ``dask``, ...).

    Returns
    -------
    list of Walked
        One for each dataset.

    Raises
    ------
    UsageError
        If `jobs` is below 1.
    """
    if jobs < 1:
        msg = f"fits run in at least 1 process, found {jobs}: give --jobs 1"
        raise UsageError(msg)
    calls = [
        delayed(_fit_predict)(
            name, own.sample, own.training_rows(fold.train_start, fold.cutoff), _test_rows(own, fold), own.ready
        )
        for name, own in _tasks(work)
        for fold in folds
    ]
    parts = iter(Parallel(n_jobs=jobs, backend=backend)(calls))
    walked = []
    for data, names in work:
        tests = [_test_rows(data, fold) for fold in folds]
        cutoff = np.repeat([ticks(fold.cutoff) for fold in folds], [len(test) for test in tests])
        raw = {name: np.concatenate([next(parts) for _ in folds]) for name in names}
        walked.append(Walked(data, np.concatenate(tests), cutoff, raw))
    return walked


def walk_all(
    close: Dataset,
    folds: Sequence[Fold],
    models: Sequence[str],
    range_models: Sequence[str] = (RANGE,),
    jobs: int = 2,
    backend: str = "loky",
) -> Raw:
    """Raw forecasts of the models, the classifier and the range models, all fits in one pool."""
    return Raw(*walk(_work(close, models, range_models), folds, jobs, backend))


def fit_all(
    close: Dataset, models: Sequence[str], start: pd.Timestamp, cutoff: pd.Timestamp, jobs: int = 1
) -> dict[str, Model]:
    """Models by name, fitted on the target candles of [start, cutoff] in parallel processes."""
    # The range model is the slowest, so it starts first: no process waits for it at the end.
    tasks = _tasks(_work(close, models, (RANGE,))[::-1])
    calls = [delayed(_fit_dump)(name, data.sample, data.training_rows(start, cutoff)) for name, data in tasks]
    dumps = Parallel(n_jobs=jobs)(calls)
    return {name: make_model(name).load(files) for (name, _), files in zip(tasks, dumps, strict=True)}


def _work(close: Dataset, models: Sequence[str], range_models: Sequence[str]) -> list[tuple[Dataset, list[str]]]:
    """Datasets with the models that learn from them: close, direction and range, in this order."""
    ranges = close.with_features("range").with_target("log_range")
    sizes = list(dict.fromkeys([RANGE, *range_models]))
    return [(close, _members(models)), (close.with_target("direction"), [DIRECTION]), (ranges, sizes)]


def _members(models: Sequence[str]) -> list[str]:
    """Names to fit, each once."""
    return list(dict.fromkeys(member for name in models for member in members_of(name)))


def _tasks(work: Sequence[tuple[Dataset, Sequence[str]]]) -> list[tuple[str, Dataset]]:
    """Models with their data; a model that requires its own features gets them."""
    tasks = []
    for data, names in work:
        for name in names:
            own = make_model(name).features
            tasks.append((name, data.with_features(own) if own else data))
    return tasks


def _test_rows(data: Dataset, fold: Fold) -> Rows:
    """Rows whose target candles lie in the fold's test and are known."""
    last = fold.test_end - pd.Timedelta(microseconds=1)
    return np.flatnonzero(data.known & data.between(fold.test_start, last))


def _fit_dump(name: str, sample: Sample, train: Rows) -> dict[str, bytes]:
    """Fit in another process; the model is returned as the files of `dump`."""
    with threadpool_limits(1):
        return make_model(name).fit(sample.at(train)).dump()


def _fit_predict(name: str, sample: Sample, train: Rows, test: Rows, ready: NDArray[np.bool_]) -> Array:
    """Fit on the training rows and forecast the test rows: one task of one process."""
    with threadpool_limits(1):
        fitted = make_model(name).fit(sample.at(train))
        return np.where(ready[test], fitted.predict(sample.at(test)), np.nan)


def raw_move(walked: Walked, name: str) -> tuple[Array, Array, float]:
    """Raw forecast of a model or mean, its losses under each factor, and its prior factor."""
    members = members_of(name)
    raw = np.mean([walked.raw[member] for member in members], axis=0)
    prior = float(np.mean([make_model(member).multiplier for member in members]))
    return raw, return_losses(raw, walked.outcome, walked.scale), prior


def level_frame(walked: Walked, models: Sequence[str]) -> pd.DataFrame:
    """Long forecast frame of one target, burn-in included: a block of rows per model, in order of names.

    Moves are multiplied by the factor learned from their earlier forecasts; NaN is persistence.
    """
    data, rows = walked.data, walked.rows
    base = data.persistence[rows]
    shared = pd.DataFrame(
        {"cutoff": _times(walked.cutoff), "open_time": _times(data.target_time[rows]), "y": data.level[rows]}
    )
    scaled = {PERSISTENCE: np.full(len(rows), np.nan)}
    scaled |= {name: _scaled(walked, name) for name in models if name != PERSISTENCE}
    parts = []
    for name in sorted(scaled):
        level = data.level_of(rows, scaled[name])
        parts.append(shared.assign(model=name, y_hat=np.where(np.isnan(level), base, level), base=base))
    frame = pd.concat(parts, ignore_index=True).assign(lo=np.nan, hi=np.nan, prob_up=np.nan)
    return frame.assign(model=frame["model"].astype(pd.CategoricalDtype(sorted(scaled))))[list(FORECAST_COLUMNS)]


def _scaled(walked: Walked, name: str) -> Array:
    raw, losses, prior = raw_move(walked, name)
    return raw * trailing_factor(losses, walked.day, prior, CAUTION) if walked.data.target in MOVES else raw


def _times(stamps: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.to_datetime(stamps, unit="us", utc=True).as_unit("us")


def close_frame(walked: Raw, models: Sequence[str], level: float = LEVEL) -> pd.DataFrame:
    """Long forecast frame of the close, burn-in included, with all columns that pages show.

    Returns
    -------
    DataFrame
        `FORECAST_COLUMNS` and ``open, high, low, amp``. ``lo`` and ``hi`` are the interval at `level`
        around the last close, ``prob_up`` the calibrated probability of a rise (NaN for persistence);
        a column ``level`` is there unless it is 90 %.
    """
    frame = level_frame(walked.close, models)
    base = walked.close.data.persistence[walked.close.rows]
    bounds = AdaptiveInterval(level=level).run(*interval_inputs(walked))
    raw = walked.direction.raw[DIRECTION]
    factor = trailing_factor(probability_losses(raw, walked.direction.outcome), walked.direction.day, 1.0)
    up, down = _reach(walked, base)
    columns = pd.DataFrame(
        {
            "lo": base * np.exp(bounds["lo"].to_numpy()),
            "hi": base * np.exp(bounds["hi"].to_numpy()),
            "prob_up": calibrated(raw, factor),
            "up": base * np.exp(up),
            "down": base * np.exp(-down),
        }
    )
    tiled = {name: np.tile(column.to_numpy(), frame["model"].nunique()) for name, column in columns.items()}
    frame = frame.assign(lo=tiled["lo"], hi=tiled["hi"], open=frame["base"])
    frame["prob_up"] = np.where(frame["model"] == PERSISTENCE, np.nan, tiled["prob_up"])
    frame["high"] = np.fmax(frame[["y_hat", "base"]].max(axis=1), tiled["up"])
    frame["low"] = np.fmin(frame[["y_hat", "base"]].min(axis=1), tiled["down"])
    if level != LEVEL:
        frame["level"] = level
    return frame.assign(amp=frame["high"] - frame["low"])


def interval_inputs(walked: Raw) -> tuple[Array, Array]:
    """Realised log returns and the range forecasts that scale their intervals, shape (n,)."""
    close, ranges = walked.close, walked.ranges
    level = ranges.data.level_of(ranges.rows, ranges.raw[RANGE])
    forecast = pd.Series(level, ranges.rows).reindex(close.rows)
    return np.log(close.data.level[close.rows] / close.data.persistence[close.rows]), np.exp(forecast.to_numpy())


def _reach(walked: Raw, base: Array) -> tuple[Array, Array]:
    """Forecast log distance of high and low from the last close.

    The range forecast times the running median share of the range above and below in the outcomes before;
    one half each before there are any. NaN where the range is not forecast.
    """
    prepared, rows = walked.close.data.prepared, walked.close.rows
    width = interval_inputs(walked)[1]
    high, low = (np.log(next_value(price, prepared.age)[rows] / base) for price in (prepared.high, prepared.low))
    up, down = (pd.Series(part / width).shift(1).expanding().median().fillna(0.5) for part in (high, -low))
    return up.to_numpy() * width, down.to_numpy() * width
