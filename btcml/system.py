"""Processes, ports, addresses and log lines of this machine."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import psutil

from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WITH_PARENT = "BTCML_WITH_PARENT"


def start_child(command: Sequence[str], env: Mapping[str, str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command line of btcml that ends when this process does, also by ``kill -9``.

    Its standard input is a pipe whose other end is here: the kernel closes it with this process.
    """
    marked = dict(env) | {_WITH_PARENT: "1"}
    return subprocess.Popen(command, env=marked, stdin=subprocess.PIPE, **options)  # noqa: S603 - our own commands


def end_with_parent() -> None:
    """In a process of `start_child`: end, as by SIGTERM, when the process that started it has."""
    if os.environ.pop(_WITH_PARENT, None):
        threading.Thread(target=_wait_for_parent, name="btcml-parent", daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def end_processes(processes: Iterable[subprocess.Popen[bytes]], wait: float = 8.0) -> None:
    """Terminate processes, wait `wait` seconds for all of them, and kill those that still run, with their children."""
    processes = list(processes)
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + wait
    for process in running:
        try:
            process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):  # the workers of a training
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait()
    for process in processes:
        if process.stdin:
            process.stdin.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("127.0.0.1.example")
    (True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(name: str, host: str, port: int, option: str = "--port") -> None:
    """Check that an address can be listened on, before anything is started.

    Parameters
    ----------
    name
        What would listen, for the message.
    option
        The option that chooses the port, for the message.

    Raises
    ------
    UsageError
        If the port is taken, or the address is not one of this machine.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server: old connections do no harm
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address[0], port, *address[2:]))  # the port as given: getaddrinfo turns 70000 into 4464
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        why += _listener(port) if getattr(error, "errno", None) == errno.EADDRINUSE else ""
        msg = f"the {name} cannot listen on {host}:{port} ({why}): choose another {option}, or stop what listens there"
        raise UsageError(msg) from error


def _listener(port: int) -> str:
    """Process that listens on a port, for a message; empty where this user may not see it."""
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid]
        for number in (one.pid for one in listening if one.laddr.port == port):
            return f" by process {number}: {' '.join(psutil.Process(number).cmdline())[:80]}"
    except psutil.Error:
        pass
    return ""


def public_url(url: str) -> str:
    """Text of an address for messages and logs, without its secrets.

    The password, a user name without one, and parameters that are named like a secret are ``***``.

    Examples
    --------
    >>> public_url("postgresql://me:a@b/c@host/db?sslmode=require&password=x")
    'postgresql://me:***@host/db?sslmode=require&password=***'
    >>> public_url("https://token@host/api?apiKey=x")
    'https://***@host/api?apiKey=***'
    """
    url = re.sub(r"//([^:@/?#]*):.*@", r"//\1:***@", url)
    url = re.sub(r"//[^:@/?#]+@", "//***@", url)
    return re.sub(r"(?i)([?&;][^=&]*(?:pass|pwd|secret|token|key|sign|auth)[^=&]*=)[^&#]*", r"\1***", url)


class _JsonLines(logging.Formatter):
    """An event that is JSON already gets time and level; another one becomes JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        text = record.getMessage()
        event = json.loads(text) if text.startswith("{") else {"event": text}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower()} | event
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_json() -> None:
    """Write the events of btcml, and warnings of other packages, to standard error: one line of JSON each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("btcml").setLevel(logging.INFO)
