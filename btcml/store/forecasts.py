"""Sealed forecasts: appended before their candle closes, chained by hash, never changed.

The database computes sequence, time, status and hash by a trigger, reads the time from the clock
of the forecast's market, and rejects UPDATE, DELETE and TRUNCATE. What scores a forecast is sealed by another
trigger when its candle is final; `btcml.store.chain` verifies both.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.errors import NotReadyError, StoreError
from btcml.store.engine import IN_SERIES, records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btcml.candles import SeriesKey
    from btcml.store.engine import Store


_PRICES = ("base", "open", "high", "low", "close", "amp", "lo", "hi", "prob_up")

SEALED_COLUMNS: tuple[str, ...] = (
    *("seq", "open_time", "role", "model", "artifact", "cutoff"),
    *_PRICES,
    *("made_at", "status", "previous", "hash"),
)
"""Columns of a sealed forecast, without the key of its series."""

SCORED_COLUMNS: tuple[str, ...] = (
    *SEALED_COLUMNS,
    *("real_open", "real_high", "real_low", "real_close", "error_bp", "persistence_error_bp"),
)
"""The same with the outcome; errors are null for late forecasts and unknown outcomes."""

_GIVEN = ("open_time", "horizon", "role", "model", "artifact", "cutoff", *_PRICES, "levels", "quantiles")


def append_forecasts(store: Store, key: SeriesKey, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Seal forecasts that are made at one close; one that is there already stays as it is.

    Parameters
    ----------
    rows
        Each with open_time, role (``champion`` or ``challenger``), model, artifact, cutoff (open
        time of the last candle that the model was fitted on), base, open, high, low, close, amp,
        lo, hi and prob_up; NaN or None where there is none. Of a candle further ahead than the next one also the
        horizon, and levels and quantiles (prices) of the distribution; open, high and low are those until then.

    Returns
    -------
    dict
        Number of rows ``sealed`` and ``late`` now; both 0 where all were there.

    Raises
    ------
    NotReadyError
        If the candle has closed already, by the market's clock, or is not the next one.
    """
    given = [asdict(key) | {name: _plain(({"horizon": 1} | row).get(name)) for name in _GIVEN} for row in rows]
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
        msg = f"the database rejected the forecast: {str(error.orig).splitlines()[0]}"
        raise StoreError(msg) from error
    return counts


_KNOWN = f"""SELECT 1 FROM forecasts WHERE {IN_SERIES} AND open_time = :open_time AND horizon = :horizon
AND role = :role AND (role = 'champion' OR model = :model)"""
_APPEND = f"""INSERT INTO forecasts (market, symbol, interval, {", ".join(_GIVEN)})
VALUES (:market, :symbol, :interval, {", ".join(":" + name for name in _GIVEN)})
ON CONFLICT DO NOTHING RETURNING status"""


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def read_scored(
    store: Store,
    key: SeriesKey,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    role: str | None = None,
    horizon: int = 1,
) -> pd.DataFrame:
    """Read sealed forecasts of one horizon with their outcomes, ``start <= open_time < end``.

    Returns
    -------
    DataFrame
        `SCORED_COLUMNS` in order of the chain; errors in basis points of log return.
    """
    query = f"SELECT {', '.join(SCORED_COLUMNS)} FROM forecasts_scored WHERE {IN_SERIES} AND horizon = :horizon"
    query += "".join(
        clause
        for value, clause in (
            (start, " AND open_time >= :start"),
            (end, " AND open_time < :end"),
            (role, " AND role = :role"),
        )
        if value is not None
    )
    bounds = {"start": start, "end": end, "role": role, "horizon": horizon}
    return store.frame(query + " ORDER BY seq", asdict(key) | bounds)


