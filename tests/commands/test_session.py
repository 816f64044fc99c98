"""Options, settings and results that all verbs share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from btcml.cli import main, make_parser
from btcml.commands.session import open_settings, render
from btcml.pipeline import doctor
from btcml.pipeline.doctor import Finding


@dataclass(frozen=True)
class Found:
    """As a verb returns it."""

    close: float
    models: dict[str, dict[str, float]]
    heads: dict[str, str]


def test_figures_are_rounded_and_what_is_nested_is_indented():
    """No brackets, no quotes, no sixteen digits."""
    found = Found(39029.67619808888, {"ridge": {"ratio": 0.9953271234, "skill": 0.0}}, {})
    assert render(found).splitlines() == ["close: 39029.68", "models:", "  ridge: ratio 0.9953271, skill 0", "heads: -"]


def test_a_list_of_rows_is_a_line_a_row():
    """Such as the challengers of a forecast; text is one line, and a boolean stays one."""
    found = {
        "challengers": [{"model": "a", "close": 1.5}, {"model": "b", "close": None}],
        "span": ("x", "y"),
        "ok": True,
    }
    rows = ["challengers:", "  model a, close 1.5", "  model b, close -", "span: x, y", "ok: True"]
    assert render(found).splitlines() == rows


def test_the_result_of_an_ingest_has_no_brackets(store, home, monkeypatch, capsys):  # noqa: ARG001 - an empty database
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


@pytest.mark.parametrize(
    ("verb", "extra", "module"),
    [
        ("report", "report", "papermill"),
        ("verify .", "report", "papermill"),
        ("lab", "lab", "jupyterlab"),
        ("api", "serve", "fastapi"),
        ("dashboard", "dashboard", "voila"),
        ("up", "dashboard", "voila"),
        ("up --no-dashboard", "serve", "fastapi"),
    ],
)
def test_a_verb_whose_extra_is_missing_names_what_to_install(monkeypatch, capsys, verb, extra, module):
    """One sentence, before anything else happens."""
    monkeypatch.setitem(sys.modules, module, None)
    assert main(verb.split()) == 2
    name = verb.split()[0]
    assert capsys.readouterr().err == f"btcml: btcml {name} needs btcml[{extra}]: pip install 'btcml[{extra}]'\n"


OPTIONAL = "fastapi uvicorn httptools swagger_ui_bundle prometheus_client papermill ipykernel IPython jupyter_client"
OPTIONAL += " nbformat nbconvert jinja2 matplotlib voila anywidget jupyterlab starlette cryptography apprise"
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL.split()!r}))
from btcml.cli import main
for argv in ("ingest", "train --days 90", "predict", "evaluate --models ridge --days 90", "db check"):
    print("done:", argv, main(argv.split()), flush=True)
"""


def test_the_verbs_of_the_core_need_no_extra(store, home):  # noqa: ARG001 - an empty database
    """Ingest, training, forecast, evaluation and database run without the packages of report and service."""
    env = os.environ | {"BTCML_HOME": str(home), "BTCML_SOURCE": "simulated", "BTCML_INTERVAL": "1h"}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=env, capture_output=True, text=True, check=False)
    statuses = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("done:")]
    assert statuses == ["0"] * 5, done.stderr


def test_options_replace_settings(monkeypatch):
    """What is not given stays as the environment has it."""
    monkeypatch.setenv("BTCML_SYMBOLS", "BTCUSDT,ETHUSDT")
    monkeypatch.setenv("BTCML_SOURCE", "simulated")
    read = make_parser().parse_args
    settings = open_settings(read(["up", "--interval", "1h"]))
    assert (settings.btcml_symbols, settings.btcml_interval) == (("BTCUSDT", "ETHUSDT"), "1h")
    settings = open_settings(read(["up", "--symbol", "ETHUSDT", "--source", "binance"]))
    assert (settings.btcml_symbols, settings.btcml_source) == (("ETHUSDT",), "binance")


def test_a_wrong_option_of_up_is_refused_before_anything_starts(capsys):
    """As for every other verb."""
    assert main(["up", "--interval", "7m"]) == 2
    assert "7m" in capsys.readouterr().err
