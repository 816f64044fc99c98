"""Models by name: one module per family, collected from this package."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from btcml.errors import UsageError
from btcml.forecast.foreign import GROUP
from btcml.forecast.models.estimator import EstimatorModel
from btcml.forecast.models.interface import Model, Sample, stack
from btcml.forecast.models.registered import RegisteredModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "DIRECTION",
    "FORMER_MEANS",
    "MEANS",
    "MODELS",
    "RANGE",
    "Model",
    "Sample",
    "make_model",
    "members_of",
    "pool_of",
    "stack",
]

MEANS: dict[str, tuple[str, ...]] = {"lightgbm_mean": ("lightgbm_huber", "lightgbm_wide")}
"""Models that are the mean of others, which are fitted once for both."""

FORMER_MEANS: dict[str, tuple[str, ...]] = {"lightgbm_mean": ("lightgbm_huber", "lightgbm_l1")}
"""Their members in models that version 0.1 saved: these are served until the next training."""

DIRECTION = "direction"
"""The classifier that gives prob_up."""

RANGE = "range_boosting"
"""The range model that scales the intervals."""

POOLED, OTHERS = "pooled_", "others_"
"""Before a model's name: fitted on the rows of other symbols, too, or on those alone."""


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
        A name in `MODELS`, one that another package registers under `GROUP`, or the dotted name of a scikit-learn
        regressor such as ``sklearn.linear_model.BayesianRidge``; `POOLED` or `OTHERS` may stand before it.

    Raises
    ------
    UsageError
        If there is no such model.

    Examples
    --------
    >>> type(make_model("persistence")).__name__
    'Persistence'
    """
    name = name.removeprefix(pool_of(name))
    if name in MODELS:
        return MODELS[name]()
    if name.startswith("sklearn."):
        return EstimatorModel.by_name(name)
    registered = entry_points(group=GROUP)
    if name in registered.names:
        model = registered[name].load()()
        if isinstance(model, Model):
            return RegisteredModel(model)
        found = type(model).__name__
        msg = f"the model {name} should be a btcml.forecast.models.Model, found {found}: judge it by btcml judge"
        raise UsageError(msg)
    known = ", ".join(sorted([*MODELS, *MEANS, *registered.names]))
    msg = f"a model is one of {known} or a dotted scikit-learn name, found {name!r}"
    raise UsageError(msg)


def members_of(name: str, means: Mapping[str, tuple[str, ...]] = MEANS) -> tuple[str, ...]:
    """Models to fit for a name; persistence needs none.

    Examples
    --------
    >>> members_of("lightgbm_mean")
    ('lightgbm_huber', 'lightgbm_wide')
    """
    if name == "persistence":
        return ()
    pool = pool_of(name)
    return tuple(pool + member for member in means.get(name.removeprefix(pool), (name.removeprefix(pool),)))


def pool_of(name: str) -> str:
    """`POOLED` or `OTHERS` where a name begins with it, else nothing.

    Examples
    --------
    >>> pool_of("pooled_ridge"), pool_of("ridge")
    ('pooled_', '')
    """
    return next((prefix for prefix in (POOLED, OTHERS) if name.startswith(prefix)), "")
