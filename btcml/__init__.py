"""btcml answers: can the next candle be forecast, how well, and what does the model say now.

For exploration it offers `read_candles`, `feature_frame`, `run_backtest` and `predict_next`, which
are loaded at first use: ``import btcml`` alone is light.

Examples
--------
>>> import btcml
>>> candles = btcml.read_candles(days=30, source="simulated")     # doctest: +SKIP
>>> btcml.run_backtest(candles, ["ridge"])                        # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btcml.pipeline.explore import feature_frame, predict_next, read_candles, run_backtest

__all__ = ["__version__", "feature_frame", "predict_next", "read_candles", "run_backtest"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name in __all__:
        return getattr(import_module("btcml.pipeline.explore"), name)
    msg = f"module 'btcml' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Names for autocompletion."""
    return sorted(__all__)
