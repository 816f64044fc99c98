"""Every command in README and docs is executed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.docs.documents import KINDS, ROOT, blocks
from tests.store.conftest import RECORD, record  # noqa: F401 - five forecasts with their outcomes

BIN = Path(sys.executable).parent


def by_name(items):
    return {"argnames": "block", "argvalues": items, "ids": [block.name for block in items]}


@pytest.fixture
def environment(home, tmp_path):
    """A new user's shell: the commands on the PATH, and no exchange to talk to."""
    plain = {name: os.environ[name] for name in ("LANG", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
    return plain | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "BTCML_HOME": str(home),
        "BTCML_SOURCE": "simulated",
        "OMP_NUM_THREADS": "1",
    }


def run(code, environment, folder, timeout=600):
    """Run a block as a reader would paste it; every line must succeed."""
    command = ["bash", "-eu", "-o", "pipefail", "-c", code]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_every_block_declares_how_it_is_tested():
    """A command that is never run becomes wrong."""
    unknown = {f"{block.name}: {block.kind}" for block in blocks() if block.language in {"bash", "python", "sh"}}
    assert not {name for name in unknown if name.split(": ")[1] not in KINDS}


def test_what_is_left_to_continuous_integration_is_run_there():
    """Blocks marked ci stand in .ci/run, line for line."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for block in blocks("bash ci"):
        assert set(block.code.strip().splitlines()) <= set(script)


@pytest.mark.parametrize(**by_name(blocks("bash")))
def test_the_quick_commands_run(block, environment, store, alone, tmp_path):  # noqa: ARG001 - an empty database
    """In a folder of their own, against the simulated market; no other session is connected, as a restore requires."""
    alone()
    done = run(block.code, environment, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(**by_name(blocks("bash import")))
def test_the_import_runs_beside_a_dump(block, environment, store, tmp_path):  # noqa: ARG001 - an empty database
    """The folder that the page speaks of is there."""
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "futuros.csv").write_text(
        "time,pred_close,real_close,err_close\n2025-09-27 03:25:00,2,1,1\n", encoding="utf-8"
    )
    done = run(block.code, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "forecasts: 1" in done.stdout


@pytest.mark.parametrize(**by_name(blocks("bash record")))
def test_the_record_is_published_and_checked(block, environment, record, home, tmp_path):  # noqa: ARG001, F811
    """On a replay, as nobody can seal forecasts of the past."""
    shutil.rmtree(home / "witness", ignore_errors=True)  # of the record of another test
    done = run(block.code.replace("binance/", f"{RECORD.market}/"), environment, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
@pytest.mark.parametrize(**by_name(blocks("bash mlforecast")))
def test_the_commands_for_another_library_run(block, environment, tmp_path):
    """In a folder of their own; both of its models are judged."""
    pytest.importorskip("mlforecast", reason="the package mlforecast is not installed")
    done = run(block.code, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "peers:documented" in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.soak
@pytest.mark.parametrize(**by_name(blocks("bash long")))
def test_the_long_commands_run(block, environment, store):  # noqa: ARG001 - an empty database
    """From the checkout, as the page says."""
    done = run(block.code, environment, ROOT, timeout=7200)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.soak
@pytest.mark.parametrize(**by_name(blocks("bash server")))
def test_the_servers_start_answer_and_stop(block, environment, tmp_path):
    """Started, waited for at the address of the info string, stopped."""
    fresh = environment | {"BTCML_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(["bash", "-c", f"exec {block.code}"], env=fresh, cwd=tmp_path, start_new_session=True)
    try:
        for _ in range(240):
            assert process.poll() is None, "the server ended by itself"
            try:
                with urllib.request.urlopen(block.argument, timeout=5) as answer:  # noqa: S310 - our own address
                    assert answer.status == 200
                    break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(f"nothing answers at {block.argument}")
        process.terminate()  # as Ctrl-C, which a shell in the background would not pass on
        assert process.wait(60) in {0, 130}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.parametrize(**by_name(blocks("python run")))
def test_the_python_of_the_pages_runs(block, environment, store, tmp_path):  # noqa: ARG001 - an empty database
    """As in a fresh notebook."""
    done = subprocess.run(
        [sys.executable, "-c", block.code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
@pytest.mark.parametrize(**by_name(blocks("bash workshop")))
def test_a_page_that_adds_something_works_as_it_stands(block, environment, store, tmp_path):  # noqa: ARG001
    """Its Python blocks go into a copy of the checkout, then its commands are run there."""
    for name in ("btcml", "tests", "notebooks", "data_contracts", "reports/template", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
        else:
            shutil.copy(source, tmp_path / name)
    for change in blocks("python file", "python append"):
        if change.path == block.path:
            target = tmp_path / change.argument
            before = target.read_text(encoding="utf-8") if change.kind == "python append" else ""
            target.write_text(before + ("\n\n" if before else "") + change.code, encoding="utf-8")
    done = run(
        block.code,
        environment | {"PYTHONPATH": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        tmp_path,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
