"""Recipes of the two systems that btcml replaces: price levels in, price level out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from btcml.errors import UsageError
from btcml.forecast.models.interface import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


WINDOW = 25_906
"""System 1 learns from 90 days of 5-minute candles, as its log shows."""


def _level(sample: Sample) -> Array:
    """Close of the candle that is forecast."""
    return sample.column("close_lag_0") * np.exp(sample.y * _scale(sample))


def _scale(sample: Sample) -> Array:
    return np.exp(sample.column("log_scale")) * np.sqrt(sample.horizon)


def _scaled(sample: Sample, level: Array) -> Array:
    """Back from a price to a move in units of the scale."""
    return np.log(np.maximum(level, 1e-9) / sample.column("close_lag_0")) / _scale(sample)


class _ComparisonModel(Model):
    """A model kept for comparison: it is never served, so it is never saved."""

    def dump(self) -> dict[str, bytes]:
        """Refuse."""
        msg = f"a model of a replaced system is only compared, found {type(self).__name__}: save another model"
        raise UsageError(msg)

    def load(self, files: dict[str, bytes]) -> Self:  # noqa: ARG002 - nothing can be there
        """Refuse."""
        self.dump()
        return self


class LevelForest(_ComparisonModel):
    """System 0: a forest at its defaults from price levels to the next price level."""

    features = "system0"

    def __init__(self) -> None:
        self._forest = RandomForestRegressor(n_estimators=100, random_state=42, n_jobs=1)

    def fit(self, sample: Sample) -> Self:
        """Fit on levels."""
        newest = sample.at(slice(-WINDOW, None))
        self._forest.fit(newest.x, _level(newest))
        return self

    def predict(self, sample: Sample) -> Array:
        """Forecast a level, returned as a scaled move."""
        return _scaled(sample, np.asarray(self._forest.predict(sample.x)))


class LevelXgboost(_ComparisonModel):
    """System 1: XGBoost from price levels and indicators to the next price level."""

    features = "system1"

    def __init__(self) -> None:
        self._booster: Any = None

    @staticmethod
    def _xgboost() -> Any:
        try:
            import xgboost  # noqa: PLC0415 - in the extras of the benchmark only
        except ImportError as error:
            msg = "system 1's recipe needs the package xgboost-cpu, found none: install the bench group"
            raise UsageError(msg) from error
        return xgboost

    def fit(self, sample: Sample) -> Self:
        """Fit on levels, as coded there."""
        xgboost, newest = self._xgboost(), sample.at(slice(-WINDOW, None))
        settings = {"max_depth": 6, "eta": 0.05, "subsample": 0.9, "colsample_bytree": 0.9, "seed": 42, "nthread": 1}
        self._booster = xgboost.train(settings, xgboost.DMatrix(newest.x, _level(newest)), 400)
        return self

    def predict(self, sample: Sample) -> Array:
        """Forecast a level, returned as a scaled move."""
        return _scaled(sample, np.asarray(self._booster.predict(self._xgboost().DMatrix(sample.x)), dtype="float64"))


MODELS: dict[str, Callable[[], Model]] = {"system0": LevelForest, "system1": LevelXgboost}
