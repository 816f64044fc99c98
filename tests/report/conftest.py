"""What the report's tests share: a small simulated bundle, and five tiny chapters over it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat import v4

from btcml.candles import COLUMNS, TIME, SeriesKey, candle_gaps
from btcml.continuity import suspect_spans
from btcml.contract import rule_results
from btcml.market.simulate import DEFAULT_END, SimulatedMarket
from btcml.report.build import adopt_bundle, build_report
from btcml.report.manifest import NOTEBOOKS
from btcml.report.pages import PICTURES, find_chapters
from btcml.store.models import read_research
from btcml.store.snapshots import Snapshot, save_snapshot

PARAMETERS = """symbol: str = "BTCUSDT"  # the pair
interval: str = "15m"  # length of a candle
days: int = 30  # span
market: str = "simulated"  # where from
snapshot: str = "snapshot"  # the bundle
products: str = "products"  # the numbers"""

TINY = """import json, os, pathlib
from IPython.display import display
folder = pathlib.Path(products) / "{chapter}"
folder.mkdir(parents=True, exist_ok=True)
(folder / "facts.json").write_text(json.dumps({{"headline": "All is told.", "cards": []}}))
svg = '<svg role="img" aria-label="A line."><path d="M 0 0 L 1 1"/></svg>'
for name in {names}:
    (folder / (name + ".csv")).write_text("x,y\\n1,2\\n")
    (folder / (name + ".json")).write_text(json.dumps({{"kind": "plot", "says": "Up it goes.", "body": svg}}))
    figure = '<figure id="{chapter}-' + name + '"><figcaption>Up it goes.</figcaption>' + svg + "</figure>"
    display({{"text/html": figure}}, raw=True)"""
"""What a chapter does, without the library: fast, and the same files."""

FINISH = """display({"application/vnd.btcml.finished+json": {"nonce": os.environ["BTCML_REPORT_NONCE"]}}, raw=True)"""


def empty_frame(*names: str) -> pd.DataFrame:
    """A frame without rows, with the types of a bundle."""
    kinds = {
        "rule": "str",
        "source": "str",
        "released_at": TIME,
        "seen_at": TIME,
        "open_time": TIME,
        "close_time": TIME,
    }
    return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, "float64")) for name in names})


NO_TRIALS = pd.DataFrame(
    {"model": pd.Series(dtype="str"), "settings": pd.Series(dtype="str")}
    | {name: pd.Series(dtype=TIME) for name in ("test_start", "test_end")}
)


def make_snapshot(interval: str = "15m", days: int = 30) -> Snapshot:
    """A snapshot of the simulated market without a database."""
    start = DEFAULT_END - pd.Timedelta(days=days)
    candles = SimulatedMarket().fetch_candles("BTCUSDT", interval, start, DEFAULT_END)
    return Snapshot(
        key=SeriesKey("simulated", "BTCUSDT", interval),
        start=start,
        end=DEFAULT_END,
        incumbent="persistence",
        heads={},
        candles=candles,
        gaps=candle_gaps(candles["open_time"], interval).assign(kind="halt"),
        quarantine=empty_frame(*COLUMNS, "rule", "source", "seen_at", "released_at"),
        revisions=empty_frame(*COLUMNS, "source", "seen_at"),
        rules=rule_results(candles, interval),
        suspects=suspect_spans(candles, interval),
        forecasts=pd.DataFrame(),
        trials=NO_TRIALS,
        research=read_research(SeriesKey("simulated", "BTCUSDT", interval)),
    )


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    return make_snapshot()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, snapshot) -> Path:
    return save_snapshot(snapshot, tmp_path_factory.mktemp("bundles"))


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS, needs: tuple[str, ...] = ()) -> Path:
    """Write a notebook: the parameters cell and then these."""
    first = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}, id="cell-0")
    rest = [v4.new_code_cell(source, id=f"cell-{place}") for place, source in enumerate(cells, 1)]
    nbformat.write(v4.new_notebook(cells=[first, *rest], metadata={"btcml": {"needs": [*needs]}}), path)
    return path


def write_chapters(folder: Path) -> None:
    """Write five tiny chapters that show what index and slides need."""
    folder.mkdir()
    for page in find_chapters(NOTEBOOKS):
        names = [name for chapter, name, _ in PICTURES if chapter == page.chapter]
        cell = TINY.format(chapter=page.chapter, names=names)
        write_notebook(folder / page.notebook, cell, FINISH, needs=page.needs)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory, bundle) -> Path:
    """One run folder with its report, and the tiny chapters that it was built from, never touched."""
    place = tmp_path_factory.mktemp("built")
    write_chapters(place / "chapters")
    adopt_bundle(place / "run", bundle)
    build_report(place / "run", notebooks=place / "chapters")
    return place
