"""Results as people read them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from btcml.cli import main
from btcml.commands.display import render
from btcml.pipeline import doctor
from btcml.pipeline.doctor import Finding


@dataclass(frozen=True)
class Found:
    """As a verb answers it."""

    close: float
    models: dict[str, dict[str, float]]
    heads: dict[str, str]


def test_figures_are_rounded_and_what_is_nested_is_indented():
    """No brackets, no quotes, no sixteen digits."""
    found = Found(39029.67619808888, {"ridge": {"ratio": 0.9953271234, "skill": 0.0}}, {})
    assert render(found).splitlines() == ["close: 39029.68", "models:", "  ridge: ratio 0.9953271, skill 0", "heads: -"]


def test_a_list_of_rows_is_a_line_a_row():
    """Such as the challengers of a forecast; words are one line, and a truth stays one."""
    found = {
        "challengers": [{"model": "a", "close": 1.5}, {"model": "b", "close": None}],
        "span": ("x", "y"),
        "ok": True,
    }
    rows = ["challengers:", "  model a, close 1.5", "  model b, close -", "span: x, y", "ok: True"]
    assert render(found).splitlines() == rows


def test_an_ingest_is_told_without_brackets(store, home, monkeypatch, capsys):  # noqa: ARG001 - an empty database
    """The key of the series is a line, as the others."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    assert main(["ingest", "--source", "simulated", "--days", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("key: market simulated, symbol BTCUSDT, interval 5m\n")
    assert "{" not in out


def test_the_warnings_of_doctor_are_counted_beside_its_status(monkeypatch, capsys):
    """A warning is no failure, so that the status is ok; and not all is well either."""
    findings = [Finding("disk", "ok", "room"), Finding("jobs", "warn", "something")]
    monkeypatch.setattr(doctor, "examine", lambda _: findings)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["bad"], found["warnings"]) == ("ok", 0, 1)
