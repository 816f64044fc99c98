"""What a report was made from, by hash: enough to make it again, nothing that differs from run to run.

No clock, path, host, user or duration stands in a manifest; timings go to ``run.json`` outside it.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import btcml
from btcml.errors import NotFoundError
from btcml.files import file_hash, resource, text_hash
from btcml.report.masthead import PAGES, Page, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.report.parameters import Literal

__all__ = [
    "NEEDS",
    "NOTEBOOKS",
    "Inputs",
    "bundle_facts",
    "chapter_key",
    "gather_inputs",
    "manifest_text",
    "parameters_of",
    "site_of",
]

ROOT = Path(btcml.__file__).resolve().parents[1]
NOTEBOOKS = resource("notebooks")
"""The chapters as they are in git."""

NEEDS: dict[str, tuple[str, ...]] = {"evaluation": ("training",)}
"""Chapters that read what another one left; all others need only the snapshot."""

_SHORT = 12

_SOURCE = (
    "btcml/*.py",
    "btcml/forecast/**/*.py",
    "btcml/report/**/*.py",
    "btcml/store/*.py",
    "btcml/market/__init__.py",
    "btcml/market/simulate.py",
)
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
    notebooks, source, template
        Hash of each file, by path in the repository.
    lock
        Hash of the lock file.
    versions
        Python, platform and the packages that compute, draw or render.
    """

    snapshot: str
    heads: dict[str, str]
    parameters: dict[str, Literal]
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


def parameters_of(bundle: Path) -> dict[str, Literal]:
    """Parameters of the chapters over a bundle; paths are relative to the run folder."""
    facts = bundle_facts(bundle)
    start, end = (_day_number(facts[name]) for name in ("start", "end"))
    series: dict[str, Literal] = {name: facts[name] for name in ("symbol", "interval", "market")}
    return series | {"days": max(1, end - start), "snapshot": "snapshot", "products": "products"}


def _day_number(time: str) -> int:
    from datetime import datetime  # noqa: PLC0415 - only a parser here, never a clock

    return datetime.fromisoformat(time).toordinal()


def gather_inputs(bundle: Path, notebooks: Path = NOTEBOOKS) -> Inputs:
    """Hash everything that decides the report over a bundle."""
    facts = bundle_facts(bundle)
    return Inputs(
        snapshot=facts["hash"],
        heads=facts["heads"],
        parameters=parameters_of(bundle),
        notebooks={Path(page.href).stem: file_hash(notebooks / _notebook(page)) for page in PAGES},
        source=_hashes(_sources() | _named("data_contracts", "*.yaml")),
        template=_hashes(_named("reports/template", "*")),
        lock=file_hash(lock) if (lock := resource("requirements.lock")).exists() else "none",
        versions=_versions(),
    )


def _notebook(page: Page) -> str:
    return f"{Path(page.href).stem}.ipynb"


def _sources() -> dict[str, Path]:
    found = {path.relative_to(ROOT).as_posix(): path for pattern in _SOURCE for path in ROOT.glob(pattern)}
    return {name: path for name, path in found.items() if name not in _OUTSIDE}


def _named(folder: str, pattern: str) -> dict[str, Path]:
    """Files of a resource under their names of the checkout, wherever they are installed."""
    return {f"{folder}/{path.name}": path for path in resource(folder).glob(pattern)}


def _hashes(named: dict[str, Path]) -> dict[str, str]:
    return {name: file_hash(named[name]) for name in sorted(named) if named[name].is_file()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": f"{sys.platform}-{platform.machine()}"}
    return found | {name: version(name) for name in _PACKAGES}


def _digest(value: object) -> str:
    return text_hash(json.dumps(value, sort_keys=True))


def chapter_key(inputs: Inputs, chapter: str) -> str:
    """Hash of all that decides one chapter: its notebook, those it needs, and everything shared."""
    stems = {page.chapter: Path(page.href).stem for page in PAGES}
    notebooks = {stems[name]: inputs.notebooks[stems[name]] for name in (chapter, *NEEDS.get(chapter, ()))}
    return _digest(asdict(inputs) | {"notebooks": notebooks})


def site_of(inputs: Inputs, page: Page) -> Site:
    """Banner and footer of a page: short hashes of what it was made from."""
    series = {name: str(inputs.parameters[name]) for name in ("market", "symbol", "interval")}
    footer = {
        "Snapshot": inputs.snapshot,
        "Code": _digest([inputs.source, inputs.template]),
        "Notebook": inputs.notebooks.get(Path(page.href).stem, _digest(inputs.notebooks)),
        "Lock": inputs.lock,
    }
    short = tuple((name, value[:_SHORT]) for name, value in footer.items())
    return Site(**series, markets=(), footer=(*short, ("Python", inputs.versions["python"])))


def manifest_text(inputs: Inputs, outputs: Mapping[str, str]) -> str:
    """Return ``manifest.json``: inputs, and the hash of every output by its path beside it."""
    content = {"format": 1, **asdict(inputs), "outputs": dict(sorted(outputs.items()))}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
