"""Volatility thirds are equal in size, known before the candle, and fit for log ranges."""

from __future__ import annotations

import numpy as np
import pandas as pd

from btcml.forecast.metrics import forecast_frame, volatility_third
from btcml.forecast.metrics.table import GROUPS

MOVES = np.random.default_rng(1).normal(0, 1e-3, 900) * np.repeat([1, 3, 2], 300)
CLOSE = 100 * np.exp(np.concatenate([[0], np.cumsum(MOVES)]))
FRAME = forecast_frame(CLOSE, {})


def test_thirds_hold_equally_many_rows() -> None:
    """300 each, and the wild middle of the series is the storm."""
    third = volatility_third(FRAME)
    assert third.value_counts().tolist() == [300, 300, 300]
    assert (third[400:600] == "storm").mean() > 0.95


def test_a_candle_cannot_place_itself() -> None:
    """The outcome of a row changes later rows only."""
    changed = CLOSE.copy()
    changed[801:] *= 1.5
    ranks = [volatility_third(forecast_frame(close, {})[:801]) for close in (CLOSE, changed)]
    assert ranks[0].equals(ranks[1])


def test_log_ranges_are_cut_by_their_own_average() -> None:
    """Negative bases are log ranges: the high ones are the storm."""
    level = np.repeat([-8.0, -6.0, -7.0], 300)
    third = volatility_third(forecast_frame(np.append(level, -7.0), {}))
    assert (third[450:600] == "storm").all()


def test_an_empty_frame_has_no_thirds() -> None:
    """Nothing in, nothing out."""
    assert volatility_third(FRAME.iloc[:0]).empty


def test_the_age_counts_whole_months_since_the_last_outcome_fitted_on() -> None:
    """29 days are month 0, 30 days are month 1."""
    frame = FRAME.iloc[:2].assign(cutoff=FRAME["open_time"].iloc[:2] - pd.to_timedelta([29, 30], unit="D"))
    assert GROUPS["age"](frame).tolist() == [0, 1]
