"""The archive's files, made of any source: zips of whole months and days, and their checksums."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd

from btcml.market.klines import format_klines
from btcml.market.replay import Refusal

if TYPE_CHECKING:
    from btcml.market.replay import Replay

__all__ = ["MICROSECONDS_SINCE", "ReplayArchive"]

MICROSECONDS_SINCE = pd.Timestamp("2025-01-01", tz="UTC")
"""First day that the archive writes in microseconds."""

_PATH = re.compile(
    r"/data/spot/(?P<period>monthly|daily)/klines/(?P<symbol>[A-Z0-9]+)/(?P<interval>\w+)/"
    r"(?P<name>(?P=symbol)-(?P=interval)-(?P<date>\d{4}-\d{2}(-\d{2})?))\.zip(?P<checksum>\.CHECKSUM)?"
)


class ReplayArchive:
    """Files under ``/data/spot/…`` for every month and day that is over by the exchange's clock."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._zip = lru_cache(maxsize=64)(self._make_zip)

    def answer(self, path: str) -> bytes | None:
        """Content of a file of the archive; None where there is none (404).

        Parameters
        ----------
        path
            ``/data/spot/{monthly,daily}/klines/SYMBOL/INTERVAL/SYMBOL-INTERVAL-DATE.zip`` or the
            same with ``.CHECKSUM``: the SHA-256 and the name, as ``sha256sum`` writes them.
        """
        match = _PATH.fullmatch(path)
        if match is None or (match["period"] == "daily") != (len(match["date"]) == len("2025-01-01")):
            return None
        start = pd.Timestamp(match["date"], tz="UTC")
        end = start + (pd.DateOffset(months=1) if match["period"] == "monthly" else pd.DateOffset(days=1))
        if end > self._replay.now():
            return None
        content = self._zip(match["symbol"], match["interval"], match["name"], start, end)
        if content is None or not match["checksum"]:
            return content
        return f"{hashlib.sha256(content).hexdigest()}  {match['name']}.zip\n".encode()

    def _make_zip(self, symbol: str, interval: str, name: str, start: pd.Timestamp, end: pd.Timestamp) -> bytes | None:
        span_ms = int(start.value // 10**6), int(end.value // 10**6) - 1
        try:
            frame = self._replay.candles(symbol, interval, *span_ms, 31 * 1440)
        except Refusal:
            return None
        if frame.empty:
            return None
        unit = "us" if start >= MICROSECONDS_SINCE else "ms"
        rows = format_klines(frame, interval, unit)
        text = "".join(",".join("" if field is None else str(field) for field in row) + "\n" for row in rows)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(f"{name}.csv"), text, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()
