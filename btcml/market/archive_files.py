"""Files of the exchange's archive: downloaded, verified by their checksums, kept."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from btcml.errors import MarketError
from btcml.market.bans import BanMemory, LocalBans
from btcml.market.source import MARKET_HEADER, Clock, utc_now
from btcml.market.transport import Jittered, Reply, TransientError, fetch_reply, host_of, new_session

__all__ = ["Archive", "Piece"]

_LOG = logging.getLogger(__name__)
_NOT_FOUND, _OK, _TEAPOT, _TOO_MANY = 404, 200, 418, 429
_ENOUGH = 3
_PROBE = 2.5
_PATIENCE, _UNTOLD_BAN = 75.0, 600.0
_ASIDE_S = 600.0
"""Seconds after which a file written aside is of a process that was killed: writing takes a moment."""


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
    clock, sleep
        Local time and how to pause; replaced in tests.
    bans
        Where bans are remembered: the same place as the exchange's, for both may be one host.
    """

    def __init__(  # noqa: PLR0913 - the knobs of a client
        self,
        url: str,
        cache: Path,
        market: str = "binance",
        *,
        timeout: float = 60.0,
        attempts: int = 4,
        clock: Clock = utc_now,
        sleep: Callable[[float], Any] = time.sleep,
        bans: BanMemory | None = None,
    ) -> None:
        self._url, self._market, self._timeout = url.rstrip("/"), market, timeout
        self._cache = cache / re.sub(r"[^A-Za-z0-9._-]", "-", market)
        self._retried = Jittered(attempts, sleep)
        self._local = threading.local()
        self._failures, self._clock = 0, clock
        self._bans: BanMemory = bans or LocalBans()
        _clear(self._cache)

    @property
    def gave_up(self) -> bool:
        """Whether so many files failed, or this address is banned, that the archive is not asked again."""
        if self._failures >= _ENOUGH:
            return True
        end = self._bans.until(host_of(self._url))
        return end is not None and end > self._clock()

    def belongs(self) -> bool:
        """Whether there is an archive of this market here.

        The exchange's is taken at its word, file by file. A replay has one only where the address
        of the archive is the replay's own: then nobody else is asked for its candles.
        """
        if not self._market.startswith("replay:"):
            return True
        try:
            reply = fetch_reply(new_session(), f"{self._url}/", timeout=_PROBE)
        except TransientError:
            return False
        return reply.headers.get(MARKET_HEADER) == self._market

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
        if self.gave_up:
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
        if self.gave_up:
            return None
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
        if reply.status == _TEAPOT or (reply.status == _TOO_MANY and wait is not None and wait > _PATIENCE):
            end = self._clock() + pd.Timedelta(seconds=_UNTOLD_BAN if wait is None else wait)
            self._bans.remember(host_of(self._url), end, f"HTTP {reply.status} from the archive")
        raise TransientError(msg, None if self.gave_up else wait)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _clear(folder: Path) -> None:
    """Delete what a killed process has left half written."""
    for path in folder.glob("*/*.part"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime > _ASIDE_S:
                path.unlink()


def _write(path: Path, content: bytes) -> None:
    """Write aside and rename: whoever is interrupted leaves no half file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    aside.write_bytes(content)
    aside.replace(path)
