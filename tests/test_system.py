"""Processes of this machine."""

from __future__ import annotations

import subprocess
import sys

import psutil

from btcml.system import end_processes

from .processes import started, until

STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid, flush=True)
signal.pause()
"""


def test_a_process_that_does_not_end_is_killed_with_its_children():
    """A killed training would leave its workers, which hold its output open."""
    with started([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(int(process.stdout.readline()))
        try:
            end_processes([process], wait=0.1)
            assert process.returncode == -9
            until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        finally:
            if child.is_running():
                child.kill()
