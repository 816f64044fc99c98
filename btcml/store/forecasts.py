"""Sealed forecasts: appended before their candle closes, chained by hash, never changed.

The database computes sequence, time, status and hash by a trigger and refuses UPDATE, DELETE and
TRUNCATE; `btcml.store.chain` proves that nobody went around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.candles import TIME, SeriesKey
from btcml.errors import NotReadyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btcml.store.engine import Store

__all__ = [
    "FORECAST_COLUMNS",
    "KEY_CLAUSE",
    "SCORED_COLUMNS",
    "append_forecasts",
    "count_scored",
    "live_scores",
    "missing_forecasts",
    "read_frame",
    "read_futuros",
    "read_scored",
    "series_values",
]

KEY_CLAUSE = "market = :market AND symbol = :symbol AND interval = :interval"
"""Predicate that picks one series."""
_PRICES = ("base", "open", "high", "low", "close", "amp", "lo", "hi", "prob_up")

FORECAST_COLUMNS: tuple[str, ...] = (
    *("seq", "open_time", "role", "model", "artifact", "cutoff"),
    *_PRICES,
    *("made_at", "status", "previous", "hash"),
)
"""Columns of a sealed forecast, without the key of its series."""

SCORED_COLUMNS: tuple[str, ...] = (
    *FORECAST_COLUMNS,
    *("real_open", "real_high", "real_low", "real_close", "error_bp", "persistence_error_bp"),
)
"""The same with the outcome; errors are null for late forecasts and unknown outcomes."""

_GIVEN = ("open_time", "role", "model", "artifact", "cutoff", *_PRICES)
_TIMES = frozenset({"open_time", "cutoff", "made_at"})
_TEXTS = frozenset({"role", "model", "artifact", "status", "previous", "hash"})


def series_values(key: SeriesKey) -> dict[str, Any]:
    """Bind values of `KEY_CLAUSE`."""
    return {"market": key.market, "symbol": key.symbol, "interval": key.interval}


def append_forecasts(store: Store, key: SeriesKey, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Seal forecasts of one candle; one that is there already stays as it is.

    Parameters
    ----------
    rows
        Each with open_time, role (``champion`` or ``challenger``), model, artifact, cutoff (open
        time of the last candle that the model was fitted on), base, open, high, low, close, amp,
        lo, hi and prob_up; NaN or None where there is none.

    Returns
    -------
    dict
        Number of rows ``sealed`` and ``late`` now; both 0 where all were there.

    Raises
    ------
    NotReadyError
        If the candle has closed already, by the market's clock, or is not the next one.
    """
    given = [series_values(key) | {name: _plain(row.get(name)) for name in _GIVEN} for row in rows]
    counts = {"sealed": 0, "late": 0}
    try:
        with store.engine.begin() as connection:
            for row in given:
                if connection.scalar(text(_KNOWN), row):
                    continue
                status = connection.scalar(text(_APPEND), row)
                if status is not None:  # None: another process was first
                    counts[str(status)] += 1
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) in {"BT001", "BT002"}:
            msg = f"too late or too early: {str(error.orig).splitlines()[0]}; wait for the next candle"
            raise NotReadyError(msg) from error
        msg = f"the database refused the forecast: {str(error.orig).splitlines()[0]}"
        raise StoreError(msg) from error
    return counts


_KNOWN = f"""SELECT 1 FROM forecasts WHERE {KEY_CLAUSE} AND open_time = :open_time AND role = :role
AND (role = 'champion' OR model = :model)"""  # noqa: S608 - only constants
_APPEND = f"""INSERT INTO forecasts (market, symbol, interval, {", ".join(_GIVEN)})
VALUES (:market, :symbol, :interval, {", ".join(":" + name for name in _GIVEN)})
ON CONFLICT DO NOTHING RETURNING status"""  # noqa: S608


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def read_frame(store: Store, query: str, values: dict[str, Any], columns: Sequence[str]) -> pd.DataFrame:
    """Rows with stable dtypes, whether or not there are any."""
    with store.engine.connect() as connection:
        rows = connection.execute(text(query), values).fetchall()
    frame = pd.DataFrame([tuple(row) for row in rows], columns=list(columns))
    for name in frame.columns:
        if name in _TIMES:
            frame[name] = pd.to_datetime(frame[name], utc=True).astype(TIME)
        elif name == "seq":
            frame[name] = frame[name].astype("int64")
        else:
            frame[name] = frame[name].astype("str" if name in _TEXTS else "float64")
    return frame


