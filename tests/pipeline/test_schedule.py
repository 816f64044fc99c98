from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections import Counter

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey, empty_candles
from btcml.continuity import suspect_spans
from btcml.errors import MarketError
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.doctor import _audits
from btcml.pipeline.ingest import audit_span, backfill
from btcml.pipeline.jobs import JobContext, run_job
from btcml.pipeline.schedule import MAX_ATTEMPTS, Due, Scheduler, due_now
from btcml.pipeline.sources import make_source
from btcml.store.candles import read_candles, upsert_candles
from btcml.store.chain import verify_chain
from btcml.store.engine import database_lock
from btcml.store.forecasts import read_scored
from btcml.store.jobs import Job, append_job, finish_job, last_ok, last_scheduled, read_job, read_jobs, start_job
from btcml.testing.exchange import running_exchange
from btcml.testing.faults import Fault

from ..processes import until  # noqa: TID252 - of all tests
from ..replayed import TurnedClock, turn_clock  # noqa: TID252 - where drills begin

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


def test_what_went_well_without_its_effect_is_done_again_soon():
    """The exchange did not have the newest candle yet: half a second, one, two; not for ever."""
    for attempt, pause in ((1, 0.5), (2, 1), (3, 2)):
        early, soon = (REAL + pd.Timedelta(seconds=pause - step) for step in (0.1, 0))
        assert due_now(job("ok", attempt=attempt), NOON, FIVE, early, complete=False) is None
        assert due_now(job("ok", attempt=attempt), NOON, FIVE, soon, complete=False) == Due(NOON, 0, attempt + 1)
    assert due_now(job("ok", attempt=MAX_ATTEMPTS), NOON, FIVE, REAL + FIVE, complete=False) is None


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
    assert Counter((found.kind, found.status) for found in jobs) == {
        ("ingest", "ok"): 10,
        ("forecast", "ok"): 10,
        ("train", "queued"): 1,
        ("backfill", "ok"): 1,
    }


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


@pytest.mark.parametrize("every", ["1h", "7m"])
def test_a_candle_is_fetched_at_its_close_however_seldom_an_ingest_is_due(store, settings, market, trained, every):
    """Ten closes, ten forecasts: the setting is the longest pause."""
    scheduler = NoTraining(JobContext(settings.model_copy(update={"btcml_ingest_every": every}), store, market))
    for _ in range(10):
        scheduler.tick()
        market.turn(market.time + FIVE)
    assert read_scored(store, trained, role="champion")["status"].tolist() == ["sealed"] * 10


def test_a_candle_that_the_exchange_has_late_is_fetched_within_its_time(scheduler, market, trained, store, monkeypatch):
    """The first attempt's answers end a candle earlier; the second, soon after, has it, and the forecast is sealed."""
    fetch = type(market).fetch_candles

    def late(self, symbol, interval, start, end, on_page=None):
        first = last_scheduled(store, "ingest", trained).attempt == 1
        return fetch(self, symbol, interval, start, min(end, NOON if first else end), on_page)

    scheduler.tick()
    market.turn(market.time + FIVE)
    scheduler.speed = 1000.0  # pauses of a fast market are short
    monkeypatch.setattr(type(market), "fetch_candles", late)
    until(lambda: scheduler.tick() and len(read_scored(store, trained, role="champion")) == 2)
    newest = last_scheduled(store, "ingest", trained)
    assert (newest.status, newest.attempt, newest.due_at) == ("ok", 2, NOON + FIVE)


def test_a_forecast_is_sealed_before_older_candles_are_requested_again(scheduler, trained, store, monkeypatch):
    """What takes long in an ingest comes after."""
    sealed = []

    def suspects(*_):
        sealed.append(len(read_scored(store, trained, role="champion")))
        return suspect_spans(empty_candles(), "5m")

    monkeypatch.setattr("btcml.pipeline.ingest._suspects", suspects)
    scheduler.tick()
    assert sealed == [1]


def test_a_series_whose_exchange_hangs_delays_no_other(store, settings, market, trained, monkeypatch):
    """Its ingest never ends; the other's forecast is sealed meanwhile, and the next one too."""
    fetch, hanging, go_on = type(market).fetch_candles, threading.Event(), threading.Event()

    def hang(self, symbol, *arguments):
        if symbol == "ETHUSDT":
            hanging.set()
            go_on.wait()
        return fetch(self, symbol, *arguments)

    ours = settings.model_copy(update={"btcml_symbols": ("ETHUSDT", "BTCUSDT")})
    scheduler = NoTraining(JobContext(ours, store, market))
    monkeypatch.setattr(scheduler, "_begin", lambda: None)
    monkeypatch.setattr(type(market), "fetch_candles", hang)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        until(hanging.is_set)
        for count in (1, 2):
            until(lambda count=count: len(read_scored(store, trained, role="champion")) == count)
            market.turn(market.time + FIVE)
    finally:
        scheduler.stop.set()
        go_on.set()
        thread.join()


