"""The exchange's hosts: which to ask, when to wait, what its refusals mean.

The rules of the exchange, kept here and nowhere else: used weight stays under half of the limit;
429 waits as long as Retry-After says; 418 is a ban, remembered, and nothing is called before it
ends; 451 and a host that fails for good lead to the next host.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from btcml.errors import BannedError, LocationError, MarketError, UsageError
from btcml.market.bans import BanMemory, LocalBans
from btcml.market.source import MARKET_HEADER, Clock, utc_now
from btcml.market.transport import Jittered, Reply, TransientError, fetch_reply, host_of, new_session

__all__ = ["Hosts", "RejectedError"]

_OK, _BAD_REQUEST, _TEAPOT, _TOO_MANY, _LOCATION, _SERVER = 200, 400, 418, 429, 451, 500
_PATIENCE = 75.0
_A_MINUTE = pd.Timedelta(seconds=61)  # after it the exchange has begun to count anew, whatever its clock says
_UNTOLD_PAUSE, _UNTOLD_BAN = 30.0, 600.0


class RejectedError(UsageError):
    """The exchange calls the request itself wrong (status 400).

    Parameters
    ----------
    code
        The exchange's own number, such as -1121 for an invalid symbol.
    message
        Its words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"the exchange refuses the request: {message.rstrip('.')} (code {code})")
        self.code = code


