"""The forecasts that every other must beat: no change, and the mean change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

import numpy as np

from btcml.forecast.models.sample import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["MODELS", "Drift", "Persistence"]


class Persistence(Model):
    """Next close = this close: the scaled move is 0."""

    def fit(self, sample: Sample) -> Self:  # noqa: ARG002 - nothing to learn
        """Learn nothing."""
        return self

    def predict(self, sample: Sample) -> Array:
        """Return zeros."""
        return np.zeros(len(sample.rows))

    def dump(self) -> dict[str, bytes]:
        """Nothing to save."""
        return {}

    def load(self, files: dict[str, bytes]) -> Self:  # noqa: ARG002 - nothing to load
        """Nothing to load."""
        return self


class Drift(Model):
    """The mean scaled move of the training rows."""

    def __init__(self) -> None:
        self.mean = 0.0

    def fit(self, sample: Sample) -> Self:
        """Take the mean outcome."""
        self.mean = float(np.mean(sample.y))
        return self

    def predict(self, sample: Sample) -> Array:
        """Return the mean for every row."""
        return np.full(len(sample.rows), self.mean)

    def dump(self) -> dict[str, bytes]:
        """One number as JSON."""
        return {"drift.json": json.dumps({"mean": self.mean}).encode()}

    def load(self, files: dict[str, bytes]) -> Self:
        """Read the number."""
        self.mean = float(json.loads(files["drift.json"])["mean"])
        return self


MODELS: dict[str, Callable[[], Model]] = {"persistence": Persistence, "drift": Drift}
