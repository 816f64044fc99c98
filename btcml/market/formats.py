"""Formats of a file of candles: Parquet, Feather, CSV, JSON and the exchange's zips into candle frames.

Files of other programs are read where their meaning is certain: other names of columns, date and time in two
columns, times in the index, a ticker column, stamps of the close. What may be wrong is rejected with the
reason: rows that contradict each other, another order of columns, local times.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import re
import zipfile
import zlib
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pandas as pd
import pyarrow as pa

from btcml.candles import (
    COLUMNS,
    INTERVALS,
    TIME,
    candle_gaps,
    empty_candles,
    infer_interval,
    interval_delta,
    interval_floors,
)
from btcml.contract import broken_rules
from btcml.errors import SourceError
from btcml.market import utc_now
from btcml.market.klines import ALIASES, FIELDS, is_epoch, parse_times, read_columns
from btcml.sentences import Sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


_TICK = pd.Timedelta(milliseconds=1)
_MIN = 6  # time, four prices, volume
_TICKERS = ("symbol", "ticker", "tic", "pair", "unique_id", "instrument", "coin")
# Columns whose values tell series apart, but not by the exchange's symbols.
_KINDS = (
    "asset asset_id asset_name base base_asset coin_id crypto cryptocurrency currency code name sym s security "
    "security_id product product_id inst_id instid instrument_id slug market exchange venue interval timeframe period "
    "granularity resolution"
)
_TIMES = ("open_time", "timestamp", "unix", "time", "datetime", "date", "index", "")
_ARCHIVE_NAME = re.compile(r"[^-]+-\d{1,2}[mhdw]-(\d{4}-\d{2})(-\d{2})?\.csv")
_INTERVAL = re.compile(r"(?<![A-Za-z0-9])(\d{1,2}[mhdw])(?![A-Za-z0-9])")
_ROUNDED = re.compile(rb"(?:^|,)\"?(\d(?:\.\d+)?[eE]\+\d+)")
_ROUNDED_BELOW = re.compile(rb"^\"?(\d(?:\.\d+)?[eE]\+\d+)", re.MULTILINE)
_ARCHIVE_SYMBOL = re.compile(r"([^\W_]{5,20})[-_]\d{1,2}[mhdwM](?![A-Za-z0-9])")
_QUOTES = ("USDT", "FDUSD", "USDC", "BUSD", "TUSD", "USD", "EUR", "BTC", "ETH", "BNB")
_PAIR = re.compile(r"(BTC|XBT|ETH|BNB|SOL|XRP|ADA|DOGE|LTC|USDT)(TRY|BRL|GBP|AUD|JPY|KRW|DAI|ARS|ZAR|MXN|PLN|CHF|CAD)")
_BROKEN_SHARE, _BROKEN_ROWS = 0.1, 3
_HOUR, _SECOND = pd.Timedelta(hours=1), timedelta(seconds=1)

UNREADABLE = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    pa.ArrowException,
    OSError,
    EOFError,
    RuntimeError,
    OverflowError,
)
"""What the libraries raise on damaged, encrypted or absurd content."""


class Loaded(NamedTuple):
    """Candles of one symbol in one file.

    Attributes
    ----------
    symbol
        From a ticker column, else from the file's name; empty where neither has it.
    interval, candles
        Name of the interval, and a candle frame, sorted and unique.
    final
        Whether the file holds final candles only: an archive of the exchange, or btcml's export.
    notes
        Sentences for the user: what was decided in reading it.
    by_column
        Whether the symbol comes from a ticker column.
    """

    symbol: str
    interval: str
    candles: pd.DataFrame
    final: bool = False
    notes: tuple[str, ...] = ()
    by_column: bool = False


def load_candles(path: Path) -> tuple[str, pd.DataFrame]:
    """Name of the interval and candles of a file of one symbol: see `load_file`."""
    return load_file(path)[0][1:3]


def load_file(path: Path, timezone: str | None = None) -> list[Loaded]:
    """Candles of one file, one entry per symbol.

    Parameters
    ----------
    path
        A file of one of `SUFFIXES`, also compressed (``.gz``). The interval is inferred from the steps between
        its candles; where there are fewer than two, by its name or the close time.
    timezone
        Zone of times that have none, such as ``America/New_York``; without it they are UTC.

    Returns
    -------
    list of Loaded
        One entry with interval "" and an empty frame for an empty JSON answer, which is how the
        exchange says that there is nothing.

    Raises
    ------
    SourceError
        If the file is missing, of an unknown kind, damaged, empty, holds no candles, contradicts
        itself, or most probably is read wrongly.
    """
    if not path.is_file():
        msg = f"there is no file of candles at {path}: give an existing file or folder"
        raise SourceError(msg)
    kind = path.name.lower().removesuffix(".gz")
    suffix = next((suffix for suffix in SUFFIXES if kind.endswith(suffix)), "")
    if not suffix:
        msg = f"{path.name}: expected one of {', '.join(SUFFIXES)}, found {path.suffix or 'no suffix'}"
        raise SourceError(msg)
    try:
        raw = _READERS[suffix](_read_bytes(path))
        if raw.empty and suffix == ".json":
            return [Loaded("", "", empty_candles())]
        return list(_series(raw, path, timezone))
    except SourceError as error:
        msg = f"{path.name}: {error}"
        raise SourceError(msg) from error
    except UNREADABLE as error:
        msg = f"{path.name}: cannot be read as {suffix[1:]}: {(str(error) or repr(error)).splitlines()[0]}"
        raise SourceError(msg) from error


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        data = gzip.decompress(data)
    if not data.strip():
        msg = "the file is empty: expected candles"
        raise SourceError(msg)
    return data


# ---- bytes into raw columns ----


def _read_parquet(data: bytes) -> pd.DataFrame:
    return with_index(pd.read_parquet(io.BytesIO(data)))


def _read_feather(data: bytes) -> pd.DataFrame:
    return with_index(pd.read_feather(io.BytesIO(data)))


def with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn times in the index into a column."""
    return frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()


def _read_json(data: bytes) -> pd.DataFrame:
    rows = json.loads(data)
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        return pd.DataFrame(rows)
    widths = {len(row) if isinstance(row, list) else 0 for row in rows} if isinstance(rows, list) else {0}
    if not widths <= {_MIN, len(FIELDS)} or len(widths) > 1:
        msg = f"expected a list of klines of {len(FIELDS)} fields, or of {_MIN} (time, open, high, low, close, volume)"
        raise SourceError(msg)
    return pd.DataFrame(rows, columns=list(FIELDS[: max(widths, default=len(FIELDS))]))


def parse_csv(data: bytes) -> pd.DataFrame:
    """Raw columns of a CSV: with a header, or without one in the order of `FIELDS`.

    Numbers are read exactly; a column with any text in it comes back as text. A line before the
    header that is an address or a comment, and a header that is repeated, are skipped.

    Examples
    --------
    >>> parse_csv(b"1735689600000,1,2,1,2,10").columns.tolist()
    ['open_time', 'open', 'high', 'low', 'close', 'volume']
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16").encode()
    data = data.removeprefix(b"\xef\xbb\xbf").strip() + b"\n"  # Arrow finds no row in a line without an end
    while data.startswith((b"http", b"#", b'"http')) and b"," not in _first_line(data):
        data = data[data.find(b"\n") + 1 :]
    if data.startswith(b"Price,") and b"\nTicker," in data[:2000]:
        data = _yfinance(data)
    line = _first_line(data)
    names = [_plain(part) for part in line.decode("utf-8", "replace").split(",")]
    if any(ALIASES.get(name, name) in FIELDS for name in names):
        if data.count(line) > 1:
            data = line + b"\n" + b"".join(row for row in data.splitlines(keepends=True) if row.strip() != line)
        if data.count(b"\n") == 1:
            return pd.DataFrame(columns=names)
        _check_not_rounded(data[len(line) + 1 :])
        return pd.read_csv(io.BytesIO(data), engine="pyarrow")
    columns = _positions(line, names)
    _check_not_rounded(data)
    return pd.read_csv(io.BytesIO(data), engine="pyarrow", header=None, names=columns)


def _first_line(data: bytes) -> bytes:
    return data[: data.find(b"\n")].strip()


def _plain(name: object) -> str:
    """Name of a column in lower case with underscores."""
    text = re.sub(r"[\s._()]+", "_", str(name).strip().strip('"<>').lower()).strip("_").removesuffix("_utc")
    return "" if text.startswith("unnamed:") or text == "none" else text


def _positions(line: bytes, names: list[str]) -> list[str]:
    """Names of the columns of a CSV without a header, by their number."""
    first = line.decode("utf-8", "replace")
    if names[-1] in {"true", "false"} or "price" in names:
        msg = "these are trades, not candles: take the archive's files under klines"
        raise SourceError(msg)
    if not _MIN <= len(names) <= len(FIELDS) or not names[0][:1].isdigit():
        msg = f"this is not a file of candles: the first line is {first[:80]!r}{_advice(first)}"
        raise SourceError(msg)
    columns = list(FIELDS[: len(names)])
    if len(names) == _MIN + 1 and not is_epoch(names[-1]):  # Kraken's: the seventh is the number of trades
        columns[-1] = "trades"
    return columns


def _check_not_rounded(data: bytes) -> None:
    """Reject times that a spreadsheet has rounded: in any column of the first row, below it in the first column."""
    match = _ROUNDED.search(_first_line(data)) or (_ROUNDED_BELOW.search(data) if b"E+" in data.upper() else None)
    if match and is_epoch(match[1].decode()):
        row = data.count(b"\n", 0, match.start()) + 1
        msg = f"row {row}: the time {match[1].decode()} was rounded by a spreadsheet: save the times as whole numbers"
        raise SourceError(msg)


def _yfinance(data: bytes) -> bytes:
    """Three header lines of yfinance (names, tickers, the name of the index) into one, with a column ticker."""
    names, tickers, index, rows = data.split(b"\n", 3)
    ticker = {part.strip() for part in tickers.split(b",")[1:]}
    if len(ticker) != 1:
        msg = f"the file holds the tickers {b', '.join(sorted(ticker)).decode()} side by side: save one per file"
        raise SourceError(msg)
    ends = b"," + ticker.pop() + b"\n"
    header = index.split(b",")[0] + names.strip()[len(b"Price") :] + b",ticker\n"
    return header + b"".join(row.strip() + ends for row in rows.splitlines() if row.strip())


def _advice(first: str) -> str:
    """Advice for a line with separators other than commas."""
    for name, separator in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        if first.count(separator) >= _MIN - 1:
            return f": its columns are separated by {name}, save it with commas (and points in the numbers)"
    return f": expected columns {', '.join(FIELDS[:_MIN])}, separated by commas"


def _is_hidden(name: str) -> bool:
    """Whether a file is one that an operating system adds beside another."""
    return name.rsplit("/", 1)[-1].startswith(".")


def parse_zip(data: bytes) -> pd.DataFrame:
    """Raw columns of the one CSV in a zip, as the exchange's archive packs them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".csv") and not _is_hidden(name)]
        if len(names) != 1:
            msg = f"expected one CSV in the zip, found {len(names)}"
            raise SourceError(msg)
        raw = parse_csv(archive.read(names[0]))
        raw.attrs["name"] = names[0].rsplit("/", 1)[-1]
        return raw


_READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".parquet": _read_parquet,
    ".feather": _read_feather,
    ".csv": parse_csv,
    ".zip": parse_zip,
    ".json": _read_json,
}

SUFFIXES: tuple[str, ...] = tuple(_READERS)
"""Kinds of file that can be read."""


# ---- raw columns into series ----


def _series(raw: pd.DataFrame, path: Path, timezone: str | None) -> Iterator[Loaded]:
    """Series of a file: one for each value of its ticker column, else one."""
    if raw.empty:
        msg = "the file has no rows: expected candles"
        raise SourceError(msg)
    final = _is_final(raw, path)
    raw = raw.set_axis([_plain(name) for name in raw.columns], axis=1)
    raw = raw.loc[:, ~raw.columns.duplicated()]
    if "price" in raw and ("qty" in raw or "quantity" in raw) and "open" not in raw:
        msg = "these are trades, not candles: take the archive's files under klines"
        raise SourceError(msg)
    tickers = [name for name in _TICKERS if name in raw.columns]
    _check_one_kind(raw, tickers)
    if not tickers:
        yield _load_one(raw, symbol_in(path.name), path, timezone, final=final)
        return
    if raw[tickers[0]].isna().any():
        msg = f"row {int(raw[tickers[0]].isna().argmax()) + 1}: no {tickers[0]}, where other rows name one"
        raise SourceError(msg)
    named = raw[tickers[0]].astype("str").str.upper().str.replace(r"[\W_]", "", regex=True)
    for symbol in named.unique():
        rows = raw[named == symbol].reset_index(drop=True)
        yield _load_one(rows, symbol, path, timezone, final=final)._replace(by_column=True)


