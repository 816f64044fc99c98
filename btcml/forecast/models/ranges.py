"""Models of the next log range: EWMA, HAR, a linear model, and boosting on its residuals."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from btcml.forecast.models.boosting import Boosting
from btcml.forecast.models.interface import Model, Sample
from btcml.forecast.models.linear import Linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


HAR_COLUMNS = ("range_ratio", "range_mean_12", "range_mean_96")
EWMA_COLUMNS = ("range_ewm_4", "range_ewm_16", "range_ewm_48")


class Har(Model):
    """Heterogeneous autoregression: least squares by statsmodels on a few columns.

    Parameters
    ----------
    columns
        Candidates.
    single
        Keep the one column that fits best (the best EWMA) instead of all.
    """

    features = "range"

    def __init__(self, columns: tuple[str, ...] = HAR_COLUMNS, *, single: bool = False) -> None:
        self.candidates, self.single = columns, single
        self.columns: tuple[str, ...] = columns
        self.params = np.zeros(1)

    def fit(self, sample: Sample) -> Self:
        """Fit by ordinary least squares."""
        from statsmodels.regression.linear_model import OLS  # noqa: PLC0415 - serving needs no statsmodels

        if not np.ptp(sample.y):  # no range varies, so that nothing can be estimated
            self.columns, self.params = (), sample.y[:1]
            return self
        choices = [(name,) for name in self.candidates] if self.single else [self.candidates]
        fits = [OLS(sample.y, self._design(sample, choice)).fit() for choice in choices]
        best = max(range(len(fits)), key=lambda i: fits[i].rsquared)
        self.columns, self.params = choices[best], np.asarray(fits[best].params)
        return self

    @staticmethod
    def _design(sample: Sample, columns: tuple[str, ...]) -> Array:
        return np.column_stack([np.ones(len(sample.x)), *(sample.column(name) for name in columns)])

    def predict(self, sample: Sample) -> Array:
        """Constant plus weighted columns."""
        out = np.full(len(sample.x), self.params[0])
        for name, weight in zip(self.columns, self.params[1:], strict=True):
            out += weight * sample.column(name)
        return out

    def dump(self) -> dict[str, bytes]:
        """Numbers as JSON."""
        return {"har.json": json.dumps({"columns": self.columns, "params": self.params.tolist()}).encode()}

    def load(self, files: dict[str, bytes]) -> Self:
        """Read the numbers."""
        numbers = json.loads(files["har.json"])
        self.columns, self.params = tuple(numbers["columns"]), np.array(numbers["params"], dtype="float64")
        return self


class LinearBoosting(Model):
    """A linear model, and LightGBM on its residuals: trees alone are not robust on levels."""

    features = "range"
    binned = True

    def __init__(self) -> None:
        self._line = Linear(clip=np.inf)
        self._trees = Boosting(
            rows_per_leaf=500,
            large={"num_iterations": 50, "num_leaves": 64},
            objective="l2",
            learning_rate=0.1,
            min_data_in_leaf=500,
        )

    def fit(self, sample: Sample) -> Self:
        """Fit the linear model, then the trees."""
        self._line.fit(sample)
        self._trees.fit(replace(sample, y=sample.y - self._line.predict(sample)))
        return self

    def predict(self, sample: Sample) -> Array:
        """Linear model plus trees."""
        return self._line.predict(sample) + self._trees.predict(sample)

    def dump(self) -> dict[str, bytes]:
        """Both files."""
        return self._line.dump() | self._trees.dump()

    def load(self, files: dict[str, bytes]) -> Self:
        """Both files."""
        self._line.load(files)
        self._trees.load(files)
        return self


MODELS: dict[str, Callable[[], Model]] = {
    "ewma": partial(Har, EWMA_COLUMNS, single=True),
    "har": Har,
    "linear": partial(Linear, clip=np.inf),
    "range_boosting": LinearBoosting,
}
