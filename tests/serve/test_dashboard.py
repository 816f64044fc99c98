"""The widget, its client of the API, its files and the reports that it finds."""

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
from types import SimpleNamespace

import pytest

from btcml.serve.dashboard import (
    LIBRARY_SHA256,
    MODULES,
    ROUTES,
    STATIC,
    Client,
    Dashboard,
    Outcome,
    assets_hash,
    find_report,
    module_text,
    style_text,
)


class _Client:
    """Stands for the API's client."""

    url = "http://127.0.0.1:8000"

    def __init__(self, outcome=None):
        self.outcome, self.asked = outcome or Outcome("ok", 200, body=b"{}"), []

    def request(self, name, query, *, etag=""):
        self.asked.append((name, dict(query), etag))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def _dashboard(client=None, *, password="", **environment):
    known = {"BTCML_DASHBOARD_PAGE": "1", "BTCML_DASHBOARD_PASSWORD": password}
    return Dashboard(client or _Client(), known | environment)


def test_a_question_is_passed_to_the_api():
    """Facts as JSON, the body as bytes."""
    client = _Client(Outcome("ok", 200, etag='"x"', body=b'{"a":1}'))
    facts, body = _dashboard(client).answer("prices", {"symbol": "BTCUSDT"}, '"w"')
    assert client.asked == [("prices", {"symbol": "BTCUSDT"}, '"w"')]
    assert (facts["code"], facts["etag"], json.loads(body)) == ("ok", '"x"', {"a": 1})


def test_an_unexpected_error_is_a_sentence():
    """So that the page shows no endless spinner."""
    facts, body = _dashboard(_Client(RuntimeError("boom"))).answer("prices", {})
    assert (facts["code"], body) == ("problem", b"")
    assert "boom" in facts["detail"]


@pytest.mark.parametrize(
    "content", [None, 3, "x", {"ask": 5, "query": "no"}, {"query": []}, {"ask": "prices", "query": None}]
)
def test_a_message_of_any_shape_is_answered(content):
    """What a page sends is not trusted, and never ends a thread."""
    sent = []
    dashboard = _dashboard()
    dashboard.send = lambda facts, buffers=None: sent.append((facts, buffers))
    dashboard._reply(content)
    assert "code" in sent[0][0]


def test_an_answer_goes_back_under_the_number_of_its_question():
    """Answers may overtake each other."""
    heard = threading.Event()
    sent = []
    dashboard = _dashboard()
    dashboard.send = lambda facts, buffers=None: (sent.append((facts, buffers)), heard.set())
    dashboard._handle_custom_msg({"id": 41, "ask": "prices", "query": {}}, [])
    assert heard.wait(600)
    assert sent[0][0]["id"] == 41
    assert sent[0][1] == [b"{}"]


def test_locked_buttons_reach_no_api():
    """The kernel refuses, whatever the page shows; reading and forecasting go on."""
    client = _Client()
    dashboard = _dashboard(client, BTCML_DASHBOARD_LOCKED="1", password="open " + "sesame")
    assert [dashboard.answer(name, {})[0]["code"] for name in ("ingest", "train", "predict", "prices")] == [
        "locked",
        "locked",
        "ok",
        "ok",
    ]
    assert [name for name, _, _ in client.asked] == ["predict", "prices"]


def test_the_password_opens_the_buttons_and_nothing_else_does(monkeypatch):
    """A wrong one costs time."""
    waited = []
    monkeypatch.setattr("btcml.serve.dashboard.time", SimpleNamespace(sleep=waited.append))
    dashboard = _dashboard(BTCML_DASHBOARD_LOCKED="1", password="a" + "ção")
    assert dashboard.answer("unlock", {"password": "acao"})[0]["locked"]
    assert dashboard.answer("unlock", {})[0]["locked"]
    assert waited == [1.0, 1.0]
    assert not dashboard.answer("unlock", {"password": "ação"})[0]["locked"]
    assert dashboard.answer("train", {})[0]["code"] == "ok"


def test_without_a_password_the_buttons_stay_locked(monkeypatch):
    """An empty password is none."""
    monkeypatch.setattr("btcml.serve.dashboard.time", SimpleNamespace(sleep=lambda _: None))
    dashboard = _dashboard(BTCML_DASHBOARD_LOCKED="1")
    assert dashboard.answer("unlock", {"password": ""})[0]["locked"]
    assert not dashboard.answer("hello", {})[0]["password"]


def test_secrets_stay_in_the_kernel():
    """The page knows only that there is a password, and nothing of the API's key."""
    dashboard = _dashboard(password="pw" + "-1", BTCML_API_KEY="key-1", BTCML_DASHBOARD_LOCKED="1")
    told = json.dumps([dashboard.answer("hello", {})[0], dashboard.get_state()], default=str)
    assert "pw-1" not in told
    assert "key-1" not in told


