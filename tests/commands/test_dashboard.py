"""The verb of the dashboard: it starts an API only where none answers, and takes it away again."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from btcml.cli import main
from btcml.commands import dashboard
from btcml.commands.dashboard import _opened, api_answers, running_api
from btcml.errors import NotReadyError
from btcml.settings import Settings


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    """Address of something healthy."""
    server = HTTPServer(("127.0.0.1", 0), _Healthy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def _nowhere():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_an_api_that_answers_is_used(api, monkeypatch):
    """Nothing is started beside it."""
    monkeypatch.setattr(dashboard.subprocess, "Popen", None)
    with running_api(Settings(api_base_url=api)):
        assert api_answers(api)


def test_where_none_answers_elsewhere_the_page_says_so_itself(monkeypatch):
    """An API of another machine is not ours to start."""
    monkeypatch.setattr(dashboard.subprocess, "Popen", None)
    monkeypatch.setattr(dashboard, "api_answers", lambda _: False)
    with running_api(Settings(api_base_url="http://api.example:8000")):
        pass


def test_an_api_of_our_own_ends_with_the_dashboard(monkeypatch, tmp_path):
    """Also when the block ends by an error."""
    started = []
    popen = dashboard.subprocess.Popen

    def sleeper(_command, **_):
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[0]

    monkeypatch.setattr(dashboard.subprocess, "Popen", sleeper)
    monkeypatch.setattr(dashboard, "_wait_for", lambda *_: None)
    with pytest.raises(KeyboardInterrupt), running_api(Settings(api_base_url=_nowhere(), btcml_home=tmp_path)):
        raise KeyboardInterrupt
    assert started[0].poll() is not None


def test_an_api_that_dies_at_once_is_one_sentence(monkeypatch, tmp_path):
    """With its own last words."""
    popen, code = dashboard.subprocess.Popen, "import sys; sys.exit('no room left')"
    monkeypatch.setattr(dashboard.subprocess, "Popen", lambda _, **how: popen([sys.executable, "-c", code], **how))
    settings = Settings(api_base_url=_nowhere(), btcml_home=tmp_path / "new")
    with pytest.raises(NotReadyError, match=r"no room left.*api\.log has more"), running_api(settings):
        pytest.fail("it never came up")


def test_counts_of_kernels_begin_at_one(capsys):
    """Exit status 2, one sentence."""
    assert main(["dashboard", "--warm", "0"]) == 2
    assert "count from 1" in capsys.readouterr().err


def test_a_log_that_has_grown_large_is_put_aside(tmp_path):
    """Once: the disk holds two of them at most when the API starts."""
    log = tmp_path / "home" / "api.log"
    for size in (5, 11 * 2**20, 11 * 2**20):
        with _opened(log) as lines:
            lines.truncate(size)
    with _opened(log) as lines:
        assert lines.tell() == 0
    assert sorted(file.name for file in log.parent.iterdir()) == ["api.log", "api.log.1"]
