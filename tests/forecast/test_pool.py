"""Models that are fitted on several symbols."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast.artifacts import load_forecaster, save_forecaster
from btcml.forecast.dataset import make_dataset
from btcml.forecast.experiment import Experiment
from btcml.forecast.forecaster import train_forecaster
from btcml.forecast.models import make_model, members_of, stack

POOL = Experiment(
    "5m",
    "2025-01-15",
    models=("ridge", "autoreg", "others_ridge", "others_autoreg", "pooled_ridge"),
    window=None,
    refit="2 days",
    purge=12,
    burn_in=None,
    pool=("COPYUSDT",),
)


def _close(result, model):
    frame = result.forecasts
    return frame.loc[frame["model"] == model, "y_hat"].to_numpy()


def test_a_model_of_other_symbols_alone_is_that_of_a_copy(candles):
    """The same candles under another name give the same bits; both together give another fit."""
    result = POOL.run(candles, others={"COPYUSDT": candles}, jobs=1)
    np.testing.assert_array_equal(_close(result, "others_ridge"), _close(result, "ridge"))
    np.testing.assert_array_equal(_close(result, "others_autoreg"), _close(result, "autoreg"))
    assert (_close(result, "pooled_ridge") != _close(result, "ridge")).any()


def test_candles_of_other_symbols_after_the_cutoff_change_nothing(candles):
    """The mirrored future of the pool, each return with the other sign, leaves every forecast bit for bit."""
    plan = POOL.replace(models=("pooled_ridge",))
    later = candles["open_time"] > plan.folds(candles)["cutoff"].iloc[-1]
    last, other = candles.loc[~later, "close"].iloc[-1], candles.copy()
    mirrored = last**2 / candles.loc[later, ["open", "low", "high", "close"]]
    other.loc[later, ["open", "high", "low", "close"]] = mirrored.to_numpy()
    both = [plan.run(candles, others={"COPYUSDT": frame}, jobs=1).forecasts for frame in (candles, other)]
    pd.testing.assert_frame_equal(*both, check_exact=True)
    assert later.sum() > 2 * 288


def test_rows_of_several_series_are_fitted_on_together_and_keep_their_own_past(candles):
    """A row's position leads to its own series in the joined path."""
    parts = (candles.iloc[:2000], candles.iloc[1500:].reset_index(drop=True))
    first, second = (make_dataset(part, "5m") for part in parts)
    rows = [np.array([900, 1000]), np.array([800])]
    joined = stack([data.sample.at(own) for data, own in zip((first, second), rows, strict=True)])
    paths = [data.sample.path[own] for data, own in zip((first, second), rows, strict=True)]
    np.testing.assert_array_equal(joined.path[joined.rows], np.concatenate(paths))
    assert joined.x.shape[0] == len(joined.y) == 3


def test_a_pooled_champion_is_saved_and_forecasts_as_it_was_fitted(candles, tmp_path):
    """The saved model needs no other symbol."""
    plan = POOL.replace(models=("ridge", "pooled_ridge"))
    others = {"COPYUSDT": candles.assign(close=candles["close"][::-1].to_numpy())}
    fitted = train_forecaster(candles, plan, champion="pooled_ridge", others=others, jobs=1)
    folder = save_forecaster(fitted, tmp_path / "pooled", candles)
    made = load_forecaster(folder).predict(candles)
    assert made.model == "pooled_ridge"
    assert made.close == fitted.predict(candles).close
    assert made.closes["ridge"] != made.close


def test_the_published_experiment_has_a_pooled_challenger_where_symbols_are_given(candles):
    """It is that experiment all the same, and its pooled model may be served."""
    chosen = Experiment.default(candles, "5m", pool=("ETHUSDT",))
    assert chosen.models[-1] == "pooled_lightgbm_mean"
    assert chosen.differences(candles) == {}
    assert members_of("pooled_lightgbm_mean") == tuple(f"pooled_{name}" for name in members_of("lightgbm_mean"))
    assert type(make_model("pooled_ridge")) is type(make_model("ridge"))


def test_a_pool_without_candles_and_a_pooled_model_without_a_pool_are_refused(candles):
    """Each with what to do."""
    with pytest.raises(UsageError, match="fitted on other symbols, found none: name at least one"):
        POOL.replace(pool=())
    with pytest.raises(UsageError, match="needs candles of COPYUSDT for its pool, found none"):
        POOL.run(candles, jobs=1)
