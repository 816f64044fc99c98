"""Runs one chapter in its own kernel and accepts it only if its last cell has reported its end.

papermill exits 0 after an unknown parameter and after ``sys.exit(0)`` half-way. Here parameters are checked
by name and type before a kernel starts, and a chapter counts only when every code cell ran, in order, none
wrote an error, and the last one showed a word that was drawn for this run and given to the kernel alone. A
failed run leaves ``NAME.failed.ipynb`` and no ``NAME.ipynb``.

The kernel is this interpreter with a fixed environment and a deadline. No kernelspec need be installed: a
kernel of another environment would be other code.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import logging
import os
import re
import secrets
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

import btcml
from btcml.errors import ReportError, UsageError
from btcml.files import write_text
from btcml.kernel import kernel_spec
from btcml.processor import instruction_limits
from btcml.report.language import ENGLISH, VARIABLE
from btcml.report.story import FINISHED, NONCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_client.kernelspec import KernelSpec
    from nbformat import NotebookNode


Literal = str | int | float | bool
Progress = Callable[[str], None]
"""Receives one line at a time: the chapter and its cell."""

FIXED_ENVIRONMENT: dict[str, str] = {
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "svg",
} | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "BLIS")}
"""Fixed environment of a kernel: hash seed, time zone, locale, threads, backend; instructions are limited too."""

_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")
_KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Limits:
    """Seconds that a chapter may take.

    Attributes
    ----------
    start
        For the start of the kernel.
    cell
        For any one cell.
    total
        For the whole chapter.
    """

    start: float = 600.0
    cell: float = 600.0
    total: float = 1200.0


_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Parameter:
    """One annotated literal of the parameters cell.

    Attributes
    ----------
    name
        Its name in the notebook.
    kind
        ``str``, ``int``, ``float`` or ``bool``.
    default
        The literal in the notebook.
    """

    name: str
    kind: str
    default: Literal


def read_parameters(notebook: NotebookNode) -> dict[str, Parameter]:
    """Parameters that a notebook declares, by name.

    Raises
    ------
    ReportError
        If there is not exactly one cell tagged ``parameters``, or it holds anything but annotated
        literals.

    Examples
    --------
    >>> from nbformat import v4
    >>> cell = v4.new_code_cell("days: int = 90  # span", metadata={"tags": ["parameters"]})
    >>> read_parameters(v4.new_notebook(cells=[cell]))["days"].default
    90
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        msg = f"a notebook needs exactly one cell tagged parameters, found {len(cells)}: tag one"
        raise ReportError(msg)
    try:
        found = [_parameter(node) for node in ast.parse(cells[0].source).body]
    except SyntaxError as error:
        msg = f"the parameters cell should be Python, found {error.msg} in its line {error.lineno}: correct it"
        raise ReportError(msg) from error
    return {parameter.name: parameter for parameter in found}


def _parameter(node: ast.stmt) -> Parameter:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        kind = ast.unparse(node.annotation)
        with contextlib.suppress(ValueError):  # of what would have to be computed
            value = ast.literal_eval(node.value)
            if kind in _KINDS and _fits(value, kind):
                return Parameter(node.target.id, kind, value)
    msg = f"a parameter is written `name: type = literal`, found `{ast.unparse(node)}`: annotate it"
    raise ReportError(msg)


def _fits(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, _KINDS[kind]) or (kind == "float" and isinstance(value, int))


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, Literal]) -> None:
    """Refuse parameters that are unknown, missing or of the wrong type.

    Raises
    ------
    UsageError
        With the name, and the nearest known name as a suggestion.
    """
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, list(declared), n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(declared)}"
            msg = f"the notebook has no parameter {name!r}: {advice}"
            raise UsageError(msg)
    for name, parameter in declared.items():
        if name not in given:
            msg = f"parameter {name!r} ({parameter.kind}) is missing: give it, such as {parameter.default!r}"
            raise UsageError(msg)
        if not _fits(given[name], parameter.kind):
            msg = f"parameter {name!r} must be {parameter.kind}, found {given[name]!r}: such as {parameter.default!r}"
            raise UsageError(msg)


