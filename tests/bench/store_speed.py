"""Bulk loads and reads of 500,000 candles, against the raw drivers."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import pyarrow as pa
from psycopg2.extensions import make_dsn
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from btcml.candles import COLUMNS, SeriesKey
from btcml.market.simulate import SimulatedMarket
from btcml.settings import Settings
from btcml.store.candles import read_candles, read_last_candles, upsert_candles
from btcml.store.engine import libpq_parameters, open_store, owner_url

ROWS = 500_000
ROUNDS = 5
KEY = SeriesKey("simulated", "BTCUSDT", "1m")
AT = pd.Timestamp("2025-01-01", tz="UTC")


def timed(function, *args):
    """Seconds that a call takes."""
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


class Database:
    """A fresh embedded server with the ways to load it that are compared."""

    def __init__(self, home: Path, candles: pd.DataFrame) -> None:
        settings = Settings(database_url=None, btcml_home=home)
        self.store = open_store(settings)
        self.candles = candles
        self.owner = owner_url(settings)
        self.engine = create_engine(self.owner, poolclass=NullPool)
        self.sql("CREATE TABLE heap (LIKE candles)")
        self.sql("CREATE TABLE rows (LIKE candles INCLUDING ALL)")

    def sql(self, statement):
        """Run a statement as the owner."""
        with self.engine.begin() as connection:
            connection.execute(text(statement))

    def keyed(self):
        """Arrow table with the key columns."""
        table = pa.Table.from_pandas(self.candles, preserve_index=False)
        for name in ("interval", "symbol", "market"):
            table = table.add_column(0, name, pa.repeat(pa.scalar(getattr(KEY, name)), table.num_rows))
        return table

    def copy(self, table):
        """Raw Arrow COPY into a table without key or checks (heap), or with those of ours (rows)."""
        with adbc.connect(make_dsn(**libpq_parameters(self.owner))) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(table, self.keyed(), mode="append")
            connection.commit()

    def executemany(self, rows):
        """Row by row with ON CONFLICT, as most programs do it."""
        names = ("market", "symbol", "interval", *COLUMNS)
        values = ", ".join(f":{name}" for name in names)
        query = f"INSERT INTO rows ({', '.join(names)}) VALUES ({values}) ON CONFLICT DO NOTHING"
        records = self.candles[:rows].assign(market=KEY.market, symbol=KEY.symbol, interval=KEY.interval)
        with self.engine.begin() as connection:
            connection.execute(text(query), records.to_dict("records"))

    def upsert(self, frame=None):
        """Load with our contract and upsert."""
        upsert_candles(self.store, KEY, self.candles if frame is None else frame, source="bench", at=AT)

    def empty(self):
        """Empty all tables."""
        self.sql("TRUNCATE candles, heap, rows")

    def read_sql(self):
        """pandas.read_sql over the same rows."""
        query = f"SELECT {', '.join(COLUMNS)} FROM candles ORDER BY open_time"
        with self.engine.connect() as connection:
            pd.read_sql(text(query), connection)


def measure(database):
    """Medians in seconds of each way."""
    names = "heap", "rows", "first", "again", "touched", "read", "read_sql", "latest", "executemany"
    times = {name: [] for name in names}
    half = database.candles[: ROWS // 2]
    for _ in range(ROUNDS):
        database.empty()
        times["heap"].append(timed(database.copy, "heap"))
        times["rows"].append(timed(database.copy, "rows"))
        times["first"].append(timed(database.upsert))
        times["latest"] += [timed(read_last_candles, database.store, KEY, 720) for _ in range(50)]
        times["again"].append(timed(database.upsert))
        times["read"].append(timed(read_candles, database.store, KEY))
        times["read_sql"].append(timed(database.read_sql))
        database.sql("TRUNCATE candles")
        database.upsert(half)
        times["touched"].append(timed(database.upsert))
    database.empty()
    times["executemany"].append(timed(database.executemany, ROWS // 10) * 10)
    return {name: statistics.median(values) for name, values in times.items()}


def run():
    """Print each ratio with its bound; return the names of those that miss it."""
    end = SimulatedMarket().default_end("BTCUSDT")
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "1m", end - ROWS * pd.Timedelta("1min"), end)
    with tempfile.TemporaryDirectory() as home:
        database = Database(Path(home), candles)
        s = measure(database)
        database.store.close()
    bars = [
        ("load into an empty range / raw COPY into a heap", s["first"] / s["heap"], "<=", 2.5),
        ("load / COPY into a table with the same key and checks", s["first"] / s["rows"], "<=", 1.5),
        ("load into a range half full / raw COPY into a heap", s["touched"] / s["heap"], "<=", 4.5),
        ("executemany with ON CONFLICT / load", s["executemany"] / s["first"], ">=", 10),
        ("pandas.read_sql / read into a frame", s["read_sql"] / s["read"], ">=", 6),
        ("the same load again / first load", s["again"] / s["first"], "<=", 1.0),
        ("latest 720 candles, ms (absolute)", s["latest"] * 1000, "<=", 2.0),
    ]
    missed = []
    for name, value, sign, bound in bars:
        holds = value <= bound if sign == "<=" else value >= bound
        missed += [] if holds else [name]
        print(f"{'ok  ' if holds else 'MISS'} {name:55} {value:8.2f}  ({sign} {bound})")
    return missed
