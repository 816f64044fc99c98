from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.candles import as_candles
from btcml.errors import UsageError
from btcml.report.experiment import plan_for


def candles(days: int, step: str = "1h", interval: str = "1h") -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=int(pd.Timedelta(days=days) / pd.Timedelta(step)), freq=step, tz="UTC")
    values = np.full(len(times), 100.0)
    frame = {"open_time": times, "open": values, "high": values, "low": values, "close": values, "volume": values}
    return as_candles(pd.DataFrame(frame), interval)


@pytest.mark.parametrize(("days", "tested"), [(30, 9), (90, 29), (1095, 364), (2000, 365)])
def test_the_last_third_is_tested_and_at_most_a_year(days, tested):
    """More past is for learning, not for a longer test."""
    frame = candles(days)
    length = frame["open_time"].iloc[-1] - plan_for(frame, "1h").first_test
    assert length // pd.Timedelta(days=1) == tested


def test_a_day_lies_between_learning_and_test_and_there_are_two_fits():
    """The purge is a day of candles; models are fitted anew half-way; the burn-in comes before."""
    frame = candles(90)
    plan = plan_for(frame, "1h")
    folds = plan.folds(frame["open_time"], "1h")
    assert plan.purge == 24
    assert sum(fold.test_start >= plan.first_test for fold in folds) == 2
    assert all(fold.test_start - fold.cutoff > pd.Timedelta(days=1) for fold in folds)


@pytest.mark.parametrize("frame", [candles(19), candles(150, "24h", "1d")])
def test_too_little_past_is_told_in_one_sentence(frame):
    """What is needed, what was found, what to do."""
    with pytest.raises(UsageError, match="give more DAYS or a shorter INTERVAL"):
        plan_for(frame, "1h")
