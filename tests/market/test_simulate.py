"""The simulated market: the same candles whatever is asked, and a skill that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.candles import COLUMNS, INTERVALS, candle_gaps, resample_candles
from btcml.errors import UsageError
from btcml.market import Source
from btcml.market.simulate import DEFAULT_END, ORIGIN, SYMBOLS, SimulatedMarket, attainable_r2, true_r2


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return SimulatedMarket(clock=lambda: at("2026-11-20"))


@pytest.fixture(scope="module")
def years(market: SimulatedMarket) -> pd.DataFrame:
    return market.fetch_candles("BTCUSDT", "5m", at("2021-07-01"), at("2025-07-01"))


def test_any_range_gives_the_same_candles(market: SimulatedMarket) -> None:
    """A page equals its part of a longer answer, bit for bit, also across midnights."""
    long = market.fetch_candles("BTCUSDT", "1m", at("2026-11-01"), at("2026-11-09"))
    for start, end in (("2026-11-03", "2026-11-04"), ("2026-11-02 23:57", "2026-11-05 00:02")):
        part = market.fetch_candles("BTCUSDT", "1m", at(start), at(end))
        inside = long["open_time"].between(at(start), at(end), inclusive="left")
        pd.testing.assert_frame_equal(part, long[inside].reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("interval", [name for name in INTERVALS if name != "1m"])
def test_every_interval_is_the_resampled_minutes(market: SimulatedMarket, interval: str) -> None:
    """There is one path: longer candles are the minutes, resampled exactly."""
    start, end = at("2024-12-30"), at("2025-01-20")
    minutes = market.fetch_candles("ETHUSDT", "1m", start, end + pd.Timedelta(days=7))
    expected = resample_candles(minutes, interval)
    expected = expected[expected["open_time"].between(start, end, inclusive="left")].reset_index(drop=True)
    found = market.fetch_candles("ETHUSDT", interval, start, end)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_frame_is_whole_and_obeys_the_laws_of_a_candle(market: SimulatedMarket) -> None:
    """No hole, no NaN, high and low enclose, bought at most traded, opens at the last close."""
    frame = market.fetch_candles("BTCUSDT", "1m", at("2025-03-01"), at("2025-03-08"))
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 7 * 1440
    assert candle_gaps(frame["open_time"], "1m").empty
    assert not frame.isna().any().any()
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all()
    assert (frame["taker_buy_base"] <= frame["volume"]).all()
    assert (frame["open"].iloc[1:].to_numpy() == frame["close"].iloc[:-1].to_numpy()).all()


def test_only_final_candles_are_fetched() -> None:
    """A candle that closes after the market's clock is not there yet."""
    market = SimulatedMarket(clock=lambda: at("2025-01-01 00:09:59.5"))
    frame = market.fetch_candles("BTCUSDT", "5m", at("2025-01-01"), at("2025-01-02"))
    assert frame["open_time"].tolist() == [at("2025-01-01")]


def test_there_is_nothing_before_the_origin(market: SimulatedMarket) -> None:
    """A range that starts earlier starts at the origin; one that ends earlier is empty."""
    frame = market.fetch_candles("BTCUSDT", "1h", at("2015-01-01"), at("2017-08-18"))
    assert frame["open_time"].iloc[0] == ORIGIN
    assert market.fetch_candles("BTCUSDT", "1h", at("2015-01-01"), at("2016-01-01")).empty


def test_a_symbol_that_does_not_exist_is_refused_by_name(market: SimulatedMarket) -> None:
    """A misspelt symbol is the user's mistake and is named."""
    with pytest.raises(UsageError, match="BTCUSTD"):
        market.fetch_candles("BTCUSTD", "5m", at("2025-01-01"), at("2025-01-02"))


def test_symbols_and_seeds_are_different_paths() -> None:
    """Seed and symbol choose the path, and prices stay near the symbol's level for nine years."""
    ranges = []
    for seed in range(2):
        for symbol, level in SYMBOLS.items():
            days = SimulatedMarket(seed).fetch_candles(symbol, "1d", at("2026-08-01"), at("2026-08-05"))
            ranges.append(days["close"].iloc[-1] / level)
    assert len(set(ranges)) == len(ranges)
    assert 0.1 < min(ranges) < max(ranges) < 10


@pytest.mark.parametrize("interval", ["5m", "15m", "1h"])
def test_the_flow_predicts_as_well_as_the_closed_form_says(years: pd.DataFrame, interval: str) -> None:
    """A regression on the flow of the last candles finds `attainable_r2`, in and out of sample alike."""
    frame = years if interval == "5m" else resample_candles(years, interval)
    returns = np.log(frame["close"]).diff()
    scale = returns.ewm(span=96).std()
    flow = frame["taker_buy_base"] / frame["volume"] - 0.5
    design = np.column_stack([flow.shift(k) * scale for k in range(4)])[100:-1]
    target = returns.to_numpy()[101:]
    beta = np.linalg.lstsq(design, target)[0]
    found = 1 - np.sum((target - design @ beta) ** 2) / np.sum(target**2)
    assert beta[0] > 0
    assert found == pytest.approx(attainable_r2(interval), rel=0.25)


def test_the_ideal_forecast_is_about_as_skilled_as_the_real_market_allows() -> None:
    """At 5m the MAE of the ideal forecast is 0.99 to 0.995 of persistence's."""
    assert 0.99 < (1 - true_r2("5m")) ** 0.5 < (1 - attainable_r2("5m")) ** 0.5 < 0.9955


def test_the_true_r2_bounds_the_attainable_one_at_every_interval() -> None:
    """Candles tell at most what the minutes tell, and at 1m all of it."""
    assert attainable_r2("1m") == pytest.approx(true_r2("1m"))
    for interval in INTERVALS:
        assert 0 < attainable_r2(interval) <= true_r2(interval) * (1 + 1e-12) < 0.05


def test_the_true_r2_is_reached_by_a_forecast_from_the_minutes(market: SimulatedMarket) -> None:
    """The last minute's flow alone forecasts the next hour as well as the closed form says."""
    minutes = market.fetch_candles("BTCUSDT", "1m", at("2021-07-01"), at("2025-07-01"))
    hours = resample_candles(minutes, "1h")
    flow = (minutes["taker_buy_base"] / minutes["volume"] - 0.5).to_numpy()[59::60]
    returns = np.log(hours["close"]).diff()
    forecast = (returns.ewm(span=48).std() * flow).to_numpy()[100:-1]
    target = returns.to_numpy()[101:]
    assert np.corrcoef(forecast, target)[0, 1] ** 2 == pytest.approx(true_r2("1h"), rel=0.25)


def test_volatility_clusters_tails_are_fat_and_days_have_a_rhythm(years: pd.DataFrame) -> None:
    """Absolute returns remember a day, kurtosis is far from normal, weekends are quiet."""
    returns = np.log(years["close"]).diff()
    size = returns.abs()
    assert size.autocorr(12) > 0.15
    assert size.autocorr(288) > 0.1
    assert returns.kurt() > 2
    weekend = years["open_time"].dt.day_of_week >= 5
    assert size[weekend].mean() < 0.9 * size[~weekend].mean()
    hourly = size.groupby(years["open_time"].dt.hour).mean()
    assert hourly.loc[14] > 1.5 * hourly.loc[3]


def test_the_simulated_market_is_a_source(market: SimulatedMarket) -> None:
    """It has the name, the clock and the fixed default end that the verbs rely on."""
    assert isinstance(market, Source)
    assert market.market == "simulated"
    assert market.now() == at("2026-11-20")
    assert market.default_end("BTCUSDT") == DEFAULT_END
