"""The register of metrics: every one takes the forecast frame of one model and answers a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

__all__ = ["METRICS", "Metric", "metric", "metric_names", "metrics_named"]

Score = Callable[["pd.DataFrame"], float]


@dataclass(frozen=True)
class Metric:
    """A metric and what a reader must know of it.

    Attributes
    ----------
    name
        Column in a table of scores; the name of the function.
    title
        Words for a reader.
    unit
        ``USD``, ``bp``, ``%``, ``share`` (0 to 1), ``z``, ``p`` or empty.
    better
        ``less``, ``more``, or ``level`` where the nominal level is right.
    family
        ``point``, ``direction``, ``probability``, ``interval`` or ``range``.
    function
        The metric itself; a metric is called like it.
    """

    name: str
    title: str
    unit: str
    better: str
    family: str
    function: Score

    def __call__(self, forecasts: pd.DataFrame) -> float:
        """Score of one model's forecast frame; NaN where there is nothing to score."""
        return self.function(forecasts)


METRICS: dict[str, Metric] = {}
"""Every metric by name."""


def metric(family: str, title: str, unit: str, better: str) -> Callable[[Score], Score]:
    """Register a function as a metric under its own name."""

    def _register(function: Score) -> Score:
        name = function.__name__
        METRICS[name] = Metric(name, title, unit, better, family, function)
        return function

    return _register


def metric_names(*families: str) -> list[str]:
    """Names of the metrics of some families, family by family."""
    return [name for family in families for name, entry in METRICS.items() if entry.family == family]


def metrics_named(names: Iterable[str]) -> list[Metric]:
    """Metrics by name.

    Raises
    ------
    UsageError
        If there is no metric of a name.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in METRICS]
    if unknown:
        msg = f"there is no metric {', '.join(unknown)}: choose from {', '.join(METRICS)}"
        raise UsageError(msg)
    return [METRICS[name] for name in wanted]
