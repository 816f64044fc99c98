"""The market's clock, recorded in the database, which seals forecasts by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pandas as pd

from btcml.errors import StoreError
from btcml.market import SPEED_HEADER
from btcml.store.forecasts import database_now, market_now, read_clock_speed, record_clock

if TYPE_CHECKING:
    from btcml.market import Source
    from btcml.store.engine import Store


_ROUND, _WHOLE = 0.003, 0.015
_SAMPLES, _PAUSE_S = 4, 1.0
_TOLERANCE_S = 2.25  # of this machine's time


def register_clock(store: Store, source: Source, *, listen: float = 20.0) -> pd.Timestamp:
    """Record the clock of a market in the database, or check that it is the one recorded.

    A replay's origin and speed, which it announces or which is measured, are written once; Binance's offset is measured
    again each time; the simulated market uses real time and needs no record.

    Parameters
    ----------
    listen
        Seconds over which the speed of a replay's clock is measured at most.

    Returns
    -------
    Timestamp
        The market's time.

    Raises
    ------
    StoreError
        If a replay of this name once ran by another clock, or its speed cannot be measured; or Binance's clock is
        more than a minute from the database's or has moved against it.
    """
    market = source.market
    started, mark = database_now(store), time.monotonic()
    if market == "binance":
        now, at, _ = _measure(source)
        record_clock(store, market, now, asked_at=started + pd.Timedelta(seconds=at - mark))
    if not market.startswith("replay:"):
        return source.now()
    if read_clock_speed(store, market) is None:
        announced = getattr(source, "speed", None)
        speed = _measured_speed(source, listen) if announced is None else announced
        now, at, _ = _measure(source)
        record_clock(store, market, now, speed, asked_at=started + pd.Timedelta(seconds=at - mark))
    return check_clock(store, source)


def _measured_speed(source: Source, listen: float) -> float:
    """Listen to a clock until its speed is certain: how long an answer takes may lie before or after its time."""
    first, at, width = _measure(source)
    while True:
        time.sleep(min(_PAUSE_S, listen))
        later, then, other = _measure(source)
        if (width + other) / 2 <= _ROUND * (then - at):
            return clock_speed((later - first).total_seconds() / (then - at))
        if then - at > listen:
            cure = f", or let the server announce its speed in the header {SPEED_HEADER}"
            raise StoreError(_too_slow(source, max(width, other)) + cure)


def _too_slow(source: Source, took: float) -> str:
    return (
        f"the clock of {source.market} cannot be measured, since its answers take {took:.2f} s: try again when it and "
        "this machine are less busy"
    )


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
    offset = (now - min(max(now, earliest), latest)).total_seconds()
    if abs(offset) > _TOLERANCE_S * max(read_clock_speed(store, market) or 1.0, 1.0):
        msg = (
            f"the clock of {market} is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the recorded one, "
            f"by which its forecasts are sealed{_other_speed(store, source)}: a replay that was started again needs "
            "another name (btcml exchange --name), and btcml up has to be started again"
        )
        raise StoreError(msg)
    return now


def _other_speed(store: Store, source: Source) -> str:
    """What to say of a clock that runs at another speed than the recorded one."""
    recorded, announced = read_clock_speed(store, source.market), getattr(source, "speed", None)
    if recorded is None or announced in {None, recorded}:
        return ""
    return f", since it runs {announced:g} times as fast as real time, and the recorded one {recorded:g} times"


def _measure(source: Source) -> tuple[pd.Timestamp, float, float]:
    """Ask the market's time a few times; return the fastest answer, when (monotonic) it was true, and what it took.

    Raises
    ------
    StoreError
        If even that took so long that its time is not known.
    """
    answers = []
    for _ in range(_SAMPLES):
        before = time.monotonic()
        now = source.now()
        after = time.monotonic()
        answers.append((after - before, now, (before + after) / 2))
    took, now, at = min(answers)
    if took > 2 * _TOLERANCE_S:  # the time of the answer is known by half of that
        raise StoreError(_too_slow(source, took))
    return now, at, took


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
