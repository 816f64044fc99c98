"""Judge: files of forecasts and a source of candles into a judgement."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import TIME, content_hash, interval_delta
from btcml.contract import enforce_contract
from btcml.errors import NotReadyError, SourceError, UsageError
from btcml.forecast.distribution import WINDOW_DAYS
from btcml.forecast.foreign import QUANTILE
from btcml.forecast.verdict import count_looks
from btcml.market.files import FileMarket
from btcml.market.formats import UNREADABLE, open_times, with_index
from btcml.market.klines import parse_numbers, parse_times
from btcml.pipeline.audit import open_record, require_consistent
from btcml.pipeline.stamps import stamp_checker
from btcml.record import verify_record
from btcml.store.models import append_trials, read_judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from btcml.candles import SeriesKey
    from btcml.forecast.judge import Judgement
    from btcml.market import OnPage, Source
    from btcml.store.engine import Store


TIMES = ("cutoff", "open_time")
NUMBERS = ("y_hat", "lo", "hi", "prob_up")
"""Columns of a file of forecasts, beside ``model`` and quantiles such as ``q5``."""

_ENDS = (pd.Timedelta(0), pd.Timedelta(milliseconds=1), pd.Timedelta(seconds=1))
_BEFORE = pd.Timedelta(days=WINDOW_DAYS + 1)


@dataclass(frozen=True)
class ReadOptions:
    """How columns and times of a file of forecasts are read.

    Attributes
    ----------
    columns
        Names of its columns by ours, such as ``{"y_hat": "forecast"}``; the others have our names.
    cutoff_is
        ``open`` or ``close``: which time of the last candle used ``cutoff`` is.
    horizon
        Candles ahead, in place of a column ``cutoff``.
    model
        Name of the model of files without a column ``model``; files of one model are versions of it.
    timezone
        Zone of times without one; without it they are UTC.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    cutoff_is: str = "open"
    horizon: int | None = None
    model: str | None = None
    timezone: str | None = None


def find_series(source: Source, symbol: str | None, interval: str | None) -> tuple[str, str]:
    """Symbol and interval of candles: those that are named, else the only ones of a file.

    Raises
    ------
    UsageError
        If a file has several and none is named.
    """
    if not isinstance(source, FileMarket):
        return symbol or "BTCUSDT", interval or "5m"
    symbols = [symbol] if symbol else sorted({name for name, _ in source.series})
    intervals = [interval] if interval else sorted({name for of, name in source.series if of in {symbols[0], ""}})
    for option, found in (("--symbol", symbols), ("--interval", intervals)):
        if len(found) != 1:
            msg = f"{source.path.name} has {', '.join(found) or 'no such candles'}: say which with {option}"
            raise UsageError(msg)
    return symbols[0] or "BTCUSDT", intervals[0]


def gather_judged(
    source: Source, symbol: str, interval: str, frames: Mapping[str, pd.DataFrame], on_page: OnPage | None = None
) -> pd.DataFrame:
    """Fetch the candles by which forecasts are judged, without those that break a rule.

    Raises
    ------
    NotReadyError
        If there are none.
    """
    if isinstance(source, FileMarket):
        start, end = source.span(symbol)
    elif not frames:
        msg = f"candles of {source.market} are fetched for the forecasts of files, found none: give a file of candles"
        raise UsageError(msg)
    else:
        start = min(frame["cutoff"].min() for frame in frames.values()) - _BEFORE
        end = max(frame["open_time"].max() for frame in frames.values()) + interval_delta(interval)
    candles, _ = enforce_contract(source.fetch_candles(symbol, interval, start, end, on_page), interval)
    if candles.empty:
        msg = f"{source.market} has no candles of {symbol} {interval} from {start} to {end}: check --candles"
        raise NotReadyError(msg)
    return candles


