"""Interval scores: the best value for a normal distribution, and parts of a span."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from btcml.forecast.metrics import METRICS, forecast_frame

if TYPE_CHECKING:
    import pandas as pd

N = 40_000
MOVES = np.random.default_rng(3).normal(0, 1e-3, N)
CLOSE = 100 * np.exp(np.concatenate([[0], np.cumsum(MOVES)]))


def frame(half: float | np.ndarray, close: np.ndarray = CLOSE) -> pd.DataFrame:
    """Frame of one model with an interval of a half width around the last close."""
    base = close[:-1]
    columns = {"y_hat": base, "lo": base * np.exp(-half), "hi": base * np.exp(half)}
    made = forecast_frame(close, {"model": columns})
    return made[made["model"] == "model"].reset_index(drop=True)


def test_the_true_interval_of_a_normal_move_has_the_known_winkler_score() -> None:
    """(4 / 0.1) times the normal density at 1.645, times the deviation: 41.25 bp, and no width beats it."""
    z = stats.norm.isf(0.05)
    best = METRICS["winkler_bp"](frame(z * 1e-3))
    assert best == pytest.approx(40 * stats.norm.pdf(z) * 10, rel=0.01)
    assert best < METRICS["winkler_bp"](frame(0.9 * z * 1e-3))
    assert best < METRICS["winkler_bp"](frame(1.1 * z * 1e-3))
    assert METRICS["pinball_bp"](frame(z * 1e-3)) == pytest.approx(best / 40)


def test_ends_belong_to_the_interval() -> None:
    """An outcome on the end is inside."""
    same = frame(0.0, np.full(100, 50.0))
    assert METRICS["coverage"](same) == 1.0


def test_thirds_are_of_the_volatility_before_the_candle() -> None:
    """A constant width over-covers the calm third and under-covers the stormy one."""
    size = np.repeat([0.5e-3, 1e-3, 2e-3], N // 3 + 1)[:N]
    close = 100 * np.exp(np.concatenate([[0], np.cumsum(MOVES / 1e-3 * size)]))
    part = frame(1.645e-3, close)
    calm, middle, storm = (METRICS[f"coverage_{name}"](part) for name in ("calm", "middle", "storm"))
    assert calm > 0.99
    assert middle == pytest.approx(0.9, abs=0.02)
    assert storm < 0.65


def test_the_worst_day_is_a_whole_day() -> None:
    """A day with no row covered is found; a stump of a day is not a day."""
    part = frame(1.645e-3)
    day = part["open_time"].dt.strftime("%Y-%m-%d") == "2024-01-05"
    spoiled = part.assign(y=part["y"].where(~day, part["hi"] * 1.01))
    assert METRICS["coverage_worst_day"](spoiled) == 0.0
    stump = spoiled[~day | (spoiled["open_time"].dt.hour == 0)]
    assert METRICS["coverage_worst_day"](stump) > 0.7


def test_a_model_without_interval_has_no_coverage() -> None:
    """NaN, not zero."""
    part = frame(1e-3).assign(lo=np.nan)
    assert math.isnan(METRICS["coverage"](part))
    assert math.isnan(METRICS["coverage_worst_month"](part))


@pytest.mark.parametrize(("interval", "known"), [("1d", False), ("12h", False), ("4h", False), ("1h", True)])
def test_a_day_of_few_candles_has_no_worst_day(interval, known) -> None:
    """A daily candle is inside or not: "0 % on the worst day" would say nothing about the interval."""
    half = 1.645e-3
    base = CLOSE[:1000]
    columns = {"y_hat": base, "lo": base * np.exp(-half), "hi": base * np.exp(half)}
    made = forecast_frame(CLOSE[:1001], {"model": columns}, interval=interval)
    worst = METRICS["coverage_worst_day"](made[made["model"] == "model"])
    assert math.isnan(worst) != known
