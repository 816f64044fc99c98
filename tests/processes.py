"""Processes that tests start, and what they wait for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time

import psutil

WAIT_S = 600
"""Seconds that a test waits for an answer: a busy machine is slow, and no speed is tested here."""


def until(happened, *, pause=0.01):
    """Wait until something is true; fail if it never becomes so."""
    end = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(pause)


def free_port():
    """A port on loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(command, **options):
    """Run a command for a block; where it still runs then, as after a failure, it and its children are killed."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                family = psutil.Process(process.pid)
                for one in [*family.children(recursive=True), family]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
