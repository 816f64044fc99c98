"""Models that other packages register: each forecast is checked for look-ahead."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from btcml.errors import UsageError
from btcml.forecast.models.interface import Model, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class RegisteredModel(Model):
    """Model of another package.

    It forecasts without outcomes, and again with all values later than half of its rows changed: the forecasts of
    those rows must have the same bits.

    Parameters
    ----------
    model
        The model, unfitted.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.multiplier, self.features = model.multiplier, model.features

    def fit(self, sample: Sample) -> Self:
        """Fit on a copy of the path, which shows no more than the part that is given."""
        self.model.fit(replace(sample, path=sample.path.copy()))
        return self

    def predict(self, sample: Sample) -> Array:
        """Forecasts, which do not depend on later rows.

        Raises
        ------
        UsageError
            If the model looks ahead, or returns anything but a number for each row.
        """
        sample = replace(sample, y=np.empty(0))
        half = len(sample.rows) // 2 + 1
        found, now = self._forecasts(sample), sample.rows[:half].max(initial=-1) + 1
        path, x = sample.path.copy(), sample.x.copy()
        path[now:], x[half:] = 1 - 2 * path[now:], 1 - 2 * x[half:]
        if not np.array_equal(found[:half], self._forecasts(replace(sample, path=path, x=x))[:half], equal_nan=True):
            msg = "it looks ahead, or draws random numbers without a seed: its forecasts change with later candles"
            raise UsageError(msg)
        return found

    def dump(self) -> dict[str, bytes]:
        """Files of the model."""
        return self.model.dump()

    def load(self, files: dict[str, bytes]) -> Self:
        """Load them."""
        self.model = self.model.load(files)
        return self

    def _forecasts(self, sample: Sample) -> Array:
        rows = len(sample.rows)
        found = np.asarray(self.model.predict(sample))
        if found.shape != (rows,) or found.dtype.kind not in "fiu":
            msg = f"{rows} numbers were expected, found {found.dtype} of shape {found.shape}"
            raise UsageError(msg)
        return found.astype("float64")
