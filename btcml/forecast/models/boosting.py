"""LightGBM with robust losses, deterministic, saved as LightGBM's own text."""

from __future__ import annotations

import math
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import lightgbm
import numpy as np

from btcml.errors import ArtifactError
from btcml.forecast.models.interface import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


SETTINGS: dict[str, Any] = {
    "num_leaves": 64,
    "min_data_in_leaf": 1000,
    "lambda_l2": 50.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "learning_rate": 0.06,
    "num_iterations": 100,
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbose": -1,
    "max_bin": 63,
}
"""The measured recipe; one thread, so that bits do not depend on the machine."""

LARGE_ROWS = 150_000
"""Training rows from which `LARGE` holds, such as seventeen months of 5m candles."""

LARGE: dict[str, Any] = {
    "num_leaves": 40,
    "bagging_fraction": 1.0,
    "learning_rate": 0.15,
    "num_iterations": 35,
    "max_bin": 31,
    "bin_construct_sample_cnt": 50_000,
    "feature_pre_filter": False,
}
"""Over `SETTINGS` for many rows: as good in a third of the time, as all rows are used in fewer and larger steps.

Few rows need the samples and small steps of `SETTINGS`.
"""

ROWS_PER_LEAF, MIN_LEAVES = 3_000, 8
"""Training rows per leaf of a tree, and the minimum number of leaves: 8 are best at 1h, 30 at 15m."""

MAX_TEXT_BYTES = 50_000_000
"""Bytes that a model's text may unpack to."""


class Bins:
    """Features in bins, made at the first use and shared by all fits of many rows on the same features.

    Parameters
    ----------
    x
        Features of a series, shape (n, k).
    names
        Their k names.
    rows
        Ascending positions of all rows that may be fitted on.
    """

    def __init__(self, x: NDArray[np.float32], names: tuple[str, ...], rows: NDArray[np.int64]) -> None:
        self._x, self._names, self._rows = x, names, rows
        self._whole: lightgbm.Dataset | None = None

    def dataset(self, rows: NDArray[np.int64], y: Array) -> lightgbm.Dataset:
        """Binned features of some of the rows, with their outcomes."""
        if self._whole is None:
            zeros, names = np.zeros(len(self._rows)), list(self._names)
            self._whole = lightgbm.Dataset(self._x[self._rows], zeros, feature_name=names, params=SETTINGS | LARGE)
        part = self._whole.subset(np.searchsorted(self._rows, rows).tolist()).construct()
        return part.set_label(y)


class Boosting(Model):
    """A LightGBM regressor.

    Parameters
    ----------
    multiplier
        Multiplier of the forecast until one is learned from earlier forecasts.
    rows_per_leaf
        Training rows per leaf: few where the signal is strong.
    features
        The feature set that it requires; empty where any will do.
    large
        LightGBM's parameters over `LARGE`; none that `Bins` depend on.
    settings
        LightGBM's parameters over `SETTINGS`. ``num_iterations`` is the number of trees at a horizon of one candle;
        there are fewer at longer ones, as outcomes overlap and say less.
    """

    binned = True

    def __init__(
        self,
        multiplier: float = 1.0,
        rows_per_leaf: int = ROWS_PER_LEAF,
        features: str = "",
        large: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.multiplier, self.rows_per_leaf, self.features = multiplier, rows_per_leaf, features
        self.settings = SETTINGS | settings
        self.large = LARGE | dict(large or {})
        self._booster: Any = None

    def fit(self, sample: Sample) -> Self:
        """Fit all rounds: no early stopping, so no validation set is used."""
        settings = self._settings(len(sample.y))
        rounds = max(1, round(settings.pop("num_iterations") / math.cbrt(sample.horizon)))
        if sample.bins is not None and len(sample.y) >= LARGE_ROWS:
            data = sample.bins.dataset(sample.rows, sample.y)
        else:
            data = lightgbm.Dataset(sample.x, sample.y, feature_name=list(sample.names), free_raw_data=True)
        self._booster = lightgbm.train(settings, data, rounds)
        return self

    def _settings(self, rows: int) -> dict[str, Any]:
        """LightGBM's parameters for a number of training rows."""
        settings = self.settings | (self.large if rows >= LARGE_ROWS else {})
        return settings | {
            "num_leaves": max(MIN_LEAVES, min(settings["num_leaves"], rows // self.rows_per_leaf)),
            "min_data_in_leaf": max(20, min(settings["min_data_in_leaf"], rows // 100)),
        }

    def predict(self, sample: Sample) -> Array:
        """Forecast on one thread."""
        return np.asarray(self._booster.predict(sample.x, num_threads=1), dtype="float64")

    def dump(self) -> dict[str, bytes]:
        """LightGBM's text, compressed."""
        return {"model.txt.z": zlib.compress(self._booster.model_to_string().encode(), 6)}

    def load(self, files: dict[str, bytes]) -> Self:
        """Read LightGBM's text.

        Raises
        ------
        ArtifactError
            If the text is larger than any model of btcml.
        """
        unpack = zlib.decompressobj()
        text = unpack.decompress(files["model.txt.z"], MAX_TEXT_BYTES)
        if not unpack.eof:
            msg = (
                f"a model's text unpacks to at most {MAX_TEXT_BYTES} bytes, found more or a truncated file: train again"
            )
            raise ArtifactError(msg)
        self._booster = lightgbm.Booster(model_str=text.decode())
        return self


FINER: dict[str, Any] = {"num_leaves": 64, "learning_rate": 0.11, "num_iterations": 50}
"""Over `LARGE` for the members of a mean, which is served: a little better, in half the time of `SETTINGS`."""

MODELS: dict[str, Callable[[], Model]] = {
    "lightgbm_huber": partial(Boosting, large=FINER, objective="huber", alpha=1.0),
    "lightgbm_l1": partial(Boosting, objective="l1"),
    "lightgbm_wide": partial(Boosting, features="wide", large=FINER, objective="l1"),
    "direction": partial(Boosting, objective="binary"),
}