def load_forecasts(paths: Sequence[Path], interval: str, options: ReadOptions) -> dict[str, pd.DataFrame]:
    """Read files of forecasts, as `btcml.forecast.judge.judge` takes them.

    Parameters
    ----------
    paths
        Parquet or CSV. A file without a column ``model`` holds the model of its name.
    interval
        Interval of the candles.
    options
        How columns and times are read.

    Raises
    ------
    SourceError
        If a file cannot be read, or has other columns than it should.
    """
    parse_times(pd.Series(["2025-01-01"]), "--timezone", options.timezone)  # a zone that does not exist is a mistake
    names = [Path(path.name.removesuffix(".gz")).stem for path in paths]
    return {
        name if names.count(name) == 1 else str(path): _load(path, name, interval, options)
        for name, path in zip(names, paths, strict=True)
    }


def load_record(folder: Path, authority: Path | None = None) -> tuple[pd.DataFrame, str]:
    """Read the forecasts in service of a published record whose signatures, hashes and time stamps hold.

    Parameters
    ----------
    folder
        Of one series.
    authority
        Root certificates of the time-stamp authority; None: those that this machine trusts.

    Returns
    -------
    tuple
        The forecasts that were sealed in time, as `btcml.forecast.judge.judge` takes them, and how many of them a
        time stamp proves to be in time.

    Raises
    ------
    StoreError
        If anything is wrong with the record.
    UsageError
        If it is none, or the extra ``record`` is not installed.
    """
    read = open_record(str(folder))
    found = require_consistent(verify_record(read, check=stamp_checker(read, authority)))
    sealed = [row for row in found.forecasts if row["role"] == "champion" and row["status"] == "sealed"]
    claimed = {number for first, last in found.claimed for number in range(first, last + 1)}
    proven = sum(row["seq"] not in claimed for row in sealed)
    delta = interval_delta(found.series[2])
    rows = [
        {"cutoff": row["open_time"] - row["horizon"] * delta, "open_time": row["open_time"], "y_hat": row["close"]}
        | {name: row[name] for name in ("lo", "hi", "prob_up")}
        | {f"q{100 * level:g}": price for level, price in zip(row["levels"] or (), row["quantiles"] or (), strict=True)}
        for row in sealed
    ]
    frame = pd.DataFrame(rows, columns=None if rows else [*TIMES, *NUMBERS]).assign(model="/".join(found.series))
    frame = frame.astype(dict.fromkeys(TIMES, TIME) | dict.fromkeys(NUMBERS, "float64"))
    others = "" if proven == len(sealed) else "; whether the others were made in time cannot be checked"
    return frame, f"{proven:,} of {len(sealed):,} forecasts of the published record are proven in time{others}."


def count_tries(store: Store, key: SeriesKey, frames: Mapping[str, pd.DataFrame], found: Judgement) -> int:
    """Add the models of a judgement to the tries of its series, and count the looks at its candles with this one.

    Each other model that was judged on these candles at one of these horizons before counts as a try; equal forecasts
    are one model.
    """
    judged = found.results[0].experiment
    test, horizons = (str(judged.test_from), str(judged.test_to)), judged.horizons
    scores = found.table.groupby("model")["ratio"].min().to_dict()
    rows, own = [], set()
    for name, part in pd.concat(frames.values(), ignore_index=True).groupby("model"):
        own.add(content := content_hash([("forecasts", part.drop(columns="model"))]))
        known = json.dumps({"judged": content, "horizons": horizons, "test": test})
        rows.append({"model": name, "parameters": known, "score": scores.get(name)})
    earlier = read_judged(store, key, test, horizons) - own
    append_trials(store, key, "judge", rows, pd.Timestamp(test[1]))
    return count_looks([(pd.Timestamp(test[0]), pd.Timestamp(test[1]))], len(earlier), len(own))


