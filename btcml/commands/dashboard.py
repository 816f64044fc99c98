"""Verb of the dashboard: starts the API where none answers, then the page; one address, and a clean stop."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from btcml.commands.session import say
from btcml.errors import NotReadyError, UsageError
from btcml.settings import Settings, load_settings
from btcml.system import end_processes, is_loopback

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from btcml.serve.dashboard_server import Seat

__all__ = ["VERBS", "api_answers", "running_api"]

_START_S = 60.0
_STOP_S = 15.0
_LARGE = 10 * 2**20


def _declare(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8866, help="port to listen on (default 8866)")
    parser.add_argument("--warm", type=int, default=2, help="kernels kept ready for visitors (default 2)")
    parser.add_argument("--visitors", type=int, default=24, help="most visitors at a time (default 24)")
    parser.add_argument(
        "--sleep", type=int, default=600, help="seconds that a hidden tab keeps its kernel (default 600)"
    )
    parser.add_argument("--no-api", action="store_true", help="never start an API, only look for the one that is meant")
    parser.add_argument("--reports", type=Path, default=Path("reports/build"), help="where reports are built")
    parser.set_defaults(run=_dashboard)


def api_answers(url: str) -> bool:
    """Whether the API answers at an address."""
    import requests

    with contextlib.suppress(requests.RequestException), requests.Session() as session:
        session.trust_env = False
        return session.get(f"{url.rstrip('/')}/health", timeout=3).ok
    return False


@contextlib.contextmanager
def running_api(settings: Settings) -> Iterator[None]:
    """Have an API at ``API_BASE_URL``: the one that answers there, else one of our own until the block ends.

    Raises
    ------
    NotReadyError
        If ours does not come up.
    """
    parts = urlsplit(settings.api_base_url)
    if api_answers(settings.api_base_url) or not is_loopback(str(parts.hostname)):
        yield
        return
    say(f"no API answers at {settings.api_base_url}: starting one (its log: {settings.home / 'api.log'})")
    command = [sys.executable, "-m", "btcml.cli", "api", "--host", str(parts.hostname), "--port", str(parts.port or 80)]
    log = settings.home / "api.log"
    with _opened(log) as lines:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, start_new_session=True
        )
    try:
        _wait_for(settings.api_base_url, process, log)
        yield
    finally:
        end_processes([process], _STOP_S)


def _opened(log: Path) -> BinaryIO:
    """Open a log to append to; one that has grown large is put aside first, and replaces the one before."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LARGE:
        log.replace(log.with_name(f"{log.name}.1"))
    return log.open("ab")


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while not api_answers(url):
        if process.poll() is not None or time.monotonic() > end:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            msg = f"the API did not come up at {url} ({last[0][:300]}): {log} has more; btcml doctor looks further"
            raise NotReadyError(msg)
        time.sleep(0.2)


def _dashboard(args: Namespace) -> None:
    settings = load_settings()
    locked = not is_loopback(args.host)
    if min(args.warm, args.visitors, args.sleep) < 1:
        msg = f"--warm, --visitors and --sleep count from 1, found {args.warm}, {args.visitors} and {args.sleep}"
        raise UsageError(msg)
    from btcml.serve.dashboard_server import Seat, serve_dashboard

    seat = Seat(args.host, args.port, locked, args.warm, args.visitors, args.reports, args.sleep)
    with contextlib.nullcontext() if args.no_api else running_api(settings):
        serve_dashboard(settings, seat, lambda: _announce(seat, settings))


def _announce(seat: Seat, settings: Settings) -> None:
    name = "127.0.0.1" if seat.host == "0.0.0.0" else seat.host  # noqa: S104 - compared, not listened on
    say(f"dashboard: http://{f'[{name}]' if ':' in name else name}:{seat.port}/")
    if seat.locked and settings.btcml_dashboard_password is None:
        say("its buttons stay locked for everybody: set BTCML_DASHBOARD_PASSWORD to open them")


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "dashboard": (_declare, "open the dashboard, and the API where none answers"),
}
"""What each verb takes, and one line about it."""
