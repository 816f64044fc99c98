"""Fitting and forecasting fold by fold, in parallel processes whose number changes no bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships none

from btcml.forecast.dataset import ticks
from btcml.forecast.models import make_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btcml.forecast.dataset import Dataset
    from btcml.forecast.models import Model, Sample
    from btcml.forecast.splits import Fold

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]

DAY_US = 86_400_000_000

__all__ = ["Walked", "fit_all", "test_rows", "walk"]


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


def test_rows(data: Dataset, fold: Fold) -> Rows:
    """Rows whose target candles lie in the fold's test and are known."""
    last = fold.test_end - pd.Timedelta(microseconds=1)
    return np.flatnonzero(data.known & data.between(fold.test_start, last))


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
        Processes, and joblib's name of what runs them (``loky``, ``dask``, ...).

    Returns
    -------
    list of Walked
        One for each dataset.
    """
    calls = [
        delayed(_fit_predict)(
            name,
            own.sample,
            own.training_rows(fold.train_start, fold.cutoff),
            test_rows(own, fold),
            own.ready,
        )
        for name, own in _tasks(work)
        for fold in folds
    ]
    parts = iter(Parallel(n_jobs=jobs, backend=backend)(calls))
    walked = []
    for data, names in work:
        tests = [test_rows(data, fold) for fold in folds]
        cutoff = np.repeat([ticks(fold.cutoff) for fold in folds], [len(test) for test in tests])
        raw = {name: np.concatenate([next(parts) for _ in folds]) for name in names}
        walked.append(Walked(data, np.concatenate(tests), cutoff, raw))
    return walked


def fit_all(
    work: Sequence[tuple[Dataset, Sequence[str]]], start: pd.Timestamp, cutoff: pd.Timestamp, jobs: int = 1
) -> dict[str, Model]:
    """Models by name, fitted on the target candles of [start, cutoff] in parallel processes."""
    # The range model, the slowest, stands last: first here, so that no process waits for it at the end.
    tasks = _tasks(work[::-1])
    calls = [delayed(_fit_dump)(name, data.sample, data.training_rows(start, cutoff)) for name, data in tasks]
    dumps = Parallel(n_jobs=jobs)(calls)
    return {name: make_model(name).load(files) for (name, _), files in zip(tasks, dumps, strict=True)}


def _tasks(work: Sequence[tuple[Dataset, Sequence[str]]]) -> list[tuple[str, Dataset]]:
    """Models with their data; a recipe that insists on its own features gets them."""
    tasks = []
    for data, names in work:
        for name in names:
            own = make_model(name).features
            tasks.append((name, data.with_features(own) if own else data))
    return tasks


def _fit_dump(name: str, sample: Sample, train: Rows) -> dict[str, bytes]:
    """Fit in another process; the model travels as the files that it is saved as."""
    with threadpool_limits(1):
        return make_model(name).fit(sample.at(train)).dump()


def _fit_predict(name: str, sample: Sample, train: Rows, test: Rows, ready: NDArray[np.bool_]) -> Array:
    """Fit on the training rows and forecast the test rows: one task of one process."""
    with threadpool_limits(1):
        fitted = make_model(name).fit(sample.at(train))
        return np.where(ready[test], fitted.predict(sample.at(test)), np.nan)
