"""The exchange with its archive: whole months and days by files with checksums, the rest by REST."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import interval_delta, interval_floor, join_gaps, on_grid_times, span_gaps
from btcml.errors import MarketError, SourceError
from btcml.files import write_bytes
from btcml.market import MARKET_HEADER, Clock, utc_now
from btcml.market import transport as http
from btcml.market.formats import UNREADABLE, parse_zip
from btcml.market.klines import merge_candles, parse_columns
from btcml.market.transport import Reply, TransientError, fetch_reply, host_of

if TYPE_CHECKING:
    from btcml.market import OnPage
    from btcml.market.binance import BinanceMarket


_LOG = logging.getLogger(__name__)
_OK, _NOT_FOUND, _BANNED, _TOO_MANY = 200, 404, 418, 429
_MAX_FAILURES = 3
_PROBE_S, _DEFAULT_BAN_S = 2.5, 600.0
_STALE_S = 600.0
"""Age above which a temporary file was left by a killed process: writing takes less."""
_SOON = {"attempts": 2, "timeout": 20.0}
_BY_REST, _BY_REST_DENSE = 30_000, 10_000
_DENSE_DAY = 1000
_PAGE = 1000  # candles less than this apart are one request of REST
_PUBLISHED = pd.Timedelta(days=40)


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


def plan(
    start: pd.Timestamp, end: pd.Timestamp, now: pd.Timestamp, *, months: bool = True, days: bool = True
) -> list[Piece]:
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
        after_month, after_day = day.replace(day=1) + pd.DateOffset(months=1), day + pd.Timedelta(days=1)
        if months and after_month <= now:
            pieces.append(Piece("monthly", cursor, min(after_month, end), f"{day:%Y-%m}"))
        elif days and after_day <= now:
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
        Folder in which verified files stay: an interrupted download resumes. A file
        that the exchange has replaced since is noticed by its checksum and fetched again.
    market
        The market that the archive must belong to; another one is an error.
    timeout
        Seconds for one whole file.
    attempts
        Maximum number of tries of one file.
    clock, sleep
        Local time and how to pause; replaced in tests.
    bans
        Memory of bans, shared with the exchange, since both may be one host.
    """

    def __init__(  # noqa: PLR0913 - the options of a client
        self,
        url: str,
        cache: Path,
        market: str = "binance",
        *,
        timeout: float = 60.0,
        attempts: int = 4,
        clock: Clock = utc_now,
        sleep: Callable[[float], Any] = time.sleep,
        bans: http.BanMemory | None = None,
    ) -> None:
        self._url, self._market, self._timeout = url.rstrip("/"), market, timeout
        self._cache = cache / re.sub(r"[^A-Za-z0-9._-]", "-", market)
        self._retried = partial(http.with_retries, attempts=attempts, sleep=sleep)
        self._local = threading.local()
        self._failures, self._clock = 0, clock
        self._bans: http.BanMemory = bans or http.LocalBans()
        _delete_stale_files(self._cache)

    @property
    def gave_up(self) -> bool:
        """Whether the archive is no longer used, after too many failures or a ban."""
        end = self._bans.until(host_of(self._url))
        return self._failures >= _MAX_FAILURES or (end is not None and end > self._clock())

    def belongs(self) -> bool:
        """Whether the archive is of this market.

        Binance's archive is trusted. A replay has one only where the address of the archive
        is the replay's own: otherwise no other server is queried for its candles.
        """
        if not self._market.startswith("replay:"):
            return True
        try:
            reply = fetch_reply(http.new_session(), f"{self._url}/", timeout=_PROBE_S)
        except TransientError:
            return False
        return reply.headers.get(MARKET_HEADER) == self._market

    def load(self, symbol: str, interval: str, piece: Piece) -> Path | None:
        """Path of a verified file, downloaded if it is not there yet.

        Returns
        -------
        Path or None
            None where the archive has no such file, or it could not be read after all tries: then
            the range comes by days or by REST, and the reason is logged. After three such failures
            the archive is not used again.
        """
        name = f"{symbol}-{interval}-{piece.label}.zip"
        address = f"{self._url}/data/spot/{piece.period}/klines/{symbol}/{interval}/{name}"
        try:
            return self._retried(lambda: self._verified(address, self._cache / piece.period / name))
        except TransientError as error:
            self._failures += 1
            _LOG.warning("%s: %s; its candles come by REST", name, error)
            return None

    def _verified(self, address: str, path: Path) -> Path | None:
        checksum = self._get(f"{address}.CHECKSUM")
        if checksum is None:
            return None
        expected = checksum.decode("ascii", "replace").split()[:1]
        if path.is_file() and _sha256(path.read_bytes()) == expected:
            return path
        content = self._get(address)
        if content is None:
            return None
        if _sha256(content) != expected:
            msg = f"the content of {path.name} does not have the checksum that the archive states"
            raise TransientError(msg)
        write_bytes(path, content)
        return path

    def _get(self, url: str) -> bytes | None:
        if self.gave_up:
            return None
        if not hasattr(self._local, "session"):
            self._local.session = http.new_session()
        reply = fetch_reply(self._local.session, url, timeout=self._timeout)
        self._check(reply)
        return None if reply.status == _NOT_FOUND else reply.body

    def _check(self, reply: Reply) -> None:
        market = reply.headers.get(MARKET_HEADER, "binance")
        if market != self._market:
            msg = f"the archive is of the market {market}, expected {self._market}: set BTCML_ARCHIVE_URL to its own"
            raise MarketError(msg)
        if reply.status in {_OK, _NOT_FOUND}:
            return
        msg, wait = f"the archive's answer is HTTP {reply.status}", reply.seconds("Retry-After")
        if reply.status == _BANNED or (reply.status == _TOO_MANY and (wait or 0) > http.LONGEST_WAIT_S):
            end = self._clock() + pd.Timedelta(seconds=_DEFAULT_BAN_S if wait is None else wait)
            self._bans.remember(host_of(self._url), end, f"HTTP {reply.status} from the archive")
        raise TransientError(msg, None if self.gave_up else wait)