def on_grid(frames: Mapping[str, pd.DataFrame], of: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Forecasts whose cutoffs are those of a forecaster."""
    return {name: frame[frame["cutoff"].isin(of["cutoff"])] for name, frame in frames.items()}


def with_ours(found: Judgement, candles: pd.DataFrame, models: tuple[str, ...], jobs: int = 2) -> Judgement:
    """Return a judgement with our own models beside it, fitted in walk-forward on the candles before.

    Raises
    ------
    UsageError
        If a model is not known.
    NotReadyError
        If no candles lie before the test.
    """
    judged = found.results[0].experiment
    day = math.ceil(pd.Timedelta(days=1) / interval_delta(judged.interval))
    result = judged.replace(models=models, purge=max(*judged.horizons, day)).run(candles, jobs=jobs)
    return replace(found, ours={horizon: result.at(horizon).forecasts for horizon in judged.horizons})


def _load(path: Path, name: str, interval: str, options: ReadOptions) -> pd.DataFrame:
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if not path.is_file() or kind not in {"csv", "parquet"}:
        msg = f"a CSV or Parquet file of forecasts was expected, found {path}: check the path"
        raise SourceError(msg)
    try:
        frame = with_index(pd.read_parquet(path)) if kind == "parquet" else _read_csv(path)
        columns = _columns(frame, interval, options)
    except UsageError as error:
        msg = f"{path.name}: {error}"
        raise SourceError(msg) from error
    except UNREADABLE as error:
        msg = f"{path.name}: cannot be read as {kind}: {(str(error) or repr(error)).splitlines()[0]}"
        raise SourceError(msg) from error
    return pd.DataFrame({"model": options.model or name} | columns, index=frame.index)


def _read_csv(path: Path) -> pd.DataFrame:
    """Columns under the names in the file: pandas gives a second one of a name another, such as ``q5.1``."""
    frame = pd.read_csv(path, engine="pyarrow")
    frame.columns = [*pd.read_csv(path, header=None, nrows=1, dtype="str", keep_default_na=False).iloc[0]]
    return frame


def _columns(frame: pd.DataFrame, interval: str, options: ReadOptions) -> dict[str, pd.Series]:
    """Columns by our names, with times in UTC and numbers; others are left out."""
    named = _named(frame, options.columns)
    columns = {
        name: parse_times(column, name, options.timezone)
        if name in TIMES
        else _text(column)
        if name == "model"
        else parse_numbers(column, name)
        for name, column in named.items()
    }
    if options.horizon is not None and "open_time" in columns:
        columns["cutoff"] = columns["open_time"] - options.horizon * interval_delta(interval)
    elif options.cutoff_is == "close" and "cutoff" in columns:
        columns["cutoff"] = _opened(columns["cutoff"], interval)
    if "cutoff" not in columns:
        msg = (
            "forecasts need a column cutoff, the open time of the last candle used, found "
            f"{', '.join(map(str, frame))}: name it with --column cutoff=NAME, or say with --horizon how many "
            "candles ahead the forecasts are"
        )
        raise UsageError(msg)
    return columns


def _text(column: pd.Series) -> pd.Series:
    """Names as text; bytes that are no text raise UnicodeDecodeError."""
    return column.astype("str").where(column.notna())


def _named(frame: pd.DataFrame, given: Mapping[str, str]) -> dict[str, pd.Series]:
    """Columns of a file by our names."""
    for ours, theirs in given.items():
        if not _is_known(ours) or theirs not in frame:
            known = ", ".join([*TIMES, *NUMBERS, "model", "q5"])
            msg = (
                f"--column {ours}={theirs} should name one of {known} (a quantile in per cent) and a column of the "
                f"file, which has {', '.join(map(str, frame))}"
            )
            raise UsageError(msg)
    names = {str(name): str(name) for name in frame} | dict(given)
    twice = [theirs for ours, theirs in names.items() if _is_known(ours) and [*frame].count(theirs) > 1]
    if twice:
        msg = f"the column {twice[0]} is there more than once, among {', '.join(map(str, frame))}: rename the other one"
        raise UsageError(msg)
    return {ours: frame[theirs] for ours, theirs in names.items() if _is_known(ours)}


def _is_known(name: str) -> bool:
    return name in {*TIMES, *NUMBERS, "model"} or QUANTILE.fullmatch(name) is not None


def _opened(closes: pd.Series, interval: str) -> pd.Series:
    opened = open_times(closes, interval, _ENDS)
    if opened is None:
        msg = (
            f"cutoff should hold close times of {interval} candles, found {closes.iloc[0]}: check --cutoff-is and "
            "--interval"
        )
        raise UsageError(msg)
    return opened
