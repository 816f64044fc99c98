"""Factors are learned from earlier days only, and find what they should."""

from __future__ import annotations

import numpy as np
import pytest

from btcml.forecast.calibration import (
    calibrated,
    newest_factor,
    probability_losses,
    return_losses,
    trailing_factor,
)

N, DAY = 100 * 288, np.repeat(np.arange(100), 288)
RNG = np.random.default_rng(1)
SIGNAL = RNG.normal(size=N)


def test_a_too_small_forecast_gets_a_larger_factor():
    """The outcome's median is 1.5 times the forecast."""
    losses = return_losses(SIGNAL, 1.5 * SIGNAL + RNG.normal(size=N), np.ones(N))
    factors = trailing_factor(losses, DAY, 1.0)
    assert (factors[: 30 * 288] == 1.0).all()
    assert factors[-288:] == pytest.approx(np.full(288, 1.5), abs=0.11)
    assert newest_factor(losses, DAY, 1.0) == pytest.approx(1.5, abs=0.11)


def test_the_present_day_teaches_nothing_about_itself():
    """Scrambled outcomes of day 60 and later change no factor up to day 60."""
    outcome = SIGNAL + RNG.normal(size=N)
    scrambled = np.where(DAY < 60, outcome, -9 * outcome)
    found = [trailing_factor(return_losses(SIGNAL, y, np.ones(N)), DAY, 1.0) for y in (outcome, scrambled)]
    assert (found[0][DAY <= 60] == found[1][DAY <= 60]).all()
    assert (found[0][DAY > 61] != found[1][DAY > 61]).any()


def test_overconfident_probabilities_are_drawn_to_the_middle():
    """Log-odds twice too large get a factor of one half."""
    up = (RNG.random(N) < calibrated(np.full(N, 0.7), 1.0)).astype(float)
    sure = calibrated(np.full(N, 0.7), 2.0)
    assert newest_factor(probability_losses(sure, up), DAY, 1.0) == pytest.approx(0.5, abs=0.11)
    assert calibrated(np.array([0.0, 1.0]), 1.0).tolist() == [0.0, 1.0]


def test_without_a_past_there_is_the_prior():
    """The first training of all."""
    nothing = np.zeros(0)
    assert newest_factor(return_losses(nothing, nothing, nothing), np.zeros(0, dtype=int), 1.3) == 1.3


def test_a_forecast_made_the_day_before_its_candle_uses_no_later_day():
    """The factor of a day's making, not of the candle's day."""
    losses = return_losses(SIGNAL, 1.5 * SIGNAL + RNG.normal(size=N), np.ones(N))
    known, late = trailing_factor(losses, DAY, 1.0), trailing_factor(losses, DAY, 1.0, made=DAY - 1)
    np.testing.assert_array_equal(late[288:], known[:-288])
    np.testing.assert_array_equal(trailing_factor(losses, DAY, 1.0, made=DAY), known)
