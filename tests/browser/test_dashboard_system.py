"""The dashboard on a real API and a replay; tabs that sleep or die; links that lead somewhere."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pandas as pd
import pytest
import requests

from btcml.market import utc_now
from btcml.market.simulate import SimulatedMarket
from btcml.testing.exchange import ReplayClock, running_exchange

from ..processes import WAIT_S  # noqa: TID252 - of all tests
from .conftest import ALL, console, free_port, painted, running_browser, running_dashboard, until

pytestmark = pytest.mark.browser
NOTICES = "[...document.querySelectorAll('#btcml-notices li')].map(li => li.innerText).join('\\n')"
KERNEL = "return JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
THREE = ("lastClose", "nextCloseCard", "delta")

STAY_S = float(os.environ.get("STAY_SECONDS", "1800"))


def _text(browser, selector):
    return browser.execute_script(f"return document.querySelector('{selector}')?.innerText ?? ''")


def _press(browser, name):
    browser.execute_script(f"document.querySelector('button.btcml-{name}').click()")


def _forecast(browser):
    """Ingest and predict, again where the candle was over before; the last close as the page shows it."""
    while True:
        _press(browser, "ingest")
        until(browser, f"return {NOTICES}.includes('Ingested')")
        _press(browser, "predict")
        if until(browser, f"return /Forecast made|too old/.test({NOTICES}) && {NOTICES}").find("Forecast made") >= 0:
            break
    cards = [_text(browser, f"#btcml-card-{name} .value") for name in THREE]
    assert all(card not in {"", "\u2013"} for card in cards)
    return cards[0]


def _kernels(process):
    """How many kernels there are below a process."""
    command = ["ps", "--ppid", str(process.pid), "-o", "args="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.count("btcml.kernel")


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
        until(browser, f"return {NOTICES}.includes('press Ingest now')")
        for _ in range(2):
            _press(browser, "ingest")
            until(browser, f"return {NOTICES}.includes('Ingested')")
        _press(browser, "train")
        said = until(browser, f"return {NOTICES}.includes('against persistence') && {NOTICES}")
        assert all(word in said for word in ("MAE", "MAPE", "candles", "In service:"))
        closes = [_forecast(browser)]
        end = time.monotonic() + WAIT_S
        while closes[-1] == closes[0]:
            assert time.monotonic() < end, "no other candle came"
            closes.append(_forecast(browser))
        assert "replay:visit" in _text(browser, "#btcml-market")
        assert "2025" in browser.execute_script("return document.querySelector('#btcml-card-age').title")
        assert console(browser) == []


def test_a_tab_that_sleeps_gives_its_kernel_back_and_opens_again_when_looked_at(browser, stub):
    """Ten minutes by default, two seconds here; without any click."""
    hide = (
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    with running_dashboard(stub.url, "--sleep", "2", "--warm", "1") as (url, process):
        painted(browser, url)
        kernel = browser.execute_script(KERNEL)
        browser.execute_script(hide % "true")
        end = time.monotonic() + WAIT_S
        time.sleep(3)
        while _kernels(process) > 1 and time.monotonic() < end:
            time.sleep(0.5)
        assert _kernels(process) == 1, "only the warm one is left"
        browser.execute_script(hide % "false")
        until(browser, f"return document.readyState === 'complete' && !document.body.innerHTML.includes('{kernel}')")
        until(browser, ALL)
        assert "+12.50" in _text(browser, "#btcml-card-delta")


def _stay(browser, stub, url, seconds, *, busy):
    """Keep a page open: nothing reloads it, no socket closes, the console has no error."""
    painted(browser, url)
    kernel = browser.execute_script(KERNEL)
    browser.execute_script(
        "window.closed = 0; window.stays = true;"
        "const on = (event) => { if (/lost|reconnect/i.test(String(event))) window.closed += 1; };"
        "const warn = console.warn; console.warn = (...all) => { on(all[0]); warn(...all); };"
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(5, seconds / 4))
        if busy:
            stub.moved += 1
            _press(browser, "predict")
            until(browser, f"return {NOTICES}.includes('Forecast made')")
    assert browser.execute_script("return window.stays") is True
    assert browser.execute_script("return window.closed") == 0
    assert browser.execute_script(KERNEL) == kernel
    _press(browser, "predict")
    until(browser, f"return {NOTICES}.includes('Forecast made')")
    assert console(browser) == []


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("busy", [False, True])
def test_a_page_stays_open(stub, tmp_path, dashboard, width, busy):
    """Longer than a ping and its answer may take; the long run is half an hour."""
    with running_browser(tmp_path, width=width, height=844) as browser:
        _stay(browser, stub, dashboard, 20, busy=busy)


@pytest.mark.soak
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("busy", [False, True])
def test_a_page_stays_open_for_half_an_hour(stub, tmp_path, width, busy):
    """Idle and busy: no reload, no lost socket, no error in the console."""
    with running_dashboard(stub.url) as (url, _), running_browser(tmp_path, width=width, height=844) as browser:
        _stay(browser, stub, url, STAY_S, busy=busy)


def _visit_after_idle(stub, browser, log, *, idle, visits):
    with log.open("w") as stream, running_dashboard(stub.url, "--warm", "2", stderr=stream) as (url, _):
        painted(browser, url)
        browser.get("about:blank")
        time.sleep(idle)
        for _ in range(visits):
            painted(browser, url)
            assert browser.execute_script("return sessionStorage.getItem('btcml-reopened')") is None
        browser.get("about:blank")
    assert "Traceback" not in log.read_text()


def test_visits_after_an_idle_time_find_a_kernel_and_leave_no_traceback(browser, stub, tmp_path):
    """A few here; fifty in the long run."""
    _visit_after_idle(stub, browser, tmp_path / "log", idle=40, visits=4)


@pytest.mark.soak
def test_fifty_visits_after_an_idle_time_do_not_fail(browser, stub, tmp_path):
    """None is opened again, none leaves a traceback."""
    _visit_after_idle(stub, browser, tmp_path / "log", idle=120, visits=50)


def test_a_page_whose_kernel_ended_before_its_first_socket_opens_again(browser, dashboard):
    """A slow network: the kernel has ended when the scripts of the page are there."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*voila.js"]})
    browser.get(dashboard)
    kernel = browser.execute_script(KERNEL)
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    assert requests.post(f"{dashboard}voila/api/shutdown/{kernel}", timeout=WAIT_S).status_code == 204
    until(browser, ALL)
    assert browser.execute_script(KERNEL) != kernel


