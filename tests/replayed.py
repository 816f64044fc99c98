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
from btcml.store.forecasts import record_clock
from btcml.testing.exchange import running_exchange


@dataclasses.dataclass
class TurnedClock:
    """A market's clock that stands still until the test sets it."""

    time: pd.Timestamp

    def __call__(self):
        return self.time


def turn_clock(store, owner, market, time):
    """Set a market's clock in the database, as only the owner can."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM market_clocks"))
    record_clock(store, market, time, speed=0.0)


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
