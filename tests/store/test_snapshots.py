"""Snapshots: all that a page shows, immutable, named by its content."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest

from btcml.candles import SeriesKey, content_hash
from btcml.errors import NotFoundError, NotReadyError, StoreError
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import upsert_candles
from btcml.store.models import append_trials
from btcml.store.snapshots import list_snapshots, load_snapshot, read_snapshot, record_snapshot, save_snapshot

KEY = SeriesKey("simulated", "BTCUSDT", "5m")
START = pd.Timestamp("2025-01-01", tz="UTC")
END = pd.Timestamp("2025-01-03", tz="UTC")


@pytest.fixture
def filled(store):
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, END)
    upsert_candles(store, KEY, frame.drop(index=range(50, 60)), source="test", at=END)
    return store


def test_a_snapshot_is_read_back_whole(filled, tmp_path):
    """Every frame with its values and types, empty ones included."""
    snapshot = read_snapshot(filled, KEY, START, END)
    again = load_snapshot(save_snapshot(snapshot, tmp_path))
    assert again.hash == snapshot.hash
    told = dataclasses.replace(snapshot, proof={"forecasts": 2, "proven": 1}, left_out={"table": [{"ratio": 0.99}]})
    assert told.hash != snapshot.hash
    assert load_snapshot(save_snapshot(told, tmp_path)).facts == told.facts
    for name, frame in snapshot.frames.items():
        pd.testing.assert_frame_equal(again.frames[name], frame)


def test_the_name_is_the_content(filled, tmp_path):
    """Saved twice it is one bundle; another candle, trial or span is another bundle."""
    first = read_snapshot(filled, KEY, START, END)
    assert save_snapshot(first, tmp_path) == save_snapshot(read_snapshot(filled, KEY, START, END), tmp_path)
    names = {first.hash, read_snapshot(filled, KEY, START, END - pd.Timedelta(hours=1)).hash}
    append_trials(filled, KEY, "x", [{"model": "m", "parameters": "{}", "score": 1.0}], END)
    names.add(read_snapshot(filled, KEY, START, END).hash)
    changed = first.candles.tail(1).assign(volume=7.0)
    upsert_candles(filled, KEY, changed, source="test", at=END)
    names.add(read_snapshot(filled, KEY, START, END).hash)
    assert len(names) == 4


def test_an_old_snapshot_stays_readable_after_a_revision(filled, tmp_path):
    """The table moves on; the bundle does not."""
    old = read_snapshot(filled, KEY, START, END)
    bundle = save_snapshot(old, tmp_path)
    upsert_candles(filled, KEY, old.candles.assign(volume=7.0), source="test", at=END)
    assert load_snapshot(bundle).candles.equals(old.candles)


def test_a_changed_bundle_is_refused(filled, tmp_path):
    """Its content does not match its hash."""
    bundle = save_snapshot(read_snapshot(filled, KEY, START, END), tmp_path)
    frame = pd.read_parquet(bundle / "candles.parquet")
    frame.assign(close=frame["close"] + 1).to_parquet(bundle / "candles.parquet", index=False)
    with pytest.raises(StoreError, match="was changed"):
        load_snapshot(bundle)


def test_a_bundle_from_before_the_ledger_is_read_without_it(filled, tmp_path):
    """Format 2 had no tries of the authors."""
    new = read_snapshot(filled, KEY, START, END)
    bundle = save_snapshot(new, tmp_path)
    facts = new.facts | {"format": 2}
    frames = {name: frame for name, frame in new.frames.items() if name != "research"}
    head = pd.DataFrame({"facts": [json.dumps(facts, sort_keys=True)]})
    (bundle / "research.parquet").unlink()
    facts["hash"] = content_hash([("facts", head), *frames.items()])
    (bundle / "snapshot.json").write_text(json.dumps(facts))
    old = load_snapshot(bundle)
    assert old.research.empty
    assert old.candles.equals(new.candles)


def test_a_hole_is_ours_until_it_was_requested(filled):
    """The ten candles that this test left out were never asked for."""
    gaps = read_snapshot(filled, KEY, START, END).gaps
    assert gaps[["missing", "kind"]].to_dict("records") == [{"missing": 10, "kind": "ours"}]


def test_a_span_without_candles_is_an_error_with_advice(store):
    """One sentence with the command."""
    with pytest.raises(NotReadyError, match="btcml ingest"):
        read_snapshot(store, KEY, START, END)


def test_a_folder_without_a_snapshot_is_refused(tmp_path):
    """Not a crash of the JSON parser."""
    with pytest.raises(NotFoundError, match="no snapshot"):
        load_snapshot(tmp_path)


def test_a_snapshot_is_listed_once(filled):
    """Recording it again is no error and no second row."""
    snapshot = read_snapshot(filled, KEY, START, END)
    record_snapshot(filled, snapshot, END)
    record_snapshot(filled, snapshot, END + pd.Timedelta(days=1))
    listed = list_snapshots(filled)
    assert listed[["hash", "candles"]].to_numpy().tolist() == [[snapshot.hash, len(snapshot.candles)]]
    assert listed["made_at"].tolist() == [END]
