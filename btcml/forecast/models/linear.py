"""Linear models: ridge on clipped outcomes, and least absolute deviations."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
from sklearn.linear_model import Ridge

from btcml.forecast.models.interface import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


REACH = 5.0
"""Standardised features are clipped to ±REACH, so that no outlier dominates the fit."""


_BLOCK = 1024  # rows that stay in a processor's cache


class Linear(Model):
    """Ridge on standardised features; the scaler is fitted on the training rows only.

    Parameters
    ----------
    clip
        Outcomes are clipped to ±clip.
    passes
        Re-weightings towards least absolute deviations (Schlossmacher 1973); 0 is ridge.
    penalty
        Ridge penalty.
    """

    def __init__(self, clip: float = 3.0, passes: int = 0, penalty: float = 100.0) -> None:
        self.clip, self.passes, self.penalty = clip, passes, penalty
        self.center = self.width = self.weights = np.zeros(1)
        self.constant = 0.0

    def fit(self, sample: Sample) -> Self:
        """Fit scaler and weights on the sample."""
        standard, y = sample.x.astype("float64"), np.clip(sample.y, -self.clip, self.clip)
        self.center = standard.mean(axis=0)
        standard -= self.center
        width = np.sqrt(np.einsum("ij,ij->j", standard, standard) / len(standard))  # without a copy
        self.width = np.where(width > 0, width, 1.0)
        standard /= self.width
        np.clip(standard, -REACH, REACH, out=standard)
        line = Ridge(self.penalty, copy_X=self.passes > 0).fit(standard, y)
        for _ in range(self.passes):
            apart = np.maximum(np.abs(y - line.predict(standard)), 0.05)
            line.fit(standard, y, sample_weight=1 / apart)
        self.weights, self.constant = np.asarray(line.coef_), float(line.intercept_)
        return self

    def predict(self, sample: Sample) -> Array:
        """Sum feature by feature, in the same order for any number of rows."""
        out = np.full(len(sample.x), self.constant)
        for start in range(0, len(out), _BLOCK):
            part = slice(start, start + _BLOCK)
            standard = np.clip((sample.x[part].astype("float64") - self.center) / self.width, -REACH, REACH)
            for column, weight in zip(standard.T, self.weights, strict=True):
                out[part] += weight * column
        return out

    def dump(self) -> dict[str, bytes]:
        """Numbers as JSON."""
        numbers = {name: getattr(self, name).tolist() for name in ("center", "width", "weights")}
        return {"linear.json": json.dumps(numbers | {"constant": self.constant}).encode()}

    def load(self, files: dict[str, bytes]) -> Self:
        """Read the numbers."""
        numbers = json.loads(files["linear.json"])
        self.constant = float(numbers["constant"])
        self.center, self.width, self.weights = (
            np.array(numbers[name], dtype="float64") for name in ("center", "width", "weights")
        )
        return self


MODELS: dict[str, Callable[[], Model]] = {"ridge": Linear, "lad": partial(Linear, passes=20)}
