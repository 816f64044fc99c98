"""A file or folder of candles as a market of its own."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import interval_delta, resample_candles
from btcml.errors import SourceError, UsageError
from btcml.market.formats import SUFFIXES, load_file
from btcml.market.klines import merge_candles

if TYPE_CHECKING:
    from btcml.market.source import OnPage

__all__ = ["FileMarket", "load_series"]

_TICK = pd.Timedelta(milliseconds=1)


def load_series(path: Path) -> dict[tuple[str, str], pd.DataFrame]:
    """All series of a file or folder, by symbol and interval.

    Returns
    -------
    dict
        ``(symbol, interval)`` to candle frame. The symbol is told by a column ``symbol`` or the
        file's name (``BTCUSDT-5m-2025-01.csv``) and is empty where neither says: such a file
        serves any symbol. Files of one series are merged in the order of their names, the last value wins.

    Raises
    ------
    SourceError
        If there is no such file or folder, no file of candles in it, or one cannot be read.
    """
    stamps = tuple((file, file.stat().st_mtime_ns) for file in _files(path))
    return dict(_load_files(stamps))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.is_file() else [_missing(path)]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        msg = f"there is no file of candles ({', '.join(SUFFIXES)}) in the folder {path}"
        raise SourceError(msg)
    return files


def _missing(path: Path) -> Path:
    msg = f"there is no file or folder of candles at {path}: check the path"
    raise SourceError(msg)


@lru_cache(maxsize=4)
def _load_files(stamps: tuple[tuple[Path, int], ...]) -> dict[tuple[str, str], pd.DataFrame]:
    """Read once per process as long as no file changes: a report asks for the same file often."""
    parts: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for file, _ in stamps:
        found = load_file(file)
        if not found.candles.empty:
            parts.setdefault((found.symbol, found.interval), []).append(found.candles)
    return {key: merge_candles(frames) for key, frames in parts.items()}


class FileMarket:
    """The market of a file or folder of candles.

    Its clock stands just after the last close, so everything in it is final; a frozen unfinished
    tail is for the contract to find.

    Parameters
    ----------
    path
        File or folder, see `load_series`.
    name
        Name of the market after ``file:``; by default the name of the file without its suffix and
        eight digits of the hash of its content, so that two files of one name never mix.

    Raises
    ------
    SourceError
        If there is nothing to read.

    Examples
    --------
    >>> FileMarket("no/such/file.csv")
    Traceback (most recent call last):
    ...
    btcml.errors.SourceError: there is no file or folder of candles at no/such/file.csv: check the path
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = Path(path)
        files = _files(self.path)
        stem = self.path.resolve().name if self.path.is_dir() else self.path.stem
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name or stem).strip("-.")[:70] or "candles"
        self._market = f"file:{safe}" if name else f"file:{safe}-{_content(files)[:8]}"

    @property
    def market(self) -> str:
        """Name of the market: ``file:NAME``."""
        return self._market

    @property
    def series(self) -> dict[tuple[str, str], pd.DataFrame]:
        """All series by symbol and interval; read at first use."""
        found = load_series(self.path)
        if not found:
            msg = f"{self.path} holds no candles"
            raise SourceError(msg)
        return found

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols that the files tell; none where they do not say."""
        return tuple(sorted({symbol for symbol, _ in self.series if symbol}))

    def now(self) -> pd.Timestamp:
        """Return the time just after the last close: everything in the file is final."""
        return max(_end(frame, interval) for (_, interval), frame in self.series.items())

    def default_end(self, symbol: str) -> pd.Timestamp:
        """Return the end of the last candle of the symbol."""
        return max(_end(frame, interval) for interval, frame in self._of(symbol).items())

    def span(self, symbol: str) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Return the open time of the first candle of the symbol and the end of its last."""
        return min(frame["open_time"].iloc[0] for frame in self._of(symbol).values()), self.default_end(symbol)

    def fetch_candles(
        self,
        symbol: str,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        on_page: OnPage | None = None,
    ) -> pd.DataFrame:
        """Candles of the file with open time in [start, end), resampled where they are shorter.

        Raises
        ------
        UsageError
            If the file holds another symbol, or only longer candles than asked for.
        """
        own, frame = self._source(symbol, interval)
        if own != interval:
            frame = resample_candles(frame, interval)
        inside = (frame["open_time"] >= start) & (frame["open_time"] < end)
        result = frame[inside].reset_index(drop=True)
        if on_page is not None:
            on_page(len(result), len(result))
        return result

    def _of(self, symbol: str) -> dict[str, pd.DataFrame]:
        series = self.series
        found = {key[1]: frame for key, frame in series.items() if key[0] in {symbol, ""}}
        if not found:
            held = ", ".join(sorted({key[0] for key in series}))
            msg = f"{self.path.name} holds {held}, found symbol {symbol!r}"
            raise UsageError(msg)
        return found

    def _source(self, symbol: str, interval: str) -> tuple[str, pd.DataFrame]:
        """Return the longest series that the interval can be made of exactly."""
        delta, found = interval_delta(interval), self._of(symbol)
        fitting = [name for name in found if delta % interval_delta(name) == pd.Timedelta(0)]
        if not fitting:
            held = ", ".join(found)
            msg = f"{self.path.name} holds candles of {held}, which make no {interval}: ask for longer ones"
            raise UsageError(msg)
        best = max(fitting, key=interval_delta)
        return best, found[best]


def _content(files: list[Path]) -> str:
    """Hash of the bytes of files, in order: the same wherever they lie."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _end(frame: pd.DataFrame, interval: str) -> pd.Timestamp:
    last = frame.iloc[-1]
    return pd.Timestamp(max(last["close_time"] + _TICK, last["open_time"] + interval_delta(interval)))