def no_progress(_line: str) -> None:
    """Progress callback that does nothing."""


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
    language: str = ENGLISH,
    limits: Limits = _DEFAULT_LIMITS,
    progress: Progress = no_progress,
) -> Path:
    """Run a notebook in its own kernel; every fault is an error.

    Parameters
    ----------
    notebook
        The chapter as it is in git: no outputs, one cell tagged ``parameters``.
    parameters
        Every parameter that the notebook declares, by name.
    out
        The executed notebook: normalized (fixed ids, no times), written atomically.
    folder
        Working directory of the kernel, to which relative paths in `parameters` refer; the folder of
        `out` if None.
    language
        Language of the sentences that the chapter completes.
    limits
        Seconds for start, cell and chapter.
    progress
        Called with ``chapter: cell i of n``.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UsageError
        If a parameter is unknown, missing or ill-typed (before a kernel starts).
    ReportError
        If a cell fails, stops the kernel, or takes too long, or the last cell did not report its end.
    """
    source = load_notebook(notebook)
    check_parameters(read_parameters(source), parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in (out, failed_path(out)):
        old.unlink(missing_ok=True)
    name, cells, nonce = notebook.stem, len(source.cells) + 1, secrets.token_hex(16)
    own = {NONCE: nonce, VARIABLE: language}
    options = {
        "folder": (folder or out.parent).resolve(),
        "limits": limits,
        "on_cell": lambda index: progress(f"{name}: cell {index + 1} of {cells}"),
    }
    executed, problem = _execute(source, parameters, own, options)
    if problem := problem or _problem(executed, nonce):
        _save(failed_path(out), executed)
        msg = f"chapter {name} did not finish: {problem}; the failed notebook is {failed_path(out)}"
        raise ReportError(msg)
    return _save(out, _normalized(executed))


def _save(path: Path, notebook: NotebookNode) -> Path:
    return write_text(path, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]


def _execute(
    source: NotebookNode, parameters: Mapping[str, Literal], own: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[NotebookNode, str]:
    """Return the notebook as far as it was executed, and the reason if it stopped."""
    names = {"engine_name": _ENGINE, "kernel_name": "python3", "language": "python", "progress_bar": False}
    with tempfile.TemporaryDirectory(prefix="btcml-chapter-") as scratch:
        done, problem = Path(scratch) / "executed.ipynb", ""
        kernel = {"environment": _kernel_environment(own, Path(scratch) / "ipython"), "sockets": Path(scratch)}
        try:
            papermill.execute_notebook(source, str(done), dict(parameters), **names, **kernel, **options)
        except Exception as error:  # noqa: BLE001 - whatever happens in there, the chapter has failed
            problem = _one_line(error)
        finally:
            loop = ensure_event_loop()  # nbclient opened one in this thread and would leave it open
            if not loop.is_running():
                loop.close()
        return (load_notebook(done) if done.exists() else source), problem


def _one_line(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        first = error.source.strip().splitlines()[0] if error.source.strip() else "an empty cell"
        return f"`{first}` ended with {error.ename}: {_TERMINAL.sub('', error.evalue).strip()}"
    lines = [line for line in _TERMINAL.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _problem(notebook: NotebookNode, nonce: str) -> str:
    """Why an executed notebook is rejected, or an empty string."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        return "a cell ended with an error"
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        return "not every cell ran once and in order"
    found = [output.get("data", {}).get(FINISHED, {}).get("nonce") for output in code[-1].outputs] if code else []
    if found != [nonce]:
        return "its last cell did not report its end (end it with `story.finish()`)"
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
    """Join output that was printed in pieces, whose ends depend on timing.

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
    """Whether an output belongs to the page; warnings on stderr do not."""
    warning = output.output_type == "stream" and output.name == "stderr"
    return not warning and FINISHED not in output.get("data", {})


def _kernel_environment(own: Mapping[str, str], ipython: Path) -> dict[str, str]:
    """Environment of a kernel: few variables of this process, the rest fixed, and no start-up file of the user."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    package = str(Path(btcml.__file__).resolve().parents[1])
    places = {"IPYTHONDIR": str(ipython), "PYTHONPATH": package}
    return kept | FIXED_ENVIRONMENT | instruction_limits() | places | dict(own)


_ENGINE = "btcml"
_running: set[int] = set()

_SILENT = logging.getLogger("btcml.report.kernel")
"""Discards the log messages of the client, which raises errors anyway."""
_SILENT.setLevel(logging.CRITICAL + 1)


def stop_kernels() -> None:
    """Kill every kernel of this process and its child processes: a build was interrupted."""
    for pid in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


class _Manager(AsyncKernelManager):
    @property
    def kernel_spec(self) -> KernelSpec:
        """The running interpreter, without history and log messages."""
        return kernel_spec("--HistoryManager.enabled=False", "--IPKernelApp.log_level=ERROR")


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client with an environment and a folder of sockets for the kernel."""

    environment: dict[str, str]
    sockets: Path

    def start_new_kernel(self, **kwargs: Any) -> None:
        """Start it with the fixed environment in its own session, and keep a reference.

        Its sockets are files: a TCP port that was free when it was chosen may be taken when the kernel binds it.
        """
        self.km.transport, self.km.ip = "ipc", str(self.sockets / "kernel")
        super().start_new_kernel(env=self.environment, **kwargs)
        _running.add(self.km.provisioner.pid)


class _Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine over our kernel, with a deadline and a hook for progress."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        environment: dict[str, str],
        sockets: Path,
        folder: Path,
        limits: Limits,
        on_cell: Callable[[int], None],
        **_: object,
    ) -> NotebookNode:
        """Run all cells in a kernel of our own."""
        client = _Client(
            nb_man,
            kernel_manager_class=_Manager,
            kernel_name=kernel_name,
            startup_timeout=limits.start,
            timeout_func=_deadline(limits),
            resources={"metadata": {"path": str(folder)}},
            on_cell_start=lambda cell, cell_index: on_cell(cell_index),  # noqa: ARG005 - nbclient's names
            record_timing=False,
            shutdown_kernel="immediate",
            log=_SILENT,
        )
        client.environment, client.sockets = environment, sockets
        try:
            return client.execute()
        finally:
            if client.km is not None and client.km.provisioner is not None:
                _running.discard(client.km.provisioner.pid)


def _deadline(limits: Limits) -> Callable[[object], float]:
    """Seconds left for a cell; the chapter's clock starts when its first cell does."""
    ends: list[float] = []

    def remaining(_cell: object) -> float:
        """Seconds that the next cell may take."""
        ends.extend([time.monotonic() + limits.total] if not ends else [])
        left = ends[0] - time.monotonic()
        if left <= 0:
            msg = f"a chapter may take {limits.total:g} seconds, found more: raise the limit or shorten it"
            raise ReportError(msg)
        return min(limits.cell, left)

    return remaining


papermill_engines.register(_ENGINE, _Engine)
