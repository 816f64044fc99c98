"""The dashboard in a real browser, with a working API and with errors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import requests

from btcml.serve.dashboard_widgets import FILES, module_text

from ..processes import WAIT_S  # noqa: TID252 - of all tests
from .conftest import ALL, StubApi, console, free_port, iso, painted, running_browser, running_dashboard, until

pytestmark = pytest.mark.browser
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
BUSY = "return document.querySelector('button.btcml-%s').disabled"
NOTICES = "[...document.querySelectorAll('#btcml-notices li')].map(li => li.innerText).join('\\n')"


def _text(browser, selector):
    return browser.execute_script(f"return document.querySelector('{selector}')?.innerText ?? ''")


def _press(browser, name):
    browser.execute_script(f"document.querySelector('button.btcml-{name}').click()")


def _choose(browser, name, words):
    """Choose an option of a control by its words."""
    browser.execute_script(
        "const field = document.querySelector(arguments[0]);"
        "field.selectedIndex = [...field.options].findIndex(o => o.text.replace(/\u00a0/g, ' ') === arguments[1]);"
        "field.dispatchEvent(new Event('change', {bubbles: true}))",
        f".btcml-{name} select",
        words,
    )


def _hover(browser, name):
    """Point at the middle of a chart."""
    box = browser.execute_script(
        "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
        "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 3]",
        f"#btcml-{name} .btcml-plot",
    )
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": box[0], "y": box[1]})
    return until(browser, f"return document.querySelector('#btcml-{name} .btcml-legend').textContent")


def _requests(browser):
    """Addresses and sizes of what the browser asked for; the first tab of the browser itself is left out."""
    urls, size, own = [], 0, set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in {"Network.requestWillBeSent", "Network.webSocketCreated"}:
            url = message["params"].get("url") or message["params"]["request"]["url"]
            if url.startswith(("chrome:", "chrome-untrusted:")):
                own.add(message["params"]["requestId"])
            else:
                urls.append(url)
        if message["method"] == "Network.loadingFinished" and message["params"]["requestId"] not in own:
            size += message["params"]["encodedDataLength"]
        if message["method"] == "Network.webSocketFrameReceived":
            size += len(message["params"]["response"]["payloadData"])
    return urls, size


def test_a_visit_shows_cards_and_charts_and_asks_no_other_host(browser, dashboard, stub):
    """Law 10, a clean console, and at most 3 MB."""
    painted(browser, dashboard)
    assert "60," in _text(browser, "#btcml-card-lastClose") or "59," in _text(browser, "#btcml-card-lastClose")
    assert "+12.50" in _text(browser, "#btcml-card-delta")
    assert "lightgbm_mean" in _text(browser, "#btcml-card-model")
    assert "p < 0.0001" in _text(browser, "#btcml-card-skill")
    assert browser.execute_script("return document.querySelectorAll('#btcml-candles canvas').length") > 3
    urls, size = _requests(browser)
    assert {urlsplit(url).hostname for url in urls if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert size < 3_000_000
    assert console(browser) == []
    assert stub.seen


def test_a_slow_machine_shows_the_charts_too(browser, dashboard, stub):  # noqa: ARG001
    """Anywidget allows two seconds for a widget: here they are over before one can be ready."""
    source = (
        "AbortSignal.timeout = (timeout => ms => timeout.call(AbortSignal, ms > 2000 ? ms : 0))(AbortSignal.timeout)"
    )
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    painted(browser, dashboard)
    assert console(browser) == []


def test_the_essentials_fit_one_screen(browser, dashboard, stub):  # noqa: ARG001
    """At 1440 by 900 cards and the first chart need no scrolling."""
    painted(browser, dashboard)
    bottom = browser.execute_script("return document.querySelector('.btcml-first').getBoundingClientRect().bottom")
    assert bottom <= 900
    assert browser.execute_script("return document.querySelector('#btcml-candles .btcml-plot').clientHeight") > 300


CUT = """return [...document.querySelectorAll('.btcml-cell *')].filter(e => {
  const style = getComputedStyle(e), r = e.getBoundingClientRect();
  if (!r.width || e.closest('.scroll, .btcml-plot, svg') || style.position === 'absolute') return false;
  const beyond = r.right > innerWidth + 1 || r.left < -1;
  return beyond || (e.clientWidth && e.scrollWidth > e.clientWidth + 1 && style.overflowX !== 'visible');
}).map(e => `${e.tagName}.${e.className} ${e.innerText?.slice(0, 40)}`)"""


@pytest.mark.parametrize("language", ["en-US", "pt-BR"])
def test_a_phone_shows_it_all_and_cuts_nothing(tmp_path, dashboard, stub, language):  # noqa: ARG001
    """At 390 pixels nothing is wider than the page or than its box; only tables scroll, in their own frame."""
    with running_browser(tmp_path, language=language, width=390, height=844) as browser:
        painted(browser, dashboard)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        assert browser.execute_script(CUT) == []


def test_reliability_can_be_read_on_a_low_screen(tmp_path, dashboard, stub):  # noqa: ARG001
    """Below 800 pixels of height the drawing keeps its size, and its words stand above it."""
    with running_browser(tmp_path, width=1440, height=700) as browser:
        painted(browser, dashboard)
        box = "return document.querySelector('#btcml-reliability svg').getBoundingClientRect().height"
        assert browser.execute_script(box) >= 170


def test_a_brazilian_browser_shows_portuguese_and_no_english_sentence(tmp_path, dashboard, stub):
    """Language and format come from the browser; all words but those that both languages share are Portuguese."""
    stub.model = "persistence"
    with running_browser(tmp_path, language="pt-BR") as browser:
        painted(browser, dashboard)
        assert (
            browser.execute_script(f"{BUSY.replace('disabled', 'innerText')}" % "predict")
            == "Prever próximo fechamento"
        )
        assert "0,00" in _text(browser, "#btcml-card-delta")
        assert browser.execute_script("return document.documentElement.lang") == "pt-BR"
        browser.execute_script("document.querySelector('details').open = true")
        shown = browser.execute_script("return document.body.innerText")
        words = json.loads((FILES / "words.json").read_text())
        own = {value for key, value in words["en"].items() if value != words["pt-BR"][key]}
        parts = {part.strip(" .·:") for value in own for part in re.split(r"\{\w+\}", value)}
        assert [part for part in parts if part.count(" ") > 1 and part in shown] == []


def test_times_are_the_viewers_and_hover_shows_utc(browser, dashboard, stub):
    """Zone by the browser, UTC in the title of the card and under the cursor."""
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "America/Sao_Paulo"})
    painted(browser, dashboard)
    closed = pd.Timestamp(stub.last + 300, unit="s", tz="UTC")
    assert f"{closed.tz_convert('America/Sao_Paulo'):%H:%M}" in _text(browser, "#btcml-card-age")
    assert f"{closed:%H:%M} UTC" in browser.execute_script("return document.querySelector('#btcml-card-age').title")
    legend = _hover(browser, "candles")
    assert all(word in legend for word in ("UTC", "real", "forecast", "error", "bp"))
    plain = legend.replace("\N{MINUS SIGN}", "-").replace(",", "")
    close, forecast, error = (
        float(re.search(rf"{word} ([+-]?[\d.]+)", plain)[1]) for word in (" C", "forecast", "error")
    )
    assert error == pytest.approx(1e4 * np.log(forecast / close), abs=0.1)  # of this candle, whose forecast it is


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser, dashboard, stub, theme):  # noqa: ARG001
    """Keyboard, names and contrast, in both themes, with a notice of each kind on the page."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    painted(browser, dashboard)
    _press(browser, "predict")
    until(browser, f"return {NOTICES}.includes('Forecast made')")
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    serious = [
        (item["id"], [node["html"][:120] for node in item["nodes"]])
        for item in found["violations"]
        if item["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert browser.execute_script("return document.body.dataset.theme") == theme


def test_a_button_is_busy_until_its_result_is_there(browser, dashboard, stub):
    """It takes no second press while it works."""
    painted(browser, dashboard)
    stub.mode, stub.delay_s = "slow", 2.0
    _press(browser, "predict")
    until(browser, BUSY % "predict")
    until(browser, f"return {NOTICES}.includes('Forecast made')")
    until(browser, f"{BUSY % 'predict'} === false")


def test_a_training_shows_its_progress_and_then_its_figures(browser, dashboard, stub):  # noqa: ARG001
    """Queued, running with the time so far, done with figures beside persistence's."""
    painted(browser, dashboard)
    _press(browser, "train")
    until(browser, f"return {NOTICES}.includes('running') && document.querySelector('#btcml-notices progress')")
    said = until(browser, f"return {NOTICES}.includes('Training finished') && {NOTICES}")
    assert "MAE 41.50 against persistence 41.70" in said
    assert "lightgbm_mean" in said


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("409", "press Ingest now"),
        ("422", "did not accept"),
        ("500", "failed"),
        ("html", "is not the btcml API"),
        ("slow", "is slow: waiting"),
        ("stopped", "does not answer"),
    ],
)
def test_every_state_of_the_api_has_a_message_and_the_page_recovers(browser, dashboard, stub, mode, words):
    """Without any click: the page tries again by itself when the API works."""
    if mode == "stopped":
        stub.stop()
    else:
        stub.mode = mode
    browser.get(dashboard)
    said = until(browser, f"return {NOTICES}.includes({json.dumps(words)}) && {NOTICES}")
    if mode.isdigit():
        assert f"req-{mode}" in said
    if mode == "stopped":
        stub.start()
    stub.mode = "good"
    until(browser, f"{ALL} && !{NOTICES}")
    assert "+12.50" in _text(browser, "#btcml-card-delta")