class Hosts:
    """Asks the exchange, whichever of its hosts answers.

    Parameters
    ----------
    urls
        Addresses, tried in this order; the last one that answered first.
    bans
        Where bans are remembered; by default in this object alone.
    timeout
        Seconds for one whole answer.
    attempts
        Most tries at one host.
    clock, sleep
        Local time and how to wait; replaced in tests.
    weight_limit
        The exchange's limit in a minute, of which half is used.
    """

    def __init__(
        self,
        urls: Sequence[str],
        bans: BanMemory | None = None,
        *,
        timeout: float = 10.0,
        attempts: int = 4,
        clock: Clock = utc_now,
        sleep: Callable[[float], Any] = time.sleep,
        weight_limit: int = 6000,
    ) -> None:
        if not urls:
            msg = "expected at least one address of the exchange, found none: set BTCML_BINANCE_URLS"
            raise UsageError(msg)
        self.urls = [url.rstrip("/") for url in urls]
        self.market: str | None = None
        self._bans: BanMemory = bans or LocalBans()
        self._session = new_session()
        self._timeout, self._clock, self._sleep = timeout, clock, sleep
        self.retried = Jittered(attempts, sleep)
        self._weight_limit = weight_limit
        self._resume = pd.Timestamp(0, tz="UTC")

    def ask(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON that the exchange answers.

        Raises
        ------
        RejectedError
            If it calls the request wrong.
        BannedError
            If this address is banned; nothing was called.
        LocationError
            If every host that answers refuses this location.
        MarketError
            If no host answers as it should; the sentence says what each of them did.
        """
        failures: list[MarketError] = []
        for url in list(self.urls):
            try:
                content = self.retried(lambda url=url: self._once(url, path, params))  # type: ignore[misc]
            except BannedError:
                raise
            except MarketError as error:
                failures.append(error)
                continue
            self.urls.sort(key=lambda other: other != url)
            return content
        raise _summary(failures)

    def _once(self, url: str, path: str, params: Mapping[str, str] | None) -> Any:
        self._hold()
        reply = fetch_reply(self._session, url + path, params, self._timeout)
        self._note(url, reply)
        if reply.status in {_TEAPOT, _TOO_MANY}:
            raise self._slowed(url, reply)
        return _content(url, reply)

    def check_bans(self) -> pd.Timestamp | None:
        """Return the end of a ban that still holds for any host, or None.

        A ban is of this machine's address, so it holds for all hosts.
        """
        ends = [end for url in self.urls if (end := self._bans.until(host_of(url))) is not None]
        return max(ends) if ends and max(ends) > self._clock() else None

    def heard(self, url: str, reply: Reply) -> bool:
        """Whether an answer to a ping is the exchange's, in service; what it says of bans is remembered.

        Raises
        ------
        BannedError
            If it says that this address is banned.
        """
        self._note(url, reply)
        if reply.status not in {_TEAPOT, _TOO_MANY}:
            return reply.status == _OK
        error = self._slowed(url, reply)
        if isinstance(error, BannedError):
            raise error
        return True

    def _hold(self) -> None:
        """Wait until a request may be sent, or raise where that is too long."""
        end = self.check_bans()
        if end is not None and (end - self._clock()).total_seconds() > _PATIENCE:
            raise _banned(end)
        for until in (end, self._resume):
            left = (until - self._clock()).total_seconds() if until is not None else 0.0
            if left > 0:
                self._sleep(left)

    def _note(self, url: str, reply: Reply) -> None:
        """Read the market's name and the used weight."""
        market = reply.headers.get(MARKET_HEADER, "binance")
        if not re.fullmatch(r"binance|replay:[A-Za-z0-9._-]{1,80}", market):
            msg = f"{host_of(url)} says that it is the market {market[:80]!r}: expected replay:NAME"
            raise MarketError(msg)
        if self.market not in {None, market}:
            msg = f"{host_of(url)} is the market {market}, before it was {self.market}: markets never mix"
            raise MarketError(msg)
        self.market = market
        used = reply.seconds("X-MBX-USED-WEIGHT-1M")
        if used is not None and used >= self._weight_limit / 2 - 2:
            self._resume = self._clock() + _A_MINUTE

    def _slowed(self, url: str, reply: Reply) -> MarketError:
        """Remember how long nothing may be called; short pauses are waited for."""
        teapot = reply.status == _TEAPOT
        told = reply.seconds("Retry-After")
        seconds = told if told is not None else (_UNTOLD_BAN if teapot else _UNTOLD_PAUSE)
        end = self._clock() + pd.Timedelta(seconds=seconds)
        match = re.search(rb"banned until (\d{13})", reply.body)
        if match and teapot and self.market == "binance":  # the replay's clock is its own
            end = max(end, pd.Timestamp(int(match[1]), unit="ms", tz="UTC"))
        for other in self.urls:
            self._bans.remember(host_of(other), end, f"HTTP {reply.status} from {host_of(url)}")
        if teapot or seconds > _PATIENCE:
            return _banned(end)
        return TransientError(f"{host_of(url)} keeps asking to slow down (HTTP 429)")


def _banned(end: pd.Timestamp) -> BannedError:
    until = end.strftime("%Y-%m-%d %H:%M:%S UTC")
    msg = f"the exchange has banned this address until {until}: nothing is asked before that, try again then"
    return BannedError(msg, end.to_pydatetime())


def _content(url: str, reply: Reply) -> Any:
    """Return the JSON of an answer, or raise what its status means."""
    if reply.status == _LOCATION:
        msg = f"{host_of(url)} refuses this location (HTTP 451)"
        raise LocationError(msg)
    if reply.status >= _SERVER:
        msg = f"{host_of(url)} is out of order (HTTP {reply.status})"
        raise TransientError(msg)
    try:
        content = json.loads(reply.body)
    except ValueError as error:
        if reply.status == _OK:
            msg = f"{host_of(url)} answered something that is no JSON"
            raise TransientError(msg) from error
        content = {}
    if reply.status == _BAD_REQUEST and isinstance(content, dict) and "code" in content:
        raise RejectedError(int(content["code"]), str(content.get("msg", "")))
    if reply.status != _OK:
        msg = f"{host_of(url)} refuses (HTTP {reply.status})"
        raise MarketError(msg)
    return content


def _summary(failures: Sequence[MarketError]) -> MarketError:
    reasons = "; ".join(dict.fromkeys(map(str, failures)))
    if any(isinstance(error, LocationError) for error in failures):
        msg = (
            f"the exchange does not serve this location: {reasons}: put https://data-api.binance.vision "
            "first in BTCML_BINANCE_URLS, or use a file or SOURCE=simulated"
        )
        return LocationError(msg)
    msg = f"the exchange cannot be reached: {reasons}: try again later, or use a file or SOURCE=simulated"
    return MarketError(msg)
