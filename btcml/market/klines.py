"""Kline rows of the exchange, and of programs that rename the columns, into candle frames.

The only module that deals with milliseconds and microseconds. The exchange answers rows of twelve
fields (`FIELDS`); its archive writes the same as CSV, in milliseconds until the end of 2024 and in
microseconds since, sometimes below a header; other programs rename the columns (`ALIASES`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.candles import COLUMNS, as_candles, empty_candles, interval_delta
from btcml.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence


FIELDS: tuple[str, ...] = (*COLUMNS, "ignore")
"""The twelve fields of a kline, in the exchange's order."""

ALIASES: dict[str, str] = {
    other: name
    for name, others in {
        "open_time": "time timestamp datetime date opentime open_timestamp unix unix_timestamp gmt_time",
        "close_time": "closetime close_timestamp",
        "volume": "vol base_volume",
        "trades": "count number_of_trades num_trades trade_count tradecount n_trades",
        "quote_volume": "quote_asset_volume quote_av qav quotevolume",
        "taker_buy_base": "taker_buy_volume taker_buy_base_volume taker_buy_base_asset_volume tb_base_av "
        "taker_base_vol",
        "taker_buy_quote": "taker_buy_quote_volume taker_buy_quote_asset_volume tb_quote_av taker_quote_vol",
    }.items()
    for other in others.split()
}
"""Other programs' names of the columns, lower case with underscores."""

