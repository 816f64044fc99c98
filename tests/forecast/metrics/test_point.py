"""The scores of persistence and of an oracle are known without any computing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from btcml.forecast.metrics import METRICS, evaluate, forecast_frame, metric_names

if TYPE_CHECKING:
    import pandas as pd

CLOSE = 50_000 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-3, 801)))
FRAME = forecast_frame(CLOSE, {"oracle": {"y_hat": CLOSE[1:]}, "mirror": {"y_hat": CLOSE[:-1] ** 2 / CLOSE[1:]}})
MODELS = {name: part.reset_index(drop=True) for name, part in FRAME.groupby("model")}


@pytest.mark.parametrize(
    ("name", "persistence", "oracle"),
    [
        ("skill", 0.0, 1.0),
        ("ratio", 1.0, 0.0),
        ("r2", 0.0, 1.0),
        ("skill_low", 0.0, 1.0),
        ("skill_high", 0.0, 1.0),
        ("dm_z", 0.0, None),
        ("dm_p", 1.0, 0.0),
        ("dm_squared_p", 1.0, 0.0),
        ("clark_west_p", 1.0, 0.0),
        ("mae_usd", None, 0.0),
        ("rmse_bp", None, 0.0),
    ],
)
def test_persistence_has_no_skill_and_an_oracle_has_all(
    name: str, persistence: float | None, oracle: float | None
) -> None:
    """Exactly, to the last bit; p of the oracle is below 1e-10."""
    if persistence is not None:
        assert METRICS[name](MODELS["persistence"]) == persistence
    if oracle is not None:
        assert METRICS[name](MODELS["oracle"]) == pytest.approx(oracle, abs=1e-10)


def test_a_forecast_that_mirrors_the_truth_has_twice_the_error() -> None:
    """The opposite of every move is exactly as far off again: ratio 2, skill -1."""
    assert METRICS["ratio"](MODELS["mirror"]) == pytest.approx(2.0, rel=1e-12)


def test_a_leak_of_one_candle_is_not_persistence() -> None:
    """The planted bug: scored against the base of the next candle, persistence has "skill"."""
    frame = MODELS["persistence"]
    wrong = frame.assign(base=frame["base"].shift(1)).iloc[1:]
    assert METRICS["skill"](wrong) > 0.2


RNG = np.random.default_rng(2)
LOG_RANGE = -6 + RNG.normal(0, 0.5, 30_001)


def model(said: np.ndarray) -> pd.DataFrame:
    """Frame of one model of the log range."""
    frame = forecast_frame(LOG_RANGE, {"model": {"y_hat": said}})
    return frame[frame["model"] == "model"]


def test_an_oracle_of_the_range_is_perfect() -> None:
    """R² 1, QLIKE 0, no error against persistence."""
    oracle = model(LOG_RANGE[1:])
    assert [METRICS[name](oracle) for name in ("range_r2", "qlike", "mse_ratio")] == [1.0, 0.0, 0.0]
    assert METRICS["qlike_z"](oracle) < -50


def test_qlike_of_a_normal_error_is_its_closed_form() -> None:
    """E[exp(e) - e - 1] = exp(s² / 2) - 1 for e normal of deviation s = 0.5."""
    flat = model(np.full(30_000, -6.0))
    assert METRICS["qlike"](flat) == pytest.approx(np.exp(0.125) - 1, rel=0.02)
    assert METRICS["range_r2"](flat) == pytest.approx(0, abs=1e-3)
    assert METRICS["mse_ratio"](flat) == pytest.approx(0.5, abs=0.01)


def test_a_table_of_log_ranges_starts_with_persistence_whose_ratio_is_one() -> None:
    """White noise: the last range is worse than the mean, so its R² is -1."""
    frame = forecast_frame(LOG_RANGE, {"mean": {"y_hat": np.full(30_000, -6.0)}})
    table = evaluate(frame, metric_names("range"), by="third")
    first = table[table["model"] == "persistence"]
    assert table["model"].iloc[0] == "persistence"
    assert first["range_r2"].mean() == pytest.approx(-1, abs=0.2)
    assert first["mse_ratio"].tolist() == [1.0] * 3
    assert first["qlike_z"].tolist() == [0.0] * 3
