"""The kernel that a chapter runs in: this interpreter, a fixed environment, a deadline.

No kernelspec need be installed: a kernel of another environment would be other code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

import btcml
from btcml.errors import ReportError
from btcml.report.protocol import NONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbformat import NotebookNode

__all__ = ["ENGINE", "FIXED_ENVIRONMENT", "Limits", "kernel_environment", "stop_kernels"]

ENGINE = "btcml"
"""Name under which papermill knows our engine."""

_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "BLIS")

FIXED_ENVIRONMENT: dict[str, str] = {
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "svg",
} | {f"{name}_NUM_THREADS": "1" for name in _THREADS}
"""What a kernel must not take from the machine: hash seed, time zone, locale, threads, backend."""

_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")


@dataclass(frozen=True)
class Limits:
    """Seconds that a chapter may take.

    Attributes
    ----------
    start
        For the kernel to answer.
    cell
        For any one cell.
    total
        For the whole chapter.
    """

    start: float = 60.0
    cell: float = 600.0
    total: float = 1200.0


def kernel_environment(nonce: str, ipython: Path) -> dict[str, str]:
    """Environment of a kernel: little of ours, the rest fixed.

    Parameters
    ----------
    nonce
        The word that the last cell must say.
    ipython
        An empty folder, so that no profile or start-up file of the user takes part.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    package = str(Path(btcml.__file__).resolve().parents[1])
    own = {NONCE: nonce, "IPYTHONDIR": str(ipython), "PYTHONPATH": package}
    return kept | FIXED_ENVIRONMENT | own


class _Manager(AsyncKernelManager):
    @property
    def kernel_spec(self) -> KernelSpec:
        """Our own interpreter, without history and without noise."""
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        quiet = ["--HistoryManager.enabled=False", "--IPKernelApp.log_level=ERROR"]
        return KernelSpec(argv=[*launch, *quiet], display_name="Python 3", language="python")


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client with an environment for the kernel."""

    environment: dict[str, str]

    def start_new_kernel(self, **kwargs: Any) -> None:
        """Start it with our environment, in a session of its own, and remember it."""
        super().start_new_kernel(env=self.environment, **kwargs)
        _running.add(self.km.provisioner.pid)

    def forget(self) -> None:
        """Forget a kernel that has ended."""
        if self.km is not None and self.km.provisioner is not None:
            _running.discard(self.km.provisioner.pid)


_SILENT = logging.getLogger("btcml.report.kernel")
"""Takes what the client would say beside the errors that it raises."""
_SILENT.setLevel(logging.CRITICAL + 1)

_running: set[int] = set()


def stop_kernels() -> None:
    """Kill every kernel that runs for this process, with what it started: a build was interrupted."""
    for pid in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


class _Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine over our kernel, with a deadline and a hook for progress."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        environment: dict[str, str],
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
        client.environment = environment
        try:
            return client.execute()
        finally:
            client.forget()


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


papermill_engines.register(ENGINE, _Engine)
