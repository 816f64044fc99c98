"""Runs one chapter and believes it only when its last cell has said that it finished.

papermill exits 0 after an unknown parameter and after ``sys.exit(0)`` half-way. Here a chapter counts
only when every code cell ran, in order, none wrote an error, and the last one showed a word that was
drawn for this run and given to the kernel alone. A failed run leaves ``NAME.failed.ipynb`` and no
``NAME.ipynb``.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from papermill.exceptions import PapermillExecutionError

from btcml.errors import ReportError, UsageError
from btcml.files import write_text
from btcml.report.kernel import ENGINE, Limits, kernel_environment
from btcml.report.parameters import check_parameters, read_parameters
from btcml.report.protocol import FINISHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbformat import NotebookNode

    from btcml.report.parameters import Literal

__all__ = ["Progress", "failed_path", "load_notebook", "run_chapter", "say_nothing"]

Progress = Callable[[str], None]
"""Receives one line at a time: the chapter and its cell."""

_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_DEFAULT_LIMITS = Limits()


def say_nothing(_line: str) -> None:
    """Progress for callers that want none."""


def failed_path(out: Path) -> Path:
    """Where a failed run leaves its notebook: ``NAME.failed.ipynb`` beside ``NAME.ipynb``."""
    return out.with_suffix(f".failed{out.suffix}")


def load_notebook(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises
    ------
    UsageError
        If there is no such file or it is no notebook.
    """
    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        msg = f"a notebook was expected at {path}, found none that can be read: {error}"
        raise UsageError(msg) from error


def run_chapter(
    notebook: Path,
    parameters: Mapping[str, Literal],
    out: Path,
    *,
    folder: Path | None = None,
    limits: Limits = _DEFAULT_LIMITS,
    progress: Progress = say_nothing,
) -> Path:
    """Run a notebook in a kernel of its own; fail closed.

    Parameters
    ----------
    notebook
        The chapter as it is in git: no outputs, one cell tagged ``parameters``.
    parameters
        Every parameter that the notebook declares, by name.
    out
        The executed notebook: normalized (fixed ids, no times), written aside and renamed.
    folder
        Working directory of the kernel, to which relative paths in `parameters` refer; the folder of
        `out` if None.
    limits
        Seconds for start, cell and chapter.
    progress
        Is told ``chapter: cell i of n``.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UsageError
        If a parameter is unknown, missing or ill-typed (before a kernel starts).
    ReportError
        If a cell fails, stops the kernel, or takes too long, or the last cell never spoke.
    """
    source = load_notebook(notebook)
    check_parameters(read_parameters(source), parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in (out, failed_path(out)):
        old.unlink(missing_ok=True)
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="btcml-chapter-") as scratch:
        run = _Run(notebook.stem, nonce, Path(scratch), (folder or out.parent).resolve(), limits, progress)
        executed, problem = _execute(source, parameters, run)
    if problem := problem or _problem(executed, nonce):
        _save(failed_path(out), executed)
        msg = f"chapter {notebook.stem} did not finish: {problem}; the failed notebook is {failed_path(out)}"
        raise ReportError(msg)
    return _save(out, _normalized(executed))


def _save(path: Path, notebook: NotebookNode) -> Path:
    return write_text(path, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Run:
    name: str
    nonce: str
    scratch: Path
    folder: Path
    limits: Limits
    progress: Progress


def _execute(source: NotebookNode, parameters: Mapping[str, Literal], run: _Run) -> tuple[NotebookNode, str]:
    cells, aside, problem = len(source.cells) + 1, run.scratch / "executed.ipynb", ""
    try:
        papermill.execute_notebook(
            source,
            str(aside),
            dict(parameters),
            engine_name=ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            environment=kernel_environment(run.nonce, run.scratch / "ipython"),
            folder=run.folder,
            limits=run.limits,
            on_cell=lambda index: run.progress(f"{run.name}: cell {index + 1} of {cells}"),
        )
    except Exception as error:  # noqa: BLE001 - whatever happens in there, the chapter has failed
        problem = _one_line(error)
    finally:
        _close_loop()
    return (load_notebook(aside) if aside.exists() else source), problem


def _close_loop() -> None:
    """Close the event loop that nbclient opened in this thread and would leave open."""
    loop = ensure_event_loop()
    if not loop.is_running():
        loop.close()


def _one_line(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        first = error.source.strip().splitlines()[0] if error.source.strip() else "an empty cell"
        return f"`{first}` ended with {error.ename}: {_TERMINAL.sub('', error.evalue).strip()}"
    lines = [line for line in _TERMINAL.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _problem(notebook: NotebookNode, nonce: str) -> str:
    """Why an executed notebook does not count, or an empty string."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        return "a cell ended with an error"
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        return "not every cell ran once and in order"
    said = [output.get("data", {}).get(FINISHED, {}).get("nonce") for output in code[-1].outputs] if code else []
    if said != [nonce]:
        return "its last cell did not say that it finished (end it with `story.finish()`)"
    return ""


def _normalized(notebook: NotebookNode) -> NotebookNode:
    """The executed notebook without what differs from run to run: times, ids, the nonce, warnings."""
    cells = []
    for index, cell in enumerate(notebook.cells):
        fresh = {"cell_type": cell.cell_type, "id": f"cell-{index}", "source": cell.source}
        fresh["metadata"] = {"tags": cell.metadata.get("tags", [])}
        if cell.cell_type == "code":
            outputs = _joined(output for output in cell.outputs if _lasting(output))
            fresh |= {"execution_count": cell.execution_count, "outputs": outputs}
        cells.append(fresh)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return nbformat.from_dict(whole)  # type: ignore[no-untyped-call]


def _joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Join what was printed piece by piece: where the pieces end is a matter of the moment.

    nbclient would do it, in a time that grows with the square of the longest line.
    """
    whole: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and whole and whole[-1].output_type == "stream":
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def _lasting(output: NotebookNode) -> bool:
    """Whether an output is of the story; what a library warns about on stderr is not."""
    warning = output.output_type == "stream" and output.name == "stderr"
    return not warning and FINISHED not in output.get("data", {})
