"""Storage of candles and of the state of ingestion: revisions, quarantine, gaps and bans.

Columns move in bulk through Arrow. A candle is revised, never overwritten; a row that breaks the
contract goes to quarantine until a good one comes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from sqlalchemy import text

from btcml.candles import COLUMNS, TIME, SeriesKey, empty_candles, interval_floors
from btcml.continuity import suspect_spans
from btcml.contract import enforce_contract, load_contract
from btcml.files import replaced_file
from btcml.store.engine import IN_SERIES

if TYPE_CHECKING:
    from pathlib import Path

    import adbc_driver_postgresql.dbapi as adbc

    from btcml.store.engine import Store


_KEYS = ("market", "symbol", "interval")
_VALUES = COLUMNS[1:]
_STATISTICS_STALE = 10_000


@dataclass(frozen=True)
class Upserted:
    """Result of an upsert: numbers of new rows, of changed rows, and of rows that broke the contract."""

    inserted: int
    revised: int
    quarantined: int


def upsert_candles(store: Store, key: SeriesKey, candles: pd.DataFrame, *, source: str, at: pd.Timestamp) -> Upserted:
    """Store final candles: insert what is new, revise what differs, quarantine what is broken.

    The database puts the old values of a revised candle into ``candle_revisions``. A null in `candles` means that
    the source does not have the column: it never replaces a known value.

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
        lock = f"pg_advisory_xact_lock(hashtextextended('candles {key}', 0))"
        cursor.execute(f"SELECT {lock}, set_config('btcml.source', $1, true)", (source,))
        cursor.fetchall()
        known = _read(cursor, key, good["open_time"].min(), good["open_time"].max()) if len(good) else empty_candles()
        new, changed = _compare(good, known)
        _revise(cursor, key, good[changed])
        if new.any():
            cursor.adbc_ingest("candles", _keyed(key, good if new.all() else good[new]), mode="append")
        quarantined = _quarantine(cursor, key, bad, source, at)
        _release(cursor, key, good["open_time"], at)
    if new.sum() > _STATISTICS_STALE:
        _analyze(store)
    return Upserted(int(new.sum()), int(changed.sum()), quarantined)