@pytest.mark.parametrize("name", ["ingest", "train", "predict"])
def test_a_button_that_fails_shows_the_reason_and_is_enabled_again(browser, dashboard, stub, name):
    """With the request id, and no endless spinner."""
    painted(browser, dashboard)
    stub.mode = "500"
    _press(browser, name)
    until(browser, f"return {NOTICES}.includes('req-500')")
    until(browser, f"{BUSY % name} === false")


def test_zoom_is_kept_when_a_new_candle_comes(browser, dashboard, stub):
    """What the viewer looks at stays in view; at the right edge the newest candle is followed."""
    view = "return document.querySelector('#btcml-candles .btcml-plot').dataset.view"
    stub.since = time.time()
    painted(browser, dashboard)

    def press(key):
        before = browser.execute_script(view)
        event = f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}})"
        browser.execute_script(f"document.querySelector('#btcml-candles .btcml-plot').dispatchEvent({event})")
        return until(
            browser,
            f"const now = (() => {{ {view} }})(); return now !== '{before}' && now",
        )

    def another_candle():
        title = browser.execute_script("return document.querySelector('#btcml-card-age').title")
        stub.moved += 1
        _press(browser, "predict")
        until(browser, f"return document.querySelector('#btcml-card-age').title !== {json.dumps(title)}")
        time.sleep(0.5)
        return browser.execute_script(view)

    edge = press("+").split()
    assert int(another_candle().split()[0]) == int(edge[0]) + 300
    for _ in range(4):
        past = press("ArrowLeft")
    assert another_candle() == past


