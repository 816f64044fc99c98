"""Trainings and their models: which serves, which stand beside it, which may go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from btcml.store.engine import Store

__all__ = [
    "ModelRecord",
    "champion_of",
    "prunable",
    "read_models",
    "record_training",
    "restore_training",
    "strike_artifacts",
]

KEPT_NEWEST = 8
"""Trainings that are kept whatever their day."""

_KEY = "market = :market AND symbol = :symbol AND interval = :interval"
_COLUMNS = (
    *("artifact", "name", "market", "symbol", "interval", "role", "trained_at", "snapshot", "window_start"),
    *("window_end", "samples", "metrics", "verdict", "judged_at", "bytes", "kept"),
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
        The walk-forward's judgement: figures, ``passed`` and a sentence.
    judged_at
        When the walk-forward was run.
    bytes
        Size of the training's files.
    kept
        Whether its files are still there.
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


def _values(key: SeriesKey) -> dict[str, Any]:
    return {"market": key.market, "symbol": key.symbol, "interval": key.interval}


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
        row |= _values(record.key) | {"metrics": json.dumps(record.metrics), "verdict": json.dumps(record.verdict)}
        rows.append(row)
    with store.engine.begin() as connection:
        _retire(connection, records[0].key)
        connection.execute(text(_APPEND), rows)


_BINDS = ", ".join(f"cast(:{name} AS jsonb)" if name in {"metrics", "verdict"} else f":{name}" for name in _COLUMNS)
_APPEND = f"INSERT INTO models ({', '.join(_COLUMNS)}) VALUES ({_BINDS})"  # noqa: S608 - only constants


def _retire(connection: Connection, key: SeriesKey) -> None:
    lock = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"
    connection.execute(text(lock), {"name": f"models {key}"})
    query = f"UPDATE models SET role = 'retired' WHERE {_KEY} AND role <> 'retired'"  # noqa: S608 - only constants
    connection.execute(text(query), _values(key))


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
        chosen = artifact or connection.scalar(text(_BEFORE), _values(key))
        query = f"SELECT name, verdict ->> 'champion' FROM models WHERE {_KEY} AND artifact = :artifact AND kept"  # noqa: S608
        rows = connection.execute(text(query), _values(key) | {"artifact": chosen}).fetchall()
        if not rows:
            msg = f"there is no kept training {artifact or 'before the one in service'} of {key}: btcml db models lists"
            raise NotFoundError(msg)
        _retire(connection, key)
        for name, champion in rows:
            role = "champion" if name == champion else "challenger"
            connection.execute(text(_SERVE), {"role": role, "artifact": chosen, "name": name})
    return str(chosen)


_SERVE = "UPDATE models SET role = :role WHERE artifact = :artifact AND name = :name"
_BEFORE = f"""SELECT artifact FROM models WHERE {_KEY} AND kept AND role = 'retired' AND trained_at <
(SELECT max(trained_at) FROM models WHERE {_KEY} AND role = 'champion') ORDER BY trained_at DESC LIMIT 1"""  # noqa: S608


def read_models(
    store: Store, key: SeriesKey | None = None, *, kept: bool = True, limit: int = 200
) -> list[ModelRecord]:
    """Read models, the newest training first, its champion before its challengers."""
    clauses = ["true" if key is None else _KEY, "kept" if kept else "true"]
    query = f"""SELECT {", ".join(_COLUMNS)} FROM models WHERE {" AND ".join(clauses)}
    ORDER BY trained_at DESC, role <> 'champion', name LIMIT :limit"""  # noqa: S608 - only constants
    with store.engine.connect() as connection:
        rows = connection.execute(text(query), ({} if key is None else _values(key)) | {"limit": limit}).mappings()
        return [_record(dict(row)) for row in rows]


def _record(values: dict[str, Any]) -> ModelRecord:
    key = SeriesKey(values.pop("market"), values.pop("symbol"), values.pop("interval"))
    times = {name: None if values[name] is None else pd.Timestamp(values[name]) for name in _TIMES}
    return ModelRecord(key=key, **(values | times))


def champion_of(store: Store, key: SeriesKey) -> ModelRecord | None:
    """Read the model in service, or None before the first training."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM models WHERE {_KEY} AND role = 'champion'"  # noqa: S608
    with store.engine.connect() as connection:
        row = connection.execute(text(query), _values(key)).mappings().first()
    return None if row is None else _record(dict(row))


def prunable(store: Store, key: SeriesKey) -> list[str]:
    """List trainings whose files may go: not in service, not the last of their day, not of the last eight."""
    with store.engine.connect() as connection:
        return [str(name) for name in connection.execute(text(_PRUNABLE), _values(key)).scalars()]


_PRUNABLE = f"""
SELECT artifact FROM (
  SELECT artifact, bool_or(role <> 'retired') AS serves, max(trained_at) AS at,
    rank() OVER (ORDER BY max(trained_at) DESC) AS place,
    rank() OVER (PARTITION BY date_trunc('day', max(trained_at)) ORDER BY max(trained_at) DESC) AS place_of_day
  FROM models WHERE {_KEY} AND kept GROUP BY artifact
) trainings WHERE NOT serves AND place > {KEPT_NEWEST} AND place_of_day > 1 ORDER BY at"""  # noqa: S608


def strike_artifacts(store: Store, artifacts: list[str]) -> None:
    """Note that the files of trainings are gone; the rows stay."""
    query = "UPDATE models SET kept = false WHERE artifact = ANY(:artifacts) AND role = 'retired'"
    with store.engine.begin() as connection:
        connection.execute(text(query), {"artifacts": artifacts})
