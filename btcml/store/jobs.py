"""The log of jobs: what was requested, by which client, its result, and what was missed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError
from btcml.store.engine import IN_SERIES, records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Row

    from btcml.store.engine import Store


KINDS = ("ingest", "train", "backfill", "forecast", "alert")
"""Kinds of job."""

STATUSES = ("queued", "running", "ok", "error", "missed", "abandoned")
"""Possible states of a job; ``abandoned``: its process died."""

_COLUMNS = (
    *("id", "kind", "market", "symbol", "interval", "parameters", "asked_by", "request_id", "status", "due_at"),
    *("missed", "attempt", "created_at", "started_at", "finished_at", "result", "error", "error_status"),
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"
_OF_KIND = f"kind = :kind AND {IN_SERIES}"
_TIMES = ("due_at", "created_at", "started_at", "finished_at")


@dataclass(frozen=True)
class Job:
    """One job of the log.

    Attributes
    ----------
    key
        The series.
    asked_by
        ``api``, ``scheduler`` or ``cli``.
    due_at
        When it was due, by the market's clock; None for a job that was requested.
    missed
        Due times before this one at which no job ran.
    attempt
        1 for the first try of a due time.
    result
        Its result.
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
    values = row._asdict()
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
    """Add a job to the log.

    Returns
    -------
    int or None
        Its number; None where this due time and attempt is already in the log.
    """
    values = asdict(key) | {
        "kind": kind,
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


def append_merge(store: Store, key: SeriesKey, source: str, span: tuple[pd.Timestamp, pd.Timestamp]) -> int:
    """Add the merge of a file into the market of a series to the log; return its number.

    Parameters
    ----------
    source
        Market of the file.
    span
        From, to (exclusive), of open times.
    """
    facts = {"merged": source, "since": span[0].isoformat(), "until": span[1].isoformat()}
    return append_job(store, "ingest", key, asked_by="cli", parameters=facts) or 0


def read_merges(store: Store, key: SeriesKey, start: pd.Timestamp, end: pd.Timestamp) -> list[Job]:
    """Read the merges of files into a span of a series, oldest first, but those that changed nothing."""
    changed = " + ".join(f"(result ->> '{name}')::bigint" for name in ("inserted", "revised", "quarantined"))
    query = f"""{_SELECT} WHERE {_OF_KIND} AND parameters ->> 'merged' IS NOT NULL AND coalesce({changed}, 1) > 0
    AND (parameters ->> 'since')::timestamptz < :end AND (parameters ->> 'until')::timestamptz > :start ORDER BY id"""
    rows = store.fetch(query, asdict(key) | {"kind": "ingest", "start": start, "end": end})
    return [_job(row) for row in rows]


def start_job(store: Store, job: int) -> None:
    """Mark a job as running from now on."""
    store.execute("UPDATE jobs SET status = 'running', started_at = clock_timestamp() WHERE id = :id", {"id": job})


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
    store.execute(_FINISH, values)


_FINISH = """UPDATE jobs SET status = :status, result = cast(:result AS jsonb), error = :error, error_status = :code,
started_at = coalesce(started_at, clock_timestamp()), finished_at = clock_timestamp() WHERE id = :id"""


def abandon_jobs(store: Store, kind: str, key: SeriesKey, but: int, *, queued: bool = False) -> int:
    """Close jobs of a kind that are still marked as running; the caller holds the kind's lock, so none is.

    One that has been queued for six hours belongs to a process that was killed before it began:
    queues are short.

    Parameters
    ----------
    but
        The caller's own job.
    queued
        Close those of the scheduler that never began, too.
    """
    lost = " OR (status = 'queued' AND created_at < clock_timestamp() - interval '6 hours')"
    lost += " OR (status = 'queued' AND asked_by = 'scheduler')" if queued else ""
    query = f"""UPDATE jobs SET status = 'abandoned', finished_at = clock_timestamp(),
    error = 'its process ended before it did' WHERE {_OF_KIND} AND (status = 'running'{lost}) AND id <> :but"""
    return store.execute(query, asdict(key) | {"kind": kind, "but": but})


def read_job(store: Store, job: int) -> Job:
    """Read one job.

    Raises
    ------
    NotFoundError
        If there is none of this number.
    """
    rows = store.fetch(f"{_SELECT} WHERE id = :id", {"id": job})
    if not rows:
        msg = f"there is no job {job}: GET /jobs lists them"
        raise NotFoundError(msg)
    return _job(rows[0])


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
        query += f" AND {IN_SERIES}"
        values |= asdict(key)
    return [_job(row) for row in store.fetch(query + " ORDER BY id DESC LIMIT :limit", values)]


def last_scheduled(store: Store, kind: str, key: SeriesKey) -> Job | None:
    """Newest attempt at the newest due time of a kind."""
    query = f"{_SELECT} WHERE {_OF_KIND} AND due_at IS NOT NULL ORDER BY due_at DESC, attempt DESC LIMIT 1"
    rows = store.fetch(query, asdict(key) | {"kind": kind})
    return _job(rows[0]) if rows else None


def last_ok(store: Store, kind: str, key: SeriesKey, *, audit: bool = False) -> Job | None:
    """Newest successful job of a kind; of backfills one that audited, or one that did not."""
    query = f"{_SELECT} WHERE {_OF_KIND} AND status = 'ok' AND {_IS_AUDIT} = :audit ORDER BY id DESC LIMIT 1"
    rows = store.fetch(query, asdict(key) | {"kind": kind, "audit": audit})
    return _job(rows[0]) if rows else None


def last_alert(store: Store, key: SeriesKey, topic: str, *, sent: bool) -> Job | None:
    """Newest alert of a topic, or the newest one that was sent."""
    query = f"{_SELECT} WHERE {_OF_KIND} AND parameters ->> 'topic' = :topic"
    query += " AND status = 'ok'" if sent else ""
    rows = store.fetch(query + " ORDER BY id DESC LIMIT 1", asdict(key) | {"kind": "alert", "topic": topic})
    return _job(rows[0]) if rows else None


_IS_AUDIT = "coalesce((parameters ->> 'audit')::boolean, false)"


def count_audits(store: Store, key: SeriesKey) -> tuple[int, int]:
    """Count the audits of the last 31 days, and the restated candles that they found."""
    query = f"""SELECT count(*), coalesce(sum((result ->> 'revised')::bigint), 0) FROM jobs WHERE kind = 'backfill'
    AND {IN_SERIES} AND status = 'ok' AND {_IS_AUDIT} AND finished_at > clock_timestamp() - interval '31 days'"""
    ((audits, revised),) = store.fetch(query, asdict(key))
    return int(audits), int(revised)


def count_jobs(store: Store) -> dict[tuple[str, str], int]:
    """Count jobs by kind and status, and due times missed under the status ``missed``."""
    query = "SELECT kind, status, count(*), sum(missed) FROM jobs GROUP BY kind, status"
    counts: Counter[tuple[str, str]] = Counter()
    for kind, status, number, missed in store.fetch(query):
        counts[kind, status] += int(number)
        counts[kind, "missed"] += int(missed)
    return dict(counts)


def append_imported_jobs(store: Store, key: SeriesKey, rows: pd.DataFrame, *, source: str) -> int:
    """Store another system's log of jobs; negative numbers keep it before all jobs of btcml.

    Parameters
    ----------
    rows
        ``id``, ``kind``, ``status`` (``ok`` or ``error``), ``message``, ``started_at``, ``finished_at``.

    Returns
    -------
    int
        Rows that are new.
    """
    shared = asdict(key) | {"asked_by": source}
    return store.execute(_IMPORT, *(shared | _imported(row) for row in records(rows)))


def _imported(row: dict[str, Any]) -> dict[str, Any]:
    message = str(row["message"] or "")
    return row | {
        "id": _FIRST_IMPORTED + int(row["id"]),
        "error": None if row["status"] == "ok" else message,
        "result": json.dumps({"message": message, "imported": True}),
    }


_FIRST_IMPORTED = -(10**9)
_IMPORT = """INSERT INTO jobs
(id, kind, market, symbol, interval, asked_by, status, created_at, started_at, finished_at,
result, error) OVERRIDING SYSTEM VALUE VALUES (:id, :kind, :market, :symbol, :interval, :asked_by, :status, :started_at,
:started_at, :finished_at, cast(:result AS jsonb), :error) ON CONFLICT DO NOTHING"""
