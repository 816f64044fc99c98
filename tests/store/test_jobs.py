from __future__ import annotations

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError
from btcml.store.jobs import (
    abandon_jobs,
    append_job,
    count_jobs,
    finish_job,
    last_ok,
    last_scheduled,
    read_job,
    read_jobs,
    start_job,
)

KEY = SeriesKey("simulated", "BTCUSDT", "5m")
DUE = pd.Timestamp("2025-03-01 12:00", tz="UTC")


def test_a_job_is_in_the_log_from_its_asking_to_its_end(store):
    """What requested it, when it began and ended, and what it returned."""
    number = append_job(store, "ingest", KEY, asked_by="api", request_id="r1", parameters={"limit": 5})
    assert read_job(store, number).status == "queued"
    start_job(store, number)
    assert read_job(store, number).started_at is not None
    finish_job(store, number, result={"inserted": 3})
    job = read_job(store, number)
    assert (job.status, job.result, job.request_id, job.parameters) == ("ok", {"inserted": 3}, "r1", {"limit": 5})
    assert last_ok(store, "ingest", KEY).id == number


def test_a_failure_keeps_its_sentence_and_status(store):
    """No message has to be parsed."""
    number = append_job(store, "train", KEY, asked_by="cli")
    finish_job(store, number, error="too few candles", error_status=409)
    job = read_job(store, number)
    assert (job.status, job.error, job.error_status) == ("error", "too few candles", 409)


def test_a_due_time_can_be_in_the_log_only_once(store):
    """Two schedulers on one database do not do a job twice."""
    first = append_job(store, "ingest", KEY, asked_by="scheduler", due_at=DUE)
    assert first is not None
    assert append_job(store, "ingest", KEY, asked_by="scheduler", due_at=DUE) is None
    second = append_job(store, "ingest", KEY, asked_by="scheduler", due_at=DUE, attempt=2)
    assert last_scheduled(store, "ingest", KEY).id == second


def test_jobs_of_a_dead_process_are_abandoned_by_the_next_one(store):
    """A job that is marked as running while another process holds its lock does not run."""
    dead = append_job(store, "train", KEY, asked_by="scheduler")
    start_job(store, dead)
    mine = append_job(store, "train", KEY, asked_by="scheduler")
    start_job(store, mine)
    assert abandon_jobs(store, "train", KEY, but=mine) == 1
    assert (read_job(store, dead).status, read_job(store, mine).status) == ("abandoned", "running")


def test_a_queued_job_of_a_dead_scheduler_is_abandoned_on_request(store):
    """What the API queued stays: its own process is on the way."""
    lost = append_job(store, "train", KEY, asked_by="scheduler")
    kept = append_job(store, "train", KEY, asked_by="api")
    assert abandon_jobs(store, "train", KEY, but=0, queued=True) == 1
    assert (read_job(store, lost).status, read_job(store, kept).status) == ("abandoned", "queued")


def test_the_log_is_read_in_pages_newest_first(store):
    """The page after begins where the one before ended."""
    numbers = [append_job(store, "ingest", KEY, asked_by="api") for _ in range(5)]
    page = read_jobs(store, limit=2)
    assert [job.id for job in page] == numbers[:-3:-1]
    assert [job.id for job in read_jobs(store, limit=9, before=page[-1].id)] == numbers[-3::-1]


def test_outcomes_and_missed_due_times_are_counted(store):
    """Due times at which no job ran are counted."""
    number = append_job(store, "ingest", KEY, asked_by="scheduler", due_at=DUE, missed=7)
    finish_job(store, number, result={})
    assert count_jobs(store) == {("ingest", "ok"): 1, ("ingest", "missed"): 7}


def test_an_unknown_job_is_a_404(store):
    """The sentence says where the known ones are."""
    with pytest.raises(NotFoundError, match="GET /jobs"):
        read_job(store, 12345)
