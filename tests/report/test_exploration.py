from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.stattools import acf

from btcml.candles import as_candles
from btcml.errors import ReportError
from btcml.report import exploration
from btcml.report.exploration import completeness, stationarity


def candles(close, *, drop=(), step="5min", **columns) -> pd.DataFrame:
    times = pd.date_range("2024-12-30", periods=len(close), freq=step, tz="UTC")
    frame = pd.DataFrame(
        {"open_time": times, "open": close, "high": close, "low": close, "close": close, "volume": 1.0}
    )
    return as_candles(frame.assign(**columns).drop(index=list(drop)), "5m")


def test_a_return_across_a_gap_is_unknown():
    """A hole has no return: the step after it is not one candle."""
    frame = candles([100.0, 101.0, 102.0, 103.0], drop=[2])
    assert exploration.returns_bp(frame, "5m").round(3).fillna(0).tolist() == [0.0, 99.503, 0.0]


def test_completeness_counts_the_candles_of_each_week():
    """Weeks of seven days from the first of January; only the span itself is expected."""
    frame = candles(np.full(288 * 4, 100.0), drop=[300, 301])
    table = completeness(frame, "5m")
    assert table[["year", "week", "expected", "found"]].to_numpy().tolist() == [
        [2024, 53, 576, 574],
        [2025, 1, 576, 576],
    ]
    assert table["share"].iloc[1] == 1.0


def test_autocorrelation_is_that_of_statsmodels():
    """Oracle: the textbook estimate, but for pairs instead of n in the mean."""
    values = pd.Series(np.random.default_rng(3).normal(size=2000)).rolling(3, min_periods=1).mean()
    ours = exploration.autocorrelation(values, 5)["correlation"].to_numpy()
    assert ours == pytest.approx(acf(values, nlags=5, adjusted=True)[1:], abs=1e-12)


def test_autocorrelation_leaves_missing_pairs_out():
    """A gap takes its pairs with it and moves nothing else to its place."""
    values = pd.Series([1.0, -1.0] * 50)
    values.iloc[10] = np.nan
    assert exploration.autocorrelation(values, 1)["correlation"].iloc[0] == pytest.approx(-1, abs=0.03)


def test_the_tails_of_a_normal_series_are_normal():
    """Where moves are normal, observed and expected agree."""
    table = exploration.tail_shares(pd.Series(np.random.default_rng(0).normal(size=200_000)))
    assert table["share"].iloc[:3].to_numpy() == pytest.approx(table["normal"].iloc[:3].to_numpy(), rel=0.1)


def test_a_sample_has_no_rhythm():
    """Every third, fourth or 288th row would miss minutes of the quarter, or hours of the day."""
    drawn = exploration.sampled(312_000, 8_000)
    assert len(drawn) == len(set(drawn.tolist())) == 8_000
    assert (np.diff(drawn) > 0).all()
    assert set(drawn % 3) == {0, 1, 2}
    assert set(drawn % 288) == set(range(288))
    assert (drawn == exploration.sampled(312_000, 8_000)).all()
    assert exploration.sampled(5, 8).tolist() == [0, 1, 2, 3, 4]


def test_daily_candles_hold_first_highest_lowest_last_and_sum():
    """A day is one candle."""
    table = exploration.daily_candles(candles([100.0, 120.0, 90.0, 110.0], step="12h"))
    assert table[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [100, 120, 100, 120, 2], [90, 110, 90, 110, 2],
    ]  # fmt: skip


def test_thirds_of_daily_volatility_hold_equally_many_days():
    """Calm, middle and storm are ranks."""
    close = 100 * np.exp(np.random.default_rng(1).normal(0, 1e-3, 288 * 9).cumsum())
    table = exploration.daily_volatility(candles(close), "5m")
    assert table["third"].value_counts().to_dict() == {"calm": 3, "middle": 3, "storm": 3}
    assert (
        table.groupby("third")["volatility_bp"].max()["calm"] <= table.groupby("third")["volatility_bp"].min()["storm"]
    )


def test_the_weekly_rhythm_is_relative_to_its_mean():
    """One is the average hour."""
    close = 100 * np.exp(np.random.default_rng(1).normal(0, 1e-3, 288 * 8).cumsum())
    table = exploration.weekly_rhythm(candles(close), "5m")
    assert len(table) == 168
    assert table["volatility"].mean() == pytest.approx(1)


def test_order_flow_deciles_are_empty_without_the_taker_side():
    """A source without the taker's side has no order flow, and gets no invented one."""
    assert exploration.order_flow_deciles(candles([100.0, 101.0, 102.0]), "5m").empty


def test_order_flow_that_leads_is_seen():
    """Planted: the next return follows the flow."""
    flow = np.random.default_rng(5).uniform(-1, 1, 5000)
    close = 100 * np.exp(np.concatenate([[0], 1e-4 * flow[:-1]]).cumsum())
    table = exploration.order_flow_deciles(candles(close, taker_buy_base=(flow + 1) / 2), "5m")
    assert table["next_return_bp"].is_monotonic_increasing


def test_a_random_walk_is_not_stationary_and_its_returns_are():
    """A random walk fails both tests, its steps pass them."""
    close = 100 * np.exp(np.random.default_rng(2).normal(0, 1e-3, 20_000).cumsum())
    found = stationarity(candles(close)).set_index(["series", "test"])["stationary"].to_dict()
    assert found == {
        ("log price", "ADF"): False, ("log price", "KPSS"): False,
        ("log return", "ADF"): True, ("log return", "KPSS"): True,
    }  # fmt: skip


def test_a_price_that_never_moves_is_refused():
    """A test statistic of nothing would be NaN."""
    with pytest.raises(ReportError, match="moving values"):
        stationarity(candles(np.full(200, 100.0)))


def test_turning_points_are_those_of_a_search_by_hand():
    """Oracle: a loop over all days; of equal ones it is the first."""
    close = np.random.default_rng(2).integers(90, 110, size=60).astype(float)
    days = exploration.daily_candles(candles(close, step="D", drop=[10, 11, 30]))
    table = exploration.turning_points(days).set_index("kind")
    pairs = [(one, other) for one, other in zip(days.index, days.index[1:], strict=False)]
    whole = [pair for pair in pairs if (days["day"][pair[1]] - days["day"][pair[0]]).days == 1]
    size = {b: days["close"][b] / days["close"][a] - 1 for a, b in whole}
    assert table.at["highest", "value"] == max(days["close"])
    assert table.at["lowest", "day"] == days["day"][list(days["close"]).index(min(days["close"]))]
    largest = max(size, key=lambda row: abs(size[row]))
    assert table.loc["move", ["day", "value"]].tolist() == [days["day"][largest], pytest.approx(size[largest])]


def test_what_does_not_move_has_no_turning_point():
    """Equal closes have none; where the price changes across a missing day alone, there is no move."""
    days = exploration.daily_candles(candles([1.0, 1.0, 5.0, 2.0, 2.0], step="D", drop=[2]))
    assert list(exploration.turning_points(days)["kind"]) == ["highest", "lowest"]
    assert exploration.turning_points(days.iloc[:2]).empty
    assert exploration.turning_points(days.iloc[:1]).empty
