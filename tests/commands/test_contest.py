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
def test_a_gap_in_the_judged_span_is_reported(capsys):
    """Without --days all that is stored takes part, and what is missing in it is said."""
    assert main(["backfill", "--interval", "1d", "--since", "2019-01-01", "--until", "2019-12-31"]) == 0
    assert main([*EVALUATE, "--interval", "1d"]) == 0
    said = capsys.readouterr().err
    assert " candles from 2019-01-01 to " in said
    assert "missing in between (give --days" in said
