"""Routes that change something: ingest, backfill, train. Each is a job of the log."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from btcml.candles import SeriesKey
from btcml.errors import BtcmlError, NotReadyError
from btcml.pipeline.jobs import INTERRUPTED, JobContext, JobError, run_job, spawn_job
from btcml.pipeline.predict import seal
from btcml.pipeline.series import read_points
from btcml.serve.parameters import Allowed, Async, Key, State
from btcml.serve.problems import responses
from btcml.serve.routes import job_facts
from btcml.serve.schemas import BackfillResponse, CountResponse, IngestResponse, JobResponse, TrainResponse
from btcml.serve.service import Service
from btcml.store.forecasts import count_scored
from btcml.store.jobs import Job, append_job, finish_job, read_job
from btcml.store.models import read_champion

router = APIRouter(tags=["actions"], dependencies=[Allowed])

_STOPPED = (-signal.SIGTERM, INTERRUPTED)
_ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"model": JobResponse, "description": "Accepted as a job."}}
_PROBLEMS = responses(401, 403, 404, 409, 500, 502)


def _append(service: Service, request: Request, kind: str, key: SeriesKey, **parameters: Any) -> int:
    """Add the job to the log."""
    request_id = str(request.scope.get("request_id", ""))
    job = append_job(service.store, kind, key, asked_by="api", parameters=parameters, request_id=request_id)
    assert job is not None  # noqa: S101 - only a due time can be there already
    return job


async def _run_in_process(service: Service, job_id: int) -> Job:
    """Run a job in its own process, and wait for it."""
    process = spawn_job(service.settings, job_id, service.source.market)
    service.children.add(process)
    try:
        await asyncio.to_thread(process.wait)
    finally:
        if process.poll() is not None:
            service.children.discard(process)
    job = await run_in_threadpool(read_job, service.store, job_id)
    if job.status in {"queued", "running"}:
        sentence = f"the process of job {job_id} ended with status {process.returncode} before the job did"
        status = "abandoned" if process.returncode in _STOPPED else None  # before it could begin
        await run_in_threadpool(finish_job, service.store, job_id, error=sentence, error_status=500, status=status)
        job = await run_in_threadpool(read_job, service.store, job_id)
    return job


def _result(job: Job) -> dict[str, Any]:
    if job.status == "ok":
        return {"job_id": job.id} | (job.result or {})
    raise JobError(job)


async def _long(service: Service, request: Request, job_id: int, *, at_once: bool) -> Any:
    """Answer 202 at once, or wait for the end."""
    work = asyncio.create_task(_run_in_process(service, job_id))
    if not at_once:
        return _result(await work)
    request.app.state.work.add(work)
    work.add_done_callback(request.app.state.work.discard)
    job = await run_in_threadpool(read_job, service.store, job_id)
    body = JobResponse.model_validate(job_facts(job)).model_dump(mode="json")
    return JSONResponse(body, 202, {"Location": f"/jobs/{job_id}", "Preference-Applied": "respond-async"})


@router.post("/ingest/run", response_model=IngestResponse, responses=_PROBLEMS)
@router.post("/ingest", response_model=IngestResponse, responses=_PROBLEMS)
def ingest_run(
    service: State,
    request: Request,
    key: Key,
    limit: Annotated[int, Query(ge=1, le=1000, description="Accepted; what is new is always fetched whole.")] = 1000,
) -> dict[str, Any]:
    """Fetch new and restated candles, and seal the next forecast where there is a model."""
    context = JobContext(service.settings, service.store, service.source)
    job = run_job(context, _append(service, request, "ingest", key, limit=limit), wait=True)
    service.changes.touch("candles")
    result = _result(job)
    if read_champion(service.store, key) is not None:
        with contextlib.suppress(BtcmlError):  # the ingest went well: /ready and /predict report what did not
            _sealed(service, key)
    return result


def _sealed(service: Service, key: SeriesKey) -> int:
    """Seal the next forecast if it is not too late; how many rows were written."""
    try:
        done = seal(service.store, service.settings, key, {key: service.served(key)})
    except NotReadyError:
        return 0
    service.changes.touch("forecasts")
    return int(done["sealed"]) + int(done["late"])


@router.post("/init/backfill", response_model=BackfillResponse, responses=_PROBLEMS | _ACCEPTED)
async def init_backfill(
    service: State,
    request: Request,
    key: Key,
    at_once: Async,
    days: Annotated[int, Query(ge=1, le=5000)] = 90,
    sleep_ms: Annotated[int, Query(ge=0, le=60_000, description="Accepted; the exchange's limits are kept.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Accepted; pages are as large as they may be.")] = 1000,
) -> Any:
    """Fetch what is missing of the last `days`; with ``Prefer: respond-async`` 202 and a job."""
    given = {"days": days, "sleep_ms": sleep_ms, "limit": limit}
    job_id = await run_in_threadpool(_append, service, request, "backfill", key, **given)
    return await _long(service, request, job_id, at_once=at_once)


@router.post(
    "/train",
    response_model=TrainResponse,
    response_model_exclude_unset=True,
    responses=_PROBLEMS | _ACCEPTED,
)
async def train(
    service: State,
    request: Request,
    key: Key,
    at_once: Async,
    days: Annotated[int, Query(ge=1, le=5000)] = 1095,
) -> Any:
    """Train on the last `days`, judge at most once a day; with ``Prefer: respond-async`` 202 and a job."""
    job_id = await run_in_threadpool(_append, service, request, "train", key, days=days)
    return await _long(service, request, job_id, at_once=at_once)


@router.post("/series/rebuild", response_model=CountResponse, responses=_PROBLEMS)
@router.post("/train/apply", response_model=CountResponse, responses=_PROBLEMS)
def series_rebuild(service: State, key: Key, days: Annotated[int, Query(ge=1, le=5000)] = 90) -> CountResponse:
    """Count the out-of-sample points of the last `days`: they are joined on request, never rebuilt."""
    now = service.now(key)
    champion = read_champion(service.store, key)
    span = (now - key.delta * int(days * 86_400 / key.delta.total_seconds() + 1), now)
    points = read_points(service.store, service.settings, key, span, champion.name if champion else None)
    return CountResponse(count=len(points))


@router.post("/futuros/update", response_model=CountResponse, responses=_PROBLEMS)
@router.post("/futures/update", response_model=CountResponse, responses=_PROBLEMS)
def futuros_update(service: State, key: Key) -> CountResponse:
    """Seal the next forecast if it can still be, and count the sealed ones with an outcome."""
    sealed = _sealed(service, key)
    return CountResponse.model_validate({"count": count_scored(service.store, key), "sealed": sealed})
