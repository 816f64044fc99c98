"""The kernel's client: every way in which an API can fail becomes an answer, none an exception."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from btcml.serve.dashboard_client import ROUTES, Client


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
    outcome = Client(api.url).ask("metrics", {"symbol": "BTCUSDT", "interval": "5m", "limit": 3, "evil": 1})
    assert (outcome.code, outcome.etag, json.loads(outcome.body)) == ("ok", '"a"', {"status": "empty"})
    assert api.seen[0][:2] == ("GET", "/metrics?symbol=BTCUSDT&interval=5m&limit=3")


def test_a_long_answer_travels_packed(api):
    """The way to a phone is narrower than the way to the API."""
    facts = {"points": ["the same again"] * 1000}
    api.answers["/series"] = _json(facts)
    outcome = Client(api.url).ask("series", {})
    assert outcome.packed
    assert len(outcome.body) < 1000
    assert json.loads(gzip.decompress(outcome.body)) == facts


def test_what_is_not_new_is_not_sent_again(api):
    """The API's 304 becomes `unchanged`."""
    api.answers["/series"] = (304, "application/json", b"", {})
    assert Client(api.url).ask("series", {}, etag='"a"').code == "unchanged"
    assert api.seen[0][2]["If-None-Match"] == '"a"'


@pytest.mark.parametrize("status", [401, 404, 409, 422, 500, 502, 503])
def test_a_problem_keeps_its_sentence_and_its_request_id(api, status):
    """So that the page can say both."""
    api.answers["/predict"] = _json({"detail": "train first", "request_id": "abc", "status": status}, status)
    outcome = Client(api.url).ask("predict", {})
    assert (outcome.code, outcome.status, outcome.detail, outcome.request_id) == (
        "problem",
        status,
        "train first",
        "abc",
    )


def test_not_ready_is_an_answer(api):
    """`/ready` says 503 and what is missing; that is no failure."""
    api.answers["/ready"] = _json({"status": "not ready", "missing": ["candles"]}, 503)
    assert Client(api.url).ask("ready", {}).code == "ok"


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
    assert Client(api.url).ask("metrics", {}).code == "foreign"
    assert len(api.seen) == 1


def test_an_api_that_is_not_there_is_unreachable():
    """A refused connection is known at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert Client(f"http://127.0.0.1:{port}").ask("metrics", {}).code == "unreachable"


def test_an_api_that_takes_too_long_is_slow(api):
    """Patience ends; the page tries again."""
    done = threading.Event()
    api.answers["/metrics"] = (200, "application/json", lambda: (done.wait(600), b"{}")[1], {})
    try:
        assert Client(api.url).ask("metrics", {}, patience_s=0.1).code == "slow"
    finally:
        done.set()


def test_an_answer_that_breaks_off_is_no_exception(api):
    """A server that dies in the middle of a body."""
    api.answers["/metrics"] = (200, "application/json", b"{}", {"Content-Length": "999", "Connection": "close"})
    assert Client(api.url).ask("metrics", {}, patience_s=0.3).code in {"slow", "unreachable", "foreign", "ok"}


def test_only_changing_routes_carry_the_key(api):
    """The key goes no further than it must."""
    api.answers |= {"/train": _json({"id": 1}, 202), "/metrics": _json({})}
    client = Client(api.url, "secret")
    client.ask("train", {"days": 30})
    client.ask("metrics", {})
    assert api.seen[0][2]["Authorization"] == "Bearer secret"
    assert api.seen[0][2]["Prefer"] == "respond-async"
    assert "Authorization" not in api.seen[1][2]


def test_an_unknown_route_is_never_asked_for(api):
    """The page is not trusted: names, not paths."""
    assert Client(api.url).ask("../admin", {}).code == "problem"
    assert api.seen == []


def test_a_job_is_asked_for_by_a_number_only(api):
    """Nothing else can come into the path."""
    api.answers["/jobs/7"] = _json({"id": 7})
    assert Client(api.url).ask("job", {"id": "7"}).code == "ok"
    with pytest.raises(ValueError, match="invalid literal"):
        Client(api.url).ask("job", {"id": "7/../../x"})


def test_every_route_is_documented_by_its_own_fields():
    """Only three routes change something or judge: ingest and train need the password, predict does not."""
    assert {name for name, route in ROUTES.items() if route.changes} == {"ingest", "train"}


def test_one_thread_keeps_one_connection(api):
    """A session is reused, so that a refresh does not open six connections each time."""
    api.answers["/metrics"] = _json({})
    client = Client(api.url)
    ports = set()
    for _ in range(3):
        client.ask("metrics", {})
        ports.add(id(client._session()))
        time.sleep(0)
    assert len(ports) == 1


def test_the_module_is_light():
    """A visitor's kernel must not pay for what the API has already loaded."""
    code = (
        "import sys, btcml.serve.dashboard; "
        "heavy = {'pandas', 'numpy', 'sklearn', 'sqlalchemy', 'scipy', 'voila', 'fastapi', 'pydantic'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