def test_persistence_in_service_is_said_plainly(browser, dashboard, stub):
    """The card explains it, and no direction is invented."""
    stub.model = "persistence"
    painted(browser, dashboard)
    assert "No model has proven skill yet" in _text(browser, "#btcml-card-model")
    assert "not proven" in _text(browser, "#btcml-card-skill")
    assert "no direction" in _text(browser, "#btcml-card-probUp")


def test_while_persistence_serves_the_best_challengers_directions_are_shown_as_such(browser, dashboard, stub):
    """Instead of an empty chart, its walk-forward is shown by name in every place that needs a direction."""
    stub.model = "persistence"
    painted(browser, dashboard)
    for name in ("direction", "money"):
        said = until(
            browser,
            f"const t = document.querySelector('#btcml-{name} .btcml-say').innerText; return /ridge/.test(t) && t",
        )
        assert "Persistence is served and forecasts no direction: this is ridge" in said
        assert "it is not served" in said
    assert "ridge, not served" in _text(browser, "#btcml-reliability p")
    assert "not served" in _text(browser, "#btcml-score thead")
    assert "Persistence is served" in _text(browser, "#btcml-candles .btcml-say")
    stub.model = "lightgbm_mean"
    browser.refresh()
    until(browser, "return /signs right/.test(document.querySelector('#btcml-direction .btcml-say')?.innerText)")
    assert "ridge" not in _text(browser, ".btcml-grid")


