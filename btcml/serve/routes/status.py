"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from btcml import __version__
from btcml.candles import SeriesKey
from btcml.errors import ArtifactError, BtcmlError, NotReadyError
from btcml.pipeline.predict import check_fresh
from btcml.serve.deps import State
from btcml.serve.gauges import exposition
from btcml.serve.problems import responses
from btcml.serve.schemas import Health, Ready, Root
from btcml.serve.state import Service
from btcml.store.candles import read_last_candles
from btcml.store.models import read_champion

__all__ = ["router"]

router = APIRouter(tags=["status"])

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_ALIVE = b'{"status":"ok"}'


@router.get("/", response_model=Root)
async def root() -> Root:
    """Say who answers."""
    return Root(version=__version__)


@router.get("/health", response_model=Health)
async def health() -> Response:
    """Say that the process lives; asks nothing of the database."""
    return Response(_ALIVE, media_type="application/json")


@router.get("/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}})
def ready(service: State, response: Response) -> Ready:
    """Say whether forecasts can be served, and name what is missing (503)."""
    try:
        found = _readiness(service)
    except BtcmlError as error:
        found = Ready(status="not ready", market=None, missing=[str(error)])
    response.status_code = 200 if found.status == "ready" else 503
    return found


def _readiness(service: Service) -> Ready:
    """What is missing of any series of the settings; candles and champion are the first one's."""
    keys = [service.key(symbol, None) for symbol in service.settings.btcml_symbols]
    missing = [
        sentence for key in keys for sentence in (*_candles_missing(service, key), *_model_missing(service, key))
    ]
    newest, champion = read_last_candles(service.store, keys[0], 1), read_champion(service.store, keys[0])
    return Ready(
        status="not ready" if missing else "ready",
        market=keys[0].market,
        missing=missing,
        candles_until=newest["open_time"].iloc[-1] + keys[0].delta if len(newest) else None,
        champion=None if champion is None else champion.name,
    )


def _candles_missing(service: Service, key: SeriesKey) -> list[str]:
    newest = read_last_candles(service.store, key, 1)
    if newest.empty:
        return [f"candles of {key}: POST /init/backfill?symbol={key.symbol}&interval={key.interval}"]
    try:
        if not key.market.startswith("file:"):
            check_fresh(key, newest["open_time"].iloc[-1], service.now(key))
    except NotReadyError as error:
        return [str(error)]
    return []


def _model_missing(service: Service, key: SeriesKey) -> list[str]:
    try:
        service.served(key)
    except NotReadyError:
        return [f"a trained model of {key}: POST /train?symbol={key.symbol}&interval={key.interval}"]
    except ArtifactError as error:
        return [str(error)]
    return []


@router.get(
    "/metrics/prometheus",
    response_class=Response,
    responses=responses() | _TEXT,
)
def prometheus(service: State) -> Response:
    """Health in Prometheus' text format."""
    body, kind = exposition(service)
    return Response(body, media_type=kind)
