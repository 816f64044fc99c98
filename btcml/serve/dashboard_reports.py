"""Which built report belongs to the model that is shown; read from files, and light."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["find_report"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


def find_report(folder: str, *, market: str, symbol: str, interval: str, snapshot: str) -> dict[str, Any]:
    """Find the report of a snapshot, else the newest one of the series.

    Parameters
    ----------
    folder
        Where reports are built, ``market/symbol/interval/run/pages``; empty: none.
    snapshot
        Hash of the champion's snapshot.

    Returns
    -------
    dict
        ``path`` of the page below the folder, or empty, and ``exact``: whether it is of that snapshot.

    Examples
    --------
    >>> find_report("", market="simulated", symbol="BTCUSDT", interval="5m", snapshot="")
    {'path': '', 'exact': False}
    """
    parts = (market.replace(":", "-"), symbol, interval)
    if not folder or not all(_PLAIN.fullmatch(part) for part in parts):
        return {"path": "", "exact": False}
    root = Path(folder)
    pages = list(root.joinpath(*parts).glob("*/pages/index.html"))
    pages.sort(key=lambda page: page.stat().st_mtime, reverse=True)
    exact = [page for page in pages if snapshot and _snapshot(page.parents[1]) == snapshot]
    found = (exact or pages)[:1]
    return {"path": found[0].relative_to(root).as_posix() if found else "", "exact": bool(exact)}


def _snapshot(run: Path) -> str:
    """Hash of the snapshot of a run, empty where its manifest cannot be read."""
    for file in (run / "manifest.json", run / "pages" / "manifest.json"):
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found = facts.get("snapshot", facts.get("inputs", {}).get("snapshot", ""))
        return str(found.get("hash", "") if isinstance(found, dict) else found)
    return ""
