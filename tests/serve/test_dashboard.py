"""The dashboard's widgets and words; its client of the API, its files and the reports that it finds."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from btcml.forecast.verdict import ALPHA
from btcml.serve import dashboard_view
from btcml.serve.dashboard import CHARTS, Dashboard, open_dashboard
from btcml.serve.dashboard_client import ROUTES, Client, Outcome, find_report
from btcml.serve.dashboard_text import LANGUAGES, Text, second, table
from btcml.serve.dashboard_view import Facts, View, point_rows
from btcml.serve.dashboard_widgets import FILES, LIBRARY_SHA256, STATIC, assets_hash, module_text, style_text

BROWSER = {"query": {}, "saved": {}, "languages": ["en-US"], "zone": "America/Sao_Paulo", "host": "127.0.0.1"}
OWN = sorted(file for file in STATIC.glob("*.js") if file.name != "lightweight-charts.js")


class _Client:
    """Stands for the API's client: answers of the test, by the name of a route."""

    url = "http://127.0.0.1:8000"

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def request(self, name, query):
        self.asked.append((name, dict(query)))
        found = self.answers.get(name, Outcome("unreachable"))
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Outcome) else Outcome("ok", 200, data=found)


class _Loop:
    """Stands for the kernel's loop: what waits, and what comes later."""

    def __init__(self):
        self.waiting, self.later = [], []

    def call_soon(self, task, *arguments):
        self.waiting.append(lambda: task(*arguments))

    call_soon_threadsafe = call_soon

    def call_later(self, _, task, *arguments):
        self.later.append(lambda: task(*arguments))


def _dashboard(client=None, *, password="", **environment):
    known = {"BTCML_DASHBOARD_PAGE": "1", "BTCML_DASHBOARD_PASSWORD": password}
    page = Dashboard(client or _Client(), known | environment)
    page._pool = SimpleNamespace(submit=lambda task: task())
    page._loop = _Loop()
    return page


def _work(page):
    """Do what is asked, until nothing waits."""
    while page._loop.waiting:
        page._loop.waiting.pop(0)()


def _opened(client=None, browser=None, **environment):
    page = _dashboard(client, **environment)
    page._do(lambda: page.hello(BROWSER | (browser or {})))
    _work(page)
    return page


@pytest.mark.parametrize(
    "content", [None, 3, "x", {"hello": 5}, {"visible": "x"}, {"hello": {"query": [], "saved": 1, "languages": {}}}]
)
def test_a_message_of_any_shape_ends_nothing(content, monkeypatch):
    """What a browser sends is not trusted."""
    page = _dashboard()
    monkeypatch.setattr("btcml.serve.dashboard.asyncio", SimpleNamespace(get_running_loop=lambda: page._loop))
    page._on_message(content)
    if isinstance(content, dict) and isinstance(content.get("hello"), dict):
        page.hello(content["hello"])
    _work(page)
    assert page.symbol.value == "BTCUSDT"


def test_an_error_of_the_page_itself_is_a_sentence_on_it():
    """Instead of a page that stands still."""
    page = _opened(_Client(prices=RuntimeError("boom")))
    page._do(lambda: 1 / 0)
    _work(page)
    assert "ZeroDivisionError" in page.notices.value
    assert "RuntimeError in the dashboard: boom" in page._problems["prices"].detail


def test_a_training_is_followed_to_its_end():
    """By its job, a look a second; then its figures are said and everything is asked again."""
    job = {"id": 7, "status": "running", "symbol": "BTCUSDT", "interval": "5m"}
    client = _Client(train=Outcome("ok", 202, data=job), job=job)
    page = _opened(client)
    page.train.click()
    _work(page)
    assert "Training job 7: running" in page.notices.value
    assert page.train.disabled
    client.answers["job"] = job | {"status": "ok", "result": {"mae": 1.0, "persistence_mae": 2.0, "champion": "ridge"}}
    page._loop.later.pop()()
    _work(page)
    assert "MAE 1.00 against persistence 2.00" in page.notices.value
    assert not page.train.disabled


