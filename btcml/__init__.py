"""btcml answers: can the next candle be forecast, how well, and what does the model say now."""

from __future__ import annotations

__version__ = "0.1.0"
