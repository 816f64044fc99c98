"""The notebooks in JupyterLab: what they name lies beside them, and they run as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from btcml.cli import main


@pytest.fixture
def lab(tmp_path, monkeypatch, home, store, capsys):  # noqa: ARG001 - an empty database
    """A folder that btcml lab has prepared, far from the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BTCML_HOME", str(home))
    assert main(["lab", "--prepare", "--days", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notebooks"] == "notebooks"
    return tmp_path / "notebooks"


def test_the_snapshot_that_the_notebooks_name_lies_beside_them(lab, capsys):
    """Prepared again it is the same, and nothing of the user's is overwritten."""
    chapters = sorted(path.name for path in lab.glob("*.ipynb"))
    assert len(chapters) == 5
    first = (lab / "snapshot").resolve()
    assert (lab / "snapshot" / "snapshot.json").is_file()
    (lab / chapters[0]).write_text("mine")
    assert main(["lab", "--prepare", "--days", "40"]) == 0
    capsys.readouterr()
    assert (lab / "snapshot").resolve() == first
    assert (lab / chapters[0]).read_text() == "mine"


@pytest.mark.soak
def test_every_notebook_runs_as_it_is(lab):
    """From the first cell to the last, in order, in a kernel whose folder is theirs."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for path in sorted(lab.glob("*.ipynb")):
        resources = {"metadata": {"path": str(lab)}}
        NotebookClient(nbformat.read(path, 4), timeout=900, resources=resources).execute(env=environment)
    done = subprocess.run(
        [sys.executable, "-m", "jupyterlab", "--version"], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip()
