"""What runner and notebook agree on: how a last cell says that it finished."""

from __future__ import annotations

__all__ = ["FINISHED", "NONCE"]

FINISHED = "application/vnd.btcml.finished+json"
"""MIME type of what the last cell shows."""

NONCE = "BTCML_REPORT_NONCE"
"""Variable with the word that the last cell must say, drawn for each run and given to its kernel alone."""