def test_a_browser_that_is_killed_leaves_no_kernel(stub, tmp_path):
    """It sends no message: the server detects it."""
    with running_dashboard(stub.url, "--warm", "1") as (url, process):
        with running_browser(tmp_path) as browser:
            painted(browser, url)
            browser.execute_script("navigator.sendBeacon = () => true")
        end = time.monotonic() + WAIT_S
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
        browser.find_element("css selector", "#btcml-links a").click()
        browser.switch_to.window(browser.window_handles[-1])
        until(browser, "return document.querySelector('h1')?.textContent === 'of this model'")
        assert browser.current_url.startswith(f"{url}reports/simulated/BTCUSDT/5m/60d/")


_PEOPLE = {"User-Agent": "Mozilla/5.0"}


def _status(url, **headers):
    return requests.get(url, headers=_PEOPLE | headers, timeout=120).status_code


def test_a_machine_gets_a_static_page_and_no_kernel(stub):
    """HEAD, a browser that fetches ahead, and a known robot: the only place is left to a visitor."""
    with running_dashboard(stub.url, "--visitors", "1", "--warm", "1") as (url, _):
        for _ in range(3):
            assert requests.head(url, headers=_PEOPLE, timeout=120).status_code == 200
            robot = requests.get(url, headers={"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}, timeout=120)
            assert (robot.status_code, "kernelId" in robot.text, "forecast and skill" in robot.text) == (
                200,
                False,
                True,
            )
            assert _status(url, **{"Sec-Purpose": "prefetch;prerender"}) == 503
        assert "kernelId" in requests.get(url, headers=_PEOPLE, timeout=120).text
        assert _status(url) == 503


def test_an_address_has_a_limit_of_its_own_and_a_page_without_a_socket_gives_its_kernel_back(stub):
    """One visitor takes no place of the others; a kernel that nobody used is free again after twenty seconds."""
    with running_dashboard(stub.url, "--visitors-per-address", "1", "--warm", "1") as (url, process):
        found = [_status(url, **{"X-Forwarded-For": address}) for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2")]
        assert found == [200, 429, 200]
        end = time.monotonic() + WAIT_S
        while _status(url, **{"X-Forwarded-For": "10.0.0.1"}) != 200:
            assert time.monotonic() < end, "no kernel came back"
            time.sleep(1)
        assert process.poll() is None
