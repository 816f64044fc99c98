"""The replay exchange over real HTTP: routes, types, refusals, weights, clock and archive."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from btcml.errors import UsageError
from btcml.market.files import FileMarket
from btcml.market.klines import parse_klines
from btcml.market.simulate import SimulatedMarket
from btcml.testing.exchange import Exchange, Replay, ReplayClock, running_exchange, serve_exchange
from btcml.testing.faults import Fault

NOW = pd.Timestamp("2025-02-01 12:03:30", tz="UTC")


def milliseconds(time: pd.Timestamp) -> int:
    return time.value // 10**6


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    with running_exchange(SimulatedMarket(), lambda: NOW, name="drill") as running:
        yield running


def get(exchange: Exchange, path: str, **query: Any) -> requests.Response:
    return requests.get(exchange.url + path, params=query, timeout=600)


def klines(exchange: Exchange, **query: Any) -> list[Any]:
    return get(exchange, "/api/v3/klines", **({"symbol": "BTCUSDT", "interval": "5m"} | query)).json()


def test_ping_time_and_information_are_the_exchanges(exchange: Exchange) -> None:
    """The small routes, each with the replay's name and the used weight."""
    assert get(exchange, "/api/v3/ping").json() == {}
    answer = get(exchange, "/api/v3/time")
    assert answer.json() == {"serverTime": milliseconds(NOW)}
    assert answer.headers["X-Btcml-Market"] == "replay:drill"
    assert int(answer.headers["X-MBX-USED-WEIGHT-1M"]) > 0
    assert answer.headers["Date"] == "Sat, 01 Feb 2025 12:03:30 GMT"
    assert "BTCUSDT" in [entry["symbol"] for entry in get(exchange, "/api/v3/exchangeInfo").json()["symbols"]]


def test_the_newest_row_is_in_progress(exchange: Exchange) -> None:
    """Without bounds: 500 rows to now, the last one unfinished, its close time to come."""
    rows = klines(exchange)
    assert len(rows) == 500
    assert rows[-1][0] == milliseconds(NOW.floor("5min"))
    assert rows[-1][6] > milliseconds(NOW)
    whole = SimulatedMarket().fetch_candles("BTCUSDT", "5m", NOW.floor("5min"), NOW)
    assert 0 < float(rows[-1][5]) < whole["volume"].iloc[0]
    final = SimulatedMarket().fetch_candles("BTCUSDT", "5m", NOW - pd.Timedelta("1D"), NOW)[:-1]
    assert parse_klines(rows[:-1], "5m").tail(20).reset_index(drop=True).equals(final.tail(20).reset_index(drop=True))


def test_bounds_and_limit_are_the_exchanges(exchange: Exchange) -> None:
    """Both ends inclusive; from the start on with one, up to the end without; at most 1000."""
    start, end = milliseconds(NOW - pd.Timedelta("10D")), milliseconds(NOW - pd.Timedelta("5D"))
    assert len(klines(exchange, startTime=start, limit=5000)) == 1000
    assert klines(exchange, startTime=start, limit=3) == klines(exchange, startTime=start)[:3]
    assert klines(exchange, endTime=end, limit=2)[-1][0] <= end < klines(exchange, endTime=end, limit=2)[-1][6] + 1
    aligned = milliseconds(NOW.floor("5min") - pd.Timedelta("1D"))
    assert [row[0] for row in klines(exchange, startTime=aligned, endTime=aligned)] == [aligned]
    assert klines(exchange, startTime=milliseconds(NOW + pd.Timedelta("1D"))) == []
    assert klines(exchange, startTime=0, limit=1)[0][0] == milliseconds(pd.Timestamp("2017-08-17", tz="UTC"))


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"symbol": "BTCUSTD"}, -1121, "Invalid symbol."),
        ({"interval": "7m"}, -1120, "Invalid interval."),
        ({"symbol": ""}, -1102, "Mandatory parameter 'symbol' was not sent"),
        ({"symbol": "btc usdt"}, -1100, "Illegal characters found in parameter 'symbol'"),
        ({"startTime": "-5"}, -1100, "legal range is '^[0-9]{1,20}$'"),
    ],
)
def test_a_wrong_request_is_refused_in_the_exchanges_words(
    exchange: Exchange, query: dict[str, str], code: int, words: str
) -> None:
    """Status 400 with its code and message."""
    answer = get(exchange, "/api/v3/klines", **({"symbol": "BTCUSDT", "interval": "5m"} | query))
    assert answer.status_code == 400
    assert answer.json()["code"] == code
    assert words in answer.json()["msg"]
    assert get(exchange, "/api/v3/nothing").status_code == 400


