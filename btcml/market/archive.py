"""The exchange's archive: whole months and days by file, checked and resumed, the rest by REST."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import interval_delta, interval_floor
from btcml.errors import MarketError, SourceError
from btcml.market.formats import parse_zip
from btcml.market.klines import merge_candles, parse_columns
from btcml.market.source import MARKET_HEADER
from btcml.market.transport import Jittered, Reply, TransientError, fetch_reply, new_session

if TYPE_CHECKING:
    from btcml.market.source import OnPage, Source

__all__ = ["Archive", "ArchiveMarket", "Piece", "plan"]

_LOG = logging.getLogger(__name__)
_NOT_FOUND, _OK, _SERVER = 404, 200, 500
_BY_REST = 30_000
_ENOUGH = 3
_LATE = pd.Timedelta(days=40)


@dataclass(frozen=True)
class Piece:
    """One part of a range, in time order, and where it comes from.

    Attributes
    ----------
    period
        ``monthly`` or ``daily`` for a file of the archive, empty for REST.
    start, end
        The part of the range that it covers, end exclusive.
    label
        The date in the file's name: ``2025-01`` or ``2025-01-31``.
    """

    period: str
    start: pd.Timestamp
    end: pd.Timestamp
    label: str = ""


def plan(start: pd.Timestamp, end: pd.Timestamp, now: pd.Timestamp) -> list[Piece]:
    """Cut a range into months that are over, days that are over, and the rest.

    A month at the edge of the range is one file too: what is outside is cut off.

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
        elif after_day <= now:
            pieces.append(Piece("daily", cursor, min(after_day, end), f"{day:%Y-%m-%d}"))
        else:
            pieces.append(Piece("", cursor, end))
        cursor = pieces[-1].end
    return pieces


class Archive:
    """Files of the archive, downloaded into a folder and verified by their checksums.

    Parameters
    ----------
    url
        Address of the archive, such as ``https://data.binance.vision``.
    cache
        Folder in which verified files stay: an interrupted download goes on from there. A file
        that the exchange has replaced since is noticed by its checksum and fetched again.
    market
        The market that the archive must belong to; another one is refused.
    timeout
        Seconds for one whole file.
    attempts
        Most tries of one file.
    sleep
        How to pause; replaced in tests.
    """

    def __init__(
        self,
        url: str,
        cache: Path,
        market: str = "binance",
        *,
        timeout: float = 60.0,
        attempts: int = 4,
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._url, self._market, self._timeout = url.rstrip("/"), market, timeout
        self._cache = cache / re.sub(r"[^A-Za-z0-9._-]", "-", market)
        self._retried = Jittered(attempts, sleep)
        self._local = threading.local()
        self._failures = 0

    def load(self, symbol: str, interval: str, piece: Piece) -> Path | None:
        """Path of a verified file, downloaded if it is not there yet.

        Returns
        -------
        Path or None
            None where the archive has no such file, or it could not be read after all tries: then
            the range comes by days or by REST, and the log says why. After three such failures
            the archive is not asked again.
        """
        name = f"{symbol}-{interval}-{piece.label}.zip"
        address = f"{self._url}/data/spot/{piece.period}/klines/{symbol}/{interval}/{name}"
        path = self._cache / piece.period / name
        if self._failures >= _ENOUGH:
            return None
        try:
            return self._retried(lambda: self._verified(address, path))
        except TransientError as error:
            self._failures += 1
            _LOG.warning("%s: %s; its candles come by REST", name, error)
            return None

    def _verified(self, address: str, path: Path) -> Path | None:
        told = self._get(f"{address}.CHECKSUM")
        if told is None:
            return None
        expected = told.split()[0].decode("ascii", "replace") if told.split() else ""
        if path.is_file() and _sha256(path.read_bytes()) == expected:
            return path
        content = self._get(address)
        if content is None:
            return None
        if _sha256(content) != expected:
            msg = f"the answer for {path.name} does not have the checksum that the archive tells"
            raise TransientError(msg)
        _write(path, content)
        return path

    def _get(self, url: str) -> bytes | None:
        if not hasattr(self._local, "session"):
            self._local.session = new_session()
        reply = fetch_reply(self._local.session, url, timeout=self._timeout)
        self._check(reply)
        return None if reply.status == _NOT_FOUND else reply.body

    def _check(self, reply: Reply) -> None:
        market = reply.headers.get(MARKET_HEADER, "binance")
        if market != self._market:
            msg = f"the archive is of the market {market}, expected {self._market}: set BTCML_ARCHIVE_URL to its own"
            raise MarketError(msg)
        if reply.status not in {_OK, _NOT_FOUND}:
            msg = f"the archive's answer is HTTP {reply.status}"
            raise TransientError(msg, reply.seconds("Retry-After"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write aside and rename: whoever is interrupted leaves no half file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{threading.get_ident()}.part")
    aside.write_bytes(content)
    aside.replace(path)


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
        ``timeout``, ``attempts``, ``sleep``: see `Archive`.
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
        for frame in self._parts(symbol, interval, start, end, now):
            done += len(frame)
            if on_page is not None:
                on_page(done, max(done, expected))
            yield frame

    def _parts(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, now: pd.Timestamp
    ) -> Iterator[pd.DataFrame]:
        if (end - start) // interval_delta(interval) <= _BY_REST:
            yield self._rest.fetch_candles(symbol, interval, start, end)
            return
        archive = Archive(self._url, self._cache, self._rest.market, **self._knobs)
        missing: Piece | None = None
        for piece, path in self._files(archive, symbol, interval, plan(start, end, now), now):
            if path is None:
                missing = Piece("", missing.start if missing else piece.start, piece.end)
                continue
            if missing is not None:
                yield self._rest.fetch_candles(symbol, interval, missing.start, missing.end)
                missing = None
            yield _load_part(path, interval, piece)
        if missing is not None:
            yield self._rest.fetch_candles(symbol, interval, missing.start, missing.end)

    def _files(
        self, archive: Archive, symbol: str, interval: str, pieces: list[Piece], now: pd.Timestamp
    ) -> Iterator[tuple[Piece, Path | None]]:
        """Yield the pieces with their files, in order; a month that is not there yet as its days."""

        def load(piece: Piece) -> list[tuple[Piece, Path | None]]:
            path = archive.load(symbol, interval, piece) if piece.period else None
            if path is not None or piece.period != "monthly" or now - piece.end > _LATE:
                return [(piece, path)]
            return [(day, archive.load(symbol, interval, day)) for day in _days(piece)]

        with ThreadPoolExecutor(self._workers) as pool:
            ahead: list[Future[list[tuple[Piece, Path | None]]]] = [pool.submit(load, piece) for piece in pieces]
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


def _load_part(path: Path, interval: str, piece: Piece) -> pd.DataFrame:
    try:
        frame = parse_columns(parse_zip(path.read_bytes()), interval)
    except SourceError as error:
        msg = f"the archive's file {path.name} holds no candles: {error}"
        raise MarketError(msg) from error
    inside = (frame["open_time"] >= piece.start) & (frame["open_time"] < piece.end)
    return frame[inside].reset_index(drop=True)
