"""Verbs of the service."""

from __future__ import annotations

import json
from types import SimpleNamespace

from btcml.cli import main


def test_predict_answers_the_horizon_that_is_asked_for(store, home, monkeypatch, capsys):  # noqa: ARG001 - a database
    """Omitted, the next candle."""
    made = SimpleNamespace(at=lambda horizon: SimpleNamespace(to_dict=lambda: {"horizon": horizon}))
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setattr("btcml.pipeline.predict.predict", lambda *_: made)
    for given, expected in (([], 1), (["--horizon", "12"], 12)):
        assert main(["predict", "--source", "simulated", "--json", *given]) == 0
        assert json.loads(capsys.readouterr().out)["horizon"] == expected
