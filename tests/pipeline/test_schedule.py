from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from btcml.errors import MarketError
from btcml.pipeline.jobs import JobContext, run_job
from btcml.pipeline.schedule import MAX_ATTEMPTS, Due, Scheduler, due_now
from btcml.store.chain import verify_chain
from btcml.store.engine import database_lock
from btcml.store.forecasts import read_scored
from btcml.store.jobs import Job, append_job, finish_job, last_scheduled, read_job, read_jobs, start_job

FIVE = pd.Timedelta("5min")
NOON = pd.Timestamp("2025-03-01 12:00", tz="UTC")
REAL = pd.Timestamp("2026-01-01", tz="UTC")


def job(status, due_at=NOON, attempt=1, missed=0):
    times = {"created_at": REAL, "started_at": REAL, "finished_at": None if status in {"queued", "running"} else REAL}
    fixed = {"id": 1, "kind": "ingest", "key": None, "parameters": {}, "asked_by": "scheduler", "request_id": None}
    rest = {"result": None, "error": None, "error_status": None}
    return Job(status=status, due_at=due_at, attempt=attempt, missed=missed, **fixed, **times, **rest)


def test_nothing_is_due_twice():
    """What the log has as done, running or missed is not done again."""
    for status in ("ok", "missed", "queued", "running"):
        assert due_now(job(status), NOON, FIVE, REAL + FIVE) is None


def test_the_first_run_is_due_at_once():
    """An empty log means now."""
    assert due_now(None, NOON, FIVE, REAL) == Due(NOON, 0, 1)


def test_late_runs_coalesce_into_one_and_the_missed_are_counted():
    """An hour of sleep is one run and eleven missed ones."""
    assert due_now(job("ok"), NOON + 12 * FIVE, FIVE, REAL) == Due(NOON + 12 * FIVE, 11, 1)


def test_a_running_job_is_not_joined_by_a_second_of_its_kind():
    """Its successor waits for its end."""
    assert due_now(job("running"), NOON + FIVE, FIVE, REAL) is None


def test_failures_are_retried_with_growing_pauses_and_not_for_ever():
    """Five seconds, ten, twenty; then the next due time has to do it."""
    for attempt, pause in ((1, 5), (2, 10), (3, 20)):
        failed = job("error", attempt=attempt)
        assert due_now(failed, NOON, FIVE, REAL + pd.Timedelta(seconds=pause - 0.1)) is None
        assert due_now(failed, NOON, FIVE, REAL + pd.Timedelta(seconds=pause)) == Due(NOON, 0, attempt + 1)
    assert due_now(job("error", attempt=MAX_ATTEMPTS), NOON, FIVE, REAL + 100 * FIVE) is None


def test_an_abandoned_job_is_done_again():
    """A killed job leaves nothing that the next one cannot repeat."""
    assert due_now(job("abandoned", missed=3), NOON, FIVE, REAL + FIVE) == Due(NOON, 3, 2)


class NoTraining(Scheduler):
    """A scheduler whose trainings are only written down."""

    def __init__(self, context):
        super().__init__(context, days=9)

    def _train(self, key, current):
        self._due("train", key, current, self.train_every)


@pytest.fixture
def scheduler(store, settings, trained, market):  # noqa: ARG001 - the series must be there
    return NoTraining(JobContext(settings, store, market))


def test_each_candle_is_ingested_and_the_next_one_forecast_and_sealed(scheduler, market, trained, store):
    """Ten ticks of a clock that is turned by hand: ten final candles, ten sealed forecasts, no job twice."""
    for _ in range(10):
        scheduler.tick()
        scheduler.tick()
        market.turn(market.time + FIVE)
    forecasts = read_scored(store, trained, role="champion")
    assert forecasts["status"].tolist() == ["sealed"] * 10
    assert forecasts["open_time"].diff().dropna().eq(FIVE).all()
    assert verify_chain(store, trained) is None
    jobs = read_jobs(store, limit=100)
    assert {(found.kind, found.status) for found in jobs} == {("ingest", "ok"), ("forecast", "ok"), ("train", "queued")}
    assert len([found for found in jobs if found.kind == "ingest"]) == 10
    assert len([found for found in jobs if found.kind == "forecast"]) == 10


def test_a_scheduler_that_slept_catches_up_once_and_counts_what_it_missed(scheduler, market, trained, store):
    """Five candles without a scheduler: one ingest, one forecast, four missed of each."""
    scheduler.tick()
    market.turn(market.time + 5 * FIVE)
    scheduler.tick()
    for kind in ("ingest", "forecast"):
        assert last_scheduled(store, kind, trained).missed == 4
    assert len(read_scored(store, trained, role="champion")) == 2


