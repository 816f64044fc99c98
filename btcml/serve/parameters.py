"""Parameters that routes share, and who may change something."""

from __future__ import annotations

import re
import secrets
from typing import Annotated
from urllib.parse import urlsplit

import pandas as pd
from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, Field
from starlette.exceptions import HTTPException

from btcml.candles import INTERVALS, SYMBOL, SeriesKey, check_symbol, interval_delta
from btcml.serve.service import Service
from btcml.settings import text_for
from btcml.system import is_loopback

bearer = HTTPBearer(auto_error=False, description="BTCML_API_KEY, where it is set.")
"""Reader of the key that a request brings; None without one."""


async def service_of(request: Request) -> Service:
    """State of the application."""
    found: Service = request.app.state.service
    return found


State = Annotated[Service, Depends(service_of)]
"""The service's state."""


# The library checks both, with its own sentences; the schema has the patterns.
Symbol = Annotated[
    str,
    text_for(check_symbol),
    Query(description="The exchange's symbol.", examples=["BTCUSDT"], json_schema_extra={"pattern": f"^{SYMBOL}$"}),
]
"""A symbol."""

_INTERVALS = {"pattern": "^(" + "|".join(INTERVALS) + ")$"}
Interval = Annotated[
    Annotated[str, text_for(interval_delta), Field(json_schema_extra=_INTERVALS)] | None,
    Query(description="Length of a candle; omitted: the usual one.", examples=["5m"]),
]
"""An interval, or None for the usual one."""


_DAY = (
    r"(?:2[01][0-9]{2}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:20(?:[02468][048]|[13579][26])|21(?:0[48]|[2468][048]|[13579][26]))-02-29)"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,6})?)?"
_TIME = f"^{_DAY}(?:[T ]{_CLOCK}(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?)?$"


def _time(text: str) -> str:
    """Bring a time to UTC."""
    if not re.fullmatch(_TIME, text):
        msg = f"expected a UTC time such as 2025-06-30T00:00:00Z, found {text[:40]!r}"
        raise ValueError(msg)
    stamp = pd.Timestamp(text)
    return str((stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")).isoformat())


_Text = Annotated[
    Annotated[str, AfterValidator(_time), Field(json_schema_extra={"pattern": _TIME, "maxLength": 40})] | None,
    Query(description="ISO 8601, from 2000 to 2199; without a zone it is UTC.", examples=["2025-06-30T00:00:00Z"]),
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


async def wants_async(
    prefer: Annotated[str | None, Header(description="respond-async: 202 and a job.")] = None,
) -> bool:
    """Whether the client does not want to wait (RFC 7240)."""
    return prefer is not None and "respond-async" in prefer.lower()


Async = Annotated[bool, Depends(wants_async)]
"""Whether to answer 202 at once."""


def _place(origin: str) -> str | None:
    """Host and port of an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name(host: str) -> str:
    """Name of a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def changing(
    request: Request, service: State, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> None:
    """Check that a changing request comes from no page of another origin, and has the key where one is required.

    Raises
    ------
    HTTPException
        401 without the key; 403 from a web page of another origin, or, where no key is needed, under
        a name that is not this machine's own.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if origin and origin not in service.settings.btcml_cors_origins and _place(origin) != host:
        raise HTTPException(403, f"a page of {origin[:100]} may not change anything here: add it to BTCML_CORS_ORIGINS")
    if not service.key_required:
        if not is_loopback(_name(host)):  # DNS rebinding: another name that points to this machine
            raise HTTPException(403, f"without a key only this machine may change anything: not {host[:100]}")
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
