"""HTTP requests with a time limit for the whole response, bounded retries, and stored bans."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import pandas as pd
import requests
import tenacity
import urllib3

from btcml.errors import MarketError

T = TypeVar("T")

LONGEST_WAIT_S = 75.0
"""Longest pause in seconds that a client waits on HTTP 429; more counts as a ban."""

LONGEST_BAN_S = 30 * 86_400.0
"""Longest ban in seconds that is believed: the exchange's own end after three days."""

_CHUNK, _MAX_BYTES = 1 << 16, 1 << 28
_CONNECT_S = 3.05


class TransientError(MarketError):
    """A fault that may pass: the same request may be sent again after `wait` seconds.

    Parameters
    ----------
    message
        What was found.
    wait
        Shortest pause; None leaves it to the jitter.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class Reply:
    """A complete response of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def seconds(self, name: str) -> float | None:
        """Return a header in seconds, such as Retry-After, at most 30 days; None where absent or of another form."""
        try:
            value = float(self.headers[name])
        except (KeyError, ValueError):
            return None
        return min(value, LONGEST_BAN_S) if math.isfinite(value) and value >= 0 else None


def new_session() -> requests.Session:
    """Session with our name as user agent and no retries of its own."""
    session = requests.Session()
    session.headers["User-Agent"] = "btcml"
    return session


def host_of(url: str) -> str:
    """Host and port of an address, without user and password: the key of a ban.

    Examples
    --------
    >>> host_of("https://api.binance.com/api/v3")
    'api.binance.com'
    >>> host_of("https://user:secret@127.0.0.1:8090/api/v3")
    '127.0.0.1:8090'
    """
    return urlsplit(url).netloc.rpartition("@")[2]


def fetch_reply(
    session: requests.Session,
    url: str,
    params: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    *,
    post: tuple[str, bytes] | None = None,
) -> Reply:
    """Send a request and read the whole answer within `timeout` seconds; a redirect is an answer, and not followed.

    Parameters
    ----------
    post
        Content type and body of a POST; None: a GET.

    Raises
    ------
    TransientError
        If the connection cannot be made, is reset, ends early, or the answer takes too long.
    """
    deadline = time.monotonic() + timeout
    try:
        options: Any = {"params": params, "timeout": (min(_CONNECT_S, timeout), timeout), "allow_redirects": False}
        if post:
            options |= {"headers": {"Content-Type": post[0]}, "data": post[1]}
        with session.request("POST" if post else "GET", url, stream=True, **options) as response:
            body = bytearray()
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if time.monotonic() > deadline:
                    msg = f"{host_of(url)} did not complete its response in {timeout:g} s"
                    raise TransientError(msg)
                if len(body) > _MAX_BYTES:
                    msg = f"the response of {host_of(url)} exceeds {_MAX_BYTES >> 20} MiB"
                    raise TransientError(msg)
            return Reply(response.status_code, response.headers, bytes(body))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        msg = f"{host_of(url)} {_cause(error)}"
        raise TransientError(msg) from error


def _cause(error: Exception) -> str:
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout | urllib3.exceptions.TimeoutError):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return "is not the address of a server"
    if isinstance(error, requests.ConnectionError) and "resolve" in str(error):
        return "was not found: is there a network?"
    if isinstance(error, requests.ConnectionError) and "refused" in str(error):
        return "refused the connection"
    return "closed the connection early"


def with_retries(work: Callable[[], T], attempts: int = 4, sleep: Callable[[float], Any] = time.sleep) -> T:
    """Return what `work` returns, trying again on `TransientError` with exponential pauses and jitter.

    Parameters
    ----------
    attempts
        Maximum number of tries; the last error is raised.
    sleep
        How to pause; replaced in tests.
    """
    jitter = tenacity.wait_random_exponential(multiplier=0.4, max=8)

    def _pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(getattr(error, "wait", None) or 0.0, jitter(state))

    stop, transient = tenacity.stop_after_attempt(attempts), tenacity.retry_if_exception_type(TransientError)
    return tenacity.Retrying(stop=stop, wait=_pause, retry=transient, sleep=sleep, reraise=True)(work)


class BanMemory(Protocol):
    """Where bans are remembered, so that nothing is called before they end; the pipeline passes the database's."""

    def until(self, host: str) -> pd.Timestamp | None:
        """Return the end of the ban of a host, UTC; None if there never was one."""
        ...

    def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:
        """Remember a ban until a time, with the exchange's reason."""
        ...


class LocalBans:
    """Bans remembered by this process alone.

    Examples
    --------
    >>> import pandas as pd
    >>> bans = LocalBans()
    >>> bans.remember("api.binance.com", pd.Timestamp("2026-01-01", tz="UTC"), "418")
    >>> bans.until("api.binance.com")
    Timestamp('2026-01-01 00:00:00+0000', tz='UTC')
    """

    def __init__(self) -> None:
        self._until: dict[str, pd.Timestamp] = {}

    def until(self, host: str) -> pd.Timestamp | None:
        """Return the end of the ban of a host, or None."""
        return self._until.get(host)

    def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:  # noqa: ARG002 - the protocol's
        """Remember a ban; a longer one that is known already stays."""
        self._until[host] = max(until, self._until.get(host, until))