def _check_one_kind(raw: pd.DataFrame, tickers: list[str]) -> None:
    """Reject a file of several assets, exchanges or intervals that no ticker column separates."""
    for name in set(_KINDS.split()).intersection(raw.columns):
        values = raw[name].dropna().astype("str").drop_duplicates()
        groups = raw.groupby(tickers[0])[name].nunique().max() if tickers else len(values)
        if groups > 1:
            found = f"the column {name} holds several values ({', '.join(values[:3])})"
            msg = f"{found}, which must not be mixed: give a file of one, or name a column of symbols symbol"
            raise SourceError(msg)


def symbol_in(name: str) -> str:
    """Symbol in the name of a file: the longest that ends with a usual quote, or the archive's; else empty.

    Examples
    --------
    >>> [symbol_in(name) for name in ("BTC_FDUSD-5m.csv", "Binance_BTCUSDT_d.csv", "btc-20211231-20220201_1h.csv")]
    ['BTCFDUSD', 'BTCUSDT', '']
    """
    archived = _ARCHIVE_SYMBOL.match(name)
    if archived and archived[1] == archived[1].upper() and archived[1] not in _QUOTES and not archived[1].isdigit():
        return archived[1]
    parts = re.split(r"[\W_]+", name.upper())
    apart = [base + quote for base, quote in itertools.pairwise(parts)]
    usual = [both for both, quote in zip(apart, parts[1:], strict=True) if quote in _QUOTES and both.isalpha()]
    # In binance_btc_usdt the last two belong together.
    pairs = [*usual[-1:], *filter(_PAIR.fullmatch, [*parts, *apart])]
    own = (part for part in parts if part.endswith(_QUOTES) and part not in _QUOTES)
    return max([*own, *pairs], key=len, default="")


def _is_final(raw: pd.DataFrame, path: Path) -> bool:
    """Whether a file is the exchange's own archive, by name and width, or an export of btcml.

    The archive has no file of a month or day that is not over: one of that name is another program's.
    """
    match = _ARCHIVE_NAME.fullmatch(raw.attrs.get("name", path.name))
    if match is not None and len(raw.columns) == len(FIELDS):
        now = utc_now()
        return match[1] + (match[2] or "") < (f"{now:%Y-%m-%d}" if match[2] else f"{now:%Y-%m}")
    return [*raw.columns] == [*COLUMNS, "symbol"]


def _load_one(raw: pd.DataFrame, symbol: str, path: Path, timezone: str | None, *, final: bool) -> Loaded:
    times, naive, notes = _times(raw, timezone)
    closed = "close_time" in raw or any(ALIASES.get(name) == "close_time" for name in raw.columns)
    volumes = {name: _volume(name, symbol) for name in raw.columns if name.startswith("volume_")}
    raw = raw.drop(columns=[n for n in raw.columns if ALIASES.get(n, n) == "open_time"]).rename(columns=volumes)
    for name in [name for name in raw.columns if ALIASES.get(name, name) == "close_time"]:
        raw[name] = parse_times(raw[name], name, timezone)
    frame = _unique(read_columns(raw.assign(open_time=times), "1m"), naive=naive)
    interval = _interval(frame, path, closed=closed)
    delta = interval_delta(interval)
    opened = open_times(frame["open_time"], interval, (_TICK, pd.Timedelta(_SECOND)))
    frame["open_time"] = frame["open_time"] if opened is None else opened
    if closed:  # a close that is the next open is the exchange's, a millisecond late
        late = frame["close_time"] - frame["open_time"] == delta
        frame.loc[late, "close_time"] -= _TICK
    else:
        frame["close_time"] = frame["open_time"] + delta - _TICK
    if naive:
        _check_clock_change(frame["open_time"], interval)
    _check_rules(frame, interval)
    return Loaded(symbol, interval, frame, final, notes)


