"""Makes a report again in a clean process and folder, and compares every byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from btcml.errors import NotFoundError, ReportError
from btcml.files import file_hash
from btcml.report.manifest import NOTEBOOKS

__all__ = ["Difference", "Verification", "verify_report"]

_INPUTS: dict[str, str] = {
    "snapshot": "data",
    "heads": "sealed forecasts",
    "parameters": "parameters",
    "notebooks": "notebooks",
    "source": "code",
    "template": "page template",
    "lock": "lock file",
    "versions": "platform or package versions",
}
_AROUND = 60
_AGAIN = (
    "import sys; from pathlib import Path; from btcml.report.build import build_report; "
    "build_report(Path(sys.argv[1]), notebooks=Path(sys.argv[2]))"
)


@dataclass(frozen=True)
class Difference:
    """One file that is not the same, and where it first differs."""

    file: str
    where: str


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify_report`.

    Attributes
    ----------
    files
        Number of files compared.
    differences
        Files that are not the same, missing or new; empty when the report is identical.
    causes
        What has changed since the report was made: data, parameters, notebooks, code, lock, …
    """

    files: int
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every byte is the same."""
        return not self.differences

    def require_identical(self) -> Verification:
        """Return itself where every byte is the same.

        Raises
        ------
        ReportError
            With every difference, where it is and why.
        """
        if not self.identical:
            raise ReportError(str(self))
        return self

    def __str__(self) -> str:
        if self.identical and not self.causes:
            return f"identical: {self.files} files, byte for byte"
        why = f" because of {'; '.join(self.causes)}" if self.causes else ", though no input changed"
        if self.identical:
            return f"identical: {self.files} files, byte for byte, though changed since: {'; '.join(self.causes)}"
        lines = [f"{len(self.differences)} of {self.files} files differ{why}"]
        return "\n".join([*lines, *(f"  {found.file}: {found.where}" for found in self.differences)])


def verify_report(folder: Path, notebooks: Path = NOTEBOOKS) -> Verification:
    """Rebuild the report of a run folder from its snapshot and compare it with the pages that are there.

    The rebuild runs in a process and a temporary folder of its own, with the notebooks and code of today.

    Parameters
    ----------
    folder
        A run folder (with ``pages/`` and ``snapshot/``), or its ``pages``.
    notebooks
        Folder of the chapters.

    Raises
    ------
    NotFoundError
        If there is no report.
    ReportError
        If it cannot be built any more.
    """
    run = folder.parent if (folder / "manifest.json").exists() else folder
    then = _manifest(run / "pages")
    with tempfile.TemporaryDirectory(prefix="btcml-verify-") as scratch:
        again = Path(scratch) / "run"
        again.mkdir()
        (again / "snapshot").symlink_to((run / "snapshot").resolve())
        _rebuild(again, notebooks)
        now = _manifest(again / "pages")
        found = tuple(_differences(run / "pages", again / "pages", then, now))
    return Verification(len(then["outputs"]), found, tuple(_causes(then, now)))


def _manifest(pages: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((pages / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"a report with its manifest.json was expected in {pages}, found none: make it with make report"
        raise NotFoundError(msg) from error
    return found


def _rebuild(folder: Path, notebooks: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", _AGAIN, str(folder), str(notebooks.resolve())],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        msg = f"the report should build again from its snapshot, found: {lines[-1]}"
        raise ReportError(msg)


def _environment() -> dict[str, str]:
    """Environment of the rebuild: it may not matter, so none of it is fixed but the package's place."""
    package = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": package}


def _causes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{name} ({changed})" for key, name in _INPUTS.items() if (changed := _changed(then.get(key), now.get(key)))
    ]


def _changed(then: Any, now: Any) -> str:
    if not isinstance(then, dict):
        return "" if then == now else f"{str(then)[:12]} became {str(now)[:12]}"
    return ", ".join(sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)))


def _differences(old: Path, new: Path, then: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    found = []
    for name in sorted(then["outputs"].keys() | now["outputs"].keys() | {"manifest.json"}):
        where = _first_difference(old / name, new / name)
        said = then["outputs"].get(name)
        if not where and said and file_hash(old / name) != said:
            where = "the file is not the one that its manifest names"
        if where:
            found.append(Difference(name, where))
    return found


def _first_difference(old: Path, new: Path) -> str:
    if not old.exists() or not new.exists():
        return "is missing" if not old.exists() else "is no longer made"
    if old.read_bytes() == new.read_bytes():
        return ""
    pairs = zip_longest(old.read_text().splitlines(), new.read_text().splitlines(), fillvalue="")
    for number, (before, after) in enumerate(pairs, 1):
        if before != after:
            same = next((place for place, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
            start = max(0, same - _AROUND // 3)
            return f"line {number}: …{before[start : start + _AROUND]}… is now …{after[start : start + _AROUND]}…"
    return "line ends differ"
