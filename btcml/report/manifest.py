"""The manifest of a report (hashes of inputs and outputs), and its verification.

A manifest contains no time, path, host, user or duration; timings go to ``run.json`` outside it, and what the last bit
of a number may depend on (instruction set, C library, Python's patch version) to ``environment.json`` beside it.
`verify_report` makes a report again in a clean process and folder and compares every byte.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import btcml
from btcml.errors import NotFoundError, ReportError
from btcml.files import file_hash, resource, text_hash, write_text
from btcml.processor import machine_facts
from btcml.report.language import ENGLISH, check_language, translated
from btcml.report.pages import Page, Site, find_chapters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.report.execute import Literal


ROOT = Path(btcml.__file__).resolve().parents[1]
NOTEBOOKS = resource("notebooks")
"""The chapters as they are in git."""

SHORT = 12
"""Digits of a hash that a page shows."""

_AROUND = 60

_SOURCE = (
    "btcml/*.py", "btcml/forecast/**/*.py", "btcml/report/**/*.py", "btcml/store/*.py", "btcml/market/__init__.py",
    "btcml/market/simulate.py",
)  # fmt: skip
_OUTSIDE = {"btcml/cli.py", "btcml/settings.py"}

_PACKAGES = (
    "numpy", "pandas", "pyarrow", "scipy", "statsmodels", "scikit-learn", "lightgbm", "arch", "onnxruntime", "skl2onnx",
    "joblib", "matplotlib", "ipykernel", "papermill", "nbconvert", "nbformat", "jinja2", "mistune", "pygments",
)  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Everything that decides a report's bytes.

    Attributes
    ----------
    snapshot
        Hash of the snapshot's content.
    heads
        Sequence number and hash of the newest sealed forecast in it; empty where there is none.
    parameters
        Symbol, interval, days and market.
    language
        Language of the pages.
    pages
        The chapters in order.
    notebooks, source, template
        Hash of each file, by path in the repository.
    lock
        Hash of the lock file.
    versions
        Python (without its patch version), platform and the packages that compute, draw or render.
    """

    snapshot: str
    heads: dict[str, str]
    parameters: dict[str, Literal]
    language: str
    pages: tuple[Page, ...]
    notebooks: dict[str, str]
    source: dict[str, str]
    template: dict[str, str]
    lock: str
    versions: dict[str, str]


def bundle_facts(bundle: Path) -> dict[str, Any]:
    """Facts of a snapshot bundle, without reading its frames.

    Raises
    ------
    NotFoundError
        If there is no bundle.
    """
    try:
        facts: dict[str, Any] = json.loads((bundle / "snapshot.json").read_text(encoding="utf-8"))
        missing = {"hash", "heads", "start", "end", "symbol", "interval", "market"} - facts.keys()
    except (OSError, ValueError, AttributeError) as error:
        msg = f"a snapshot bundle was expected in {bundle}, found none that can be read: make one with btcml report"
        raise NotFoundError(msg) from error
    if missing:
        msg = f"a snapshot bundle was expected in {bundle}, found one without {', '.join(sorted(missing))}: delete it"
        raise NotFoundError(msg)
    return facts


def gather_inputs(bundle: Path, notebooks: Path = NOTEBOOKS, language: str = ENGLISH) -> Inputs:
    """Hash everything that decides the report over a bundle.

    Raises
    ------
    UsageError
        If there is no translation into the language.
    """
    facts, pages = bundle_facts(bundle), find_chapters(notebooks)
    start, end = (datetime.fromisoformat(facts[name]).toordinal() for name in ("start", "end"))
    series: dict[str, Literal] = {name: facts[name] for name in ("symbol", "interval", "market")}
    return Inputs(
        snapshot=facts["hash"],
        heads=facts["heads"],
        parameters=series | {"days": max(1, end - start), "snapshot": "snapshot", "products": "products"},
        language=check_language(language),
        pages=pages,
        notebooks={Path(page.href).stem: file_hash(notebooks / page.notebook) for page in pages},
        **code_facts(),
    )


def code_facts() -> dict[str, Any]:
    """Hashes of source, template and lock file, and versions, as in `Inputs`."""
    lock, python = resource("requirements.lock"), ".".join(platform.python_version_tuple()[:2])
    installed = {"python": python, "platform": f"{sys.platform}-{platform.machine()}"}
    return {
        "source": _hashes(_sources() | _named("data_contracts", "*.yaml")),
        "template": _hashes(_named("reports/template", "*")),
        "lock": file_hash(lock) if lock.exists() else "none",
        "versions": installed | {name: version(name) for name in _PACKAGES},
    }


