"""The scores of persistence and of an oracle are known without any computing."""

from __future__ import annotations

import numpy as np
import pytest

from btcml.forecast.metrics import METRICS, forecast_frame

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


def test_a_leak_of_one_candle_cannot_pass_as_persistence() -> None:
    """The planted bug: scored against the base of the next candle, persistence has "skill"."""
    frame = MODELS["persistence"]
    wrong = frame.assign(base=frame["base"].shift(1)).iloc[1:]
    assert METRICS["skill"](wrong) > 0.2
