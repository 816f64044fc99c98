"""The vocabulary of a candle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.candles import (
    COLUMNS,
    INTERVALS,
    SeriesKey,
    as_candles,
    candle_gaps,
    check_symbol,
    content_hash,
    empty_candles,
    final_candles,
    infer_interval,
    interval_floor,
    resample_candles,
)
from btcml.errors import SourceError, UsageError


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def minutes(n, start="2025-01-01", **columns):
    """Return n one-minute candles with rising prices."""
    rise = np.arange(n, dtype=float)
    frame = pd.DataFrame({"open_time": pd.date_range(start, periods=n, freq="1min", tz="UTC")})
    values = {"open": 100 + rise, "high": 103 + rise, "low": 98 + rise, "close": 101 + rise, "volume": 1.0}
    return as_candles(frame.assign(**(values | columns)), "1m")


def test_a_key_rejects_unsafe_characters():
    """Symbols and markets go into paths and SQL comments: only harmless characters pass."""
    for market, symbol in (("binance", "../x"), ("binance", "btcusdt"), ("file:a/b", "BTCUSDT"), ("nyse", "BTCUSDT")):
        with pytest.raises(UsageError):
            SeriesKey(market, symbol, "5m")


def test_an_unknown_interval_is_refused_with_the_list_of_known_ones():
    """The sentence names what would have been right."""
    with pytest.raises(UsageError, match="one of 1m, 3m, 5m"):
        SeriesKey("binance", "BTCUSDT", "7m")


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_floor_is_on_the_grid_and_not_after_the_time(interval):
    """The candle that contains a time opens at most one interval before it."""
    time = utc("2025-06-30 12:34:56")
    floor = interval_floor(time, interval)
    assert floor <= time < floor + INTERVALS[interval]
    assert interval_floor(floor, interval) == floor


def test_weeks_open_on_monday():
    """The exchange's weekly candles open on Monday, 00:00 UTC."""
    assert interval_floor(utc("2017-08-17"), "1w") == utc("2017-08-14")


def test_a_close_time_is_filled_in_as_the_exchange_does():
    """Open + interval - 1 ms."""
    assert minutes(1)["close_time"].iloc[0] == utc("2025-01-01 00:00:59.999")


def test_a_text_price_is_refused_with_its_column():
    """A price that is no number cannot be stored."""
    frame = minutes(2).astype({"open": object})
    frame.loc[1, "open"] = "dear"
    with pytest.raises(SourceError, match="column open must hold numbers"):
        as_candles(frame, "1m")


def test_a_time_without_zone_is_refused():
    """Only the parsers of the exchange's data may assume a zone."""
    with pytest.raises(SourceError, match="timezone-aware"):
        as_candles(minutes(2).assign(open_time=pd.date_range("2025-01-01", periods=2)), "1m")


def test_unsorted_rows_are_sorted():
    """Frames are sorted by open time whatever order they come in."""
    shuffled = minutes(9).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(as_candles(shuffled, "1m"), minutes(9))


def test_the_candle_in_progress_is_not_final():
    """Final means that the close time is before the exchange's clock, not equal to it."""
    frame = minutes(3)
    assert len(final_candles(frame, utc("2025-01-01 00:02:59.999"))) == 2
    assert len(final_candles(frame, utc("2025-01-01 00:03:00"))) == 3


def test_a_gap_has_its_bounds_and_size():
    """Rows 3, 4 and 5 are gone: the gap starts at row 3 and ends where row 6 opens."""
    frame = minutes(10).drop(index=[3, 4, 5])
    gaps = candle_gaps(frame["open_time"], "1m")
    assert gaps.to_dict("records") == [{"start": utc("2025-01-01 00:03"), "end": utc("2025-01-01 00:06"), "missing": 3}]


def test_resampling_takes_first_highest_lowest_last_and_sums():
    """Five minutes make one candle; the unfinished rest is left out."""
    result = resample_candles(minutes(8), "5m")
    row = result.iloc[0]
    assert len(result) == 1
    assert (row["open"], row["high"], row["low"], row["close"], row["volume"]) == (100, 107, 98, 105, 5)
    assert row["close_time"] == utc("2025-01-01 00:04:59.999")


