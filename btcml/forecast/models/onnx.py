"""scikit-learn estimators as ONNX graphs: no code in the file, microseconds a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["graph_of", "run_graph", "session_of"]


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
