"""The page of a published record in a real browser: every forecast, in both themes, wide and narrow."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.pipeline.publish import publish_series

from .conftest import console, running_browser, until
from .test_dashboard import AXE

pytestmark = pytest.mark.browser
KEY = SeriesKey("replay:long", "BTCUSDT", "5m")
ROWS = 450
SEALED = f"""DO $$ DECLARE f forecasts; o outcomes; last_f text := ''; last_o text := ''; BEGIN
  f.market := '{KEY.market}'; f.symbol := 'BTCUSDT'; f.interval := '5m'; f.model := 'lightgbm_mean';
  f.artifact := '20250301T000000-aaaa'; f.status := 'sealed'; f.hash_version := 2; f.role := 'champion';
  o.market := f.market; o.symbol := f.symbol; o.interval := f.interval; o.hash_version := 2;
  FOR i IN 1..{ROWS} LOOP
    f.seq := i; f.horizon := 1 + 11 * (i % 2);
    o.open_time := timestamptz '2025-03-01Z' + (i / 2) * interval '5 minutes';
    f.open_time := o.open_time + (f.horizon - 1) * interval '5 minutes';
    f.cutoff := f.open_time - f.horizon * interval '5 minutes'; f.base := 60000; f.close := 60000.25 + i;
    f.open := 60000; f.high := f.close + 50; f.low := 59900; f.amp := f.high - f.low; f.lo := 59950; f.hi := 60800.5;
    f.made_at := o.open_time + interval '1.25 s'; f.written_at := f.made_at;
    f.outcome := last_o; f.previous := last_f; f.hash := forecast_digest(f); last_f := f.hash;
    INSERT INTO forecasts SELECT f.*;
    IF f.horizon = 1 AND i < {ROWS} THEN
      o.seq := i / 2; o.open := 60000; o.high := 60900; o.low := 59800; o.close := 60001.5 + i;
      o.known_at := o.open_time + interval '301 s'; o.forecast_seq := i; o.forecast_hash := f.hash;
      o.previous := last_o; o.hash := outcome_digest(o); last_o := o.hash; INSERT INTO outcomes SELECT o.*;
    END IF;
  END LOOP; END $$"""


@pytest.fixture
def page(store, owner, tmp_path):
    """Address of a published record on loopback."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(SEALED))
    at = pd.Timestamp("2025-03-03", tz="UTC")
    folder = Path(publish_series(store, tmp_path / "home", tmp_path / "out", KEY, at)["folder"])
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        server.shutdown()


CELLS = (
    "return [...document.querySelector('.forecasts tbody').rows].filter(row => !row.hidden)"
    ".map(row => [...row.cells].map(cell => cell.innerText))"
)
CHOOSE = (
    "const field = document.querySelector('#choice select');"
    "field.value = '12'; field.dispatchEvent(new Event('change'))"
)


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_all_forecasts_are_shown_newest_first(page, tmp_path, width, theme):
    """The newest stand in the page; the older come from the record's own files, in the same form."""
    with running_browser(tmp_path / "profile", width=width) as browser:
        emulated = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
        browser.get(page)
        assert len(browser.execute_script(CELLS)) == 200
        for shown in (400, 450):
            browser.execute_script("document.querySelector('#more button').click()")
            until(browser, f"return document.querySelector('.forecasts tbody').rows.length === {shown}")
        until(browser, "return document.querySelector('#more').hidden")
        rows = browser.execute_script(CELLS)
        assert rows[-1] == ["2025-03-01 00:55", "12", "60,001.25", "60,023.5", "claimed", "59,950 to 60,800.5",
                            "00:00:01", "2025-03-03 00:00:00", "lightgbm_mean"]  # fmt: skip
        assert [len(row) for row in rows] == [9] * 450
        browser.execute_script(CHOOSE)
        assert {row[1] for row in browser.execute_script(CELLS)} == {"12"}
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        browser.execute_script(AXE.read_text())
        found = browser.execute_async_script("axe.run().then(arguments[0])")
        assert [item["id"] for item in found["violations"] if item["impact"] in {"serious", "critical"}] == []
        assert console(browser) == []
