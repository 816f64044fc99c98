"""What is remembered beside the candles."""

from __future__ import annotations

import pandas as pd

from btcml.candles import SeriesKey
from btcml.store.ledger import BanLedger, append_trials, count_trials, read_halts, record_gaps

KEY = SeriesKey("simulated", "BTCUSDT", "5m")
DAY = pd.Timestamp("2025-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)
LATER = DAY + 48 * HOUR


def gap(hour):
    return pd.DataFrame({"start": [DAY + hour * HOUR], "end": [DAY + (hour + 1) * HOUR], "missing": [12]})


def test_a_hole_that_was_asked_for_is_a_halt(store):
    """The market was asked and had nothing."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), LATER)
    assert read_halts(store, KEY) == {DAY + 3 * HOUR}


def test_a_hole_that_was_filled_is_struck_off(store):
    """Asked again, the market has candles there now."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), LATER)
    record_gaps(store, KEY, gap(3)[:0], (DAY, DAY + 24 * HOUR), LATER)
    assert read_halts(store, KEY) == set()


def test_a_young_hole_is_asked_for_again(store):
    """What the market did not have an hour later may have been a fault of the answer: not yet a halt."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), DAY + 5 * HOUR)
    assert read_halts(store, KEY) == set()


def test_holes_outside_of_the_question_stay(store):
    """An answer says nothing about another span."""
    record_gaps(store, KEY, gap(3), (DAY, DAY + 24 * HOUR), LATER)
    record_gaps(store, KEY, gap(3)[:0], (DAY + 5 * HOUR, DAY + 24 * HOUR), LATER)
    assert read_halts(store, KEY) == {DAY + 3 * HOUR}


def test_a_ban_is_remembered_and_never_shortened(store):
    """A second, shorter word about the same host does not end the ban early."""
    bans = BanLedger(store)
    assert bans.until("api") is None
    bans.remember("api", DAY + 2 * HOUR, "418")
    bans.remember("api", DAY + HOUR, "429")
    assert bans.until("api") == DAY + 2 * HOUR


def test_the_same_trial_on_the_same_snapshot_counts_once(store):
    """Making a report twice is not trying twice."""
    trial = {"model": "ridge", "parameters": '{"alpha": 1}', "score": 0.99}
    append_trials(store, KEY, "a", [trial, trial], DAY)
    append_trials(store, KEY, "b", [trial], DAY)
    append_trials(store, KEY, "b", [], DAY)
    assert count_trials(store, KEY) == 2
