"""Models that another package registers: each look-ahead is found by the name of the model."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from btcml.errors import NotReadyError, UsageError
from btcml.forecast import registered
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

class Greedy(Drift):
    def fit(self, sample):
        np.ones((1 << 17, 1 << 17))

class Exiting(Drift):
    def fit(self, sample):
        import os
        os._exit(3)

class Endless(Drift):
    def fit(self, sample):
        import time
        time.sleep(10_000)

class Short(Drift):
    def predict(self, sample):
        return sample.x[:1, 0]
'''
NAMES = [
    "Drift",
    "Forecaster",
    "Path",
    "Outcomes",
    "Remembering",
    "Standardised",
    "Random",
    "Failing",
    "Short",
    "Greedy",
]
NAMES += ["Exiting", "Endless"]


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
    """Result of these models, fitted once."""
    experiment = Experiment.default(candles, "1h").replace(models=models, refit="12 months", burn_in=None)
    return experiment.run(candles, jobs=1)


def test_another_package_registers_models_by_name():
    """Three lines of its pyproject; a forecaster is none of ours, and the judge is named."""
    assert type(make_model("their_drift").model).__name__ == "Drift"
    with pytest.raises(UsageError, match="found Forecaster: judge it by btcml judge"):
        make_model("their_forecaster")
    with pytest.raises(UsageError, match="their_drift, their_endless, their_exiting, their_failing"):
        make_model("nobody")


def test_a_registered_model_that_does_not_look_ahead_is_judged_as_ours(candles):
    """Our own model under another name has the same forecasts, saved and loaded too."""
    table = run(candles, "drift", "their_drift").scores(metrics=["mae_bp", "ratio"]).set_index("model")
    assert table.loc["their_drift"].equals(table.loc["drift"].rename("their_drift"))
    assert make_model("their_drift").load({"drift.json": b'{"mean": 2}'}).dump() == {"drift.json": b'{"mean": 2.0}'}


@pytest.mark.parametrize("name", ["path", "standardised", "random"])
def test_a_registered_model_that_looks_ahead_is_refused_by_name(candles, name):
    """Its forecasts of earlier rows change with later candles."""
    with pytest.raises(NotReadyError, match=f"their_{name} failed: it looks ahead, or draws random numbers"):
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
    with pytest.raises(NotReadyError, match=r"^their_failing failed: RuntimeError: no weights here$"):
        run(candles, "their_failing")
    with pytest.raises(NotReadyError, match=r"^their_short failed: \d+ numbers were expected, found float32 of shape"):
        run(candles, "their_short")


def test_beside_another_model_a_failure_is_a_row(candles):
    """Crash, too much memory, too much time and an exit: the other model is judged as without it."""
    result = run(candles, "drift", "their_failing", "their_greedy", "their_exiting")
    assert list(result.failed) == ["their_failing", "their_greedy", "their_exiting"]
    assert "MemoryError" in result.failed["their_greedy"]
    assert result.failed["their_exiting"] == "their_exiting failed: status 3"
    pd.testing.assert_frame_equal(result.scores(), run(candles, "drift").scores())
    assert result.to_dict()["failed"][0] == {"model": "their_failing", "why": result.failed["their_failing"]}
    assert "their_failing failed: RuntimeError: no weights here" in str(result)


def test_a_registered_model_that_does_not_end_is_ended(candles, monkeypatch):
    """With those that it has started."""
    monkeypatch.setattr(registered, "SECONDS", 0.5)
    data = Experiment.default(candles, "1h").dataset(candles)
    with pytest.raises(NotReadyError, match=r"their_endless failed: it did not end within 0\.5 s"):
        registered.forecast_apart("their_endless", data.sample, data.sample)
