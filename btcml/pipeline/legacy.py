"""Tables of ML Crypto (system 0) and bitcoin-ml (system 1), from CSV dumps or their PostgreSQL.

Candles that another system stored while they were in progress look like candles. Spans in which most of them
break the bounds of earlier candles go to quarantine, and so does the newest row,
which may not be final; the next ``btcml ingest --audit`` fetches the true ones and releases them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError

from btcml.candles import TIME, SeriesKey, as_candles
from btcml.continuity import suspect_rows
from btcml.errors import SourceError, StoreError
from btcml.store.candles import quarantine_rows, upsert_candles
from btcml.store.engine import connected, parse_url
from btcml.store.forecasts import append_imported_forecasts
from btcml.store.jobs import append_imported_jobs

if TYPE_CHECKING:
    from btcml.store.engine import Store


LEGACY_TABLES = ("prices", "btc_candles", "futuros", "job_logs")
"""Tables that are read: the first of system 0, the others of system 1."""

_TIME_NAMES = ("open_time", "time", "timestamp", "ts", "datetime", "date")
_KINDS = {"ingest": "ingest", "train": "train", "backfill": "backfill", "init_backfill": "backfill"}
_EPOCH_UNITS = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))


@dataclass(frozen=True)
class Imported:
    """What an import did, in rows.

    Attributes
    ----------
    tables
        Names of the tables that were found.
    candles, inserted, revised
        Candles that were accepted, inserted and revised.
    broken
        Candles that broke the contract: in quarantine.
    suspect
        Candles that were probably unfinished when they were stored: in quarantine.
    forecasts, jobs
        New rows of ``imported_forecasts``, which are never scored, and of the log.
    """

    tables: tuple[str, ...]
    candles: int = 0
    inserted: int = 0
    revised: int = 0
    broken: int = 0
    suspect: int = 0
    forecasts: int = 0
    jobs: int = 0


def import_legacy(store: Store, source: str, key: SeriesKey, *, at: pd.Timestamp) -> Imported:
    """Import the tables of an old system; repeating it changes nothing.

    Parameters
    ----------
    source
        A folder of CSV dumps named after their tables, one such file, or a PostgreSQL address.
    key
        Where the rows belong; a row that names its own symbol or interval goes there.
    at
        Time of the import.

    Raises
    ------
    SourceError
        If there is none of `LEGACY_TABLES`, or one cannot be read.
    """
    tables = load_tables(source)
    counts: Counter[str] = Counter()
    for name in tables.keys() & {"prices", "btc_candles"}:
        for own, frame in _series(tables[name], key):
            counts.update(_import_candles(store, own, frame, name, at))
    if "futuros" in tables:
        rows = _forecasts(tables["futuros"])
        counts["forecasts"] = append_imported_forecasts(store, key, rows, source="futuros", at=at)
    if "job_logs" in tables:
        counts["jobs"] = append_imported_jobs(store, key, _jobs(tables["job_logs"]), source="import")
    return Imported(tuple(sorted(tables)), **counts)


def load_tables(source: str) -> dict[str, pd.DataFrame]:
    """Tables of an old system by name, as they are.

    Raises
    ------
    SourceError
        If there is none of `LEGACY_TABLES`, or one cannot be read.
    """
    tables = _read_server(source) if "://" in source else _load_files(Path(source).expanduser())
    if not tables:
        where = "the database" if "://" in source else source  # an address may hold a password
        msg = f"expected one of the tables {', '.join(LEGACY_TABLES)}, found none in {where}"
        raise SourceError(msg)
    return tables


def _load_files(path: Path) -> dict[str, pd.DataFrame]:
    if not path.exists():
        msg = f"there is no file or folder {path}: check the path"
        raise SourceError(msg)
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    try:
        return {file.stem: pd.read_csv(file) for file in files if file.stem in LEGACY_TABLES}
    except (OSError, ValueError) as error:
        msg = f"a dump in {path} cannot be read ({error}): export it as CSV with a header line"
        raise SourceError(msg) from error


def _read_server(address: str) -> dict[str, pd.DataFrame]:
    try:
        with connected(parse_url(address, "the old database")) as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text("SET LOCAL timezone = 'UTC'"))
            names = set(inspect(connection).get_table_names()) & set(LEGACY_TABLES)
            queries = {name: f'SELECT * FROM "{name}"' for name in sorted(names)}  # noqa: S608 - names of ours
            return {name: pd.read_sql(text(query), connection) for name, query in queries.items()}
    except (SQLAlchemyError, StoreError) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        msg = f"the old database cannot be read ({reason}): give postgresql://user:password@host:5432/database"
        raise SourceError(msg) from error


def _times(column: pd.Series) -> pd.Series:
    """Times in UTC: text without a zone is UTC, numbers are epochs whose unit follows from their size."""
    if pd.api.types.is_numeric_dtype(column):
        largest = float(column.max()) if len(column) else 0.0
        unit = next((unit for bound, unit in _EPOCH_UNITS if largest < bound), "ns")
        return pd.to_datetime(column, unit=unit, utc=True).astype(TIME)  # type: ignore[call-overload]
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601").astype(TIME)
    except (ValueError, TypeError) as error:
        msg = f"the column {column.name} must hold UTC times such as 2025-06-29 00:05:00 ({error})"
        raise SourceError(msg) from error


def _time_column(frame: pd.DataFrame, table: str) -> pd.Series:
    name = next((name for name in _TIME_NAMES if name in frame), None)
    if name is None:
        msg = f"the table {table} needs a time column ({', '.join(_TIME_NAMES)}), found {', '.join(frame.columns)}"
        raise SourceError(msg)
    return _times(frame[name])


def _series(table: pd.DataFrame, key: SeriesKey) -> list[tuple[SeriesKey, pd.DataFrame]]:
    """Split a table by the symbol and interval that its rows name."""
    usual = {"symbol": key.symbol, "interval": key.interval}
    given = table.assign(**{name: table[name].fillna(text) if name in table else text for name, text in usual.items()})
    return [
        (SeriesKey(key.market, str(symbol).replace("/", "").upper(), str(interval)), part)
        for (symbol, interval), part in given.groupby(["symbol", "interval"], sort=True)
    ]


def _import_candles(store: Store, key: SeriesKey, table: pd.DataFrame, name: str, at: pd.Timestamp) -> dict[str, int]:
    timed = table.drop(columns=["close_time"], errors="ignore").assign(open_time=_time_column(table, name))
    frame = as_candles(timed, key.interval)
    frame = frame.drop_duplicates("open_time", keep="last").reset_index(drop=True)
    doubtful = suspect_rows(frame, key.interval)
    rules = pd.Series("suspect_span", frame.index).where(doubtful)
    rules.iloc[-1:] = "unfinished"
    held = frame[rules.notna()].assign(rule=rules[rules.notna()])
    accepted = frame[rules.isna()]
    stored = upsert_candles(store, key, accepted, source=f"import of {name}", at=at)
    quarantine_rows(store, key, held, source=f"import of {name}", at=at)
    return {
        "candles": len(accepted) - stored.quarantined,
        "inserted": stored.inserted,
        "revised": stored.revised,
        "broken": stored.quarantined,
        "suspect": len(held),
    }


def _forecasts(table: pd.DataFrame) -> pd.DataFrame:
    names = ("pred_close", "real_close", "err_close")
    prices = {name: pd.to_numeric(_column(table, name, "futuros")) for name in names}
    frame = pd.DataFrame({"open_time": _time_column(table, "futuros")} | prices)
    return frame.dropna(subset=["open_time", "pred_close"]).drop_duplicates("open_time", keep="last")


def _column(table: pd.DataFrame, name: str, where: str) -> pd.Series:
    if name not in table:
        msg = f"the table {where} needs the column {name}, found {', '.join(table.columns)}"
        raise SourceError(msg)
    return table[name]


def _jobs(table: pd.DataFrame) -> pd.DataFrame:
    """Jobs of kinds that are still known; a status that is neither ok nor success is an error."""
    names = ("id", "message", "job_name", "status", "started_at", "finished_at")
    given = {name: _column(table, name, "job_logs") for name in names}
    start, end = _times(given["started_at"]), _times(given["finished_at"])
    known = {
        "kind": given["job_name"].map(_KINDS),
        "status": given["status"].str.lower().isin(["ok", "success"]).map({True: "ok", False: "error"}),
        "started_at": start,
        "finished_at": end.fillna(start),
    }
    return pd.DataFrame(given | known).dropna(subset=["kind", "started_at"])
