"""Sealed forecasts: appended before their candle closes, chained by hash, never changed.

The database computes sequence, time, status and hash by a trigger and refuses UPDATE, DELETE and
TRUNCATE. `verify_chain` recomputes every hash here, in Python, from the rows alone.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
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
    "SCORED_COLUMNS",
    "ChainBreak",
    "append_forecasts",
    "forecast_hash",
    "heads",
    "keep_clock",
    "market_now",
    "missing_forecasts",
    "read_futuros",
    "read_scored",
    "verify_chain",
]

_KEY = "market = :market AND symbol = :symbol AND interval = :interval"
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


def _values(key: SeriesKey) -> dict[str, Any]:
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
    given = [_values(key) | {name: _plain(row.get(name)) for name in _GIVEN} for row in rows]
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
            msg = f"the forecast came too late or too early: {str(error.orig).splitlines()[0]}; wait for the next candle"
            raise NotReadyError(msg) from error
        msg = f"the database refused the forecast: {str(error.orig).splitlines()[0]}"
        raise StoreError(msg) from error
    return counts


_KNOWN = f"""SELECT 1 FROM forecasts WHERE {_KEY} AND open_time = :open_time AND role = :role
AND (role = 'champion' OR model = :model)"""  # noqa: S608 - only constants
_APPEND = f"""INSERT INTO forecasts (market, symbol, interval, {", ".join(_GIVEN)})
VALUES (:market, :symbol, :interval, {", ".join(":" + name for name in _GIVEN)})
ON CONFLICT DO NOTHING RETURNING status"""  # noqa: S608


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def _frame(store: Store, query: str, values: dict[str, Any], columns: Sequence[str]) -> pd.DataFrame:
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
    query = f"SELECT {', '.join(SCORED_COLUMNS)} FROM forecasts_scored WHERE {_KEY}"  # noqa: S608 - only constants
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
    return _frame(store, query + " ORDER BY seq", _values(key) | bounds, SCORED_COLUMNS)


def read_futuros(store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp, limit: int) -> pd.DataFrame:
    """Read the forecasts that were served, against reality, oldest first: the newest `limit` of the span."""
    columns = ("open_time", *_PRICES, "model", "status", "made_at", "real_close")
    query = f"""SELECT * FROM (SELECT {", ".join(columns)} FROM forecasts_scored
    WHERE {_KEY} AND role = 'champion' AND open_time >= :start AND open_time < :end
    ORDER BY open_time DESC LIMIT :limit) newest ORDER BY open_time"""  # noqa: S608 - only constants
    return _frame(store, query, _values(key) | {"start": start, "end": end, "limit": limit}, columns)


def missing_forecasts(store: Store, key: SeriesKey) -> int:
    """Count candles, from the first sealed forecast on, whose close found no forecast of theirs."""
    query = f"""SELECT count(*) FROM candles c WHERE {_KEY}
    AND open_time > (SELECT min(open_time) FROM forecasts WHERE {_KEY})
    AND NOT EXISTS (SELECT FROM forecasts f WHERE f.market = c.market AND f.symbol = c.symbol
      AND f.interval = c.interval AND f.open_time = c.open_time AND f.role = 'champion')"""  # noqa: S608
    with store.engine.connect() as connection:
        return int(connection.scalar(text(query), _values(key)) or 0)


@dataclass(frozen=True)
class ChainBreak:
    """Where a chain is not what it should be.

    Attributes
    ----------
    seq
        Sequence number of the row, or of the row that is missing.
    reason
        What is wrong there.
    """

    seq: int
    reason: str


def forecast_hash(key: SeriesKey, row: dict[str, Any]) -> str:
    """SHA-256 of a row's canonical bytes: UTC times, IEEE 754 bits, joined by bars, the hash left out."""
    head = [key.market, key.symbol, key.interval]
    parts = head + [_canonical(row[name]) for name in FORECAST_COLUMNS if name != "hash"]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _canonical(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return value.tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, float):
        return "" if np.isnan(value) else struct.pack(">d", value).hex()
    return str(value)


def verify_chain(store: Store, key: SeriesKey, head: dict[str, str] | None = None) -> ChainBreak | None:
    """Recompute a chain from its rows; tell the first place where it breaks.

    Parameters
    ----------
    head
        A head that was written down earlier (``seq`` and ``hash``): the chain must still hold it,
        so that a tail cut off is noticed.

    Returns
    -------
    ChainBreak or None
        None where all is whole.
    """
    query = f"SELECT {', '.join(FORECAST_COLUMNS)} FROM forecasts WHERE {_KEY} ORDER BY seq"  # noqa: S608
    rows = _frame(store, query, _values(key), FORECAST_COLUMNS)
    previous = ""
    for expected, row in enumerate(rows.to_dict("records"), start=1):
        found = _broken(key, {str(name): value for name, value in row.items()}, expected, previous)
        if found is not None:
            return found
        previous = str(row["hash"])
    if head and (int(head["seq"]) > len(rows) or rows["hash"].iloc[int(head["seq"]) - 1] != head["hash"]):
        return ChainBreak(int(head["seq"]), "the head that was written down is not in the chain")
    return None


def _broken(key: SeriesKey, row: dict[str, Any], expected: int, previous: str) -> ChainBreak | None:
    if row["seq"] != expected:
        return ChainBreak(expected, "the row is missing")
    if row["previous"] != previous:
        return ChainBreak(expected, "the row does not follow the row before")
    if forecast_hash(key, row) != row["hash"]:
        return ChainBreak(expected, "the row's content is not what its hash says")
    return None


def heads(store: Store, key: SeriesKey) -> dict[str, str]:
    """Sequence number and hash of the newest sealed forecast; empty where there is none."""
    query = f"SELECT seq, hash FROM forecasts WHERE {_KEY} ORDER BY seq DESC LIMIT 1"  # noqa: S608 - only constants
    with store.engine.connect() as connection:
        found = connection.execute(text(query), _values(key)).first()
    return {} if found is None else {"seq": str(found.seq), "hash": str(found.hash)}


def market_now(store: Store, market: str) -> pd.Timestamp:
    """Time of a market, as the database's seal reckons it."""
    with store.engine.connect() as connection:
        return pd.Timestamp(connection.scalar(text("SELECT market_now(:market)"), {"market": market})).tz_convert("UTC")


def keep_clock(store: Store, market: str, now: pd.Timestamp, speed: float = 1.0) -> None:
    """Tell the database the clock of a market: once for a replay, measured anew for Binance.

    Parameters
    ----------
    now
        The market's time at this moment.
    speed
        Seconds of the market in a second.

    Raises
    ------
    StoreError
        If the clock cannot be kept: Binance's is more than a minute away from the database's.
    """
    if not market.startswith(("replay:", "binance")):
        return
    known = "DO UPDATE SET origin_market = excluded.origin_market, origin_real = excluded.origin_real"
    query = text(_CLOCK + (known if market == "binance" else "DO NOTHING"))
    try:
        with store.engine.begin() as connection:
            connection.execute(query, {"market": market, "now": now.to_pydatetime(), "speed": speed})
    except DBAPIError as error:
        msg = f"the clock of {market} says {now}, more than a minute away from the database's: set the machine's clock"
        raise StoreError(msg) from error


_CLOCK = """INSERT INTO market_clocks (market, origin_market, origin_real, speed)
VALUES (:market, :now, clock_timestamp(), :speed) ON CONFLICT (market) """