def read_seal_times(store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Read when the champion's forecasts were sealed, late ones too: ``open_time`` (of the span) and ``made_at``."""
    query = f"SELECT open_time, made_at FROM forecasts WHERE {_SPAN} AND {_SERVED}"
    return store.frame(query, asdict(key) | {"start": start, "end": end})


def read_futuros(
    store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp, limit: int, horizon: int = 1
) -> pd.DataFrame:
    """Read the forecasts that were served, against reality, oldest first: the newest `limit` of the span.

    Those of another system, of the next candle, are included with the status ``imported``: they are not sealed. Rows
    of one time stay together, so that there may be a row or two more than `limit`.
    """
    columns = ("open_time", *_PRICES, "model", "status", "made_at", "real_close")
    values = asdict(key) | {"start": start, "end": end, "limit": limit, "horizon": horizon}
    return store.frame(_FUTUROS.format(columns=", ".join(columns)), values)


_SERVED = "role = 'champion' AND horizon = 1"
_SPAN = f"{IN_SERIES} AND open_time >= :start AND open_time < :end"
_FUTUROS = f"""SELECT * FROM (
    SELECT {{columns}} FROM forecasts_scored WHERE {_SPAN} AND role = 'champion' AND horizon = :horizon
    UNION ALL
    SELECT open_time, NULL, NULL, NULL, NULL, pred_close, NULL, NULL, NULL, NULL, source, 'imported', imported_at,
      real_close FROM imported_forecasts WHERE {_SPAN} AND :horizon = 1
    ORDER BY open_time DESC FETCH FIRST :limit ROWS WITH TIES) newest ORDER BY open_time, status"""


def count_scored(store: Store, key: SeriesKey) -> int:
    """Count the sealed forecasts of the next candle by the champion whose outcome is known."""
    query = f"SELECT count(error_bp) FROM forecasts_scored WHERE {IN_SERIES} AND {_SERVED}"
    return int(store.scalar(query, asdict(key)))


def live_scores(store: Store, key: SeriesKey) -> dict[str, float]:
    """Sum up the champion's sealed forecasts of the next candle whose outcome is known.

    Returns
    -------
    dict
        ``rows``, their number; and where there are any, ``late`` and the others of `FIGURES` that are known.
    """
    rows = [row._asdict() for row in store.fetch(SCORES, asdict(key)) if row.horizon == 1]
    return {"rows": 0.0} | {name: float(row[name]) for row in rows for name in FIGURES if row[name] is not None}


FIGURES = ("rows", "late", "mae_bp", "persistence_mae_bp", "ratio", "coverage")
"""Scores of sealed forecasts (`btcml.record.scores`): rows are those in time, the errors those of the log close."""

SCORES = f"""SELECT horizon, (count(*) FILTER (WHERE status = 'sealed'))::float AS rows,
(count(*) FILTER (WHERE status <> 'sealed'))::float AS late, avg(error_bp) AS mae_bp,
avg(persistence_error_bp) AS persistence_mae_bp, sum(error_bp) / nullif(sum(persistence_error_bp), 0) AS ratio,
(avg((real_close BETWEEN lo AND hi)::int) FILTER (WHERE status = 'sealed' AND lo IS NOT NULL))::float AS coverage
FROM forecasts_scored WHERE {IN_SERIES} AND role = 'champion' AND real_close IS NOT NULL GROUP BY 1 ORDER BY 1"""
"""Query of `FIGURES` of the forecasts in service of a series, by horizon."""


def count_missing(store: Store, key: SeriesKey) -> int:
    """Count candles, from the first sealed forecast on, that have no forecast."""
    query = f"""SELECT count(*) FROM candles c WHERE {IN_SERIES}
    AND open_time > (SELECT min(open_time) FROM forecasts WHERE {IN_SERIES})
    AND NOT EXISTS (SELECT FROM forecasts f WHERE f.market = c.market AND f.symbol = c.symbol
      AND f.interval = c.interval AND f.open_time = c.open_time AND {_SERVED})"""
    return int(store.scalar(query, asdict(key)))


def append_imported_forecasts(
    store: Store, key: SeriesKey, rows: pd.DataFrame, *, source: str, at: pd.Timestamp
) -> int:
    """Store another system's forecasts, which are not sealed: shown as imported, never scored.

    Parameters
    ----------
    rows
        ``open_time``, ``pred_close``, ``real_close`` and ``err_close``.

    Returns
    -------
    int
        Rows that are new.
    """
    shared = asdict(key) | {"source": source, "imported_at": at}
    return store.execute(_IMPORT, *(shared | row for row in records(rows)))


_IMPORT = """INSERT INTO imported_forecasts
(market, symbol, interval, source, open_time, pred_close, real_close, err_close, imported_at)
VALUES (:market, :symbol, :interval, :source, :open_time, :pred_close, :real_close, :err_close, :imported_at)
ON CONFLICT DO NOTHING"""


def market_now(store: Store, market: str) -> pd.Timestamp:
    """Time of a market by the clock that the seal uses."""
    return pd.Timestamp(store.scalar("SELECT market_now(:market)", {"market": market})).tz_convert("UTC")


def read_clock_speed(store: Store, market: str) -> float | None:
    """Speed of a market's clock in the database, or None where it has none."""
    found = store.scalar("SELECT speed FROM market_clocks WHERE market = :m ORDER BY id DESC LIMIT 1", {"m": market})
    return None if found is None else float(found)


def database_now(store: Store) -> pd.Timestamp:
    """Time of the database's own clock, which bounds every market's."""
    return pd.Timestamp(store.scalar("SELECT clock_timestamp()")).tz_convert("UTC")


def record_clock(
    store: Store, market: str, now: pd.Timestamp, speed: float = 1.0, *, asked_at: pd.Timestamp | None = None
) -> None:
    """Record the measured clock of a market: once for a replay, again for Binance where it moved.

    Parameters
    ----------
    now
        The market's time.
    speed
        Seconds of the market in a second.
    asked_at
        When that was, by the database's clock: at most 30 s ago, by default now.

    Raises
    ------
    StoreError
        If Binance's clock is more than a minute away from the database's, or has moved by more than 5 s
        against it.
    """
    if not market.startswith(("replay:", "binance")):
        return
    asked_at = database_now(store) if asked_at is None else asked_at
    values = {"market": market, "now": now.floor("us"), "asked_at": asked_at.floor("us"), "speed": speed}
    try:
        store.execute("SELECT record_clock(:market, :now, :asked_at, :speed)", values)
    except DBAPIError as error:
        raise StoreError(_unrecorded(market, now, speed, error)) from error


def _unrecorded(market: str, now: pd.Timestamp, speed: float, error: DBAPIError) -> str:
    """Why the database does not record a clock, and what to do."""
    code = getattr(error.orig, "pgcode", None)
    if code == "BT005":
        return f"asking for the time of {market} took more than 30 s: try again when it and this machine are less busy"
    if code == "BT003":
        return str(error.orig).splitlines()[0]
    if market != "binance":
        return f"the clock of {market} runs {speed:g} times as fast as real time: expected 0 to 100000 (--speed)"
    return f"the clock of {market} is at {now}, more than a minute away from the database's: set the machine's clock"
