"""Errors as RFC 9457 problem documents: a true status, one sentence, a request id, no traceback."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from btcml.errors import BannedError, BtcmlError, QueueFullError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request


PROBLEM_TYPE = "application/problem+json"
"""Media type of a problem document."""

_log = logging.getLogger("btcml.serve")


class Problem(BaseModel):
    """A problem document; ``detail`` is always one sentence."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Conflict",
                    "status": 409,
                    "detail": "no model of binance/BTCUSDT/5m has been trained yet: POST /train, or btcml train",
                    "instance": "/predict",
                    "request_id": "6f1f0c2a9d3b4e55",
                }
            ]
        }
    )

    type: str = Field("about:blank", description="Kind of problem.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was expected, what was found, what to do.")
    instance: str = Field(description="The path of the request.")
    request_id: str = Field(description="Id of the request in the log.")


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problems that a route may answer; the common ones are always there."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    every = sorted({*codes, 413, 422, 503})
    return {code: {"description": HTTPStatus(code).phrase, "content": content} for code in every}


def problem_response(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Answer with a problem document."""
    problem = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=" ".join(detail.split()),
        instance=request.url.path,
        request_id=str(request.scope.get("request_id", "")),
    )
    return JSONResponse(problem.model_dump(), status, headers, media_type=PROBLEM_TYPE)


async def _btcml(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status", 500)
    wait = _left(error)
    headers = None if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s: %s", type(error).__name__, error)
    return problem_response(request, status, str(error), headers)


def _left(error: Exception) -> float | None:
    """Seconds until a ban ends or a place in a queue may be free; None of another error."""
    if isinstance(error, BannedError):
        return (error.until - datetime.now(UTC)).total_seconds()
    return error.seconds if isinstance(error, QueueFullError) else None


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    found = error.errors()
    where = ", ".join(dict.fromkeys(str(item["loc"][-1]) for item in found)) or "the request"
    why = "; ".join(dict.fromkeys(str(item["msg"]).removeprefix("Value error, ") for item in found))
    return problem_response(request, 422, f"{where}: {why}: correct it and try again")


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    headers = dict(error.headers) if error.headers else None
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else ""
    sentence = detail or f"there is no {request.method} {request.url.path} here: /docs lists the routes"
    return problem_response(request, error.status_code, sentence, headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("unexpected %s", type(error).__name__, exc_info=error)
    sentence = "an unexpected error: look into the service's log for the request id"
    return problem_response(request, 500, sentence)


def register_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(BtcmlError, _btcml)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
