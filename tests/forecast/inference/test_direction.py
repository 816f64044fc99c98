"""Wilson's interval and Pesaran-Timmermann equal independent implementations and printed tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from btcml.errors import UsageError
from btcml.forecast.statistics import pesaran_timmermann, wilson_interval


@pytest.mark.parametrize(
    ("hits", "observations", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_printed_one(hits: int, observations: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3, to its four digits."""
    ends = wilson_interval(hits, observations)
    assert [round(end, 4) for end in ends] == [low, high]


@pytest.mark.parametrize(("hits", "observations"), [(0, 9), (5, 9), (9, 9), (137_900, 262_621)])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_wilsons_interval_equals_statsmodels(hits: int, observations: int, level: float) -> None:
    """Both ends, also for none and all."""
    expected = proportion_confint(hits, observations, alpha=1 - level, method="wilson")
    assert wilson_interval(hits, observations, level) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_pesaran_timmermann_squared_is_pearsons_statistic(seed: int) -> None:
    """S² = chi² n / (n - 1) of the 2 x 2 table of signs, by scipy."""
    rng = np.random.default_rng(seed)
    move = rng.normal(0.1, 1, 501)
    forecast = 0.2 * move + rng.normal(0.3, 1, 501)
    table = np.histogram2d(move > 0, forecast > 0, bins=2)[0]
    chi2 = stats.chi2_contingency(table, correction=False).statistic
    result = pesaran_timmermann(move, forecast)
    assert result.statistic**2 == pytest.approx(chi2 * 501 / 500, rel=1e-10)
    assert result.p == pytest.approx(stats.norm.sf(math.sqrt(chi2 * 501 / 500)), rel=1e-9)


def test_a_forecast_that_always_says_up_has_no_test() -> None:
    """In a rising market it is often right, which proves nothing."""
    result = pesaran_timmermann([1, 1, 1, -1.0], [2, 2, 2, 2.0])
    assert (result.hits, result.expected, result.p) == (0.75, 0.75, 1.0)
    assert math.isnan(result.statistic)


def test_rows_without_a_move_have_no_direction() -> None:
    """Zeros and NaN on either side are left out; with nothing left p is 1."""
    result = pesaran_timmermann([1, -1, 0, 1, np.nan], [1, -1, 1, 0, 1])
    assert (result.observations, result.hits) == (2, 1.0)
    assert pesaran_timmermann([0.0], [1.0]).p == 1.0


def test_bad_calls_are_refused() -> None:
    """Impossible counts and unequal lengths have their sentences."""
    with pytest.raises(UsageError, match="5 of 3"):
        wilson_interval(5, 3)
    with pytest.raises(UsageError, match="one length"):
        pesaran_timmermann([1.0], [1.0, 2.0])
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
