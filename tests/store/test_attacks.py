"""Whoever has the application's password, or owns the database, and wants a better past score."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.candles import SeriesKey, interval_floor
from btcml.errors import NotReadyError, StoreError
from btcml.store.candles import read_candles, upsert_candles
from btcml.store.chain import restated_outcomes, seal_faults, verify_chain
from btcml.store.forecasts import append_forecasts, live_scores, read_scored, record_clock

from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand
from .conftest import FIVE, RECORD, TARGET, one_candle, one_forecast

AFTER = TARGET + 5 * FIVE
SEAL_OLD = f"""INSERT INTO btcml.forecasts
(market, symbol, interval, open_time, role, model, artifact, cutoff, base, close) VALUES
('{RECORD.market}', 'BTCUSDT', '5m', '{TARGET}', 'challenger', 'best', 'artifact', '{TARGET - FIVE}', 100, 101)"""


def faults(store):
    """What the whole verification finds; that the test turned the clock is left out."""
    found = [fault for fault in seal_faults(store) if not fault.startswith(f"the clock of {RECORD.market} moved")]
    broken = verify_chain(store, RECORD)
    return found + ([str(broken)] if broken else []) + restated_outcomes(store, RECORD)


def test_an_honest_record_has_no_fault(record):
    """Five forecasts and five outcomes, each naming the other's hash, of hash version 2."""
    assert faults(record) == []
    assert live_scores(record, RECORD)["rows"] == 5
    links = """SELECT f.hash_version, o.forecast_hash = f.hash, f.outcome = coalesce(p.hash, '') FROM forecasts f
    JOIN outcomes o USING (open_time) LEFT JOIN outcomes p ON p.seq = o.seq - 1"""
    assert [tuple(row) for row in record.fetch(links)] == [(2, True, True)] * 5


REFUSED = (
    *(f"{verb} {table}" for table in ("forecasts", "outcomes", "candle_revisions", "market_clocks", "candles", "models",
      "trials", "jobs") for verb in ("DELETE FROM", "TRUNCATE")),
    "UPDATE forecasts SET close = base",
    "UPDATE outcomes SET close = 100",
    "UPDATE candle_revisions SET close = 100",
    "UPDATE candles SET open_time = open_time - interval '1 day'",
    "UPDATE candles SET market = 'file:x'",
    "INSERT INTO outcomes SELECT * FROM outcomes",
    "INSERT INTO candle_revisions SELECT 1, c.*, 'x', now() FROM candles c",
    "INSERT INTO market_clocks (market, origin_market, origin_real, speed) VALUES ('binance', now(), now(), 1)",
    "UPDATE market_clocks SET origin_market = origin_market - interval '1 hour'",
    "UPDATE models SET manifest = repeat('0', 64)",
    "UPDATE models SET metrics = '{}', verdict = '{}'",
    "SELECT seal_outcomes(NULL, '-infinity')",
    "SELECT record_clock('binance', now() - interval '1 hour', now() - interval '1 hour', 1)",
    "ALTER TABLE forecasts DISABLE TRIGGER ALL",
    "ALTER TABLE candles DISABLE TRIGGER candles_revised",
    "DROP TRIGGER forecasts_seal ON forecasts",
    "DROP VIEW futuros",
    "SET session_replication_role = replica",
    "SET SESSION AUTHORIZATION postgres",
    "CREATE FUNCTION btcml.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION market_now(m text) RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
    "ALTER FUNCTION market_now(text) SET search_path = pg_temp",
    "CREATE TABLE btcml.t (x int)",
    "CREATE SCHEMA s",
    "CREATE TRIGGER t BEFORE INSERT ON forecasts FOR EACH ROW EXECUTE FUNCTION tell_change()",
    "CREATE RULE r AS ON INSERT TO forecasts DO INSTEAD NOTHING",
    SEAL_OLD,
)  # fmt: skip


@pytest.mark.parametrize("statement", REFUSED)
def test_the_application_is_refused(record, statement):
    """By grants, by ownership, or by the seal; the scores are what they were."""
    before = live_scores(record, RECORD)
    with pytest.raises(DBAPIError), record.engine.begin() as connection:
        connection.execute(text(statement))
    assert faults(record) == []
    assert live_scores(record, RECORD) == before


SHADOWS = (
    "SET search_path = pg_temp, btcml",
    "CREATE TEMP TABLE market_clocks AS SELECT * FROM btcml.market_clocks WHERE id = 1",
    "CREATE TEMP TABLE forecasts AS TABLE btcml.forecasts",
    "CREATE TEMP TABLE outcomes AS SELECT * FROM btcml.outcomes WHERE false",
    "CREATE TEMP TABLE candles AS TABLE btcml.candles",
    "CREATE FUNCTION pg_temp.market_now(m text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz 'epoch' $$",
    "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$",
)


