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
from typing import Any

__all__ = ["__version__"]

__version__ = "0.1.0"

_LAZY = ("feature_frame", "predict_next", "read_candles", "run_backtest")


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name in _LAZY:
        return getattr(import_module("btcml.pipeline.explore"), name)
    msg = f"module 'btcml' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Names for autocompletion."""
    return sorted((*__all__, *_LAZY))