def test_the_page_learns_symbols_links_and_interval():
    """From the environment of the kernel."""
    dashboard = _dashboard(
        BTCML_SYMBOLS="BTCUSDT, ETHUSDT",
        BTCML_INTERVAL="1h",
        BTCML_ADMINER_URL="http://a",
        BTCML_API_PUBLIC_URL="http://b",
    )
    facts, _ = dashboard.answer("hello", {})
    assert (facts["symbols"], facts["interval"], facts["adminer"], facts["api"]) == (
        ["BTCUSDT", "ETHUSDT"],
        "1h",
        "http://a",
        "http://b",
    )


def test_under_our_page_the_widget_carries_no_copy_of_its_files():
    """The browser has loaded them already; in JupyterLab it carries them all."""
    assert _dashboard()._esm == ""
    assert all(name in module_text() for name in MODULES)
    assert Dashboard(_Client(), {})._css == style_text()


def test_the_chart_library_is_as_its_makers_published_it():
    """Its hash is that of npm's package, and its licence lies beside it."""
    assert hashlib.sha256((STATIC / "lightweight-charts.js").read_bytes()).hexdigest() == LIBRARY_SHA256
    assert "Apache License" in (STATIC / "lightweight-charts.LICENSE.txt").read_text()


def test_modules_stand_after_those_that_they_import():
    """The loader links them in this order; the page preloads exactly these."""
    texts = {name: (STATIC / name).read_text() for name in MODULES}
    for place, name in enumerate(MODULES):
        needed = [other for other in MODULES if f'from "./{other}"' in texts[name]]
        assert all(MODULES.index(other) < place for other in needed), name
    template = (STATIC.parent / "index.html.j2").read_text()
    assert all(f'"{name.removesuffix(".js")}"' in template for name in MODULES)


def test_no_file_of_ours_asks_another_host():
    """Law 10: the only foreign address is a link that the chart library's licence requires."""
    for file in STATIC.parent.rglob("*"):
        if file.suffix in {".js", ".css", ".html", ".j2"} and file.name != "lightweight-charts.js":
            left = (
                file.read_text().replace("https://www.tradingview.com/", "").replace("http://www.w3.org/2000/svg", "")
            )
            assert "://" not in left.replace('"wss" : "ws"}://${location.host}', "").replace("//${", ""), file.name


@pytest.mark.parametrize("name", MODULES[1:])
def test_no_module_of_the_page_computes_a_figure(name):
    """Errors, signs and intervals of shares are the library's: JavaScript draws what `GET /evaluation` answers."""
    text = (STATIC / name).read_text()
    assert not re.search(r"Math\.(sign|pow|log\((?!count))|wilson|1e4|10000", text)
    assert not re.search(r"(close|forecast|base|mae)\s*[-/*]\s*\w+\.(\w*mae|close|base|forecast)", text)


def test_both_languages_have_the_same_words():
    """No sentence is missing in one of them."""
    text = (STATIC / "words.js").read_text()
    blocks = re.split(r"const (?:EN|PT) = ", text)[1:]
    keys = [set(re.findall(r"(?<=[\s{,])(\w+): \"", block)) for block in blocks]
    assert keys[0] == keys[1]
    assert len(keys[0]) > 100


def test_the_hash_of_the_files_is_stable():
    """Twelve digits that name a version."""
    assert assets_hash() == assets_hash()
    assert len(assets_hash()) == 12


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
    """Body, ETag and request id are the API's own."""
    api.answers["/metrics"] = _json({"status": "empty"}, ETag='"a"')
    outcome = Client(api.url).request("metrics", {"symbol": "BTCUSDT", "interval": "5m", "limit": 3, "evil": 1})
    assert (outcome.code, outcome.etag, json.loads(outcome.body)) == ("ok", '"a"', {"status": "empty"})
    assert api.seen[0][:2] == ("GET", "/metrics?symbol=BTCUSDT&interval=5m&limit=3")


def test_a_long_answer_travels_packed(api):
    """The way to a phone is narrower than the way to the API."""
    facts = {"points": ["the same again"] * 1000}
    api.answers["/series"] = _json(facts)
    outcome = Client(api.url).request("series", {})
    assert outcome.packed
    assert len(outcome.body) < 1000
    assert json.loads(gzip.decompress(outcome.body)) == facts


def test_what_is_not_new_is_not_sent_again(api):
    """The API's 304 becomes `unchanged`."""
    api.answers["/series"] = (304, "application/json", b"", {})
    assert Client(api.url).request("series", {}, etag='"a"').code == "unchanged"
    assert api.seen[0][2]["If-None-Match"] == '"a"'


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
