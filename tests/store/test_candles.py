"""Stored candles: nothing twice, nothing lost, old values kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from btcml.candles import COLUMNS, SeriesKey, as_candles, candle_gaps
from btcml.contract import rule_results
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import (
    _QUARANTINE,
    BanLedger,
    Upserted,
    check_contract,
    list_series,
    read_candles,
    read_halts,
    read_last_candles,
    read_open_times,
    read_series_keys,
    record_gaps,
    upsert_candles,
)

KEY = SeriesKey("simulated", "BTCUSDT", "5m")
AT = pd.Timestamp("2025-02-01", tz="UTC")
HOURLY = SeriesKey("simulated", "BTCUSDT", "1h")
DAY = pd.Timestamp("2025-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)
LATER = DAY + 48 * HOUR


def candles(n=100, start="2025-01-01"):
    rise = np.arange(n, dtype=float)
    frame = pd.DataFrame({"open_time": pd.date_range(start, periods=n, freq="5min", tz="UTC")})
    values = {
        "open": 100 + rise,
        "high": 300.0,
        "low": 1.0,
        "close": 101 + rise / 3,
        "volume": 1 + rise,
        "trades": rise,
    }
    return as_candles(frame.assign(**values), "5m")


def upsert(store, frame, source="test"):
    return upsert_candles(store, KEY, frame, source=source, at=AT)


def revisions(store):
    with store.engine.connect() as connection:
        return connection.execute(text("SELECT open_time, close, source FROM candle_revisions ORDER BY id")).all()


def test_what_is_stored_is_read_back_bit_for_bit(store):
    """Every column, nulls included, survives the way through Arrow and PostgreSQL."""
    assert upsert(store, candles()) == Upserted(100, 0, 0)
    pd.testing.assert_frame_equal(read_candles(store, KEY), candles(), check_exact=True)


def test_storing_the_same_again_changes_nothing(store):
    """An ingest that repeats is idempotent."""
    upsert(store, candles())
    assert upsert(store, candles()) == Upserted(0, 0, 0)
    assert revisions(store) == []


def test_a_restated_candle_is_revised_and_its_old_values_are_kept(store):
    """Law 1: a final candle that the exchange later restates is revised, the old values stay."""
    upsert(store, candles())
    restated = candles()
    restated.loc[7, "close"] = 150.0
    assert upsert(store, restated, "later") == Upserted(0, 1, 0)
    assert read_candles(store, KEY)["close"][7] == 150
    old = revisions(store)
    assert [(row.close, row.source) for row in old] == [(candles()["close"][7], "later")]


def test_an_unknown_value_never_replaces_a_known_one(store):
    """A source without the number of trades does not erase it."""
    upsert(store, candles())
    assert upsert(store, candles().assign(trades=np.nan)) == Upserted(0, 0, 0)
    assert read_candles(store, KEY)["trades"].notna().all()


def test_a_known_value_fills_an_unknown_one(store):
    """The other way round it is a revision."""
    upsert(store, candles().assign(trades=np.nan))
    assert upsert(store, candles()).revised == 100
    assert read_candles(store, KEY)["trades"].notna().all()


def test_a_broken_row_goes_to_quarantine_once_and_the_rest_is_stored(store):
    """Law 8: nothing is lost, and a row that is sent again and again is kept once."""
    bad = candles()
    bad.loc[3, "volume"] = -1.0
    assert upsert(store, bad) == Upserted(99, 0, 1)
    assert upsert(store, bad) == Upserted(0, 0, 1)
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT rule, source, volume FROM quarantine")).all()
    assert [tuple(row) for row in rows] == [("volume_not_negative", "test", -1.0)]


def test_broken_rows_are_not_compared_one_by_one_with_those_in_quarantine(store):
    """32,000 of them twice would be a thousand million comparisons: the plan hashes."""
    columns = "market, symbol, interval, " + ", ".join(COLUMNS) + ", rule"
    query = _QUARANTINE.format(held="").replace("$1", "''").replace("$2", "''")
    with store.engine.connect() as connection:
        connection.execute(text(f"CREATE TEMPORARY TABLE broken AS SELECT {columns} FROM quarantine"))
        plan = " ".join(connection.execute(text(f"EXPLAIN {query}")).scalars())
    assert "SetOp Except" in plan
    assert "Anti Join" not in plan


def test_a_repaired_row_leaves_quarantine(store):
    """When a good candle of the same time comes, the case is closed, not deleted."""
    bad = candles()
    bad.loc[3, "volume"] = -1.0
    upsert(store, bad)
    upsert(store, candles())
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT released_at FROM quarantine")) == AT
    assert len(read_candles(store, KEY)) == 100


def test_markets_never_mix(store):
    """The same symbol, interval and time in two markets are two candles."""
    upsert(store, candles())
    other = SeriesKey("binance", "BTCUSDT", "5m")
    upsert_candles(store, other, candles().assign(volume=9.0), source="x", at=AT)
    pd.testing.assert_frame_equal(read_candles(store, KEY), candles())
    assert read_series_keys(store) == sorted([KEY, other])


def test_a_span_is_half_open(store):
    """Start belongs to it, end does not."""
    upsert(store, candles())
    start, end = candles()["open_time"][10], candles()["open_time"][20]
    assert read_candles(store, KEY, start, end)["open_time"].tolist() == candles()["open_time"][10:20].tolist()
    assert len(read_open_times(store, KEY, start, end)) == 10


def test_the_last_candles_come_oldest_first(store):
    """The newest n, in ascending order, whatever n is."""
    upsert(store, candles())
    last = read_last_candles(store, KEY, 5)
    pd.testing.assert_frame_equal(last, candles().tail(5).reset_index(drop=True))
    assert len(read_last_candles(store, KEY, 1000)) == 100


def test_an_empty_frame_is_no_work_and_no_error(store):
    """A market with nothing new."""
    assert upsert(store, candles(0)) == Upserted(0, 0, 0)
    assert read_candles(store, KEY).empty


@pytest.mark.parametrize("statement", ["DELETE FROM candles", "DROP TABLE candles", "DELETE FROM candle_revisions"])
def test_the_application_cannot_delete_history(store, statement):
    """The role of the application owns nothing."""
    with (
        store.engine.connect() as connection,
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
    ):
        connection.execute(text(statement))


def test_a_connection_that_the_server_has_cut_is_replaced(store, owner):
    """After a restart of the server the next read works."""
    upsert(store, candles())
    with owner.begin() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'btcml_app'"
        connection.execute(text(cut))
    assert len(read_candles(store, KEY)) == 100


@pytest.mark.real
def test_the_restated_minutes_of_2021_are_stored_as_revisions(store, shared_data):
    """70 minutes that the exchange restated after the fact: new values in the table, old ones kept."""
    raw = pd.read_csv(shared_data / "raw/restated_BTCUSDT-1m_2021-04-22..23.csv")
    names = ["open", "high", "low", "close", "volume"]
    key = SeriesKey("binance", "BTCUSDT", "1m")
    times = pd.DataFrame({"open_time": pd.to_datetime(raw["open_time"], unit="ms", utc=True)})
    served, restated = (
        as_candles(times.join(raw[[f"{n}_{kind}" for n in names]].set_axis(names, axis=1)), "1m")
        for kind in ("as_served_2021", "restated")
    )
    upsert_candles(store, key, served, source="2021", at=AT)
    done = upsert_candles(store, key, restated, source="2025", at=AT)
    differ = (served[names] != restated[names]).any(axis=1).sum()
    assert done.revised == differ > 0
    pd.testing.assert_frame_equal(read_candles(store, key), restated)
    assert len(revisions(store)) == differ


def gap(hour):
    return pd.DataFrame({"start": [DAY + hour * HOUR], "end": [DAY + (hour + 1) * HOUR], "missing": [12]})


def test_a_requested_hole_is_a_halt(store):
    """The market was asked and had nothing."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), LATER)
    assert read_halts(store, KEY) == {DAY + 3 * HOUR}


