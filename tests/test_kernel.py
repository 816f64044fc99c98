"""A kernel ends with its parent, also while it starts, and when it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
from jupyter_client.connect import write_connection_file

from .processes import WAIT_S

NEVER_SERVES = """
import time
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.initialize = lambda *arguments: time.sleep(10_000)
"""
PARENT = """
import sys, time
from jupyter_client.manager import KernelManager
from btcml.kernel import kernel_spec
class Manager(KernelManager):
    kernel_spec = kernel_spec()
manager = Manager()
manager.start_kernel()
print(manager.provisioner.pid, flush=True)
time.sleep(10_000)
"""


def test_a_kernel_that_still_starts_ends_with_its_parent(tmp_path):
    """By itself ipykernel looks at its parent only once it serves."""
    (tmp_path / "sitecustomize.py").write_text(NEVER_SERVES)
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": places}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        kernel = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([kernel], timeout=WAIT_S)
    assert gone == [kernel]


def test_a_kernel_whose_port_was_taken_ends_and_says_why(tmp_path):
    """By itself ipykernel would wait for ever, and a report with it."""
    file, ports = write_connection_file(str(tmp_path / "kernel.json"))
    with socket.create_server(("127.0.0.1", ports["iopub_port"])):
        command = [sys.executable, "-m", "btcml.kernel", "-f", file]
        environment = os.environ | {"JPY_PARENT_PID": str(os.getpid())}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr
