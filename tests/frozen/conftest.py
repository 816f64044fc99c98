"""What the frozen tests share: what today's code says, asked once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

RECORD = Path(__file__).parent / "record.py"


@pytest.fixture(scope="session")
def said(tmp_path_factory):
    """Write what today's code says, of a part of the records, into a folder; once for all workers of a run."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def _said(part):
        folder = shared / f"frozen-{part}"
        with (shared / f"frozen-{part}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                aside = Path(tempfile.mkdtemp(dir=shared))
                subprocess.run([sys.executable, str(RECORD), part, str(aside)], check=True)
                aside.rename(folder)
        return folder

    return _said


@pytest.fixture(scope="session")
def faces(said):
    """Database, service and command line over the restored home."""
    return said("faces")


@pytest.fixture(scope="session")
def report(said):
    """Pages of a small report."""
    return said("report")
