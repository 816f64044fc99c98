"""Trading results: trades counted by hand, realistic entries, and an oracle that stays profitable after costs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast.metrics import forecast_frame
from btcml.forecast.money import decisions, money, positions
from btcml.forecast.statistics import deflated_sharpe

CLOSE = [100.0, 110.0, 99.0, 108.9, 108.9]
UP_UP_DOWN_FLAT = {"y_hat": [101.0, 111.0, 98.0, 108.9]}


def row(table: pd.DataFrame, entry: str = "at once", cost: float = 0.0, rule: str = "sign") -> pd.Series:
    """One line of the results of the model ``m``."""
    keys = {"model": "m", "rule": rule, "entry": entry, "cost_bp": cost}
    chosen = table[(table[list(keys)] == pd.Series(keys)).all(axis=1)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_results_of_four_candles_are_those_counted_by_hand() -> None:
    """Long +10 %, long -10 %, short against +10 %, flat: -10 %, two round trips (open, flip, close)."""
    result = row(money(forecast_frame(CLOSE, {"m": UP_UP_DOWN_FLAT})))
    assert result["trips"] == 2
    assert result["total"] == pytest.approx(0.1 - 0.1 - 0.1)
    assert result["gross_bp"] == pytest.approx(-500)
    assert result["drawdown"] == pytest.approx(0.2)
    assert math.isnan(result["break_even_bp"])
    assert result["turnover"] == 2


def test_costs_take_half_a_fee_at_each_side() -> None:
    """20 bp on two round trips take 40 bp in all; what breaks even is the gross gain a trip."""
    table = money(forecast_frame(CLOSE, {"m": {"y_hat": [101.0, 98.0, 100.0, 108.9]}}))
    free, dear = row(table), row(table, cost=20.0)
    assert free["total"] - dear["total"] == pytest.approx(20e-4 * free["trips"])
    assert dear["net_bp"] == pytest.approx(free["gross_bp"] - 20)
    assert dear["break_even_bp"] == pytest.approx(free["gross_bp"])


def test_a_minute_late_the_first_minute_belongs_to_the_stake_before() -> None:
    """Long, then short: the second candle's first minute (110 to 105) is still lost by the long."""
    frame = forecast_frame([100.0, 110.0, 99.0], {"m": {"y_hat": [101.0, 100.0]}})
    late = pd.Series([102.0, 105.0], frame["open_time"][:2])
    result = row(money(frame, late=late), entry="a minute late")
    assert result["total"] == pytest.approx((110 - 102) / 100 - (110 - 105) / 110 + (105 - 99) / 110)


def test_an_edge_that_is_gone_within_the_minute_earns_nothing_late() -> None:
    """A move that is whole before the late entry leaves zero; at once it is all gain."""
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.concatenate([[0], np.cumsum(rng.normal(0, 1e-3, 2000))]))
    said = np.where(np.arange(2000) % 2, close[1:], close[:-1])
    frame = forecast_frame(close, {"m": {"y_hat": said}})
    late = pd.Series(close[1:], frame["open_time"][:2000])
    table = money(frame, late=late)
    assert row(table)["total"] > 0.5
    assert row(table, entry="a minute late")["sharpe"] < 0.3 * row(table)["sharpe"]


def test_a_candle_late_uses_the_forecast_before() -> None:
    """Without minutes the whole stake comes one candle later."""
    result = row(money(forecast_frame(CLOSE, {"m": UP_UP_DOWN_FLAT})), entry="a candle late")
    assert result["total"] == pytest.approx(0 - 0.1 + 0.1 - 0)


def test_an_unknown_late_price_is_not_traded_late() -> None:
    """No minute, no trade."""
    frame = forecast_frame(CLOSE, {"m": UP_UP_DOWN_FLAT})
    result = row(money(frame, late=pd.Series(dtype=float)), entry="a minute late")
    assert result["trips"] == 0
    assert math.isnan(result["gross_bp"])


def test_nothing_is_held_across_a_hole() -> None:
    """Two long candles with a missing one between them are two round trips."""
    frame = forecast_frame([100.0, 101.0, 102.0, 103.0, 104.0], {"m": {"y_hat": [200.0] * 4}})
    whole, holed = (row(money(part))["trips"] for part in (frame, frame.drop(index=[2, 6])))
    assert (whole, holed) == (1, 2)