def test_a_forecast_that_comes_late_is_marked_and_one_that_comes_too_late_does_not_exist(
    scheduler, market, trained, store
):
    """Three minutes into the candle: late. A candle whose predecessor came after its end: never."""
    market.turn(NOON + pd.Timedelta("3min"))
    scheduler.tick()
    assert read_scored(store, trained, role="champion")["status"].tolist() == ["late"]
    assert last_scheduled(store, "forecast", trained).result["late"] == 2


def test_a_failing_exchange_is_retried_and_leaves_a_sentence(scheduler, market, trained, store, monkeypatch):
    """The job log says what the exchange said; the next attempt is another row."""

    def refuse(*_):
        msg = "the exchange answers 503: try again"
        raise MarketError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(type(market), "fetch_candles", refuse)
        scheduler.tick()
    failed = last_scheduled(store, "ingest", trained)
    assert (failed.status, failed.error_status) == ("error", 502)
    scheduler.speed = 1000.0  # pauses of a fast market are short
    while last_scheduled(store, "ingest", trained).attempt == 1:
        scheduler.tick()
    again = last_scheduled(store, "ingest", trained)
    assert (again.status, again.attempt, again.due_at) == ("ok", 2, failed.due_at)


def test_a_restart_closes_the_jobs_of_dead_processes_only(scheduler, trained, store):
    """A held lock means that a process is working."""
    dead = append_job(store, "ingest", trained, asked_by="scheduler", due_at=NOON)
    living = append_job(store, "train", trained, asked_by="scheduler", due_at=NOON)
    for number in (dead, living):
        start_job(store, number)
    with database_lock(store, f"train of {trained}"):
        scheduler._recover(trained)
    assert (read_job(store, dead).status, read_job(store, living).status) == ("abandoned", "running")


def test_a_training_that_was_killed_is_closed_and_done_again(scheduler, trained, store, monkeypatch):
    """Out of memory, kill -9: a killed process cannot close its job, so the scheduler does, and tries again."""
    numbers = []

    def begin(_, number, __):
        numbers.append(number)
        start_job(store, number)
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    monkeypatch.setattr("btcml.pipeline.schedule.spawn_job", begin)
    real = Scheduler(scheduler.context, days=9)
    real.speed = 1000.0  # pauses of a fast market are short
    real._train(trained, NOON)
    _, process = real._training
    process.kill()
    process.wait()
    while len(numbers) < 2:
        real._train(trained, NOON)
    real._end()
    first, second = (read_job(store, number) for number in numbers)
    assert (first.status, second.status, second.attempt, second.due_at) == ("abandoned", "running", 2, NOON)


def test_what_another_scheduler_left_running_is_done_again(scheduler, trained, store):
    """Two schedulers on one database: when one dies, its job does not stop the other for ever."""
    dead = append_job(store, "ingest", trained, asked_by="scheduler", due_at=NOON - FIVE)
    start_job(store, dead)
    scheduler.tick()
    assert read_job(store, dead).status == "abandoned"
    newest = last_scheduled(store, "ingest", trained)
    assert (newest.status, newest.due_at) == ("ok", NOON)


def test_two_jobs_of_a_kind_never_run_at_once(scheduler, trained, store):
    """The second one ends with 409 and says so."""
    number = append_job(store, "ingest", trained, asked_by="api")
    with database_lock(store, f"ingest of {trained}"):
        done = run_job(scheduler.context, number)
    assert (done.status, done.error_status) == ("error", 409)


def test_an_interrupted_job_is_abandoned_and_its_lock_free(scheduler, market, trained, store, monkeypatch):
    """SIGTERM in the middle of a fetch: no half candle, no job that runs for ever."""

    def interrupt(*_):
        raise KeyboardInterrupt

    number = append_job(store, "ingest", trained, asked_by="scheduler", due_at=NOON)
    with monkeypatch.context() as patch:
        patch.setattr(type(market), "fetch_candles", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_job(scheduler.context, number)
    assert read_job(store, number).status == "abandoned"
    with database_lock(store, f"ingest of {trained}"):
        pass


def test_a_series_without_candles_is_filled_at_the_start(store, settings, market):
    """The scheduler begins with a backfill, once."""
    scheduler = NoTraining(JobContext(settings, store, market))
    scheduler._begin()
    found = read_jobs(store, kinds=["backfill"])
    assert [(item.status, item.result["inserted"]) for item in found] == [("ok", 9 * 288)]
    finish_job(store, append_job(store, "ingest", scheduler.keys[0], asked_by="api"), result={})
    scheduler._begin()
    assert len(read_jobs(store, kinds=["backfill"])) == 1
