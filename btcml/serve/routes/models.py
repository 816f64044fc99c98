"""The forecast, its model, and the log of what was done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.concurrency import run_in_threadpool

from btcml.pipeline.evaluate import series_folder
from btcml.serve.deps import Interval, Key, State, Symbol
from btcml.serve.problems import responses
from btcml.serve.schemas import JobAnswer, Jobs, Metrics, ModelInfo
from btcml.serve.shapes import Prediction
from btcml.serve.state import Answer
from btcml.store.jobs import KINDS, STATUSES, Job, read_job, read_jobs
from btcml.store.models import ModelRecord, read_models

__all__ = ["job_facts", "router"]

router = APIRouter(tags=["forecast"])


@router.post("/predict", response_model=Prediction, responses=responses(409, 500))
async def predict(service: State, symbol: Symbol = "BTCUSDT", interval: Interval = None) -> Response:
    """Answer the forecast of the next candle: close, whole candle, 90 % interval, probability up, model, seal."""
    answer = service.ready_answer(symbol, interval)
    if answer is None:
        answer = await run_in_threadpool(service.answer, symbol, interval)
    return Response(_aged(answer), media_type="application/json")


def _aged(answer: Answer) -> bytes:
    age = max(answer.clock.now() - answer.trained, 0.0)
    return b'%s, "model_age_seconds": %.3f}' % (answer.body, age)


def _training(job: Job) -> dict[str, Any]:
    times = {"started_at": job.started_at, "finished_at": job.finished_at}
    return {"status": job.status} | (job.result or {}) | {"status": job.status} | times


@router.get("/metrics", response_model=Metrics, responses=responses())
def metrics(service: State, key: Key, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> dict[str, Any]:
    """Answer the newest training's figures beside persistence's, and those of the last ones."""
    jobs = read_jobs(service.store, key=key, kinds=["train"], statuses=["ok"], limit=limit)
    items = [_training(job) for job in jobs]
    return (items[0] if items else {"status": "empty"}) | {"items": items}


@router.get("/model/info", response_model=ModelInfo, responses=responses())
def model_info(service: State, key: Key) -> dict[str, Any]:
    """Answer where the models of a series are, and what they are."""
    folder = series_folder(service.settings, key)
    models = read_models(service.store, key)
    files = sorted(str(file.relative_to(folder)) for file in folder.glob("*/*") if file.is_file())
    return {
        "models_dir": str(service.settings.models),
        "exists": folder.is_dir(),
        "files": files,
        "models": [_model(record) for record in models],
    }


def _model(record: ModelRecord) -> dict[str, Any]:
    table = {row["model"]: row for row in record.verdict.get("table", [])}
    ratio = table.get(record.name, {}).get("ratio")
    return {
        "id": f"{record.artifact}/{record.name}",
        "name": record.name,
        "role": record.role,
        "champion": record.role == "champion",
        "target": "close",
        "trained_at": record.trained_at,
        "snapshot": record.snapshot,
        "window": [record.window_start, record.window_end],
        "samples": record.samples,
        "skill": None if ratio is None else 1 - ratio,
        "mae": record.metrics.get("mae_usd"),
        "coverage": record.metrics.get("coverage"),
        "coverage_by_third": {third: record.metrics.get(f"coverage_{third}") for third in ("calm", "middle", "storm")},
        "metrics": record.metrics,
        "verdict": record.verdict.get("reason"),
    }


def job_facts(job: Job) -> dict[str, Any]:
    """Plain values of a job."""
    facts = vars(job) | {"market": job.key.market, "symbol": job.key.symbol, "interval": job.key.interval}
    facts.pop("key")
    return facts


Kind = Annotated[Literal["ingest", "train", "backfill", "forecast"] | None, Query(description="Only this kind.")]
Status = Annotated[
    Literal["queued", "running", "ok", "error", "missed", "abandoned"] | None, Query(description="Only this status.")
]
_MOST_ID = 2**63 - 1


@router.get("/jobs", response_model=Jobs, responses=responses())
def jobs(
    service: State,
    kind: Kind = None,
    status: Status = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before: Annotated[int | None, Query(ge=1, le=_MOST_ID)] = None,
) -> dict[str, Any]:
    """Answer the log of jobs, newest first."""
    found = read_jobs(
        service.store,
        kinds=[kind] if kind else KINDS,
        statuses=[status] if status else STATUSES,
        limit=limit,
        before=before,
    )
    following = found[-1].id if len(found) == limit else None
    return {"items": [job_facts(job) for job in found], "next_before": following}


@router.get("/jobs/{job_id}", response_model=JobAnswer, responses=responses(404))
def job(service: State, job_id: Annotated[int, Path(ge=1, le=_MOST_ID)]) -> dict[str, Any]:
    """Answer one job."""
    return job_facts(read_job(service.store, job_id))
