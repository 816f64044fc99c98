from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import requests

from btcml.pipeline.jobs import environment, spawn_job
from btcml.store.jobs import append_job, read_job, read_jobs

from ..processes import WAIT_S, started, until  # noqa: TID252 - of all tests


def test_a_job_is_done_by_a_process_of_its_own(service):
    """Queued here, done there, in the log everywhere."""
    number = append_job(service.store, "ingest", service.key, asked_by="api")
    assert spawn_job(service.settings, number, service.key.market).wait(timeout=WAIT_S) == 0
    assert read_job(service.store, number).status == "ok"


def test_a_process_that_is_stopped_leaves_no_running_job(service):
    """SIGTERM: abandoned or never begun, and no traceback."""
    number = append_job(service.store, "train", service.key, asked_by="api", parameters={"days": 9})
    process = spawn_job(service.settings, number, service.key.market)
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
    with started(command, env=environment(service.settings), stderr=subprocess.DEVNULL) as api:
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


def test_a_client_that_waits_for_a_training_gets_503_when_the_service_stops(service):
    """503 with a sentence, not a cut connection."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "btcml.cli", "api", "--port", url.rpartition(":")[2]]
    with (
        started(command, env=environment(service.settings), stderr=subprocess.PIPE) as api,
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


def test_a_job_process_does_not_choose_the_market_again(service, monkeypatch):
    """Where the source is auto, what was decided here holds there."""
    seen = []
    other = SimpleNamespace(Popen=lambda *_, **options: seen.append(options["env"]), DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr("btcml.pipeline.jobs.subprocess", other)
    ours = service.settings.model_copy(update={"btcml_source": "auto"})
    for name in ("simulated", "binance", "replay:x"):
        spawn_job(ours, 1, name)
    assert [env["BTCML_SOURCE"] for env in seen] == ["simulated", "binance", "binance"]


def answers(url):
    """Whether a service that is just starting answers."""
    try:
        return requests.get(url + "/health", timeout=WAIT_S).ok
    except requests.ConnectionError:
        return False
