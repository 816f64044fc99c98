"""Signs: what counts as a direction, and what the largest forecasts are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from btcml.forecast.metrics import METRICS, forecast_frame


def scores(close: list[float], said: list[float]) -> dict[str, float]:
    """Direction metrics of one model."""
    frame = forecast_frame(close, {"model": {"y_hat": said}})
    part = frame[frame["model"] == "model"]
    return {name: METRICS[name](part) for name in ("direction", "wda", "pt_p", "top_direction", "top_gain_bp")}


def test_candles_and_forecasts_without_a_move_do_not_count() -> None:
    """Of five rows only the two in which both moved are judged: one right, one wrong."""
    result = scores([100, 101, 101, 100, 99, 100], [102, 101.5, 101, 99, 98])
    assert result["direction"] == pytest.approx(2 / 3)


def test_large_moves_weigh_more_in_wda() -> None:
    """Right on +3 %, wrong on two of about 1 %: one in three by count, 3 in 5 by weight."""
    close = [100 * math.exp(x) for x in (0, 0.03, 0.02, 0.03)]
    result = scores(close, [close[0] * 1.01, close[1] * 1.01, close[2] * 0.99])
    assert result["direction"] == pytest.approx(1 / 3)
    assert result["wda"] == pytest.approx(3 / 5)


def test_the_top_decile_is_by_size_of_forecast() -> None:
    """Twenty rows, right only where the forecast is largest: all of the top two are right."""
    close = 100 * np.exp(np.arange(21) * 0.001)
    size = np.r_[np.full(18, -0.0001), 0.01, 0.02]
    result = scores(list(close), list(close[:-1] * np.exp(size)))
    assert (result["direction"], result["top_direction"]) == (0.1, 1.0)
    assert result["top_gain_bp"] == pytest.approx(10)


def test_persistence_says_no_direction() -> None:
    """NaN and p = 1: it does not pretend to half of the signs."""
    result = scores([100, 101, 100], [100, 101])
    assert math.isnan(result["direction"])
    assert result["pt_p"] == 1.0
