"""The exchange with its archive: whole months and days by file, the rest by REST."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import interval_delta, interval_floor
from btcml.errors import SourceError
from btcml.market.archive_files import Archive, Piece
from btcml.market.formats import parse_zip
from btcml.market.klines import merge_candles, parse_columns

if TYPE_CHECKING:
    from btcml.market.source import OnPage, Source

__all__ = ["ArchiveMarket", "plan"]

_LOG = logging.getLogger(__name__)
_BY_REST, _BY_REST_DENSE = 30_000, 10_000
_DENSE_DAY = 1000
_LATE = pd.Timedelta(days=40)


def plan(start: pd.Timestamp, end: pd.Timestamp, now: pd.Timestamp, *, days: bool = True) -> list[Piece]:
    """Cut a range into months that are over, days that are over, and the rest.

    A month at the edge of the range is one file too: what is outside is cut off. Without `days`
    the running month is part of the rest: a day of 5m is a third of a page.

    Examples
    --------
    >>> import pandas as pd
    >>> at = lambda day: pd.Timestamp(day, tz="UTC")
    >>> [piece.label for piece in plan(at("2025-01-10"), at("2025-03-03"), at("2025-03-02 12:00"))]
    ['2025-01', '2025-02', '2025-03-01', '']
    """
    pieces, cursor = [], start
    while cursor < end:
        day = cursor.normalize()
        month = day.replace(day=1)
        after_month, after_day = month + pd.DateOffset(months=1), day + pd.Timedelta(days=1)
        if after_month <= now:
            pieces.append(Piece("monthly", cursor, min(after_month, end), f"{month:%Y-%m}"))
        elif after_day <= now and days:
            pieces.append(Piece("daily", cursor, min(after_day, end), f"{day:%Y-%m-%d}"))
        else:
            pieces.append(Piece("", cursor, end))
        cursor = pieces[-1].end
    return pieces


class ArchiveMarket:
    """The exchange with its archive: long ranges by files, short ones and the newest by REST.

    Parameters
    ----------
    rest
        The exchange's REST interface, whose clock and name this market has.
    url, cache
        See `Archive`.
    workers
        Files downloaded at once.
    **knobs
        ``timeout``, ``attempts``, ``clock``, ``sleep``, ``bans``: see `Archive`.
    """

    def __init__(self, rest: Source, url: str, cache: Path, workers: int = 4, **knobs: Any) -> None:
        self._rest, self._url, self._cache, self._workers, self._knobs = rest, url, cache, workers, knobs

    @property
    def market(self) -> str:
        """Name of the market, as REST tells it."""
        return self._rest.market

    def now(self) -> pd.Timestamp:
        """Return the exchange's time, as REST tells it."""
        return self._rest.now()

    def default_end(self, symbol: str) -> pd.Timestamp:
        """Return the end of a report without END, as REST tells it."""
        return self._rest.default_end(symbol)

    def fetch_candles(
        self,
        symbol: str,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        on_page: OnPage | None = None,
    ) -> pd.DataFrame:
        """Final candles with open time in [start, end); see `fetch_parts` for ranges of years."""
        return merge_candles(list(self.fetch_parts(symbol, interval, start, end, on_page)))

    def fetch_parts(
        self,
        symbol: str,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        on_page: OnPage | None = None,
    ) -> Iterator[pd.DataFrame]:
        """Yield the same candles in parts, oldest first: at most a month, or a range by REST.

        Files are downloaded ahead, several at once, but read one by one: memory stays small
        however long the range is.

        Raises
        ------
        MarketError
            If the archive is another market's, or REST fails.
        """
        now = self._rest.now()
        end = min(end, interval_floor(now, interval))
        expected = max(0, -((start - end) // interval_delta(interval)))
        done = 0
        for frame in self._parts(symbol, interval, (start, end), now, on_page):
            done += len(frame)
            if on_page is not None:
                on_page(done, max(done, expected))
            yield frame

    def _parts(
        self,
        symbol: str,
        interval: str,
        span: tuple[pd.Timestamp, pd.Timestamp],
        now: pd.Timestamp,
        on_page: OnPage | None,
    ) -> Iterator[pd.DataFrame]:
        start, end = span
        archive = Archive(self._url, self._cache, self._rest.market, **self._knobs)
        dense = pd.Timedelta(days=1) // interval_delta(interval) >= _DENSE_DAY
        few = (end - start) // interval_delta(interval) <= (_BY_REST_DENSE if dense else _BY_REST)
        if few or not archive.belongs():
            yield self._rest.fetch_candles(symbol, interval, start, end, on_page)
            return

        def _load(piece: Piece) -> list[tuple[Piece, Path | None]]:
            path = archive.load(symbol, interval, piece) if piece.period else None
            if path is not None or piece.period != "monthly" or not dense or now - piece.end > _LATE:
                return [(piece, path)]
            return [(day, archive.load(symbol, interval, day)) for day in _days(piece)]

        missing: Piece | None = None
        for piece, path in self._ahead(_load, plan(start, end, now, days=dense)):
            frame = None if path is None else _load_part(path, interval, piece)
            if frame is None:
                missing = Piece("", missing.start if missing else piece.start, piece.end)
                continue
            if missing is not None:
                yield self._rest.fetch_candles(symbol, interval, missing.start, missing.end)
                missing = None
            yield frame
        if missing is not None:
            yield self._rest.fetch_candles(symbol, interval, missing.start, missing.end)

    def _ahead(
        self, load: Callable[[Piece], list[tuple[Piece, Path | None]]], pieces: list[Piece]
    ) -> Iterator[tuple[Piece, Path | None]]:
        """Yield the pieces with their files, in order, while others are downloaded ahead."""
        with ThreadPoolExecutor(self._workers) as pool:
            ahead = [pool.submit(load, piece) for piece in pieces]
            try:
                for future in ahead:
                    yield from future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _days(month: Piece) -> list[Piece]:
    """Return the days of a month as pieces of their own."""
    days, cursor = [], month.start
    while cursor < month.end:
        after = min(cursor.normalize() + pd.Timedelta(days=1), month.end)
        days.append(Piece("daily", cursor, after, f"{cursor:%Y-%m-%d}"))
        cursor = after
    return days


def _load_part(path: Path, interval: str, piece: Piece) -> pd.DataFrame | None:
    """Candles of a file; None where it holds none, whatever its checksum says."""
    try:
        frame = parse_columns(parse_zip(path.read_bytes()), interval)
    except (SourceError, zipfile.BadZipFile, ValueError, OSError) as error:
        _LOG.warning("the archive's file %s holds no candles (%s); they come by REST", path.name, error)
        return None
    inside = (frame["open_time"] >= piece.start) & (frame["open_time"] < piece.end)
    return frame[inside].reset_index(drop=True)