# Bounds of a time in each unit: the years 2009 (the first bitcoin) to 2200.
_FIRST, _LAST = 1_230_768_000, 7_258_118_400
_UNITS = (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
_FEW = 5
_EPOCH = "a time in s, ms or µs since 1970, in the years 2009 to 2200"
_MILLISECOND = pd.Timedelta(milliseconds=1)


_ZONED = r"[T ]\d.*(?:[zZ]|[+-]\d\d(?::?\d\d)?)$"


def is_epoch(value: object) -> bool:
    """Whether a value is a time since 1970 in s, ms, µs or ns, in the years 2009 to 2200.

    Examples
    --------
    >>> is_epoch("1735689600000"), is_epoch(20250101), is_epoch("2025-01-01")
    (True, False, False)
    """
    number = _number(str(value))
    return number is not None and any(_FIRST * scale <= number < _LAST * scale for _, scale in _UNITS)


def parse_numbers(column: pd.Series, name: str) -> pd.Series:
    """Read numbers of any kind as float64; nothing and ``nan`` are NaN.

    Raises
    ------
    SourceError
        If a value is no number.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    numbers = _to_numbers(column)
    wrong = numbers.isna() & column.notna() & ~column.astype("str").str.strip().str.lower().isin(("", "nan"))
    if wrong.any():
        _refuse(column, wrong, name, "a number")
    return numbers.astype("float64")


def parse_times(column: pd.Series, name: str, timezone: str | None = None) -> pd.Series:
    """Read times of any kind as datetime64[us, UTC], cut to the exchange's milliseconds.

    Parameters
    ----------
    column
        Timezone-aware times; naive times; ISO 8601 text; or integers since the
        epoch, whose unit (s, ms, µs, ns) is inferred value by value from its magnitude, so that a
        file may change its unit half-way.
    name
        Name of the column, for the error.
    timezone
        Zone of naive times; without it they are UTC.

    Returns
    -------
    Series
        Microseconds below a millisecond are cut: the archive writes the close of a minute as
        ``…59.999999`` since 2025 where the API has ``…59.999``, and both are one candle.

    Raises
    ------
    SourceError
        If a value is missing, is no time, or lies outside the years 2009 to 2200 in every unit.

    Examples
    --------
    >>> import pandas as pd
    >>> parse_times(pd.Series([1735689659999, 1735689659999999]), "close_time").nunique()
    1
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_any_dtype(column):
        times = _localized(column, timezone)
    elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        times = _epoch_times(column, name)
    else:
        times = _text_times(column, name, timezone)
    if times.isna().any():
        _refuse(column, times.isna(), name, "a time")
    return times.astype("datetime64[us, UTC]").dt.floor("ms")


def _epoch_times(column: pd.Series, name: str, written: pd.Series | None = None) -> pd.Series:
    values = column.to_numpy(dtype="float64")
    micros = np.full(len(values), np.iinfo(np.int64).min, dtype="int64")
    known = (values >= _FIRST) & (values < _LAST * 10**9)
    whole = column.where(known, 0).to_numpy(dtype="int64")
    for _, scale in _UNITS:
        fits = (values >= _FIRST * scale) & (values < _LAST * scale)
        micros[fits] = whole[fits] * (10**6 // scale) if scale <= 10**6 else whole[fits] // (scale // 10**6)
    bad = pd.Series(micros == np.iinfo(np.int64).min, column.index)
    if bad.any():
        _refuse(column if written is None else written, bad, name, _EPOCH)
    return pd.Series(pd.to_datetime(micros, unit="us", utc=True), column.index)


def _text_times(column: pd.Series, name: str, timezone: str | None) -> pd.Series:
    numbers = _to_numbers(column)
    if len(column) and numbers.notna().sum() > len(column) / 2:  # else the text is to blame, not the first number
        return _epoch_times(numbers, name, column)
    text = column.astype("str")
    if timezone is None:
        return pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
    try:
        times = pd.to_datetime(text, format="ISO8601")
    except ValueError:  # times with several zones, some with none, or no time at all
        times, zoned = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce"), text.str.contains(_ZONED)
        if zoned.any() and (times.notna() & ~zoned).any():
            _refuse(column, times.notna() & ~zoned, name, "a time with a zone, as in other rows")
        return times
    return _localized(times, timezone)


def _localized(times: pd.Series, timezone: str | None) -> pd.Series:
    """Times in UTC; without a zone they are of `timezone`, in which a repeated hour is resolved by the order."""
    if timezone is None or isinstance(times.dtype, pd.DatetimeTZDtype):
        return pd.to_datetime(times, utc=True)
    falling = len(times) > 1 and times.iloc[0] > times.iloc[-1]
    try:
        zoned = (times[::-1] if falling else times).dt.tz_localize(timezone, ambiguous="infer")
    except (ValueError, KeyError, IndexError, OSError) as error:
        msg = f"the times are not of the zone {timezone or repr(timezone)}: {error}"
        raise SourceError(msg) from error
    return zoned.reindex(times.index).dt.tz_convert("UTC")


def _refuse(column: pd.Series, bad: pd.Series, name: str, expected: str) -> None:
    row = int(np.flatnonzero(bad.to_numpy())[0])
    value = column.iloc[row]
    found = repr(value) if isinstance(value, str) else value
    msg = f"row {row + 1}, column {name}: expected {expected}, found {found}"
    raise SourceError(msg)


def parse_columns(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Columns under any known name, of any known kind, into a candle frame.

    Parameters
    ----------
    frame
        One row per candle; names are `COLUMNS` or their `ALIASES`, in any case; others are ignored.
    interval
        Fills an absent close time.

    Returns
    -------
    DataFrame
        A candle frame, sorted. Equal rows become one; different ones of one open time are kept for the contract.

    Raises
    ------
    SourceError
        If a required column is missing, or a value is text instead of a number or a time: the message names row
        (counted from 1) and column.
    """
    return merge_candles([read_columns(frame, interval)])


def read_columns(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Do the same, but keep every row, also several of one open time."""
    known = _renamed(frame)
    if "open_time" not in known:
        msg = f"this is not a file of candles: no column open_time or time among {', '.join(map(str, frame.columns))}"
        raise SourceError(msg)
    for name in known.columns:
        known[name] = parse_times(known[name], name) if name.endswith("_time") else parse_numbers(known[name], name)
    return as_candles(known, interval)


def _renamed(frame: pd.DataFrame) -> pd.DataFrame:
    names: dict[str, Any] = {}
    for column in frame.columns:
        plain = str(column).strip().lower().replace(" ", "_")
        name = ALIASES.get(plain, plain)
        if name in COLUMNS and (name not in names or plain == name):
            names[name] = column
    return pd.DataFrame({name: frame[column] for name, column in names.items()})


def parse_klines(rows: Any, interval: str, *, lenient: bool = False) -> pd.DataFrame:
    """Rows of an answer of ``/api/v3/klines`` as a candle frame, sorted, without equal rows.

    Parameters
    ----------
    rows
        The JSON of the answer.
    interval
        Fills an absent close time.
    lenient
        Take what is no number or no time for missing, so that the contract judges the row, unless
        that is so in most rows.

    Raises
    ------
    SourceError
        If it is no list, a row has not the twelve fields, or a field is no number.

    Examples
    --------
    >>> row = [1735689600000, "1.5", "2", "1", "1.8", "10", 1735689659999, "17", 3, "4", "7", "0"]
    >>> parse_klines([row], "1m")["close"].tolist()
    [1.8]
    """
    if not isinstance(rows, list):
        msg = f"expected a list of klines, found {type(rows).__name__}"
        raise SourceError(msg)
    if not rows:
        return empty_candles()
    broken = [not _is_kline(row) for row in rows]
    if not lenient or sum(broken) > max(len(rows) // 2, _FEW):
        widths = {len(row) if isinstance(row, list | tuple) else 0 for row in rows}
        if widths != {len(FIELDS)}:
            msg = f"a kline has {len(FIELDS)} fields, found {', '.join(map(str, sorted(widths)))}"
            raise SourceError(msg)
        return parse_columns(pd.DataFrame(list(rows), columns=list(FIELDS)), interval)
    good = [row for row, bad in zip(rows, broken, strict=True) if not bad]
    frames = [parse_columns(pd.DataFrame(good, columns=list(FIELDS)), interval)] if good else []
    bad_rows = [row for row, bad in zip(rows, broken, strict=True) if bad]
    return merge_candles([pd.concat([*frames, _salvaged(bad_rows, interval)], ignore_index=True)])


def _is_kline(row: Any) -> bool:
    """Whether a row has twelve fields, times and numbers where they belong."""
    if not isinstance(row, list | tuple) or len(row) != len(FIELDS):
        return False
    return is_epoch(row[0]) and is_epoch(row[6]) and all(_number(value) is not None for value in row[1:11])


def _to_numbers(column: pd.Series) -> pd.Series:
    """Numbers of a column of any kind; NaN where a value is none."""
    try:
        return pd.to_numeric(column, errors="coerce")
    except OverflowError:  # a whole number of hundreds of digits
        return column.map(_number).astype("float64")


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _salvaged(rows: Sequence[Any], interval: str) -> pd.DataFrame:
    """What can be read of broken rows; the rest is missing."""
    padded = [[*(row if isinstance(row, list | tuple) else ()), *([None] * len(FIELDS))][: len(FIELDS)] for row in rows]
    frame = pd.DataFrame([[_number(value) for value in row] for row in padded], columns=list(FIELDS), dtype="float64")
    for name in ("open_time", "close_time"):
        known = frame[name].where(frame[name].between(_FIRST * 1000, _LAST * 1000))
        frame[name] = pd.to_datetime(known, unit="ms", utc=True)
    return as_candles(frame, interval)


def merge_candles(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames of one series into one, sorted: of equal open times the last frame wins.

    Equal rows become one. Different rows of one open time in the same frame contradict each other, and all stay:
    the contract refuses them.
    """
    filled = [frame for frame in frames if not frame.empty]
    if not filled:
        return empty_candles()
    joined = pd.concat(filled, ignore_index=True) if len(filled) > 1 else filled[0].reset_index(drop=True)
    if not joined["open_time"].is_unique:
        part = pd.Series(np.repeat(np.arange(len(filled)), [len(frame) for frame in filled]))
        newest = part.groupby(joined["open_time"]).transform("max")
        joined = joined[~(part < newest) & ~joined.duplicated(keep="last")]  # without a time, rows have no newest
    if joined["open_time"].is_monotonic_increasing:
        return joined.reset_index(drop=True)
    return joined.sort_values("open_time", kind="stable", ignore_index=True)


def format_klines(frame: pd.DataFrame, interval: str, unit: str = "ms") -> list[list[Any]]:
    """Candles as the exchange writes them: the inverse of `parse_klines`, value for value.

    Times are integers in `unit` (``ms``, or ``us`` as in the archive since 2025, where a close
    ends in ``999999``); numbers are text that reads back to the same float. What is unknown is the
    text ``NaN``, and an unknown number of trades None: the exchange itself has all values.
    """
    scale = 1000 if unit == "ms" else 1
    opened, closed = (frame[name].astype("int64") // scale for name in ("open_time", "close_time"))
    if unit == "us":
        usual = frame["close_time"] == frame["open_time"] + interval_delta(interval) - _MILLISECOND
        closed = closed + usual * 999
    columns: dict[str, list[Any]] = {name: [_text(value) for value in frame[name].tolist()] for name in _TEXTS}
    columns["open_time"], columns["close_time"] = opened.tolist(), closed.tolist()
    columns["trades"] = [None if np.isnan(value) else int(value) for value in frame["trades"].tolist()]
    columns["ignore"] = ["0"] * len(frame)
    return [list(row) for row in zip(*(columns[name] for name in FIELDS), strict=True)]


_TEXTS = tuple(name for name in COLUMNS if name not in {"open_time", "close_time", "trades"})


def _text(value: float) -> str:
    """Shortest text that reads back to the same float, never in scientific notation."""
    text = repr(value)
    if "e" in text:
        text = np.format_float_positional(value, unique=True, trim="0")
    head, _, tail = text.partition(".")
    return f"{head}.{tail.ljust(8, '0')}" if tail else "NaN"
