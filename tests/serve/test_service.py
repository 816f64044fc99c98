from __future__ import annotations

import pytest
from sqlalchemy import text

from btcml.serve.service import SHOWN, ChangeListener
from btcml.store.market_choice import record_choice

from ..processes import until  # noqa: TID252 - of all tests


@pytest.fixture
def watch(store, settings):
    found = ChangeListener(store, settings)
    found.start()
    until(lambda: found.alive)
    yield found
    found.stop()


def test_a_change_of_a_table_is_notified(watch, store):
    """A cache of jobs is invalidated."""
    before, others = watch.version("jobs"), watch.version("candles")
    query = (
        "INSERT INTO jobs (kind, market, symbol, interval, asked_by) VALUES ('ingest', 'simulated', 'A', '5m', 'me')"
    )
    with store.engine.begin() as connection:
        connection.execute(text(query))
    until(lambda: watch.version("jobs") != before)
    assert watch.version("candles") == others


def test_another_market_makes_what_is_kept_old(watch, store):
    """The scheduler has found Binance: nothing of the simulated market is answered any more."""
    before = watch.version(*SHOWN)
    record_choice(store, "simulated", replace=True)
    until(lambda: watch.version(*SHOWN) != before)


def test_a_cut_connection_invalidates_everything_until_it_is_restored(watch, owner):
    """What was missed in between is unknown."""
    before = watch.version("candles")
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN btcml'"
    with owner.connect() as connection:
        connection.execute(text(query))
    until(lambda: watch.version("candles") != before)
    until(lambda: watch.alive)
