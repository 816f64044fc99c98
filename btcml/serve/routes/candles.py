"""Candles, and forecasts against reality."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Depends, Header, Query, Response

from btcml.errors import NotReadyError
from btcml.serve.deps import End, Key, Start, State
from btcml.serve.points import point_list, points_of
from btcml.serve.problems import responses
from btcml.serve.schemas import Prices
from btcml.serve.shapes import Futures, Series
from btcml.store.candles import read_last_candles
from btcml.store.forecasts import read_futuros
from btcml.store.models import read_champion

__all__ = ["router"]

router = APIRouter(tags=["candles"])

_EPOCH, _END = pd.Timestamp("1999-12-30", tz="UTC"), pd.Timestamp("2200-01-03", tz="UTC")
ModelName = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z][A-Za-z0-9_.]*$", max_length=120, description="Another model than the champion's."),
]
IfNoneMatch = Annotated[str | None, Header(description="ETag of what the client has already.")]


def _sent(content: dict[str, Any], known: str | None) -> Response:
    """Answer with an ETag, or 304 where the client has it already."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if known is not None and tag in [part.strip().removeprefix("W/") for part in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _times(times: pd.Series) -> list[str]:
    return [str(text) for text in times.dt.strftime("%Y-%m-%dT%H:%M:%SZ")]


_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing is new."}}


@router.get("/prices/latest", response_model=Prices, responses=responses(409) | _NOT_MODIFIED)
def prices_latest(
    service: State,
    key: Key,
    n: Annotated[int, Query(ge=1, le=10_000)] = 100,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Answer the newest `n` final candles, oldest first."""
    frame = read_last_candles(service.store, key, n)
    if frame.empty:
        msg = f"no candles of {key} yet: POST /init/backfill, or btcml backfill"
        raise NotReadyError(msg)
    values = frame[["open", "high", "low", "close", "volume"]].to_dict("records")
    items = [{"time": time} | row for time, row in zip(_times(frame["open_time"]), values, strict=True)]
    head = {"symbol": key.symbol, "interval": key.interval, "market": key.market, "count": len(items)}
    return _sent(head | {"items": items}, if_none_match)


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


@router.get("/series", response_model=Series, responses=responses() | _NOT_MODIFIED)
@router.get("/series/cached", response_model=Series, responses=responses() | _NOT_MODIFIED)
def series(
    service: State,
    key: Key,
    span: Span,
    limit: Annotated[int, Query(ge=1, le=50_000)] = 30_000,
    model: ModelName = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Answer out-of-sample forecasts against reality: walk-forward ones, and sealed ones over them.

    They are the champion's, or those of `model`, which need not be served.
    """
    champion = read_champion(service.store, key)
    name = model or (champion.name if champion else None)
    points = points_of(service.store, service.settings, key, span, name, beside=model is not None)
    page, rest = points.iloc[:limit], points.iloc[limit:]
    following = _times(rest["open_time"].head(1))
    content: dict[str, Any] = {"market": key.market, "symbol": key.symbol, "interval": key.interval, "model": name}
    content |= {"points": point_list(page), "next_start": following[0] if following else None}
    return _sent(content, if_none_match)


@router.get("/futuros", response_model=Futures, responses=responses() | _NOT_MODIFIED)
@router.get("/futures", response_model=Futures, responses=responses() | _NOT_MODIFIED)
def futuros(
    service: State,
    key: Key,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, Query(ge=1, le=50_000, description="What is of one time stays together.")] = 5_000,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Answer the sealed forecasts against reality; ``real_close`` is null while the candle is open."""
    span = (pd.Timestamp(start) if start else _EPOCH, pd.Timestamp(end) if end else _END)
    frame = read_futuros(service.store, key, *span, limit)
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
    return _sent({"points": rows.where(rows.notna(), None).to_dict("records"), "next_end": before}, if_none_match)
