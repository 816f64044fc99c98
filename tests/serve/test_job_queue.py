from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from btcml.serve import job_queue
from btcml.serve.api import create_app
from btcml.serve.job_queue import WAITING, JobQueue
from btcml.store.engine import database_lock
from btcml.store.jobs import finish_job, read_job, read_jobs

from ..processes import WAIT_S, until  # noqa: TID252 - of all tests
from .conftest import Listening

ASYNC = {"Prefer": "respond-async"}


class Spawned(list):
    """Processes in the place of jobs: each runs until it is released."""

    def __call__(self, *_):
        self.append(subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE))
        return self[-1]

    def release(self):
        """End the newest one."""
        self[-1].stdin.close()


@pytest.fixture
def spawned(monkeypatch):
    processes = Spawned()
    monkeypatch.setattr(job_queue, "spawn_job", processes)
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()


@pytest.fixture
def joined(monkeypatch):
    """What the queue has answered to each client, those that still wait too."""
    found, add = [], JobQueue.add

    async def _add(*arguments):
        found.append(await add(*arguments))
        return found[-1]

    monkeypatch.setattr(JobQueue, "add", _add)
    return found


@pytest.fixture
def url(service, spawned):  # noqa: ARG001 - no real training
    with Listening(create_app(service.settings, service.store)) as found:
        yield found


def ask(url, paths, **options):
    """Send requests at once, and return the answers."""
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: requests.post(url + path, timeout=WAIT_S, **options), paths))


@pytest.mark.parametrize("path", ["/train?days={}", "/init/backfill?days={}"])
def test_twelve_jobs_at_once_are_one_process_and_a_short_queue(url, spawned, service, path):
    """One runs, four wait and know their place; the others are told when to try again. They run one by one."""
    answers = ask(url, [path.format(days) for days in range(9, 21)], headers=ASYNC)
    accepted = [answer.json() for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert (len(accepted), len(refused)) == (1 + WAITING, 11 - WAITING)
    assert sorted(job["place"] for job in accepted) == list(range(1 + WAITING))
    for answer in refused:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"
        assert f"job runs and {WAITING} wait: try again in" in answer.json()["detail"]
    for count in range(1, 2 + WAITING):
        until(lambda count=count: len(spawned) == count)
        spawned.release()
    until(lambda: all(read_job(service.store, job["id"]).finished_at for job in accepted))
    assert requests.get(f"{url}/jobs/{accepted[0]['id']}", timeout=WAIT_S).json()["place"] is None
    assert len(spawned) == 1 + WAITING


def test_the_same_training_asked_again_is_the_same_job(url, spawned, joined, service):
    """Nine clients, those that wait too, have one process and one answer."""
    first = ask(url, ["/train?days=9"] * 6, headers=ASYNC)
    assert len({answer.json()["id"] for answer in first}) == 1
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(requests.post, f"{url}/train?days=9", timeout=WAIT_S) for _ in range(3)]
        until(lambda: len(joined) == 9 and spawned)
        spawned.release()
        ended = [answer.result() for answer in waiting]
    assert len(spawned) == 1
    job = read_job(service.store, first[0].json()["id"])
    assert {answer.status_code for answer in ended} <= {500}  # the process of this test is no training
    assert job.status == "error"


def test_a_training_of_the_scheduler_has_its_place_in_the_queue(url, spawned, service, caplog):
    """Who asks meanwhile is told: by the place, by the log, and at the end by the seconds that it took."""
    caplog.set_level("INFO", "btcml.serve")
    with database_lock(service.store, f"train of {service.key}"):
        jobs = [answer.json() for answer in ask(url, ["/train?days=9", "/train?days=10"], headers=ASYNC)]
        assert sorted(job["place"] for job in jobs) == [1, 2]
        until(lambda: spawned)
    first = min(job["id"] for job in jobs)
    assert f"job {first} waits: another process runs a train of {service.key}" in caplog.messages
    assert requests.get(f"{url}/jobs/{first}", timeout=WAIT_S).json()["place"] == 0


def test_an_answer_says_how_long_its_job_waited(url, spawned, service):
    """A backfill of nothing, which began a while after it was asked for."""
    result = {"status": "ok", "fetched": 0, "inserted": 0, "revised": 0, "quarantined": 0, "calls": 0, "days": 9}
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.post, f"{url}/init/backfill?days=9", timeout=WAIT_S)
        until(lambda: spawned)
        job = read_jobs(service.store, kinds=["backfill"], limit=1)[0]
        finish_job(service.store, job.id, result=result)
        spawned.release()
        answer = waiting.result().json()
    job = read_job(service.store, job.id)
    assert answer["waited_seconds"] == round((job.started_at - job.created_at).total_seconds(), 1)


def test_a_service_that_stops_begins_no_job_that_waits(service, spawned):
    """It is closed as abandoned, and its client gets a 503."""
    with Listening(create_app(service.settings, service.store)) as url:
        jobs = [answer.json()["id"] for answer in ask(url, ["/train?days=9", "/train?days=10"], headers=ASYNC)]
        until(lambda: spawned)
    until(lambda: all(read_job(service.store, job).finished_at for job in jobs))
    assert [read_job(service.store, job).status for job in jobs] == ["abandoned", "abandoned"]
    assert len(spawned) == 1
