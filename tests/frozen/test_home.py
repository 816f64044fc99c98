"""A home of version 0.1 goes on: restored by today's code it is whole, and its models forecast the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RECORDS = Path(__file__).parent / "records"


@pytest.fixture(scope="session")
def home(faces):
    """What today's code finds in the restored home."""
    return json.loads((faces / "home.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def then():
    """What version 0.1 found in it."""
    return json.loads((RECORDS / "home.json").read_text("utf-8"))


def test_it_is_restored_and_migrated_to_the_newest_schema(home, then):
    """Every row of every table that was there, and the models' files."""
    assert home["restored"]["models"] == then["restored"]["models"] == 20
    assert home["restored"]["rows"] == then["restored"]["rows"]
    assert home["schema"] == home["head"]
    assert {name: home["rows"][name] for name in then["rows"]} == then["rows"]


def test_its_chain_of_forecasts_is_whole(home, then):
    """Every hash is true, every link holds, none is missing; the database's own check and the verb agree."""
    assert home["chain"] == then["chain"]
    assert home["chain"]["rows"] == home["chain"]["true hashes"] == home["chain"]["true links"] == 96
    assert home["verified"] == then["verified"] | {"status": "ok"}  # which answers have had since 0.2


def test_its_forecasts_have_the_same_scores(home, then):
    """Prices, intervals, outcomes and errors, row by row."""
    assert len(home["scored"]) == len(then["scored"]) == 96
    for ours, theirs in zip(home["scored"], then["scored"], strict=True):
        numbers = [n for n, value in enumerate(theirs) if isinstance(value, float)]
        assert [ours[n] for n in numbers] == pytest.approx([theirs[n] for n in numbers], rel=1e-9, abs=1e-9)
        assert [v for v in ours if not isinstance(v, float)] == [v for v in theirs if not isinstance(v, float)]


@pytest.mark.parametrize("face", ["predict", "POST /predict"])
def test_its_models_forecast_the_same(home, then, face):
    """Command line and service: champion and challengers from the stored files, to a billionth."""
    ours, theirs = home[face], then[face]
    numbers = {name for name, value in theirs.items() if isinstance(value, float)} - {"model_age_seconds"}
    assert {name: ours[name] for name in numbers} == pytest.approx({name: theirs[name] for name in numbers}, rel=1e-9)
    assert [other["model"] for other in ours["challengers"]] == ["lightgbm_mean", "random_forest", "autoreg"]
    for other, was in zip(ours["challengers"], theirs["challengers"], strict=True):
        assert other["predicted_close"] == pytest.approx(was["predicted_close"], rel=1e-9)
    texts = set(theirs) - numbers - {"model_age_seconds", "challengers"}
    assert {name: ours[name] for name in texts} == {name: theirs[name] for name in texts}
