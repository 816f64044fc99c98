"""The clocks of markets, by which the database seals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.errors import StoreError

if TYPE_CHECKING:
    from btcml.store.engine import Store

__all__ = ["clock_known", "keep_clock", "market_now"]


def market_now(store: Store, market: str) -> pd.Timestamp:
    """Time of a market, as the database's seal reckons it."""
    with store.engine.connect() as connection:
        return pd.Timestamp(connection.scalar(text("SELECT market_now(:market)"), {"market": market})).tz_convert("UTC")


def clock_known(store: Store, market: str) -> float | None:
    """Speed of a market's clock in the database, or None where it has none."""
    query = "SELECT speed FROM market_clocks WHERE market = :market"
    with store.engine.connect() as connection:
        found = connection.scalar(text(query), {"market": market})
    return None if found is None else float(found)


def keep_clock(store: Store, market: str, now: pd.Timestamp, speed: float = 1.0) -> None:
    """Tell the database the clock of a market: once for a replay, measured anew for Binance.

    Parameters
    ----------
    now
        The market's time at this moment.
    speed
        Seconds of the market in a second.

    Raises
    ------
    StoreError
        If the clock cannot be kept: Binance's is more than a minute away from the database's.
    """
    if not market.startswith(("replay:", "binance")):
        return
    known = "DO UPDATE SET origin_market = excluded.origin_market, origin_real = excluded.origin_real"
    query = text(_CLOCK + (known if market == "binance" else "DO NOTHING"))
    try:
        with store.engine.begin() as connection:
            connection.execute(query, {"market": market, "now": now.floor("us").to_pydatetime(), "speed": speed})
    except DBAPIError as error:
        msg = f"the clock of {market} says {now}, more than a minute away from the database's: set the machine's clock"
        raise StoreError(msg) from error


_CLOCK = """INSERT INTO market_clocks (market, origin_market, origin_real, speed)
VALUES (:market, :now, clock_timestamp(), :speed) ON CONFLICT (market) """
