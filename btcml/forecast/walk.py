"""Fitting and forecasting fold by fold, in parallel processes whose number changes no bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from btcml.forecast.models import make_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btcml.forecast.dataset import Dataset
    from btcml.forecast.models import Sample
    from btcml.forecast.splits import Fold

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]

__all__ = ["test_rows", "walk"]


def test_rows(data: Dataset, fold: Fold) -> Rows:
    """Rows whose target candles lie in the fold's test and are known."""
    last = fold.test_end - pd.Timedelta(microseconds=1)
    return np.flatnonzero(data.known & data.between(fold.test_start, last))


def walk(
    work: Sequence[tuple[str, Dataset]], folds: Sequence[Fold], jobs: int = 1, backend: str = "loky"
) -> list[Array]:
    """Scaled out-of-sample forecasts of each (model, dataset), folds one after the other.

    Parameters
    ----------
    work
        Models by name with the data they learn from.
    folds
        The folds, in order.
    jobs, backend
        Processes, and joblib's name of what runs them (``loky``, ``dask``, ...).

    Returns
    -------
    list of ndarray
        One array for each piece of work, over the concatenated `test_rows`; NaN where the
        features are not warm.
    """
    tasks = [(name, data, fold) for name, data in work for fold in folds]
    calls = [
        delayed(_fit_predict)(
            name,
            data.sample,
            data.training_rows(fold.train_start, fold.cutoff),
            test_rows(data, fold),
            data.ready,
        )
        for name, data, fold in tasks
    ]
    parts = Parallel(n_jobs=jobs, backend=backend)(calls)
    return [np.concatenate(parts[at : at + len(folds)]) for at in range(0, len(parts), len(folds))]


def _fit_predict(name: str, sample: Sample, train: Rows, test: Rows, ready: NDArray[np.bool_]) -> Array:
    """Fit on the training rows and forecast the test rows: one task of one process."""
    with threadpool_limits(1):
        fitted = make_model(name).fit(sample.at(train))
        return np.where(ready[test], fitted.predict(sample.at(test)), np.nan)
