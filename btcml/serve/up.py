"""API, scheduler and dashboard as processes that start and stop together."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import requests

from btcml.errors import BtcmlError, NotReadyError, UsageError
from btcml.pipeline.jobs import environment
from btcml.pipeline.sources import make_source
from btcml.serve.api import check_host
from btcml.store.engine import open_store
from btcml.system import check_port, end_processes, is_loopback, public_url, start_child

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from btcml.serve.dashboard_server import DashboardOptions
    from btcml.settings import Settings


_LOOK_S = 0.2
_START_S = 60.0
_STOP_S = 15.0
_LARGE_LOG = 10 * 2**20


def commands(host: str, port: int, days: int, dashboard_port: int | None) -> dict[str, list[str]]:
    """What runs together: each command by name.

    Parameters
    ----------
    dashboard_port
        Port of the dashboard; None leaves it out.
    """
    base = [sys.executable, "-m", "btcml.cli"]
    found = {
        "api": [*base, "api", "--host", host, "--port", str(port)],
        "schedule": [*base, "schedule", "--days", str(days)],
    }
    if dashboard_port is not None:
        found["dashboard"] = [*base, "dashboard", "--no-api", "--port", str(dashboard_port)]
    return found


def run_together(parts: Mapping[str, list[str]], env: Mapping[str, str]) -> None:
    """Run commands until one ends or the process is interrupted; then stop them all.

    Raises
    ------
    BtcmlError
        If one ends by itself; the sentence names it.
    """
    running = {name: start_child(command, env) for name, command in parts.items()}
    try:
        while not (ended := [name for name, process in running.items() if process.poll() is not None]):
            time.sleep(_LOOK_S)
    finally:
        end_processes(running.values(), _STOP_S)
    status = running[ended[0]].returncode
    msg = f"{ended[0]} ended with status {status}, so the others were stopped: see its log lines above"
    raise BtcmlError(msg)


def run_up(settings: Settings, host: str, port: int, days: int, dashboard_port: int | None) -> None:
    """Run API, scheduler and dashboard together, all on the market that is found now.

    Raises
    ------
    UsageError
        If the API would listen beyond loopback without a key, or a port is taken: nothing is started then.
    """
    check_host(settings, host)
    check_port("API", host, port)
    if dashboard_port is not None:
        check_port("dashboard", "127.0.0.1", dashboard_port, "--dashboard-port")
    store = open_store(settings)  # kept open: an embedded server runs as long as a process uses it
    found = make_source(settings, settings.btcml_source, store)
    source = found.market if found.market == "simulated" else settings.btcml_source.replace("auto", "binance")
    reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    env = environment(settings) | {"API_BASE_URL": f"http://{reach}:{port}", "BTCML_SOURCE": source}
    run_together(commands(host, port, days, dashboard_port), env)


def api_answers(url: str) -> bool:
    """Whether the API answers at an address."""
    with contextlib.suppress(requests.RequestException), requests.Session() as session:
        session.trust_env = False
        return session.get(f"{url.rstrip('/')}/health", timeout=3).ok
    return False


@contextlib.contextmanager
def running_api(settings: Settings, say: Callable[[str], None]) -> Iterator[None]:
    """Provide an API at ``API_BASE_URL``: the one that answers there, else one of our own until the block ends.

    Raises
    ------
    NotReadyError
        If ours does not come up.
    """
    parts = urlsplit(settings.api_base_url)
    if api_answers(settings.api_base_url) or not is_loopback(str(parts.hostname)):
        yield
        return
    log = settings.home / "api.log"
    say(f"no API answers at {public_url(settings.api_base_url)}: starting one (its log: {log})")
    command = [sys.executable, "-m", "btcml.cli", "api", "--host", str(parts.hostname), "--port", str(parts.port or 80)]
    with _opened(log) as lines:
        process = start_child(command, os.environ, stdout=lines, stderr=lines, start_new_session=True)
    try:
        _wait_for(settings.api_base_url, process, log)
        yield
    finally:
        end_processes([process], _STOP_S)


def _opened(log: Path) -> BinaryIO:
    """Open a log to append to; one that has grown large is renamed first, and replaces the previous one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LARGE_LOG:
        log.replace(log.with_name(f"{log.name}.1"))
    return log.open("ab")


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while not api_answers(url):
        if process.poll() is not None or time.monotonic() > end:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no message"]
            where, why = public_url(url), last[0][:300]
            msg = f"the API did not start at {where} ({why}): see {log}, or run btcml doctor"
            raise NotReadyError(msg)
        time.sleep(_LOOK_S)


def run_dashboard(settings: Settings, options: DashboardOptions, *, own_api: bool, say: Callable[[str], None]) -> None:
    """Serve the dashboard, with an API of its own where none answers.

    Raises
    ------
    UsageError
        If a count of the options is below 1.
    """
    if min(options.warm, options.most, options.sleep_s) < 1:
        msg = f"--warm, --visitors and --sleep count from 1, found {options.warm}, {options.most} and {options.sleep_s}"
        raise UsageError(msg)
    from btcml.serve.dashboard_server import serve_dashboard  # noqa: PLC0415 - btcml up needs no Voila in this process

    with running_api(settings, say) if own_api else contextlib.nullcontext():
        serve_dashboard(settings, options, lambda: _announce(options, settings, say))


def _announce(options: DashboardOptions, settings: Settings, say: Callable[[str], None]) -> None:
    name = "127.0.0.1" if options.host == "0.0.0.0" else options.host  # noqa: S104 - compared, not listened on
    say(f"dashboard: http://{f'[{name}]' if ':' in name else name}:{options.port}/")
    if options.locked and settings.btcml_dashboard_password is None:
        say("its buttons stay locked for all visitors: set BTCML_DASHBOARD_PASSWORD to open them")
