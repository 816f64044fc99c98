"""Raw rows of the exchange: every form is read correctly, and what is served reads back equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcml.contract import enforce_contract
from btcml.errors import SourceError
from btcml.market.klines import FIELDS, format_klines, merge_candles, parse_columns, parse_klines, parse_times
from btcml.market.simulate import SimulatedMarket

START = pd.Timestamp("2024-12-31 22:00", tz="UTC")


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    return SimulatedMarket().fetch_candles("BTCUSDT", "1m", START, START + pd.Timedelta("3h"))


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_what_is_served_reads_back_equal(candles: pd.DataFrame, unit: str) -> None:
    """Every column survives the exchange's text form bit for bit, in milliseconds and microseconds."""
    rows = format_klines(candles, "1m", unit)
    assert all(len(row) == len(FIELDS) for row in rows)
    pd.testing.assert_frame_equal(parse_klines(rows, "1m"), candles, check_exact=True)


def test_a_row_has_the_types_of_a_real_answer(candles: pd.DataFrame) -> None:
    """Integers for times and trades, text with at least eight decimals for numbers, "0" at the end."""
    row = format_klines(candles, "1m")[0]
    assert [type(value) for value in row] == [int, *[str] * 5, int, str, int, str, str, str]
    assert len(row[1].partition(".")[2]) >= 8
    assert row[6] == row[0] + 59_999


def test_unknown_columns_stay_unknown(candles: pd.DataFrame) -> None:
    """A file without order flow, replayed, does not turn into a market without buyers."""
    bare = candles.assign(quote_volume=np.nan, trades=np.nan, taker_buy_base=np.nan, taker_buy_quote=np.nan)
    pd.testing.assert_frame_equal(parse_klines(format_klines(bare, "1m"), "1m"), bare, check_exact=True)


@given(st.floats(min_value=1e-12, max_value=1e15))
def test_any_number_reads_back_to_the_same_float(value: float) -> None:
    """No rounding to eight decimals, no scientific notation."""
    frame = parse_klines([[1_700_000_000_000, "1", "1", "1", "1", "1", 1_700_000_059_999, "1", 1, "1", "1", "0"]], "1m")
    text = format_klines(frame.assign(volume=value), "1m")[0][5]
    assert float(text) == value
    assert "e" not in text


