"""A file or folder of candles as a market of its own."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import COLUMNS, interval_delta, interval_floors, resample_candles
from btcml.contract import broken_rules
from btcml.errors import SourceError, UsageError
from btcml.market import Clock, utc_now
from btcml.market.formats import SUFFIXES, Loaded, load_file
from btcml.market.klines import merge_candles
from btcml.sentences import Sentence

if TYPE_CHECKING:
    from btcml.market import OnPage


_TICK = pd.Timedelta(milliseconds=1)


class FileMarket:
    """The market of a file or folder of candles.

    The exchange's own archives and exports of btcml hold final candles only. Of any other file the
    last candle of each series may still have been open when it was written: it is held back, with a note,
    unless `as_of` shows that it had closed. The market's clock is just after the
    last final close.

    Parameters
    ----------
    path
        File or folder. The symbol is read from a ticker column or the file's name; a single file without
        either serves any symbol.
    name
        Name of the market after ``file:``; by default the name of the file without its suffix and
        eight digits of the hash of its content, so that two files of one name never mix.
    as_of
        Time at which the file was written: what had closed by then is final.
    timezone
        Zone of times without one, such as ``America/New_York``; by default UTC.
    symbol
        Symbol of a single file, which wins over the one in its name, with a note; not over a ticker column.
    clock
        Real time; what has not closed by then is not final.

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

    def __init__(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        as_of: pd.Timestamp | None = None,
        timezone: str | None = None,
        symbol: str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.path = Path(path)
        files = _files(self.path)
        stem = self.path.resolve().name if self.path.is_dir() else self.path.stem
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name or stem).strip("-.")[:70] or "candles"
        self._market = f"file:{safe}" if name else f"file:{safe}-{_content(files, timezone)[:8]}"
        self._as_of, self._timezone, self._now = as_of, timezone, clock()
        self._symbol = symbol if self.path.is_file() else None
        self._unmade: tuple[str, ...] = ()

    @property
    def market(self) -> str:
        """Name of the market: ``file:NAME``."""
        return self._market

    @property
    def series(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Final candles by symbol and interval; the symbol is empty where the file does not name it."""
        return {key: frame for key, (frame, _) in self._read().items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about what was decided in reading and what was held back."""
        return tuple(dict.fromkeys(note for _, notes in self._read().values() for note in notes)) + self._unmade

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols that the files name; empty where they do not."""
        return tuple(sorted({symbol for symbol, _ in self.series if symbol}))

    def _read(self) -> dict[tuple[str, str], tuple[pd.DataFrame, tuple[str, ...]]]:
        stamps = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in _files(self.path))
        loaded = [_renamed(series, self._symbol) for series in _load_series(stamps, self._timezone)]
        found = {series[:2]: _finished(series, self._as_of, self._now) for series in loaded}
        found = {key: (frame, notes) for key, (frame, notes) in found.items() if len(frame)}
        if not found:
            msg = f"{self.path} holds no {'final ' if loaded else ''}candles"
            raise SourceError(msg)
        return found

    def now(self) -> pd.Timestamp:
        """Return the time just after the last final close: everything that is fetched is final."""
        return max(_end(frame, interval) for (_, interval), frame in self.series.items())

    def default_end(self, symbol: str) -> pd.Timestamp:
        """Return the end of the last final candle of the symbol."""
        return max(_end(frame, interval) for interval, frame in self._of(symbol).items())

    def span(self, symbol: str) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Return the open time of the first candle of the symbol and the end of its last."""
        return min(frame["open_time"].iloc[0] for frame in self._of(symbol).values()), self.default_end(symbol)

    def extent(self, symbol: str, interval: str) -> tuple[pd.Timestamp, pd.Timestamp] | None:  # noqa: ARG002 - as a market's
        """Return the open time of the first candle and the end of the last."""
        return self.span(symbol)

    def fetch_candles(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
    ) -> pd.DataFrame:
        """Candles of the file with open time in [start, end), made of shorter ones where all of these are there.

        Raises
        ------
        UsageError
            If the file holds another symbol, or only longer candles than requested.
        """
        own, frame = self._source(symbol, interval)
        if own != interval:
            frame = self._resampled(frame, own, interval)
        inside = (frame["open_time"] >= start) & (frame["open_time"] < end)
        result = frame[inside].reset_index(drop=True)
        if on_page is not None:
            on_page(len(result), len(result))
        return result

    def _resampled(self, frame: pd.DataFrame, own: str, interval: str) -> pd.DataFrame:
        """Longer candles of which every part is there and keeps the contract; a note tells of the others.

        A candle of some of its parts has too little volume, and other prices than the exchange's.
        """
        good = frame[~broken_rules(frame, own).any(axis=1)]
        made = resample_candles(good, interval)
        parts = interval_floors(good["open_time"], interval).value_counts()
        whole = made["open_time"].map(parts) == interval_delta(interval) // interval_delta(own)
        left = made["open_time"][~whole]
        self._unmade = ()
        if len(left):
            says = (
                "{number} candles of {interval} are not made, the first of {time}: parts of {parts} are missing or "
                "break a rule"
            )
            first = f"{left.iloc[0]:%Y-%m-%d %H:%M}"
            self._unmade = (Sentence(says, number=len(left), interval=interval, time=first, parts=own),)
        return made[whole].reset_index(drop=True)

    def _of(self, symbol: str) -> dict[str, pd.DataFrame]:
        series = self.series
        found = {key[1]: frame for key, frame in series.items() if key[0] in {symbol, ""}}
        if not found:
            held = sorted({key[0] for key in series})
            msg = f"{self.path.name} holds {', '.join(held)}, found symbol {symbol!r}: give --symbol {held[0]}"
            raise UsageError(msg)
        return found

    def _source(self, symbol: str, interval: str) -> tuple[str, pd.DataFrame]:
        """Return the longest series that the interval can be made of exactly."""
        delta, found = interval_delta(interval), self._of(symbol)
        fitting = [name for name in found if delta % interval_delta(name) == pd.Timedelta(0)]
        if not fitting:
            held = ", ".join(found)
            msg = (
                f"{self.path.name} holds candles of {held}, which cannot be resampled to {interval}: give a longer one"
            )
            raise UsageError(msg)
        best = max(fitting, key=interval_delta)
        return best, found[best]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        msg = f"there is no file or folder of candles at {path}: check the path"
        raise SourceError(msg)
    named = (file for file in path.iterdir() if not file.name.startswith("."))
    files = sorted(file for file in named if file.name.lower().removesuffix(".gz").endswith(SUFFIXES))
    if not files:
        msg = f"there is no file of candles ({', '.join(SUFFIXES)}) in the folder {path}"
        raise SourceError(msg)
    return files


@lru_cache(maxsize=4)
def _load_series(stamps: tuple[tuple[Path, int, int], ...], timezone: str | None) -> list[Loaded]:
    """Read once per process as long as no file changes: a report reads the same file often."""
    parts: dict[tuple[str, str], list[tuple[Path, Loaded]]] = {}
    for file, *_ in stamps:
        for found in load_file(file, timezone):
            if not found.candles.empty:
                parts.setdefault((found.symbol, found.interval), []).append((file, found))
    _check_named(parts, [file for file, *_ in stamps])
    return [_joined(key, found) for key, found in parts.items()]


def _renamed(loaded: Loaded, symbol: str | None) -> Loaded:
    """Give a series the symbol that the user named, where only the file's name gives another."""
    if not symbol or loaded.by_column or loaded.symbol in {symbol, ""}:
        return loaded
    says = "the file's name says {symbol}; its candles are stored as {stored}, as requested"
    note = Sentence(says, symbol=loaded.symbol, stored=symbol)
    return loaded._replace(symbol=symbol, notes=(*loaded.notes, note))


def _check_named(parts: dict[tuple[str, str], list[tuple[Path, Loaded]]], files: list[Path]) -> None:
    """Reject a folder in which a file does not name its symbol: it could be merged into any."""
    nameless = sorted({file.name for key, found in parts.items() if not key[0] for file, _ in found})
    if nameless and len(files) > 1:
        msg = f"the symbol of {', '.join(nameless[:5])} is not known: name them as BTCUSDT-5m.csv, or give one file"
        raise SourceError(msg)


def _joined(key: tuple[str, str], found: list[tuple[Path, Loaded]]) -> Loaded:
    """One series of several files: where two differ, only a last row, which may have been open, gives way."""
    frames, last = [loaded.candles for _, loaded in found], []
    for _, loaded in found:
        last.append(loaded.candles.tail(0 if loaded.final else 1))
    closed = [frame[: len(frame) - len(end)] for frame, end in zip(frames, last, strict=True)]
    named = pd.concat([frame.assign(file=path.name) for frame, (path, _) in zip(closed, found, strict=True)])
    twice = named[named["open_time"].duplicated(keep=False)]
    values = twice.drop_duplicates(["open_time", *COLUMNS[1:6]])
    differs = values[values["open_time"].duplicated(keep=False)].sort_values("open_time", kind="stable")
    if len(differs):
        one, two = differs["file"].iloc[:2]
        when = f"{differs['open_time'].iloc[0]:%Y-%m-%d %H:%M}"
        msg = f"{one} and {two} differ for {' '.join(key).strip()} at {when}: keep one of them"
        raise SourceError(msg)
    candles = merge_candles([*last, *closed])
    final = any(
        loaded.final and frame["open_time"].iloc[-1] == candles["open_time"].iloc[-1]
        for frame, (_, loaded) in zip(frames, found, strict=True)
    )
    by_column = any(loaded.by_column for _, loaded in found)
    return Loaded(*key, candles, final, tuple(note for _, loaded in found for note in loaded.notes), by_column)


def _finished(loaded: Loaded, as_of: pd.Timestamp | None, now: pd.Timestamp) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Final candles of a series, and what to say of the others."""
    candles, limit = loaded.candles, now if as_of is None else min(as_of, now)
    count = int((candles["close_time"] < limit).sum())
    if as_of is None and not loaded.final:
        count = min(count, len(candles) - 1)
    held = len(candles) - count
    if not held:
        return candles, loaded.notes
    last = "the last candle, of {time}," if held == 1 else "the last {number} candles"
    what = Sentence(last, time=f"{candles['open_time'].iloc[-1]:%Y-%m-%d %H:%M}", number=held)
    says = "{what} may have been open when the file was written and is not stored: "
    says += "if it was final, pass --as-of with the time of writing"
    note = Sentence(says, what=what)
    return candles[:count], (*loaded.notes, note)


def _content(files: list[Path], timezone: str | None) -> str:
    """Hash of the bytes of files, in order, and of how they are read: the same wherever they lie."""
    digest = hashlib.sha256((timezone or "").encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _end(frame: pd.DataFrame, interval: str) -> pd.Timestamp:
    last = frame.iloc[-1]
    return pd.Timestamp(max(last["close_time"] + _TICK, last["open_time"] + interval_delta(interval)))