def _sources() -> dict[str, Path]:
    found = {path.relative_to(ROOT).as_posix(): path for pattern in _SOURCE for path in ROOT.glob(pattern)}
    return {name: path for name, path in found.items() if name not in _OUTSIDE}


def _named(folder: str, pattern: str) -> dict[str, Path]:
    """Files of a resource under their names of the checkout, wherever they are installed."""
    return {f"{folder}/{path.name}": path for path in resource(folder).glob(pattern)}


def _hashes(named: dict[str, Path]) -> dict[str, str]:
    return {name: file_hash(named[name]) for name in sorted(named) if named[name].is_file()}


def digest(value: object) -> str:
    """SHA-256 of a value that JSON can hold."""
    return text_hash(json.dumps(value, sort_keys=True))


def chapter_key(inputs: Inputs, page: Page) -> str:
    """Hash of all that decides one chapter, but for the chapters that it needs: its notebook and what is shared."""
    name = Path(page.href).stem
    return digest(asdict(inputs) | {"notebooks": {name: inputs.notebooks[name]}})


def site_of(inputs: Inputs, page: Page) -> Site:
    """Banner and footer of a page: short hashes of what it was made from."""
    market, symbol, interval = (str(inputs.parameters[name]) for name in ("market", "symbol", "interval"))
    footer = {
        "Snapshot": inputs.snapshot,
        "Code": digest([inputs.source, inputs.template]),
        "Notebook": inputs.notebooks.get(Path(page.href).stem, digest(inputs.notebooks)),
        "Lock": inputs.lock,
    }
    short = tuple((translated(name), value[:SHORT]) for name, value in footer.items())
    return Site(market, symbol, interval, inputs.pages, (*short, ("Python", inputs.versions["python"])))


def manifest_text(inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> str:
    """Return ``manifest.json``: inputs, and the hash of every output by its path beside it."""
    content = {"format": 1, **inputs, "outputs": dict(sorted(outputs.items()))}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_environment(pages: Path) -> Path:
    """Write ``environment.json``, which is not compared: a verification names what has changed in it."""
    return write_text(pages / "environment.json", json.dumps(machine_facts(), indent=1) + "\n")


# ---- verification ----
_CAUSES: dict[str, str] = {
    "snapshot": "data",
    "heads": "sealed forecasts",
    "forecasts": "forecasts",
    "candles": "candles",
    "parameters": "parameter",
    "language": "language",
    "notebooks": "notebook",
    "source": "code",
    "template": "page template",
    "lock": "lock file",
    "versions": "version of",
    "machine": "another processor, C library or Python:",
}
"""What each kind of input is called; of the notebooks and files only their names are told, not their hashes."""

_NAMED = {"notebooks", "source", "template"}
_MOST = 12
_MANIFEST = "manifest.json"

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_TAG = re.compile(r"<[^>]*>")

_REBUILD = (
    "import sys; from pathlib import Path; from btcml.report.build import build_report; "
    "build_report(Path(sys.argv[1]), notebooks=Path(sys.argv[2]), language=sys.argv[3])"
)


@dataclass(frozen=True)
class Difference:
    """One file that is not the same.

    Attributes
    ----------
    file
        Its path beside the manifest.
    where
        Where it first differs, or what else is wrong with it.
    gap
        Largest relative difference of a number, where only numbers differ that no reader sees: those of a CSV,
        or of a drawing; None where a page reads differently, or a file is missing.
    touched
        Whether the file is no longer the one that was built.
    """

    file: str
    where: str
    gap: float | None = None
    touched: bool = False


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
        What has changed since the report was made, one by one: ``notebook 02-eda``, ``version of numpy: 2.1 became
        2.2``, another processor, …
    """

    files: int
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]

    def require_identical(self) -> Verification:
        """Return itself where every byte is the same.

        Raises
        ------
        ReportError
            With every difference, where it is and why.
        """
        if self.differences:
            raise ReportError(str(self))
        return self

    def __str__(self) -> str:
        since = [f"  changed since the report was built: {cause}" for cause in self.causes]
        if not self.differences:
            return "\n".join([f"identical: {self.files} files, byte for byte", *since])
        found = [f"  {difference.file}: {difference.where}" for difference in self.differences]
        gaps = [difference.gap for difference in self.differences if difference.file != _MANIFEST]
        size = [gap for gap in gaps if gap is not None]
        most = max(size, default=0.0)
        equal = [f"  every printed figure is equal; numbers differ by at most {most:.0e} of their size"]
        lines = [f"{len(found)} of {self.files} files differ", *(since or [self._unexplained()]), *found]
        return "\n".join([*lines, *equal * bool(size and len(size) == len(gaps))])

    def _unexplained(self) -> str:
        if all(difference.touched for difference in self.differences):
            return "  no input changed: the files themselves were changed after the report was built"
        return "  no input changed: the same notebooks, code and packages gave other bytes here"


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
    run = folder.parent if (folder / _MANIFEST).exists() else folder
    language = str(_manifest(run / "pages")["language"])  # raises where there is nothing, before the time of a build
    with tempfile.TemporaryDirectory(prefix="btcml-verify-") as scratch:
        again = Path(scratch) / "run"
        again.mkdir()
        (again / "snapshot").symlink_to((run / "snapshot").resolve())
        _rebuild(again, notebooks, language)
        return compare_pages(run / "pages", again / "pages")


def compare_pages(old: Path, new: Path) -> Verification:
    """Compare the pages of two folders by their manifests, byte for byte.

    Raises
    ------
    NotFoundError
        If a folder has no manifest.
    """
    then, now = _manifest(old), _manifest(new)
    found = tuple(_differences(old, new, then, now))
    then["machine"], now["machine"] = _environment(old), _environment(new)
    causes = tuple(cause for key in _CAUSES for cause in _changed(key, then.get(key), now.get(key)))
    return Verification(len(then["outputs"]), found, causes)


def _manifest(pages: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((pages / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"a report with its manifest.json was expected in {pages}, found none: make it with make report"
        raise NotFoundError(msg) from error
    return {"language": ENGLISH} | found


def _environment(pages: Path) -> dict[str, str]:
    """Facts of the machine that made a report; empty where they are not known."""
    try:
        found: dict[str, str] = json.loads((pages / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _rebuild(folder: Path, notebooks: Path, language: str) -> None:
    """Build again in an environment in which only the path of the package is fixed: nothing else may matter."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", _REBUILD, str(folder), str(notebooks.resolve()), language],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        msg = f"the report should build again from its snapshot, found: {lines[-1]}"
        raise ReportError(msg)


