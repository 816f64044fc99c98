"""The routes that read: status, candles, forecasts against reality, models and jobs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from btcml import __version__
from btcml.candles import LONGEST_HORIZON, SeriesKey
from btcml.errors import ArtifactError, BtcmlError, NotReadyError
from btcml.forecast.evaluation import seal_lags
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.predict import horizon_figures
from btcml.pipeline.progress import read_progress
from btcml.pipeline.publish import read_proof
from btcml.pipeline.series import best_model, evaluate_series, point_list, read_points, read_series
from btcml.serve.parameters import End, Key, Start, State
from btcml.serve.problems import responses
from btcml.serve.prometheus import exposition
from btcml.serve.schemas import (
    EvaluationResponse,
    FuturesResponse,
    HealthResponse,
    JobListResponse,
    JobResponse,
    MetricsResponse,
    ModelInfoResponse,
    PricesResponse,
    ReadyResponse,
    RootResponse,
    SeriesResponse,
)
from btcml.serve.service import Service
from btcml.store.candles import read_last_candles
from btcml.store.forecasts import read_futuros, read_seal_times
from btcml.store.jobs import KINDS, STATUSES, Job, read_job, read_jobs
from btcml.store.models import ModelRecord, read_champion, read_models


async def _conditional(
    if_none_match: Annotated[str | None, Header(description="ETag of what the client has already.")] = None,
) -> None:
    """Describe the header: `ResponseCache` compares it."""


status_router = APIRouter(tags=["status"])
candle_router = APIRouter(tags=["candles"], dependencies=[Depends(_conditional)])
"""Routes whose responses follow from the tables and the query alone: they are kept until a table changes."""
forecast_router = APIRouter(tags=["forecast"])

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_ALIVE = {True: b'{"status":"ok","scheduler":true}', False: b'{"status":"ok","scheduler":false}'}


@status_router.get("/", response_model=RootResponse)
async def root() -> RootResponse:
    """Name and version of the service."""
    return RootResponse(version=__version__)


@status_router.get("/health", response_model=HealthResponse)
async def health(request: Request) -> Response:
    """Report that the process runs, and whether a scheduler does; does not use the database."""
    return Response(_ALIVE[request.app.state.service.changes.scheduler], media_type="application/json")


@status_router.get(
    "/ready", response_model=ReadyResponse, responses={503: {"model": ReadyResponse, "description": "Not ready"}}
)
def ready(service: State, response: Response) -> ReadyResponse:
    """Report whether forecasts can be served, what is missing (503), and what else does not move on."""
    try:
        found = _readiness(service)
    except BtcmlError as error:
        found = ReadyResponse(status="not ready", market=None, missing=[str(error)])
    response.status_code = 200 if found.status == "ready" else 503
    return found


def _readiness(service: Service) -> ReadyResponse:
    """What is missing of any series of the settings; the champion is the first one's."""
    keys = [service.key(symbol, None) for symbol in service.settings.btcml_symbols]
    found = [read_progress(service.store, key, service.now(key)) for key in keys]
    missing = [
        sentence
        for key, progress in zip(keys, found, strict=True)
        for sentence in ([str(progress.missing)] if progress.missing else []) + _model_missing(service, key)
    ]
    ends = [progress.until for progress in found if progress.until is not None]
    champion = read_champion(service.store, keys[0])
    return ReadyResponse(
        status="not ready" if missing else "ready",
        market=keys[0].market,
        missing=missing,
        warnings=[str(warning) for progress in found for warning in progress.warnings],
        candles_until=min(ends) if len(ends) == len(keys) else None,
        champion=None if champion is None else champion.name,
    )


def _model_missing(service: Service, key: SeriesKey) -> list[str]:
    try:
        service.served(key)
    except NotReadyError:
        return [f"a trained model of {key}: POST /train?symbol={key.symbol}&interval={key.interval}"]
    except ArtifactError as error:
        return [str(error)]
    return []


@status_router.get(
    "/metrics/prometheus",
    response_class=Response,
    responses=responses() | _TEXT,
)
def prometheus(service: State) -> Response:
    """Health in Prometheus' text format."""
    body, kind = exposition(service)
    return Response(body, media_type=kind)


_EPOCH, _END = pd.Timestamp("1999-12-30", tz="UTC"), pd.Timestamp("2200-01-03", tz="UTC")
ModelName = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$", max_length=120, description="Another model than the champion's."),
]


