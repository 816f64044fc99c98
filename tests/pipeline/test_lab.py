"""The notebooks in JupyterLab: about what the user asked for, with their snapshot, ready to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from btcml.cli import main
from btcml.report.execute import read_parameters


@pytest.fixture
def lab(tmp_path, monkeypatch, home, store, capsys):  # noqa: ARG001 - an empty database
    """Prepare the notebooks of some days, far from the checkout; return their folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BTCML_HOME", str(home))

    def _lab(*options):
        assert main(["lab", "--prepare", "--source", "simulated", "--json", *options]) == 0
        return tmp_path / json.loads(capsys.readouterr().out)["notebooks"]

    return _lab


def test_the_notebooks_hold_the_options_as_their_parameters(lab):
    """Symbol, interval, days and market; and the snapshot that they read lies beside them."""
    folder = lab("--symbol", "ETHUSDT", "--interval", "1h", "--days", "30")
    chapters = sorted(folder.glob("*.ipynb"))
    assert len(chapters) == 5
    for chapter in chapters:
        found = {name: p.default for name, p in read_parameters(nbformat.read(chapter, 4)).items()}
        assert found["symbol"] == "ETHUSDT"
        assert (found["interval"], found["days"], found["market"]) == ("1h", 30, "simulated")
    snapshot = json.loads((folder / "snapshot" / "snapshot.json").read_text())
    assert (snapshot["symbol"], snapshot["interval"]) == ("ETHUSDT", "1h")


def test_nothing_of_the_users_is_overwritten(lab):
    """Prepared again it is the same; other days have a folder of their own."""
    folder = lab("--interval", "1h", "--days", "40")
    first = (folder / "snapshot").resolve()
    (folder / "01-ingest.ipynb").write_text("mine")
    assert lab("--interval", "1h", "--days", "40") == folder
    assert (folder / "snapshot").resolve() == first
    assert (folder / "01-ingest.ipynb").read_text() == "mine"
    assert lab("--interval", "1h", "--days", "41") != folder


@pytest.mark.soak
def test_every_notebook_runs_as_it_is(lab):
    """From the first cell to the last, in order, in a kernel whose folder is theirs."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    folder = lab("--days", "40")
    for path in sorted(folder.glob("*.ipynb")):
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(nbformat.read(path, 4), timeout=900, resources=resources).execute(env=environment)
    done = subprocess.run(
        [sys.executable, "-m", "jupyterlab", "--version"], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip()
