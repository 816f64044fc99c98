"""API, scheduler and dashboard as processes that start and stop together."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from btcml.errors import BtcmlError
from btcml.pipeline.sources import make_source
from btcml.serve.api import check_host
from btcml.serve.work import environment
from btcml.store.engine import open_store
from btcml.system import check_port, end_processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.settings import Settings

__all__ = ["commands", "run_together", "run_up"]

_LOOK_S = 0.2
_STOP_S = 15.0


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
    running = {
        name: subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL)  # noqa: S603 - our own commands
        for name, command in parts.items()
    }
    try:
        while not (ended := [name for name, process in running.items() if process.poll() is not None]):
            time.sleep(_LOOK_S)
    finally:
        end_processes(running.values(), _STOP_S)
    status = running[ended[0]].returncode
    msg = f"{ended[0]} ended with status {status}, so the others were stopped: see its lines above"
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
    store = open_store(settings)  # held open: an embedded server lives as long as somebody uses it
    found = make_source(settings, settings.btcml_source, store)
    source = found.market if found.market == "simulated" else settings.btcml_source.replace("auto", "binance")
    reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
    env = environment(settings) | {"API_BASE_URL": f"http://{reach}:{port}", "BTCML_SOURCE": source}
    run_together(commands(host, port, days, dashboard_port), env)