def test_the_age_of_a_replays_data_is_said_by_its_own_clock_or_not_at_all(browser, dashboard, stub):
    """Before the first forecast that clock is unknown, and by the viewer's clock the age would be five hundred days."""
    stub.market, stub.trained = "replay:x", False
    browser.get(dashboard)
    until(browser, f"return {NOTICES}.includes('press Train model')")
    assert _text(browser, "#btcml-card-age .value") == "\u2013"
    assert _text(browser, ".btcml-countdown") == ""
    stub.trained = True
    _press(browser, "predict")
    until(browser, "return /s|min/.test(document.querySelector('#btcml-card-age .value').innerText)")


def test_an_empty_database_shows_which_button_comes_first(browser, dashboard, stub):
    """Ingest, then train: each state names the next button."""
    stub.empty = True
    stub.trained = False
    browser.get(dashboard)
    until(browser, f"return {NOTICES}.includes('press Ingest now')")
    _press(browser, "ingest")
    until(browser, f"return {NOTICES}.includes('720 fetched, 3 new') && {NOTICES}.includes('press Train model')")
    _press(browser, "train")
    until(browser, f"return {NOTICES}.includes('Training finished')")
    until(browser, "return document.querySelector('#btcml-card-delta').innerText.includes('+12.50')")


def test_one_visitor_too_many_gets_a_static_page(browser, stub, tmp_path):
    """And gets a kernel when a visitor leaves."""
    with running_dashboard(stub.url, "--visitors", "1", "--warm", "1") as (url, _):
        painted(browser, url)
        with running_browser(tmp_path / "b") as other:
            other.get(url)
            assert "The dashboard is full" in other.page_source
            browser.get("about:blank")
            time.sleep(1)
            painted(other, url)


def test_beyond_this_machine_the_buttons_need_their_password(browser, stub):
    """The page shows everything; the kernel rejects changes until the password is given."""
    with running_dashboard(stub.url, "--host", "0.0.0.0", BTCML_DASHBOARD_PASSWORD="let-me-in") as (url, _):  # noqa: S104, S106
        painted(browser, url)
        _press(browser, "ingest")
        until(browser, f'return {NOTICES}.includes("needs the dashboard\'s password")')
        for word in ("wrong", "let-me-in"):
            browser.find_element("css selector", ".btcml-top input[type=password]").send_keys(word)
            browser.find_element("css selector", ".btcml-top input[type=password]").send_keys("\n")
            if word == "wrong":
                until(browser, f"return {NOTICES}.includes('not the password')")
                _press(browser, "ingest")
                assert all(path != "/ingest/run" for _, path, _ in stub.seen)
        until(browser, "return document.querySelector('.btcml-top input[type=password]').offsetParent === null")
        _press(browser, "ingest")
        until(browser, f"return {NOTICES}.includes('720 fetched')")


def test_on_loopback_another_host_name_is_refused(dashboard, stub):  # noqa: ARG001
    """A web page that points its own name at this machine gets nothing."""
    assert requests.get(dashboard, headers={"Host": "evil.example"}, timeout=10).status_code >= 400


