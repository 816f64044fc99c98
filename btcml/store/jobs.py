"""The log of jobs: what was asked, by whom, what became of it, and what was missed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Row

    from btcml.store.engine import Store

__all__ = [
    "KINDS",
    "STATUSES",
    "Job",
    "abandon_jobs",
    "append_job",
    "count_jobs",
    "finish_job",
    "last_ok",
    "last_scheduled",
    "read_job",
    "read_jobs",
    "start_job",
]

KINDS = ("ingest", "train", "backfill", "forecast")
"""What a job may do."""

STATUSES = ("queued", "running", "ok", "error", "missed", "abandoned")
"""What may have become of it; ``abandoned`` is a job whose process died."""

_COLUMNS = (
    *("id", "kind", "market", "symbol", "interval", "parameters", "asked_by", "request_id", "status", "due_at"),
    *("missed", "attempt", "created_at", "started_at", "finished_at", "result", "error", "error_status"),
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"  # noqa: S608 - only constants
_SERIES = "kind = :kind AND market = :market AND symbol = :symbol AND interval = :interval"
_TIMES = ("due_at", "created_at", "started_at", "finished_at")


@dataclass(frozen=True)
class Job:
    """One job, as the log knows it.

    Attributes
    ----------
    key
        The series.
    asked_by
        ``api``, ``scheduler`` or ``cli``.
    due_at
        When it was due, by the market's clock; None for a job that somebody asked for.
    missed
        Due times before this one that nobody served.
    attempt
        1 for the first try of a due time.
    result
        What it answered.
    error, error_status
        The sentence and HTTP status of its failure.
    """

    id: int
    kind: str
    key: SeriesKey
    parameters: dict[str, Any]
    asked_by: str
    request_id: str | None
    status: str
    due_at: pd.Timestamp | None
    missed: int
    attempt: int
    created_at: pd.Timestamp
    started_at: pd.Timestamp | None
    finished_at: pd.Timestamp | None
    result: dict[str, Any] | None
    error: str | None
    error_status: int | None


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name of it
    key = SeriesKey(values.pop("market"), values.pop("symbol"), values.pop("interval"))
    times = {name: None if values[name] is None else pd.Timestamp(values[name]) for name in _TIMES}
    return Job(key=key, **(values | times))


def append_job(  # noqa: PLR0913 - the columns of a job
    store: Store,
    kind: str,
    key: SeriesKey,
    *,
    asked_by: str,
    parameters: dict[str, Any] | None = None,
    request_id: str | None = None,
    due_at: pd.Timestamp | None = None,
    missed: int = 0,
    attempt: int = 1,
) -> int | None:
    """Write down that a job is to be done.

    Returns
    -------
    int or None
        Its number; None where this due time and attempt is already in the log.
    """
    values = _series(kind, key) | {
        "parameters": json.dumps(parameters or {}),
        "asked_by": asked_by,
        "request_id": request_id,
        "due_at": due_at,
        "missed": missed,
        "attempt": attempt,
    }
    with store.engine.begin() as connection:
        found = connection.scalar(text(_APPEND), values)
    return None if found is None else int(found)


_APPEND = """INSERT INTO jobs
(kind, market, symbol, interval, parameters, asked_by, request_id, due_at, missed, attempt)
VALUES (:kind, :market, :symbol, :interval, cast(:parameters AS jsonb), :asked_by, :request_id, :due_at, :missed,
:attempt) ON CONFLICT DO NOTHING RETURNING id"""


def _series(kind: str, key: SeriesKey) -> dict[str, Any]:
    return {"kind": kind, "market": key.market, "symbol": key.symbol, "interval": key.interval}


def start_job(store: Store, job: int) -> None:
    """Mark a job as running from now on."""
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET status = 'running', started_at = clock_timestamp() WHERE id = :id"), {"id": job}
        )


def finish_job(
    store: Store,
    job: int,
    *,
    result: dict[str, Any] | None = None,
    error: str | None = None,
    error_status: int | None = None,
    status: str | None = None,
) -> None:
    """Close a job: ok with its result, or an error with one sentence.

    Parameters
    ----------
    status
        Where it is neither ``ok`` nor ``error``.
    """
    values = {
        "id": job,
        "status": status or ("ok" if error is None else "error"),
        "result": None if result is None else json.dumps(result, default=str),
        "error": error,
        "code": error_status,
    }
    with store.engine.begin() as connection:
        connection.execute(text(_FINISH), values)


_FINISH = """UPDATE jobs SET status = :status, result = cast(:result AS jsonb), error = :error, error_status = :code,
started_at = coalesce(started_at, clock_timestamp()), finished_at = clock_timestamp() WHERE id = :id"""


def abandon_jobs(store: Store, kind: str, key: SeriesKey, but: int, *, queued: bool = False) -> int:
    """Close jobs of a kind that still claim to run; the caller holds the kind's lock, so none does.

    One that has been queued for ten minutes is of a process that was killed before it began: nobody
    waits that long for the lock.

    Parameters
    ----------
    but
        The caller's own job.
    queued
        Close those of the scheduler that never began, too.
    """
    lost = " OR (status = 'queued' AND created_at < clock_timestamp() - interval '10 minutes')"
    lost += " OR (status = 'queued' AND asked_by = 'scheduler')" if queued else ""
    query = f"""UPDATE jobs SET status = 'abandoned', finished_at = clock_timestamp(),
    error = 'its process ended before it did' WHERE {_SERIES} AND (status = 'running'{lost}) AND id <> :but"""  # noqa: S608
    with store.engine.begin() as connection:
        return connection.execute(text(query), _series(kind, key) | {"but": but}).rowcount


def read_job(store: Store, job: int) -> Job:
    """Read one job.

    Raises
    ------
    NotFoundError
        If there is none of this number.
    """
    with store.engine.connect() as connection:
        row = connection.execute(text(_SELECT + " WHERE id = :id"), {"id": job}).first()
    if row is None:
        msg = f"there is no job {job}: GET /jobs lists them"
        raise NotFoundError(msg)
    return _job(row)


def read_jobs(
    store: Store,
    *,
    key: SeriesKey | None = None,
    kinds: Iterable[str] = KINDS,
    statuses: Iterable[str] = STATUSES,
    limit: int = 50,
    before: int | None = None,
) -> list[Job]:
    """Read the newest jobs, newest first.

    Parameters
    ----------
    before
        Only jobs with a smaller number: where the page before ended.
    """
    values: dict[str, Any] = {"kinds": list(kinds), "statuses": list(statuses), "limit": limit, "before": before}
    query = _SELECT + " WHERE kind = ANY(:kinds) AND status = ANY(:statuses)"
    if before is not None:
        query += " AND id < :before"
    if key is not None:
        query += " AND market = :market AND symbol = :symbol AND interval = :interval"
        values |= _series("", key)
    with store.engine.connect() as connection:
        return [_job(row) for row in connection.execute(text(query + " ORDER BY id DESC LIMIT :limit"), values)]


def last_scheduled(store: Store, kind: str, key: SeriesKey) -> Job | None:
    """Newest attempt at the newest due time of a kind."""
    query = f"{_SELECT} WHERE {_SERIES} AND due_at IS NOT NULL ORDER BY due_at DESC, attempt DESC LIMIT 1"
    with store.engine.connect() as connection:
        row = connection.execute(text(query), _series(kind, key)).first()
    return None if row is None else _job(row)


def last_ok(store: Store, kind: str, key: SeriesKey) -> Job | None:
    """Newest job of a kind that went well."""
    found = read_jobs(store, key=key, kinds=[kind], statuses=["ok"], limit=1)
    return found[0] if found else None


def count_jobs(store: Store) -> dict[tuple[str, str], int]:
    """Count jobs by kind and status, and due times missed under the status ``missed``."""
    query = "SELECT kind, status, count(*), sum(missed) FROM jobs GROUP BY kind, status"
    counts: dict[tuple[str, str], int] = {}
    with store.engine.connect() as connection:
        for kind, status, number, missed in connection.execute(text(query)):
            counts[kind, status] = counts.get((kind, status), 0) + int(number)
            counts[kind, "missed"] = counts.get((kind, "missed"), 0) + int(missed)
    return counts
