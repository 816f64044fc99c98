"""A file or folder of candles as a market of its own: Parquet, CSV, the exchange's zips and JSON answers."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import pyarrow as pa

from btcml.candles import INTERVALS, empty_candles, infer_interval, interval_delta, resample_candles
from btcml.errors import SourceError, UsageError
from btcml.market.klines import ALIASES, FIELDS, merge_candles, parse_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from btcml.market import OnPage

__all__ = ["NAME", "SUFFIXES", "FileMarket", "load_candles", "load_series", "parse_csv", "parse_zip"]

NAME = re.compile(r"(?P<symbol>[A-Z0-9]{5,20})[-_](?P<interval>\d{1,2}[mhdwM])(?![A-Za-z0-9])")
"""The exchange's names of files: symbol, interval and, after them, anything."""

_TICK = pd.Timedelta(milliseconds=1)
_LEAST = 6  # time, four prices, volume


def _read_parquet(data: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(data))


def parse_csv(data: bytes) -> pd.DataFrame:
    """Raw columns of a CSV: with a header, or without one in the order of `FIELDS`.

    Numbers are read exactly; a column with any text in it comes back as text.

    Examples
    --------
    >>> parse_csv(b"1735689600000,1,2,1,2,10").columns.tolist()
    ['open_time', 'open', 'high', 'low', 'close', 'volume']
    """
    data = data.rstrip() + b"\n"  # Arrow finds no row in a line without an end
    first = data[: data.find(b"\n")].decode("utf-8-sig").strip()
    names = [part.strip().strip('"').lower().replace(" ", "_") for part in first.split(",")]
    header = any(ALIASES.get(name, name) in FIELDS for name in names)
    if header:
        if data.count(b"\n") == 1:
            return pd.DataFrame(columns=names)
        return pd.read_csv(io.BytesIO(data), engine="pyarrow")
    if not _LEAST <= len(names) <= len(FIELDS) or not names[0][:1].isdigit():
        msg = f"these are no candles: the first line is {first[:80]!r}{_cure(first)}"
        raise SourceError(msg)
    return pd.read_csv(io.BytesIO(data), engine="pyarrow", header=None, names=list(FIELDS[: len(names)]))


def _cure(first: str) -> str:
    """What to do about a line that other separators than commas part."""
    for name, separator in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        if first.count(separator) >= _LEAST - 1:
            return f": its columns are parted by {name}, save it with commas (and points in the numbers)"
    return f": expected columns {', '.join(FIELDS[:_LEAST])}, parted by commas"


def parse_zip(data: bytes) -> pd.DataFrame:
    """Raw columns of the one CSV in a zip, as the exchange's archive packs them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
        if len(names) != 1:
            msg = f"expected one CSV in the zip, found {len(names)}"
            raise SourceError(msg)
        return parse_csv(archive.read(names[0]))


def _read_json(data: bytes) -> pd.DataFrame:
    rows = json.loads(data)
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != len(FIELDS) for row in rows):
        msg = f"expected a list of klines of {len(FIELDS)} fields"
        raise SourceError(msg)
    return pd.DataFrame(rows, columns=list(FIELDS))


_READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".parquet": _read_parquet,
    ".csv": parse_csv,
    ".zip": parse_zip,
    ".json": _read_json,
}

SUFFIXES: tuple[str, ...] = tuple(_READERS)
"""Kinds of file that can be read."""


class Loaded(NamedTuple):
    """Candles of one file, with whose they are where the file says so: a column ``symbol``, else its name."""

    symbol: str
    interval: str
    candles: pd.DataFrame


def load_candles(path: Path) -> tuple[str, pd.DataFrame]:
    """Candles of one file, with the name of their interval: see `load_file`."""
    return load_file(path)[1:]


def load_file(path: Path) -> Loaded:
    """Candles of one file, with their symbol and the name of their interval.

    Parameters
    ----------
    path
        A file of one of `SUFFIXES`. The interval is told by the steps between its candles; where
        there are fewer than two, by its name (``BTCUSDT-5m-….csv``) or the close time.

    Returns
    -------
    Loaded
        Symbol (empty where the file does not say), interval and candle frame; without any row,
        interval "" and an empty frame for an empty JSON answer, which is the exchange's way to say
        that there is nothing.

    Raises
    ------
    SourceError
        If the file is missing, of an unknown kind, damaged, empty, or holds no candles.
    """
    reader = _READERS.get(path.suffix.lower())
    if not path.is_file():
        msg = f"there is no file of candles at {path}: give an existing file or folder"
        raise SourceError(msg)
    if reader is None:
        msg = f"{path.name}: expected one of {', '.join(SUFFIXES)}, found {path.suffix or 'no suffix'}"
        raise SourceError(msg)
    try:
        raw = reader(_bytes(path))
        if raw.empty and path.suffix.lower() == ".json":
            return Loaded("", "", empty_candles())
        return Loaded(_symbol(raw, path), *_parse_raw(raw, path))
    except SourceError as error:
        msg = f"{path.name}: {error}"
        raise SourceError(msg) from error
    except (ValueError, zipfile.BadZipFile, pa.ArrowException, OSError) as error:
        msg = f"{path.name}: cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}"
        raise SourceError(msg) from error


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.strip():
        msg = "the file is empty: expected candles"
        raise SourceError(msg)
    return data


def _parse_raw(raw: pd.DataFrame, path: Path) -> tuple[str, pd.DataFrame]:
    if raw.empty:
        msg = "the file has no rows: expected candles"
        raise SourceError(msg)
    frame = parse_columns(raw, "1m")
    interval = _interval(frame, path)
    filled = interval != "1m" and not any(str(name).strip().lower() == "close_time" for name in raw.columns)
    if filled:  # "1m" filled close times that are absent before the interval was known
        frame["close_time"] = frame["open_time"] + interval_delta(interval) - _TICK
    return interval, frame


def _symbol(raw: pd.DataFrame, path: Path) -> str:
    """What a column ``symbol`` says, else the file's name; BTC/USDT is BTCUSDT."""
    named = [name for name in raw.columns if str(name).strip().lower() == "symbol"]
    told = raw[named[0]].dropna().unique() if named else ()
    symbols = sorted({re.sub(r"[^A-Z0-9]", "", str(value).upper()) for value in told} - {""})
    if len(symbols) > 1:
        msg = f"the column {named[0]} holds {', '.join(symbols[:5])}: expected one symbol a file"
        raise SourceError(msg)
    match = NAME.search(path.name)
    return symbols[0] if symbols else match["symbol"] if match else ""


def _interval(frame: pd.DataFrame, path: Path) -> str:
    if len(frame) > 1:
        return infer_interval(frame["open_time"])
    match = NAME.search(path.name)
    if match is not None and match["interval"] in INTERVALS:
        return match["interval"]
    length = frame["close_time"].iloc[0] + _TICK - frame["open_time"].iloc[0]
    for name, delta in INTERVALS.items():
        if delta == length:
            return name
    msg = "the interval cannot be told from one candle: give at least two"
    raise SourceError(msg)


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
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
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
