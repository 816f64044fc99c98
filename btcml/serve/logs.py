"""One line of JSON an event, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["log_lines"]


class _Lines(logging.Formatter):
    """An event that is JSON already gets time and level; another becomes JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line."""
        text = record.getMessage()
        event = json.loads(text) if text.startswith("{") else {"event": text}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower()} | event
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_lines() -> None:
    """Write the events of btcml and warnings of others to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("btcml").setLevel(logging.INFO)
