from __future__ import annotations

import dataclasses
import errno
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
from pydantic import SecretStr

from btcml.serve.work import Bench, JobError, environment, perform, spawn
from btcml.settings import Settings, load_settings
from btcml.store.chain import chain_head
from btcml.store.jobs import append_job, read_job, read_jobs

from .conftest import WAIT_S, until


def test_a_process_of_its_own_has_the_same_settings(tmp_path, monkeypatch):
    """Whatever was set here is set there, secrets and lists too."""
    ours = Settings(
        btcml_home=tmp_path,
        btcml_api_key=SecretStr("k"),
        btcml_symbols=("BTCUSDT", "ETHUSDT"),
        btcml_binance_urls=("http://127.0.0.1:1",),
        btcml_source="binance",
    )
    for name, value in environment(ours).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == ours


def test_a_job_is_done_by_a_process_of_its_own(service):
    """Queued here, done there, in the log everywhere."""
    number = append_job(service.store, "ingest", service.key, asked_by="api")
    assert spawn(service.settings, number, service.key.market).wait(timeout=WAIT_S) == 0
    assert read_job(service.store, number).status == "ok"


def test_a_process_that_is_stopped_leaves_no_running_job(service):
    """SIGTERM: abandoned or never begun, and no traceback."""
    number = append_job(service.store, "train", service.key, asked_by="api", parameters={"days": 9})
    process = spawn(service.settings, number, service.key.market)
    until(lambda: process.poll() is not None or read_job(service.store, number).status != "queued")
    process.terminate()
    assert process.wait(timeout=WAIT_S) != 0
    assert read_job(service.store, number).status == "abandoned"


def test_a_service_that_is_stopped_takes_its_training_along(service):
    """SIGTERM to the API: the training is abandoned, its process ended, and nothing half made is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "btcml.cli", "api", "--port", port]
    with subprocess.Popen(command, env=environment(service.settings), stderr=subprocess.DEVNULL) as api:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url))
        job = requests.post(url + "/train?days=9", headers={"Prefer": "respond-async"}, timeout=WAIT_S).json()["id"]
        until(lambda: read_job(service.store, job).status != "queued")
        children = psutil.Process(api.pid).children(recursive=True)
        api.terminate()
        api.wait(timeout=WAIT_S)
    assert read_job(service.store, job).status == "abandoned"
    assert children
    assert not psutil.wait_procs(children, timeout=WAIT_S)[1]
    assert not [path for path in service.settings.models.rglob("*") if path.name.startswith(".")]


def test_who_waits_for_a_training_is_told_when_the_service_stops(service):
    """503 with a sentence, not a cut connection."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "btcml.cli", "api", "--port", url.rpartition(":")[2]]
    with (
        subprocess.Popen(command, env=environment(service.settings), stderr=subprocess.PIPE) as api,
        ThreadPoolExecutor() as pool,
    ):
        until(lambda: answers(url))
        waiting = pool.submit(requests.post, url + "/train?days=9", timeout=WAIT_S)
        until(lambda: read_jobs(service.store, kinds=["train"], statuses=["running"]))
        api.terminate()
        answer = waiting.result()
        told = api.stderr.read().decode()
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in told


def test_a_full_disk_ends_a_job_with_a_sentence(store, settings, market, series, monkeypatch):
    """No traceback, and the status of something that can be mended."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("btcml.serve.work.train", refuse)
    job = perform(Bench(settings, store, market), append_job(store, "train", series, asked_by="api"))
    assert (job.status, job.error_status) == ("error", 503)
    assert "No space left on device): make room" in job.error


def answers(url):
    """Whether a service that is just starting answers."""
    try:
        return requests.get(url + "/health", timeout=WAIT_S).ok
    except requests.ConnectionError:
        return False


def test_markets_never_mix_in_a_job(store, settings, market, series):
    """A job about one market is refused by a process that draws from another."""
    number = append_job(store, "ingest", dataclasses.replace(series, market="simulated"), asked_by="api")
    job = perform(Bench(settings, store, market), number)
    assert (job.status, job.error_status) == ("error", 409)
    assert "is about the market simulated, but candles come from replay:still" in job.error


def test_a_process_of_its_own_does_not_decide_the_market_anew(service, monkeypatch):
    """Where the source is auto, what was decided here holds there."""
    seen = []
    monkeypatch.setattr("btcml.serve.work.subprocess.Popen", lambda *_, **options: seen.append(options["env"]))
    ours = service.settings.model_copy(update={"btcml_source": "auto"})
    for name in ("simulated", "binance", "replay:x"):
        spawn(ours, 1, name)
    assert [env["BTCML_SOURCE"] for env in seen] == ["simulated", "binance", "binance"]


def test_every_job_writes_down_the_head_of_the_chain(store, settings, market, trained):
    """So that a tail that is cut off later is noticed."""
    bench = Bench(settings, store, market)
    perform(bench, append_job(store, "forecast", trained, asked_by="cli"))
    head = chain_head(store, trained)
    assert head["seq"] == "2"
    for kind in ("ingest", "backfill", "train"):
        number = append_job(store, kind, trained, asked_by="cli", parameters={"days": 9, "processes": 1})
        assert perform(bench, number).result["heads"] == head


def test_an_unforeseen_fault_ends_the_job_and_is_not_hidden(store, settings, market, series, monkeypatch):
    """The log has its name; the caller has the error itself."""

    def broken(*_):
        msg = "nobody thought of this"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(type(market), "fetch_candles", broken)
    number = append_job(store, "ingest", series, asked_by="api")
    with pytest.raises(ZeroDivisionError):
        perform(Bench(settings, store, market), number)
    job = read_job(store, number)
    assert (job.status, job.error_status) == ("error", 500)
    assert "ZeroDivisionError" in job.error
    assert JobError(job).status == 500


def test_the_outcome_of_a_forecast_is_told_by_the_ingest_that_brings_it(store, settings, market, trained):
    """futures_updated counts sealed forecasts whose candle came in."""
    bench = Bench(settings, store, market)
    assert perform(bench, append_job(store, "forecast", trained, asked_by="cli")).result["sealed"] == 2
    market.turn(market.time + trained.delta)
    done = perform(bench, append_job(store, "ingest", trained, asked_by="cli"))
    assert (done.result["inserted"], done.result["futures_updated"]) == (1, 1)
    assert perform(bench, append_job(store, "forecast", trained, asked_by="cli")).result["heads"]["seq"] == "4"


def test_a_forecast_that_nobody_could_make_in_time_is_missed(store, settings, market, trained):
    """The candle it would have been of has closed: the log says missed."""
    market.turn(market.time + trained.delta)
    job = perform(Bench(settings, store, market), append_job(store, "forecast", trained, asked_by="cli"))
    assert (job.status, job.error_status) == ("missed", 409)
