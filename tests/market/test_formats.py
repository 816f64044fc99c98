"""Files of other programs: read where it is certain, else refused with the reason; no row is lost in silence."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from btcml.errors import SourceError, UsageError
from btcml.market.files import FileMarket
from btcml.market.formats import load_file, symbol_in

HOURS = pd.date_range("2024-01-01", periods=48, freq="1h", tz="UTC")
PRICES = "100,102,99,101,5"
CUSTOM = pd.Timestamp("2024-01-03", tz="UTC")


def table(times=HOURS, prices: str = PRICES, header: str = "open_time,open,high,low,close,volume") -> str:
    rows = (
        f"{time:%Y-%m-%d %H:%M},{prices}" if isinstance(time, pd.Timestamp) else f"{time},{prices}" for time in times
    )
    return header + "\n" + "\n".join(rows) + "\n"


def load(tmp_path: Path, content: str | bytes, name: str = "BTCUSDT-1h.csv", timezone: str | None = None):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_file(path, timezone)


def refused(tmp_path: Path, content: str | bytes, name: str = "BTCUSDT-1h.csv") -> str:
    with pytest.raises(SourceError) as caught:
        load(tmp_path, content, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- finality ----


def test_the_last_candle_of_a_file_is_held_back(tmp_path: Path) -> None:
    """Exports of ccxt and charts end with the candle in progress: it is reported, not stored."""
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text(table())
    market = FileMarket(path)
    found = market.fetch_candles("BTCUSDT", "1h", HOURS[0], CUSTOM)
    assert len(found) == 47
    assert market.now() == HOURS[47]
    assert "the last candle, of 2024-01-02 23:00, may have been open" in market.notes[0]


def test_as_of_shows_that_the_last_candle_had_closed(tmp_path: Path) -> None:
    """What had closed when the file was written is final, and nothing else."""
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text(table())
    assert len(FileMarket(path, as_of=CUSTOM).series["BTCUSDT", "1h"]) == 48
    early = FileMarket(path, as_of=HOURS[10])
    assert len(early.series["BTCUSDT", "1h"]) == 10
    assert "the last 38 candles" in early.notes[0]


def test_what_has_not_closed_by_the_real_clock_is_never_final(tmp_path: Path) -> None:
    """Whatever the file or --as-of says."""
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text(table())
    market = FileMarket(path, as_of=CUSTOM, clock=lambda: HOURS[20])
    assert len(market.series["BTCUSDT", "1h"]) == 20


def test_an_archive_of_the_exchange_is_final_to_its_last_row(tmp_path: Path) -> None:
    """By its name and its twelve columns; the same rows under another name are not."""
    rows = "".join(f"{t.value // 10**6},{PRICES},{t.value // 10**6 + 3599999},1,1,1,1,0\n" for t in HOURS)
    for name, count in (("BTCUSDT-1h-2024-01.csv", 48), ("BTCUSDT-1h.csv", 47)):
        (tmp_path / name).write_text(rows)
        assert len(FileMarket(tmp_path / name).series["BTCUSDT", "1h"]) == count


def test_a_last_row_gives_way_to_the_next_file(tmp_path: Path) -> None:
    """Daily downloads that overlap by the candle in progress: the later file has it whole."""
    (tmp_path / "BTCUSDT-1.csv").write_text(table(HOURS[:20]) + f"{HOURS[20]:%Y-%m-%d %H:%M},100,100,100,100,1\n")
    (tmp_path / "BTCUSDT-2.csv").write_text(table(HOURS[20:]))
    series = FileMarket(tmp_path, as_of=CUSTOM).series["BTCUSDT", "1h"]
    assert len(series) == 48
    assert series["volume"].eq(5).all()


# ---- keys ----


def test_date_and_time_in_two_columns_are_joined(tmp_path: Path) -> None:
    """72 hours are 72 hours, not three days."""
    rows = "\n".join(f"{time:%Y-%m-%d},{time:%H:%M},{PRICES}" for time in HOURS)
    found = load(tmp_path, "Date,Time,Open,High,Low,Close,Volume\n" + rows)[0]
    assert found.interval == "1h"
    assert found.candles["open_time"].tolist() == HOURS.tolist()


@pytest.mark.parametrize("column", ["ticker", "tic", "Ticker", "symbol", "pair", "unique_id"])
def test_a_ticker_column_separates_the_series(tmp_path: Path, column: str) -> None:
    """No coin is stored as another, and no row vanishes."""
    rows = "".join(f"{name},{time:%Y-%m-%d %H:%M},{PRICES}\n" for time in HOURS for name in ("BTC/USDT", "ETH/USDT"))
    (tmp_path / "coins.csv").write_text(f"{column},date,open,high,low,close,volume\n{rows}")
    market = FileMarket(tmp_path / "coins.csv")
    assert market.symbols == ("BTCUSDT", "ETHUSDT")
    assert [len(frame) for frame in market.series.values()] == [47, 47]
    with pytest.raises(UsageError, match="holds BTCUSDT, ETHUSDT, found symbol 'SOLUSDT': give --symbol BTCUSDT"):
        market.span("SOLUSDT")


def test_two_rows_of_one_time_that_differ_are_refused_with_both(tmp_path: Path) -> None:
    """The user decides which one is true; exact repeats are harmless."""
    assert len(load(tmp_path, table() + table(HOURS[5:7]).split("\n", 1)[1])[0].candles) == 48
    message = refused(tmp_path, table() + "2024-01-01 05:00,100,102,99,100.5,5\n")
    assert "two rows are of 2024-01-01 05:00 and differ: [100.0, 102.0, 99.0, 101.0, 5.0]" in message
    assert "[100.0, 102.0, 99.0, 100.5, 5.0]" in message


def test_two_files_that_differ_are_refused_by_name(tmp_path: Path) -> None:
    """Not merged by the order of their names."""
    (tmp_path / "BTCUSDT-a.csv").write_text(table(HOURS[:30]))
    (tmp_path / "BTCUSDT-b.csv").write_text(table(HOURS[10:], "100,102,99,100.5,5"))
    with pytest.raises(SourceError, match=r"BTCUSDT-a.csv and BTCUSDT-b.csv differ for BTCUSDT 1h at 2024-01-01 10:00"):
        FileMarket(tmp_path).now()


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTCUSDT.csv", "BTCUSDT"),
        ("BTC_USDT-5m.csv", "BTCUSDT"),
        ("btcusdt_5m.csv", "BTCUSDT"),
        ("BTC-USD.csv", "BTCUSD"),
        ("BTC_FDUSD-5m.csv", "BTCFDUSD"),
        ("Binance_BTCUSDT_d.csv", "BTCUSDT"),
        ("BTCTRY-5m-2025-01.zip", "BTCTRY"),
        ("btc-perp-20211231-20220201_1m.csv", ""),
        ("candles.csv", ""),
    ],
)
def test_a_symbol_is_read_from_any_usual_name(name: str, symbol: str) -> None:
    """The longest that ends with a quote; a date or an interval is none."""
    assert symbol_in(name) == symbol


def test_the_symbol_that_is_asked_for_wins_over_the_name_of_a_file(tmp_path: Path) -> None:
    """With a note; a ticker column, or the names in a folder, tell the truth."""
    (tmp_path / "ETHUSDT-1h.csv").write_text(table())
    market = FileMarket(tmp_path / "ETHUSDT-1h.csv", symbol="BTCUSDT")
    assert len(market.fetch_candles("BTCUSDT", "1h", HOURS[0], CUSTOM)) == 47
    assert market.notes[0] == "the file's name says ETHUSDT; its candles are stored as BTCUSDT, as requested"
    assert FileMarket(tmp_path / "ETHUSDT-1h.csv", symbol="ETHUSDT").notes == market.notes[1:]
    with pytest.raises(UsageError, match="holds ETHUSDT, found symbol 'BTCUSDT'"):
        FileMarket(tmp_path, symbol="BTCUSDT").span("BTCUSDT")
    (tmp_path / "BTCUSDT-1h.csv").write_text(
        table(header="open_time,open,high,low,close,volume,ticker", prices=PRICES + ",ETHUSDT")
    )
    with pytest.raises(UsageError, match="holds ETHUSDT, found symbol 'BTCUSDT'"):
        FileMarket(tmp_path / "BTCUSDT-1h.csv", symbol="BTCUSDT").span("BTCUSDT")


def test_a_folder_of_several_files_keeps_their_symbols_apart_or_is_refused(tmp_path: Path) -> None:
    """No file without a symbol is merged into another."""
    (tmp_path / "BTCUSDT.csv").write_text(table())
    (tmp_path / "ETHUSDT.csv").write_text(table(prices="2300,2302,2299,2301,5"))
    assert FileMarket(tmp_path).symbols == ("BTCUSDT", "ETHUSDT")
    (tmp_path / "more.csv").write_text(table())
    with pytest.raises(SourceError, match=r"the symbol of more\.csv is not known"):
        FileMarket(tmp_path).now()


# ---- times ----


def test_an_epoch_decides_against_a_local_date(tmp_path: Path) -> None:
    """A local `date` beside an epoch `timestamp` shifts nothing, and the disagreement is noted."""
    rows = "".join(f"{t.value // 10**9},{t - pd.Timedelta(hours=4):%Y-%m-%d %H:%M},{PRICES}\n" for t in HOURS)
    found = load(tmp_path, "timestamp,date,open,high,low,close,volume\n" + rows)[0]
    assert found.candles["open_time"].tolist() == HOURS.tolist()
    assert found.notes == ("the columns date and timestamp disagree: timestamp, the time since 1970, is taken",)


AUTUMN = pd.date_range("2024-11-03 00:00", periods=300, freq="5min", tz="America/New_York")
SPRING = pd.date_range("2024-03-10 00:00", periods=300, freq="5min", tz="America/New_York")


def test_an_hour_that_comes_twice_is_refused_with_the_cure(tmp_path: Path) -> None:
    """Local autumn: twelve rows would be lost."""
    rows = [f"{time:%Y-%m-%d %H:%M},100,102,99,{100 + i % 7 / 4},5\n" for i, time in enumerate(AUTUMN)]
    message = refused(tmp_path, "date,open,high,low,close,volume\n" + "".join(rows))
    assert "two rows are of 2024-11-03 01:00 and differ" in message
    assert "--timezone" in message


def test_a_jump_of_an_hour_is_refused_with_the_cure(tmp_path: Path) -> None:
    """Local spring: every later row would be an hour off."""
    message = refused(tmp_path, table(SPRING))
    assert "the times jump by an hour at 2024-03-10 02:00" in message
    assert len(load(tmp_path, table(SPRING), timezone="UTC")[0].candles) == 300


@pytest.mark.parametrize("times", [AUTUMN, SPRING])
@pytest.mark.parametrize("falling", [False, True])
def test_a_zone_makes_local_times_right(tmp_path: Path, times: pd.DatetimeIndex, *, falling: bool) -> None:
    """Through both changes of the clock, in either order of rows."""
    found = load(tmp_path, table(times[::-1] if falling else times), timezone="America/New_York")[0]
    assert found.candles["open_time"].tolist() == times.tz_convert("UTC").tolist()


def test_a_wrong_zone_is_one_sentence(tmp_path: Path) -> None:
    """Misspelt, or one in which such a time does not exist."""
    for zone in ("America/Gotham", "Europe/Berlin"):
        with pytest.raises(SourceError, match=f"the times are not of the zone {zone}"):
            load(tmp_path, table(["2024-03-31 02:30", "2024-03-31 02:35"]), timezone=zone)


@pytest.mark.parametrize("late", ["59:59.999", "59:59"])
def test_stamps_of_the_close_are_read_as_such(tmp_path: Path, late: str) -> None:
    """Stamps at 23:59:59.999 are of the candle that ends then."""
    found = load(tmp_path, table([f"{time:%Y-%m-%d %H}:{late}" for time in HOURS]))[0]
    assert found.candles["open_time"].tolist() == HOURS.tolist()


def test_a_close_that_is_the_next_open_is_read(tmp_path: Path) -> None:
    """A millisecond before it, as the exchange writes it."""
    rows = "".join(f"{t:%Y-%m-%d %H:%M},{PRICES},{t + pd.Timedelta('1h'):%Y-%m-%d %H:%M}\n" for t in HOURS)
    found = load(tmp_path, "open_time,open,high,low,close,volume,close_time\n" + rows)[0].candles
    assert (found["close_time"] == found["open_time"] + pd.Timedelta("59min 59.999s")).all()


def test_days_that_begin_elsewhere_are_refused_with_the_reason(tmp_path: Path) -> None:
    """Local midnights and weeks from Sunday are not the exchange's."""
    days = pd.date_range("2024-01-01 05:00", periods=20, freq="1D", tz="UTC")
    weeks = pd.date_range("2024-01-07", periods=20, freq="7D", tz="UTC")
    for times in (days, weeks):
        assert "100% of the rows break the rule open_time_on_grid" in refused(tmp_path, table(times))