def test_what_nobody_expects_in_a_series_ends_the_scheduler(scheduler, monkeypatch):
    """It is raised where the process ends with it, not lost in a thread."""
    monkeypatch.setattr(scheduler, "_begin", lambda: None)
    monkeypatch.setattr(scheduler, "_tick", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scheduler.run()


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


OLD = pd.Timestamp("2024-12-10 05:00", tz="UTC")


@pytest.fixture
def audited(settings, store, owner, tmp_path):
    """A scheduler of a replay exchange with an archive: 120 days are stored, then one old candle is restated."""
    clock = TurnedClock(NOON + pd.Timedelta("2s"))
    with running_exchange(SimulatedMarket(), clock, name="audited") as exchange:
        hosts = {"btcml_binance_urls": (exchange.url,), "btcml_archive_url": exchange.url}
        changes = {"btcml_source": "binance", "btcml_interval": "1h", "btcml_home": tmp_path}
        source = make_source(settings.model_copy(update=hosts | changes), "binance", store)
        key = SeriesKey("replay:audited", "BTCUSDT", "1h")
        ours = settings.model_copy(update=hosts | changes)
        backfill(store, source, key, (clock.time - pd.Timedelta(days=120), clock.time))
        exchange.faults.add(Fault(kind="restated", route="any", times=0, start=OLD, end=OLD + pd.Timedelta("1h")))
        scheduler = NoTraining(JobContext(ours, store, source))

        def day():
            """Tick on the next day, and return the audit and what was asked of the exchange."""
            clock.time += pd.Timedelta(days=1)
            turn_clock(owner, key.market, clock.time)
            before = len(exchange.log)
            scheduler.tick()
            scheduler.tick()
            return last_ok(store, "backfill", key, audit=True), list(exchange.log)[before:]

        yield day, key


def test_the_scheduler_finds_what_was_restated_long_ago(audited, store, caplog):
    """A month a day, older than an ingest reads: revised, old values kept, told in job, log and doctor."""
    day, key = audited
    old = read_candles(store, key, OLD, OLD + pd.Timedelta("1h"))
    november, _ = day()
    assert november.result["until"] == "2024-12-01T00:00:00+00:00"
    assert (november.result["revised"], read_candles(store, key, OLD).iloc[0]["low"]) == (0, old["low"].iloc[0])
    december, _ = day()
    assert (december.parameters, december.result["revised"]) == ({"audit": True}, 1)
    assert read_candles(store, key, OLD)["low"].iloc[0] == pytest.approx(old["low"].iloc[0] * 0.999)
    with store.engine.connect() as connection:
        kept = connection.execute(text("SELECT open_time, low, volume, source FROM candle_revisions")).one()
    assert kept == (OLD, old["low"].iloc[0], old["volume"].iloc[0], key.market)
    warnings = [json.loads(record.message) for record in caplog.records if record.levelname == "WARNING"]
    assert [(said["job_id"], said["result"]["revised"]) for said in warnings] == [(december.id, 1)]
    finding = _audits(store, key)
    assert finding.status == "warn"
    assert "2 audits of older candles in 31 days, which found 1 restated" in finding.found


def test_audits_read_the_whole_history_once_in_a_month_by_checksums(audited, store):
    """By files whose checksum is the known one, nothing but the checksum is asked; then the first month again."""
    day, key = audited
    spans, asked = [], []
    for _ in range(6):
        audit, seen = day()
        spans.append((audit.result["since"][:10], audit.result["until"][:10]))
        asked.append([found.path.rsplit("/", 1)[-1] for found in seen if found.path.startswith("/data/")])
    first, last = read_candles(store, key)["open_time"].iloc[[0, -1]]
    edge = last - pd.Timedelta("719h")
    assert spans[0] == spans[4] == (f"{first:%Y-%m-%d}", "2024-12-01")
    assert spans[1:3] == [("2024-12-01", "2025-01-01"), ("2025-01-01", "2025-02-01")]
    assert spans[3][0] == "2025-02-01"
    assert spans[3][1] < f"{edge:%Y-%m-%d}" < "2025-03-01"
    assert asked[4] == ["BTCUSDT-1h-2024-11.zip.CHECKSUM"]
    assert asked[5] == ["BTCUSDT-1h-2024-12.zip.CHECKSUM"]


def test_an_audit_that_failed_is_done_again_and_skips_nothing(audited, monkeypatch):
    """The next one begins where the last that succeeded ended."""
    day, _ = audited
    november, _ = day()
    with monkeypatch.context() as patch:
        patch.setattr("btcml.pipeline.jobs.backfill", lambda *_, **__: (_ for _ in ()).throw(MarketError("down")))
        assert day()[0].id == november.id
    assert day()[0].result["since"] == november.result["until"]


def test_audits_cover_any_history_in_28_days(store):
    """Eight years are four months a day; a history that every ingest reads again needs none."""
    key, now = SeriesKey("replay:still", "BTCUSDT", "1d"), NOON
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "1d", pd.Timestamp("2017-08-17", tz="UTC"), now)
    upsert_candles(store, key, frame, source=key.market, at=now)
    spans = [audit_span(store, key, now, None)]
    while spans[-1][1] < now.floor("D") - pd.Timedelta(days=720):
        spans.append(audit_span(store, key, now, spans[-1][1]))
    assert spans[0][0] == frame["open_time"].iloc[0]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    assert len(spans) <= 28
    assert audit_span(store, key, now, spans[-1][1]) == spans[0]
    start, end = audit_span(store, SeriesKey("replay:still", "BTCUSDT", "1w"), now, None)
    assert start == end
