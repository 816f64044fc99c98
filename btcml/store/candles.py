"""Candles at rest: bulk columns through Arrow, revisions instead of overwriting, quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from sqlalchemy import text

from btcml.candles import COLUMNS, TIME, SeriesKey, empty_candles, interval_floors
from btcml.contract import enforce_contract

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

    from btcml.store.engine import Store

__all__ = ["Upserted", "read_candles", "read_last_candles", "read_open_times", "read_series_keys", "upsert_candles"]

_KEYS = ("market", "symbol", "interval")
_VALUES = COLUMNS[1:]
_WHERE = "market = $1 AND symbol = $2 AND interval = $3"


@dataclass(frozen=True)
class Upserted:
    """What an upsert did: rows new, rows changed, and rows that broke the contract."""

    inserted: int
    revised: int
    quarantined: int


def upsert_candles(store: Store, key: SeriesKey, candles: pd.DataFrame, *, source: str, at: pd.Timestamp) -> Upserted:
    """Store final candles: insert what is new, revise what differs, quarantine what is broken.

    Old values of a revised candle go to ``candle_revisions``. A null in `candles` says that this
    source does not know the column: it never replaces a known value.

    Parameters
    ----------
    candles
        Candle frame of final candles, in any order.
    source
        Where they come from, for revisions and quarantine.
    at
        Time at which they were seen.
    """
    good, bad = enforce_contract(candles, key.interval)
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock(hashtextextended('candles {key}', 0))")
        cursor.fetchall()
        known = _read(cursor, key, good["open_time"].min(), good["open_time"].max()) if len(good) else empty_candles()
        new, changed = _compare(good, known)
        _append(cursor, "candles", key, good[new] if known.empty is False else good)
        revised = _revise(cursor, key, good[changed], known, source, at)
        quarantined = _quarantine(cursor, key, bad, source, at)
        _release(cursor, key, good["open_time"], at)
    if new.sum() > _STATISTICS_STALE:
        _analyze(store)
    return Upserted(int(new.sum()), revised, quarantined)


_STATISTICS_STALE = 10_000


def _compare(good: pd.DataFrame, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Tell which rows are new, and which differ from the known row of the same time."""
    if known.empty:
        return np.ones(len(good), dtype=bool), np.zeros(len(good), dtype=bool)
    place = pd.Index(known["open_time"]).get_indexer(pd.Index(good["open_time"]))
    new = place < 0
    changed = np.zeros(len(good), dtype=bool)
    for name in _VALUES:
        ours, theirs = _comparable(known[name])[place], _comparable(good[name])
        changed |= (ours != theirs) & (theirs == theirs)  # noqa: PLR0124 - NaN is unequal to itself
    return new, changed & ~new


