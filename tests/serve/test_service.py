from __future__ import annotations

import pytest
from sqlalchemy import text

from btcml.serve.service import ChangeListener

from .conftest import until


@pytest.fixture
def watch(store):
    found = ChangeListener(store)
    found.start()
    until(lambda: found.alive)
    yield found
    found.stop()


def test_a_change_of_a_table_is_heard(watch, store):
    """Who has kept something about jobs knows that it is old."""
    before, others = watch.version("jobs"), watch.version("candles")
    query = (
        "INSERT INTO jobs (kind, market, symbol, interval, asked_by) VALUES ('ingest', 'simulated', 'A', '5m', 'me')"
    )
    with store.engine.begin() as connection:
        connection.execute(text(query))
    until(lambda: watch.version("jobs") != before)
    assert watch.version("candles") == others


def test_a_cut_connection_makes_everything_old_until_it_is_heard_again(watch, owner):
    """What was missed in between nobody knows."""
    before = watch.version("candles")
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN btcml'"
    with owner.connect() as connection:
        connection.execute(text(query))
    until(lambda: watch.version("candles") != before)
    until(lambda: watch.alive)
