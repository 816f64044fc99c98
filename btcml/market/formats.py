"""Formats of a file of candles: Parquet, CSV, the exchange's zips and JSON answers."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import pyarrow as pa

from btcml.candles import INTERVALS, empty_candles, infer_interval, interval_delta
from btcml.errors import SourceError
from btcml.market.klines import ALIASES, FIELDS, parse_columns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["NAME", "SUFFIXES", "Loaded", "load_candles", "load_file", "parse_csv", "parse_zip"]

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
