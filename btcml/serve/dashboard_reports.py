"""Which built report belongs to the model that is shown; read from files, and light."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["find_report"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class _Built(NamedTuple):
    """A built report: whether it covers the model's candles, the end of its own, its first page."""

    exact: bool
    until: str
    page: Path


def find_report(folder: str, *, market: str, symbol: str, interval: str, start: str, end: str) -> dict[str, Any]:
    """Find the report of a model's candles, else the one of the series whose candles are the newest.

    Parameters
    ----------
    folder
        Where reports are built, ``market/symbol/interval/run/pages``; empty: none.
    start, end
        Open times of the first and last candle that the model was fitted on.

    Returns
    -------
    dict
        ``path`` of the page below the folder, or empty; ``exact``: whether the report has every candle
        that the model has seen; ``until``: end of the report's candles, or empty where it cannot be read.

    Examples
    --------
    >>> find_report("", market="simulated", symbol="BTCUSDT", interval="5m", start="", end="")
    {'path': '', 'exact': False, 'until': ''}
    """
    parts = (market.replace(":", "-"), symbol, interval)
    if not folder or not all(_PLAIN.fullmatch(part) for part in parts):
        return {"path": "", "exact": False, "until": ""}
    root = Path(folder)
    pages = root.joinpath(*parts).glob("*/pages/index.html")
    built = sorted((_built(page, _time(start), _time(end)) for page in pages), reverse=True)
    if not built:
        return {"path": "", "exact": False, "until": ""}
    return {"path": built[0].page.relative_to(root).as_posix(), "exact": built[0].exact, "until": built[0].until}


def _built(page: Path, start: datetime | None, end: datetime | None) -> _Built:
    try:
        facts = json.loads((page.parents[1] / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        first, until = _time(str(facts["start"])), _time(str(facts["end"]))
    except (OSError, ValueError, KeyError, TypeError):
        first = until = None
    if first is None or until is None:
        return _Built(exact=False, until="", page=page)
    exact = start is not None and end is not None and first <= start and end < until
    return _Built(exact=exact, until=until.isoformat(), page=page)


def _time(text: str) -> datetime | None:
    """A time with a zone, or None: what a page or a file says is not trusted."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