def _sent(content: dict[str, Any]) -> Response:
    """Respond with an ETag."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    return Response(body, media_type="application/json", headers=headers)


def _times(times: pd.Series) -> list[str]:
    return [str(text) for text in times.dt.strftime("%Y-%m-%dT%H:%M:%SZ")]


_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing is new."}}


@candle_router.get("/prices/latest", response_model=PricesResponse, responses=responses(409) | _NOT_MODIFIED)
def prices_latest(
    service: State,
    key: Key,
    n: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    """Return the newest `n` final candles, oldest first."""
    frame = read_last_candles(service.store, key, n)
    if frame.empty:
        msg = f"no candles of {key} yet: POST /init/backfill, or btcml backfill"
        raise NotReadyError(msg)
    values = frame[["open", "high", "low", "close", "volume"]].to_dict("records")
    items = [{"time": time} | row for time, row in zip(_times(frame["open_time"]), values, strict=True)]
    data = [{"ts": item["time"], "close": item["close"]} for item in items]
    return _sent(_head(key) | {"count": len(items), "items": items, "data": data})


def _head(key: SeriesKey) -> dict[str, Any]:
    return {"market": key.market, "symbol": key.symbol, "interval": key.interval}


def _span(
    service: State,
    key: Key,
    start: Start = None,
    end: End = None,
    fallback_days: Annotated[int, Query(ge=1, le=20_000, description="Days before the end, without a start.")] = 7,
) -> tuple[pd.Timestamp, pd.Timestamp]:
    newest = read_last_candles(service.store, key, 1)
    last = newest["open_time"].iloc[-1] + key.delta if len(newest) else _END
    stop = pd.Timestamp(end) if end else last
    return (pd.Timestamp(start) if start else stop - pd.Timedelta(days=fallback_days)), stop


Span = Annotated[tuple[pd.Timestamp, pd.Timestamp], Depends(_span)]


@candle_router.get("/series", response_model=SeriesResponse, responses=responses() | _NOT_MODIFIED)
@candle_router.get("/series/cached", response_model=SeriesResponse, responses=responses() | _NOT_MODIFIED)
def series(
    service: State,
    key: Key,
    span: Span,
    limit: Annotated[int, Query(ge=1, le=50_000)] = 30_000,
    model: ModelName = None,
) -> Response:
    """Return candles, each with the out-of-sample forecast of the next one: a walk-forward's, or the sealed one.

    The forecasts are the champion's, or those of `model`, which need not be served. A candle without a
    forecast of its own is there where the one before it forecast it.
    """
    champion = read_champion(service.store, key)
    name = model or (champion.name if champion else None)
    rows = read_series(service.store, service.settings, key, span, name, own=model is not None)
    following = _times(rows["open_time"].iloc[limit : limit + 1])
    found = {"model": name, "points": point_list(rows.iloc[:limit]), "next_start": following[0] if following else None}
    return _sent(_head(key) | found)


@dataclass(frozen=True)
class _EvaluationOptions:
    """Which forecasts are evaluated, and what a trade costs."""

    model: ModelName = None
    origin: Annotated[Literal["walk-forward", "sealed"] | None, Query(description="Only these forecasts.")] = None
    cost_bp: Annotated[float, Query(ge=0, le=1000, description="Cost of a round trip, in bp.")] = 2.0
    threshold_bp: Annotated[float, Query(ge=0, le=1000, description="Smallest forecast move that is traded.")] = 0.0
    curves: Annotated[bool, Query(description="Whether figures by candle are wanted.")] = True


@candle_router.get("/evaluation", response_model=EvaluationResponse, responses=responses() | _NOT_MODIFIED)
def evaluation(
    service: State,
    key: Key,
    span: Span,
    wanted: Annotated[_EvaluationOptions, Depends()],
) -> Response:
    """Return the figures of the forecasts of a span's candles: scores, reliability, money, rolling direction."""
    champion = read_champion(service.store, key)
    served = champion.name if champion else None
    model, costs = wanted.model or served, {"cost_bp": wanted.cost_bp, "threshold_bp": wanted.threshold_bp}
    points = read_points(service.store, service.settings, key, span, model, own=wanted.model is not None)
    trials = champion.verdict.get("trials", 1) if champion else 1
    found = evaluate_series(points, model or "none", origin=wanted.origin, trials=trials, **costs)
    content: dict[str, Any] = {"model": model, "champion": served, "best": best_model(champion)}
    content |= {"origin": wanted.origin, "seal_lag": seal_lags(read_seal_times(service.store, key, *span))}
    return _sent(_head(key) | content | found.to_dict(curves=wanted.curves))


