from __future__ import annotations

import pandas as pd
import pytest

from btcml.errors import NotReadyError
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline import doctor
from btcml.pipeline.doctor import examine
from btcml.pipeline.jobs import JobContext, run_job
from btcml.pipeline.predict import predict
from btcml.pipeline.progress import check_fresh, dead_feed, read_progress
from btcml.store.engine import database_lock
from btcml.store.forecasts import market_now
from btcml.store.jobs import append_job, finish_job, read_jobs, start_job
from btcml.testing.exchange import running_exchange

from ..replayed import TurnedClock, turn_clock  # noqa: TID252 - where drills begin
from .conftest import NOW

FIVE = pd.Timedelta("5min")


def ingested(settings, store, market, key, due_at=None):
    """The job of an ingest that ran now."""
    number = append_job(store, "ingest", key, asked_by="scheduler", due_at=due_at)
    return run_job(JobContext(settings, store, market), number)


def standing(store, key):
    return [str(found) for found in read_progress(store, key, market_now(store, key.market)).warnings]


def test_a_replay_that_was_started_again_is_told_wherever_one_looks(settings, store, market, trained):
    """Its clock is an hour behind the recorded one: no ingest goes well, and each check says why, and what to do."""
    assert ingested(settings, store, market, trained).status == "ok"
    market.time -= pd.Timedelta("1h")
    job = ingested(settings, store, market, trained)
    assert (job.status, job.error_status) == ("error", 503)
    assert "the clock of replay:still is 3600 s behind the recorded one" in job.error
    assert "another name (btcml exchange --name)" in job.error
    assert any(job.error in found for found in standing(store, trained))  # while the newest candle is fresh yet
    turn_clock(market.owner, market.market, NOW + 4 * FIVE)
    with pytest.raises(NotReadyError, match="3600 s behind the recorded one"):
        predict(store, settings, trained)
    assert job.error in read_progress(store, trained, NOW + 4 * FIVE).missing.cure


def test_a_replay_that_goes_on_by_its_recorded_clock_is_no_fault(settings, store, market, trained):
    """Also where the exchange was out of reach in between."""
    market.turn(NOW + FIVE)
    assert ingested(settings, store, market, trained).status == "ok"
    assert standing(store, trained) == []


def test_doctor_compares_a_replays_clock_with_the_recorded_one(settings, store, owner, tmp_path):
    """As it does with Binance's and this machine's."""
    clock = TurnedClock(NOW)
    with running_exchange(SimulatedMarket(), clock, name="asked") as exchange:
        changes = {"btcml_source": "binance", "btcml_binance_urls": (exchange.url,), "btcml_home": tmp_path}
        asked = settings.model_copy(update=changes)
        turn_clock(owner, "replay:asked", NOW)
        assert [found.status for found in doctor._exchange(asked, store)] == ["ok", "ok"]
        clock.time += pd.Timedelta("1h")
        _, finding = doctor._exchange(asked, store)
    assert (finding.status, "3600 s ahead of" in finding.found) == ("bad", True)
    assert "another name" in finding.cure


@pytest.mark.parametrize(("every", "allowed"), [("5m", "15min"), ("1m", "7min"), ("1h", "15min")])
def test_the_newest_candle_must_move_by_interval_and_rhythm(settings, store, trained, every, allowed):
    """A candle and two pauses between ingests, of which there is one at each close."""
    ours = settings.model_copy(update={"btcml_ingest_every": every})
    until = NOW.floor("5min")
    edge = until + pd.Timedelta(allowed)
    finish_job(store, append_job(store, "ingest", trained, asked_by="scheduler", due_at=until + FIVE), result={})
    assert dead_feed(store, ours, trained, until, edge) is None
    assert "the exchange has none" in dead_feed(store, ours, trained, until, edge + pd.Timedelta("1s")).cure


@pytest.mark.parametrize(("late", "status", "missing"), [("1.1", "ok", False), ("1.3", "warn", True)])
def test_doctor_and_ready_judge_the_newest_candle_alike(settings, store, owner, trained, late, status, missing):
    """A fifth of a candle after the next one has closed, no forecast of the open one can be served."""
    now = NOW.floor("5min") + float(late) * FIVE
    turn_clock(owner, trained.market, now)
    assert (read_progress(store, trained, now).missing is not None) is missing
    assert [found.status for found in examine(settings) if found.name == f"data {trained}"] == [status]


def test_a_feed_that_stopped_names_its_cause(settings, store, market, trained):
    """No ingest, one that failed, or an exchange that has nothing newer: three different things to do."""
    late = NOW + 4 * FIVE

    def cure():
        return read_progress(store, trained, late).missing.cure

    assert "btcml up" in cure()
    number = append_job(store, "ingest", trained, asked_by="scheduler")
    finish_job(store, number, error="the exchange answers 503: try again", error_status=502)
    assert cure() == "the last ingest failed, the exchange answers 503: try again"
    ingested(settings, store, market, trained, due_at=late.floor("5min"))
    assert "the exchange has none" in cure()
    with pytest.raises(NotReadyError, match="the exchange has none"):
        check_fresh(store, trained, NOW.floor("5min") - FIVE, late)


def test_an_open_candle_without_its_forecast_is_told(settings, store, market, trained):
    """After a fifth of it, where a model was in service before it opened."""
    market.turn(NOW + FIVE)
    assert ingested(settings, store, market, trained).status == "ok"
    assert standing(store, trained) == []
    market.turn(NOW + 1.3 * FIVE)
    (told,) = standing(store, trained)
    assert "no forecast of the candle of 2025-03-01 12:05 UTC: start the scheduler" in told
    context = JobContext(settings, store, market)
    run_job(context, append_job(store, "forecast", trained, asked_by="scheduler"))
    assert standing(store, trained) == []


def test_a_training_that_failed_or_was_killed_is_told(store, trained):
    """One that runs is not: a process holds its lock."""
    number = append_job(store, "train", trained, asked_by="scheduler")
    start_job(store, number)
    with database_lock(store, f"train of {trained}"):
        assert standing(store, trained) == []
    assert "was killed: run btcml train" in standing(store, trained)[0]
    finish_job(store, number, error="too few candles", error_status=409)
    assert "failed: too few candles" in standing(store, trained)[0]
    finish_job(store, append_job(store, "train", trained, asked_by="scheduler"), result={})
    assert standing(store, trained) == []


def test_doctor_shows_what_stands_still(settings, store, market, trained):
    """One line that all goes on, or one for each thing that does not."""
    name = f"progress {trained}"
    assert [found.status for found in examine(settings) if found.name == name] == ["ok"]
    finish_job(store, append_job(store, "train", trained, asked_by="cli"), error="out of memory")
    market.time -= FIVE
    ingested(settings, store, market, trained)
    found = [finding for finding in examine(settings) if finding.name == name]
    assert [finding.status for finding in found] == ["warn", "warn"]
    assert [job.kind for job in read_jobs(store, statuses=["error"])] == ["ingest", "train"]
