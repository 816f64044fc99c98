"""The chain of sealed forecasts: every hash is recomputed in Python from the rows alone."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.candles import SeriesKey
from btcml.store.engine import IN_SERIES
from btcml.store.forecasts import SEALED_COLUMNS

if TYPE_CHECKING:
    from btcml.store.engine import Store


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
    parts = [*astuple(key), *(_canonical(row[name]) for name in SEALED_COLUMNS if name != "hash")]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _canonical(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return value.tz_convert("UTC").strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, float):
        return "" if np.isnan(value) else struct.pack(">d", value).hex()
    return str(value)


def verify_chain(store: Store, key: SeriesKey, head: dict[str, str] | None = None) -> ChainBreak | None:
    """Recompute a chain from its rows and return the first place where it breaks.

    The heads in the log of jobs must all be in it, too.

    Parameters
    ----------
    head
        A head that was recorded earlier (``seq`` and ``hash``): the chain must still hold it,
        so that a truncated chain is detected.

    Returns
    -------
    ChainBreak or None
        None where the chain is intact.
    """
    query = f"SELECT {', '.join(SEALED_COLUMNS)} FROM forecasts WHERE {IN_SERIES} ORDER BY seq"
    rows = store.frame(query, asdict(key))
    previous = ""
    for expected, row in enumerate(rows.to_dict("records"), start=1):
        found = _broken(key, {str(name): value for name, value in row.items()}, expected, previous)
        if found is not None:
            return found
        previous = str(row["hash"])
    if head and (int(head["seq"]) > len(rows) or rows["hash"].iloc[int(head["seq"]) - 1] != head["hash"]):
        return ChainBreak(int(head["seq"]), "the recorded head is not in the chain")
    return _missing_head(store, key)


def _missing_head(store: Store, key: SeriesKey) -> ChainBreak | None:
    """Find the first head in the log of jobs that is not in the chain: the chain was truncated."""
    seq = store.scalar(_MISSING_HEAD, asdict(key))
    return None if seq is None else ChainBreak(int(seq), "a job recorded this head, and it is not in the chain")


_MISSING_HEAD = f"""SELECT (result -> 'heads' ->> 'seq')::bigint AS seq FROM jobs WHERE {IN_SERIES}
AND result -> 'heads' ->> 'seq' IS NOT NULL AND NOT EXISTS (
  SELECT FROM forecasts f WHERE f.market = jobs.market AND f.symbol = jobs.symbol AND f.interval = jobs.interval
  AND f.seq = (result -> 'heads' ->> 'seq')::bigint AND f.hash = result -> 'heads' ->> 'hash')
ORDER BY 1 LIMIT 1"""


def _broken(key: SeriesKey, row: dict[str, Any], expected: int, previous: str) -> ChainBreak | None:
    if row["seq"] != expected:
        return ChainBreak(expected, "the row is missing")
    if row["previous"] != previous:
        return ChainBreak(expected, "the row does not follow the row before")
    if forecast_hash(key, row) != row["hash"]:
        return ChainBreak(expected, "the row's content does not match its hash")
    return None


def chain_head(store: Store, key: SeriesKey) -> dict[str, str]:
    """Sequence number and hash of the newest sealed forecast; empty where there is none."""
    query = f"SELECT seq, hash FROM forecasts WHERE {IN_SERIES} ORDER BY seq DESC LIMIT 1"
    found = store.fetch(query, asdict(key))
    return {"seq": str(found[0].seq), "hash": str(found[0].hash)} if found else {}


def chain_keys(store: Store) -> list[SeriesKey]:
    """Keys of all series that have sealed forecasts, or had some by the log of jobs."""
    return [SeriesKey(*row) for row in store.fetch(_CHAINS)]


_CHAINS = """SELECT market, symbol, interval FROM forecasts
UNION SELECT market, symbol, interval FROM jobs WHERE result -> 'heads' ->> 'seq' IS NOT NULL ORDER BY 1, 2, 3"""