def test_the_unit_of_a_time_is_inferred_value_by_value() -> None:
    """Seconds, milliseconds, microseconds and nanoseconds may even stand in one column."""
    now = pd.Timestamp("2025-01-01 00:00:59.999", tz="UTC")
    column = pd.Series([now.value // 10**6, now.value // 10**3, now.value])
    assert parse_times(column, "open_time").tolist() == [now] * 3
    assert parse_times(pd.Series([now.value // 10**9]), "open_time")[0] == now.floor("s")


def test_microseconds_of_a_close_are_cut_to_the_exchanges_milliseconds() -> None:
    """The archive's close since 2025 and the API's are one time: no false revision."""
    archive, api = pd.Series([1_735_689_659_999_999]), pd.Series([1_735_689_659_999])
    assert parse_times(archive, "close_time").equals(parse_times(api, "close_time"))


@pytest.mark.parametrize("value", [0, 12_345, -1, 8 * 10**18])
def test_a_number_that_is_no_time_is_refused(value: int) -> None:
    """Outside the years 2009 to 2200 in every unit: the sentence names row and column."""
    with pytest.raises(SourceError, match="row 2, column open_time"):
        parse_times(pd.Series([1_700_000_000_000, value]), "open_time")


def test_naive_and_text_times_are_utc() -> None:
    """A time without a zone is UTC, one with a zone is converted."""
    expected = pd.Timestamp("2025-06-29 00:05", tz="UTC")
    for column in (
        pd.Series(pd.to_datetime(["2025-06-29 00:05:00"])),
        pd.Series(["2025-06-29 00:05:00"]),
        pd.Series(["2025-06-28T21:05:00-03:00"]),
    ):
        assert parse_times(column, "open_time")[0] == expected


def test_a_text_price_is_named_with_row_and_column(candles: pd.DataFrame) -> None:
    """The user can find the place in the file."""
    frame = candles.astype({"high": object})
    frame.loc[4, "high"] = "n/a"
    with pytest.raises(SourceError, match="row 5, column high: expected a number, found 'n/a'"):
        parse_columns(frame, "1m")


def test_a_row_of_another_width_is_refused() -> None:
    """A truncated row never shifts into other columns."""
    with pytest.raises(SourceError, match="12 fields, found 2"):
        parse_klines([[1, 2]], "1m")


def test_an_empty_answer_is_an_empty_frame() -> None:
    """Nothing there is an answer, not an error."""
    assert parse_klines([], "1m").empty


def test_of_equal_open_times_the_last_wins_and_order_is_restored(candles: pd.DataFrame) -> None:
    """Overlapping, duplicated and unordered rows end as one sorted, unique frame."""
    newer = candles.iloc[[3]].assign(close=1.0)
    mixed = merge_candles([candles.iloc[::-1], candles.iloc[:10], newer])
    assert mixed["open_time"].equals(candles["open_time"])
    assert mixed["close"].iloc[3] == 1.0


def test_different_rows_of_one_time_all_stay_for_the_contract(candles: pd.DataFrame) -> None:
    """Which of them is true is not known; equal ones are one, and a newer answer settles it."""
    rows = format_klines(candles, "1m")
    other = [rows[3][0], *(str(float(price) + 1) for price in rows[3][1:5]), *rows[3][5:]]
    found = parse_klines([*rows, rows[2], other], "1m")
    assert found["open_time"].tolist() == sorted([*candles["open_time"], candles["open_time"][3]])
    good, bad = enforce_contract(found, "1m")
    assert good.equals(candles.drop(index=3).reset_index(drop=True))
    assert bad["rule"].tolist() == ["unique_open_time"] * 2
    pd.testing.assert_frame_equal(merge_candles([found, candles.iloc[[3]]]), candles)
    unreadable = parse_klines([*rows, [*rows[3][:4], "n/a", *rows[3][5:]]], "1m", lenient=True)
    assert enforce_contract(unreadable, "1m")[1]["rule"].tolist() == ["unique_open_time", "required"]


@pytest.mark.real
def test_the_real_restated_minutes_are_read_in_both_versions(shared_data: Path) -> None:
    """Seventy minutes of April 2021 that the exchange changed later: every one of them differs."""
    raw = pd.read_csv(next((shared_data / "raw").glob("restated_*.csv")))
    versions = [
        parse_columns(raw.rename(columns=lambda name, end=end: name.removesuffix(end)), "1m")
        for end in ("_as_served_2021", "_restated")
    ]
    assert [len(version) for version in versions] == [70, 70]
    assert (versions[0] != versions[1])[["open", "high", "low", "close", "volume"]].any(axis=1).all()
    assert versions[0]["open_time"].iloc[0] == pd.Timestamp("2021-04-22 02:09", tz="UTC")


@pytest.mark.real
def test_the_real_odd_close_times_are_kept_as_they_are(shared_data: Path) -> None:
    """A halted candle closes when trading stopped, not a minute after its open."""
    raw = pd.read_csv(shared_data / "raw" / "BTCUSDT-1m_odd_close_time.csv")
    filled = raw.assign(open=1.0, high=1.0, low=1.0, close=1.0)
    frame = parse_columns(filled, "1m")
    length = frame["close_time"] - frame["open_time"]
    assert len(frame) == 17
    assert (length < pd.Timedelta(milliseconds=59_999)).all()
    assert frame["close_time"].tolist() == pd.to_datetime(raw["close_time"], unit="ms", utc=True).tolist()
