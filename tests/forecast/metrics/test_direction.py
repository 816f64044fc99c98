"""Signs: what counts as a direction, and what the largest forecasts are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from btcml.forecast.metrics import METRICS, forecast_frame, reliability

if TYPE_CHECKING:
    import pandas as pd


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


def test_persistence_forecasts_no_direction() -> None:
    """NaN and p = 1: it does not score half of the signs."""
    result = scores([100, 101, 100], [100, 101])
    assert math.isnan(result["direction"])
    assert result["pt_p"] == 1.0


RNG = np.random.default_rng(4)
TRUE = RNG.uniform(0.3, 0.7, 20_000)
UP = RNG.uniform(size=20_000) < TRUE


def frame(probability: np.ndarray) -> pd.DataFrame:
    """Frame of one model whose candles rise with the true probability."""
    close = 100 * np.exp(np.concatenate([[0], np.cumsum(np.where(UP, 1e-4, -1e-4))]))
    made = forecast_frame(close, {"model": {"y_hat": close[:-1], "prob_up": probability}})
    return made[made["model"] == "model"]


def test_the_true_probability_is_calibrated_and_beats_the_base_rate() -> None:
    """Calibration error at most 1 %, Brier skill near 4 var(p) = 0.053, z far below -5."""
    assert METRICS["calibration_error"](frame(TRUE)) < 0.01
    assert METRICS["brier_skill"](frame(TRUE)) == pytest.approx(4 * TRUE.var(), abs=0.01)
    assert METRICS["brier_z"](frame(TRUE)) < -5


def test_the_base_rate_itself_has_no_brier_skill() -> None:
    """Its skill is 0 and its z is 0."""
    base = frame(np.full(len(UP), UP.mean()))
    assert METRICS["brier_skill"](base) == pytest.approx(0, abs=1e-12)
    assert abs(METRICS["brier_z"](base)) < 1e-6 or METRICS["brier_z"](base) == 0


def test_an_overconfident_probability_is_detected() -> None:
    """Twice as far from a half: badly calibrated, and no better than the base rate."""
    bold = frame(0.5 + 2 * (TRUE - 0.5))
    assert METRICS["calibration_error"](bold) > 0.08
    assert METRICS["brier_skill"](bold) < 0.01


def test_the_reliability_table_holds_every_row_once() -> None:
    """Bins ascend, add up and have Wilson intervals around their frequency."""
    table = reliability(frame(TRUE))
    assert table["rows"].sum() == len(UP)
    assert table["probability"].is_monotonic_increasing
    assert (table["low"] <= table["frequency"]).all()
    assert (table["frequency"] <= table["high"]).all()


def test_rows_of_equal_probability_are_in_one_bin() -> None:
    """A model that says one of two values has two bins, one value one bin, none none."""
    assert len(reliability(frame(np.where(TRUE > 0.5, 0.6, 0.4)))) == 2
    assert len(reliability(frame(np.full(len(UP), 0.5)))) == 1
    assert reliability(frame(np.full(len(UP), np.nan))).empty
