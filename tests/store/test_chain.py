from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.market.simulate import SimulatedMarket
from btcml.store import chain as chain_module
from btcml.store.candles import upsert_candles
from btcml.store.chain import GUARDS, chain_head, chain_keys, verify_chain
from btcml.store.forecasts import append_forecasts
from btcml.store.jobs import append_job, finish_job

from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand

FIVE = pd.Timedelta("5min")
TARGET = pd.Timestamp("2025-03-01 12:00", tz="UTC")
KEY = SeriesKey("replay:chain", "BTCUSDT", "5m")


@pytest.fixture
def chain(store, owner):
    """Five sealed forecasts, one candle after the other."""
    for step in range(5):
        target = TARGET + step * FIVE
        turn_clock(owner, KEY.market, target)
        row = {"open_time": target, "role": "champion", "model": "m", "artifact": "20250301T000000-aaaa"}
        append_forecasts(
            store, KEY, [row | {"cutoff": TARGET - FIVE, "base": 100.0, "close": 100.1 + step, "lo": None}]
        )
    return store


def tampered(owner, statement):
    """Run a statement as a superuser with the triggers disabled."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))


def test_an_untouched_chain_is_whole(chain):
    """Python's own hash of every row equals the one that the trigger computed."""
    assert verify_chain(chain, KEY) is None
    assert chain_keys(chain) == [KEY]
    assert chain_head(chain, KEY)["seq"] == "5"


def test_a_byte_that_a_superuser_changed_is_found_and_located(chain, owner):
    """One last bit of one price is enough."""
    tampered(owner, "UPDATE forecasts SET close = close + 1e-13 WHERE seq = 3")
    found = verify_chain(chain, KEY)
    assert (found.seq, found.reason) == (3, "the row does not match its hash")


def test_a_row_whose_hash_was_made_to_fit_breaks_the_next_one(chain, owner):
    """Recomputing one hash does not help: the row after it holds the old one."""
    tampered(owner, "UPDATE forecasts SET close = 99 WHERE seq = 3")
    tampered(owner, "UPDATE forecasts f SET hash = forecast_digest(f) WHERE seq = 3")
    found = verify_chain(chain, KEY)
    assert (found.seq, found.reason) == (4, "the row does not follow the row before")


def test_a_deleted_row_is_missed(chain, owner):
    """A hole in the sequence is where the chain breaks."""
    tampered(owner, "DELETE FROM forecasts WHERE seq = 2")
    assert verify_chain(chain, KEY).seq == 2


def test_a_tail_cut_off_is_noticed_by_the_head_that_was_written_down(chain, owner):
    """A shorter chain is consistent, but it lacks the recorded head."""
    head = chain_head(chain, KEY)
    tampered(owner, "DELETE FROM forecasts WHERE seq >= 4")
    assert verify_chain(chain, KEY) is None
    assert verify_chain(chain, KEY, head).seq == 5


@pytest.mark.parametrize("first", [4, 1])
def test_a_tail_cut_off_is_noticed_by_the_log_of_jobs(chain, owner, first):
    """Every job has recorded the head of its time, so that even a deleted chain is noticed."""
    for _ in range(2):
        finish_job(
            chain, append_job(chain, "forecast", KEY, asked_by="scheduler"), result={"heads": chain_head(chain, KEY)}
        )
    assert verify_chain(chain, KEY) is None
    tampered(owner, f"DELETE FROM forecasts WHERE seq >= {first}")
    assert chain_keys(chain) == [KEY]
    found = verify_chain(chain, KEY)
    assert (found.seq, found.reason) == (5, "a job recorded this head, and it is not in the chain")


@pytest.mark.parametrize(("forged", "revised"), [(0.0, False), (0.01, False), (0.01, True)])
def test_a_base_that_was_forged_when_it_was_written_is_found(store, owner, forged, revised):
    """The close of the candle before is sealed as its outcome; where that was restated, nothing is said."""
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "5m", TARGET, TARGET + FIVE)
    rows = {"role": "champion", "model": "m", "artifact": "20250301T000000-aaaa", "cutoff": TARGET - FIVE}
    turn_clock(owner, KEY.market, TARGET)
    append_forecasts(store, KEY, [rows | {"open_time": TARGET, "base": 1.0, "close": 1.0}])
    turn_clock(owner, KEY.market, TARGET + FIVE)
    upsert_candles(store, KEY, candles, source=KEY.market, at=TARGET + FIVE)
    if revised:
        restated = candles.assign(close=candles["low"])
        upsert_candles(store, KEY, restated, source=KEY.market, at=TARGET + FIVE)
    base = float(candles["close"].iloc[0]) + forged
    append_forecasts(store, KEY, [rows | {"open_time": TARGET + FIVE, "base": base, "close": 1.0}])
    found = verify_chain(store, KEY)
    assert (found and (found.seq, found.reason)) == (
        (2, "its base is not the close of the candle before it") if forged and not revised else None
    )


def test_each_series_has_a_chain_of_its_own(chain):
    """Another symbol begins at 1 and follows nothing."""
    other = SeriesKey(KEY.market, "ETHUSDT", "5m")
    target = TARGET + 4 * FIVE
    row = {"open_time": target, "role": "champion", "model": "m", "artifact": "20250301T000000-aaaa"}
    append_forecasts(chain, other, [row | {"cutoff": TARGET, "base": 1.0, "close": 1.0}])
    assert chain_head(chain, other)["seq"] == "1"
    assert verify_chain(chain, other) is None


def test_the_code_knows_the_triggers_and_functions_of_its_schema(store):
    """After a migration that changes one, this is the value for GUARDS."""
    assert store.fetch(chain_module._GUARDS)[0].digest == GUARDS
