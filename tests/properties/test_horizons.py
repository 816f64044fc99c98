"""Several horizons from one walk: none sees past its own forecasts, and the next candle's figures stay as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.forecast import calibration, walk
from btcml.forecast.dataset import Dataset
from btcml.forecast.experiment import Experiment, Result

from .lookahead import scrambled, simulated

CANDLES = simulated(9)
HORIZONS = (1, 3, 12)
PLAN = Experiment(
    "5m",
    "2025-03-07",
    models=("ridge",),
    window=None,
    refit="2 days",
    purge=12,
    burn_in="1 days",
    horizons=HORIZONS,
)
FIRST = int(np.searchsorted(CANDLES["open_time"], pd.Timestamp("2025-03-07", tz="UTC")))
SAID = ("y_hat", "lo", "hi", "prob_up", "high", "low")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few trees, and factors from the first day on: what is proved does not depend on them."""
    original = walk.make_model

    def quicker(name):
        model = original(name)
        for part in (model, getattr(model, "_trees", None)):
            if hasattr(part, "rounds"):
                part.rounds = 3
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "make_model", quicker)
        patch.setattr(calibration, "MIN_DAYS", 1)
        yield


@pytest.fixture(scope="module")
def result(quick):  # noqa: ARG001 - the same models as everywhere here
    """One run for the tests that only look."""
    return PLAN.run(CANDLES, jobs=1)


def forecasts(candles: pd.DataFrame) -> dict[int, np.ndarray]:
    """What is forecast of close, range and volatility by horizon, a row for each target candle in order of time."""
    return {part.horizon: _said(part) for part in PLAN.run(candles, jobs=1).family}


def _said(part: Result) -> np.ndarray:
    wide = [
        frame.pivot_table(
            index="open_time", columns="model", values=[name for name in SAID if name in frame], observed=True
        ).reindex(CANDLES["open_time"][FIRST:])
        for frame in (part.forecasts, part.ranges, part.volatility)
    ]
    return np.hstack([frame.to_numpy() for frame in wide])


def changed_before(t: int) -> dict[int, bool]:
    """By horizon, whether a forecast made at or before t, of candles up to t + h, changes with the future of t."""
    before, after = forecasts(CANDLES), forecasts(scrambled(CANDLES, t))
    same = {h: np.array_equal(before[h], after[h], equal_nan=True) for h in HORIZONS}
    assert not any(same.values())  # the future itself has changed
    rows = {h: t + h + 1 - FIRST for h in HORIZONS}
    return {h: not np.array_equal(before[h][: rows[h]], after[h][: rows[h]], equal_nan=True) for h in HORIZONS}


def test_no_forecast_made_at_or_before_t_changes_at_any_horizon():
    """Neither the close nor its bounds and probability, nor range and volatility."""
    assert changed_before(FIRST + 310) == {1: False, 3: False, 12: False}


def training_up_to_the_forecast(monkeypatch):
    """Fit on outcomes that end up to a horizon after the first forecast."""
    original = Dataset.training_rows

    def leaking(self, start, cutoff):
        return original(self, start, cutoff + (PLAN.purge + self.horizon) * pd.Timedelta(minutes=5))

    monkeypatch.setattr(Dataset, "training_rows", leaking)


def factor_of_the_target_day(monkeypatch):
    """Learn the factor from all days before the target's, as if the forecast were made on that day."""
    original = walk.trailing_factor

    def leaking(losses, day, prior, caution=1.0, made=None):  # noqa: ARG001 - that is the leak
        return original(losses, day, prior, caution)

    monkeypatch.setattr(walk, "trailing_factor", leaking)


def quantiles_of_the_target_day(monkeypatch):
    """Learn the distribution from all days before the target's, as if the forecast were made on that day."""
    original = walk.distribution_columns

    def leaking(outcome, center, scale, reference, day, made, level):  # noqa: ARG001
        return original(outcome, center, scale, reference, day, day, level)

    monkeypatch.setattr(walk, "distribution_columns", leaking)


def share_of_the_row_before(monkeypatch):
    """Take the outcome of the row before as known, as it is for the next candle only."""
    original = pd.Series.shift
    monkeypatch.setattr(pd.Series, "shift", lambda self, *_args, **_kwargs: original(self, 1))


MIDNIGHT = int(np.searchsorted(CANDLES["open_time"], pd.Timestamp("2025-03-09", tz="UTC")))
LEAKS = {
    training_up_to_the_forecast: FIRST + 5,
    factor_of_the_target_day: MIDNIGHT - 8,
    quantiles_of_the_target_day: MIDNIGHT - 8,
    share_of_the_row_before: FIRST + 310,
}


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__.replace("_", " "))
def test_a_leak_of_a_horizon_is_caught(leak, monkeypatch):
    """Each mechanism by name, at the horizon of twelve candles."""
    leak(monkeypatch)
    assert changed_before(LEAKS[leak])[12]


def test_the_next_candle_is_forecast_as_if_it_were_the_only_horizon(result):
    """To the bit; other horizons only make its p larger, by Holm."""
    alone = PLAN.replace(horizons=(1,)).run(CANDLES, jobs=1)
    among = result.at(1)
    pd.testing.assert_frame_equal(alone.forecasts, among.forecasts[list(alone.forecasts)], check_exact=True)
    pd.testing.assert_frame_equal(alone.ranges, among.ranges, check_exact=True)
    one, many = (part.verdict.table.set_index("model") for part in (alone, among))
    pd.testing.assert_frame_equal(one[["ratio", "z", "p"]], many[["ratio", "z", "p"]], check_exact=True)
    assert (many["p_once"] >= one["p_once"]).all()


def test_every_horizon_has_its_own_candles_persistence_and_verdict(result):
    """The base is the close h candles before the target; persistence has skill 0, exactly; Holm counts all models."""
    close = CANDLES.set_index("open_time")["close"]
    for part in result.family:
        rows = part.forecasts[part.forecasts["model"] == "persistence"].set_index("open_time")
        made_on = rows.index - part.horizon * pd.Timedelta(minutes=5)
        np.testing.assert_array_equal(rows["base"], close[made_on])
        np.testing.assert_allclose(rows["y"], close[rows.index], rtol=1e-12)
        assert part.scores(metrics=["skill"])["skill"].iloc[0] == 0.0
        assert "1 challenger at 3 horizons" in part.verdict.reason
        assert set(part.forecasts["horizon"]) == {part.horizon}
        gap = part.forecasts["open_time"] - part.forecasts["cutoff"]
        assert gap.min() == (PLAN.purge + 1) * pd.Timedelta(minutes=5)
    assert result.by_horizon["horizon"].tolist() == list(HORIZONS)


def test_range_and_volatility_are_forecast_over_the_horizon(result):
    """Both beat persistence at each horizon; EWMA and HAR stand beside them."""
    table = result.by_horizon
    for size in ("range", "volatility"):
        assert (table[f"{size}_r2"] > 0).all()
        assert table[[f"{size}_r2_ewma", f"{size}_r2_har"]].notna().all().all()
