"""Verb of exploration: JupyterLab over the notebooks, with the snapshot that they name beside them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.session import progress, say
from btcml.files import resource
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["VERBS", "prepare_lab"]

_SERIES = ("BTCUSDT", "5m")
"""What the notebooks' own parameters name, in the simulated market."""


def _declare(parser: ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=1095, help="span of the snapshot, in days (default 1095)")
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"), help="folder of the notebooks")
    parser.add_argument("--prepare", action="store_true", help="only put notebooks and snapshot there")
    parser.set_defaults(run=_lab)


def prepare_lab(folder: Path, days: int) -> Path:
    """Put the notebooks into a folder, where they are not, and the snapshot that their parameters name.

    Parameters
    ----------
    days
        Span of the simulated candles, which need no network.

    Returns
    -------
    Path
        The bundle to which ``folder/snapshot`` leads.
    """
    from btcml.candles import interval_floor
    from btcml.pipeline.sources import make_source
    from btcml.pipeline.story import Plan, snapshot_story
    from btcml.store.engine import open_store

    if not folder.exists():
        shutil.copytree(resource("notebooks"), folder, ignore=shutil.ignore_patterns("dashboard.ipynb"))
    settings = load_settings()
    store = open_store(settings)
    source = make_source(settings, "simulated", store)
    symbol, interval = _SERIES
    end = interval_floor(source.default_end(symbol), interval).isoformat()
    plan = Plan(source.market, symbol, interval, days, end, "simulated")
    bundle = snapshot_story(settings, store, source, plan, progress(str(plan.key))).absolute()
    link = folder / "snapshot"
    link.unlink(missing_ok=True)
    link.symlink_to(bundle, target_is_directory=True)
    return bundle


def _lab(args: Namespace) -> Any:
    bundle = prepare_lab(args.notebooks, args.days)
    say(f"the notebooks in {args.notebooks} read the snapshot {bundle}; run them in order, or name another there")
    if args.prepare:
        return {"notebooks": str(args.notebooks), "snapshot": str(bundle)}
    sys.stdout.flush()
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={args.notebooks.absolute()}"]
    return os.execv(command[0], command)  # noqa: S606 - no shell, and Jupyter has its own Ctrl-C


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "lab": (_declare, "open the notebooks in JupyterLab, ready to run"),
}
"""What each verb takes, and one line about it."""
