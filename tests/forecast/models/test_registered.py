"""Models that another package registers: each look-ahead is found by the name of the model."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.experiment import Experiment
from btcml.forecast.models import make_model
from btcml.market.simulate import SimulatedMarket

THEIRS = '''
import numpy as np
from btcml.forecast.models.statistical import Drift

class Forecaster:
    pass

class Path(Drift):
    """Reads the next return in the path."""
    def predict(self, sample):
        return sample.path[np.minimum(sample.rows + 1, len(sample.path) - 1)]

class Outcomes(Drift):
    """Reads the outcomes, where there are any."""
    def predict(self, sample):
        return sample.y if len(sample.y) else super().predict(sample)

class Remembering(Drift):
    """Keeps the path that it is fitted on, and what that is a part of."""
    def fit(self, sample):
        self.path = sample.path if sample.path.base is None else sample.path.base
        return super().fit(sample)
    def predict(self, sample):
        later = sample.rows + 1 < len(self.path)
        return np.where(later, self.path[np.minimum(sample.rows + 1, len(self.path) - 1)], self.mean)

class Standardised(Drift):
    """Divides the features by their deviation over all rows."""
    def predict(self, sample):
        return sample.x[:, 0] / sample.x[:, 0].std()

class Random(Drift):
    def predict(self, sample):
        return np.random.default_rng().normal(size=len(sample.rows))

class Failing(Drift):
    def fit(self, sample):
        raise RuntimeError("no weights here")

class Short(Drift):
    def predict(self, sample):
        return sample.x[:1, 0]
'''
NAMES = ["Drift", "Forecaster", "Path", "Outcomes", "Remembering", "Standardised", "Random", "Failing", "Short"]


@pytest.fixture(autouse=True)
def _registered(tmp_path, monkeypatch):
    """A package that registers them, as an installed one does."""
    (tmp_path / "theirs.py").write_text(THEIRS, encoding="utf-8")
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"their_{name.lower()} = theirs:{name}\n" for name in NAMES)
    (facts / "entry_points.txt").write_text(f"[btcml.models]\n{points}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("theirs", None)


@pytest.fixture(scope="module")
def candles():
    start = pd.Timestamp("2025-01-01", tz="UTC")
    return SimulatedMarket().fetch_candles("BTCUSDT", "1h", start, start + pd.Timedelta(days=60))


def run(candles, *models):
    """Result of these models in walk-forward."""
    return Experiment.default(candles, "1h").replace(models=models).run(candles, jobs=1)


def test_another_package_registers_models_by_name():
    """Three lines of its pyproject; a forecaster is none of ours, and the judge is named."""
    assert type(make_model("their_drift").model).__name__ == "Drift"
    with pytest.raises(UsageError, match="found Forecaster: judge it by btcml judge"):
        make_model("their_forecaster")
    with pytest.raises(UsageError, match="their_drift, their_failing"):
        make_model("nobody")


def test_a_registered_model_that_does_not_look_ahead_is_judged_as_ours(candles):
    """Our own model under another name has the same forecasts, saved and loaded too."""
    table = run(candles, "drift", "their_drift").scores(metrics=["mae_bp", "ratio"]).set_index("model")
    assert table.loc["their_drift"].equals(table.loc["drift"].rename("their_drift"))
    assert make_model("their_drift").load({"drift.json": b'{"mean": 2}'}).dump() == {"drift.json": b'{"mean": 2.0}'}


@pytest.mark.parametrize("name", ["path", "standardised", "random"])
def test_a_registered_model_that_looks_ahead_is_refused_by_name(candles, name):
    """Its forecasts of earlier rows change with later candles."""
    with pytest.raises(UsageError, match=f"the model their_{name} looks ahead, or draws random numbers"):
        run(candles, f"their_{name}")


def test_a_registered_model_is_given_no_outcome_and_no_later_path(candles):
    """What it would take from them it does not find: its forecasts are those without."""
    found = run(candles, "their_drift", "their_outcomes", "their_remembering").forecasts
    drift, outcomes, remembering = (
        found.loc[found["model"] == f"their_{name}", "y_hat"].tolist() for name in ("drift", "outcomes", "remembering")
    )
    assert outcomes == drift
    assert remembering == drift


def test_a_registered_model_that_fails_is_one_sentence(candles):
    """With its name."""
    with pytest.raises(NotReadyError, match="the model their_failing failed: RuntimeError: no weights here"):
        run(candles, "their_failing")
    with pytest.raises(NotReadyError, match=r"the model their_short failed: \d+ numbers were expected, found float32"):
        run(candles, "their_short")