def test_a_minute_without_trades_makes_no_price():
    """The filler of a minute without trades is not the open of five minutes."""
    volume = np.array([0.0, 1, 1, 1, 1])
    assert resample_candles(minutes(5, volume=volume), "5m")["open"].iloc[0] == 101


def test_five_minutes_without_any_trade_keep_the_filler():
    """The exchange shows the last price; so do we."""
    assert resample_candles(minutes(5, volume=0.0), "5m")["close"].iloc[0] == 105


def test_the_interval_is_the_most_frequent_step():
    """Also with a hole."""
    assert infer_interval(minutes(50).drop(index=range(10, 30))["open_time"]) == "1m"
    with pytest.raises(SourceError, match="fewer than two"):
        infer_interval(minutes(1)["open_time"])


def test_an_empty_frame_has_the_columns_and_types_of_a_full_one():
    """So that no code needs a special case."""
    assert list(empty_candles().columns) == list(COLUMNS)
    assert empty_candles().dtypes.equals(minutes(1).dtypes)


@pytest.mark.real
def test_resampled_real_minutes_are_the_real_five_minutes(shared_data):
    """Prices bit for bit, sums to rounding, on a year of real candles."""
    five = resample_candles(as_candles(pd.read_parquet(shared_data / "BTCUSDT-1m.parquet"), "1m"), "5m")
    real = as_candles(pd.read_parquet(shared_data / "BTCUSDT-5m.parquet"), "5m")
    real = real[real["open_time"].isin(five["open_time"])].reset_index(drop=True)
    exact = ["open_time", "open", "high", "low", "close", "trades"]
    pd.testing.assert_frame_equal(five[exact], real[exact], check_exact=True)
    assert np.allclose(five["volume"], real["volume"], rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("btcusdt", "write BTCUSDT"),
        ("BTC USDT", "write BTCUSDT"),
        ("€", "as the exchange does"),
        ("", "such as BTCUSDT"),
    ],
)
def test_a_misspelt_symbol_is_refused_with_the_right_spelling(given, advice):
    """The message has the right spelling where it can be guessed."""
    assert check_symbol("1000SHIBUSDT") == "1000SHIBUSDT"
    with pytest.raises(UsageError, match=advice):
        check_symbol(given)


def mixed_frame():
    """Return a frame with a column of each kind."""
    times = pd.date_range("2025-01-01", periods=20, freq="1min", tz="UTC").as_unit("us")
    return pd.DataFrame(
        {
            "open_time": times,
            "close": np.arange(20) / 7,
            "trades": range(20),
            "odd": [True, False] * 10,
            "rule": "volume",
        }
    )


def test_the_hash_depends_on_content_alone():
    """Another index, a copy or a file between changes nothing."""
    same = content_hash([("candles", mixed_frame())])
    assert content_hash([("candles", mixed_frame().set_index(mixed_frame().index + 7))]) == same


@pytest.mark.parametrize(
    "change",
    [
        {"close": lambda f: np.nextafter(f["close"], 9)},
        {"open_time": lambda f: f["open_time"] + pd.Timedelta("1us")},
        {"trades": lambda f: f["trades"] + 1},
        {"odd": lambda f: ~f["odd"]},
        {"rule": "volumes"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_least_change_of_any_value_is_another_hash(change):
    """One bit of a float, a microsecond, a letter."""
    assert content_hash([("candles", mixed_frame().assign(**change))]) != content_hash([("candles", mixed_frame())])


def test_names_and_order_count_and_every_nan_is_the_same():
    """Names are part of the content; the bit pattern of a NaN is not."""
    one = content_hash([("candles", mixed_frame())])
    assert content_hash([("other", mixed_frame())]) != one
    assert content_hash([("candles", mixed_frame().rename(columns={"close": "open"}))]) != one
    odd = -np.array([np.nan])
    assert content_hash([("x", pd.DataFrame({"a": odd}))]) == content_hash([("x", pd.DataFrame({"a": [np.nan]}))])
