"""Rows of other systems: kept beside our own, never mistaken for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from btcml.candles import COLUMNS

if TYPE_CHECKING:
    from btcml.candles import SeriesKey
    from btcml.store.engine import Store

__all__ = ["append_imported_forecasts", "append_imported_jobs", "quarantine_rows"]

_KEY = ("market", "symbol", "interval")
_FIRST_ID = -(10**9)


def _values(key: SeriesKey) -> dict[str, Any]:
    return {"market": key.market, "symbol": key.symbol, "interval": key.interval}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as bind values: NaN and NaT are null."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _append(store: Store, query: str, rows: list[dict[str, Any]]) -> int:
    """Insert rows one statement each, in one transaction; count those that were new."""
    with store.engine.begin() as connection:
        return sum(connection.execute(text(query), row).rowcount for row in rows)


def quarantine_rows(store: Store, key: SeriesKey, rows: pd.DataFrame, *, source: str, at: pd.Timestamp) -> int:
    """Keep candles out of the series, each with its ``rule``; a row that is held already is not held twice.

    Parameters
    ----------
    rows
        Candle columns and ``rule``.

    Returns
    -------
    int
        Rows that are new there.
    """
    shared = _values(key) | {"source": source, "seen_at": at}
    return _append(store, _QUARANTINE, [shared | row for row in _records(rows[[*COLUMNS, "rule"]])])


_COLUMNS = (*_KEY, *COLUMNS, "rule", "source", "seen_at")
_HELD = " AND ".join(f"q.{name} = :{name}" for name in (*_KEY, "open_time", "rule", "close", "volume"))
_TYPES = dict.fromkeys((*_KEY, "rule", "source"), "text")
_TYPES |= dict.fromkeys(("open_time", "close_time", "seen_at"), "timestamptz")
_CASTS = ", ".join(f"cast(:{name} AS {_TYPES.get(name, 'double precision')})" for name in _COLUMNS)
_QUARANTINE = f"""INSERT INTO quarantine ({", ".join(_COLUMNS)}) SELECT {_CASTS}
WHERE NOT EXISTS (SELECT FROM quarantine q WHERE {_HELD})"""  # noqa: S608 - only constants


def append_imported_forecasts(
    store: Store, key: SeriesKey, rows: pd.DataFrame, *, source: str, at: pd.Timestamp
) -> int:
    """Keep another system's forecasts, which nobody sealed: shown as imported, never scored.

    Parameters
    ----------
    rows
        ``open_time``, ``pred_close``, ``real_close`` and ``err_close``.
    """
    shared = _values(key) | {"source": source, "imported_at": at}
    return _append(store, _FORECAST, [shared | row for row in _records(rows)])


_FORECAST = """INSERT INTO imported_forecasts
(market, symbol, interval, source, open_time, pred_close, real_close, err_close, imported_at)
VALUES (:market, :symbol, :interval, :source, :open_time, :pred_close, :real_close, :err_close, :imported_at)
ON CONFLICT DO NOTHING"""


def append_imported_jobs(store: Store, key: SeriesKey, rows: pd.DataFrame, *, source: str) -> int:
    """Keep another system's log of jobs; negative numbers keep it older than anything of ours.

    Parameters
    ----------
    rows
        ``id``, ``kind``, ``status`` (``ok`` or ``error``), ``message``, ``started_at``, ``finished_at``.
    """
    return _append(store, _JOB, [_values(key) | _job(row, source) for row in _records(rows)])


def _job(row: dict[str, Any], source: str) -> dict[str, Any]:
    failed = row["status"] != "ok"
    message = str(row["message"] or "")
    return row | {
        "id": _FIRST_ID + int(row["id"]),
        "asked_by": source,
        "error": message if failed else None,
        "result": json.dumps({"message": message, "imported": True}),
    }


_JOB = """INSERT INTO jobs (id, kind, market, symbol, interval, asked_by, status, created_at, started_at, finished_at,
result, error) OVERRIDING SYSTEM VALUE VALUES (:id, :kind, :market, :symbol, :interval, :asked_by, :status, :started_at,
:started_at, :finished_at, cast(:result AS jsonb), :error) ON CONFLICT DO NOTHING"""
