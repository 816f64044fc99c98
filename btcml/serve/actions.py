"""Routes that change something: ingest, backfill, train, each a job of the log; forecast, seal, export."""

from __future__ import annotations

import asyncio
import contextlib
import json
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from btcml.candles import LONGEST_HORIZON, SeriesKey
from btcml.errors import BtcmlError, NotReadyError
from btcml.files import replaced_file
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.jobs import WAIT_S, JobContext, JobError, run_job
from btcml.pipeline.predict import at_horizon, seal
from btcml.pipeline.series import read_series
from btcml.serve.parameters import Allowed, Async, Interval, Key, State, Symbol, bearer, changing
from btcml.serve.problems import responses
from btcml.serve.routes import forecast_router, job_facts
from btcml.serve.schemas import (
    BackfillResponse,
    CountResponse,
    ExportResponse,
    ForecastResponse,
    IngestResponse,
    JobResponse,
    TrainResponse,
)
from btcml.serve.service import CachedForecast, Service
from btcml.store.candles import read_last_candles
from btcml.store.forecasts import count_scored
from btcml.store.jobs import Job, append_job, read_job
from btcml.store.models import read_champion

router = APIRouter(tags=["actions"], dependencies=[Allowed])

_ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"model": JobResponse, "description": "Accepted as a job."}}
_Limit = Annotated[int, Query(ge=1, le=1000, description="Accepted; what is new is always fetched whole.")]
_PROBLEMS = responses(401, 403, 404, 409, 500, 502)


def _result(job: Job) -> dict[str, Any]:
    if job.status == "ok":
        return {"job_id": job.id} | (job.result or {})
    raise JobError(job)


async def _long(
    service: Service, request: Request, kind: str, key: SeriesKey, *, at_once: bool, **parameters: Any
) -> Any:
    """Add a job to the queue; answer 202 at once, or wait for the end."""
    request_id = str(request.scope.get("request_id", ""))
    queued = await service.queue.add(kind, key, parameters, request_id)
    if not at_once:
        job = await asyncio.shield(queued.task)  # others may wait for it, too
        return _result(job) | {"waited_seconds": _waited(job)}
    job = await run_in_threadpool(read_job, service.store, queued.id)
    facts = job_facts(job) | {"place": await run_in_threadpool(service.queue.place, job)}
    body = JobResponse.model_validate(facts).model_dump(mode="json")
    return JSONResponse(body, 202, {"Location": f"/jobs/{queued.id}", "Preference-Applied": "respond-async"})


def _waited(job: Job) -> float:
    """Seconds until a job began."""
    return 0.0 if job.started_at is None else round((job.started_at - job.created_at).total_seconds(), 1)


@router.post("/ingest/run", response_model=IngestResponse, responses=_PROBLEMS)
@router.post("/ingest", response_model=IngestResponse, responses=_PROBLEMS)
def ingest_run(
    service: State,
    request: Request,
    key: Key,
    limit: _Limit = 1000,
) -> dict[str, Any]:
    """Fetch new and restated candles, and seal the next forecast where there is a model."""
    return _ingested(service, request, key, limit)


def _ingested(service: Service, request: Request, key: SeriesKey, limit: int) -> dict[str, Any]:
    context = JobContext(service.settings, service.store, service.source)
    facts: dict[str, Any] = {"asked_by": "api", "request_id": str(request.scope.get("request_id", ""))}
    number = append_job(service.store, "ingest", key, parameters={"limit": limit}, **facts)
    job = run_job(context, number or 0, wait=WAIT_S)
    service.changes.touch("candles")
    result = _result(job) | {"symbol": key.symbol, "interval": key.interval, "limit": limit}
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
    """Fetch what is missing of the last `days`; with ``Prefer: respond-async`` 202 and a job.

    One backfill runs and four wait, also for the scheduler's: `waited_seconds` says how long. One that is asked for
    again is the same job. More are a 503 with Retry-After.
    """
    given = {"days": days, "sleep_ms": sleep_ms, "limit": limit}
    return await _long(service, request, "backfill", key, at_once=at_once, **given)


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
    """Train on the last `days`, judge at most once a day; with ``Prefer: respond-async`` 202 and a job.

    One training runs and four wait, also for the scheduler's: `waited_seconds` says how long. One that is asked for
    again is the same job. More are a 503 with Retry-After.
    """
    found = await _long(service, request, "train", key, at_once=at_once, days=days)
    return found if at_once else await run_in_threadpool(_with_files, service, key, found)


def _with_files(service: Service, key: SeriesKey, result: dict[str, Any]) -> dict[str, Any]:
    """Facts of a training under the names of ML Crypto."""
    facts = {
        "version": result["artifact"],
        "model_path": str(series_folder(service.settings, key) / result["artifact"]),
    }
    return result | facts | {"n_rows": result["samples"], "n_features": len(service.served(key).forecaster.features)}


