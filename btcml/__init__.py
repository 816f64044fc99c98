"""Forecasts of the next candle, tested against "next close = this close".

The public names `read_candles`, `feature_frame`, `Experiment`, `Result`, `predict_next` and `decide`
are loaded at first use: ``import btcml`` alone loads neither pandas nor scikit-learn.

Examples
--------
>>> import btcml
>>> candles = btcml.read_candles(days=30, source="simulated")                      # doctest: +SKIP
>>> btcml.Experiment.default(candles, "5m").replace(models=("ridge",)).run(candles)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from btcml.forecast.distribution import decide
    from btcml.forecast.experiment import Experiment, Result
    from btcml.pipeline.explore import feature_frame, predict_next, read_candles

__all__ = ["Experiment", "Result", "__version__", "decide", "feature_frame", "predict_next", "read_candles"]

__version__ = "0.2.0"

_HOMES = {
    **dict.fromkeys(("feature_frame", "predict_next", "read_candles"), "btcml.pipeline.explore"),
    **dict.fromkeys(("Experiment", "Result"), "btcml.forecast.experiment"),
    "decide": "btcml.forecast.distribution",
}
"""Module of each public name; the imports above are for type checkers and editors."""

if not TYPE_CHECKING:  # a type checker would take a __getattr__ to mean that any name exists

    def __getattr__(name: str) -> object:
        """Load a public name at its first use."""
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        msg = f"module 'btcml' has no attribute {name!r}"
        raise AttributeError(msg)

    def __dir__() -> list[str]:
        """Names for autocompletion."""
        return sorted(__all__)
