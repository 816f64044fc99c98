"""The kernels against slow independent formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.forecast.features import windows

RNG = np.random.default_rng(3)
X = RNG.normal(size=500)
AGE = np.arange(500)


@pytest.mark.parametrize("n", [2, 3, 7, 12, 48, 100])
@pytest.mark.parametrize("name", ["sum", "max", "min", "std"])
def test_rolling_windows_equal_pandas(name, n):
    """Sum, maximum, minimum and deviation of the last n values, NaN until n are there."""
    found = getattr(windows, f"rolling_{name}")(X, n)
    expected = getattr(pd.Series(X).rolling(n), name)().to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_a_deviation_keeps_its_digits_on_a_high_level():
    """Prices of 100,000 with a deviation of a cent: the sum of squares would have lost it."""
    levels = 1e5 + 0.01 * X
    np.testing.assert_allclose(windows.rolling_std(levels, 20), 0.01 * windows.rolling_std(X, 20), rtol=1e-6)


@pytest.mark.parametrize("span", [2, 4, 16, 32])
def test_an_exponential_mean_equals_its_definition(span):
    """Weights (1 - 2/(span + 1))^k over the last 6 spans, normalised."""
    memory, decay = windows.ewm_memory(span), 1 - 2 / (span + 1)
    found = windows.ewm(X, AGE, span)
    for t in (0, 1, span, memory - 1, memory, 499):
        past = X[max(0, t - memory + 1) : t + 1][::-1]
        weights = decay ** np.arange(len(past))
        assert found[t] == pytest.approx(past @ weights / weights.sum(), abs=1e-12)


def test_an_exponential_mean_restarts_after_a_gap_and_after_a_nan():
    """Nothing before row 100 (a gap) or row 200 (unknown) is seen after it."""
    age = np.concatenate([np.arange(100), np.arange(400)])
    x = X.copy()
    x[200] = np.nan
    found = windows.ewm(x, age, 16)
    np.testing.assert_allclose(found[100:200], windows.ewm(X[100:200], np.arange(100), 16), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[201:], windows.ewm(X[201:], np.arange(299), 16), rtol=1e-9, atol=1e-12)
    assert np.isnan(found[200])


def test_a_nan_spoils_only_the_windows_that_hold_it():
    """A sum of five after an unknown value is known again five rows later."""
    x = X.copy()
    x[50] = np.nan
    unknown = np.flatnonzero(np.isnan(windows.rolling_sum(x, 5)))
    assert unknown.tolist() == [0, 1, 2, 3, 50, 51, 52, 53, 54]