def test_the_top_rule_looks_only_at_forecasts_before() -> None:
    """About a tenth is traded, none before 100 forecasts, and the future changes no stake."""
    said = 100 * np.exp(np.random.default_rng(2).normal(0, 1e-3, 3000))
    frame = forecast_frame(np.full(3001, 100.0), {"m": {"y_hat": said}})
    part = frame[frame["model"] == "m"]
    stake = positions(part, "top")
    changed = part.assign(y_hat=part["y_hat"].where(np.arange(3000) < 2000, 500.0))
    assert (stake[:100] == 0).all()
    assert (stake[100:] != 0).mean() == pytest.approx(0.1, abs=0.02)
    assert positions(changed, "top")[:2000].equals(stake[:2000])


def test_persistence_never_trades() -> None:
    """No trip, no result, no Sharpe ratio."""
    result = money(forecast_frame(CLOSE, {})).iloc[0]
    assert (result["model"], result["trips"], result["total"]) == ("persistence", 0, 0)
    assert math.isnan(result["sharpe"])


def test_an_oracle_survives_all_costs_and_trials() -> None:
    """Of daily net results: annual Sharpe by hand, deflated by a hundred trials still certain."""
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.concatenate([[0], np.cumsum(rng.normal(0, 5e-3, 24 * 60))]))
    frame = forecast_frame(close, {"m": {"y_hat": close[1:]}}, interval="1h")
    result = row(money(frame, trials=100))
    daily = np.abs(np.diff(close) / close[:-1]).reshape(60, 24).sum(axis=1)
    assert result["sharpe"] == pytest.approx(daily.mean() / daily.std(ddof=1) * math.sqrt(365))
    assert result["deflated"] == pytest.approx(deflated_sharpe(daily, 100))
    assert row(money(frame), cost=20.0)["net_bp"] > 10


def test_an_unknown_rule_is_refused() -> None:
    """The sentence lists the rules."""
    with pytest.raises(UsageError, match="one of sign, top, found 'all'"):
        positions(forecast_frame(CLOSE, {}), "all")


def test_decisions_trade_only_what_pays_and_say_how_often_they_are_silent() -> None:
    """A forecast of 98 bp, one of 9 and none: at 10 bp one trade in three candles, at 5 bp two, at 200 bp none."""
    frame = forecast_frame([100.0, 101.0, 102.0, 102.0], {"m": {"y_hat": [100.99, 101.09, 102.0]}})
    table = decisions(frame[frame["model"] == "m"], [5.0, 10.0, 200.0], trials=3).set_index("cost_bp")
    assert table["silent"].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert table["trips"].tolist() == [1, 1, 0]  # held from the first candle to the second, it is one round trip
    assert table["total"].tolist() == pytest.approx([0.01 + 1 / 101 - 5e-4, 0.01 - 10e-4, 0])
    assert math.isnan(table.loc[200.0, "deflated"])


def test_decisions_without_cost_are_the_sign_rule_deflated_alike() -> None:
    """On noise, every forecast is traded: all results are those of `money`."""
    rng = np.random.default_rng(4)
    close = 100 * np.exp(np.concatenate([[0], np.cumsum(rng.normal(0, 1e-3, 3000))]))
    frame = forecast_frame(close, {"m": {"y_hat": close[:-1] * np.exp(rng.normal(0, 1e-4, 3000))}})
    found = decisions(frame[frame["model"] == "m"], [0.0], trials=7).iloc[0]
    expected = row(money(frame, costs_bp=[0.0], trials=7))
    names = ["trips", "gross_bp", "total", "drawdown", "sharpe", "deflated"]
    assert found[names].tolist() == pytest.approx(expected[names].tolist())
    assert 0 < found["deflated"] < 1


def test_decisions_beyond_the_next_candle_do_not_overlap() -> None:
    """Of three candles ahead each third forecast is traded: 3 % twice, held as one trade."""
    close = 100 * 1.01 ** np.arange(10)
    frame = forecast_frame(close[:7], {"m": {"y_hat": close[3:9]}})
    frame = frame[frame["model"] == "m"].assign(horizon=3, y=close[3:9])
    found = decisions(frame, [1.0]).iloc[0]
    assert (found["trips"], found["silent"]) == (1, 0)
    assert found["total"] == pytest.approx(2 * (1.01**3 - 1) - 1e-4)
    assert decisions(frame.head(0)).empty
