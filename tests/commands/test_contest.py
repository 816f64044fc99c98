"""The verb of the contest: the span that is named is the span that is judged."""

from __future__ import annotations

import json

import pytest

from btcml.cli import main


@pytest.fixture
def holed(store, home, monkeypatch, capsys):  # noqa: ARG001 - an empty database
    """A month of the past and the last days, with more than a year missing between them."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setenv("BTCML_SOURCE", "simulated")
    monkeypatch.setenv("BTCML_INTERVAL", "1h")
    assert main(["backfill", "--since", "2025-01-01", "--until", "2025-02-01"]) == 0
    assert main(["backfill", "--days", "30"]) == 0
    capsys.readouterr()


EVALUATE = ("evaluate", "--models", "ridge", "--jobs", "1", "--json")


@pytest.mark.usefixtures("holed")
def test_only_the_days_that_are_named_are_judged(capsys):
    """Older candles of the database take no part: neither in the test nor in training."""
    assert main([*EVALUATE, "--days", "30"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["close"][0]["rows"] <= 720 / 3 + 24
    assert " candles from 20" in said.err
    assert "missing" not in said.err


@pytest.mark.usefixtures("holed")
def test_each_horizon_has_a_row_with_its_skill_volatility_and_distribution(capsys):
    """In JSON and in the tables for people; what is no horizon is refused in one sentence."""
    assert main([*EVALUATE, "--days", "90", "--horizons", "12,1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["horizon"] for row in facts["horizons"]] == [1, 12]
    known = {"ratio", "late_ratio", "z", "p", "volatility_r2", "crps_skill", "coverage_50", "coverage_95", "pit_p"}
    assert all(row[name] is not None for row in facts["horizons"] for name in known)
    assert facts["experiment"]["horizons"] == [1, 12]
    assert main([*EVALUATE[:-1], "--days", "90", "--horizons", "1,12"]) == 0
    assert "by horizon in candles" in capsys.readouterr().out
    for wrong in ("0,3", "one", "1.5", "99999999999"):
        assert main([*EVALUATE, "--days", "30", "--horizons", wrong]) == 2
        assert "numbers of candles" in capsys.readouterr().err


@pytest.mark.usefixtures("holed")
def test_a_gap_in_the_judged_span_is_reported(capsys):
    """Without --days all that is stored takes part, and what is missing in it is said."""
    assert main(["backfill", "--interval", "1d", "--since", "2019-01-01", "--until", "2019-12-31"]) == 0
    assert main([*EVALUATE, "--interval", "1d"]) == 0
    said = capsys.readouterr().err
    assert " candles from 2019-01-01 to " in said
    assert "missing in between (give --days" in said


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--test-from", "yesterday", "expected a UTC time such as 2017-08-17"),
        ("--test-from", "NaT", "expected a UTC time"),
        ("--test-from", "1500-01-01", "expected a UTC time"),
        ("--test-to", "2300-01-01", "expected a UTC time"),
        ("--jobs", "0", "expected a whole number of at least 1, found '0'"),
        ("--jobs", "-3", "expected a whole number"),
        ("--jobs", "two", "expected a whole number"),
        ("--search", "0", "expected a whole number"),
        ("--days", "0", "the parameter days"),
        ("--days", "99999999999", "the parameter days"),
        ("--symbol", "", "a symbol is 2 to 20"),
        ("--interval", "7m", "interval"),
        ("--source", "/none", "/none"),
        ("--models", "", "a model is one of"),
        ("--models", "ridge,,", "a model is one of"),
        ("--models", "direction", "forecasts the close"),
        ("--models", "sklearn.cluster.KMeans", "a scikit-learn regressor"),
        ("--features", "", "a feature set is one of"),
        ("--features", ",", "features must be registered"),
        ("--window", "0", "a span is a number of candles"),
        ("--window", "99999999999999999999", "a span is a number of candles"),
        ("--window", "999999 months", "a span is a number of candles"),
        ("--refit", "0", "a span is a number of candles"),
        ("--refit", "0 days", "a span is a number of candles"),
        ("--refit", "soon", "a span is a number of candles"),
        ("--cluster", "here", "scheduler"),
    ],
)
@pytest.mark.usefixtures("holed")
def test_every_option_refuses_nonsense_in_one_sentence(capsys, option, value, expected):
    """What was expected and what was found, with status 2 and no traceback."""
    assert main([*EVALUATE, "--days", "30", option, value]) == 2
    said = capsys.readouterr()
    assert expected in json.loads(said.out)["error"]
    assert "Traceback" not in said.err


def test_a_model_named_twice_is_tried_once(holed, capsys):  # noqa: ARG001 - candles
    """And a feature named twice is one column."""
    assert main([*EVALUATE, "--days", "30", "--models", "ridge, ridge", "--features", "body,body"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"]["models"] == ["ridge"]
