"""Where fits run: processes of this machine, or an existing dask cluster by its address."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from joblib import parallel_config
from joblib.parallel import get_active_backend

from btcml.errors import UsageError
from btcml.forecast.models.interface import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def joblib_backend(address: str | None) -> Iterator[Any]:
    """Give joblib's backend, by name or made, while the block runs; the figures do not depend on it.

    Parameters
    ----------
    address
        ``tcp://host:port`` of a dask scheduler; None for processes of this machine.

    Raises
    ------
    UsageError
        If dask is not installed, or no scheduler answers there.
    """
    if address is None:
        yield "loky"
        return
    try:
        client = import_module("distributed").Client(address, timeout="10s")
        import_module("dask.sizeof").sizeof.register(Sample, _bytes_of)  # else each task would carry a copy
    except ImportError as error:
        msg = "a cluster needs dask: install the extra with pip install 'btcml[cluster]'"
        raise UsageError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"expected a dask scheduler at {address}, found none: start one with dask scheduler"
        raise UsageError(msg) from error
    with client, parallel_config(backend="dask"):  # joblib 1.6 does not start it by name
        yield get_active_backend()[0]


def _bytes_of(sample: Sample) -> int:
    """Size of a sample, by which joblib sees that it is worth one way to each worker."""
    return sample.x.nbytes + sample.path.nbytes + sample.rows.nbytes + sample.y.nbytes
