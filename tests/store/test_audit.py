"""The list of series says what is there, and what is not."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey, candle_gaps
from btcml.contract import rule_results
from btcml.market.simulate import SimulatedMarket
from btcml.store.audit import check_contract, list_series
from btcml.store.candles import upsert_candles
from btcml.store.ledger import record_gaps

KEY = SeriesKey("simulated", "BTCUSDT", "1h")
DAY = pd.Timestamp("2025-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def frame():
    """Ten days without a hole."""
    return SimulatedMarket().fetch_candles("BTCUSDT", "1h", DAY, DAY + 240 * HOUR)


def counts(store):
    """Holes of the only series."""
    row = list_series(store).iloc[0]
    return int(row["candles"]), int(row["gaps"]), int(row["missing"]), int(row["halts"])


def test_holes_are_counted_between_the_candles_that_are_there(store, frame):
    """Whoever made them: a span that was never asked for is as missing as the exchange's halt."""
    upsert_candles(store, KEY, frame.drop(index=[*range(50, 60), 100]), source="test", at=DAY)
    assert counts(store) == (229, 2, 11, 0)


def test_of_the_holes_the_markets_own_are_told(store, frame):
    """What the market was asked for and did not have."""
    there = frame.drop(index=[*range(50, 60), 100])
    upsert_candles(store, KEY, there, source="test", at=DAY)
    halts = candle_gaps(there["open_time"], "1h").iloc[1:]
    record_gaps(store, KEY, halts, (DAY + 90 * HOUR, DAY + 110 * HOUR), DAY + 300 * HOUR)
    assert counts(store) == (229, 2, 11, 1)


def test_what_was_asked_for_before_the_first_candle_is_no_hole(store, frame):
    """A file of unbroken candles has none, wherever the fetch began."""
    upsert_candles(store, KEY, frame, source="test", at=DAY)
    before = pd.DataFrame({"start": [DAY - 24 * HOUR], "end": [DAY], "missing": [24]})
    record_gaps(store, KEY, before, (DAY - 24 * HOUR, DAY + 240 * HOUR), DAY + 300 * HOUR)
    assert counts(store) == (240, 0, 0, 0)


def test_the_database_is_checked_by_the_rules_of_a_report(store, frame, owner):
    """The same names in the same order; the two that the table keeps by itself are constraints there."""
    assert list(check_contract(store)["rule"]) == list(rule_results(frame, "1h")["rule"])
    with owner.connect() as connection:
        kinds = "SELECT contype FROM pg_constraint WHERE conrelid = 'candles'::regclass"
        nulls = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'candles'::regclass AND attname = 'close'"
        assert "p" in set(connection.execute(text(kinds)).scalars())
        assert connection.scalar(text(nulls))
