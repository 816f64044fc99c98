"""Trainings and their models: which one serves, which may be deleted, and how many were tried."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from btcml.candles import TIME, SeriesKey
from btcml.errors import NotFoundError
from btcml.store.engine import IN_SERIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Row

    from btcml.store.engine import Store


KEPT_NEWEST = 8
"""Newest trainings that are always kept."""

_COLUMNS = (
    *("artifact", "name", "market", "symbol", "interval", "role", "trained_at", "snapshot", "window_start"),
    *("window_end", "samples", "metrics", "verdict", "judged_at", "bytes", "kept", "manifest"),
)
_TIMES = ("trained_at", "window_start", "window_end", "judged_at")


@dataclass(frozen=True)
class ModelRecord:
    """One model of one training.

    Attributes
    ----------
    artifact
        Name of the training: the folder of its files.
    name
        Name of the model; ``persistence`` is one that needs no file.
    role
        ``champion`` (served), ``challenger`` (beside it) or ``retired``.
    snapshot
        Content hash of the candles that it was fitted on.
    window_start, window_end
        Open times of the first and last candle.
    metrics
        Figures of the training's held-out span, each beside persistence's.
    verdict
        Verdict of the walk-forward: figures, ``passed`` and a sentence.
    judged_at
        When the walk-forward was run.
    bytes
        Size of the training's files.
    kept
        Whether its files are still there.
    manifest
        SHA-256 of the training's ``manifest.json``; None for trainings of version 0.1.
    """

    artifact: str
    name: str
    key: SeriesKey
    role: str
    trained_at: pd.Timestamp
    snapshot: str
    window_start: pd.Timestamp
    window_end: pd.Timestamp
    samples: int
    metrics: dict[str, Any]
    verdict: dict[str, Any]
    judged_at: pd.Timestamp | None
    bytes: int
    kept: bool
    manifest: str | None = None


def record_training(store: Store, records: list[ModelRecord]) -> None:
    """Put a training into service: its champion and challengers; those before it retire.

    Parameters
    ----------
    records
        All models of one training, one of them the champion.
    """
    rows = []
    for record in records:
        row = {name: getattr(record, name) for name in _COLUMNS if name not in {"market", "symbol", "interval"}}
        row |= asdict(record.key) | {"metrics": json.dumps(record.metrics), "verdict": json.dumps(record.verdict)}
        rows.append(row)
    with store.engine.begin() as connection:
        _retire(connection, records[0].key)
        connection.execute(text(_APPEND), rows)


_BINDS = ", ".join(f"cast(:{name} AS jsonb)" if name in {"metrics", "verdict"} else f":{name}" for name in _COLUMNS)
_APPEND = f"INSERT INTO models ({', '.join(_COLUMNS)}) VALUES ({_BINDS})"


def _retire(connection: Connection, key: SeriesKey) -> None:
    lock = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"
    connection.execute(text(lock), {"name": f"models {key}"})
    query = f"UPDATE models SET role = 'retired' WHERE {IN_SERIES} AND role <> 'retired'"
    connection.execute(text(query), asdict(key))


def restore_training(store: Store, key: SeriesKey, artifact: str | None = None) -> str:
    """Roll back: put an earlier training into service again.

    Parameters
    ----------
    artifact
        Which one; left out, the newest kept one before the training in service.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    NotFoundError
        If there is none whose files are kept.
    """
    with store.engine.begin() as connection:
        chosen = artifact or connection.scalar(text(_BEFORE), asdict(key))
        query = f"SELECT name, verdict ->> 'champion' FROM models WHERE {IN_SERIES} AND artifact = :artifact AND kept"
        rows = connection.execute(text(query), asdict(key) | {"artifact": chosen}).fetchall()
        if not rows:
            msg = f"there is no kept training {artifact or 'before the one in service'} of {key}: see btcml db models"
            raise NotFoundError(msg)
        _retire(connection, key)
        for name, champion in rows:
            role = "champion" if name == champion else "challenger"
            connection.execute(text(_SERVE), {"role": role, "artifact": chosen, "name": name})
    return str(chosen)


_SERVE = "UPDATE models SET role = :role WHERE artifact = :artifact AND name = :name"
_BEFORE = f"""SELECT artifact FROM models WHERE {IN_SERIES} AND kept AND role = 'retired' AND trained_at <
(SELECT max(trained_at) FROM models WHERE {IN_SERIES} AND role = 'champion') ORDER BY trained_at DESC LIMIT 1"""


def read_models(
    store: Store, key: SeriesKey | None = None, *, kept: bool = True, limit: int = 200
) -> list[ModelRecord]:
    """Read models, the newest training first, its champion before its challengers."""
    clauses = ["true" if key is None else IN_SERIES, "kept" if kept else "true"]
    query = f"""SELECT {", ".join(_COLUMNS)} FROM models WHERE {" AND ".join(clauses)}
    ORDER BY trained_at DESC, role <> 'champion', name LIMIT :limit"""
    values = {} if key is None else asdict(key)
    return [_record(row) for row in store.fetch(query, values | {"limit": limit})]


def _record(row: Row[Any]) -> ModelRecord:
    values = row._asdict()
    key = SeriesKey(values.pop("market"), values.pop("symbol"), values.pop("interval"))
    times = {name: None if values[name] is None else pd.Timestamp(values[name]) for name in _TIMES}
    return ModelRecord(key=key, **(values | times))


def read_champion(store: Store, key: SeriesKey) -> ModelRecord | None:
    """Read the model in service, or None before the first training."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM models WHERE {IN_SERIES} AND role = 'champion'"
    rows = store.fetch(query, asdict(key))
    return _record(rows[0]) if rows else None


