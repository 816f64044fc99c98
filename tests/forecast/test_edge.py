"""The age of the edge: a trend with its interval, against formulas written out and simulated edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from btcml.forecast.edge import edge_age
from btcml.forecast.metrics import forecast_frame

WORDS = "the skill changed by"


def frame_of(skill, seed=0, interval="1d"):
    """Forecasts of a model that avoids these shares of the errors of no change, one share a candle."""
    share = np.asarray(skill, dtype=float)
    moves = np.random.default_rng(seed).normal(0, 0.01, len(share))
    close = 100 * np.exp(np.append(0.0, moves.cumsum()))
    frame = forecast_frame(close, {"model": {"y_hat": close[:-1] * np.exp(share * moves)}}, interval=interval)
    return frame[frame["model"] == "model"].reset_index(drop=True)


def noisy(days, now, slope, seed, noise=0.008):
    """Skill of each day around a line that ends at `now`."""
    years = (np.arange(days) - days + 1) / 365.25
    return now + slope * years + noise * np.random.default_rng(seed).normal(size=days)


def test_slope_and_interval_are_those_of_the_formulas():
    """Weighted least squares and Newey and West's sum, written out, on hourly candles."""
    found = edge_age(frame := frame_of(noisy(24 * 250, 0.01, 0.0, 1, 0.05), interval="1h"))
    day = frame["open_time"].dt.floor("D")
    errors = [np.abs(np.log(frame["y"] / frame[name])) for name in ("y_hat", "base")]
    ours, theirs = (error.groupby(day).sum().to_numpy() for error in errors)
    n, weight, lags = len(ours), theirs, 4
    line = np.column_stack([np.ones(n), (np.arange(n) - n + 1) / 365.25])
    inverse = np.linalg.inv(line.T @ (weight[:, None] * line))
    beta = inverse @ line.T @ (weight - ours)
    score = line * (weight * (1 - ours / theirs - line @ beta))[:, None]
    middle = score.T @ score
    for lag in range(1, lags + 1):
        cross = score[lag:].T @ score[:-lag]
        middle += (1 - lag / (lags + 1)) * (cross + cross.T)
    error = np.sqrt((inverse @ middle @ inverse)[1, 1] * n / (n - 2))
    half = student(n - 2).ppf(0.975) * error
    expected = [beta[1], beta[1] - half, beta[1] + half, beta[0]]
    assert [found.slope_per_year, found.low, found.high, found.now] == pytest.approx(expected, rel=1e-9)


def test_the_interval_holds_the_true_slope_as_often_as_it_says():
    """A year of days, two hundred times."""
    ages = [edge_age(frame_of(noisy(365, 0.004, -0.002, seed), seed)) for seed in range(200)]
    assert 0.9 <= np.mean([age.low <= -0.002 <= age.high for age in ages]) <= 0.99
    assert np.mean([age.slope_per_year for age in ages]) == pytest.approx(-0.002, abs=0.0005)


@pytest.mark.parametrize(
    ("now", "slope", "lasts", "start"),
    [
        (0.006, 0.0, True, "The edge lasts: over 12 months"),
        (0.012, -0.005, True, "The edge shrinks but lasts: over 12 months"),
        (0.001, -0.008, False, "The edge shrinks: over 12 months"),
        (0.0005, 0.0, False, "It is not shown that the edge lasts: over 12 months"),
        (-0.001, 0.0, False, "There is no edge: the skill of 12 months is -0."),
        (-0.02, 0.05, False, "There is no edge"),  # a rise does not make up for losses
    ],
)
def test_the_sentence_says_whether_the_edge_lasts(now, slope, lasts, start):
    """Each outcome by an edge of its kind."""
    found = edge_age(frame_of(noisy(366, now, slope, 3, 0.003)))
    assert found.sentence.startswith(start)
    assert found.lasts is lasts
    assert (WORDS in found.sentence) != found.sentence.startswith("There is no edge")


def test_an_end_that_rounds_to_nothing_keeps_its_sign():
    """A slope whose interval ends just below 0 is not printed as 0."""
    found = edge_age(frame_of(noisy(366, 0.01, -0.00004, 0, 0.00001)))
    assert found.high < 0
    assert "-0.00 %" not in found.sentence


def test_no_change_has_no_edge_and_few_months_no_trend():
    """Persistence's own skill is exactly 0; what did not move, and less than six months, has no trend."""
    assert edge_age(frame_of(np.zeros(366))).sentence.startswith("There is no edge: the skill of 12 months is 0.00 %")
    short = edge_age(frame_of(np.full(100, 0.01)))
    assert (short.lasts, short.sentence.endswith("needs 6 months, found 4.")) == (False, True)
    assert np.isnan(short.slope_per_year)
    still = frame_of(np.full(366, 0.01)).assign(y=100.0, y_hat=100.0, base=100.0)
    assert edge_age(still).sentence.endswith("found 0.")
    assert edge_age(still.head(0)).sentence.endswith("found 0.")


def test_outcomes_that_overlap_over_days_widen_the_interval():
    """Of 20 daily candles ahead, whose skill moves slowly: at one candle ahead the interval would be half as wide."""
    slow = pd.Series(noisy(420, 0.01, 0.0, 5, 0.02)).rolling(20).mean().dropna().to_numpy()
    frame = frame_of(slow)
    near, far = edge_age(frame), edge_age(frame.assign(horizon=20))
    assert far.slope_per_year == near.slope_per_year
    assert far.high - far.low > 1.4 * (near.high - near.low)