def _compare(good: pd.DataFrame, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Find which rows are new, and which differ from the known row of the same time."""
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
    for name, value in reversed((asdict(key) | constants).items()):
        table = table.add_column(0, name, pa.repeat(pa.scalar(value), len(frame)))
    return table


def _revise(cursor: adbc.Cursor, key: SeriesKey, changed: pd.DataFrame) -> None:
    if changed.empty:
        return
    cursor.adbc_ingest("incoming", _keyed(key, changed), mode="create", temporary=True)
    values = ", ".join(f"{name} = coalesce(i.{name}, c.{name})" for name in _VALUES)
    same = " AND ".join(f"c.{name} = i.{name}" for name in (*_KEYS, "open_time"))
    cursor.execute(f"UPDATE candles c SET {values} FROM incoming i WHERE {same}")
    cursor.execute("DROP TABLE incoming")


def quarantine_rows(store: Store, key: SeriesKey, rows: pd.DataFrame, *, source: str, at: pd.Timestamp) -> None:
    """Keep candles out of the series, each with its ``rule``; each row is quarantined only once.

    Parameters
    ----------
    rows
        Candle columns and ``rule``.
    """
    with store.bulk() as connection, connection.cursor() as cursor:
        _quarantine(cursor, key, rows, source, at, ever=True)


def _quarantine(
    cursor: adbc.Cursor, key: SeriesKey, bad: pd.DataFrame, source: str, at: pd.Timestamp, *, ever: bool = False
) -> int:
    """Keep each broken row once, however often the exchange repeats it."""
    if bad.empty:
        return 0
    cursor.adbc_ingest("broken", _keyed(key, bad), mode="create", temporary=True)
    cursor.execute(_QUARANTINE.format(held="" if ever else "AND q.released_at IS NULL"), (source, at.isoformat()))
    cursor.execute("DROP TABLE broken")
    return len(bad)


_ROW = ", ".join((*_KEYS, *COLUMNS, "rule"))
# EXCEPT takes nulls as equal and hashes, where NOT EXISTS compares every row with every other.
_QUARANTINE = f"""INSERT INTO quarantine ({_ROW}, source, seen_at)
SELECT new.*, $1::text, $2::text::timestamptz FROM (SELECT {_ROW} FROM broken EXCEPT SELECT {_ROW} FROM quarantine q
WHERE (market, symbol, interval) IN (SELECT market, symbol, interval FROM broken LIMIT 1) {{held}}) new
ORDER BY open_time, rule, close_time"""


def _release(cursor: adbc.Cursor, key: SeriesKey, good: pd.Series, at: pd.Timestamp) -> None:
    """Close the quarantine of rows for whose candle a good one has come, also where their time was off the grid."""
    query = "SELECT id, open_time FROM quarantine WHERE market = $1 AND symbol = $2 AND interval = $3"
    cursor.execute(f"{query} AND released_at IS NULL", tuple(asdict(key).values()))
    held = cursor.fetch_arrow_table().to_pandas()
    repaired = held["id"][interval_floors(held["open_time"].astype(TIME), key.interval).isin(good)]
    if len(repaired):
        cursor.execute(_RELEASE, (at.isoformat(), ",".join(map(str, repaired))))


_RELEASE = """UPDATE quarantine SET released_at = $1::text::timestamptz
WHERE id = ANY (string_to_array($2::text, ',')::bigint[])"""


def _analyze(store: Store) -> None:
    """Refresh the planner's statistics: "the latest 100" would scan everything without them."""
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT analyze_candles()")
        cursor.fetchall()


def _select(
    key: SeriesKey, start: pd.Timestamp | None, last: pd.Timestamp | None, columns: tuple[str, ...] = COLUMNS
) -> str:
    """Query of a series with ``start <= open_time <= last``.

    Its values are in the text, not in parameters: only then the driver reads by binary COPY, twice
    as fast. A `SeriesKey` holds no quote, and times are written by pandas.
    """
    bounds = "".join(
        f" AND open_time {sign} timestamptz '{bound.isoformat()}'"
        for bound, sign in ((start, ">="), (last, "<="))
        if bound is not None
    )
    same = " AND ".join(f"{name} = '{getattr(key, name)}'" for name in _KEYS)
    return f"SELECT {', '.join(columns)} FROM candles WHERE {same}{bounds}"


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
        cursor.execute(f"SELECT * FROM ({newest}) newest ORDER BY open_time")
        table = cursor.fetch_arrow_table()
        return cast("pd.DataFrame", table.to_pandas(use_threads=False))  # so few rows are quicker without


def read_first_time(store: Store, key: SeriesKey) -> pd.Timestamp | None:
    """Read the open time of the oldest candle of a series; None where it has none."""
    found = store.scalar(f"SELECT min(open_time) FROM candles WHERE {IN_SERIES}", asdict(key))
    return None if found is None else pd.Timestamp(found)


def read_open_times(store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp) -> pd.Series:
    """Read the open times of a series with ``start <= open_time < end``, ascending."""
    query = _select(key, start, end - pd.Timedelta(microseconds=1), ("open_time",))
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(query + " ORDER BY open_time")
        return cast("pd.Series", cursor.fetch_arrow_table().to_pandas()["open_time"])


def read_series_keys(store: Store) -> list[SeriesKey]:
    """Keys of all series that have candles, by jumping along the primary key."""
    return [SeriesKey(*row) for row in store.fetch(_SERIES_KEYS)]


# A DISTINCT would scan every candle; this reads one index entry a series.
_SERIES_KEYS = """
WITH RECURSIVE series AS (
  (SELECT market, symbol, interval FROM candles ORDER BY market, symbol, interval LIMIT 1)
  UNION ALL
  SELECT next.* FROM series s CROSS JOIN LATERAL (
    SELECT c.market, c.symbol, c.interval FROM candles c
    WHERE (c.market, c.symbol, c.interval) > (s.market, s.symbol, s.interval)
    ORDER BY c.market, c.symbol, c.interval LIMIT 1) next
) SELECT market, symbol, interval FROM series"""


def record_gaps(
    store: Store, key: SeriesKey, gaps: pd.DataFrame, asked: tuple[pd.Timestamp, pd.Timestamp], at: pd.Timestamp
) -> None:
    """Record the holes of a requested span in which the market has no candles.

    Parameters
    ----------
    gaps
        Holes inside the span that was requested, as `btcml.candles.candle_gaps` gives them.
    asked
        The span: from, to (exclusive). Holes known there before and filled since are deleted.
    """
    values: dict[Any, Any] = asdict(key) | {"from": asked[0], "to": asked[1], "at": at}
    with store.engine.begin() as connection:
        inside = f'DELETE FROM gaps WHERE {IN_SERIES} AND start >= :from AND "end" <= :to'
        connection.execute(text(inside), values)
        if len(gaps):
            columns = {name: gaps[name].tolist() for name in ("start", "end", "missing")}
            connection.execute(text(_GAPS), values | columns)


_GAPS = """INSERT INTO gaps (market, symbol, interval, start, "end", missing, kind, checked_at)
SELECT :market, :symbol, :interval, gap.*, 'halt', :at
FROM unnest(CAST(:start AS timestamptz[]), CAST(:end AS timestamptz[]), CAST(:missing AS bigint[])) gap
ON CONFLICT (market, symbol, interval, start)
DO UPDATE SET "end" = excluded."end", missing = excluded.missing, checked_at = excluded.checked_at"""


def read_halts(store: Store, key: SeriesKey) -> set[pd.Timestamp]:
    """Read the first open times of holes in which the market has nothing.

    Only what the market still did not have a day later is known for certain: a hole that was young
    when it was found may have been a fault of the answer.
    """
    settled = "checked_at >= \"end\" + interval '1 day'"
    query = f"SELECT start FROM gaps WHERE {IN_SERIES} AND kind = 'halt' AND {settled}"
    return {pd.Timestamp(row.start) for row in store.fetch(query, asdict(key))}


def read_quarantined(store: Store, key: SeriesKey) -> list[pd.Timestamp]:
    """Read the open times of rows in quarantine for which no good candle has come, ascending."""
    query = f"SELECT DISTINCT open_time FROM quarantine WHERE {IN_SERIES} AND released_at IS NULL ORDER BY 1"
    return [pd.Timestamp(row.open_time) for row in store.fetch(query, asdict(key))]


class BanLedger:
    """Bans of the exchange, stored across restarts and shared by all processes.

    Parameters
    ----------
    store
        The database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def until(self, host: str) -> pd.Timestamp | None:
        """End of the ban by a host, or None where none is known."""
        found = self._store.scalar("SELECT until FROM bans WHERE host = :host", {"host": host})
        return None if found is None else pd.Timestamp(found)

    def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:
        """Record the end of a ban; a longer one that is known already stays."""
        self._store.execute(_BAN, {"host": host, "until": until, "reason": reason})


_BAN = """INSERT INTO bans (host, until, reason, seen_at) VALUES (:host, :until, :reason, now())
ON CONFLICT (host) DO UPDATE SET until = greatest(bans.until, excluded.until),
reason = excluded.reason, seen_at = now()"""


def check_contract(store: Store) -> pd.DataFrame:
    """Run the contract's own queries over all candles in the database.

    Returns
    -------
    DataFrame
        ``rule``, ``description`` and ``broken``, the number of rows that break it: the same rules as a
        report's; the first two are kept by the table itself and need no query.
    """
    found = [(rule.name, rule.description, int(store.scalar(rule.query))) for rule in load_contract().rules]
    return pd.DataFrame([*_BY_TABLE, *found], columns=["rule", "description", "broken"])


_BY_TABLE = (
    ("required", "No required value is missing (enforced by NOT NULL).", 0),
    ("unique_open_time", "No open time comes twice (enforced by the primary key).", 0),
)


def list_series(store: Store) -> pd.DataFrame:
    """List every series with its span, number of candles, holes and rows in quarantine.

    Returns
    -------
    DataFrame
        One row per series. ``gaps`` is the number of holes between its candles and ``missing`` that of
        the candles in them; ``halts`` of the holes are the market's own: asked again, it had nothing.
    """
    rows = []
    for key in read_series_keys(store):
        (facts,) = store.fetch(_SERIES, asdict(key) | {"delta": key.delta.to_pytimedelta()})
        rows.append(asdict(key) | facts._asdict())
    return pd.DataFrame(rows)


_SERIES = f"""SELECT first, last, candles, gaps, missing,
(SELECT count(*) FROM gaps WHERE {IN_SERIES} AND start > first AND "end" <= last) AS halts,
(SELECT count(*) FROM quarantine WHERE {IN_SERIES} AND released_at IS NULL) AS quarantined,
(SELECT count(*) FROM candle_revisions WHERE {IN_SERIES}) AS revisions
FROM (SELECT min(open_time) AS first, max(open_time) AS last, count(*) AS candles,
  count(*) FILTER (WHERE step > :delta) AS gaps,
  coalesce(sum(round(extract(epoch FROM step) / extract(epoch FROM :delta)) - 1)
    FILTER (WHERE step > :delta), 0)::bigint AS missing
  FROM (SELECT open_time, open_time - lag(open_time) OVER (ORDER BY open_time) AS step
    FROM candles WHERE {IN_SERIES}) steps) spans"""


def list_quarantine(store: Store) -> pd.DataFrame:
    """List the rows that broke a rule, newest first: rule, source, when they came, and when a good one did."""
    query = (
        "SELECT market, symbol, interval, open_time, rule, source, seen_at, released_at, open, high, low, close, "
        "volume FROM quarantine ORDER BY seen_at DESC, id DESC"
    )
    with store.engine.connect() as connection:
        return pd.read_sql(text(query), connection)


def list_suspects(store: Store) -> pd.DataFrame:
    """List the suspect spans of all series: kept, but left out of training until they are fetched again."""
    spans = []
    for key in read_series_keys(store):
        found = suspect_spans(read_candles(store, key), key.interval)
        spans.append(found.assign(**asdict(key))[[*_KEYS, *found.columns]])
    return pd.concat(spans, ignore_index=True) if spans else pd.DataFrame()


def export_candles(store: Store, key: SeriesKey, file: Path) -> int:
    """Write a series to a Parquet or CSV file that names its symbol; return the number of candles."""
    candles = read_candles(store, key).assign(symbol=key.symbol)
    with replaced_file(file) as new:
        if file.suffix == ".csv":
            candles.to_csv(new, index=False)
        else:
            candles.to_parquet(new, index=False)
    return len(candles)
