"""The registry: a feature is a name, a formula, a window, a source and one function."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from btcml.forecast.features.prepared import Prepared

    Compute = Callable[[Prepared], NDArray[np.float64]]


SETS: dict[str, list[str]] = {name: [] for name in ("core", "all", "ohlcv", "range", "wide", "system0", "system1")}
"""Names of the features of each set, in the order of registration."""


@dataclass(frozen=True)
class Feature:
    """One feature: what it is, what it needs and how it is computed.

    Parameters
    ----------
    name
        Column name.
    formula
        The formula; part of the definition's hash.
    warmup
        Rows of an unbroken segment before the first value.
    memory
        Rows that carry weight, the current one included; a tail of this length gives the value.
    source
        Where it comes from.
    compute
        Function of the prepared candles; its warm-up is nulled by the registry.
    optional
        True when models can do without it: null where a source does not know its columns, and in its warm-up.
    """

    name: str
    formula: str
    warmup: int
    memory: int
    source: str
    compute: Compute
    optional: bool = False

    def values(self, prepared: Prepared) -> NDArray[np.float64]:
        """Values of shape (n,), null in the warm-up of each segment."""
        return np.where(prepared.age >= self.warmup, self.compute(prepared), np.nan)

    @property
    def definition(self) -> str:
        """One line that changes with the feature's definition."""
        first = replace(self, **_FIRST.get(self.name, {}))
        return f"{first.name}|{first.formula}|{first.warmup}|{first.memory}"


_FIRST: dict[str, dict[str, Any]] = {
    "since_hour": {"formula": "log(close / first open of the hour that this candle ends in) / s"},
    **{f"position_{n}": {"memory": 577} for n in (24, 96, 192, 384)},
}
"""Definitions as stored models have them, which were corrected later, while the values stayed the same."""

REGISTRY: dict[str, Feature] = {}
"""Every feature by name."""


def register(item: Feature, sets: Iterable[str] = ()) -> Feature:
    """Add a feature to the registry, into ``all`` and into the named sets.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    if item.name in REGISTRY:
        msg = f"feature names are unique, {item.name!r} is registered already: choose another name"
        raise UsageError(msg)
    REGISTRY[item.name] = item
    for name in ("all", *sets):
        SETS[name].append(item.name)
    return item


def feature(
    name: str,
    formula: str,
    *,
    warmup: int,
    memory: int | None = None,
    source: str,
    sets: Iterable[str] = (),
    optional: bool = False,
) -> Callable[[Compute], Compute]:
    """Register the decorated function of the prepared candles as a feature.

    `memory` is the warm-up plus the current row when it is left out.
    """

    def _enter(compute: Compute) -> Compute:
        item = Feature(name, formula, warmup, memory or warmup + 1, source, compute, optional)
        register(item, sets)
        return compute

    return _enter


def features_of(features: str | Iterable[str]) -> list[Feature]:
    """Features of a set's name, or of a list of names, each once.

    Raises
    ------
    UsageError
        If the set or a name is unknown.
    """
    if isinstance(features, str):
        if features not in SETS:
            msg = f"a feature set is one of {', '.join(SETS)}, found {features!r}: name one or list features"
            raise UsageError(msg)
        names: Iterable[str] = SETS[features]
    else:
        names = dict.fromkeys(features)
    unknown = [name for name in names if name not in REGISTRY]
    if unknown:
        msg = f"features must be registered, unknown: {', '.join(unknown)}: see btcml.forecast.features.REGISTRY"
        raise UsageError(msg)
    return [REGISTRY[name] for name in names]


def definition_hash(features: str | Iterable[str]) -> str:
    """SHA-256 of the definitions of these features, in order: 64 hexadecimal digits."""
    lines = "\n".join(item.definition for item in features_of(features))
    return hashlib.sha256(lines.encode()).hexdigest()
