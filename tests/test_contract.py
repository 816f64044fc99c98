"""One YAML file and four enforcers that agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from btcml.candles import COLUMNS, as_candles
from btcml.contract import broken_rules, enforce_contract, load_contract, rule_results

pytestmark = pytest.mark.usefixtures("store")

RULES = [rule.name for rule in load_contract().rules]

BREAKS = {
    "positive_prices": {"low": -1.0},
    "plausible_prices": {"high": 1e16},
    "high_is_highest": {"high": 100.5},
    "low_is_lowest": {"low": 100.5},
    "volume_not_negative": {"volume": -1.0},
    "amounts_not_negative": {"trades": -1.0},
    "taker_within_volume": {"taker_buy_base": 11.0},
    "taker_within_quote_volume": {"taker_buy_quote": 1001.0},
    "open_time_on_grid": {"open_time": pd.Timestamp("2025-01-01 00:00:01", tz="UTC")},
    "close_time_plausible": {"close_time": pd.Timestamp("2025-01-01 00:05:01", tz="UTC")},
}


NEXT, DELTA = pd.Timestamp("2025-01-01 00:05", tz="UTC"), pd.Timedelta("299.999s")


def candle(**changes):
    """Return one good candle with changes."""
    values = {
        "open_time": pd.Timestamp("2025-01-01", tz="UTC"),
        "open": 100.0,
        "high": 102.0,
        "low": 99.0,
        "close": 101.0,
        "volume": 10.0,
        "close_time": pd.Timestamp("2025-01-01 00:04:59.999", tz="UTC"),
        "quote_volume": 1000.0,
        "trades": 7.0,
        "taker_buy_base": 4.0,
        "taker_buy_quote": 400.0,
    }
    return as_candles(pd.DataFrame([values | changes]), "5m")


def insert(owner, frame):
    """Insert a candle with plain SQL, past all of our code."""
    row = {name: None if pd.isna(value) else value for name, value in frame.to_dict("records")[0].items()}
    names = ", ".join(("market", "symbol", "interval", *COLUMNS))
    values = ", ".join(("'binance'", "'BTCUSDT'", "'5m'", *(f":{name}" for name in COLUMNS)))
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL btcml.source = 'binance'"))
        connection.execute(text(f"INSERT INTO candles ({names}) VALUES ({values})"), row)


def test_of_different_rows_of_one_time_none_is_kept_and_of_equal_ones_the_first():
    """No rule says which of two contradicting rows is true."""
    other = candle(close=100.5)
    rows = pd.concat([candle(), candle(), other, candle(open_time=NEXT, close_time=NEXT + DELTA)], ignore_index=True)
    assert broken_rules(rows, "5m")["unique_open_time"].tolist() == [True, True, True, False]
    assert broken_rules(rows.drop(index=2), "5m")["unique_open_time"].tolist() == [False, True, False]


def test_every_rule_has_a_row_that_breaks_it():
    """A rule that is added to the YAML needs a row here."""
    assert set(BREAKS) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_frame_table_and_query_agree_on_a_row_that_breaks_a_rule(rule, owner):
    """The validator names the rule, the table refuses the row by it, the YAML's SQL counts it."""
    bad = candle(**BREAKS[rule])
    assert broken_rules(bad, "5m")[rule].all()
    with pytest.raises(IntegrityError) as refused:
        insert(owner, bad)
    names = [name for name, broken in broken_rules(bad, "5m").iloc[0].items() if broken]
    assert any(name in str(refused.value) for name in names)
    query = next(item.query for item in load_contract().rules if item.name == rule)
    with owner.connect() as connection:
        connection.execute(text("SET LOCAL btcml.source = 'binance'"))
        for name in RULES:
            connection.execute(text(f"ALTER TABLE candles DROP CONSTRAINT {name}"))
        row = bad.to_dict("records")[0] | {"market": "binance", "symbol": "BTCUSDT", "interval": "5m"}
        names_sql, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO candles ({names_sql}) VALUES ({values})"), row)
        assert connection.scalar(text(query)) == 1
        connection.rollback()


def test_a_good_row_passes_all_enforcers(owner):
    """Nothing is broken, and the table takes the row."""
    assert not broken_rules(candle(), "5m").any(axis=None)
    insert(owner, candle())


def test_unknown_optional_values_break_nothing(owner):
    """Null means unknown: it passes in the frame and in the table."""
    unknown = candle(quote_volume=np.nan, trades=np.nan, taker_buy_base=np.nan, taker_buy_quote=np.nan)
    assert not broken_rules(unknown, "5m").any(axis=None)
    insert(owner, unknown)


def test_a_missing_price_breaks_the_required_rule():
    """NOT NULL stands for it in the table."""
    assert broken_rules(candle(close=np.nan), "5m")["required"].all()


def test_a_halted_candle_may_close_early():
    """The exchange's halted candles have odd close times; they are real."""
    halted = candle(close_time=pd.Timestamp("2025-01-01 00:00:42.445", tz="UTC"))
    assert not broken_rules(halted, "5m").any(axis=None)


def test_enforcing_splits_good_from_bad_rows_and_names_the_rule():
    """The good rows can be stored; the bad one has the rule that it breaks."""
    good = candle(
        open_time=pd.Timestamp("2025-01-01 00:05", tz="UTC"), close_time=pd.Timestamp("2025-01-01 00:09:59", tz="UTC")
    )
    frame = pd.concat([candle(volume=-1.0), good], ignore_index=True)
    kept, bad = enforce_contract(frame, "5m")
    assert len(kept) == 1
    assert bad["rule"].tolist() == ["volume_not_negative"]


def test_results_count_every_rule():
    """The report's contract page shows each rule with what was checked and what broke; unknown values cannot be."""
    results = rule_results(candle(volume=-1.0, taker_buy_base=np.nan), "5m").set_index("rule")
    assert results.loc["volume_not_negative", ["checked", "broken"]].tolist() == [1, 1]
    assert results.loc["taker_within_volume", ["checked", "broken"]].tolist() == [0, 0]
    assert set(RULES) < set(results.index)


@pytest.mark.real
def test_the_contract_holds_on_all_real_candles(shared_data):
    """Halts, crashes and the listing day included."""
    for interval in ("1m", "5m", "1h"):
        frame = as_candles(pd.read_parquet(shared_data / f"BTCUSDT-{interval}.parquet"), interval)
        assert rule_results(frame, interval)["broken"].sum() == 0