def test_tables_and_functions_of_the_same_names_change_nothing(record):
    """Temporary objects and another search_path: the seal finds its own tables and functions."""
    with record.engine.connect() as connection:
        for statement in SHADOWS:
            connection.execute(text(statement))
        with pytest.raises(DBAPIError, match="has closed"):
            connection.execute(text(SEAL_OLD))
        connection.invalidate()
    assert faults(record) == []


def test_a_candle_that_is_changed_to_fit_changes_no_score_and_is_shown(record):
    """The first final value scores; the change is a revision, and verification lists it with both closes."""
    before = live_scores(record, RECORD)
    with record.engine.begin() as connection:
        connection.execute(
            text("UPDATE candles c SET close = f.close FROM forecasts f WHERE f.open_time = c.open_time")
        )
    assert live_scores(record, RECORD) == before
    shown = faults(record)
    assert [(row["scored"], row["now"], row["source"]) for row in shown] == [
        (101.0 + n, 1.01 * (101.0 + n), "btcml_app") for n in range(5)
    ]
    assert record.scalar("SELECT count(*) FROM candle_revisions") == 5


def test_a_restatement_by_the_exchange_is_shown_as_such(record):
    """Its source is the exchange; the forecast keeps its score."""
    before = live_scores(record, RECORD)
    upsert_candles(record, RECORD, one_candle(TARGET, 105.0), source=RECORD.market, at=AFTER)
    (shown,) = faults(record)
    assert (shown["open_time"], shown["scored"], shown["now"]) == (TARGET.isoformat(), 101.0, 105.0)
    assert shown["source"] == RECORD.market
    assert live_scores(record, RECORD) == before
    assert read_candles(record, RECORD)["close"][0] == 105.0


def test_a_candle_that_has_not_closed_is_no_outcome(record):
    """Stored too early, it is sealed only after its close, with the values that it has then."""
    upsert_candles(record, RECORD, one_candle(AFTER, 90.5), source="me", at=AFTER)
    append_forecasts(record, RECORD, [one_forecast(AFTER, 90.5, 105.0)])
    assert len(read_scored(record, RECORD).dropna(subset="real_close")) == 5


def test_a_forecast_that_is_committed_after_its_outcome_has_no_score(record, owner):
    """Held in an open transaction until the outcome was known: it does not count, and is found."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(record.engine.connect())
        insert = SEAL_OLD.replace(str(TARGET), str(AFTER)).replace("challenger", "champion")
        connection.execute(text(insert))
        turn_clock(owner, RECORD.market, AFTER + FIVE + pd.Timedelta("2s"))
        upsert_candles(record, RECORD, one_candle(AFTER, 101.0), source=RECORD.market, at=AFTER + FIVE)
        connection.commit()
    assert faults(record) == ["breaks at forecast 6: it was committed after its outcome was known"]
    assert live_scores(record, RECORD)["rows"] == 5


def test_binances_clock_set_back_seals_nothing_old(store):
    """A minute back at first, and again later: a seal is never earlier than the database's own clock."""
    key = SeriesKey("binance", "BTCUSDT", "1m")
    now = pd.Timestamp.now(tz="UTC")
    record_clock(store, "binance", now - pd.Timedelta("59.5s"))
    closed = interval_floor(now, "1m") - pd.Timedelta("1min")
    with pytest.raises(NotReadyError, match="has closed"):
        append_forecasts(store, key, [one_forecast(closed, 1.0)])


@pytest.mark.parametrize("seconds", [-59.0, -20.0, 20.0, 59.0])
def test_a_jump_of_binances_clock_is_refused(store, seconds):
    """From a clock that agrees with now(): it neither agrees with it, nor goes on from what was measured."""
    now = pd.Timestamp.now(tz="UTC")
    record_clock(store, "binance", now)
    with pytest.raises(StoreError, match="moved by"):
        record_clock(store, "binance", pd.Timestamp.now(tz="UTC") + pd.Timedelta(seconds=seconds))
    assert seal_faults(store) == []


def test_the_clock_cannot_walk_in_small_steps(store):
    """Each of 4 s goes on from the one before, but not from the first of the hour."""
    now = pd.Timestamp.now(tz="UTC")
    for seconds in (0, -4, -8):
        with pytest.raises(StoreError) if seconds == -8 else contextlib.nullcontext():
            record_clock(store, "binance", now + pd.Timedelta(seconds=seconds), asked_at=now)
    assert store.scalar("SELECT count(*) FROM market_clocks") == 2