def test_locked_buttons_reach_no_api():
    """The kernel refuses, whatever the browser presses; a forecast is for everybody."""
    client = _Client()
    page = _opened(client, BTCML_DASHBOARD_LOCKED="1", password="open " + "sesame")
    client.asked.clear()
    for button in (page.ingest, page.train, page.predict):
        button.click()
    _work(page)
    asked = [name for name, _ in client.asked]
    assert "ingest" not in asked
    assert "train" not in asked
    assert "predict" in asked


def test_the_password_opens_the_buttons_and_nothing_else_does(monkeypatch):
    """A wrong one costs time; none is kept in a widget."""
    waited = []
    clock = SimpleNamespace(sleep=waited.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("btcml.serve.dashboard.time", clock)
    page = _opened(BTCML_DASHBOARD_LOCKED="1", password="a" + "ção")
    for given in ("acao", ""):
        page.password.value = given
        _work(page)
        assert page.locked
    assert waited == [1.0]
    page.password.value = "a" + "ção"
    _work(page)
    assert not page.locked
    assert page.password.value == ""


def test_without_a_password_the_buttons_stay_locked(monkeypatch):
    """An empty password is none."""
    clock = SimpleNamespace(sleep=lambda _: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("btcml.serve.dashboard.time", clock)
    page = _opened(BTCML_DASHBOARD_LOCKED="1")
    page._do(page._unlock)
    _work(page)
    assert page.locked
    assert "no BTCML_DASHBOARD_PASSWORD" in page.notices.value
    assert page.password.layout.display == "none"


def test_secrets_stay_in_the_kernel():
    """No state of any widget has the password or the API's key."""
    page = _opened(password="pw" + "-1", BTCML_API_KEY="key-1", BTCML_DASHBOARD_LOCKED="1")
    shown = [value for value in (*vars(page).values(), *page.charts.values()) if hasattr(value, "get_state")]
    told = json.dumps([widget.get_state() for widget in shown], default=str)
    assert len(shown) > 30
    assert "pw-1" not in told
    assert "key-1" not in told


def test_what_an_address_names_is_what_opens():
    """Before what the last visit had; an unknown value is left out."""
    saved = {"symbol": "ETHUSDT", "lang": "en", "span": "7"}
    query = {"interval": "1h", "span": "30", "lang": "pt-BR", "zone": "UTC", "theme": "dark", "unit": "miles"}
    page = _opened(browser={"saved": saved, "query": query}, BTCML_SYMBOLS="BTCUSDT, ETHUSDT")
    assert page.state() == {
        "symbol": "ETHUSDT", "interval": "1h", "span": "30", "lang": "pt-BR", "zone": "UTC", "theme": "dark",
    }  # fmt: skip
    assert page.visit.page["state"] == page.state()
    assert page.predict.description == "Prever próximo fechamento"


def test_a_problem_is_gone_when_its_cause_is():
    """A state follows the newest answers: no old error stays on the page."""
    client = _Client()
    page = _opened(client)
    assert "does not answer" in page.notices.value
    client.answers |= {"metrics": {"items": []}, "model": {"models": []}}
    client.answers |= {name: Outcome("problem", 409, "none yet") for name in ("prices", "predict")}
    page.refresh()
    _work(page)
    assert "does not answer" not in page.notices.value
    assert "press Ingest now" in page.notices.value


def test_a_failed_button_is_not_blamed_on_an_api_that_answers_again():
    """What the exchange refused stays for a while; an API out of reach is said only as long as it is."""
    client = _Client()
    page = _opened(client)
    page._refused("ingest", Outcome("unreachable"))
    page._refused("train", Outcome("problem", 502, "refused by the exchange"))
    client.answers |= {name: Outcome("problem", 409) for name in ("prices", "predict")}
    client.answers |= {"metrics": {"items": []}, "model": {"models": []}}
    page.refresh()
    _work(page)
    assert "does not answer" not in page.notices.value
    assert "Refused by the exchange" in page.notices.value


def test_another_series_forgets_what_was_said_of_the_last():
    """Its notices and problems are not those of the new one."""
    page = _opened(BTCML_SYMBOLS="BTCUSDT,ETHUSDT")
    page._notice("ingest", "bad", lambda: "of the other")
    page.symbol.value = "ETHUSDT"
    _work(page)
    assert "of the other" not in page.notices.value


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", True), ("btcml.example", False)])
def test_a_link_to_this_machine_is_for_those_on_it(host, shown):
    """Another viewer's own machine has no API."""
    page = _opened(browser={"host": host}, BTCML_ADMINER_URL="http://127.0.0.1:8080")
    assert ("http://127.0.0.1:8080" in page.links.value) is shown


def test_a_forecast_stands_at_the_candle_that_it_is_about():
    """Point t of the API has the candle t and the forecast of t+1."""
    pred = {f"{name}_next": 2.0 for name in ("open", "high", "low", "close")}
    real = {"time": "1970-01-01T00:00:00Z", "close": 1.0, "volume": 5.0}
    points = [{"real": real, "pred": pred, "lo": 1, "hi": 3, "origin": "sealed"}, {"real": real, "pred": None}]
    read = json.loads(json.dumps({"points": points}), object_hook=ROUTES["series"].reduce)
    assert [(row["time"], row["value"]) for row in point_rows(read["points"], 300)] == [(300, 2.0)]


RECORDED = json.loads((Path(__file__).parents[1] / "frozen" / "records" / "routes.json").read_text(encoding="utf-8"))


def test_of_the_recorded_answers_is_kept_what_the_charts_draw():
    """Candles without their copy for older clients; forecasts with the time of the candle before."""
    path = "/prices/latest?symbol=BTCUSDT&interval=5m&n=3"
    whole = RECORDED[f"GET {path}"]["body"]
    kept = json.loads(json.dumps(whole), object_hook=ROUTES["prices"].reduce)
    assert [row["close"] for row in kept["items"]] == [row["close"] for row in whole["data"]]
    assert kept["items"][0]["time"] == second(whole["items"][0]["time"])
    assert kept["data"] == [None] * 3
    whole = RECORDED["GET /series?start=2025-03-02T10:00:00Z&end=2025-03-02T10:15:00Z"]["body"]
    kept = json.loads(json.dumps(whole), object_hook=ROUTES["series"].reduce)
    assert {name: kept[name] for name in kept if name != "points"} == {n: whole[n] for n in whole if n != "points"}
    assert [row["value"] for row in kept["points"]] == [point["pred"]["close_next"] for point in whole["points"]]


LEVELS = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]


def _forecast(**of_last):
    """Forecasts of one and of three candles ahead, with decisions."""
    shared = {
        "predicted_close": 100.0,
        "delta_bp": 1.0,
        "predicted_low": 97.0,
        "predicted_high": 103.0,
        "prob_up": 0.52,
    }
    shared |= {"lo": 96.0, "hi": 104.0, "levels": LEVELS, "quantiles": [95.0, 96, 97, 98, 99.5, 101, 103, 104, 105]}
    times = {1: "1970-01-02T00:05:00Z", 3: "1970-01-02T00:15:00Z"}
    decision = {"action": "long", "expected_bp": 4.0, "needed_bp": 2.0, "probability": 0.75, "proven": True} | of_last
    return {
        "time": times[1], "last_close": 99.0, "lo": 96.0, "hi": 104.0,
        **{f"predicted_{name}": 100.0 for name in ("open", "high", "low", "close")},
        "horizons": [
            shared | {"horizon": 1, "time": times[1], "model": "persistence", "skill": 0.0},
            shared | {"horizon": 3, "time": times[3], "model": "ridge", "skill": 0.0045},
        ],
        "decisions": [decision | {"horizon": 1, "action": "no trade", "proven": False}, decision | {"horizon": 3}],
    }  # fmt: skip


def _view(language="en", **facts):
    candles = [
        {"time": at} | dict.fromkeys(("open", "high", "low", "close", "volume"), 99.0) for at in (0, 300, 86_400)
    ]
    return View(Facts(candles=candles, **facts), Text(language, "UTC"))


def test_the_fan_begins_at_the_last_close_and_ends_at_the_largest_horizon():
    """The last day of candles; median and bands at the horizons, and a place on the axis for every candle between."""
    page = _dashboard()
    chart = page.charts["fan"]
    _view(prediction=_forecast()).draw_fan(chart)
    series = json.loads(gzip.decompress(chart.data))["series"]
    assert series["real"]["time"] == [300, 86_400]
    assert series["interval"] == {"time": [86_400, 86_700, 87_300], "lo": [99, 96, 96], "hi": [99, 104, 104]}
    assert series["half"] == {"time": [86_400, 86_700, 87_300], "lo": [99, 98, 98], "hi": [99, 101, 101]}
    assert series["median"]["value"] == [99, 99.5, 99.5]
    assert series["axis"] == {"time": [86_400, 86_700, 87_000, 87_300]}
    assert chart.say.startswith("At 2 Jan 00:20 the close lies between 96.00 and 104.00 with a probability of 90 %")


def test_a_fan_without_a_distribution_or_of_a_candle_that_has_closed_is_not_drawn():
    """Models that were saved before have none; an old forecast is none."""
    older = _forecast()
    older["horizons"] = [row | {"levels": [], "quantiles": []} for row in older["horizons"]]
    for prediction in (older, _forecast() | {"time": "1970-01-02T00:00:00Z"}, None):
        chart = _dashboard().charts["fan"]
        _view(prediction=prediction).draw_fan(chart)
        assert json.loads(gzip.decompress(chart.data))["series"] == {}


def test_the_fan_shows_what_was_sealed_for_the_last_day_and_what_came_of_it():
    """Intervals of the largest horizon whose candle has closed, and how many of them held."""
    chart, point = _dashboard().charts["fan"], {"time": 300, "lo": 98.0, "hi": 100.0, "real_close": 99.0}
    sealed = [point, point | {"time": 600, "real_close": 100.5}, point | {"time": 900, "real_close": None}]
    _view(prediction=_forecast(), sealed_ahead=sealed).draw_fan(chart)
    shown = json.loads(gzip.decompress(chart.data))["series"]["past"]
    assert shown == {"time": [300, 600], "lo": [98, 98], "hi": [100, 100]}
    assert chart.say.endswith(
        "In the last day 1 of 2 closes fell into the 90 % interval that was sealed 15 min before."
    )


def test_the_sealed_intervals_of_the_largest_horizon_are_asked_for_once_a_candle():
    """Whichever of candles and forecast comes first."""
    candle = {"time": 86_400} | dict.fromkeys(("open", "high", "low", "close", "volume"), 99.0)
    page = _dashboard()
    for _ in range(2):
        page.facts.candles, page.facts.prediction = [candle], _forecast()
        page._request_ahead()
    asked = [query for name, query in page.client.asked if name == "futures"]
    assert [query["horizon"] for query in asked] == [3]


def test_a_forecast_that_arrives_before_the_candles_draws_no_fan():
    """Its axis would begin in 1970: five million candles."""
    chart = _dashboard().charts["fan"]
    View(Facts(prediction=_forecast()), Text("en", "UTC")).draw_fan(chart)
    assert json.loads(gzip.decompress(chart.data))["series"] == {}


@pytest.mark.parametrize(
    ("language", "decision", "words"),
    [
        ("en", {}, "long: +4.0 bp expected, more than 2.0 bp needed"),
        ("pt-BR", {"action": "short", "expected_bp": -4.0}, "vender: \u22124,0 bp esperados, é preciso mais de 2,0 bp"),
        ("en", {"action": "no trade", "expected_bp": 1.99}, "no trade: +1.99 bp expected, more than 2.0 bp needed"),
        ("pt-BR", {"action": "no trade", "expected_bp": None}, "sem negócio: ainda sem distribuição"),
    ],
)
def test_each_horizon_has_a_row_with_its_proof_and_its_decision(language, decision, words):
    """In both languages; on which side of the cost a move is can be read; what is not proven is not traded."""
    shown = _view(language, prediction=_forecast(**decision)).ahead()
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", shown)
    assert [row.split("<")[0] for row in rows] == ["5 min", "15 min"]
    assert ("nothing is proven" if language == "en" else "nada está provado") in rows[0]
    assert words in rows[1]
    assert "ridge" in rows[1]
    assert "<tr>" not in _view(language).ahead()


def test_what_the_decisions_would_have_earned_is_said():
    """As the API computes it, of the served model; where it is silent always, that."""
    rule = {"cost_bp": 2.0, "silent": 1.0, "trips": 0.0, "total": 0.0, "deflated": None}
    assert "silent in 100.0% of this span: no trade pays" in _view(own={"decision": rule}).ahead()
    rule |= {"silent": 0.9, "trips": 7.0, "total": -0.00123, "deflated": 0.25}
    assert "makes \u221212.3 bp in 7 round trips after costs" in _view(own={"decision": rule}).ahead()
    assert _view(own={}).ahead().endswith("<p></p></section>")


def test_trainings_stand_at_the_time_of_the_market():
    """A replay of last year is drawn in last year, whatever the clock on the wall."""
    item = {
        "ratio": 0.9,
        "finished_at": "2026-05-01T00:00:00Z",
        "train_end_ts": "2025-02-01T00:00:00Z",
        "champion": "x",
    }
    view = View(Facts(trainings=[item, item]), Text("en", "UTC"))
    assert [row["time"] for row in view.trainings()] == [1738368000]
    assert "1 Feb 00:00" in view.history()


def test_scores_have_rmse_and_r2_beside_the_mean_error():
    """And never instead of it."""
    rows = [{"model": name, "rows": 9, "mae_bp": 1.5, "rmse_usd": 7.25, "direction_low": 0.4, "direction_high": 0.6}
            for name in ("ridge", "persistence", "repeat")]  # fmt: skip
    shown = {"model": "ridge", "scores": rows, "direction": {"right": 5, "rows": 9}}
    view = View(Facts(own=shown, shown=shown), Text("en", "UTC"))
    assert re.search("MAE, bp.*1.50.*RMSE, USD.*7.25", view.scores())
    item = {"ratio": 0.9, "r2": 0.125, "rmse": 3.5, "finished_at": "2026-05-01T00:00:00Z", "champion": "x"}
    assert re.search("RMSE.*R².*3.50.*0.1250", View(Facts(trainings=[item]), Text("en", "UTC")).history())


def test_the_lag_of_the_seal_and_what_is_proven_are_told_in_both_languages():
    """As the API computes them."""
    day, proof = {"scores": [], "seal_lag": {"p50": 0.41, "p99": 1.72}}, {"forecasts": 1200, "proven": 1100}
    facts = Facts(day=day, published=proof)
    for language, number in (("en", "0.4 s"), ("pt-BR", "0,4 s")):
        chart = SimpleNamespace(put=lambda *_, **__: None, look=lambda *_, **__: None)
        view = View(facts, Text(language, "UTC"))
        view._look = lambda *_, **__: None
        view.draw_sealed(chart)
        assert number in chart.say
        share = {
            "en": "Of 1,200 published forecasts 1,100 are proven in time",
            "pt-BR": "Das 1.200 previsões publicadas",
        }
        assert share[language] in chart.say


def test_numbers_and_times_are_written_as_the_viewer_does():
    """In both languages, and in the chosen zone."""
    english, portuguese = Text("en", "UTC"), Text("pt-BR", "America/Sao_Paulo")
    assert (english.number(1234.5), portuguese.number(1234.5)) == ("1,234.50", "1.234,50")
    assert (english.moment(0), portuguese.moment(0)) == ("1 Jan 00:00", "31 dez 21:00")
    assert Text("xx", "../../etc/passwd").zone == "UTC"
    assert english.number(-0.001) == "0.00"


def test_what_came_from_outside_is_escaped():
    """Names of models and details of errors are text, not HTML."""
    assert "<b>" not in table(["<b>", "<b>"], [["<b>", "<b>"]], "<b>")
    page = _opened(_Client(**dict.fromkeys(("prices", "predict", "metrics", "model"), Outcome("problem", 500, "<b>x"))))
    assert "<b>" not in page.notices.value
    assert "&lt;b&gt;x" in page.notices.value


def test_a_chart_sends_its_rows_packed():
    """The way to a phone is narrower than the way to the API."""
    page = _dashboard()
    chart = page.charts["candles"]
    chart.put({"real": {"time": list(range(10_000)), "value": [1.0] * 10_000}})
    assert len(chart.data) < 30_000
    assert json.loads(gzip.decompress(chart.data))["series"]["real"]["value"][-1] == 1.0
    assert set(page.charts) == set(CHARTS)


def test_under_our_page_a_widget_carries_no_copy_of_its_files():
    """The browser has loaded them already; in JupyterLab it carries them all."""
    assert len(_dashboard().charts["candles"]._esm) < 300
    assert "createChart" in module_text("chart.js", own_page=False)
    assert Dashboard(_Client(), {}).visit._css == style_text()


def test_the_chart_library_is_as_its_makers_published_it():
    """Its hash is that of npm's package, and its licence lies beside it."""
    assert hashlib.sha256((STATIC / "lightweight-charts.js").read_bytes()).hexdigest() == LIBRARY_SHA256
    assert "Apache License" in (STATIC / "lightweight-charts.LICENSE.txt").read_text()


def test_own_javascript_is_small():
    """At most a thousand lines: it draws, and computes nothing."""
    assert sum(len(file.read_text().splitlines()) for file in OWN) <= 1000


def test_no_file_of_ours_asks_another_host():
    """Law 10: the only foreign address is a link that the chart library's licence requires."""
    for file in STATIC.parent.rglob("*"):
        if file.suffix in {".js", ".css", ".html", ".j2"} and file.name != "lightweight-charts.js":
            assert "://" not in file.read_text().replace("http://www.w3.org/2000/svg", ""), file.name


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_no_module_of_the_page_computes_a_figure(file):
    """Errors, signs and intervals of shares are the library's: JavaScript draws what `GET /evaluation` answers."""
    text = file.read_text()
    assert not re.search(r"Math\.(sign|pow|log)\(|wilson|1e4|10000", text)
    assert not re.search(r"(close|forecast|base|mae)\s*[-/*]\s*\w+\.(\w*mae|close|base|forecast)", text)


def test_both_languages_have_the_same_words_with_the_same_values():
    """No sentence is missing in one of them, and every word is used."""
    words = json.loads((FILES / "words.json").read_text(encoding="utf-8"))
    assert set(words) == set(LANGUAGES)
    assert words["en"].keys() == words["pt-BR"].keys()
    named = {
        language: {key: set(re.findall(r"{\w+}", text)) for key, text in words[language].items()} for language in words
    }
    assert named["en"] == named["pt-BR"]


def test_the_hash_of_the_files_is_stable():
    """Twelve digits that name a version."""
    assert assets_hash() == assets_hash()
    assert len(assets_hash()) == 12


def test_the_dashboard_of_a_kernel_comes_from_its_environment():
    """Address and key of the API."""
    page = open_dashboard({"API_BASE_URL": "http://127.0.0.1:9/", "BTCML_API_KEY": "k"})
    assert page.client.url == "http://127.0.0.1:9"


@pytest.fixture
def api():
    """A server that answers what the test puts into ``answers``, by path."""

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.seen.append((self.command, self.path, dict(self.headers)))
            status, kind, body, headers = self.server.answers.get(self.path.split("?")[0], (404, "text/html", b"", {}))
            if callable(body):
                body = body()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.answers, server.seen = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _json(facts, status=200, **headers):
    return (status, "application/json", json.dumps(facts).encode(), headers)


def test_an_answer_passes_through_as_it_came(api):
    """Only the parameters of the route are passed on."""
    api.answers["/metrics"] = _json({"status": "empty"})
    outcome = Client(api.url).request("metrics", {"symbol": "BTCUSDT", "interval": "5m", "limit": 3, "evil": 1})
    assert (outcome.code, outcome.data) == ("ok", {"status": "empty"})
    assert api.seen[0][:2] == ("GET", "/metrics?symbol=BTCUSDT&interval=5m&limit=3")


@pytest.mark.parametrize("status", [401, 404, 409, 422, 500, 502, 503])
def test_a_problem_keeps_its_sentence_and_its_request_id(api, status):
    """So that the page can say both."""
    api.answers["/predict"] = _json({"detail": "train first", "request_id": "abc", "status": status}, status)
    outcome = Client(api.url).request("predict", {})
    assert (outcome.code, outcome.status, outcome.detail, outcome.request_id) == (
        "problem",
        status,
        "train first",
        "abc",
    )


def test_not_ready_is_an_answer(api):
    """`/ready` says 503 and what is missing; that is no failure."""
    api.answers["/ready"] = _json({"status": "not ready", "missing": ["candles"]}, 503)
    assert Client(api.url).request("ready", {}).code == "ok"


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", b"<h1>nginx</h1>", {}),
        (502, "text/html", b"<h1>Bad gateway</h1>", {}),
        (500, "application/json", b"{not json", {}),
        (500, "application/json", b"[]", {}),
        (302, "text/html", b"", {"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_what_is_not_the_api_is_foreign(api, answer):
    """HTML, broken JSON and redirects come from another program, and are not followed."""
    api.answers["/metrics"] = answer
    assert Client(api.url).request("metrics", {}).code == "foreign"
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("prices", "/prices/latest", b'{"items": [{"open": 1}]}'),
        ("series", "/series", b'{"points": [{"pred": {"close_next": 1}}]}'),
    ],
)
def test_candles_and_forecasts_of_another_form_are_foreign(api, name, path, body):
    """What the charts need is not in them."""
    api.answers[path] = (200, "application/json", body, {})
    assert Client(api.url).request(name, {}).code == "foreign"


def test_an_api_that_is_not_there_is_unreachable():
    """A refused connection is known at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert Client(f"http://127.0.0.1:{port}").request("metrics", {}).code == "unreachable"


def test_an_api_that_takes_too_long_is_slow(api):
    """A time-out; the page tries again."""
    done = threading.Event()
    api.answers["/metrics"] = (200, "application/json", lambda: (done.wait(600), b"{}")[1], {})
    try:
        assert Client(api.url).request("metrics", {}, timeout_s=0.1).code == "slow"
    finally:
        done.set()


def test_an_answer_that_breaks_off_is_no_exception(api):
    """A server that dies in the middle of a body."""
    api.answers["/metrics"] = (200, "application/json", b"{}", {"Content-Length": "999", "Connection": "close"})
    assert Client(api.url).request("metrics", {}, timeout_s=0.3).code in {"slow", "unreachable", "foreign", "ok"}


def test_only_changing_routes_carry_the_key(api):
    """The key goes no further than it must."""
    api.answers |= {"/train": _json({"id": 1}, 202), "/metrics": _json({})}
    client = Client(api.url, "secret")
    client.request("train", {"days": 30})
    client.request("metrics", {})
    assert api.seen[0][2]["Authorization"] == "Bearer secret"
    assert api.seen[0][2]["Prefer"] == "respond-async"
    assert "Authorization" not in api.seen[1][2]


def test_an_unknown_route_is_never_requested(api):
    """The page is not trusted: names, not paths."""
    assert Client(api.url).request("../admin", {}).code == "problem"
    assert api.seen == []


def test_a_job_is_requested_by_a_number_only(api):
    """Nothing else can come into the path."""
    api.answers["/jobs/7"] = _json({"id": 7})
    assert Client(api.url).request("job", {"id": "7"}).code == "ok"
    with pytest.raises(ValueError, match="invalid literal"):
        Client(api.url).request("job", {"id": "7/../../x"})


def test_every_route_is_documented_by_its_own_fields():
    """Only three routes change something or judge: ingest and train need the password, predict does not."""
    assert {name for name, route in ROUTES.items() if route.changes} == {"ingest", "train"}


def test_one_thread_keeps_one_connection(api):
    """A session is reused, so that a refresh does not open six connections each time."""
    api.answers["/metrics"] = _json({})
    client = Client(api.url)
    ports = set()
    for _ in range(3):
        client.request("metrics", {})
        ports.add(id(client._session()))
        time.sleep(0)
    assert len(ports) == 1


def test_the_module_is_light():
    """A visitor's kernel does not load what the API has already loaded."""
    code = (
        "import sys, btcml.serve.dashboard; "
        "heavy = {'pandas', 'numpy', 'sklearn', 'sqlalchemy', 'scipy', 'voila', 'fastapi', 'pydantic'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


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


@pytest.mark.parametrize(("language", "name"), [("en", "60d-a"), ("pt-BR", "60d-a-pt-BR")])
def test_of_two_reports_on_the_same_candles_the_one_in_the_viewers_language_is_linked(tmp_path, language, name):
    """The folder of a report names a language that is not English."""
    for built in ("60d-a", "60d-a-pt-BR"):
        _run(tmp_path, built, "2025-05-02T00:00:00+00:00", "2025-07-01T00:00:00+00:00")
    found = find_report(str(tmp_path), **SERIES, **JUNE, language=language)
    assert found["path"].split("/")[3] == name


def test_without_one_the_newest_of_the_series_is_named_as_such(tmp_path):
    """One that ends at the model's last candle has not seen it: the end is exclusive."""
    _run(tmp_path, "30d-a", "2025-05-30T00:00:00+00:00", "2025-06-30T23:55:00+00:00")
    _run(tmp_path, "30d-b", "2025-05-20T00:00:00+00:00", "2025-06-20T00:00:00+00:00")
    found = find_report(str(tmp_path), **SERIES, **JUNE)
    assert (found["path"].split("/")[3], found["exact"]) == ("30d-a", False)


@pytest.mark.parametrize("first", ["model", "market"])
def test_the_report_is_linked_whichever_answer_comes_first(tmp_path, first):
    """The models name its candles, the prices its market: on a busy machine in either order."""
    pages = tmp_path / "simulated" / "BTCUSDT" / "5m" / "30d" / "pages"
    pages.mkdir(parents=True)
    (pages / "index.html").touch()
    page = _dashboard(BTCML_REPORTS_DIR=str(tmp_path))
    answers = {
        "model": lambda: page._on_model({"models": [{"name": "m", "champion": True, "window": ["", ""]}]}),
        "market": lambda: page._find_report("simulated"),
    }
    answers.pop(first)()
    assert "reports/" not in page._links_html()
    answers.popitem()[1]()
    assert 'href="reports/simulated/BTCUSDT/5m/30d/pages/index.html"' in page._links_html()


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


def test_a_coin_served_by_models_of_others_says_on_what_it_is_proven():
    """Its own p proves nothing, so it is not shown; the verdict's sentence is the tip of the card."""
    made = _forecast() | {"model": "others_lightgbm_mean", "skill": None, "verdict": "proven on coins left out"}
    judged = {"champion": "others_lightgbm_mean", "skill": None, "dm_p": 0.4}
    card = _view(prediction=made, trainings=[judged])._skill_card()
    assert "fitted on other coins, and proven on them" in card
    assert 'title="proven on coins left out"' in card
    assert "p = " not in card
    assert "ajustado em outras moedas" in _view("pt-BR", prediction=made, trainings=[judged])._skill_card()


def test_a_p_value_is_shown_on_its_own_side_of_the_verdicts_level():
    """The level is written twice, since a kernel does not import the verdict."""
    assert dashboard_view._RULE_P == ALPHA
