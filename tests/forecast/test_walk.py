"""The walk-forward: one long frame, out-of-sample rows, the same bits for any number of processes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast import walk
from btcml.forecast.dataset import make_dataset, ticks
from btcml.forecast.experiment import Experiment
from btcml.forecast.metrics import FORECAST_COLUMNS
from btcml.forecast.models.boosting import Bins
from btcml.forecast.walk import walk_horizons

EXPERIMENT = Experiment(
    "5m",
    "2025-01-15",
    models=("drift", "ridge", "autoreg", "lightgbm_l1"),
    window=None,
    refit="2 days",
    purge=12,
    burn_in="3 days",
)
MODELS = sorted(["persistence", *EXPERIMENT.models])
SHORT = EXPERIMENT.replace(test_from="2025-01-17", models=("drift",), burn_in=None)


@pytest.fixture(scope="module")
def result(candles):
    """One run for all tests that only look."""
    return EXPERIMENT.run(candles, jobs=1)


def test_the_frame_is_long_sorted_and_has_the_agreed_columns(result):
    """One row for each model and test candle."""
    frame = result.forecasts
    assert tuple(frame.columns) == (*FORECAST_COLUMNS, "open", "high", "low", "amp")
    assert list(frame["model"].unique()) == MODELS
    assert frame.groupby("model", observed=True)["open_time"].apply(list).map(len).tolist() == [4 * 288] * 5
    assert frame.groupby("model", observed=True)["open_time"].is_monotonic_increasing.all()


def test_persistence_is_the_close_before_and_outcomes_are_the_candles_own(result, candles):
    """base, y and y_hat against the candles by time."""
    rows = result.forecasts[result.forecasts["model"] == "persistence"].set_index("open_time")
    close = candles.set_index("open_time")["close"]
    assert (rows["y_hat"] == rows["base"]).all()
    np.testing.assert_allclose(rows["y"], close[rows.index], rtol=1e-12)
    np.testing.assert_array_equal(rows["base"], close[rows.index - pd.Timedelta(minutes=5)])


def test_every_forecast_was_fitted_before_it(result):
    """The cutoff lies a purge before the fold's first forecast."""
    gap = result.forecasts["open_time"] - result.forecasts["cutoff"]
    assert gap.min() == 13 * pd.Timedelta(minutes=5)


def test_intervals_and_probabilities_stand_beside_every_model_but_persistence(result):
    """The interval holds about 90 % and lies around the last close; persistence has no probability."""
    frame = result.forecasts
    assert frame["lo"].lt(frame["base"]).all()
    assert frame["hi"].gt(frame["base"]).all()
    assert frame["y"].between(frame["lo"], frame["hi"]).mean() == pytest.approx(0.9, abs=0.04)
    assert frame["prob_up"].isna().eq(frame["model"] == "persistence").all()
    assert frame["prob_up"].dropna().between(0, 1).all()


def test_forecast_highs_and_lows_hold_the_forecast_open_and_close(result):
    """A forecast candle is a candle."""
    frame = result.forecasts
    assert (frame["high"] >= frame[["open", "y_hat"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "y_hat"]].min(axis=1)).all()
    assert (frame["amp"] == frame["high"] - frame["low"]).all()


def test_another_level_widens_the_interval_and_is_scored_as_such(candles, result):
    """The frame carries a level that is not the published one."""
    wide = EXPERIMENT.replace(level=0.99, models=("drift",)).run(candles, jobs=1).forecasts
    assert set(wide["level"]) == {0.99}
    assert wide["y"].between(wide["lo"], wide["hi"]).mean() == pytest.approx(0.99, abs=0.01)
    assert "level" not in result.forecasts


def test_range_models_beat_persistence_on_the_log_range(result):
    """What is known to be predictable is forecast."""
    table = result.range_scores().set_index("model")["mse_ratio"]
    assert table["persistence"] == 1
    assert (table.drop("persistence") < 1).all()


def test_two_processes_give_the_same_bits_as_one(candles, result):
    """Neither the number of processes nor what runs them is in a forecast."""
    again = EXPERIMENT.run(candles, jobs=2, backend="threading")
    pd.testing.assert_frame_equal(again.forecasts, result.forecasts, check_exact=True)
    pd.testing.assert_frame_equal(again.ranges, result.ranges, check_exact=True)


def test_a_mean_is_made_of_members_that_are_fitted_once(candles):
    """lightgbm_mean beside one of its members, on another target too."""
    frame = SHORT.forecast(candles, "open", ["lightgbm_mean", "lightgbm_l1"], features="core", jobs=1)
    assert set(frame["model"].unique()) == {"persistence", "lightgbm_l1", "lightgbm_mean"}
    assert frame["lo"].isna().all()