# ---- columns ----


@pytest.mark.parametrize("prices", ["100,101,102,99,5", "99,102,100,101,5"])
def test_columns_in_another_order_are_refused(tmp_path: Path, prices: str) -> None:
    """By position, as Bitfinex (open, close, high, low) or Coinbase (low, high, open, close) have them."""
    rows = [f"{time.value // 10**9},{prices if i % 2 else '9,9,9,9,5'}\n" for i, time in enumerate(HOURS)]
    message = refused(tmp_path, "".join(rows))
    assert message.startswith("BTCUSDT-1h.csv: 50% of the rows break the rule")
    assert "another order" in message
    header = "time,open,close,high,low,volume\n" if prices.endswith("99,5") else "time,low,high,open,close,volume\n"
    assert load(tmp_path, header + "".join(rows))[0].candles["close"].isin([9, 101]).all()


def test_a_nameless_first_column_is_the_time(tmp_path: Path) -> None:
    """As pandas writes an index."""
    found = load(tmp_path, table(header=",Open,High,Low,Close,Volume"))[0]
    assert found.candles["open_time"].tolist() == HOURS.tolist()


def test_an_index_of_times_is_the_time(tmp_path: Path) -> None:
    """Parquet and Feather with an index, whatever its name."""
    frame = pd.DataFrame({"Open": 100.0, "High": 102.0, "Low": 99.0, "Close": 101.0, "Volume": 5.0}, index=HOURS)
    for name in (None, "open_time", "Date"):
        frame.rename_axis(name).to_parquet(tmp_path / "x.parquet")
        assert load_file(tmp_path / "x.parquet")[0].candles["open_time"].tolist() == HOURS.tolist()


