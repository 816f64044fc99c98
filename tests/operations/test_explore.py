"""In Jupyter: a light import, a handful of names, results that explain themselves; all of it offline."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

import btcml
from btcml.candles import SeriesKey
from btcml.errors import NotReadyError
from btcml.forecast.forecaster import Prediction
from btcml.pipeline.explore import NextForecast
from btcml.store.candles import read_series_keys


@pytest.fixture
def offline(store, home, monkeypatch):
    """A user's environment with the simulated market and the test's own database."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setenv("BTCML_SOURCE", "simulated")
    return store


def test_importing_btcml_loads_neither_pandas_nor_scikit_learn():
    """`import btcml` is light; the names are there for autocompletion all the same."""
    code = (
        "import sys, btcml; assert 'read_candles' in dir(btcml); "
        "print(sorted(set(sys.modules) & {'pandas', 'numpy', 'sklearn', 'lightgbm', 'sqlalchemy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_refused():
    """As from any module."""
    with pytest.raises(AttributeError, match="no attribute 'read_candels'"):
        _ = btcml.read_candels


def test_candles_are_fetched_once_and_then_read(offline):
    """The second call finds them in the database."""
    candles = btcml.read_candles(days=3)
    assert read_series_keys(offline) == [SeriesKey("simulated", "BTCUSDT", "5m")]
    again = btcml.read_candles(days=2)
    assert len(candles) > len(again) > 500


def test_features_carry_the_time_of_their_candle(offline):  # noqa: ARG001
    """So that they can be plotted and joined."""
    candles = btcml.read_candles(days=2)
    frame = btcml.feature_frame(candles)
    assert list(frame.index) == list(candles["open_time"])
    assert len(btcml.feature_frame(candles, ["ema_gap_2"]).columns) == 1


def test_an_experiment_shows_its_verdict_before_its_table(offline):  # noqa: ARG001
    """Persistence in the first row; the sentence says whether it was beaten."""
    candles = btcml.read_candles(days=25)
    result = btcml.Experiment.default(candles, "5m").replace(models=("ridge",)).run(candles, jobs=1)
    page = result._repr_html_()
    assert list(result.scores()["model"]) == ["persistence", "ridge"]
    assert result.verdict.reason in page
    assert page.index("<p>") < page.index("<table")


def test_a_forecast_before_any_training_is_an_error_with_advice(offline):  # noqa: ARG001
    """One sentence, as from every face of btcml."""
    with pytest.raises(NotReadyError, match="btcml train"):
        btcml.predict_next()


def test_the_next_candle_is_a_table_for_people():
    """Prices, interval, probability, model."""
    time = pd.Timestamp("2025-06-30 12:00", tz="UTC")
    made = Prediction(
        time, 100.0, open=100.0, high=101.0, low=99.5, close=100.5, amp=1.5, lo=99.0, hi=101.0, prob_up=0.55,
        model="huber", closes={},
    )  # fmt: skip
    shown = NextForecast("simulated/BTCUSDT/5m", made, "beats <it>")._repr_html_()
    assert "100.50 (+0.50)" in shown
    assert "beats &lt;it&gt;" in shown