def test_an_old_measurement_is_refused(store):
    """Half a minute is the most; nothing is recorded."""
    now = pd.Timestamp.now(tz="UTC")
    for asked in (now - pd.Timedelta("1min"), now + pd.Timedelta("1min")):
        with pytest.raises(StoreError, match="took more than 30 s"):
            record_clock(store, "binance", asked, asked_at=asked)
    assert store.scalar("SELECT count(*) FROM market_clocks") == 0


@pytest.mark.parametrize("change", ["horizon = 4", "quantiles[2] = 100", "levels[1] = 0.1", "levels = NULL"])
def test_what_the_owner_changes_of_a_longer_forecast_is_found(record, owner, change):
    """Horizon, levels and quantiles are hashed like the rest."""
    far = one_forecast(AFTER + 2 * FIVE, 101.0, 105.0) | {"horizon": 3, "cutoff": TARGET}
    append_forecasts(record, RECORD, [far | {"levels": [0.05, 0.95], "quantiles": [99.0, 103.0]}])
    assert faults(record) == []
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(f"UPDATE forecasts SET {change} WHERE seq = 6"))
    (found,) = faults(record)
    assert found == "breaks at forecast 6: the row does not match its hash"


OWNED = {
    "UPDATE forecasts SET close = close + 1e-9 WHERE seq = 2": "breaks at forecast 2: the row does not match its hash",
    "DELETE FROM forecasts WHERE seq = 1": "breaks at forecast 1: the row is missing",
    "DELETE FROM forecasts WHERE seq = 5": "breaks at outcome 5: the forecast that it scored is not in the chain",
    "DELETE FROM forecasts": "breaks at outcome 1: the forecast that it scored is not in the chain",
    "UPDATE outcomes SET close = 100 WHERE seq = 3": "breaks at outcome 3: the row does not match its hash",
    "UPDATE outcomes SET forecast_seq = 9 WHERE seq = 3": "breaks at outcome 3: the row does not match its hash",
    "DELETE FROM outcomes WHERE seq = 1": "breaks at outcome 1: the row is missing",
    "DELETE FROM outcomes WHERE seq = 4": "breaks at outcome 4: the row is missing",
    "DELETE FROM outcomes WHERE seq >= 4": "breaks at forecast 5: it names an outcome that is not in the chain",
    "DELETE FROM outcomes": "breaks at forecast 2: it names an outcome that is not in the chain",
    "UPDATE candles SET close = 100 WHERE open_time = '2025-03-01 12:05Z'": "breaks at outcome 2: its candle was",
    "DELETE FROM candles WHERE open_time = '2025-03-01 12:05Z'": "breaks at outcome 2: its candle was deleted",
    "UPDATE market_clocks SET origin_market = origin_market - interval '1 s'": "breaks at forecast 1: its time is not",
}


@pytest.mark.parametrize("statement", OWNED)
def test_what_the_owner_changes_is_found(record, owner, statement):
    """With the triggers off for a session, so that nothing is left but the rows themselves."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))
    (found,) = faults(record)
    assert found.startswith(OWNED[statement])


ALTERED = {
    "ALTER TABLE forecasts DISABLE TRIGGER forecasts_sealed": "the trigger forecasts_sealed is disabled",
    "ALTER TABLE candles DISABLE TRIGGER USER": "the trigger candles_outcomes is disabled",
    "DROP TRIGGER outcomes_sealed ON outcomes": "the triggers or functions",
    "CREATE OR REPLACE FUNCTION seal_time(m text, real_time timestamptz) RETURNS timestamptz LANGUAGE sql STABLE "
    "SET search_path = btcml, pg_temp AS $$ SELECT real_time - interval '1 hour' $$": "the triggers or functions",
    "ALTER FUNCTION market_now(text) RESET ALL": "the triggers or functions",
    "INSERT INTO market_clocks (market, origin_market, origin_real, speed) VALUES ('binance', now(), now(), 1), "
    "('binance', now() - interval '40 s', now(), 1)": "the clock of binance moved against now()",
}


@pytest.mark.parametrize("statement", ALTERED)
def test_what_the_owner_alters_is_found(store, owner, statement):  # noqa: ARG001 - an empty history of clocks
    """Disabled and dropped triggers, other functions, a clock that moved: in the transaction that is rolled back."""
    with owner.connect() as connection:
        connection.execute(text(statement))
        found = seal_faults(SimpleNamespace(fetch=lambda query: connection.execute(text(query)).fetchall()))
        connection.rollback()
    assert found[0].startswith(ALTERED[statement])
