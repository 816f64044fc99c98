"""Sharpe ratios, deflated by the number of trials, equal the published example."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from btcml.errors import UsageError
from btcml.forecast.statistics import (
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    sharpe_ratio,
)


def test_the_example_of_bailey_and_lopez_de_prado_is_met_to_its_digits() -> None:
    """The Deflated Sharpe Ratio (2014): threshold 0.1132, probability 0.9004; 46 trials give 0.9505."""
    sharpe, moments = 2.5 / math.sqrt(250), {"skew": -3.0, "kurtosis": 10.0}
    threshold = expected_maximum_sharpe(100, 0.5 / 250)
    fewer = expected_maximum_sharpe(46, 0.5 / 250)
    assert round(threshold, 4) == 0.1132
    assert round(probabilistic_sharpe(sharpe, 1250, **moments, threshold=threshold), 4) == 0.9004
    assert round(probabilistic_sharpe(sharpe, 1250, **moments, threshold=fewer), 4) == 0.9505


def test_the_best_of_many_strategies_without_skill_is_as_good_as_expected() -> None:
    """The formula equals the mean maximum of simulated normal Sharpe ratios within 2 %."""
    best = np.random.default_rng(1).normal(0, 0.05, (4000, 100)).max(axis=1).mean()
    assert expected_maximum_sharpe(100, 0.05**2) == pytest.approx(best, rel=0.02)


def test_deflated_sharpe_puts_the_pieces_together() -> None:
    """Moments by scipy, threshold of strategies without skill, probability of the first paper."""
    returns = np.random.default_rng(2).standard_t(5, 900) * 0.01 + 0.0005
    sharpe = returns.mean() / returns.std(ddof=1)
    threshold = expected_maximum_sharpe(20, 1 / 899)
    spread = 1 - stats.skew(returns) * sharpe + (stats.kurtosis(returns) + 2) / 4 * sharpe**2
    expected = stats.norm.cdf((sharpe - threshold) * math.sqrt(899 / spread))
    assert sharpe_ratio(returns) == pytest.approx(sharpe, rel=1e-12)
    assert deflated_sharpe(returns, 20) == pytest.approx(expected, rel=1e-10)
    assert deflated_sharpe(returns, 20) < deflated_sharpe(returns, 1)
    assert deflated_sharpe(returns, 20, variance=0.0) == deflated_sharpe(returns, 1)


def test_returns_that_never_vary_have_no_sharpe_ratio() -> None:
    """NaN, without a warning, for a strategy that never trades."""
    assert math.isnan(sharpe_ratio(np.zeros(10)))
    assert math.isnan(deflated_sharpe(np.zeros(10), 3))
    assert math.isnan(sharpe_ratio([0.1]))


def test_no_trial_at_all_is_refused() -> None:
    """The strategy itself is one trial."""
    with pytest.raises(UsageError, match="trials must be at least 1"):
        expected_maximum_sharpe(0, 0.1)
