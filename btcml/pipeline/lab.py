"""The notebooks of the report in JupyterLab, with the snapshot and the parameters of one plan."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, NoReturn

import nbformat

from btcml.files import resource
from btcml.pipeline.story import snapshot_story

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

    from btcml.market import OnPage, Source
    from btcml.pipeline.story import Plan
    from btcml.settings import Settings
    from btcml.store.engine import Store


_LINE = re.compile(r"^(\w+): (\w+) = .*?(?=$|  #)", re.MULTILINE)


def prepare_lab(
    settings: Settings, store: Store, source: Source, plan: Plan, out: Path, *, on_page: OnPage | None = None
) -> Path:
    """Put the notebooks of a plan into a folder of its own, and the snapshot of its candles beside them.

    Notebooks that are there already are left as the user changed them.

    Parameters
    ----------
    out
        Folder in which the plan's own is made.
    on_page
        Called with candles fetched and expected.

    Returns
    -------
    Path
        The folder: notebooks with the plan as their parameters, and a link ``snapshot``.
    """
    folder = out / plan.path
    bundle = snapshot_story(settings, store, source, plan, on_page).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for chapter in sorted(resource("notebooks").glob("[0-9]*.ipynb")):
        if not (folder / chapter.name).exists():
            (folder / chapter.name).write_text(_parameterized(chapter, plan), encoding="utf-8")
    link = folder / "snapshot"
    link.unlink(missing_ok=True)
    link.symlink_to(bundle, target_is_directory=True)
    return folder


def _parameterized(chapter: Path, plan: Plan) -> str:
    """A notebook whose cell of parameters holds the plan's values."""
    notebook: NotebookNode = nbformat.read(chapter, as_version=4)  # type: ignore[no-untyped-call]
    values = {"symbol": plan.symbol, "interval": plan.interval, "days": plan.days, "market": plan.market}

    def _filled(line: re.Match[str]) -> str:
        return f"{line[1]}: {line[2]} = {json.dumps(values[line[1]])}" if line[1] in values else line[0]

    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = _LINE.sub(_filled, cell.source)
    return nbformat.writes(notebook) + "\n"  # type: ignore[no-untyped-call]


def open_lab(folder: Path) -> NoReturn:
    """Replace this process by JupyterLab, which handles Ctrl-C itself."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.absolute()}"]
    os.execv(command[0], command)  # noqa: S606 - no shell
