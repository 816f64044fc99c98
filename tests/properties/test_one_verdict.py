"""One experiment, one verdict: library, command line, report and service say the same of the same candles."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from btcml.cli import main
from btcml.forecast.artifacts import load_result
from btcml.forecast.experiment import Experiment, Result
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.evaluate import walk_forward_file
from btcml.pipeline.train import train
from btcml.store.candles import read_candles, read_series_keys
from btcml.store.models import read_research, read_trials
from btcml.store.snapshots import read_snapshot, save_snapshot

ROOT = Path(__file__).parents[2]
END = pd.Timestamp("2025-06-01", tz="UTC")
DAYS = 90
KNOWN = ("champion", "ratio", "z", "p", "coverage", "direction", "money")


def summary(facts: dict) -> dict:
    """Champion, and by model what a reader may compare, out of `Result.to_dict` or the like of it."""
    table = {row["model"]: row for row in facts["table"]}
    close = {row["model"]: row for row in facts["close"]}
    return {
        "champion": facts["champion"],
        "ratio": {name: row["ratio"] for name, row in table.items()},
        "z": {name: row["z"] for name, row in table.items()},
        "p": {name: (row["p"], row["p_once"], row["p_holm"]) for name, row in table.items()},
        "coverage": {name: row["coverage"] for name, row in close.items()},
        "direction": {name: row["direction"] for name, row in close.items()},
        "money": facts["money"],
    }


def disagreements(first: dict, second: dict) -> list[str]:
    """Names of `KNOWN` in which two answers differ, to the bit."""
    texts = [
        {name: json.dumps(answer[name], sort_keys=True) for name in KNOWN} for answer in map(summary, (first, second))
    ]
    return [name for name in KNOWN if texts[0][name] != texts[1][name]]


@pytest.fixture(scope="module")
def world(tmp_path_factory, migrated_store, settings):
    """A file of hourly candles, ingested by the command line's own evaluation, whose answer is kept."""
    folder = tmp_path_factory.mktemp("world")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "1h", END - pd.Timedelta(days=DAYS), END)
    file = folder / "BTCUSDT-1h.parquet"
    frame.to_parquet(file)
    return folder, file, migrated_store, settings


@pytest.fixture(scope="module")
def answers(world):
    """What each face answers."""
    folder, file, store, settings = world
    found = {"command line": command_line(file, settings)}  # it counts as the others: their test span is the same
    key = next(key for key in read_series_keys(store) if key.interval == "1h" and key.market.startswith("file:"))
    candles = read_candles(store, key)
    plan, trials = Experiment.default(candles, "1h"), read_trials(store, key)
    research = read_research(key)
    looks, tries = plan.looks(candles, trials, research), plan.ledger(candles, trials, research)["tries"].sum()
    found["library"] = plan.run(candles, looks=looks, tries=tries).to_dict()
    found["report"] = report(folder, store, key, candles).to_dict()
    pd.testing.assert_frame_equal(read_trials(store, key), trials)  # building a report is no look
    done = train(store, settings, key, now=candles["close_time"].iloc[-1])
    kept = load_result(walk_forward_file(settings, key))
    assert done.figures == kept.figures
    assert {name: done.verdict[name] for name in kept.verdict.to_dict()} == kept.verdict.to_dict()
    found["service"] = kept.to_dict()
    return found, candles, {"looks": looks, "tries": tries}


def command_line(file, settings) -> dict:
    """The JSON of `btcml evaluate`."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("BTCML_HOME", str(settings.home))
        assert main(["evaluate", "--json", "--source", str(file), "--interval", "1h"]) == 0
    return json.loads(out.getvalue())


def report(folder, store, key, candles) -> Result:
    """Run the training chapter's own cells up to the one that keeps the result."""
    span = candles["open_time"].iloc[0], candles["open_time"].iloc[-1] + key.delta
    bundle = save_snapshot(read_snapshot(store, key, *span), folder / "snapshots")
    names: dict = {}
    notebook = nbformat.read(ROOT / "notebooks" / "04-training.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)  # noqa: S102 - the notebook's own code
            if "parameters" in cell.metadata.get("tags", []):
                names |= {"symbol": key.symbol, "interval": key.interval, "market": key.market, "days": DAYS}
                names |= {"snapshot": str(bundle), "products": str(folder / "products")}
            if "story.keep(result)" in cell.source:
                break
    return names["result"]


@pytest.mark.parametrize("face", ["command line", "report", "service"])
def test_every_face_gives_the_answer_of_the_library(answers, face):
    """Champion, ratio, z, p, coverage, direction and money, to the bit."""
    found, *_ = answers
    assert disagreements(found["library"], found[face]) == []


@pytest.mark.parametrize("planted", ["purge", "models", "looks"])
def test_a_face_with_a_plan_of_its_own_is_found(answers, planted):
    """Another purge, another list of models, another count of looks."""
    found, candles, counts = answers
    plan = Experiment.default(candles, "1h")
    other = {"purge": plan.replace(purge=240), "models": plan.replace(models=plan.models[:3]), "looks": plan}[planted]
    answer = other.run(candles, **counts | ({"looks": counts["looks"] + 1} if planted == "looks" else {})).to_dict()
    assert disagreements(found["library"], answer)


JUDGES = {
    "btcml.forecast.splits": {"WalkForward"},
    "btcml.forecast.walk": {"walk", "walk_all", "walk_horizons"},
    "btcml.forecast.verdict": {"verdict", "Verdict"},
    "btcml.forecast.money": {"money"},
}


def test_no_face_plans_or_judges_by_itself():
    """Outside the core no module imports what makes a plan, walks, judges or computes trading results."""
    found = []
    for path in (ROOT / "btcml").rglob("*.py"):
        if "forecast" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in JUDGES:
                found += [f"{path.name}: {alias.name}" for alias in node.names if alias.name in JUDGES[node.module]]
    assert found == []