def prunable_artifacts(store: Store, key: SeriesKey) -> list[str]:
    """List trainings whose files may go: not in service, not the last of their day, not of the last eight."""
    return [str(row.artifact) for row in store.fetch(_PRUNABLE, asdict(key))]


_PRUNABLE = f"""
SELECT artifact FROM (
  SELECT artifact, bool_or(role <> 'retired') AS serves, max(trained_at) AS at,
    rank() OVER (ORDER BY max(trained_at) DESC) AS place,
    rank() OVER (PARTITION BY date_trunc('day', max(trained_at)) ORDER BY max(trained_at) DESC) AS place_of_day
  FROM models WHERE {IN_SERIES} AND kept GROUP BY artifact
) trainings WHERE NOT serves AND place > {KEPT_NEWEST} AND place_of_day > 1 ORDER BY at"""


def mark_pruned(store: Store, artifacts: list[str]) -> None:
    """Record that the files of trainings were deleted; the rows stay."""
    query = "UPDATE models SET kept = false WHERE artifact = ANY(:artifacts) AND role = 'retired'"
    store.execute(query, {"artifacts": artifacts})


def append_trials(
    store: Store, key: SeriesKey, snapshot: str, trials: Iterable[dict[str, Any]], at: pd.Timestamp
) -> None:
    """Record tries of models, those of forecasts from outside among them; the same on the same snapshot counts once.

    Parameters
    ----------
    trials
        Each with ``model``, ``parameters`` (JSON text) and ``score``.
    """
    shared = asdict(key) | {"snapshot": snapshot, "at": at}
    store.execute(_TRIAL, *(shared | trial for trial in trials))


_TRIAL = """INSERT INTO trials (market, symbol, interval, model, parameters, snapshot, score, tried_at)
VALUES (:market, :symbol, :interval, :model, cast(:parameters AS jsonb), :snapshot, :score, :at)
ON CONFLICT DO NOTHING"""


RESEARCH = Path(__file__).with_name("research.csv")
"""Tries of the authors, before anybody ran this version: they are data of the repository."""


def read_research(key: SeriesKey) -> pd.DataFrame:
    """Read what the authors tried on the candles of a series of the real market.

    Returns
    -------
    DataFrame
        ``kind`` (``search`` or ``verdict``), ``what, start, end`` (exclusive; of the candles that were scored)
        and ``tries``; empty for another symbol, interval or a simulated market.
    """
    table = pd.read_csv(RESEARCH)
    ours = table["intervals"].str.split().map(lambda names: key.interval in names)
    real = key.market.partition(":")[0] in {"binance", "file"}
    rows = table[ours & (table["symbol"] == key.symbol) & real].reset_index(drop=True)
    times = {name: pd.to_datetime(rows[name], utc=True).astype(TIME) for name in ("start", "end")}
    return rows.assign(**times)[["kind", "what", "start", "end", "tries"]].astype({"kind": "str", "what": "str"})


def read_trials(store: Store, key: SeriesKey) -> pd.DataFrame:
    """Read every try of our models on a series, oldest first.

    Returns
    -------
    DataFrame
        ``model``; ``test_start`` and ``test_end`` (exclusive) of the test, NaT where there was none;
        ``settings``: JSON text of what differed from the published experiment, ``{}`` for that one.
        Tries of version 0.1, which kept no span, count as tests of a year.
    """
    rows = store.fetch(_TRIALS, asdict(key))
    frame = pd.DataFrame(rows, columns=["model", "test_start", "test_end", "settings"])
    times = {name: pd.to_datetime(frame[name], utc=True).astype(TIME) for name in ("test_start", "test_end")}
    return frame.assign(**times).astype({"model": "str", "settings": "str"})


_TRIALS = f"""
SELECT model,
  CASE WHEN parameters ? 'test' THEN (parameters -> 'test' ->> 0)::timestamptz
       WHEN parameters = '{{}}' THEN tried_at - interval '365 days' END,
  CASE WHEN parameters ? 'test' THEN (parameters -> 'test' ->> 1)::timestamptz
       WHEN parameters = '{{}}' THEN tried_at END,
  (parameters - 'test')::text
FROM trials WHERE {IN_SERIES} AND NOT parameters ? 'judged' ORDER BY id"""


def read_judged(store: Store, key: SeriesKey, test: tuple[str, str], horizons: Sequence[int]) -> set[str]:
    """Hashes of the forecasts from outside that were judged on candles of a test, at one of the horizons."""
    values = asdict(key) | {"start": test[0], "end": test[1], "horizons": [*horizons]}
    return {str(row.judged) for row in store.fetch(_JUDGED, values)}


_JUDGED = f"""
SELECT parameters ->> 'judged' AS judged FROM trials WHERE {IN_SERIES} AND parameters ? 'judged'
  AND (parameters -> 'test' ->> 0)::timestamptz < cast(:end AS timestamptz)
  AND (parameters -> 'test' ->> 1)::timestamptz > cast(:start AS timestamptz)
  AND EXISTS (SELECT FROM jsonb_array_elements_text(parameters -> 'horizons') h WHERE h::integer = ANY(:horizons))"""