def _changed(key: str, then: Any, now: Any) -> list[str]:
    """Name what is not the same of one kind of input, one line each."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return [] if then == now else [f"{_CAUSES[key]}: {str(then)[:SHORT]} became {str(now)[:SHORT]}"]
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    told = [f"{_CAUSES[key]} {name}{_became(key, then.get(name), now.get(name))}" for name in names[:_MOST]]
    return told + [f"{_CAUSES[key]}: {len(names) - _MOST} more"] * (len(names) > _MOST)


def _became(key: str, then: Any, now: Any) -> str:
    if then is None or now is None:
        return " is new" if then is None else " is gone"
    return "" if key in _NAMED else f": {str(then)[:SHORT]} became {str(now)[:SHORT]}"


def _differences(old: Path, new: Path, then: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    found = []
    for name in sorted(then["outputs"].keys() | now["outputs"].keys() | {_MANIFEST}):
        where, expected = _first_difference(old / name, new / name), then["outputs"].get(name)
        touched = bool(expected and (old / name).exists() and file_hash(old / name) != expected)
        if touched:
            where = f"was changed after the report was built: {where or 'its manifest names other bytes'}"
        if where:
            gap, gone = _number_gap(old / name, new / name), not (old / name).exists()
            found.append(Difference(name, where, gap, touched=touched or gone))
    return found


def _number_gap(old: Path, new: Path) -> float | None:
    """Largest relative difference of the numbers in two files, or None where a reader would see another text."""
    if not old.exists() or not new.exists():
        return None
    before, after = old.read_text(), new.read_text()
    seen = [_TAG.sub("", text) if old.suffix == ".html" else _NUMBER.sub("#", text) for text in (before, after)]
    numbers = [np.array(_NUMBER.findall(text), dtype=float) for text in (before, after)]
    if seen[0] != seen[1] or len(numbers[0]) != len(numbers[1]):
        return None
    size = np.maximum(np.abs(numbers[0]), np.abs(numbers[1]))
    return float(np.max(np.abs(numbers[0] - numbers[1])[size > 0] / size[size > 0], initial=0.0))


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
