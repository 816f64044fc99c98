"""The market's clock, recorded in the database, which seals forecasts by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pandas as pd

from btcml.errors import StoreError
from btcml.store.forecasts import database_now, market_now, read_clock_speed, record_clock

if TYPE_CHECKING:
    from btcml.market import Source
    from btcml.store.engine import Store


_ROUND, _WHOLE = 0.003, 0.015
_SAMPLES = 4
_TOLERANCE_S = 2.25  # of this machine's time


def register_clock(store: Store, source: Source, *, listen: float = 1.0) -> pd.Timestamp:
    """Record the clock of a market in the database, or check that it is the one recorded.

    A replay's origin and speed are written once; Binance's offset is measured again each time; the simulated
    market uses real time and needs no record.

    Parameters
    ----------
    listen
        Seconds over which the speed of a replay's clock is measured.

    Returns
    -------
    Timestamp
        The market's time.

    Raises
    ------
    StoreError
        If a replay of this name once ran by another clock, or Binance's clock is more than a
        minute from the database's or has moved against it.
    """
    market = source.market
    started, mark = database_now(store), time.monotonic()
    if market == "binance":
        now, at = _measure(source)
        record_clock(store, market, now, asked_at=started + pd.Timedelta(seconds=at - mark))
    if not market.startswith("replay:"):
        return source.now()
    speed = read_clock_speed(store, market)
    if speed is None:
        first, at = _measure(source)
        time.sleep(listen)
        later, then = _measure(source)
        speed = clock_speed((later - first).total_seconds() / (then - at))
        record_clock(store, market, later, speed, asked_at=started + pd.Timedelta(seconds=then - mark))
    return check_clock(store, source)


def check_clock(store: Store, source: Source) -> pd.Timestamp:
    """Compare a replay's clock with the recorded one, by which its forecasts are sealed.

    Returns
    -------
    Timestamp
        The market's time.

    Raises
    ------
    StoreError
        If it was started anew, or stands still.
    """
    market = source.market
    earliest, now, latest = market_now(store, market), source.now(), market_now(store, market)
    apart = (now - min(max(now, earliest), latest)).total_seconds()
    if abs(apart) > _TOLERANCE_S * max(read_clock_speed(store, market) or 1.0, 1.0):
        msg = (
            f"the clock of {market} is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the recorded one, by "
            "which its forecasts are sealed: a replay that was started again needs another name (btcml exchange "
            "--name), and btcml up has to be started again"
        )
        raise StoreError(msg)
    return now


def _measure(source: Source) -> tuple[pd.Timestamp, float]:
    """Ask the market's time a few times; return the fastest answer, and when (monotonic) it was true."""
    answers = []
    for _ in range(_SAMPLES):
        before = time.monotonic()
        now = source.now()
        after = time.monotonic()
        answers.append((after - before, now, (before + after) / 2))
    _, now, at = min(answers)
    return now, at


def clock_speed(measured: float) -> float:
    """Speed that a clock was probably set to: a round number near the measured one.

    Examples
    --------
    >>> clock_speed(299.3), clock_speed(1.0008), clock_speed(288.4), clock_speed(1996.2)
    (300.0, 1.0, 288.0, 2000.0)
    """
    if measured <= 0:
        return 0.0
    plain = float(f"{measured:.2g}")
    if abs(measured - plain) <= _ROUND * measured:
        return plain
    whole = float(round(measured))
    return whole if whole and abs(measured - whole) <= _WHOLE * measured else measured
