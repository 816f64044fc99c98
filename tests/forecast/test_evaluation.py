from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from btcml.forecast.evaluation import REPEAT, SPAN_SCORES, evaluate_span, repeat_last, rolling_direction
from btcml.forecast.metrics import PERSISTENCE, evaluate, forecast_frame, reliability
from btcml.forecast.money import money


def frame(n=600, seed=7):
    """Forecasts with some skill of a random walk, with a gap, and the close before each base."""
    rng = np.random.default_rng(seed)
    close = 60_000 * np.exp(rng.normal(0, 1e-3, n + 2).cumsum())
    close[50] = close[49]  # a candle that does not move
    y_hat = close[1:-1] * np.exp(0.2 * np.log(close[2:] / close[1:-1]) + rng.normal(0, 3e-4, n))
    sides = {"lo": close[1:-1] * 0.9985, "hi": close[1:-1] * 1.0015, "prob_up": rng.uniform(0.4, 0.6, n)}
    table = forecast_frame(close[1:], {"model": {"y_hat": y_hat} | sides}).assign(before=np.tile(close[:-2], 2))
    own = table[table["model"] == "model"].reset_index(drop=True)
    return own.drop(index=range(200, 210)).reset_index(drop=True)


def test_scores_are_those_of_the_metrics():
    """Persistence, the model and the repeating baseline, to the bit."""
    part = frame()
    none = part.assign(model=PERSISTENCE, y_hat=part["base"], lo=np.nan, hi=np.nan, prob_up=np.nan)
    expected = evaluate(pd.concat([part, none], ignore_index=True), SPAN_SCORES).set_index("model")
    found = evaluate_span(part).scores.set_index("model")
    assert list(found.index) == [PERSISTENCE, "model", REPEAT]
    pd.testing.assert_frame_equal(found.drop(REPEAT), expected, check_exact=True)


def test_the_repeating_baseline_forecasts_the_last_move_once_more():
    """And only where the close before is known."""
    part = frame()
    part.loc[3, "before"] = np.nan
    found = repeat_last(part)
    assert len(found) == len(part) - 1
    known = part.drop(index=3)
    moves = np.log(found["y_hat"].to_numpy() / found["base"]).to_numpy()
    assert moves == pytest.approx(np.log(known["base"] / known["before"]).to_numpy(), abs=1e-12)


@pytest.mark.parametrize("cost", [0.0, 2.0, 7.5])
def test_money_is_the_librarys_per_round_trip(cost):
    """The curve ends where `money` does, at any cost."""
    part = frame()
    table = money(part, costs_bp=[cost]).set_index(["rule", "entry"]).loc[("sign", "at once")]
    found = evaluate_span(part, cost_bp=cost)
    assert found.money["net_bp"] == pytest.approx(1e4 * table["total"], abs=1e-9)
    assert found.money["trips"] == table["trips"]
    assert found.candles["net_bp"].iloc[-1] == found.money["net_bp"]
    assert found.candles["hold_bp"].iloc[-1] == pytest.approx(1e4 * (part["y"] / part["base"] - 1).sum())


def test_a_threshold_leaves_small_forecasts_out():
    """Nothing is traded where the forecast move is smaller."""
    part = frame()
    size = 1e4 * (part["y_hat"] / part["base"] - 1).abs()
    few, none = evaluate_span(part, threshold_bp=float(size.quantile(0.9))), evaluate_span(part, threshold_bp=1000.0)
    assert 0 < few.money["trips"] < evaluate_span(part).money["trips"]
    assert none.money == {"cost_bp": 2.0, "threshold_bp": 1000.0, "trips": 0.0, "gross_bp": 0.0, "net_bp": 0.0}


def test_rolling_direction_is_the_metric_of_each_window():
    """Against the metrics, window by window; the range of a coin holds one half."""
    part = frame()
    found = rolling_direction(part)
    moved = part[(part["y"] != part["base"]) & (part["y_hat"] != part["base"])]
    window = found["window"].iloc[0]
    assert window == len(moved) // 4
    for place in (0, 57, len(found) - 1):
        inside = moved.iloc[place : place + window]
        none = inside.assign(model=PERSISTENCE, y_hat=inside["base"])
        table = evaluate(pd.concat([inside, none]), ["direction", "wda"]).set_index("model").loc["model"]
        row = found.iloc[place]
        assert row["open_time"] == inside["open_time"].iloc[-1]
        assert (row["direction"], row["wda"]) == pytest.approx((table["direction"], table["wda"]), abs=1e-12)
    assert (found["low"] < 0.5).all()
    assert (found["high"] > 0.5).all()


def test_each_candle_has_its_error_and_whether_it_was_right():
    """A candle that did not move is neither right nor wrong."""
    part = frame()
    found = evaluate_span(part)
    assert found.candles["right"].isna().sum() == 1
    assert (found.right, found.moved) == (found.candles["right"].sum(), len(part) - 1)
    assert found.candles["inside"].mean() == found.scores.set_index("model").loc["model", "coverage"]
    assert found.candles["error_bp"].abs().mean() == pytest.approx(found.scores["mae_bp"].iloc[1])


def test_bins_of_reliability_hold_forty_candles():
    """Few candles make few bins, many make ten."""
    part = frame()
    pd.testing.assert_frame_equal(evaluate_span(part).reliability, reliability(part, 10))
    assert len(evaluate_span(part.head(100)).reliability) == 2


def test_persistence_has_no_direction_and_no_trade():
    """Nothing is invented for it; its interval is scored."""
    part = frame().assign(model=PERSISTENCE)
    part["y_hat"] = part["base"]
    found = evaluate_span(part)
    assert (found.moved, found.money["trips"], len(found.rolling)) == (0, 0.0, 0)
    scores = found.scores.set_index("model")
    assert list(scores.index) == [PERSISTENCE, REPEAT]
    assert np.isnan(scores.loc[PERSISTENCE, "direction"])
    assert scores.loc[PERSISTENCE, "coverage"] > 0.5


def test_an_empty_span_is_empty_and_json():
    """Before the first forecast: no scores, no curve, no exception; NaN is null."""
    found = evaluate_span(frame().head(0))
    facts = found.to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["scores"], facts["reliability"], facts["candles"]["time"]) == ([], [], [])
    assert "candles" not in found.to_dict(curves=False)
    assert json.dumps(evaluate_span(frame()).to_dict(), allow_nan=False)