@candle_router.get("/futuros", response_model=FuturesResponse, responses=responses() | _NOT_MODIFIED)
@candle_router.get("/futures", response_model=FuturesResponse, responses=responses() | _NOT_MODIFIED)
def futuros(
    service: State,
    key: Key,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, Query(ge=1, le=50_000, description="What is of one time stays together.")] = 5_000,
    horizon: Annotated[int, Query(ge=1, le=LONGEST_HORIZON, description="Candles ahead.")] = 1,
) -> Response:
    """Return the sealed forecasts against reality; ``real_close`` is null while the candle is open."""
    span = (pd.Timestamp(start) if start else _EPOCH, pd.Timestamp(end) if end else _END)
    frame = read_futuros(service.store, key, *span, limit, horizon)
    scored = frame["status"].eq("sealed") & frame["real_close"].notna()
    frame = frame.assign(
        time=_times(frame["open_time"]),
        made_at=[stamp.isoformat() for stamp in frame["made_at"]],
        pred_close=frame["close"],
        err_close=(frame["close"] - frame["real_close"]).where(scored),
        err_base=(frame["base"] - frame["real_close"]).where(scored),
    )
    names = ["time", "pred_close", "real_close", "err_close", "base", "err_base", "lo", "hi", "prob_up"]
    rows = frame[[*names, "model", "status", "made_at"]].astype(object)
    before = frame["time"].iloc[0] if len(frame) >= limit else None
    return _sent({"points": rows.where(rows.notna(), None).to_dict("records"), "next_end": before})


def _training(job: Job) -> dict[str, Any]:
    facts = job.result or {}
    own = facts.get("models", {}).get(facts.get("champion"), {})
    times = {"started_at": job.started_at, "finished_at": job.finished_at}
    older = {"model_version": facts.get("artifact"), "created_at": job.finished_at}
    older["train_end_ts"] = facts["window"][1] if facts.get("window") else None
    return {"ratio": own.get("ratio")} | facts | {"status": job.status} | times | older


@forecast_router.get("/metrics", response_model=MetricsResponse, responses=responses())
def metrics(service: State, key: Key, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> dict[str, Any]:
    """Return the newest training's figures beside persistence's, and those of the last ones."""
    jobs = read_jobs(service.store, key=key, kinds=["train"], statuses=["ok"], limit=limit)
    items = [_training(job) for job in jobs]
    root = service.settings.btcml_publish_dir
    published = {"published": read_proof(root, key)} if root is not None else {}
    return (items[0] if items else {"status": "empty"}) | {"items": items} | published


@forecast_router.get("/model/info", response_model=ModelInfoResponse, responses=responses())
def model_info(service: State, key: Key) -> dict[str, Any]:
    """Return the models of a series and the folder of their files."""
    folder = series_folder(service.settings, key)
    models = read_models(service.store, key)
    champion = folder / next((record.artifact for record in models if record.role == "champion"), "")
    return {
        "models_dir": str(service.settings.models),
        "model_path": str(champion),
        "exists": champion.is_dir(),
        "listing": sorted(path.name for path in folder.glob("[!.]*")),
        "files": sorted(str(file.relative_to(folder)) for file in folder.glob("*/*") if file.is_file()),
        "models": [_model(record) for record in models],
        "horizons": _horizons(service, key),
        "left_out": next((one.verdict.get("left_out") for one in models if one.role == "champion"), None),
    }


def _horizons(service: Service, key: SeriesKey) -> list[dict[str, Any]]:
    try:
        return horizon_figures(service.served(key))
    except (NotReadyError, ArtifactError):
        return []


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
_MAX_ID = 2**63 - 1


@forecast_router.get("/jobs", response_model=JobListResponse, responses=responses())
def jobs(
    service: State,
    kind: Kind = None,
    status: Status = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before: Annotated[int | None, Query(ge=1, le=_MAX_ID)] = None,
) -> dict[str, Any]:
    """Return the log of jobs, newest first."""
    found = read_jobs(
        service.store,
        kinds=[kind] if kind else KINDS,
        statuses=[status] if status else STATUSES,
        limit=limit,
        before=before,
    )
    following = found[-1].id if len(found) == limit else None
    return {"items": [job_facts(job) for job in found], "next_before": following}


@forecast_router.get("/jobs/{job_id}", response_model=JobResponse, responses=responses(404))
def job(service: State, job_id: Annotated[int, Path(ge=1, le=_MAX_ID)]) -> dict[str, Any]:
    """Return one job."""
    found = read_job(service.store, job_id)
    return job_facts(found) | {"place": service.queue.place(found)}
