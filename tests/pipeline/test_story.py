"""The plan of a report and its snapshot."""

from __future__ import annotations

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.ingest import backfill
from btcml.pipeline.story import Plan, snapshot_story
from btcml.report.charts.evaluation import proven
from btcml.report.charts.ingest import origin
from btcml.report.language import in_language, told
from btcml.store.jobs import read_jobs
from btcml.store.snapshots import load_snapshot, read_snapshot, save_snapshot

START = pd.Timestamp("2025-01-01", tz="UTC")


def test_what_was_decided_in_reading_a_file_is_on_the_page(store, settings, tmp_path):
    """Columns of times that disagree: the epoch is taken, and the chapter says so, from the snapshot alone."""
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, START + pd.Timedelta(days=2))
    local = (frame["open_time"] - pd.Timedelta(hours=4)).dt.strftime("%Y-%m-%d %H:%M")
    values = frame[["open", "high", "low", "close", "volume"]]
    file = tmp_path / "BTCUSDT-5m.csv"
    values.assign(timestamp=frame["open_time"].astype("int64") // 10**6, date=local).to_csv(file, index=False)
    source = FileMarket(file)
    plan = Plan(source.market, "BTCUSDT", "5m", 2, source.default_end("BTCUSDT").isoformat(), str(file))
    snapshot = load_snapshot(snapshot_story(settings, store, source, plan))
    assert snapshot.candles["open_time"].iloc[0] == START
    said = str(origin(snapshot))
    assert "the columns date and timestamp disagree: timestamp, the time since 1970, is taken" in said
    assert "the last candle, of 2025-01-02 23:55, may have been open" in said
    assert "notes" not in load_snapshot(snapshot_story(settings, store, SimulatedMarket(), _simulated())).facts


def test_a_price_that_never_moves_is_refused_in_a_sentence(store, settings, tmp_path):
    """There is nothing to forecast, and no figure that could be stated."""
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, START + pd.Timedelta(days=2))
    file = tmp_path / "BTCUSDT-5m.csv"
    frame[["open_time", "volume"]].assign(open=100.0, high=100.0, low=100.0, close=100.0).to_csv(file, index=False)
    source = FileMarket(file)
    plan = Plan(source.market, "BTCUSDT", "5m", 2, source.default_end("BTCUSDT").isoformat(), str(file))
    with pytest.raises(NotReadyError, match="needs a price that moves, found 575 candles that all close at 100: c"):
        snapshot_story(settings, store, source, plan)


def test_a_file_that_was_merged_into_another_market_is_named_on_its_pages(store, tmp_path):
    """With what was decided in reading it; one of another span, or without any candle, is not."""
    key, end = SeriesKey("binance", "BTCUSDT", "5m"), START + pd.Timedelta(days=2)
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, end)
    for name, rows in (("early", frame[:300]), ("late", frame[300:]), ("none", frame[:100])):
        rows.to_parquet(tmp_path / f"{name}-BTCUSDT-5m.parquet")
        source = FileMarket(tmp_path / f"{name}-BTCUSDT-5m.parquet", name)
        backfill(store, source, key, (source.span("BTCUSDT")[0], source.now()))
    whole = read_snapshot(store, key, START, end)
    assert whole.merged == ("early", "late")
    assert "fetched from the exchange itself, and from files merged into them: early, late." in str(origin(whole))
    assert "the last candle, of 2025-01-02 00:55, may have been open" in str(origin(whole))
    part = read_snapshot(store, key, START + pd.Timedelta(days=1, hours=2), end)
    assert (part.merged, len(part.notes)) == (("late",), 1)
    loaded = load_snapshot(save_snapshot(whole, tmp_path))
    assert (loaded.facts, loaded.notes) == (whole.facts, whole.notes)
    with in_language("pt-BR"):
        assert told(loaded.notes[0]).startswith("o último candle, de 02/01/2025 00:55, podia estar aberto")
    assert [job.result["inserted"] for job in read_jobs(store, key=key)] == [0, 275, 299]


def test_what_is_proven_of_a_published_record_is_on_the_page(store, settings, monkeypatch, tmp_path):
    """From the snapshot alone; without a record it is as before."""
    record = {"forecasts": 7, "proven": 2, "claimed": [[1, 5]], "waiting": 3}
    monkeypatch.setattr("btcml.pipeline.story.read_proof", lambda root, _: record if root == tmp_path else None)
    told = settings.model_copy(update={"btcml_publish_dir": tmp_path})
    found = load_snapshot(snapshot_story(told, store, SimulatedMarket(), _simulated()))
    plain = load_snapshot(snapshot_story(settings, store, SimulatedMarket(), _simulated()))
    assert found.proof == {"forecasts": 7, "proven": 2}
    assert "proof" not in plain.facts
    assert str(proven(found.proof)).startswith(
        "Of the 7\N{NARROW NO-BREAK SPACE}forecasts published so far 2 are proven in time"
    )
    assert str(proven(found.proof | {"proven": 0})).startswith("None of the 7")
    assert str(proven(plain.proof)).startswith("No sealed forecast is published")


def _simulated():
    return Plan("simulated", "BTCUSDT", "5m", 2, (START + pd.Timedelta(days=2)).isoformat(), "simulated")
