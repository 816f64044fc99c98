"""Any scikit-learn regressor as a model, forests first of all; on disk as an ONNX graph without code."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from btcml.errors import UsageError
from btcml.forecast.models.interface import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def graph_of(estimator: Any, width: int) -> bytes:
    """Convert a fitted estimator on `width` float32 features into an ONNX file."""
    from skl2onnx import convert_sklearn  # noqa: PLC0415 - two seconds that serving does not need
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    graph = convert_sklearn(estimator, initial_types=[("x", FloatTensorType([None, width]))], name="btcml")
    return bytes(graph.SerializeToString())


def session_of(graph: bytes) -> Any:
    """Open an ONNX file for forecasting, on one thread so that bits do not depend on the machine."""
    import onnxruntime  # noqa: PLC0415 - only those who have a graph need it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run_graph(session: Any, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Forecast of each row of `x`, shape (n,)."""
    return np.asarray(session.run(None, {"x": x})[0], dtype="float64").ravel()


class EstimatorModel(Model):
    """A scikit-learn regressor on the scaled features, with a clipped target.

    Parameters
    ----------
    dotted
        Full name of the estimator's class.
    clip
        Outcomes are clipped to ±clip before fitting.
    multiplier
        Multiplier of the forecast until one is learned from earlier forecasts.
    settings
        Its keyword arguments.
    """

    def __init__(self, dotted: str, clip: float = 3.0, multiplier: float = 1.0, **settings: Any) -> None:
        self.dotted, self.clip, self.multiplier, self.settings = dotted, clip, multiplier, settings
        self._graph = b""
        self._session: Any = None

    @classmethod
    def by_name(cls, dotted: str) -> EstimatorModel:
        """Model of an estimator's class by its dotted name, at its defaults.

        Raises
        ------
        UsageError
            If scikit-learn has no such regressor.
        """
        model = cls(dotted)
        model._class()
        return model

    def _class(self) -> Any:
        module, _, name = self.dotted.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            msg = f"a dotted model name is a scikit-learn class, found {self.dotted!r}: {error}"
            raise UsageError(msg) from error
        if not (isinstance(found, type) and issubclass(found, RegressorMixin)):
            msg = f"a dotted model name is a scikit-learn regressor, found {self.dotted!r}, which is none"
            raise UsageError(msg)
        return found

    def fit(self, sample: Sample) -> Self:
        """Fit on clipped outcomes and turn the result into an ONNX graph."""
        estimator = self._class()(**self.settings)
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=self.settings.get("random_state", 0))
        estimator.fit(sample.x, np.clip(sample.y, -self.clip, self.clip))
        return self.load({"model.onnx": graph_of(estimator, sample.x.shape[1])})

    def predict(self, sample: Sample) -> Array:
        """Forecast through ONNX Runtime, on one thread."""
        return run_graph(self._session, np.ascontiguousarray(sample.x))

    def dump(self) -> dict[str, bytes]:
        """Return the ONNX graph."""
        return {"model.onnx": self._graph}

    def load(self, files: dict[str, bytes]) -> Self:
        """Open the ONNX graph."""
        self._graph = files["model.onnx"]
        self._session = session_of(self._graph)
        return self


_FOREST = {"bootstrap": True, "n_jobs": 1}
_QUICK = _FOREST | {"n_estimators": 40, "min_samples_leaf": 100, "max_features": 0.2, "max_samples": 0.1}
_STRONG = _FOREST | {"n_estimators": 60, "min_samples_leaf": 50, "max_features": 0.8, "max_samples": 0.2}
_RANDOM, _EXTRA = "sklearn.ensemble.RandomForestRegressor", "sklearn.ensemble.ExtraTreesRegressor"

MODELS: dict[str, Callable[[], Model]] = {
    "random_forest": partial(EstimatorModel, _RANDOM, 1.0, 1.5, **_QUICK),
    "random_forest_strong": partial(EstimatorModel, _RANDOM, 1.0, 1.5, **_STRONG),
    "extra_trees": partial(EstimatorModel, _EXTRA, 1.0, 1.5, **_QUICK),
    "extra_trees_strong": partial(EstimatorModel, _EXTRA, 1.0, 1.5, **_STRONG),
}