def _sha256(content: bytes) -> list[str]:
    return [hashlib.sha256(content).hexdigest()]


def _delete_stale_files(folder: Path) -> None:
    for path in folder.glob("*/.*"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


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
    **options
        ``timeout``, ``attempts``, ``clock``, ``sleep``, ``bans``: see `Archive`.
    """

    def __init__(self, rest: BinanceMarket, url: str, cache: Path, workers: int = 4, **options: Any) -> None:
        self._rest, self._workers = rest, workers
        self._archive: Callable[..., Archive] = lambda **more: Archive(url, cache, rest.market, **(options | more))
        self._short_by_rest = True

    def by_files(self) -> ArchiveMarket:
        """Return the same market, but short ranges come by files too: each is compared with its checksum of today.

        An archive that does not answer is soon left alone: nobody waits for an audit.
        """
        found = copy.copy(self)
        found._short_by_rest = False  # noqa: SLF001 - our own class
        found._archive = partial(self._archive, **_SOON)  # noqa: SLF001
        return found

    @property
    def market(self) -> str:
        """Name of the market, from REST."""
        return self._rest.market

    @property
    def speed(self) -> float | None:
        """Speed of a replay's clock, from REST."""
        return self._rest.speed

    def now(self) -> pd.Timestamp:
        """Return the exchange's time, from REST."""
        return self._rest.now()

    def default_end(self, symbol: str) -> pd.Timestamp:
        """Return the end of a report without END, from REST."""
        return self._rest.default_end(symbol)

    def extent(self, symbol: str, interval: str) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """Return the span of all candles, from REST."""
        return self._rest.extent(symbol, interval)

    def fetch_candles(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
    ) -> pd.DataFrame:
        """Final candles with open time in [start, end); see `fetch_parts` for ranges of years."""
        return merge_candles(list(self.fetch_parts(symbol, interval, start, end, on_page)))

    def fetch_parts(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
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
        candles, archive = (end - start) // interval_delta(interval), self._archive()
        short = candles <= (_BY_REST_DENSE if _dense(interval) else _BY_REST)
        if (short and self._short_by_rest) or not archive.belongs():
            yield self._rest.fetch_candles(symbol, interval, start, end, on_page)
            return
        done = 0
        for frame in self._parts(archive, symbol, interval, (start, end), now):
            done += len(frame)
            if on_page is not None:
                on_page(done, max(done, candles))
            yield frame

    def _parts(
        self, archive: Archive, symbol: str, interval: str, span: tuple[pd.Timestamp, pd.Timestamp], now: pd.Timestamp
    ) -> Iterator[pd.DataFrame]:
        """Yield the candles of each file, its holes filled by REST; what has no file comes by REST."""
        dense = _dense(interval)

        def _load(piece: Piece) -> list[tuple[Piece, Path | None]]:
            path = archive.load(symbol, interval, piece) if piece.period else None
            if path is not None or piece.period != "monthly" or not dense or now - piece.end > _PUBLISHED:
                return [(piece, path)]
            by_day = plan(piece.start, piece.end, now, months=False)
            return [(day, archive.load(symbol, interval, day)) for day in by_day]

        missing: Piece | None = None
        for piece, path in self._ahead(_load, plan(*span, now, days=dense)):
            frame = None if path is None else _load_part(path, interval, piece)
            if frame is None:
                missing = Piece("", missing.start if missing else piece.start, piece.end)
                continue
            if missing is not None:
                yield self._rest.fetch_candles(symbol, interval, missing.start, missing.end)
                missing = None
            yield self._filled(symbol, interval, piece, frame)
        if missing is not None:
            yield self._rest.fetch_candles(symbol, interval, missing.start, missing.end)

    def _filled(self, symbol: str, interval: str, piece: Piece, frame: pd.DataFrame) -> pd.DataFrame:
        """Candles of a file, and what REST has in its holes: only what both lack is missing at the exchange."""
        gaps = span_gaps(on_grid_times(frame["open_time"], interval), piece.start, piece.end, interval)
        spans = join_gaps(gaps, _PAGE * interval_delta(interval))
        holes = [self._rest.fetch_candles(symbol, interval, start, end) for start, end in spans]
        return merge_candles([*holes, frame])

    def _ahead(
        self, load: Callable[[Piece], list[tuple[Piece, Path | None]]], pieces: list[Piece]
    ) -> Iterator[tuple[Piece, Path | None]]:
        """Yield the pieces with their files, in order, while others are downloaded ahead."""
        with ThreadPoolExecutor(self._workers) as pool:
            futures = [pool.submit(load, piece) for piece in pieces]
            try:
                for future in futures:
                    yield from future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _dense(interval: str) -> bool:
    """Whether a day has so many candles that a file is quicker than REST."""
    return pd.Timedelta(days=1) // interval_delta(interval) >= _DENSE_DAY


def _load_part(path: Path, interval: str, piece: Piece) -> pd.DataFrame | None:
    """Candles of a file; None where it holds none, even with a valid checksum."""
    try:
        frame = parse_columns(parse_zip(path.read_bytes()), interval)
    except (SourceError, *UNREADABLE) as error:
        _LOG.warning("the archive's file %s holds no candles (%s); they come by REST", path.name, error)
        return None
    inside = (frame["open_time"] >= piece.start) & (frame["open_time"] < piece.end)
    return frame[inside].reset_index(drop=True)
