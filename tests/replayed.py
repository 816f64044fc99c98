"""A series on the replay exchange, filled and trained once, and a clock that is turned by hand."""

from __future__ import annotations

import contextlib
import dataclasses

import pandas as pd
from sqlalchemy import text

from btcml.pipeline.clock import register_clock
from btcml.pipeline.ingest import backfill
from btcml.pipeline.sources import make_source
from btcml.pipeline.train import train
from btcml.testing.exchange import running_exchange


@dataclasses.dataclass
class TurnedClock:
    """A market's clock that stands still until the test sets it."""

    time: pd.Timestamp
    speed: float = 0.0

    def __call__(self):
        return self.time


def turn_clock(owner, market, time, speed=0.0):
    """Set a market's clock in the database, as only the owner can: a seal's time is still that of a recorded clock."""
    values = "(market, origin_market, origin_real, speed) VALUES (:market, :time, clock_timestamp(), :speed)"
    with owner.begin() as connection:
        row = {"market": market, "time": time, "speed": speed}
        connection.execute(text(f"INSERT INTO market_clocks {values}"), row)


@contextlib.contextmanager
def trained_replay(settings, store, candles, clock, key, *, faults=(), **changes):
    """Run the exchange, with nine days stored and a small training; yields settings and source.

    `candles` is where the exchange has its candles from, `changes` are of the settings.
    """
    name = key.market.removeprefix("replay:")
    with running_exchange(candles, clock, faults, name=name, weight_limit=10**9) as exchange:
        hosts = {"btcml_binance_urls": (exchange.url,), "btcml_archive_url": exchange.url}
        ours = settings.model_copy(update={"btcml_source": "binance"} | hosts | changes)
        source = make_source(ours, "binance", store)
        register_clock(store, source)
        now = source.now()
        backfill(store, source, key, (now - pd.Timedelta(days=9), now))
        train(store, ours, key, models=("autoreg",), now=now, jobs=1)
        yield ours, source
