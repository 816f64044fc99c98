"""Look over everything that is stored: the contract in SQL, series by series, and export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import text

from btcml.continuity import suspect_spans
from btcml.contract import load_contract
from btcml.store.candles import read_candles, read_series_keys

if TYPE_CHECKING:
    from pathlib import Path

    from btcml.candles import SeriesKey
    from btcml.store.engine import Store

__all__ = ["check_contract", "export_candles", "list_quarantine", "list_series", "list_snapshots", "list_suspects"]


def check_contract(store: Store) -> pd.DataFrame:
    """Run the contract's own queries over all candles in the database.

    Returns
    -------
    DataFrame
        ``rule``, ``description`` and ``broken``, the number of rows that break it: the same rules as a
        report's; the two that the table keeps by itself need no query.
    """
    rules = load_contract().rules
    with store.engine.connect() as connection:
        broken = [int(connection.scalar(text(rule.query)) or 0) for rule in rules]
    found = [(rule.name, rule.description, n) for rule, n in zip(rules, broken, strict=True)]
    return pd.DataFrame([*_BY_TABLE, *found], columns=["rule", "description", "broken"])


_BY_TABLE = (
    ("required", "No required value is missing (NOT NULL: the table takes none).", 0),
    ("unique_open_time", "No open time comes twice (primary key: the table takes none).", 0),
)


def list_series(store: Store) -> pd.DataFrame:
    """List every series with its span, number of candles, holes and rows in quarantine.

    Returns
    -------
    DataFrame
        One row a series. ``gaps`` is the number of holes between its candles and ``missing`` that of
        the candles in them; ``halts`` of the holes are the market's own: asked again, it had nothing.
    """
    rows = []
    with store.engine.connect() as connection:
        for key in read_series_keys(store):
            values = {"market": key.market, "symbol": key.symbol, "interval": key.interval}
            found = connection.execute(text(_SERIES), values | {"delta": key.delta.to_pytimedelta()}).one()
            rows.append(values | dict(found._mapping))  # noqa: SLF001 - SQLAlchemy's public name for a row as mapping
    return pd.DataFrame(rows)


_KEY = "market = :market AND symbol = :symbol AND interval = :interval"
_SERIES = f"""SELECT first, last, candles, gaps, missing,
(SELECT count(*) FROM gaps WHERE {_KEY} AND start > first AND "end" <= last) AS halts,
(SELECT count(*) FROM quarantine WHERE {_KEY} AND released_at IS NULL) AS quarantined,
(SELECT count(*) FROM candle_revisions WHERE {_KEY}) AS revisions
FROM (SELECT min(open_time) AS first, max(open_time) AS last, count(*) AS candles,
  count(*) FILTER (WHERE step > :delta) AS gaps,
  coalesce(sum(round(extract(epoch FROM step) / extract(epoch FROM :delta)) - 1)
    FILTER (WHERE step > :delta), 0)::bigint AS missing
  FROM (SELECT open_time, open_time - lag(open_time) OVER (ORDER BY open_time) AS step
    FROM candles WHERE {_KEY}) steps) spans"""  # noqa: S608 - only constants


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
        for place, (name, value) in enumerate(vars(key).items()):
            found.insert(place, name, value)
        spans.append(found)
    return pd.concat(spans, ignore_index=True) if spans else pd.DataFrame()


def list_snapshots(store: Store) -> pd.DataFrame:
    """List the snapshots that were taken, newest first."""
    query = 'SELECT hash, market, symbol, interval, start, "end", candles, made_at FROM snapshots ORDER BY made_at DESC'
    with store.engine.connect() as connection:
        return pd.read_sql(text(query), connection)


def export_candles(store: Store, key: SeriesKey, file: Path) -> int:
    """Write a series to a Parquet or CSV file that says its symbol; return the number of candles."""
    candles = read_candles(store, key).assign(symbol=key.symbol)
    aside = file.with_name(f".{file.name}.aside")
    if file.suffix == ".csv":
        candles.to_csv(aside, index=False)
    else:
        candles.to_parquet(aside, index=False)
    aside.replace(file)
    return len(candles)