def _frame(message, content):
    """A message of Jupyter's protocol, version 1."""
    header = {
        "msg_id": "m",
        "msg_type": message,
        "username": "",
        "session": "s",
        "date": "2025-01-01",
        "version": "5.3",
    }
    parts = [part.encode() for part in ("shell", json.dumps(header), "{}", "{}", json.dumps(content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(number.to_bytes(8, "little") for number in (len(offsets), *offsets)) + b"".join(parts)


def test_a_visitor_runs_no_code_in_a_kernel(dashboard, stub, tmp_path):  # noqa: ARG001
    """Only messages of widgets pass; other origins and Jupyter's older framing are refused."""
    websocket = pytest.importorskip("websocket")
    page = requests.get(dashboard, timeout=60).text
    kernel = re.search('"kernelId": "([^"]+)"', page)[1]
    address = f"{dashboard.replace('http', 'ws')}api/kernels/{kernel}/channels"
    spoken = ["v1.kernel.websocket.jupyter.org"]
    for refused in ({"subprotocols": spoken, "origin": "http://evil.example"}, {}):
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(address, timeout=10, **refused)
    channel = websocket.create_connection(address, timeout=10, subprotocols=spoken)
    channel.send_binary(_frame("execute_request", {"code": f"open({str(tmp_path / 'pwned')!r}, 'w')", "silent": False}))
    channel.send_binary(_frame("kernel_info_request", {}))
    while b"kernel_info_reply" not in channel.recv():
        continue
    channel.close()
    assert not (tmp_path / "pwned").exists()


def _shown(value, digits=1):
    """A signed number as the page writes it."""
    return f"{value:+,.{digits}f}".replace("-", "\u2212")


def test_figures_of_the_page_are_those_of_the_api(browser, dashboard, stub):
    """Scores, right signs, reliability and money: what the library computed stands on the page, at any cost."""
    painted(browser, dashboard)
    span = {"start": next(q["start"] for _, p, q in stub.seen if p == "/evaluation" and "origin" not in q)}
    for cost in (2.0, 7.5):
        found = stub.answer("GET", "/evaluation", span | {"cost_bp": str(cost)})[2]
        facts = json.loads(found)
        field = "const field = document.querySelector('.btcml-cost input'); field.value = arguments[0];"
        browser.execute_script(f"{field} field.dispatchEvent(new Event('change', {{bubbles: true}}))", cost)
        money = facts["money"]
        trips, net = f"{money['trips']:,.0f}", _shown(money["net_bp"])
        words = f"At {_shown(cost)[1:]} bp a round trip the rule makes {net} bp in {trips} "
        until(
            browser,
            f"return document.querySelector('#btcml-money .btcml-say').innerText.startsWith({json.dumps(words)})",
        )
    row = {row["model"]: row for row in facts["scores"]}
    own, right = row["lightgbm_mean"], facts["direction"]
    table = _text(browser, "#btcml-score table")
    for value in (f"{own['mae_bp']:.2f}", f"{row['persistence']['mae_bp']:.2f}", f"{100 * own['wda']:.1f}%"):
        assert value in table
    assert f"{right['right']:,} of {right['rows']:,} signs right" in _text(browser, "#btcml-direction .btcml-say")
    assert f"Brier score {own['brier']:.3f}" in _text(browser, "#btcml-reliability p")
    dots = browser.execute_script("return document.querySelectorAll('#btcml-reliability circle').length")
    assert dots == len(facts["reliability"])


@pytest.mark.parametrize("name", ["chart.js", "visit.js"])
def test_in_jupyterlab_one_module_carries_its_parts(browser, dashboard, stub, name):  # noqa: ARG001
    """Relative imports do not work there: a widget's own module links its parts itself."""
    browser.get(f"{dashboard}health")
    script = """const [text, done] = arguments;
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    import(address).then((module) => done(typeof module.default.render));"""
    assert browser.execute_async_script(script, module_text(name, own_page=False)) == "function"


def test_the_crosshair_of_one_chart_stands_in_all(browser, dashboard, stub):  # noqa: ARG001
    """The same candle is read in candles, direction and money at once; leaving clears them all."""
    painted(browser, dashboard)
    moment = _hover(browser, "candles").split(" · ")[0]
    for name in ("direction", "money"):
        legend = until(browser, f"return document.querySelector('#btcml-{name} .btcml-legend').textContent")
        assert legend.startswith(moment)
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 2, "y": 2})
    until(browser, "return [...document.querySelectorAll('.btcml-legend')].every(legend => !legend.textContent)")


VIEW = "return document.querySelector('#btcml-candles .btcml-plot').dataset.view.split(' ').map(Number)"


def test_the_chosen_span_is_what_opens_and_buttons_zoom_and_reset(browser, dashboard, stub):
    """Three days are three days, not the newest hours of them."""
    painted(browser, dashboard)
    first, last = browser.execute_script(VIEW)
    assert last - first >= 3 * 86400
    browser.execute_script("document.querySelector('#btcml-candles .btcml-in').click()")
    until(browser, f"{VIEW}[0] > {first}")
    browser.execute_script("document.querySelector('#btcml-candles .btcml-reset').click()")
    until(browser, f"{VIEW}[0] === {first}")
    _choose(browser, "span", "1 day")
    until(browser, f"{VIEW}[0] >= {stub.last - 86400 - 900}")
    first, last = browser.execute_script(VIEW)
    assert last - first >= 86400


def test_an_address_opens_what_it_names_and_follows_what_is_chosen(browser, dashboard, stub):  # noqa: ARG001
    """Symbol, interval, span, language and zone: a link shows the same to another person."""
    painted(browser, f"{dashboard}?symbol=BTCUSDT&interval=5m&span=1&lang=pt-BR&zone=Asia/Tokyo&boxes=1&compare=ridge")
    assert "Prever" in browser.execute_script((BUSY % "predict").replace("disabled", "innerText"))
    assert "Asia/Tokyo" in _text(browser, ".btcml-footer")
    first, last = browser.execute_script(VIEW)
    assert 86400 <= last - first < 2 * 86400
    until(browser, "return document.querySelector('#btcml-candles .btcml-keys').innerText.includes('ridge')")
    until(browser, "return document.querySelector('#btcml-score thead').innerText.includes('ridge')")
    _choose(browser, "language", "English")
    until(browser, "return location.search.includes('lang=en')")
    _choose(browser, "zone", "UTC")
    until(browser, "return location.search.includes('zone=UTC')")
    assert "span=1&" in browser.current_url
    until(browser, "return document.querySelector('.btcml-footer').innerText.includes('Times in UTC')")


def test_what_is_in_view_is_downloaded_as_csv(browser, dashboard, stub):
    """Times in UTC and the API's own prices, a row for each candle in view."""
    painted(browser, dashboard)
    browser.execute_script(
        "window.csv = ''; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then(text => { window.csv = text; }); return make(blob); };"
        "document.querySelector('#btcml-candles .btcml-in').click();"
    )
    time.sleep(0.5)
    browser.execute_script("document.querySelector('#btcml-candles .btcml-csv').click()")
    head, *rows = until(browser, "return window.csv").strip().split("\n")
    names = head.split(",")
    assert {"time", "real_open", "real_close", "forecast", "interval_lo", "error", "volume"} <= set(names)
    assert 100 < len(rows) < 800
    row = dict(zip(names, rows[-5].split(","), strict=True))
    real = next(found for found in stub.candles(100) if iso(found["time"])[:-1] == row["time"][:-5])
    assert float(row["real_close"]) == real["close"]


def test_forecasts_and_sealed_intervals_are_candles_when_asked(browser, dashboard, stub):  # noqa: ARG001
    """The line gives way to candles with open, high, low and close in both charts."""
    painted(browser, f"{dashboard}?boxes=1")
    assert _hover(browser, "candles").count(" H ") == 2
    assert _hover(browser, "sealed").count(" H ") == 1


def test_several_symbols_are_a_board_of_cards(browser, stub):
    """A press on a card shows its symbol."""
    with running_dashboard(stub.url, "--warm", "1", BTCML_SYMBOLS="BTCUSDT,ETHUSDT") as (url, _):
        painted(browser, url)
        cards = "return [...document.querySelectorAll('.btcml-symbol-card')].map(card => card.innerText)"
        until(browser, f"{cards}.every(words => words.includes('%'))")
        assert [words.split("\n")[0] for words in browser.execute_script(cards)] == ["BTCUSDT", "ETHUSDT"]
        browser.execute_script("document.querySelectorAll('.btcml-symbol-card')[1].click()")
        until(browser, "return location.search.includes('symbol=ETHUSDT')")
        assert any(query.get("symbol") == "ETHUSDT" for _, path, query in stub.seen if path == "/series")


def test_below_a_path_everything_is_found_there(browser, stub):
    """The page, its files, its socket and its links, as behind a proxy."""
    with running_dashboard(stub.url, "--warm", "1", "--root-path", "/tools/btcml") as (url, _):
        painted(browser, f"{url}tools/btcml/")
        urls, _ = _requests(browser)
        paths = {urlsplit(found).path for found in urls if found.startswith(("http", "ws"))}
        assert [path for path in paths if not path.startswith("/tools/btcml/") and path != "/favicon.ico"] == []
        assert console(browser) == []


def test_a_lost_kernel_is_replaced_and_the_page_shows_the_same(browser, stub):
    """Killed from outside: a banner, a new kernel, the same span and language; nobody presses anything."""
    with running_dashboard(stub.url, "--warm", "1") as (url, process):
        painted(browser, f"{url}?span=1&lang=pt-BR")
        kernel = "return JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
        first = browser.execute_script(kernel)
        listed = ["ps", "-ww", "--ppid", str(process.pid), "-o", "pid=,args="]
        lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
        for line in lines:
            if first in line:
                os.kill(int(line.split()[0]), signal.SIGKILL)
        script = f"return document.getElementById('jupyter-config-data') && (() => {{ {kernel} }})() !== '{first}'"
        until(browser, script)
        until(browser, ALL)
        assert "span=1&lang=pt-BR" in browser.current_url


def test_the_whole_flow_of_system_0_on_an_empty_database(browser, tmp_path):
    """Open, ingest, train and see the metrics, predict and see the three cards, and again; the API is started too."""
    home = {"BTCML_HOME": str(tmp_path / "home"), "BTCML_SOURCE": "simulated", "BTCML_INTERVAL": "1h"}
    with running_dashboard(f"http://127.0.0.1:{free_port()}", **home) as (url, _):
        browser.get(url)
        until(browser, f"return {NOTICES}.includes('press Ingest now')")
        _press(browser, "ingest")
        until(browser, f"return {NOTICES}.includes('Ingested')")
        _press(browser, "train")
        until(browser, f"return {NOTICES}.includes('against persistence')")
        for _ in range(2):
            _press(browser, "predict")
            until(browser, f"return {NOTICES}.includes('Forecast made')")
            cards = [_text(browser, f"#btcml-card-{name} .value") for name in ("lastClose", "nextCloseCard", "delta")]
            assert all(card not in {"", "\u2013"} for card in cards)


def _resident(process):
    """Megabytes of each kernel below a process."""
    listed = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "rss=,args="], capture_output=True, text=True, check=False
    ).stdout
    return [int(line.split()[0]) / 1024 for line in listed.splitlines() if "btcml.kernel" in line]


