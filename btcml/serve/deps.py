"""Parameters that routes share, and who may change something."""

from __future__ import annotations

import secrets
from typing import Annotated
from urllib.parse import urlsplit

import pandas as pd
from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator
from starlette.exceptions import HTTPException

from btcml.candles import INTERVALS, SeriesKey
from btcml.serve.state import Service

__all__ = ["Allowed", "Async", "End", "Interval", "Key", "Start", "State", "Symbol", "changing", "keyed"]

_EARLIEST, _LATEST = pd.Timestamp("2009-01-03", tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")
_bearer = HTTPBearer(auto_error=False, description="BTCML_API_KEY, where the service listens beyond loopback.")


def service_of(request: Request) -> Service:
    """State of the application."""
    found: Service = request.app.state.service
    return found


State = Annotated[Service, Depends(service_of)]
"""The service's state."""

Symbol = Annotated[str, Query(pattern=r"^[A-Z0-9]{2,20}$", description="The exchange's symbol.", examples=["BTCUSDT"])]
"""A symbol."""

_PATTERN = "^(" + "|".join(INTERVALS) + ")$"
Interval = Annotated[
    str | None,
    Query(pattern=_PATTERN, description="Length of a candle; omitted: the usual one.", examples=["5m"]),
]
"""An interval, or None for the usual one."""


def _time(text: str) -> str:
    msg = "expected a UTC time between 2009 and 2200, such as 2025-06-30T00:00:00Z"
    try:
        stamp = pd.Timestamp(text)
        stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
        known = _EARLIEST <= stamp <= _LATEST
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(msg) from error
    if not known:
        raise ValueError(msg)
    return str(stamp.isoformat())


_Text = Annotated[
    str | None,
    AfterValidator(lambda text: None if text is None else _time(text)),
    Query(max_length=40, description="UTC, ISO 8601; a time without a zone is UTC.", examples=["2025-06-30T00:00:00Z"]),
]
Start = _Text
"""First open time, or None."""
End = _Text
"""End of open times, exclusive, or None."""


def keyed(service: State, symbol: Symbol = "BTCUSDT", interval: Interval = None) -> SeriesKey:
    """Series of a request."""
    return service.key(symbol, interval)


Key = Annotated[SeriesKey, Depends(keyed)]
"""The series that a request is about."""


def wants_async(prefer: Annotated[str | None, Header(description="respond-async: 202 and a job.")] = None) -> bool:
    """Whether the client does not want to wait (RFC 7240)."""
    return prefer is not None and "respond-async" in prefer.lower()


Async = Annotated[bool, Depends(wants_async)]
"""Whether to answer 202 at once."""


def changing(
    request: Request, service: State, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Let a changing request pass: from no foreign page, and with the key where one is needed.

    Raises
    ------
    HTTPException
        401 without the key, 403 from a web page of another origin.
    """
    origin = request.headers.get("origin")
    known = {*service.settings.btcml_cors_origins, str(request.base_url).rstrip("/")}
    if origin and origin not in known and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, f"a page of {origin[:100]} may not change anything here: add it to BTCML_CORS_ORIGINS")
    if not service.guarded:
        return
    key = service.settings.btcml_api_key
    if (
        key is None
        or given is None
        or not secrets.compare_digest(given.credentials.encode(), key.get_secret_value().encode())
    ):
        raise HTTPException(
            401, "this route needs the key: send Authorization: Bearer BTCML_API_KEY", {"WWW-Authenticate": "Bearer"}
        )


Allowed = Depends(changing)
"""Dependency of routes that change something."""
