"""Which report belongs to the model that is shown."""

from __future__ import annotations

import json

from btcml.serve.dashboard_reports import find_report

SERIES = {"market": "replay:x", "symbol": "BTCUSDT", "interval": "5m"}
JUNE = {"start": "2025-06-01T00:00:00Z", "end": "2025-06-30T23:55:00+00:00"}


def _run(root, name, start, end):
    run = root / "replay-x" / "BTCUSDT" / "5m" / name
    (run / "pages").mkdir(parents=True)
    (run / "pages" / "index.html").write_text("x")
    (run / "snapshot").mkdir()
    (run / "snapshot" / "snapshot.json").write_text(json.dumps({"start": start, "end": end}))


def test_the_report_that_has_the_models_candles_is_found(tmp_path):
    """Also when another one ends later."""
    _run(tmp_path, "60d-a", "2025-05-02T00:00:00+00:00", "2025-07-01T00:00:00+00:00")
    _run(tmp_path, "30d-b", "2025-06-20T00:00:00+00:00", "2025-07-20T00:00:00+00:00")
    found = find_report(str(tmp_path), **SERIES, **JUNE)
    assert found["path"] == "replay-x/BTCUSDT/5m/60d-a/pages/index.html"
    assert found["exact"] is True
    assert found["until"] == "2025-07-01T00:00:00+00:00"


def test_without_one_the_newest_of_the_series_is_named_as_such(tmp_path):
    """One that ends at the model's last candle has not seen it: the end is exclusive."""
    _run(tmp_path, "30d-a", "2025-05-30T00:00:00+00:00", "2025-06-30T23:55:00+00:00")
    _run(tmp_path, "30d-b", "2025-05-20T00:00:00+00:00", "2025-06-20T00:00:00+00:00")
    found = find_report(str(tmp_path), **SERIES, **JUNE)
    assert (found["path"].split("/")[3], found["exact"]) == ("30d-a", False)


def test_a_report_whose_snapshot_is_broken_or_gone_is_found_and_not_exact(tmp_path):
    """And nothing fails."""
    _run(tmp_path, "60d-a", "2025-05-02T00:00:00+00:00", "2025-07-01T00:00:00+00:00")
    for text in ("{", "[]", '{"start": 1, "end": 2}', '{"start": "2025-05-02", "end": "2025-07-01"}'):
        next(tmp_path.rglob("snapshot.json")).write_text(text)
        found = find_report(str(tmp_path), **SERIES, **JUNE)
        assert (bool(found["path"]), found["exact"], found["until"]) == (True, False, "")


def test_no_path_leads_out_of_the_folder(tmp_path):
    """Names come from the page."""
    nowhere = {"market": "..", "symbol": "..", "interval": ".."}
    assert find_report(str(tmp_path / "a"), **nowhere, start="", end="")["path"] == ""
    assert find_report("", **SERIES, **JUNE)["path"] == ""
