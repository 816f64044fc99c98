"""The widget: what it answers to a page that it does not trust."""

from __future__ import annotations

import hashlib
import json
import re
import threading

import pytest

from btcml.serve.dashboard import Dashboard
from btcml.serve.dashboard_assets import LIBRARY_SHA256, MODULES, STATIC, assets_hash, module_text, style_text
from btcml.serve.dashboard_client import Outcome


class _Client:
    """Stands for the API's client."""

    url = "http://127.0.0.1:8000"

    def __init__(self, outcome=None):
        self.outcome, self.asked = outcome or Outcome("ok", 200, body=b"{}"), []

    def ask(self, name, query, *, etag=""):
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
    """A spinner for ever would be worse."""
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
    monkeypatch.setattr("btcml.serve.dashboard.time.sleep", waited.append)
    dashboard = _dashboard(BTCML_DASHBOARD_LOCKED="1", password="a" + "ção")
    assert dashboard.answer("unlock", {"password": "acao"})[0]["locked"]
    assert dashboard.answer("unlock", {})[0]["locked"]
    assert waited == [1.0, 1.0]
    assert not dashboard.answer("unlock", {"password": "ação"})[0]["locked"]
    assert dashboard.answer("train", {})[0]["code"] == "ok"


def test_without_a_password_nobody_opens_the_buttons(monkeypatch):
    """An empty password is none."""
    monkeypatch.setattr("btcml.serve.dashboard.time.sleep", lambda _: None)
    dashboard = _dashboard(BTCML_DASHBOARD_LOCKED="1")
    assert dashboard.answer("unlock", {"password": ""})[0]["locked"]
    assert not dashboard.answer("hello", {})[0]["password"]


def test_secrets_stay_in_the_kernel():
    """The page is told that there is a password, not which; and nothing of the API's key."""
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
    """Law 10: the only foreign address is a link that the chart library's licence asks for."""
    for file in STATIC.parent.rglob("*"):
        if file.suffix in {".js", ".css", ".html", ".j2"} and file.name != "lightweight-charts.js":
            left = (
                file.read_text().replace("https://www.tradingview.com/", "").replace("http://www.w3.org/2000/svg", "")
            )
            assert "://" not in left.replace('"wss" : "ws"}://${location.host}', "").replace("//${", ""), file.name


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
