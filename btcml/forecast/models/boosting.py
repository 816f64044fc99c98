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
    from collections.abc import Callable

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
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
    "max_bin": 63,
}
"""The measured recipe; one thread, so that bits do not depend on the machine."""

ROWS_PER_LEAF, MIN_LEAVES = 3_000, 8
"""Training rows per leaf of a tree, and the minimum number of leaves: 8 are best at 1h, 30 at 15m, 64 at 5m."""

MAX_TEXT_BYTES = 50_000_000
"""Bytes that a model's text may unpack to."""


class Boosting(Model):
    """A LightGBM regressor.

    Parameters
    ----------
    rounds
        Number of trees at a horizon of one candle; fewer at longer ones, as outcomes overlap and say less.
    multiplier
        Multiplier of the forecast until one is learned from earlier forecasts.
    rows_per_leaf
        Training rows per leaf: few where the signal is strong.
    features
        The feature set that it requires; empty where any will do.
    settings
        LightGBM's parameters over `SETTINGS`.
    """

    def __init__(
        self,
        rounds: int = 100,
        multiplier: float = 1.0,
        rows_per_leaf: int = ROWS_PER_LEAF,
        features: str = "",
        **settings: Any,
    ) -> None:
        self.rounds, self.multiplier, self.rows_per_leaf, self.features = rounds, multiplier, rows_per_leaf, features
        self.settings = SETTINGS | settings
        self._booster: Any = None

    def fit(self, sample: Sample) -> Self:
        """Fit all rounds: no early stopping, so no validation set is used."""
        data = lightgbm.Dataset(sample.x, sample.y, feature_name=list(sample.names), free_raw_data=True)
        rounds = max(1, round(self.rounds / math.cbrt(sample.horizon)))
        self._booster = lightgbm.train(self.settings | self._tree_size(len(sample.y)), data, rounds)
        return self

    def _tree_size(self, rows: int) -> dict[str, int]:
        """Tree size for a number of training rows."""
        leaves, least = self.settings["num_leaves"], self.settings["min_data_in_leaf"]
        return {
            "num_leaves": max(MIN_LEAVES, min(leaves, rows // self.rows_per_leaf)),
            "min_data_in_leaf": max(20, min(least, rows // 100)),
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


MODELS: dict[str, Callable[[], Model]] = {
    "lightgbm_huber": partial(Boosting, objective="huber", alpha=1.0),
    "lightgbm_l1": partial(Boosting, objective="l1"),
    "lightgbm_wide": partial(Boosting, features="wide", objective="l1"),
    "direction": partial(Boosting, objective="binary"),
}