def test_columns_of_python_binance_are_known(tmp_path: Path) -> None:
    """Their short names of the taker's columns, too."""
    for names in ("quote_av,trades,tb_base_av,tb_quote_av", "qav,num_trades,taker_base_vol,taker_quote_vol"):
        found = load(
            tmp_path, table(prices=PRICES + ",500,7,2,200", header=f"timestamp,open,high,low,close,volume,{names}")
        )
        assert found[0].candles.iloc[0, 7:].tolist() == [500, 7, 2, 200]


def test_the_file_of_kraken_is_read(tmp_path: Path) -> None:
    """Seven columns without a header: the last is the number of trades."""
    found = load(tmp_path, "".join(f"{time.value // 10**9},{PRICES},12\n" for time in HOURS), "XBTUSD_60.csv")[0]
    assert (found.symbol, found.candles["trades"].iloc[0]) == ("XBTUSD", 12)


def test_trades_are_named_for_what_they_are(tmp_path: Path) -> None:
    """Both kinds of the archive, with and without a header."""
    agg = "1,100.0,2.0,1,2,1704067200000,true,true\n"
    header = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
    for content in (
        agg,
        "1,100.0,2.0,200.0,1704067200000,true,true\n",
        header + "1,100.0,2.0,1,2,1704067200000,true\n",
    ):
        assert "these are trades, not candles" in refused(tmp_path, content)


