"""Training and predicting: what is served is what the walk-forward would have said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from btcml.errors import ArtifactError, NotReadyError, UsageError
from btcml.forecast import forecaster as module
from btcml.forecast.artifacts import load_forecaster, save_forecaster
from btcml.forecast.experiment import Experiment
from btcml.forecast.forecaster import train_forecaster, train_horizons

MODELS = ("lightgbm_l1", "autoreg", "ridge")
EXPERIMENT = Experiment("5m", "2025-01-15", models=MODELS)


@pytest.fixture(scope="module")
def forecaster(candles):
    """A small forecaster."""
    return train_forecaster(candles.iloc[:-300], EXPERIMENT, champion="ridge", jobs=1)


def test_a_prediction_is_consistent_and_names_its_model(forecaster, candles):
    """High over all, low under all, the interval around the last close, challengers beside it."""
    found = forecaster.predict(candles)
    assert found.open_time == candles["open_time"].iloc[-1] + pd.Timedelta(minutes=5)
    assert found.last_close == candles["close"].iloc[-1]
    assert found.low <= min(found.open, found.close) <= max(found.open, found.close) <= found.high
    assert found.amp == found.high - found.low
    assert found.lo < found.last_close < found.hi
    assert 0 < found.prob_up < 1
    assert found.model == "ridge"
    assert set(found.closes) == {"persistence", *MODELS}
    assert found.close == found.closes["ridge"]


def test_the_next_candle_has_quantiles_that_agree_with_its_interval(forecaster, candles):
    """They ascend, hold the interval at its level and the probability up; models saved before have none."""
    found = forecaster.predict(candles)
    made = found.distribution
    assert made.interval(0.9) == pytest.approx((found.lo, found.hi), rel=1e-12)
    assert made.probability_above(found.last_close) == pytest.approx(found.prob_up, abs=0.001)
    assert made.quantile(0.01) < found.lo < made.quantile(0.25) < made.quantile(0.75) < found.hi < made.quantile(0.99)
    assert made.expected_bp == pytest.approx(1e4 * np.log(found.close / found.last_close))
    older = replace(forecaster, quantiles=(), edges=())
    assert older.predict(candles) == replace(found, distribution=None)


def test_a_prediction_is_traded_only_where_its_model_is_proven(forecaster, candles):
    """Ridge moves by less than 5 bp; persistence is never traded, also without cost."""
    found = forecaster.predict(candles)
    assert (found.decide(0).action, found.decide(5).action) != ("no trade", "no trade")
    assert found.decide(5).action == "no trade"
    plain = replace(forecaster, champion="persistence").predict(candles).decide(0)
    assert (plain.action, plain.reason) == ("no trade", "no trade: no model is proven to beat no change")


def test_the_live_forecast_equals_the_offline_one(candles):
    """One fold whose training rows are the forecaster's gives its closes to 1e-6 USD."""
    split = len(candles) - 400
    live = train_forecaster(candles.iloc[:split], EXPERIMENT, jobs=1)
    start = candles["open_time"].iloc[split] + pd.Timedelta(minutes=5)
    offline = EXPERIMENT.replace(test_from=start.isoformat(), window=None, refit=1000, purge=1, burn_in=None)
    frame = offline.run(candles, jobs=1).forecasts
    data = live.dataset(candles)
    raw = live.raw_forecasts(data, 300)
    for name in MODELS:
        rows = frame[frame["model"] == name].tail(299)
        factor = np.log(rows["y_hat"] / rows["base"]) / (raw[name][:-1] * data.prepared.scale[-300:-1])
        np.testing.assert_allclose(factor, factor.iloc[0], rtol=1e-6)


def test_persistence_is_served_until_a_champion_is_named(candles):
    """Law 3: no model without skill is served."""
    found = train_forecaster(candles, EXPERIMENT.replace(models=("autoreg",)), jobs=1).predict(candles)
    assert (found.model, found.close) == ("persistence", found.last_close)


