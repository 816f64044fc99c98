"""Targets look one candle ahead, in units of what is known now, and come back as prices."""

from __future__ import annotations

import numpy as np
import pytest

from btcml.errors import UsageError
from btcml.forecast.features import Prepared
from btcml.forecast.targets import TARGETS, prices, target_frame


def test_targets_are_the_next_candles_moves_over_the_scale(candles):
    """Against the words of the definition, row by row."""
    frame, scale = target_frame(candles, "5m"), Prepared(candles, "5m").scale
    for t in (200, 1000, 2500):
        now, following = candles.iloc[t], candles.iloc[t + 1]
        assert frame["close"][t] == pytest.approx(np.log(following["close"] / now["close"]) / scale[t])
        assert frame["high"][t] == pytest.approx(np.log(following["high"] / now["close"]) / scale[t])
        span = following["high"] - following["low"]
        assert frame["amplitude"][t] == pytest.approx(span / now["close"] / scale[t])
        assert frame["direction"][t] == float(following["close"] > now["close"])
        assert frame["log_range"][t] == pytest.approx(np.log(np.log(following["high"] / following["low"]) / scale[t]))


def test_targets_are_null_before_a_gap_in_the_last_row_and_in_the_warm_up(candles):
    """No outcome is taken across a hole."""
    frame, age = target_frame(candles, "5m"), Prepared(candles, "5m").age
    before_gap = np.append(age[1:] == 0, True)
    assert frame[before_gap].isna().all().all()
    assert frame[age < 96].isna().all().all()
    assert frame[(age >= 96) & ~before_gap].notna().all().all()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_level_is_its_scaled_outcome_turned_back(candles, name):
    """Turning an outcome into its level gives the candle's own value."""
    prepared, target = Prepared(candles, "5m"), TARGETS[name]
    level = target.level(prepared, target.scaled(prepared, 1), 1)
    following = candles.iloc[501]
    expected = {
        "amplitude": following["high"] - following["low"],
        "direction": float(following["close"] > candles["close"][500]),
        "log_range": np.log(np.log(following["high"] / following["low"])),
    }
    if name == "realized_volatility":
        body = np.log(following["close"] / following["open"])
        square = 0.5 * np.log(following["high"] / following["low"]) ** 2 - (2 * np.log(2) - 1) * body**2
        expected[name] = np.log(max(np.sqrt(square), 5e-5))
    assert level[500] == pytest.approx(expected.get(name, following.get(name)), rel=1e-9)


@pytest.mark.parametrize("horizon", [2, 12, 48])
def test_an_outcome_over_a_horizon_is_that_of_the_candles_up_to_it(candles, horizon):
    """Close, extremes, direction, range and volatility against the slow formulas, row by row."""
    prepared = Prepared(candles, "5m")
    frame = target_frame(candles, "5m", horizon=horizon)
    for row in (500, 900, 2500):
        after, last = candles.iloc[row + 1 : row + 1 + horizon], candles["close"][row]
        scale = prepared.scale[row] * np.sqrt(horizon)
        returns = np.diff(np.log([last, *after["close"]]))
        expected = {
            "close": np.log(after["close"].iloc[-1] / last) / scale,
            "high": np.log(after["high"].max() / last) / scale,
            "low": np.log(after["low"].min() / last) / scale,
            "direction": float(after["close"].iloc[-1] > last),
            "amplitude": (after["high"].max() - after["low"].min()) / (last * scale),
            "log_range": np.log(np.log(after["high"].max() / after["low"].min()) / scale),
            "realized_volatility": np.log(np.sqrt((returns**2).sum()) / scale),
        }
        found = frame.loc[row, list(expected)].to_dict()
        assert found == pytest.approx(expected, rel=1e-9)


def test_an_outcome_over_a_horizon_is_null_before_a_gap_and_at_the_end(candles):
    """A hole anywhere up to the horizon leaves no outcome; persistence is the size of as many candles before."""
    frame, prepared = target_frame(candles, "5m", horizon=12), Prepared(candles, "5m")
    hole = int(np.flatnonzero(prepared.age[1:] == 0)[0])
    assert frame.iloc[hole - 11 : hole + 1].isna().all().all()
    assert frame.iloc[hole - 12].notna().all()
    assert frame.tail(12).isna().all().all()
    before = candles.iloc[489:501]
    size = TARGETS["log_range"].persistence(prepared, 12)[500]
    assert size == pytest.approx(np.log(np.log(before["high"].max() / before["low"].min())))


def test_prices_are_consistent_whatever_the_forecasts():
    """High is the highest, low the lowest, amp their difference."""
    rng = np.random.default_rng(0)
    close, high, low = rng.normal(size=(3, 1000))
    candle = prices(np.full(1000, 5e4), close, high, low, np.full(1000, 1e-3))
    assert (candle.high >= np.maximum(candle.open, candle.close)).all()
    assert (candle.low <= np.minimum(candle.open, candle.close)).all()
    assert (candle.amp == candle.high - candle.low).all()


def test_an_unknown_target_is_refused(candles):
    """The caller's mistake, with the names that exist."""
    with pytest.raises(UsageError, match="unknown: profit"):
        target_frame(candles, "5m", ["profit"])
