"""Tables of scores: persistence first, common rows only, cut in four ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast.metrics import METRICS, evaluate, forecast_frame, metric_names

N = 3000
CLOSE = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-3, N + 1)))
MOVE = np.diff(np.log(CLOSE))


def shrunk(share: float) -> dict[str, np.ndarray]:
    """Forecast that knows a share of every move."""
    return {"y_hat": CLOSE[:-1] * np.exp(share * MOVE)}


FRAME = forecast_frame(CLOSE, {"a": shrunk(0.1), "b": shrunk(0.5), "c": shrunk(-0.2)}, interval="1h")


def test_persistence_is_first_and_the_best_model_second() -> None:
    """Others follow from the lowest ratio to the highest, whatever their names."""
    table = evaluate(FRAME)
    assert table["model"].tolist() == ["persistence", "b", "a", "c"]
    assert table["ratio"].tolist() == pytest.approx([1.0, 0.5, 0.9, 1.2])
    assert list(table.columns[2:]) == metric_names("point", "direction", "probability", "interval")


def test_order_follows_the_first_metric_and_its_sense() -> None:
    """Skill is better when more: the same order as by ratio."""
    assert evaluate(FRAME, ["skill"])["model"].tolist() == ["persistence", "b", "a", "c"]


@pytest.mark.parametrize(("by", "groups"), [("year", 1), ("month", 5), ("hour", 24), ("third", 3)])
def test_groups_add_up_to_the_whole(by: str, groups: int) -> None:
    """Each model has a row a group; rows add up to the span; persistence has ratio 1 in each."""
    table = evaluate(FRAME, ["ratio", "mae_usd"], by=by)
    assert table.groupby("model").size().tolist() == [groups] * 4
    assert table.groupby("model")["rows"].sum().tolist() == [N] * 4
    assert (table["ratio"][table["model"] == "persistence"] == 1).all()
    weighted = (table["mae_usd"] * table["rows"]).groupby(table["model"]).sum() / N
    assert weighted["b"] == pytest.approx(evaluate(FRAME, ["mae_usd"]).set_index("model")["mae_usd"]["b"])


def test_thirds_ascend_from_calm_to_storm() -> None:
    """Groups are in their own order, not by name."""
    assert evaluate(FRAME, ["ratio"], by="third")[:3]["third"].tolist() == ["calm", "middle", "storm"]


def test_nobody_is_scored_on_easier_rows() -> None:
    """A model without forecasts on the hardest candles takes them from all."""
    hard = (FRAME["model"] == "a") & (np.abs(np.log(FRAME["y"] / FRAME["base"])) > 1e-3)
    table = evaluate(FRAME.assign(y_hat=FRAME["y_hat"].mask(hard)))
    assert table["rows"].tolist() == [N - hard.sum()] * 4
    assert table.set_index("model")["ratio"]["a"] == pytest.approx(0.9)


def test_the_table_does_not_depend_on_the_order_of_rows_or_models() -> None:
    """A shuffled frame gives the same scores."""
    shuffled = FRAME.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(evaluate(shuffled), evaluate(FRAME))


def test_models_may_be_categories_also_unused_ones() -> None:
    """The same table as for text, whoever cut the frame before."""
    categories = pd.CategoricalDtype(["a", "b", "c", "nobody", "persistence"])
    pd.testing.assert_frame_equal(evaluate(FRAME.astype({"model": categories})), evaluate(FRAME))


def test_bad_frames_are_refused() -> None:
    """A missing column, no persistence, no common candle and an unknown cut have their sentences."""
    with pytest.raises(UsageError, match="missing: base"):
        evaluate(FRAME.drop(columns="base"))
    with pytest.raises(UsageError, match="persistence must be among the forecasts, found a, b, c"):
        evaluate(FRAME[FRAME["model"] != "persistence"])
    late = FRAME["open_time"] > FRAME["open_time"].median()
    with pytest.raises(UsageError, match="no candle is forecast by all"):
        evaluate(FRAME[late == (FRAME["model"] == "a")])
    with pytest.raises(UsageError, match="by must be one of year, month, hour, third, age, found 'week'"):
        evaluate(FRAME, by="week")
    assert "ratio" in METRICS