def test_too_much_weight_is_a_429_and_going_on_a_ban() -> None:
    """A client that goes on is banned, and the log shows the requests during the ban."""
    with running_exchange(SimulatedMarket(), lambda: NOW, weight_limit=20, wall=lambda: NOW) as exchange:
        answers = [get(exchange, "/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1) for _ in range(14)]
    codes = [answer.status_code for answer in answers]
    assert codes == [200] * 10 + [429] + [418] * 3
    assert all("Retry-After" in answer.headers for answer in answers[10:])
    assert [seen.during_ban for seen in exchange.log] == [False] * 12 + [True] * 2


def test_the_archive_has_whole_months_and_days_only(exchange: Exchange) -> None:
    """Milliseconds before 2025, microseconds since, a checksum beside each; the rest is 404."""
    for label, period, digits in (("2024-12", "monthly", 13), ("2025-01", "monthly", 16), ("2025-01-31", "daily", 16)):
        name = f"BTCUSDT-1h-{label}"
        path = f"/data/spot/{period}/klines/BTCUSDT/1h/{name}.zip"
        content = get(exchange, path).content
        checksum = get(exchange, path + ".CHECKSUM").text
        assert checksum == f"{hashlib.sha256(content).hexdigest()}  {name}.zip\n"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.namelist() == [f"{name}.csv"]
            first = archive.read(f"{name}.csv").decode().splitlines()[0].split(",")
        assert len(first) == 12
        assert len(first[0]) == digits
    for period, label in (
        ("monthly", "2025-02"),
        ("daily", "2025-02-01"),
        ("monthly", "2010-01"),
        ("daily", "2025-01"),
    ):
        path = f"/data/spot/{period}/klines/BTCUSDT/1h/BTCUSDT-1h-{label}.zip"
        assert get(exchange, path).status_code == 404


def test_a_file_is_served_value_for_value(tmp_path: Path) -> None:
    """Prices of any precision and missing columns survive; the clock starts at its last close."""
    start = pd.Timestamp("2020-01-01", tz="UTC")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta("1D"))
    frame["volume"] = frame["volume"] / 3
    path = tmp_path / "BTCUSDT-5m.parquet"
    frame.drop(columns=["quote_volume", "trades"]).to_parquet(path)
    source = FileMarket(path, as_of=NOW)
    with running_exchange(source) as exchange:
        found = parse_klines(klines(exchange, startTime=milliseconds(start), limit=1000), "5m")
        assert pd.Timestamp(get(exchange, "/api/v3/time").json()["serverTime"], unit="ms", tz="UTC") >= source.now()
        assert get(exchange, "/api/v3/klines", symbol="ETHUSDT", interval="5m").json()["code"] == -1121
        assert get(exchange, "/api/v3/klines", symbol="BTCUSDT", interval="1m").json()["code"] == -1120
    expected = source.fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta("1D"))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_clock_of_its_own_runs_at_its_own_speed() -> None:
    """An hour in a minute, from a time of the user's choice; the candle in progress moves with it."""
    begin = pd.Timestamp("2026-01-01", tz="UTC")
    real = [begin]
    clock = ReplayClock(pd.Timestamp("2024-05-01", tz="UTC"), begin, 60.0, lambda: real[0])
    replay = Replay(SimulatedMarket(), clock)
    query = {"symbol": "BTCUSDT", "interval": "5m", "limit": "1"}
    volumes = []
    for _ in range(4):
        real[0] += pd.Timedelta("1s")
        volumes.append(float(replay.klines(query)[0][5]))
    assert replay.now() == pd.Timestamp("2024-05-01 00:04", tz="UTC")
    assert volumes == sorted(set(volumes))


def test_a_row_in_progress_keeps_the_rules_of_a_candle() -> None:
    """At any moment its high and low enclose open and close."""
    for second in range(0, 300, 7):
        now = pd.Timestamp("2025-02-01 12:00", tz="UTC") + pd.Timedelta(seconds=second)
        row = Replay(SimulatedMarket(), lambda now=now: now).klines({"symbol": "BTCUSDT", "interval": "5m"})[-1]
        opened, high, low, close = map(float, row[1:5])
        assert high >= max(opened, close) >= min(opened, close) >= low


def test_a_reset_and_a_truncated_answer_fail_as_described(exchange: Exchange) -> None:
    """Half of a body and a broken connection; half of a body as if it were whole."""
    exchange.faults.add(Fault(kind="reset"), Fault(kind="truncated"))
    query = {"symbol": "BTCUSDT", "interval": "5m"}
    with pytest.raises(requests.RequestException):
        get(exchange, "/api/v3/klines", **query)
    with pytest.raises(json.JSONDecodeError):
        json.loads(get(exchange, "/api/v3/klines", **query).content)
    assert len(klines(exchange)) == 500


def test_a_port_that_is_taken_is_a_mistake(exchange: Exchange) -> None:
    """One sentence that names the option."""
    port = int(exchange.url.rsplit(":", 1)[1])
    with pytest.raises(UsageError, match="choose another --port"):
        serve_exchange(Exchange(SimulatedMarket()), port=port)


@pytest.mark.real
def test_a_row_is_written_as_the_real_exchange_writes_it(shared_data: Path) -> None:
    """The real answer of January 2025, served from the file: same types, same values, same times."""
    path = shared_data / "raw" / "api_json" / "BTCUSDT_1h_2025-01-01.json"
    real = json.loads(path.read_text())
    with running_exchange(FileMarket(path, as_of=NOW)) as exchange:
        served = klines(exchange, interval="1h", startTime=real[0][0], limit=1000)
    assert [[type(field) for field in row] for row in served] == [[type(field) for field in row] for row in real]
    assert [list(map(float, row)) for row in served] == [list(map(float, row)) for row in real]