def test_a_hole_that_was_filled_is_deleted(store):
    """Asked again, the market has candles there now."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), LATER)
    record_gaps(store, KEY, gap(3)[:0], (DAY, DAY + 24 * HOUR), LATER)
    assert read_halts(store, KEY) == set()


def test_a_recent_hole_is_no_halt_yet(store):
    """What the market did not have an hour later may have been a fault of the answer: not yet a halt."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), DAY + 5 * HOUR)
    assert read_halts(store, KEY) == set()


def test_holes_outside_of_the_question_stay(store):
    """An answer says nothing about another span."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), LATER)
    record_gaps(store, KEY, gap(3)[:0], (DAY + 5 * HOUR, DAY + 24 * HOUR), LATER)
    assert read_halts(store, KEY) == {DAY + 3 * HOUR}


def test_a_ban_is_remembered_and_never_shortened(store):
    """A second, shorter ban of the same host does not end the first early."""
    bans = BanLedger(store)
    assert bans.until("api") is None
    bans.remember("api", DAY + 2 * HOUR, "418")
    bans.remember("api", DAY + HOUR, "429")
    assert bans.until("api") == DAY + 2 * HOUR


@pytest.fixture
def hourly():
    """Ten days without a hole."""
    return SimulatedMarket().fetch_candles("BTCUSDT", "1h", DAY, DAY + 240 * HOUR)


def counts(store):
    """Holes of the only series."""
    row = list_series(store).iloc[0]
    return int(row["candles"]), int(row["gaps"]), int(row["missing"]), int(row["halts"])


def test_holes_are_counted_between_the_candles_that_are_there(store, hourly):
    """A span that was never requested is as missing as the exchange's halt."""
    upsert_candles(store, HOURLY, hourly.drop(index=[*range(50, 60), 100]), source="test", at=DAY)
    assert counts(store) == (229, 2, 11, 0)


def test_the_markets_own_holes_are_counted_apart(store, hourly):
    """They were requested, and the market had nothing."""
    there = hourly.drop(index=[*range(50, 60), 100])
    upsert_candles(store, HOURLY, there, source="test", at=DAY)
    halts = candle_gaps(there["open_time"], "1h").iloc[1:]
    record_gaps(store, HOURLY, halts, (DAY + 90 * HOUR, DAY + 110 * HOUR), DAY + 300 * HOUR)
    assert counts(store) == (229, 2, 11, 1)


def test_a_requested_span_before_the_first_candle_is_no_hole(store, hourly):
    """A file of unbroken candles has none, wherever the fetch began."""
    upsert_candles(store, HOURLY, hourly, source="test", at=DAY)
    before = pd.DataFrame({"start": [DAY - 24 * HOUR], "end": [DAY], "missing": [24]})
    record_gaps(store, HOURLY, before, (DAY - 24 * HOUR, DAY + 240 * HOUR), DAY + 300 * HOUR)
    assert counts(store) == (240, 0, 0, 0)


def test_the_database_is_checked_by_the_rules_of_a_report(store, hourly, owner):
    """The same names in the same order; the two that the table keeps by itself are constraints there."""
    assert list(check_contract(store)["rule"]) == list(rule_results(hourly, "1h")["rule"])
    with owner.connect() as connection:
        kinds = "SELECT contype FROM pg_constraint WHERE conrelid = 'candles'::regclass"
        nulls = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'candles'::regclass AND attname = 'close'"
        assert "p" in set(connection.execute(text(kinds)).scalars())
        assert connection.scalar(text(nulls))