@router.post("/series/rebuild", response_model=CountResponse, response_model_exclude_none=True, responses=_PROBLEMS)
@router.post("/train/apply", response_model=CountResponse, response_model_exclude_none=True, responses=_PROBLEMS)
def series_rebuild(service: State, key: Key, days: Annotated[int, Query(ge=1, le=5000)] = 90) -> CountResponse:
    """Count the points of the last `days` that ``/series`` answers: they are joined on request, never rebuilt."""
    now = service.now(key)
    champion = read_champion(service.store, key)
    span = (now - key.delta * int(days * 86_400 / key.delta.total_seconds() + 1), now)
    rows = read_series(service.store, service.settings, key, span, champion.name if champion else None)
    return CountResponse(count=len(rows), materialized=len(rows))


@router.post("/futuros/update", response_model=CountResponse, response_model_exclude_none=True, responses=_PROBLEMS)
@router.post("/futures/update", response_model=CountResponse, response_model_exclude_none=True, responses=_PROBLEMS)
def futuros_update(service: State, key: Key) -> CountResponse:
    """Seal the next forecast if it can still be, and count the sealed ones with an outcome."""
    sealed = _sealed(service, key)
    return CountResponse(count=count_scored(service.store, key), updated=sealed)


@router.post("/export/parquet", response_model=ExportResponse, response_model_exclude_none=True, responses=_PROBLEMS)
def export_parquet(service: State, key: Key, n: Annotated[int, Query(ge=1, le=500_000)] = 10_000) -> ExportResponse:
    """Write the newest `n` candles to a Parquet file in the folder ``exports`` of BTCML_HOME."""
    candles = read_last_candles(service.store, key, n)
    if candles.empty:
        return ExportResponse(ok=False, message=f"no candles of {key} yet: POST /init/backfill, or btcml backfill")
    names = {"open_time": "ts"} | {name: name for name in ("open", "high", "low", "close", "volume")}
    table = candles[list(names)].rename(columns=names)
    table.insert(0, "symbol", key.symbol)
    name = f"{key.symbol}_{key.interval}_{candles['open_time'].iloc[-1]:%Y%m%d_%H%M%S}.parquet"
    file = service.settings.home / "exports" / key.market.replace(":", "-") / name
    with replaced_file(file) as new:
        table.to_parquet(new, index=False)
    return ExportResponse(ok=True, path=str(file), rows=len(table))


# Without dependencies, which would take a fifth of the time of a request.
@forecast_router.post(
    "/predict",
    response_model=ForecastResponse,
    responses=responses(401, 403, 404, 409, 500, 502),
    openapi_extra={"security": [{bearer.scheme_name: []}]},
)
async def predict(
    request: Request,
    symbol: Symbol = "BTCUSDT",
    interval: Interval = None,
    ingest_interval: Interval = None,
    ingest_limit: Annotated[int | None, Query(ge=1, le=1000, description="As that of /ingest/run.")] = None,
    horizon: Annotated[int, Query(ge=1, le=LONGEST_HORIZON, description="Candles ahead, of BTCML_HORIZONS.")] = 1,
    cost_bp: Annotated[float | None, Query(ge=0, le=1000, description="Cost of a round trip, in bp.")] = None,
) -> Response:
    """Return the forecast of the next candle: close, whole candle, 90 % interval, probability up, model, seal.

    With `horizon`, that of the close so many candles ahead, high and low being those until then. With `cost_bp`,
    also whether a round trip at this cost pays, at each horizon.

    With `ingest_interval`, which then is the interval, or `ingest_limit`, candles are fetched first, which
    needs the rights for it; where the exchange does not answer, the forecast is of the candles that are there.
    """
    service: Service = request.app.state.service
    interval = ingest_interval or interval
    if ingest_interval is not None or ingest_limit is not None:
        await changing(request, service, await bearer(request))
        await run_in_threadpool(_ingested_if_possible, service, request, symbol, interval, ingest_limit or 1000)
    cached = service.cached_forecast(symbol, interval)
    if cached is None:
        cached = await run_in_threadpool(service.new_forecast, symbol, interval)
    body = at_horizon(cached.bodies, horizon)
    if cost_bp is not None:
        body += b', "decisions": ' + json.dumps(cached.forecast.decisions(cost_bp)).encode()
    return Response(_with_age(body, cached), media_type="application/json")


def _ingested_if_possible(service: Service, request: Request, symbol: str, interval: str | None, limit: int) -> None:
    """Fetch; a failure of the exchange does not matter here, a mistake of the client does."""
    try:
        _ingested(service, request, service.key(symbol, interval), limit)
    except JobError as error:
        if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise


def _with_age(body: bytes, cached: CachedForecast) -> bytes:
    age = max(cached.clock.now() - cached.trained, 0.0)
    return b'%s, "model_age_seconds": %.3f}' % (body, age)
