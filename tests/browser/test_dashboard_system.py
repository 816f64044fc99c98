"""The dashboard on a real API and a replay; tabs that sleep or die; links that lead somewhere."""

from __future__ import annotations

import json
import subprocess
import time

import pandas as pd
import pytest

from btcml.market import utc_now
from btcml.market.simulate import SimulatedMarket
from btcml.testing.exchange import ReplayClock, running_exchange

from .conftest import free_port, painted, running_browser, running_dashboard, until

pytestmark = pytest.mark.browser
NOTICES = "[...document.querySelectorAll('#btcml-notices li')].map(li => li.innerText).join('\\n')"
THREE = ("lastClose", "nextCloseCard", "delta")


def _text(browser, selector):
    return browser.execute_script(f"return document.querySelector('{selector}')?.innerText ?? ''")


def _press(browser, name):
    browser.execute_script(f"document.querySelector('#btcml-{name}').click()")


def _forecast(browser):
    """Ingest and predict, again where the candle was over before; the last close as the page shows it."""
    while True:
        _press(browser, "ingest")
        until(browser, f"return {NOTICES}.includes('Ingested')", 120)
        _press(browser, "predict")
        if (
            until(browser, f"return /Forecast made|too old/.test({NOTICES}) && {NOTICES}", 120).find("Forecast made")
            >= 0
        ):
            break
    cards = [_text(browser, f"#btcml-card-{name} .value") for name in THREE]
    assert all(card not in {"", "\u2013"} for card in cards)
    return cards[0]


def _kernels(process):
    """How many kernels there are below a process."""
    command = ["ps", "--ppid", str(process.pid), "-o", "args="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.count("ipykernel")


@pytest.fixture
def replay():
    """An exchange that replays January, one candle of five minutes in ten seconds."""
    clock = ReplayClock(pd.Timestamp("2025-02-01 00:00:10", tz="UTC"), utc_now(), 30.0)
    with running_exchange(SimulatedMarket(), clock, name="visit", weight_limit=10**6) as exchange:
        yield exchange


def test_the_whole_flow_against_an_exchange_that_replays(browser, replay, tmp_path):
    """Open on an empty database, ingest, train and see the figures, predict and see three cards, again."""
    variables = {"BTCML_SOURCE": "binance", "BTCML_BINANCE_URLS": replay.url, "BTCML_ARCHIVE_URL": replay.url}
    home = {"BTCML_HOME": str(tmp_path / "home"), "BTCML_INTERVAL": "5m"}
    with running_dashboard(f"http://127.0.0.1:{free_port()}", **variables, **home) as (url, _):
        browser.get(url)
        until(browser, f"return {NOTICES}.includes('press Ingest now')", 90)
        for _ in range(2):
            _press(browser, "ingest")
            until(browser, f"return {NOTICES}.includes('Ingested')", 120)
        _press(browser, "train")
        said = until(browser, f"return {NOTICES}.includes('against persistence') && {NOTICES}", 240)
        assert all(word in said for word in ("MAE", "MAPE", "candles", "Serves:"))
        closes = [_forecast(browser)]
        end = time.monotonic() + 600
        while closes[-1] == closes[0]:
            assert time.monotonic() < end, "no other candle came"
            closes.append(_forecast(browser))
        assert "replay:visit" in _text(browser, "#btcml-market")
        assert "2025" in browser.execute_script("return document.querySelector('#btcml-card-age').title")
        assert [entry for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}] == []