def test_the_file_of_cryptodatadownload_is_read(tmp_path: Path) -> None:
    """An address first, newest row first, volumes named by their unit, seconds and milliseconds mixed."""
    rows = "".join(
        f"{t.value // (10**9 if i < 20 else 10**6)},{t:%Y-%m-%d %H:%M:%S},BTC/USDT,100,102,99,101,5,500,7\n"
        for i, t in enumerate(HOURS[::-1])
    )
    header = (
        "https://www.CryptoDataDownload.com\nUnix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount\n"
    )
    found = load(tmp_path, header + rows, "Binance_BTCUSDT_1h.csv")[0]
    assert found.candles["open_time"].tolist() == HOURS.tolist()
    assert found.candles.loc[0, ["volume", "quote_volume", "trades"]].tolist() == [5, 500, 7]


def test_the_file_of_yfinance_is_read(tmp_path: Path) -> None:
    """Three header lines: names, tickers, the name of the index."""
    head = "Price,Close,High,Low,Open,Volume\nTicker,BTC-USD,BTC-USD,BTC-USD,BTC-USD,BTC-USD\nDate,,,,,\n"
    rows = "".join(f"{day:%Y-%m-%d},101,102,99,100,5\n" for day in pd.date_range("2024-01-01", periods=9))
    found = load(tmp_path, head + rows, "data.csv")[0]
    assert (found.symbol, found.interval, len(found.candles)) == ("BTCUSD", "1d", 9)
    assert found.candles.loc[0, ["open", "close"]].tolist() == [100, 101]
    two = head.replace("BTC-USD\nDate", "ETH-USD\nDate")
    assert "the tickers BTC-USD, ETH-USD side by side" in refused(tmp_path, two + rows)