def read_scored(
    store: Store,
    key: SeriesKey,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    role: str | None = None,
) -> pd.DataFrame:
    """Read sealed forecasts with their outcomes, ``start <= open_time < end``.

    Returns
    -------
    DataFrame
        `SCORED_COLUMNS` in order of the chain; errors in basis points of log return.
    """
    query = f"SELECT {', '.join(SCORED_COLUMNS)} FROM forecasts_scored WHERE {KEY_CLAUSE}"  # noqa: S608 - only constants
    query += "".join(
        clause
        for value, clause in (
            (start, " AND open_time >= :start"),
            (end, " AND open_time < :end"),
            (role, " AND role = :role"),
        )
        if value is not None
    )
    bounds = {"start": start, "end": end, "role": role}
    return read_frame(store, query + " ORDER BY seq", series_values(key) | bounds, SCORED_COLUMNS)


def read_futuros(store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp, limit: int) -> pd.DataFrame:
    """Read the forecasts that were served, against reality, oldest first: the newest `limit` of the span.

    Those of another system are among them, with the status ``imported``: nobody sealed them. What is
    of one time stays together, so that there may be a row or two more than `limit`.
    """
    columns = ("open_time", *_PRICES, "model", "status", "made_at", "real_close")
    values = series_values(key) | {"start": start, "end": end, "limit": limit}
    return read_frame(store, _FUTUROS.format(columns=", ".join(columns)), values, columns)


_SPAN = f"{KEY_CLAUSE} AND open_time >= :start AND open_time < :end"
_FUTUROS = f"""SELECT * FROM (
    SELECT {{columns}} FROM forecasts_scored WHERE {_SPAN} AND role = 'champion'
    UNION ALL
    SELECT open_time, NULL, NULL, NULL, NULL, pred_close, NULL, NULL, NULL, NULL, source, 'imported', imported_at,
      real_close FROM imported_forecasts WHERE {_SPAN}
    ORDER BY open_time DESC FETCH FIRST :limit ROWS WITH TIES) newest ORDER BY open_time, status"""  # noqa: S608 - only constants


def count_scored(store: Store, key: SeriesKey) -> int:
    """Count the sealed forecasts of the champion whose outcome is known."""
    query = f"SELECT count(error_bp) FROM forecasts_scored WHERE {KEY_CLAUSE} AND role = 'champion'"  # noqa: S608
    with store.engine.connect() as connection:
        return int(connection.scalar(text(query), series_values(key)) or 0)


def live_scores(store: Store, key: SeriesKey) -> dict[str, float]:
    """Sum up the champion's sealed forecasts whose outcome is known.

    Returns
    -------
    dict
        ``scored``, their number; and where there are any, ``error_bp`` and ``persistence_error_bp``,
        the mean errors, and ``coverage``, the share of closes inside the interval (NaN without one).
    """
    query = f"""SELECT count(*), avg(error_bp), avg(persistence_error_bp),
    avg((real_close BETWEEN lo AND hi)::int)
    FROM forecasts_scored WHERE {KEY_CLAUSE} AND role = 'champion' AND error_bp IS NOT NULL"""  # noqa: S608
    with store.engine.connect() as connection:
        count, *means = connection.execute(text(query), series_values(key)).one()
    names = ("error_bp", "persistence_error_bp", "coverage")
    known = {name: np.nan if mean is None else float(mean) for name, mean in zip(names, means, strict=True)}
    return {"scored": float(count)} | (known if count else {})


def missing_forecasts(store: Store, key: SeriesKey) -> int:
    """Count candles, from the first sealed forecast on, whose close found no forecast of theirs."""
    query = f"""SELECT count(*) FROM candles c WHERE {KEY_CLAUSE}
    AND open_time > (SELECT min(open_time) FROM forecasts WHERE {KEY_CLAUSE})
    AND NOT EXISTS (SELECT FROM forecasts f WHERE f.market = c.market AND f.symbol = c.symbol
      AND f.interval = c.interval AND f.open_time = c.open_time AND f.role = 'champion')"""  # noqa: S608
    with store.engine.connect() as connection:
        return int(connection.scalar(text(query), series_values(key)) or 0)