@pytest.mark.soak
def test_many_visits_leave_no_kernel_and_no_memory(tmp_path):
    """Sixty visits, ten of them at once at the end: kernels end, memory returns."""
    stub = StubApi()
    stub.start()
    with running_dashboard(stub.url) as (url, process), running_browser(tmp_path) as browser:
        painted(browser, url)
        time.sleep(5)
        before, kernels, paints = _memory(process), [], []
        for _ in range(60):
            browser.get("about:blank")
            time.sleep(2)
            painted(browser, url)
            kernels += _resident(process)
            script = "return performance.getEntriesByName('btcml-first')[0].startTime"
            paints.append(browser.execute_script(script) / 1000)
        browser.get("about:blank")
        with ThreadPoolExecutor(10) as pool:
            pages = list(pool.map(lambda _: requests.get(url, timeout=WAIT_S).text, range(10)))
        assert all("kernelId" in page and "btcml-error" not in page for page in pages)
        end = time.monotonic() + WAIT_S
        while len(_resident(process)) > 2 and time.monotonic() < end:
            time.sleep(1)
        after, left = _memory(process), len(_resident(process))
        figures = (
            f"server {before:.0f} MB before, {after:.0f} MB after; kernel {max(kernels):.0f} MB at most; {left} left"
        )
        paint = f"cards and first chart after {np.median(paints):.2f} s, p95 {np.quantile(paints, 0.95):.2f} s"
        sys.stdout.write(f"{figures}; {paint}\n")  # shown by pytest -s
        assert left <= 2, figures
        assert after < 1.10 * before, figures
        assert max(kernels) < 95, figures
    stub.stop()


@pytest.mark.soak
def test_a_kernel_of_thirty_days_of_five_minutes_is_small(tmp_path):
    """The longest span: candles, forecasts and figures of 8,640 candles, drawn, and drawn again in another unit."""
    stub = StubApi()
    stub.start()
    with running_dashboard(stub.url, "--warm", "1") as (url, process), running_browser(tmp_path) as browser:
        painted(browser, f"{url}?span=30")
        until(browser, "return document.querySelector('#btcml-candles')?.dataset.rows > 8000")
        _choose(browser, "span", "3 days")
        _choose(browser, "span", "30 days")
        time.sleep(10)
        kernels = _resident(process)
        sys.stdout.write(f"kernels of {kernels} MB\n")  # shown by pytest -s
        assert max(kernels) <= 95
    stub.stop()


def _memory(process):
    """Megabytes of the server itself."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 2**20
