"""The exchange's own raw files, one and all, through the verbs into the table."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey, as_candles
from btcml.contract import broken_rules
from btcml.errors import SourceError
from btcml.market.files import FileMarket
from btcml.market.formats import load_candles
from btcml.pipeline.ingest import backfill
from btcml.store.candles import read_candles, upsert_candles

pytestmark = pytest.mark.real

NOW = pd.Timestamp("2025-06-30", tz="UTC")
EVER = (pd.Timestamp("2017-01-01", tz="UTC"), NOW)
PRICES = ["open", "high", "low", "close", "volume"]
FILES = {
    "data.binance.vision": 14,
    "api_json": 6,
}


@pytest.mark.parametrize("folder", FILES)
def test_every_file_is_stored_as_it_is_read(shared_data, store, folder):
    """Milliseconds, microseconds, headers, halts, an empty answer: each row in the table, none in quarantine."""
    stored = 0
    for path in sorted((shared_data / "raw" / folder).iterdir()):
        if path.name.startswith("BTCUSDT_1M"):
            with pytest.raises(SourceError, match="31 days 00:00:00 apart are not of an interval of the exchange"):
                load_candles(path)
            continue
        interval, frame = load_candles(path)
        stored += 1
        if frame.empty:
            assert path.name == "BTCUSDT_1h_2039-01-01.json"
            continue
        source = FileMarket(path, as_of=NOW)
        key = SeriesKey(source.market, path.name[:7], interval)
        done = backfill(store, source, key, EVER)
        assert (done.inserted, done.quarantined) == (len(frame), 0)
        pd.testing.assert_frame_equal(read_candles(store, key), frame, check_exact=True)
    assert stored == FILES[folder]


def test_a_folder_of_answers_keeps_its_symbols_apart(shared_data):
    """Their names are written with underscores, those of the archive with hyphens."""
    series = FileMarket(shared_data / "raw" / "data.binance.vision").series
    assert {symbol for symbol, _ in series} == {"BTCUSDT", "ETHUSDT"}
    for name in ("ETHUSDT_1h_2024-01-01.json", "BTCUSDT_1d_2016-01-01.json"):
        assert FileMarket(shared_data / "raw" / "api_json" / name).symbols == (name[:7],)


def test_restated_minutes_are_stored_as_revisions(shared_data, store):
    """Seventy minutes of April 2021: the table has the new values, the revisions the old ones."""
    raw = pd.read_csv(next((shared_data / "raw").glob("restated_*.csv")))
    times = pd.to_datetime(raw["open_time"], unit="ms", utc=True)
    served, restated = (
        as_candles(pd.DataFrame({name: raw[f"{name}_{when}"] for name in PRICES} | {"open_time": times}), "1m")
        for when in ("as_served_2021", "restated")
    )
    key = SeriesKey("binance", "BTCUSDT", "1m")
    assert upsert_candles(store, key, served, source="then", at=NOW).inserted == 70
    assert upsert_candles(store, key, restated, source="now", at=NOW).revised == 70
    pd.testing.assert_frame_equal(read_candles(store, key), restated)
    query = f"SELECT {', '.join(PRICES)} FROM candle_revisions WHERE source = 'now' ORDER BY open_time"
    with store.engine.connect() as connection:
        kept = pd.DataFrame(connection.execute(text(query)).fetchall(), columns=PRICES)
    pd.testing.assert_frame_equal(kept, served[PRICES], check_exact=True)


def test_candles_of_a_halt_that_close_early_keep_the_contract(shared_data):
    """Seventeen real minutes whose close is not 59.999 s after their open."""
    raw = pd.read_csv(shared_data / "raw" / "BTCUSDT-1m_odd_close_time.csv")
    times = {name: pd.to_datetime(raw[name], unit="ms", utc=True) for name in ("open_time", "close_time")}
    frame = as_candles(pd.DataFrame(dict.fromkeys(PRICES, 1.0) | times), "1m")
    assert len(frame) == 17
    assert not broken_rules(frame, "1m").any(axis=None)
