"""The back-test: one long frame, honest rows, the same bits however many processes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast.backtest import COLUMNS, run_backtest, run_backtests
from btcml.forecast.splits import WalkForward

PLAN = WalkForward("2025-01-15", window=None, refit="2 days", purge=12, burn_in="3 days")
MODELS = ["persistence", "drift", "ridge", "autoreg", "lightgbm_l1"]


@pytest.fixture(scope="module")
def both(candles):
    """One walk for all tests that only look."""
    return run_backtests(candles, "5m", MODELS, PLAN, range_models=("ewma", "har", "linear", "range_boosting"), jobs=1)


def test_the_frame_is_long_sorted_and_has_the_agreed_columns(both):
    """One row for each model and test candle."""
    frame = both.close
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["model"].unique()) == sorted(MODELS)
    assert frame.groupby("model", observed=True)["open_time"].apply(list).map(len).tolist() == [4 * 288] * 5
    assert frame.groupby("model", observed=True)["open_time"].is_monotonic_increasing.all()


def test_persistence_is_the_close_before_and_outcomes_are_the_candles_own(both, candles):
    """base, y and y_hat against the candles by time."""
    rows = both.close[both.close["model"] == "persistence"].set_index("open_time")
    close = candles.set_index("open_time")["close"]
    assert (rows["y_hat"] == rows["base"]).all()
    np.testing.assert_allclose(rows["y"], close[rows.index], rtol=1e-12)
    np.testing.assert_array_equal(rows["base"], close[rows.index - pd.Timedelta(minutes=5)])


def test_every_forecast_was_fitted_before_it(both):
    """The cutoff lies a purge before the fold's first forecast."""
    gap = both.close["open_time"] - both.close["cutoff"]
    assert gap.min() == 13 * pd.Timedelta(minutes=5)


def test_intervals_and_probabilities_stand_beside_every_model_but_persistence(both):
    """The interval holds about 90 % and lies around the last close; persistence has no probability."""
    frame = both.close
    assert frame["lo"].lt(frame["base"]).all()
    assert frame["hi"].gt(frame["base"]).all()
    assert frame["y"].between(frame["lo"], frame["hi"]).mean() == pytest.approx(0.9, abs=0.04)
    assert frame["prob_up"].isna().eq(frame["model"] == "persistence").all()
    assert frame["prob_up"].dropna().between(0, 1).all()


def test_range_models_beat_persistence_on_the_log_range(both):
    """What is known to be forecastable is forecast."""
    error = (both.log_range["y_hat"] - both.log_range["y"]) ** 2
    mean = error.groupby(both.log_range["model"], observed=True).mean()
    assert (mean.drop("persistence") < mean["persistence"]).all()


def test_two_processes_give_the_same_bits_as_one(candles, both):
    """Neither the number of processes nor what runs them is in a forecast."""
    again = run_backtest(candles, "5m", MODELS, PLAN, jobs=2, backend="threading")
    pd.testing.assert_frame_equal(again, both.close, check_exact=True)


def test_a_mean_is_made_of_members_that_are_fitted_once(candles):
    """lightgbm_mean beside one of its members, on another target too."""
    plan = WalkForward("2025-01-17", window=None, refit="2 days", purge=12, burn_in=None)
    frame = run_backtest(candles, "5m", ["lightgbm_mean", "lightgbm_l1"], plan, target="open", jobs=1)
    assert set(frame["model"].unique()) == {"persistence", "lightgbm_l1", "lightgbm_mean"}
    assert frame["lo"].isna().all()


def test_one_model_may_be_named_without_a_list(candles):
    """Its name is not taken for a list of letters, and an unknown one is told the means, too."""
    plan = WalkForward("2025-01-17", window=None, refit="2 days", purge=12, burn_in=None)
    frame = run_backtest(candles, "5m", "drift", plan, target="open", jobs=1)
    assert set(frame["model"].unique()) == {"persistence", "drift"}
    with pytest.raises(UsageError, match=r"lightgbm_mean.* found 'oracle'"):
        run_backtest(candles, "5m", "oracle", plan, jobs=1)


def test_suspect_rows_are_forecast_but_not_learned_from(candles):
    """Broken closes before the test change every forecast, unless they are marked as suspect."""
    rows = slice(3200, 3260)
    broken = candles.copy()
    broken.loc[rows, "close"] *= 1.03
    broken["high"] = broken[["high", "close"]].max(axis=1)
    suspects = np.zeros(len(candles), dtype=bool)
    suspects[rows] = True
    plan = WalkForward("2025-01-17", window=None, refit="2 days", purge=12, burn_in=None)
    frames = [
        run_backtest(frame, "5m", ["drift"], plan, target="open", suspects=suspects, jobs=1)
        for frame in (candles, broken)
    ]
    unmarked = run_backtest(broken, "5m", ["drift"], plan, target="open", jobs=1)
    apart = [frame.loc[frame["model"] == "drift", "y_hat"].to_numpy() for frame in (*frames, unmarked)]
    clean = np.abs(apart[0] / apart[1] - 1).max()
    assert clean < np.abs(apart[0] / apart[2] - 1).max()


def test_mistakes_are_told_in_one_sentence(candles):
    """Unknown model, target, and a mask of another length."""
    with pytest.raises(UsageError, match="a model is one of"):
        run_backtest(candles, "5m", ["oracle"], PLAN, jobs=1)
    with pytest.raises(UsageError, match="a target is one of"):
        run_backtest(candles, "5m", ["drift"], PLAN, target="profit", jobs=1)
    with pytest.raises(UsageError, match="one boolean a candle"):
        run_backtest(candles, "5m", ["drift"], PLAN, suspects=np.zeros(3, dtype=bool), jobs=1)