def test_six_fields_of_json_are_read_compressed_or_not(tmp_path: Path) -> None:
    """As freqtrade and ccxt write them."""
    text = json.dumps([[t.value // 10**6, 100, 102, 99, 101, 5] for t in HOURS]).encode()
    for name, content in (("BTC_USDT-1h.json", text), ("BTC_USDT-1h.json.gz", gzip.compress(text))):
        found = load(tmp_path, content, name)[0]
        assert (found.symbol, found.interval, len(found.candles)) == ("BTCUSDT", "1h", 48)


def test_feather_is_read(tmp_path: Path) -> None:
    """As freqtrade writes it."""
    frame = pd.DataFrame({"date": HOURS, "open": 100.0, "high": 102.0, "low": 99.0, "close": 101.0, "volume": 5.0})
    frame.to_feather(tmp_path / "BTC_USDT-1h.feather")
    assert len(load_file(tmp_path / "BTC_USDT-1h.feather")[0].candles) == 48


YAHOO = "Date,Open,High,Low,Close,Adj Close,Volume\n"
KAGGLE = "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price\n"
READ = {
    "byte order mark": b"\xef\xbb\xbf" + table().encode(),
    "UTF-16": table().encode("utf-16"),
    "CRLF": table().replace("\n", "\r\n").encode(),
    "TradingView": "".join(
        ["time,open,high,low,close,Volume,Volume MA\n", *(f"{t.value // 10**9},{PRICES},NaN\n" for t in HOURS)]
    ).encode(),
    "Yahoo": (YAHOO + "".join(f"{t:%Y-%m-%d %H:%M},100,102,99,101,101,5\n" for t in HOURS)).encode(),
    "Kaggle": (KAGGLE + "".join(f"{t.value // 10**9},{PRICES},500,100\n" for t in HOURS)).encode(),
}


@pytest.mark.parametrize("kind", READ)
def test_usual_exports_are_read(tmp_path: Path, kind: str) -> None:
    """Encodings, ends of lines, and the columns of other programs."""
    found = load(tmp_path, READ[kind])[0]
    assert (found.symbol, found.interval) == ("BTCUSDT", "1h")
    assert found.candles["open_time"].tolist() == HOURS.tolist()
    assert found.candles[["open", "high", "low", "close", "volume"]].drop_duplicates().to_numpy().tolist() == [
        [100, 102, 99, 101, 5]
    ]
    assert found.candles["quote_volume"].isin([500]).all() == (kind == "Kaggle")


@pytest.mark.parametrize("kind", ["Decimal", "New York"])
def test_types_of_parquet_are_read(tmp_path: Path, kind: str) -> None:
    """Decimal numbers, and times with a zone of their own."""
    frame = pd.DataFrame({"open_time": HOURS, "open": 100.0, "high": 102.0, "low": 99.0, "close": 101.0, "volume": 5.0})
    if kind == "Decimal":
        frame = frame.assign(**{name: frame[name].map(lambda value: Decimal(str(value))) for name in frame.columns[1:]})
    else:
        frame = frame.assign(open_time=HOURS.tz_convert("America/New_York"))
    frame.to_parquet(tmp_path / "x.parquet")
    found = load_file(tmp_path / "x.parquet")[0].candles
    assert (found["open_time"].tolist(), found["close"].unique().tolist()) == (HOURS.tolist(), [101])


def test_minutes_without_a_price_are_holes(tmp_path: Path) -> None:
    """As Kaggle's file of minutes has them: kept for quarantine, the others are candles."""
    rows = [f"{t:%Y-%m-%d %H:%M},{PRICES if i % 3 else 'NaN,NaN,NaN,NaN,NaN'}\n" for i, t in enumerate(HOURS)]
    found = load(tmp_path, "open_time,open,high,low,close,volume\n" + "".join(rows))[0].candles
    assert (len(found), int(found["close"].isna().sum())) == (48, 16)


REFUSED = {
    "days before months": (
        table([f"{t:%d/%m/%Y %H:%M}" for t in HOURS]),
        "column open_time: expected a time, found '01/",
    ),
    "a page": ("<!DOCTYPE html><html><body>Log in</body></html>\n", "this is not a file of candles: the first line is"),
    "cut off": (table()[:-8], "cannot be read as csv: CSV parse error: Expected 6 columns, got 4"),
    "milliseconds of the day, as Lean has them": (
        f"0,{PRICES}\n60000,{PRICES}\n",
        "since 1970, in the years 2009 to 2200, found 0",
    ),
    "no volume": (table(header="open_time,open,high,low,close", prices="1,1,1,1"), "missing: volume"),
    "empty volumes": (table(prices="1,1,1,1,"), "100% of the rows break the rule required: no value in volume"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_by_its_cause(tmp_path: Path, kind: str) -> None:
    """One sentence with the row, the column or the line."""
    content, says = REFUSED[kind]
    assert says in refused(tmp_path, content)


def test_times_that_a_spreadsheet_rounded_are_named(tmp_path: Path) -> None:
    """1.7E+12 has lost its digits: nothing can be made of it."""
    message = refused(tmp_path, table(["1.70407E+12", "1.70407E+12"]))
    assert "row 1: the time 1.70407E+12 was rounded by a spreadsheet" in message


def test_a_repeated_header_is_skipped(tmp_path: Path) -> None:
    """As `cat *.csv` leaves it."""
    assert len(load(tmp_path, table(HOURS[:20]) + table(HOURS[20:]))[0].candles) == 48


def test_a_row_without_a_ticker_is_refused(tmp_path: Path) -> None:
    """It would belong to nobody."""
    rows = f"BTC,2024-01-01 00:00,{PRICES}\n,2024-01-01 01:00,{PRICES}\n"
    assert "row 2: no ticker" in refused(tmp_path, "ticker,date,open,high,low,close,volume\n" + rows)


# ---- variants of the kinds above ----


def utc(times) -> pd.DatetimeIndex:
    return pd.date_range(times, periods=600, freq="5min", tz="UTC")


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Asia/Jerusalem", "2024-03-28"),  # a Friday
        ("Africa/Cairo", "2024-04-25"),
        ("America/Sao_Paulo", "2018-11-03"),  # in November
        ("Asia/Tehran", "2022-03-21"),  # a Tuesday
        ("Australia/Lord_Howe", "2024-10-05"),  # half an hour
        ("America/Nuuk", "2023-03-25"),  # at ten in the evening
    ],
)
def test_clocks_are_put_forward_on_any_day_and_by_any_length(tmp_path: Path, zone: str, day: str) -> None:
    """The rules of every zone are known: not only Sunday nights in March."""
    local = list(utc(day).tz_convert(zone).tz_localize(None))
    assert "--timezone" in refused(tmp_path, table(local), "BTCUSDT-5m.csv")
    (series,) = load(tmp_path, table(local), "BTCUSDT-5m.csv", zone)
    assert series.candles["open_time"].tolist() == utc(day).tolist()


def test_a_stamp_of_the_close_jumps_as_well(tmp_path: Path) -> None:
    """A file with a close time alone is local, too."""
    local = utc("2024-03-30").tz_convert("Europe/Berlin").tz_localize(None) + pd.Timedelta("5min")
    header = "close_time,open,high,low,close,volume"
    assert "--timezone" in refused(tmp_path, table(list(local), header=header), "BTCUSDT-5m.csv")


def test_the_zone_is_that_of_the_close_time_too(tmp_path: Path) -> None:
    """Else every row of a local file with both times would close before it opens."""
    rows = [f"{time:%Y-%m-%d %H:%M},{PRICES},{time + pd.Timedelta('59min59s'):%Y-%m-%d %H:%M:%S}" for time in HOURS]
    text = "open_time,open,high,low,close,volume,close_time\n" + "\n".join(rows) + "\n"
    (series,) = load(tmp_path, text, timezone="America/New_York")
    assert series.candles["open_time"].iloc[0] == pd.Timestamp("2024-01-01 05:00", tz="UTC")
    assert series.candles["close_time"].iloc[0] == pd.Timestamp("2024-01-01 05:59:59", tz="UTC")


@pytest.mark.parametrize("zone", ["", "Europe", "../etc", "UTC+8", "Nowhere/X"])
def test_no_zone_at_all_is_one_sentence(tmp_path: Path, zone: str) -> None:
    """Whatever the library of zones raises."""
    with pytest.raises(SourceError, match="not of the zone"):
        load(tmp_path, table(), timezone=zone)


@pytest.mark.parametrize("column", ["asset", "name", "Asset_ID", "product_id", "exchange", "interval"])
def test_series_that_any_column_tells_apart_are_never_mixed(tmp_path: Path, column: str) -> None:
    """Where their times differ, no row contradicts another: the column alone shows it."""
    text = table(HOURS[:24], f"{PRICES},one", f"open_time,open,high,low,close,volume,{column}")
    text += table(HOURS[24:], f"{PRICES},two", "").lstrip()
    assert "holds several values (one, two)" in refused(tmp_path, text)
    assert len(load(tmp_path, text.replace("two", "one"))[0].candles) == 48


def damaged(name: str) -> bytes:
    """Content of a file that a library refuses in a way of its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", table())
    packed = bytearray(buffer.getvalue())
    entry = packed.find(b"PK\x01\x02")
    if name == "encrypted.zip":
        packed[6] |= 1
        packed[entry + 8] |= 1
    elif name == "method.zip":
        packed[8] = packed[entry + 10] = 93
    elif name == "corrupt.zip":
        packed[60:80] = b"\xff" * 20
    elif name == "corrupt.csv.gz":
        packed = bytearray(gzip.compress(table().encode()))
        packed[30:60] = b"\xff" * 30
    elif name == "deep.json":
        packed = bytearray(b"[" * 100_000)
    else:
        packed = bytearray(b"[[1704067200000,%s,2,1,2,3],[1704070800000,1,2,1,2,3]]" % (b"9" * 400))
    return bytes(packed)


@pytest.mark.parametrize(
    "name", ["encrypted.zip", "method.zip", "corrupt.zip", "corrupt.csv.gz", "deep.json", "long.json"]
)
def test_damage_of_any_kind_is_one_sentence(tmp_path: Path, name: str) -> None:
    """Each library has its own exceptions."""
    assert refused(tmp_path, damaged(name), name).startswith(name)


def test_a_parquet_with_two_header_lines_is_one_sentence(tmp_path: Path) -> None:
    """As yfinance gives it for several tickers."""
    path = tmp_path / "x.parquet"
    names = pd.MultiIndex.from_product([["BTC-USD"], ["Open", "High", "Low", "Close", "Volume"]])
    pd.DataFrame(1.0, index=HOURS, columns=names).to_parquet(path)
    with pytest.raises(SourceError, match="not a file of candles"):
        load_file(path)


def test_what_macos_adds_to_zips_and_folders_is_left_out(tmp_path: Path) -> None:
    """Its files begin with a point and repeat the name."""
    with zipfile.ZipFile(tmp_path / "BTCUSDT-1h.zip", "w") as archive:
        archive.writestr("BTCUSDT-1h.csv", table())
        archive.writestr("__MACOSX/._BTCUSDT-1h.csv", b"\0\5")
    (tmp_path / "._BTCUSDT-1h.zip").write_bytes(b"\0\5")
    assert len(FileMarket(tmp_path).series["BTCUSDT", "1h"]) == 47


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("binance_btc_usdt_1h.csv", "BTCUSDT"),
        ("BTCBRL.csv", "BTCBRL"),
        ("usdt-try_1h.csv", "USDTTRY"),
        ("entry.csv", ""),
    ],
)
def test_a_symbol_is_read_from_more_names(name: str, symbol: str) -> None:
    """The exchange's name before a pair is no coin; local currencies are quotes."""
    assert symbol_in(name) == symbol


def test_a_file_named_like_a_month_that_is_not_over_is_no_archive(tmp_path: Path) -> None:
    """The archive has none: its last row may have been open when another program wrote it."""
    opened = [int(time.timestamp()) * 1000 for time in HOURS]
    text = "".join(f"{time},{PRICES},{time + 3_599_999},1,1,1,1,0\n" for time in opened)
    assert load(tmp_path, text, "BTCUSDT-1h-2024-01.csv")[0].final
    assert not load(tmp_path, text, "BTCUSDT-1h-2199-01.csv")[0].final
    assert not load(tmp_path, text, "BTCUSDT-1h-2199-01-31.csv")[0].final


def test_text_among_times_is_blamed_by_its_own_row(tmp_path: Path) -> None:
    """Not the first row, whose time is right."""
    text = table(range(1_704_067_200_000, 1_704_067_200_000 + 48 * 3_600_000, 3_600_000))
    assert "row 49, column open_time" in refused(tmp_path, f"{text}total,,,,,12\n")


def test_a_rounded_time_is_found_in_any_row(tmp_path: Path) -> None:
    """1.704E+12 is a time on the grid of 5m, and most probably the wrong one."""
    text = table(["1703980500000", "1703980800000", "1.704E+12", "1704000300000"])
    assert "row 3: the time 1.704E+12 was rounded" in refused(tmp_path, text)


def test_closes_tell_the_interval_where_most_candles_are_missing(tmp_path: Path) -> None:
    """Every twelfth 5m candle is no series of 1h."""
    rows = [f"{time:%Y-%m-%d %H:%M},{PRICES},{time + pd.Timedelta('299999ms')}" for time in HOURS]
    text = "open_time,open,high,low,close,volume,close_time\n" + "\n".join(rows) + "\n"
    assert load(tmp_path, text, "x.csv")[0].interval == "5m"


def test_no_longer_candle_is_made_of_a_row_that_breaks_a_rule(tmp_path: Path) -> None:
    """It would hide the broken row in a candle that keeps all rules."""
    times = pd.date_range("2024-01-01", periods=600, freq="5min", tz="UTC")
    rows = table(times).splitlines()
    rows[31] = rows[31].replace(PRICES, "100,102,101,90,5")
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text("\n".join(rows))
    market = FileMarket(path)
    found = market.fetch_candles("BTCUSDT", "1h", times[0], times[-1])
    assert pd.Timestamp("2024-01-01 02:00", tz="UTC") not in found["open_time"].tolist()
    assert len(found) == 48
    reason = "parts of 5m are missing or break a rule"
    assert market.notes[-1] == f"1 candles of 1h are not made, the first of 2024-01-01 02:00: {reason}"


def test_no_longer_candle_is_made_where_a_part_is_missing(tmp_path: Path) -> None:
    """Its volume would be too small, and its close another: the count is reported."""
    times = pd.date_range("2024-01-01", periods=600, freq="5min", tz="UTC")
    path = tmp_path / "BTCUSDT-5m.csv"
    path.write_text(table(times.delete([40, 41, 100])))
    market = FileMarket(path)
    found = market.fetch_candles("BTCUSDT", "1h", times[0], times[-1])
    lost = [pd.Timestamp(f"2024-01-01 {hour}:00", tz="UTC") for hour in ("03", "08")]
    assert len(found) == 47
    assert not found["open_time"].isin(lost).any()
    assert "2 candles of 1h are not made, the first of 2024-01-01 03:00" in market.notes[-1]
