"""Tests that tell skill from luck: comparisons, directions, Sharpe ratios; bootstraps in `many`."""

from btcml.forecast.inference.comparison import (
    Comparison,
    clark_west,
    diebold_mariano,
    holm,
    long_run_variance,
    newey_west_lags,
)
from btcml.forecast.inference.direction import DirectionTest, pesaran_timmermann, wilson_interval
from btcml.forecast.inference.sharpe import (
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    sharpe_ratio,
)
from btcml.forecast.inference.skill import skill_interval

__all__ = [
    "Comparison",
    "DirectionTest",
    "clark_west",
    "deflated_sharpe",
    "diebold_mariano",
    "expected_maximum_sharpe",
    "holm",
    "long_run_variance",
    "newey_west_lags",
    "pesaran_timmermann",
    "probabilistic_sharpe",
    "sharpe_ratio",
    "skill_interval",
    "wilson_interval",
]
