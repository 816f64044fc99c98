"""A registered model in its own process: ``python -m btcml.forecast.registered PLAN`` fits it and forecasts."""

from __future__ import annotations

import io
import json
import sys
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from btcml.forecast.apart import MEMORY_MIB, SECONDS, limit_process, run_apart
from btcml.forecast.models import make_model
from btcml.forecast.models.interface import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def forecast_apart(name: str, training: Sample, test: Sample) -> NDArray[np.float64]:
    """Fit a model on one sample and forecast another.

    Raises
    ------
    NotReadyError
        If it fails, or exceeds a limit.
    """

    def exchange(sent: IO[bytes], answers: IO[bytes]) -> NDArray[np.float64]:
        """Send both samples, and read the forecasts."""
        sent.write(_packed({"training": training, "test": test}))
        sent.close()
        return np.asarray(np.load(io.BytesIO(answers.read()), allow_pickle=False))

    return run_apart(name, __name__, {"name": name}, exchange, SECONDS, MEMORY_MIB)


def _packed(samples: Mapping[str, Sample]) -> bytes:
    """Samples as arrays in NumPy's format, which holds no code."""
    packed = io.BytesIO()
    fields = {
        f"{key}.{name}": value
        for key, one in samples.items()
        for name, value in vars(one).items()
        if name != "bins"  # for models of btcml
    }
    np.savez(packed, **fields)
    return packed.getvalue()


def _unpacked(data: bytes, key: str) -> Sample:
    with np.load(io.BytesIO(data), allow_pickle=False) as packed:
        fields = {name.partition(".")[2]: packed[name] for name in packed if name.startswith(f"{key}.")}
    return Sample(**fields | {"names": tuple(fields["names"].tolist()), "horizon": int(fields["horizon"])})


def _child(plan: Mapping[str, Any]) -> None:
    """Fit a model of `make_model`, and answer its forecasts as an array of NumPy's format."""
    found = io.BytesIO()
    with limit_process(plan) as answers:
        data = sys.stdin.buffer.read()
        fitted = make_model(plan["name"]).fit(_unpacked(data, "training"))
        np.save(found, fitted.predict(_unpacked(data, "test")), allow_pickle=False)
        answers.write(found.getvalue())


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
