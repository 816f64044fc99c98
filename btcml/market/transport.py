"""One HTTP GET, told apart into what came, what may be tried again, and what may not.

The timeout is for the whole answer: a server that drips a byte now and then does not hold us.
"""

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

__all__ = ["BanMemory", "Jittered", "LocalBans", "Reply", "TransientError", "fetch_reply", "host_of", "new_session"]

T = TypeVar("T")

_CHUNK = 1 << 16
_CONNECT = 3.05
_MOST_BYTES = 1 << 28
_LONGEST_S = 30 * 86_400.0


class TransientError(MarketError):
    """A fault that may pass: the same request may be sent again after `wait` seconds.

    Parameters
    ----------
    message
        What was found.
    wait
        Least pause; None leaves it to the jitter.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class Reply:
    """An answer that came whole, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def seconds(self, name: str) -> float | None:
        """Return a header in seconds, such as Retry-After, at most 30 days; None where absent or of another form."""
        try:
            told = float(self.headers[name])
        except (KeyError, ValueError):
            return None
        return min(told, _LONGEST_S) if math.isfinite(told) and told >= 0 else None


def new_session() -> requests.Session:
    """Session with a name of its own and no retries beneath ours."""
    session = requests.Session()
    session.headers["User-Agent"] = "btcml"
    return session


def host_of(url: str) -> str:
    """Host and port of an address: what a ban is remembered by.

    Examples
    --------
    >>> host_of("https://api.binance.com/api/v3")
    'api.binance.com'
    """
    return urlsplit(url).netloc


def fetch_reply(
    session: requests.Session, url: str, params: Mapping[str, str] | None = None, timeout: float = 10.0
) -> Reply:
    """Send a GET and read the whole answer within `timeout` seconds.

    Raises
    ------
    TransientError
        If the connection cannot be made, is reset, ends early, or the answer takes too long.
    """
    deadline = time.monotonic() + timeout
    limits = (min(_CONNECT, timeout), timeout)
    try:
        with session.get(url, params=params, timeout=limits, stream=True) as response:
            body = bytearray()
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if time.monotonic() > deadline:
                    msg = f"{host_of(url)} did not finish its answer in {timeout:g} s"
                    raise TransientError(msg)
                if len(body) > _MOST_BYTES:
                    msg = f"{host_of(url)} answers without end"
                    raise TransientError(msg)
            return Reply(response.status_code, response.headers, bytes(body))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        msg = f"{host_of(url)} {_cause(error)}"
        raise TransientError(msg) from error


def _cause(error: Exception) -> str:
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout | urllib3.exceptions.TimeoutError):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return "is no address of a server"
    if isinstance(error, requests.ConnectionError) and "resolve" in str(error):
        return "was not found: is there a network?"
    if isinstance(error, requests.ConnectionError) and "refused" in str(error):
        return "refused the connection"
    return "broke off the answer"


@dataclass(frozen=True)
class Jittered:
    """Bounded retries of transient faults with exponential pauses and jitter.

    Parameters
    ----------
    attempts
        Most tries of one request at one host.
    sleep
        How to pause; replaced in tests.
    """

    attempts: int = 4
    sleep: Callable[[float], Any] = time.sleep

    def __call__(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, trying again on `TransientError`; the last one is raised."""
        jitter = tenacity.wait_random_exponential(multiplier=0.4, max=8)

        def _pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            least = error.wait if isinstance(error, TransientError) and error.wait is not None else 0.0
            return max(least, jitter(state))

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=_pause,
            retry=tenacity.retry_if_exception_type(TransientError),
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(work)


class BanMemory(Protocol):
    """A place to remember bans in; the pipeline hands in the database's."""

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