def _comparable(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if column.dtype == "float64" else column.astype("int64").to_numpy()


def _keyed(key: SeriesKey, frame: pd.DataFrame, **constants: object) -> pa.Table:
    """Arrow table of a frame with the key and other constants as leading columns; NaN is null."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    values = {"market": key.market, "symbol": key.symbol, "interval": key.interval} | constants
    for name, value in reversed(values.items()):
        table = table.add_column(0, name, pa.repeat(pa.scalar(value), len(frame)))
    return table


def _append(cursor: adbc.Cursor, table: str, key: SeriesKey, frame: pd.DataFrame, **constants: object) -> None:
    if len(frame):
        cursor.adbc_ingest(table, _keyed(key, frame, **constants), mode="append")


def _revise(
    cursor: adbc.Cursor,
    key: SeriesKey,
    changed: pd.DataFrame,
    known: pd.DataFrame,
    source: str,
    at: pd.Timestamp,
) -> int:
    if changed.empty:
        return 0
    old = known[known["open_time"].isin(changed["open_time"])]
    _append(cursor, "candle_revisions", key, old, source=source, seen_at=at.to_pydatetime())
    cursor.adbc_ingest("incoming", _keyed(key, changed), mode="create", temporary=True)
    values = ", ".join(f"{name} = coalesce(i.{name}, c.{name})" for name in _VALUES)
    same = " AND ".join(f"c.{name} = i.{name}" for name in (*_KEYS, "open_time"))
    cursor.execute(f"UPDATE candles c SET {values} FROM incoming i WHERE {same}")  # noqa: S608 - only constants
    cursor.execute("DROP TABLE incoming")
    return len(changed)


def _quarantine(cursor: adbc.Cursor, key: SeriesKey, bad: pd.DataFrame, source: str, at: pd.Timestamp) -> int:
    """Keep each broken row once, however often the exchange repeats it."""
    if bad.empty:
        return 0
    cursor.adbc_ingest(
        "broken", _keyed(key, bad, source=source, seen_at=at.to_pydatetime()), mode="create", temporary=True
    )
    columns = ", ".join((*_KEYS, *COLUMNS, "rule", "source", "seen_at"))
    same = " AND ".join(f"q.{name} IS NOT DISTINCT FROM b.{name}" for name in (*_KEYS, *COLUMNS, "rule"))
    cursor.execute(
        f"INSERT INTO quarantine ({columns}) SELECT {columns} FROM broken b "  # noqa: S608 - only constants
        f"WHERE NOT EXISTS (SELECT FROM quarantine q WHERE {same} AND q.released_at IS NULL)"
    )
    cursor.execute("DROP TABLE broken")
    return len(bad)


def _release(cursor: adbc.Cursor, key: SeriesKey, healed: pd.Series, at: pd.Timestamp) -> None:
    """Close the quarantine of rows for whose candle a good one has come, also where their time was off the grid."""
    query = f"SELECT open_time FROM quarantine WHERE {_WHERE} AND released_at IS NULL"  # noqa: S608 - only constants
    cursor.execute(query, (key.market, key.symbol, key.interval))
    held = cursor.fetch_arrow_table().to_pandas()["open_time"]
    for time in held[interval_floors(held.astype(TIME), key.interval).isin(healed)].unique():
        cursor.execute(
            f"UPDATE quarantine SET released_at = $4::text::timestamptz WHERE {_WHERE} "  # noqa: S608 - only constants
            "AND released_at IS NULL AND open_time = $5::text::timestamptz",
            (key.market, key.symbol, key.interval, at.isoformat(), time.isoformat()),
        )


def _analyze(store: Store) -> None:
    """Refresh the planner's statistics: "the latest 100" would scan everything without them."""
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT analyze_candles()")
        cursor.fetchall()


def _select(
    key: SeriesKey, start: pd.Timestamp | None, last: pd.Timestamp | None, columns: tuple[str, ...] = COLUMNS
) -> str:
    """Query of a series with ``start <= open_time <= last``.

    Its values stand in the text, not in parameters: only then the driver reads by binary COPY, twice
    as fast. A `SeriesKey` holds no quote, and times are written by pandas.
    """
    bounds = "".join(
        f" AND open_time {sign} timestamptz '{bound.isoformat()}'"
        for bound, sign in ((start, ">="), (last, "<="))
        if bound is not None
    )
    same = " AND ".join(f"{name} = '{getattr(key, name)}'" for name in _KEYS)
    return f"SELECT {', '.join(columns)} FROM candles WHERE {same}{bounds}"  # noqa: S608 - see above


def _read(cursor: adbc.Cursor, key: SeriesKey, start: pd.Timestamp | None, last: pd.Timestamp | None) -> pd.DataFrame:
    cursor.execute(_select(key, start, last) + " ORDER BY open_time")
    return cast("pd.DataFrame", cursor.fetch_arrow_table().to_pandas())


def read_candles(
    store: Store, key: SeriesKey, start: pd.Timestamp | None = None, end: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Read the candles of a series with ``start <= open_time < end``.

    Returns
    -------
    DataFrame
        A candle frame, sorted; empty where nothing is known.
    """
    last = None if end is None else end - pd.Timedelta(microseconds=1)
    with store.bulk() as connection, connection.cursor() as cursor:
        return _read(cursor, key, start, last)


def read_last_candles(store: Store, key: SeriesKey, n: int) -> pd.DataFrame:
    """Read the newest `n` candles of a series, oldest first."""
    newest = f"{_select(key, None, None)} ORDER BY open_time DESC LIMIT {int(n)}"
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({newest}) newest ORDER BY open_time")  # noqa: S608 - see _select
        table = cursor.fetch_arrow_table()
        return cast("pd.DataFrame", table.to_pandas(use_threads=False))  # so few rows are quicker without


def read_open_times(store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp) -> pd.Series:
    """Read the open times of a series with ``start <= open_time < end``, ascending."""
    query = _select(key, start, end - pd.Timedelta(microseconds=1), ("open_time",))
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(query + " ORDER BY open_time")
        return cast("pd.Series", cursor.fetch_arrow_table().to_pandas()["open_time"])


def read_series_keys(store: Store) -> list[SeriesKey]:
    """Keys of all series that have candles, by jumping along the primary key."""
    with store.engine.connect() as connection:
        return [SeriesKey(*row) for row in connection.execute(text(_SERIES))]


# A DISTINCT would scan every candle; this reads one index entry a series.
_SERIES = """
WITH RECURSIVE series AS (
  (SELECT market, symbol, interval FROM candles ORDER BY market, symbol, interval LIMIT 1)
  UNION ALL
  SELECT next.* FROM series s CROSS JOIN LATERAL (
    SELECT c.market, c.symbol, c.interval FROM candles c
    WHERE (c.market, c.symbol, c.interval) > (s.market, s.symbol, s.interval)
    ORDER BY c.market, c.symbol, c.interval LIMIT 1) next
) SELECT market, symbol, interval FROM series"""
