from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from btcml.cli import main
from btcml.errors import BtcmlError, NotReadyError, UsageError
from btcml.serve import up
from btcml.serve.up import _opened, api_answers, commands, run_together, run_up, running_api
from btcml.settings import Settings
from btcml.system import start_child

from ..processes import WAIT_S, started, until  # noqa: TID252 - of all tests


def alive(tmp_path, name):
    """A command that writes its number and waits."""
    code = f"import os, time; open({str(tmp_path / name)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    return [sys.executable, "-c", code]


def is_running(path):
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_when_one_part_ends_the_others_are_stopped_and_it_is_named(tmp_path):
    """A part of the service alone is not run."""
    code = (
        f"import os, time\nwhile not os.path.exists({str(tmp_path / 'api')!r}): time.sleep(0.05)\nraise SystemExit(3)"
    )
    parts = {"api": alive(tmp_path, "api"), "schedule": [sys.executable, "-c", code]}
    with pytest.raises(BtcmlError, match="schedule ended with status 3"):
        run_together(parts, os.environ)
    assert not is_running(tmp_path / "api")


def test_a_stop_stops_all_parts(tmp_path):
    """SIGTERM to the whole ends every process of it."""
    parts = {name: alive(tmp_path, name) for name in ("api", "schedule")}
    code = (
        "import os, signal; from btcml.serve.up import run_together; "
        f"signal.signal(signal.SIGTERM, signal.default_int_handler); run_together({parts!r}, os.environ)"
    )
    with started([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as whole:
        until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in parts))
        whole.send_signal(signal.SIGTERM)
        assert whole.wait(WAIT_S) != 0
    assert not any(is_running(tmp_path / name) for name in parts)


def test_a_part_ends_when_the_whole_is_killed():
    """Kill -9 of `btcml up`: a command line of btcml that it had started notices, and ends as by SIGTERM."""
    port = _nowhere().rpartition(":")[2]
    parts = {"exchange": [sys.executable, "-m", "btcml.cli", "exchange", "--port", port]}
    code = f"import os; from btcml.serve.up import run_together; run_together({parts!r}, os.environ)"
    with started([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as whole:
        until(lambda: _accepts(int(port)))
        (part,) = psutil.Process(whole.pid).children()
        whole.kill()
        whole.wait()
    assert not psutil.wait_procs([part], timeout=WAIT_S)[1]


def _accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_nothing_is_started_beyond_loopback_without_a_key(tmp_path, monkeypatch):
    """Not even a database: the sentence comes first."""
    monkeypatch.setattr("btcml.serve.up.open_store", lambda _: pytest.fail("something was started"))
    with pytest.raises(UsageError, match="BTCML_API_KEY"):
        run_up(Settings(btcml_home=tmp_path), "0.0.0.0", 8000, 9, None)  # noqa: S104 - refused


@pytest.fixture
def taken():
    """A port in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture
def free():
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        return other.getsockname()[1]


def test_a_taken_port_is_an_error_before_anything_is_started(tmp_path, monkeypatch, taken, free):
    """Each by its name and by the option that chooses it; of two the API's comes first."""
    monkeypatch.setattr("btcml.serve.up.open_store", lambda _: pytest.fail("something was started"))
    settings = Settings(btcml_home=tmp_path)
    for ports in ((taken, free), (taken, taken), (taken, None)):
        with pytest.raises(UsageError, match=rf"the API cannot listen on 127.0.0.1:{taken} .* another --port,"):
            run_up(settings, "127.0.0.1", ports[0], 9, ports[1])
    with pytest.raises(UsageError, match=rf"the dashboard cannot listen on .*:{taken} .* another --dashboard-port,"):
        run_up(settings, "127.0.0.1", free, 9, taken)


def test_an_api_on_a_taken_port_ends_with_one_sentence(tmp_path, monkeypatch, capsys, taken):
    """Exit status 2, the user's mistake, and no line of a log."""
    monkeypatch.setenv("BTCML_HOME", str(tmp_path))
    assert main(["api", "--port", str(taken)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        f"btcml: the API cannot listen on 127.0.0.1:{taken} (Address already in use by process {os.getpid()}: "
    )
    assert len(said.err.splitlines()) == 1
    assert main(["api", "--port", "70000"]) == 2


def test_the_dashboard_can_be_left_out():
    """Two parts instead of three."""
    assert list(commands("127.0.0.1", 8000, 30, None)) == ["api", "schedule"]
    assert commands("127.0.0.1", 8000, 30, 8866)["dashboard"][-2:] == ["--port", "8866"]


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
    monkeypatch.setattr(up, "start_child", None)
    with running_api(Settings(api_base_url=api), print):
        assert api_answers(api)


def test_an_api_of_another_machine_is_never_started(monkeypatch):
    """The dashboard itself reports that none answers."""
    monkeypatch.setattr(up, "start_child", None)
    monkeypatch.setattr(up, "api_answers", lambda _: False)
    with running_api(Settings(api_base_url="http://api.example:8000"), print):
        pass


def test_an_api_of_our_own_ends_with_the_dashboard(monkeypatch, tmp_path):
    """Also when the block ends by an error."""
    begun = []

    def sleeper(*_, **__):
        begun.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return begun[0]

    monkeypatch.setattr(up, "start_child", sleeper)
    monkeypatch.setattr(up, "_wait_for", lambda *_: None)
    with pytest.raises(KeyboardInterrupt), running_api(Settings(api_base_url=_nowhere(), btcml_home=tmp_path), print):
        raise KeyboardInterrupt
    assert begun[0].poll() is not None


def test_an_api_that_ends_at_once_is_one_sentence(monkeypatch, tmp_path):
    """With the last line of its log."""
    ends = [sys.executable, "-c", "import sys; sys.exit('no room left')"]
    monkeypatch.setattr(up, "start_child", lambda _, env, **how: start_child(ends, env, **how))
    settings = Settings(api_base_url=_nowhere(), btcml_home=tmp_path / "new")
    with pytest.raises(NotReadyError, match=r"no room left.*api\.log"), running_api(settings, print):
        pytest.fail("it never came up")


def test_counts_of_kernels_begin_at_one(capsys):
    """Exit status 2, one sentence."""
    assert main(["dashboard", "--warm", "0"]) == 2
    assert "count from 1" in capsys.readouterr().err


def test_a_log_that_has_grown_large_is_renamed(tmp_path):
    """Once: the disk holds two of them at most when the API starts."""
    log = tmp_path / "home" / "api.log"
    for size in (5, 11 * 2**20, 11 * 2**20):
        with _opened(log) as lines:
            lines.truncate(size)
    with _opened(log) as lines:
        assert lines.tell() == 0
    assert sorted(file.name for file in log.parent.iterdir()) == ["api.log", "api.log.1"]
