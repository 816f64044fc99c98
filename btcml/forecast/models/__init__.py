"""Models by name: one file a family, found by looking into this package."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from btcml.errors import UsageError
from btcml.forecast.models.estimator import EstimatorModel
from btcml.forecast.models.sample import Model, Sample
from btcml.forecast.naming import MEANS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MODELS", "Model", "Sample", "make_model"]


def _collect() -> dict[str, Callable[[], Model]]:
    found: dict[str, Callable[[], Model]] = {}
    for module in iter_modules(__path__):
        found |= getattr(import_module(f"{__name__}.{module.name}"), "MODELS", {})
    return found


MODELS: dict[str, Callable[[], Model]] = _collect()
"""Factory of each model by name; a family is a module here with a dictionary ``MODELS``."""


def make_model(name: str) -> Model:
    """Return a new, unfitted model.

    Parameters
    ----------
    name
        A name in `MODELS`, or the dotted name of a scikit-learn regressor such as
        ``sklearn.linear_model.BayesianRidge``.

    Raises
    ------
    UsageError
        If there is no such model.

    Examples
    --------
    >>> type(make_model("persistence")).__name__
    'Persistence'
    """
    if name in MODELS:
        return MODELS[name]()
    if name.startswith("sklearn."):
        return EstimatorModel.by_name(name)
    msg = f"a model is one of {', '.join(sorted([*MODELS, *MEANS]))} or a dotted scikit-learn name, found {name!r}"
    raise UsageError(msg)
