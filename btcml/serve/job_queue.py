"""Long jobs of the API: one of a kind runs, in a process of its own, a few wait, and more are refused."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.concurrency import run_in_threadpool

from btcml.errors import QueueFullError
from btcml.pipeline.jobs import INTERRUPTED, spawn_job
from btcml.store.engine import lock_is_held
from btcml.store.jobs import Job, append_job, finish_job, read_job
from btcml.system import end_processes

if TYPE_CHECKING:
    import subprocess

    from btcml.candles import SeriesKey
    from btcml.serve.service import Service

WAITING = 4
"""Jobs of a kind that may wait behind the one that runs."""

_KINDS = ("train", "backfill")
_FIRST_RETRY_S = 60.0
_STOPPED = (-signal.SIGTERM, INTERRUPTED)
_log = logging.getLogger("btcml.serve")


@dataclass(frozen=True, eq=False)
class QueuedJob:
    """A job that runs or waits.

    Attributes
    ----------
    task
        Its work; the result is the job as the log has it at the end.
    """

    id: int
    kind: str
    key: SeriesKey
    parameters: dict[str, Any]
    task: asyncio.Task[Job]


class JobQueue:
    """The queue of one process of the service.

    Parameters
    ----------
    service
        Settings, database and market.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._entries: list[QueuedJob] = []
        self._turns = {kind: asyncio.Lock() for kind in _KINDS}
        self._adding = asyncio.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._took = dict.fromkeys(_KINDS, _FIRST_RETRY_S)

    async def add(self, kind: str, key: SeriesKey, parameters: dict[str, Any], request_id: str) -> QueuedJob:
        """Add a job; where the same one runs or waits, that one is the answer.

        Raises
        ------
        QueueFullError
            If too many wait.
        """
        async with self._adding:
            of_kind = [entry for entry in self._entries if entry.kind == kind]
            for entry in of_kind:
                if (entry.key, entry.parameters) == (key, parameters):
                    return entry
            if len(of_kind) > WAITING:
                again = self._took[kind]
                msg = f"a {kind} job runs and {WAITING} wait: try again in {again:.0f} s, or look at GET /jobs"
                raise QueueFullError(msg, again)
            facts: dict[str, Any] = {"asked_by": "api", "parameters": parameters, "request_id": request_id}
            job_id = await run_in_threadpool(append_job, self._service.store, kind, key, **facts)
            assert job_id is not None  # noqa: S101 - only a due time can be there already
            entry = QueuedJob(job_id, kind, key, parameters, asyncio.create_task(self._work(kind, key, job_id)))
            self._entries.append(entry)
            entry.task.add_done_callback(lambda task: self._drop(entry, task))
            return entry

    def place(self, job: Job) -> int | None:
        """Count the jobs before one, those that run included; None of one that is not in the queue."""
        same = [entry for entry in list(self._entries) if entry.kind == job.kind]
        numbers = [entry.id for entry in same]
        if job.id not in numbers:
            return None
        first = read_job(self._service.store, numbers[0])
        return numbers.index(job.id) + (first.status == "queued" and self._runs_elsewhere(first.kind, first.key))

    def _runs_elsewhere(self, kind: str, key: SeriesKey) -> bool:
        """Whether a job of the kind runs that is not of this queue, such as a training of the scheduler."""
        return lock_is_held(self._service.store, f"{kind} of {key}")

    def _drop(self, entry: QueuedJob, task: asyncio.Task[Job]) -> None:
        self._entries.remove(entry)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("job %s: %s", entry.id, error)

    async def _work(self, kind: str, key: SeriesKey, job_id: int) -> Job:
        """Wait for the turn, run the job in its own process, and wait for its end."""
        async with self._turns[kind]:
            if self._stopped:
                return await run_in_threadpool(self._closed, job_id, _STOPPED[0])
            if await run_in_threadpool(self._runs_elsewhere, kind, key):
                _log.info("job %s waits: another process runs a %s of %s", job_id, kind, key)
            began = time.monotonic()
            process = spawn_job(self._service.settings, job_id, self._service.source.market)
            self._processes.add(process)
            try:
                await asyncio.to_thread(process.wait)
            finally:
                if process.poll() is not None:
                    self._processes.discard(process)
                self._service.changes.touch()  # the notifications of the database may come later than the response
            self._took[kind] = max(time.monotonic() - began, 1.0)
            return await run_in_threadpool(self._closed, job_id, process.returncode)

    def _closed(self, job_id: int, status: int) -> Job:
        """The job at its end; where its process could not close it, it is closed here."""
        store = self._service.store
        job = read_job(store, job_id)
        if job.status in {"queued", "running"}:
            sentence = f"the process of job {job_id} ended with status {status} before the job did"
            stopped = "abandoned" if status in _STOPPED else None  # before it could begin
            finish_job(store, job_id, error=sentence, error_status=500, status=stopped)
            job = read_job(store, job_id)
        return job

    def end(self) -> None:
        """End the jobs that run, and begin none any more."""
        self._stopped = True
        end_processes(list(self._processes))

    async def drain(self) -> None:
        """Wait until all jobs are closed in the log, after `end`."""
        await asyncio.gather(*(entry.task for entry in self._entries), return_exceptions=True)
