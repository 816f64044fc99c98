from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from btcml.errors import BtcmlError, UsageError
from btcml.serve.up import commands, run_together, run_up
from btcml.settings import Settings


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
    """Half a service is no service."""
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
    whole = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in parts):
        time.sleep(0.05)
    whole.send_signal(signal.SIGTERM)
    assert whole.wait(timeout=30) != 0
    assert not any(is_running(tmp_path / name) for name in parts)


def test_nothing_is_started_beyond_loopback_without_a_key(tmp_path, monkeypatch):
    """Not even a database: the sentence comes first."""
    monkeypatch.setattr("btcml.serve.up.open_store", lambda _: pytest.fail("something was started"))
    with pytest.raises(UsageError, match="BTCML_API_KEY"):
        run_up(Settings(btcml_home=tmp_path), "0.0.0.0", 8000, 9, None)  # noqa: S104 - refused


def test_the_dashboard_can_be_left_out():
    """Two parts instead of three."""
    assert list(commands("127.0.0.1", 8000, 30, None)) == ["api", "schedule"]
    assert commands("127.0.0.1", 8000, 30, 8866)["dashboard"][-2:] == ["--port", "8866"]