def test_suspect_rows_are_forecast_but_not_learned_from(candles):
    """A broken close within a day leaves the model as it was where the day is marked as suspect."""
    suspects = np.zeros(len(candles), dtype=bool)
    suspects[3200:3260] = True
    broken = candles.copy()
    broken.loc[3200:3259, "close"] *= 1.03
    broken["high"] = broken[["high", "close"]].max(axis=1)
    marked, unmarked = (make_dataset(broken, "5m", suspects=mask) for mask in (suspects, None))
    ends = candles["open_time"].iloc[[0, -1]]
    spoiled = set(unmarked.training_rows(*ends)) - set(marked.training_rows(*ends))
    assert set(range(3200, 3260)) <= spoiled
    assert marked.ready[3200:3260].all()


def test_a_suspect_candle_is_in_no_outcome_that_is_learned_from(candles):
    """At a horizon of 12 the rows up to 12 candles before it are left out too."""
    suspects = np.zeros(len(candles), dtype=bool)
    suspects[3200] = True
    data = make_dataset(candles, "5m", suspects=suspects)
    assert np.flatnonzero(data.suspect).tolist() == list(range(3199, 3212))
    assert np.flatnonzero(data.with_target("close", 12).suspect).tolist() == list(range(3188, 3212))


def test_a_stride_fits_on_the_newest_row_and_every_nth_before(candles):
    """Moves on rows at most the horizon apart: the next candle on all rows; sizes, which are easier, on fewer."""
    data = dataclasses.replace(make_dataset(candles, "5m"), stride=5)
    ends = candles["open_time"].iloc[[2500, 4500]]
    all_rows, third, fifth = (data.with_target("close", h).training_rows(*ends) for h in (1, 3, 9))
    sizes = data.with_target("log_range", 3).training_rows(*ends)
    assert np.diff(all_rows).max() == 1
    assert set(np.diff(sizes)) == {5}
    assert set(np.diff(third)) == {3}
    assert set(np.diff(fifth)) == {5}
    assert third[-1] + 3 == fifth[-1] + 9 == all_rows[-1] + 1


def test_a_mask_of_another_length_is_refused(candles):
    """One boolean per candle."""
    with pytest.raises(UsageError, match="one boolean per candle"):
        make_dataset(candles, "5m", suspects=np.zeros(3, dtype=bool))
    with pytest.raises(UsageError, match="a target is one of"):
        SHORT.forecast(candles, "profit", ["drift"], jobs=1)
    with pytest.raises(UsageError, match="at least 1 process, found 0"):
        SHORT.run(candles, jobs=0)


def test_forecast_candles_use_no_later_candle(candles):
    """Another future leaves every forecast before it bit for bit."""
    cut = len(candles) - 100
    other = candles.copy()
    other.loc[cut:, ["open", "high", "low", "close"]] *= 1.5
    frames = [SHORT.replace(refit="1 days").run(frame, jobs=1).forecasts for frame in (candles, other)]
    known = [frame[frame["open_time"] < candles["open_time"][cut]].reset_index(drop=True) for frame in frames]
    columns = ["open_time", "model", "y_hat", "open", "high", "low", "amp", "lo", "hi", "prob_up"]
    pd.testing.assert_frame_equal(known[0][columns], known[1][columns], check_exact=True)


def test_fits_that_share_their_bins_are_those_of_each_alone(candles, monkeypatch):
    """Of many rows; the bins come from rows that are known at the last outcome of the training."""
    monkeypatch.setattr("btcml.forecast.models.boosting.LARGE_ROWS", 100)
    seen = []
    monkeypatch.setattr(walk, "Bins", lambda x, names, rows: seen.append(rows) or Bins(x, names, rows))
    plan = Experiment("5m", candles["open_time"].iloc[-600].isoformat(), models=("lightgbm_l1",), purge=48)
    data, folds = plan.dataset(candles), plan.plan.folds(candles["open_time"], "5m")
    both = walk_horizons(data, folds, (1, 12), ("lightgbm_l1", "lightgbm_huber"), jobs=1)
    for h, model in ((1, "lightgbm_huber"), (12, "lightgbm_l1")):
        alone = walk_horizons(data, folds, (h,), (model,), jobs=1)[h].close.raw[model]
        np.testing.assert_array_equal(both[h].close.raw[model], alone)
    assert {data.made_time[rows[-1]] for rows in seen} <= {ticks(fold.cutoff) + data.prepared.step_us for fold in folds}
