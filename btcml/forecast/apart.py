"""Code of another package in its own process, with limits of time and memory."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from btcml.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Found = TypeVar("_Found")

SECONDS, MEMORY_MIB = 3600.0, 8192
"""Limits of a registered model, and of a forecaster where none are given."""

_MIB = 1 << 20
_ERROR = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


def run_apart(
    name: str,
    module: str,
    plan: Mapping[str, Any],
    exchange: Callable[[IO[bytes], IO[bytes]], _Found | None],
    seconds: float,
    memory_mib: int,
) -> _Found:
    """Run ``python -m MODULE PLAN`` in an empty folder, and return what was exchanged with it.

    Parameters
    ----------
    name
        Name of what is run, for messages.
    module, plan
        The module calls `limit_process` with its argument, the plan as JSON with ``memory_mib``.
    exchange
        Is given its standard input and output; None where the answers are incomplete.
    seconds, memory_mib
        Limits.

    Raises
    ------
    NotReadyError
        If it fails, or exceeds a limit.
    """
    command = [sys.executable, "-m", module, json.dumps({**plan, "memory_mib": memory_mib})]
    env = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    env["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    with TemporaryDirectory(prefix="btcml-apart-") as folder, TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(  # noqa: S603
            command, env=env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        timer = threading.Timer(seconds, _kill, [process])
        timer.start()
        sent, answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        found = None
        try:
            with suppress(OSError, ValueError, EOFError), answers, sent:
                found = exchange(sent, answers)
            status, late = process.wait(), not timer.is_alive()
        finally:
            timer.cancel()
            _kill(process)
        if late:
            msg = f"{name} failed: it did not end within {seconds:g} s, which --seconds of btcml judge changes"
            raise NotReadyError(msg)
        if status or found is None:
            log.seek(0)
            raise NotReadyError(_failure(name, log.read(), status, memory_mib))
    return found


def limit_process(plan: Mapping[str, Any]) -> IO[bytes]:
    """In the process itself: set the limit of memory; return where answers go, as what is printed goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    limit = plan["memory_mib"] * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return answers


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failure(name: str, log: str, status: int, memory_mib: int) -> str:
    """What it said when it ended, in one sentence."""
    lines = log.strip().splitlines() or [f"status {status}"]
    last = max((n for n, line in enumerate(lines) if _ERROR.match(line)), default=len(lines) - 1)
    said = re.sub(r"^btcml\.errors\.\w+: ", "", " ".join(lines[last:]))[:300]
    limit = f" (its limit is {memory_mib} MiB, which --memory of btcml judge changes)" * ("MemoryError" in said)
    return f"{name} failed: {said}{limit}"
