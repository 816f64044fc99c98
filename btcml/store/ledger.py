"""What must be remembered beside the candles: gaps, bans and the number of trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btcml.candles import SeriesKey
    from btcml.store.engine import Store

__all__ = ["BanLedger", "append_trials", "count_trials", "read_halts", "read_held", "record_gaps"]

_KEY = "market = :market AND symbol = :symbol AND interval = :interval"


def _values(key: SeriesKey) -> dict[str, Any]:
    return {"market": key.market, "symbol": key.symbol, "interval": key.interval}


def record_gaps(
    store: Store,
    key: SeriesKey,
    gaps: pd.DataFrame,
    asked: tuple[pd.Timestamp, pd.Timestamp],
    at: pd.Timestamp,
) -> None:
    """Note that the market was asked for a span and has nothing in these holes of it.

    Parameters
    ----------
    gaps
        Holes inside the span that was asked for, as `btcml.candles.candle_gaps` gives them.
    asked
        The span: from, to (exclusive). Holes known there before and filled since are struck off.
    """
    values: dict[str, Any] = _values(key) | {"from": asked[0], "to": asked[1], "at": at}
    spans = gaps[["start", "end", "missing"]]
    rows = [values | {str(name): value for name, value in row.items()} for row in spans.to_dict("records")]
    with store.engine.begin() as connection:
        inside = f'DELETE FROM gaps WHERE {_KEY} AND start >= :from AND "end" <= :to'  # noqa: S608 - only constants
        connection.execute(text(inside), values)
        if rows:
            connection.execute(text(_GAP), rows)


def read_halts(store: Store, key: SeriesKey) -> set[pd.Timestamp]:
    """Read the first open times of holes in which the market has nothing.

    Only what the market still did not have a day later is known for certain: a hole that was young
    when it was found may have been a fault of the answer.
    """
    settled = "checked_at >= \"end\" + interval '1 day'"
    query = f"SELECT start FROM gaps WHERE {_KEY} AND kind = 'halt' AND {settled}"  # noqa: S608 - only constants
    with store.engine.connect() as connection:
        return {pd.Timestamp(start) for start in connection.execute(text(query), _values(key)).scalars()}


def read_held(store: Store, key: SeriesKey) -> list[pd.Timestamp]:
    """Read the open times of rows in quarantine for which no good candle has come, ascending."""
    query = f"SELECT DISTINCT open_time FROM quarantine WHERE {_KEY} AND released_at IS NULL ORDER BY 1"  # noqa: S608
    with store.engine.connect() as connection:
        return [pd.Timestamp(time) for time in connection.execute(text(query), _values(key)).scalars()]


_GAP = """INSERT INTO gaps (market, symbol, interval, start, "end", missing, kind, checked_at)
VALUES (:market, :symbol, :interval, :start, :end, :missing, 'halt', :at)
ON CONFLICT (market, symbol, interval, start)
DO UPDATE SET "end" = excluded."end", missing = excluded.missing, checked_at = excluded.checked_at"""


class BanLedger:
    """Bans of the exchange, remembered across restarts and shared by all processes.

    Parameters
    ----------
    store
        The database that remembers.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def until(self, host: str) -> pd.Timestamp | None:
        """End of the ban by a host, or None where none is known."""
        with self._store.engine.connect() as connection:
            found = connection.scalar(text("SELECT until FROM bans WHERE host = :host"), {"host": host})
        return None if found is None else pd.Timestamp(found)

    def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:
        """Keep the end of a ban; a longer one that is known already stays."""
        with self._store.engine.begin() as connection:
            connection.execute(text(_BAN), {"host": host, "until": until, "reason": reason})


_BAN = """INSERT INTO bans (host, until, reason, seen_at) VALUES (:host, :until, :reason, now())
ON CONFLICT (host) DO UPDATE SET until = greatest(bans.until, excluded.until),
reason = excluded.reason, seen_at = now()"""


def append_trials(
    store: Store, key: SeriesKey, snapshot: str, trials: Iterable[dict[str, Any]], at: pd.Timestamp
) -> None:
    """Count tries of models; the same try on the same snapshot counts once.

    Parameters
    ----------
    trials
        Each with ``model``, ``parameters`` (JSON text) and ``score``.
    """
    rows = [_values(key) | {"snapshot": snapshot, "at": at} | trial for trial in trials]
    if rows:
        with store.engine.begin() as connection:
            connection.execute(text(_TRIAL), rows)


_TRIAL = """INSERT INTO trials (market, symbol, interval, model, parameters, snapshot, score, tried_at)
VALUES (:market, :symbol, :interval, :model, cast(:parameters AS jsonb), :snapshot, :score, :at)
ON CONFLICT DO NOTHING"""


def count_trials(store: Store, key: SeriesKey) -> int:
    """Count the tries of a series so far."""
    with store.engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM trials WHERE {_KEY}"), _values(key)) or 0)  # noqa: S608 - only constants