def test_an_experiment_that_has_just_run_stands_in_for_the_first_fit(candles, monkeypatch):
    """Factors and interval come from its forecasts; nothing is walked twice."""
    raw = EXPERIMENT.replace(purge=12, burn_in=None).run(candles, jobs=1).raw
    monkeypatch.setattr(module, "walk_all", None)
    found = train_forecaster(candles, EXPERIMENT, champion="ridge", raw=raw, jobs=1)
    assert found.predict(candles).model == "ridge"
    assert found.metadata["samples"] > 4000


def test_too_few_candles_and_a_fresh_gap_are_not_ready(forecaster, candles):
    """409 in the service: what to do is said."""
    with pytest.raises(NotReadyError, match="training needs 2000 candles"):
        train_forecaster(candles.iloc[:500], EXPERIMENT)
    with pytest.raises(NotReadyError, match="a forecast needs"):
        forecaster.predict(candles.iloc[-50:])


def test_a_champion_must_be_among_the_models(candles):
    """The caller's mistake."""
    with pytest.raises(UsageError, match="the champion must be persistence or one of autoreg"):
        train_forecaster(candles, EXPERIMENT.replace(models=("autoreg",)), champion="oracle", jobs=1)


@pytest.fixture(scope="module")
def results(candles):
    """Results at two longer horizons."""
    experiment = Experiment.default(candles, "5m", (3, 12)).replace(models=("ridge",))
    return experiment.run(candles, jobs=1, incumbent={12: "ridge"}).family


def test_each_horizon_has_its_own_reigning_champion(results):
    """Where none is named, persistence."""
    assert [one.incumbent for one in results] == ["persistence", "ridge"]


@pytest.fixture(scope="module")
def ahead(results):
    """What is served at two longer horizons, where a verdict names persistence and a model champion."""
    near, far = results
    for one, champion in ((near, "persistence"), (far, "ridge")):
        one.__dict__["verdict"] = replace(one.verdict, champion=champion)
    return train_horizons((near, far), jobs=1, facts={"judged_at": "now"})


def test_longer_horizons_are_forecast_beside_the_next_candle(forecaster, ahead, candles):
    """Each with its own model, candle and distribution; the forecast of the next candle does not change."""
    made = replace(forecaster, horizons=ahead).predict_all(candles)
    assert list(made) == [1, 3, 12]
    assert made[1] == forecaster.predict(candles)
    for horizon in (3, 12):
        found = made[horizon]
        assert found.open_time == candles["open_time"].iloc[-1] + horizon * pd.Timedelta(minutes=5)
        assert found.low <= min(found.open, found.close) <= max(found.open, found.close) <= found.high
        assert (found.lo, found.hi) == found.distribution.interval(0.9)
        assert found.lo < found.last_close < found.hi
        assert 0 < found.prob_up < 1
    assert made[12].hi - made[12].lo > made[3].hi - made[3].lo
    assert (made[3].model, made[3].close) == ("persistence", made[3].last_close)
    assert made[12].model == "ridge"
    assert made[12].close != made[12].last_close
    assert made[12].closes == {"persistence": made[12].last_close, "ridge": made[12].close}
    assert (set(ahead[3].models), ahead[3].facts["champion"]) == ({"range_boosting", "volatility"}, "persistence")


def test_models_of_longer_horizons_are_saved_and_checked_with_the_others(forecaster, ahead, candles, tmp_path):
    """The same forecasts when loaded; a changed factor is found by the golden rows."""
    whole = replace(forecaster, horizons=ahead)
    folder = save_forecaster(whole, tmp_path / "model", candles)
    loaded = load_forecaster(folder)
    assert loaded.predict_all(candles) == whole.predict_all(candles)
    assert loaded.horizons[12].facts == ahead[12].facts
    facts = json.loads((folder / "manifest.json").read_text())
    facts["horizons"][1]["factor"] *= 100
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"12-ahead.served must forecast its golden rows"):
        load_forecaster(folder)


def test_models_of_a_horizon_are_not_fitted_from_the_next_candles_result(candles):
    """It has no forecasts of the volatility."""
    result = EXPERIMENT.replace(models=("ridge",)).run(candles, jobs=1)
    with pytest.raises(UsageError, match="fitted from the result of a run at it"):
        train_horizons([result])
