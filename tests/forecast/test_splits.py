"""Folds: in order, purged, each candle once."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.splits import WalkForward

TIMES = pd.Series(pd.date_range("2023-01-01", "2024-12-31 23:00", freq="h", tz="UTC").as_unit("us"))
HOUR = pd.Timedelta(hours=1)


@pytest.mark.parametrize("window", [None, 1000, "90 days", "6 months"])
@pytest.mark.parametrize("refit", [500, "10 days", "3 months"])
def test_every_test_candle_is_forecast_once_by_a_model_that_ends_a_purge_before(window, refit):
    """Folds tile the test and never train on what they forecast."""
    plan = WalkForward("2024-01-01", "2024-11-15", window, refit, purge=24, burn_in=None)
    folds = plan.folds(TIMES, "1h")
    assert folds[0].test_start == pd.Timestamp("2024-01-01", tz="UTC")
    assert folds[-1].test_end == pd.Timestamp("2024-11-15", tz="UTC")
    assert all(a.test_end == b.test_start for a, b in pairwise(folds))
    assert all(fold.test_start - fold.cutoff == 25 * HOUR for fold in folds)
    assert all(fold.train_start < fold.cutoff for fold in folds)


def test_the_burn_in_is_one_fold_before_the_test_and_left_out_when_candles_are_few():
    """It needs two more spans of its own length to learn from."""
    whole = WalkForward("2024-01-01", burn_in="3 months", purge=1).folds(TIMES, "1h")
    assert (whole[0].test_start, whole[0].test_end) == (
        pd.Timestamp("2023-10-01", tz="UTC"),
        pd.Timestamp("2024-01-01", tz="UTC"),
    )
    short = WalkForward("2024-01-01", burn_in="11 months", purge=1).folds(TIMES, "1h")
    assert short[0].test_start == pd.Timestamp("2024-01-01", tz="UTC")


def test_a_purge_shorter_than_the_horizon_is_refused():
    """Purge 0 would fit on the candle that is forecast."""
    with pytest.raises(UsageError, match="purge must be at least the horizon"):
        WalkForward("2024-01-01", purge=0)


@pytest.mark.parametrize("span", [0, -3, "soon", "6 weeks", "months"])
def test_a_span_that_cannot_be_read_is_refused(span):
    """Candles, days or months."""
    with pytest.raises(UsageError, match="a span is"):
        WalkForward("2024-01-01", refit=span)


def test_a_test_without_a_past_or_beyond_the_end_is_not_ready():
    """One sentence each."""
    with pytest.raises(NotReadyError, match="training needs candles before"):
        WalkForward("2023-01-01", burn_in=None).folds(TIMES, "1h")
    with pytest.raises(NotReadyError, match="must begin before the candles end"):
        WalkForward("2026-01-01").folds(TIMES, "1h")


@pytest.mark.parametrize("time", ["yesterday", "now", "05/04/2026", ""])
def test_a_time_that_is_not_iso_is_refused(time):
    """No clock and no guess of day and month enters a plan."""
    with pytest.raises(UsageError, match="a UTC time such as 2025-01-01"):
        WalkForward(time)
