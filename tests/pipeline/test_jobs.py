from __future__ import annotations

import dataclasses
import errno

import pytest
from pydantic import SecretStr

from btcml.pipeline.jobs import JobContext, JobError, environment, run_job
from btcml.settings import Settings, load_settings
from btcml.store.chain import chain_head
from btcml.store.jobs import append_job, read_job


def test_a_process_of_its_own_has_the_same_settings(tmp_path, monkeypatch):
    """Whatever was set here is set there, secrets and lists too."""
    ours = Settings(
        btcml_home=tmp_path,
        btcml_api_key=SecretStr("k"),
        btcml_symbols=("BTCUSDT", "ETHUSDT"),
        btcml_binance_urls=("http://127.0.0.1:1",),
        btcml_source="binance",
        btcml_horizons=(1, 12),
    )
    for name, value in environment(ours).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == ours


def test_a_full_disk_ends_a_job_with_a_sentence(store, settings, market, series, monkeypatch):
    """No traceback, and the status of something that can be repaired."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("btcml.pipeline.jobs.train", refuse)
    job = run_job(JobContext(settings, store, market), append_job(store, "train", series, asked_by="api"))
    assert (job.status, job.error_status) == ("error", 503)
    assert "No space left on device): make room" in job.error


def test_markets_never_mix_in_a_job(store, settings, market, series):
    """A job about one market is refused by a process that draws from another."""
    number = append_job(store, "ingest", dataclasses.replace(series, market="simulated"), asked_by="api")
    job = run_job(JobContext(settings, store, market), number)
    assert (job.status, job.error_status) == ("error", 409)
    assert "is about the market simulated, but candles come from replay:still" in job.error


def test_every_job_writes_down_the_head_of_the_chain(store, settings, market, trained):
    """So that a tail that is cut off later is noticed."""
    context = JobContext(settings, store, market)
    run_job(context, append_job(store, "forecast", trained, asked_by="cli"))
    head = chain_head(store, trained)
    assert head["seq"] == "2"
    for kind in ("ingest", "backfill", "train"):
        number = append_job(store, kind, trained, asked_by="cli", parameters={"days": 9, "processes": 1})
        assert run_job(context, number).result["heads"] == head


def test_an_unforeseen_fault_ends_the_job_and_is_not_hidden(store, settings, market, series, monkeypatch):
    """The log has its name; the caller has the error itself."""

    def broken(*_):
        msg = "an unexpected fault"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(type(market), "fetch_candles", broken)
    number = append_job(store, "ingest", series, asked_by="api")
    with pytest.raises(ZeroDivisionError):
        run_job(JobContext(settings, store, market), number)
    job = read_job(store, number)
    assert (job.status, job.error_status) == ("error", 500)
    assert "ZeroDivisionError" in job.error
    assert JobError(job).status == 500


def test_an_ingest_counts_the_outcomes_of_forecasts(store, settings, market, trained):
    """futures_updated counts sealed forecasts whose candle came in."""
    context = JobContext(settings, store, market)
    assert run_job(context, append_job(store, "forecast", trained, asked_by="cli")).result["sealed"] == 2
    market.turn(market.time + trained.delta)
    done = run_job(context, append_job(store, "ingest", trained, asked_by="cli"))
    assert (done.result["inserted"], done.result["futures_updated"]) == (1, 1)
    assert run_job(context, append_job(store, "forecast", trained, asked_by="cli")).result["heads"]["seq"] == "4"


def test_a_forecast_that_could_not_be_made_in_time_is_missed(store, settings, market, trained):
    """The candle it would have been of has closed: the log says missed."""
    market.turn(market.time + trained.delta)
    job = run_job(JobContext(settings, store, market), append_job(store, "forecast", trained, asked_by="cli"))
    assert (job.status, job.error_status) == ("missed", 409)