def _volume(name: str, symbol: str) -> str:
    """Name of a column such as ``volume_btc``: of the base where the symbol begins so, else of the quote."""
    unit = name.removeprefix("volume_").upper()
    if symbol.startswith(unit):
        return "volume"
    return "quote_volume" if symbol.endswith(unit) or unit == "CURRENCY" else name


def _times(raw: pd.DataFrame, timezone: str | None) -> tuple[pd.Series, bool, tuple[str, ...]]:
    """Open times, whether they have no zone of their own, and what was decided.

    Of several columns of times one since the epoch decides: others may be local.
    """
    if "date" in raw and "time" in raw and raw["time"].astype("str").str.fullmatch(r"\d{1,2}:\d{2}(:\d{2}.*)?").all():
        joined = raw["date"].astype("str").str[:10] + " " + raw["time"].astype("str")
        raw = raw.drop(columns=["date", "time"]).assign(datetime=joined)
    names = [name for name in raw.columns if ALIASES.get(name, name) == "open_time" or name in _TIMES]
    if not names and "close_time" in raw:
        closed = parse_times(raw["close_time"], "close_time", timezone)
        return (
            closed - _TICK * int((closed.dt.floor("min") == closed).all()),
            _is_naive(raw["close_time"], timezone),
            (),
        )
    if not names:
        msg = f"this is not a file of candles: no column open_time or time among {', '.join(raw.columns)}"
        raise SourceError(msg)
    names.sort(key=lambda name: (not is_epoch(raw[name].iloc[0]), _TIMES.index(name) if name in _TIMES else 99))
    times = parse_times(raw[names[0]], names[0] or "of times", timezone)
    naive = _is_naive(raw[names[0]], timezone)
    others = [name for name in names[1:] if _differs(raw[name], times)]
    taken = Sentence("{name}, the time since 1970,", name=names[0]) if is_epoch(raw[names[0]].iloc[0]) else names[0]
    disagree = "the columns {one} and {other} disagree: {taken} is taken"
    notes = tuple(Sentence(disagree, one=name, other=names[0], taken=taken) for name in others)
    return times, naive, notes


def _is_naive(column: pd.Series, timezone: str | None) -> bool:
    return timezone is None and not is_epoch(column.iloc[0]) and not _has_zone(column)


