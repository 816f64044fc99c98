"""Which report belongs to the model that is shown."""

from __future__ import annotations

import json
import os

from btcml.serve.dashboard_reports import find_report

SERIES = {"market": "replay:x", "symbol": "BTCUSDT", "interval": "5m"}


def _run(root, name, snapshot, age):
    pages = root / "replay-x" / "BTCUSDT" / "5m" / name / "pages"
    pages.mkdir(parents=True)
    (pages / "index.html").write_text("x")
    (pages / "manifest.json").write_text(json.dumps({"snapshot": snapshot}))
    os.utime(pages / "index.html", (age, age))


def test_the_report_of_the_snapshot_is_found(tmp_path):
    """Also when another one is newer."""
    _run(tmp_path, "30d-a", "aaa", 100)
    _run(tmp_path, "30d-b", "bbb", 200)
    found = find_report(str(tmp_path), **SERIES, snapshot="aaa")
    assert found == {"path": "replay-x/BTCUSDT/5m/30d-a/pages/index.html", "exact": True}


def test_without_one_the_newest_of_the_series_is_named_as_such(tmp_path):
    """It is about the series, not about this model."""
    _run(tmp_path, "30d-a", "aaa", 300)
    _run(tmp_path, "30d-b", "bbb", 200)
    assert find_report(str(tmp_path), **SERIES, snapshot="ccc") == {
        "path": "replay-x/BTCUSDT/5m/30d-a/pages/index.html",
        "exact": False,
    }


def test_a_report_whose_manifest_is_broken_is_not_exact(tmp_path):
    """And nothing fails."""
    _run(tmp_path, "30d-a", "aaa", 300)
    for file in tmp_path.rglob("manifest.json"):
        file.write_text("{")
    assert not find_report(str(tmp_path), **SERIES, snapshot="aaa")["exact"]


def test_no_path_leads_out_of_the_folder(tmp_path):
    """Names come from the page."""
    assert find_report(str(tmp_path / "a"), market="..", symbol="..", interval="..", snapshot="")["path"] == ""
    assert find_report("", **SERIES, snapshot="")["path"] == ""