def test_a_tab_that_sleeps_gives_its_kernel_back_and_opens_again_when_looked_at(browser, stub):
    """Ten minutes by default, two seconds here; without any click."""
    hide = (
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    with running_dashboard(stub.url, "--sleep", "2", "--warm", "1") as (url, process):
        painted(browser, url)
        first = browser.execute_script("return document.querySelector('#btcml-kernel').textContent")
        kernel = json.loads(first)["kernel"]
        browser.execute_script(hide % "true")
        end = time.monotonic() + 60
        time.sleep(3)
        while _kernels(process) > 1 and time.monotonic() < end:
            time.sleep(0.5)
        assert _kernels(process) == 1, "only the warm one is left"
        browser.execute_script(hide % "false")
        until(browser, f"return !document.querySelector('#btcml-kernel')?.textContent.includes('{kernel}')", 30)
        until(browser, "return document.querySelector('.btcml')?.dataset.painted === 'all'", 40)
        assert "+12.50" in _text(browser, "#btcml-card-delta")


@pytest.mark.soak
def test_an_idle_page_keeps_its_kernel_and_an_idle_pool_serves_the_next_visits(browser, stub):
    """More than a minute without a message: no reload, no lost socket, and visitors after it find a kernel."""
    kernel = "return document.querySelector('#btcml-kernel').textContent"
    with running_dashboard(stub.url, "--warm", "2") as (url, _):
        painted(browser, url)
        first = browser.execute_script(kernel)
        browser.execute_script("document.querySelector('#btcml-auto').click()")
        time.sleep(75)
        assert browser.execute_script(kernel) == first
        _press(browser, "predict")
        until(browser, f"return {NOTICES}.includes('Forecast made')")
        assert browser.execute_script("return sessionStorage.getItem('btcml-reopened')") is None
        for _ in range(4):
            painted(browser, url)
            assert browser.execute_script("return sessionStorage.getItem('btcml-reopened')") is None


def test_a_browser_that_is_killed_leaves_no_kernel(stub, tmp_path):
    """It sends no message: the server detects it."""
    with running_dashboard(stub.url, "--warm", "1") as (url, process):
        with running_browser(tmp_path) as browser:
            painted(browser, url)
            browser.execute_script("navigator.sendBeacon = () => true")
        end = time.monotonic() + 120
        while _kernels(process) > 1 and time.monotonic() < end:
            time.sleep(1)
        assert _kernels(process) == 1


def _build_report(folder):
    """A report that has the champion's candles, and a later one that has not."""
    for name, start, words in (("60d", "2025-05-02", "of this model"), ("30d", "2025-06-20", "of another")):
        run = folder / "simulated" / "BTCUSDT" / "5m" / name
        (run / "pages").mkdir(parents=True)
        (run / "pages" / "index.html").write_text(f"<title>{words}</title><h1>{words}</h1>")
        (run / "snapshot").mkdir()
        span = {"start": f"{start}T00:00:00+00:00", "end": "2025-07-01T00:00:00+00:00"}
        (run / "snapshot" / "snapshot.json").write_text(json.dumps(span))


def test_the_links_lead_to_the_champions_report_to_swagger_and_to_adminer(browser, stub, tmp_path):
    """The report opens from the dashboard's own address; the others are named with theirs."""
    _build_report(tmp_path / "built")
    reports = ("--reports", str(tmp_path / "built"))
    with running_dashboard(stub.url, *reports, BTCML_ADMINER_URL="http://127.0.0.1:8080") as (url, _):
        painted(browser, url)
        until(browser, "return document.querySelectorAll('#btcml-links a').length >= 3")
        names = browser.execute_script(
            "return [...document.querySelectorAll('#btcml-links a')].map(a => [a.textContent, a.href])"
        )
        assert names[0][0].startswith("Report on this model's candles")
        others = [name for name in names[1:] if name[0] != "Documents"]  # there where they were built
        assert others == [["API (Swagger)", f"{stub.url}/docs"], ["Adminer", "http://127.0.0.1:8080/"]]
        browser.execute_script("document.querySelector('.menu').open = true")
        browser.find_element("css selector", "#btcml-links a").click()
        browser.switch_to.window(browser.window_handles[-1])
        until(browser, "return document.querySelector('h1')?.textContent === 'of this model'")
        assert browser.current_url.startswith(f"{url}reports/simulated/BTCUSDT/5m/60d/")