def _has_zone(column: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(column):
        return isinstance(column.dtype, pd.DatetimeTZDtype)
    return bool(column.astype("str").str.contains(r"(?:[zZ]|[+-]\d{2}:?\d{2})$").all())


def _differs(column: pd.Series, times: pd.Series) -> bool:
    try:
        return bool((parse_times(column, "") != times).any())
    except SourceError:
        return False


def _unique(frame: pd.DataFrame, *, naive: bool) -> pd.DataFrame:
    """Drop exact duplicates; reject different rows of one time."""
    if frame["open_time"].is_unique:
        return frame
    frame = frame.drop_duplicates(ignore_index=True)
    twice = frame[frame["open_time"].duplicated(keep=False)]
    if len(twice):
        time, (one, two) = twice["open_time"].iloc[0], twice[list(COLUMNS[1:6])].to_numpy()[:2].tolist()
        cure = "keep one of them, or name the zone of local times with --timezone" if naive else "keep one of them"
        msg = f"two rows are of {time:%Y-%m-%d %H:%M} and differ: {one} and {two}: {cure}"
        raise SourceError(msg)
    return frame


def _interval(frame: pd.DataFrame, path: Path, *, closed: bool) -> str:
    """Interval of the closes where candles are missing between most rows, else that of the steps."""
    if len(frame) > 1:
        length = (frame["close_time"] - frame["open_time"]).mode().iloc[0]
        known = closed and length > _TICK  # else the times are those of the close
        named = [name for name, delta in INTERVALS.items() if known and delta == length.ceil("min")]
        steps = frame["open_time"].diff().mode()
        return named[0] if named and INTERVALS[named[0]] < steps.iloc[0] else infer_interval(frame["open_time"])
    match = _INTERVAL.search(path.name)
    if match is not None and match[1] in INTERVALS:
        return match[1]
    length = frame["close_time"].iloc[0] + _TICK - frame["open_time"].iloc[0]
    for name, delta in INTERVALS.items():
        if delta in {length, length - _TICK}:
            return name
    msg = "the interval cannot be inferred from one candle: give at least two"
    raise SourceError(msg)


def open_times(closes: pd.Series, interval: str, rests: tuple[pd.Timedelta, ...]) -> pd.Series | None:
    """Open times of candles by times of their close, all of them one of `rests` before the next candle; else None."""
    for rest in rests:
        after = (closes + rest).astype(TIME)
        if (interval_floors(after, interval) == after).all():
            return after - interval_delta(interval)
    return None


def _check_clock_change(times: pd.Series, interval: str) -> None:
    """Reject times without a zone that jump where clocks are put forward in some zone."""
    if interval_delta(interval) > _HOUR:
        return
    gaps = candle_gaps(times, interval)
    night = gaps[(gaps["end"] - gaps["start"]).isin((_HOUR, _HOUR / 2)) & ~gaps["start"].dt.hour.between(4, 21)]
    for start, end in zip(
        *(night[name].dt.tz_localize(None).dt.to_pydatetime() for name in ("start", "end")), strict=True
    ):
        zone = next(
            (zone for zone in _zones() if _offset(end, zone) - _offset(start - _SECOND, zone) == end - start), None
        )
        if zone is not None:
            what = "an hour" if end - start == _HOUR else "half an hour"
            found = f"the times jump by {what} at {start:%Y-%m-%d %H:%M}, as local times do (one such zone is {zone})"
            msg = f"{found}: name theirs with --timezone (UTC if they are UTC)"
            raise SourceError(msg)


@cache
def _zones() -> tuple[ZoneInfo, ...]:
    """All zones, those named for a city first."""
    return tuple(ZoneInfo(name) for name in sorted(available_timezones(), key=lambda name: ("/" not in name, name)))


def _offset(time: datetime, zone: ZoneInfo) -> timedelta:
    return time.replace(tzinfo=zone).utcoffset() or timedelta()


def _check_rules(frame: pd.DataFrame, interval: str) -> None:
    """Reject a file in which so many rows break a rule that it was probably read wrongly."""
    broken = broken_rules(frame, interval)
    if not broken.any(axis=1).all():  # rows without a price are holes, and go to quarantine
        broken = broken[list(_REASONS)]
    rows = int(broken.any(axis=1).sum())
    if rows >= min(_BROKEN_ROWS, len(frame)) and rows > _BROKEN_SHARE * len(frame):
        rule = str(broken.sum().idxmax())
        empty = ", ".join(name for name in COLUMNS[:6] if frame[name].isna().all())
        reason = f": no value in {empty}" if rule == "required" and empty else _REASONS.get(rule, "")
        msg = f"{rows / len(frame):.0%} of the rows break the rule {rule}{reason}"
        raise SourceError(msg)


_ORDER = ": are the columns in another order than open, high, low, close? Give them a header"
_REASONS: dict[str, Any] = {
    "high_is_highest": _ORDER,
    "low_is_lowest": _ORDER,
    "open_time_on_grid": ": the exchange's candles begin on whole UTC intervals, weeks on Monday: are these local "
    "times? Name their zone with --timezone",
    "close_time_plausible": ": a candle closes before the next one opens",
}
