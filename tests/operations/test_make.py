"""The Makefile: its output when btcml reports an error, and its targets otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BTCML = """#!/bin/bash
echo "btcml $*" >> calls
case "$*" in
  *"--days 0"*) echo 'btcml: days must be at least 1' >&2; exit 2;;
  *--plan*) printf 'RUN := out/run\\n' > "${@: -1}";;
  *--from-plan*) mkdir -p out/run/pages; echo page > out/run/pages/index.html;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Run make in a checkout whose btcml is a few lines of shell."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("btcml", "notebooks", "reports/template", "data_contracts"):
        (tmp_path / name).mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "btcml"
    program.write_text(BTCML)
    program.chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()

    def _make(*words):
        plain = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(["make", *words], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)

    return _make


@pytest.mark.parametrize("target", ["report", "verify"])
def test_a_refused_parameter_is_the_sentence_of_btcml(make, target):
    """Called once, and make prints no message about an unknown file; only that it stopped."""
    done = make(target, "DAYS=0")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == "btcml: days must be at least 1"
    assert second.startswith("make: *** [Makefile:")
    assert second.endswith(f" {target}] Error 2")


def test_a_report_is_planned_and_built_once(make, tmp_path):
    """Plan, then pages; the second time there is nothing to be done."""
    for _ in range(2):
        done = make("report", "DAYS=9", "SOURCE=simulated")
        assert (done.returncode, done.stdout, done.stderr) == (0, "report: out/run/pages/index.html\n", "")
    assert make("verify", "DAYS=9", "SOURCE=simulated").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["report", "report", "verify"]


@pytest.mark.parametrize("target", ["lab", "up"])
def test_lab_and_up_pass_on_what_the_user_gave(make, tmp_path, target):
    """And nothing else: the settings have the rest."""
    make(target)
    make(target, "SYMBOL=ETHUSDT", "INTERVAL=15m", "DAYS=90", "SOURCE=my candles.csv")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split() for call in calls] == [
        ["btcml", target],
        f"btcml {target} --symbol ETHUSDT --interval 15m --days 90 --source my candles.csv".split(),
    ]
