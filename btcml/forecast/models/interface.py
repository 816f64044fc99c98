"""The interface of a model: its input and its methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btcml.forecast.models.boosting import Bins

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Rows to fit on or to forecast for.

    Parameters
    ----------
    x
        Features, float32 of shape (n, k), finite.
    names
        Their k names.
    path
        Scaled log returns r_t / s_(t-1) of the whole series in order, shape (m,), 0 where unknown.
    rows
        Positions of the n rows in `path`; a model may look at ``path[: row + 1]`` only.
    y
        Scaled outcomes, shape (n,); empty when forecasting.
    horizon
        Candles ahead.
    bins
        Bins of the features of the whole series, which fits share; None where there are none.
    """

    x: NDArray[np.float32]
    names: tuple[str, ...]
    path: Array
    rows: NDArray[np.int64]
    y: Array
    horizon: int = 1
    bins: Bins | None = None

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Sample:
        """Return the chosen rows."""
        y = self.y[chosen] if len(self.y) else self.y
        return replace(self, x=self.x[chosen], rows=self.rows[chosen], y=y)

    def training(self, chosen: NDArray[np.int64]) -> Sample:
        """Return the chosen rows with the path up to their last outcome."""
        part = self.at(chosen)
        return replace(part, path=self.path[: part.rows.max(initial=-1) + 1 + self.horizon])

    def select(self, names: tuple[str, ...]) -> Sample:
        """Return the same rows with some of the features."""
        places = [self.names.index(name) for name in names]
        return replace(self, x=np.ascontiguousarray(self.x[:, places]), names=names, bins=None)

    def column(self, name: str) -> Array:
        """One feature by name as float64."""
        return self.x[:, self.names.index(name)].astype("float64")


def stack(samples: Sequence[Sample]) -> Sample:
    """Rows of several series as one sample, each with its own path; they have the same features and horizon."""
    if len(samples) == 1:
        return samples[0]
    starts = np.cumsum([0, *(len(one.path) for one in samples[:-1])])
    return replace(
        samples[0],
        x=np.concatenate([one.x for one in samples]),
        path=np.concatenate([one.path for one in samples]),
        rows=np.concatenate([one.rows + start for one, start in zip(samples, starts, strict=True)]),
        y=np.concatenate([one.y for one in samples]),
        bins=None,
    )


class Model(ABC):
    """A forecaster of one scaled target: fitted once, saved without pickle."""

    multiplier = 1.0
    """Multiplier of the forecast until one is learned from earlier forecasts."""

    features = ""
    """The feature set that a model requires; empty where any will do."""

    binned = False
    """Whether it can use `Sample.bins`."""

    @abstractmethod
    def fit(self, sample: Sample) -> Self:
        """Fit on a sample with outcomes; equal samples give equal bits."""

    @abstractmethod
    def predict(self, sample: Sample) -> Array:
        """Scaled forecasts of shape (n,)."""

    @abstractmethod
    def dump(self) -> dict[str, bytes]:
        """Everything that `load` needs, as files of a format that runs no code."""

    @abstractmethod
    def load(self, files: dict[str, bytes]) -> Self:
        """Load the files that `dump` returned into a new model."""
