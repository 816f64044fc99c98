"""The archive: months and days by file, verified and resumed, and REST for the rest only."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from btcml.candles import candle_gaps
from btcml.contract import enforce_contract
from btcml.errors import BannedError, MarketError
from btcml.market import Source
from btcml.market import archive as module
from btcml.market.archive import Archive, ArchiveMarket, Piece, plan
from btcml.market.binance import BinanceMarket
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.market.transport import LocalBans
from btcml.testing.exchange import Exchange, Replay, running_exchange
from btcml.testing.faults import Fault

START = pd.Timestamp("2024-11-20 07:30", tz="UTC")
NOW = pd.Timestamp("2025-02-03 10:02:30", tz="UTC")
NEVER = pd.Timestamp("2099-01-01", tz="UTC")
NO_SLEEP = {"sleep": lambda _: None}


@pytest.fixture(autouse=True)
def _small_ranges_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a small range the way of a long one: the tests need no years."""
    monkeypatch.setattr(module, "_BY_REST_DENSE", 100)
    monkeypatch.setattr(module, "_DENSE_DAY", 96)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FileMarket:
    """Four months in a file: quicker to serve than the simulated market itself."""
    path = tmp_path_factory.mktemp("source") / "BTCUSDT-15m.parquet"
    start, end = pd.Timestamp("2024-10-30", tz="UTC"), NOW + pd.Timedelta("2D")
    SimulatedMarket(clock=lambda: end).fetch_candles("BTCUSDT", "15m", start, end).to_parquet(path)
    return FileMarket(path)


@pytest.fixture(scope="module")
def truth(source: FileMarket) -> pd.DataFrame:
    return source.fetch_candles("BTCUSDT", "15m", START, NOW.floor("15min"))


@contextmanager
def drill(source: Source, cache: Path, *faults: Fault, **knobs: Any) -> Iterator[tuple[Exchange, ArchiveMarket]]:
    """Run an exchange with its archive that stands at NOW, and a client of both."""
    with running_exchange(source, lambda: NOW, faults, name="drill") as exchange:
        rest = BinanceMarket([exchange.url], **NO_SLEEP)
        yield exchange, ArchiveMarket(rest, exchange.url, cache, **(NO_SLEEP | knobs))


def fetched(market: ArchiveMarket, **more: Any) -> pd.DataFrame:
    return market.fetch_candles("BTCUSDT", "15m", START, NEVER, **more)


def seen(exchange: Exchange, part: str, status: int = 200) -> list[str]:
    return [entry.path.rsplit("/", 1)[-1] for entry in exchange.log if part in entry.path and entry.status == status]


def test_a_long_range_comes_by_months_then_days_then_rest(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path
) -> None:
    """Milliseconds until 2024, microseconds since, the running month by days, today by one page."""
    with drill(source, tmp_path) as (exchange, market):
        assert isinstance(market, Source)
        assert market.market == "replay:drill"
        progress: list[tuple[int, int]] = []
        found = fetched(market, on_page=lambda *page: progress.append(page))
        pd.testing.assert_frame_equal(found, truth, check_exact=True)
        files = [name for name in seen(exchange, "/data/") if name.endswith(".zip")]
        assert sorted(files) == sorted(
            f"BTCUSDT-15m-{label}.zip" for label in ("2024-11", "2024-12", "2025-01", "2025-02-01", "2025-02-02")
        )
        assert len(seen(exchange, "klines?") + seen(exchange, "/api/v3/klines")) == 1
        assert progress[-1] == (len(truth), len(truth))


FAULTS = [
    Fault(kind="wrong_checksum", times=2),
    Fault(kind="wrong_checksum", times=0),
    Fault(kind="truncated_zip", times=2),
    Fault(kind="truncated_zip", times=0),
    Fault(kind="missing", times=1),
    Fault(kind="missing", route="checksum", times=1, after=2),
    Fault(kind="missing", route="checksum", times=0),
    Fault(kind="server_error", route="archive", times=3),
    Fault(kind="reset", route="archive", times=2),
    Fault(kind="rate_limit", route="archive", retry_after=2, times=2),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.on}-{fault.times}")
def test_after_a_fault_of_the_archive_the_candles_are_correct(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is wrong is fetched again; one that stays wrong, or is not there, comes by REST."""
    caplog.set_level(logging.ERROR)
    with drill(source, tmp_path, fault) as (_, market):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
    assert all(path.suffix == ".zip" for path in tmp_path.rglob("*.*") if path.is_file())


def test_a_month_that_is_not_there_yet_comes_by_days(source: FileMarket, truth: pd.DataFrame, tmp_path: Path) -> None:
    """On the first days of a month the last one is not published: its days are."""
    january = Fault(kind="missing", route="checksum", after=2)
    with drill(source, tmp_path, january, workers=1) as (exchange, market):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        days = [name for name in seen(exchange, "/data/spot/daily/") if name.endswith(".zip")]
        assert len(days) == 31 + 2
        assert len(seen(exchange, "/api/v3/klines")) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path
) -> None:
    """Files that are there and verified are not fetched again; a half-written one is."""
    with drill(source, tmp_path) as (exchange, market):
        parts = market.fetch_parts("BTCUSDT", "15m", START, NEVER)
        next(parts)
        parts.close()
        kept = list(tmp_path.rglob("*.zip"))
        assert kept
        kept[0].write_bytes(kept[0].read_bytes()[:-10])
        exchange.log.clear()
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        again = [name for name in seen(exchange, "/data/") if name.endswith(".zip")]
        assert len(again) == 5 - len(kept) + 1
        exchange.log.clear()
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert not [name for name in seen(exchange, "/data/") if name.endswith(".zip")]


def test_sparse_candles_come_by_months_and_rest_without_days(
    source: FileMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of 5m or more is less than a page: the running month is quicker by REST."""
    monkeypatch.setattr(module, "_DENSE_DAY", 1000)
    monkeypatch.setattr(module, "_BY_REST", 100)
    with drill(source, tmp_path) as (exchange, market):
        found = market.fetch_candles("BTCUSDT", "1h", START.ceil("h"), NEVER)
        assert not seen(exchange, "/data/spot/daily/")
        assert len([name for name in seen(exchange, "/data/") if name.endswith(".zip")]) == 3
    expected = source.fetch_candles("BTCUSDT", "1h", START.ceil("h"), NOW.floor("h"))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_parts_come_in_order_and_none_is_longer_than_a_month(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path
) -> None:
    """A backfill can store each part before it reads the next."""
    with drill(source, tmp_path) as (_, market):
        parts = list(market.fetch_parts("BTCUSDT", "15m", START, NEVER))
    assert max(map(len, parts)) <= 31 * 96
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), truth, check_exact=True)


def test_a_short_range_comes_by_rest_alone(source: FileMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few pages are faster than files."""
    monkeypatch.setattr(module, "_BY_REST_DENSE", 10_000)
    with drill(source, tmp_path) as (exchange, market):
        assert len(market.fetch_candles("BTCUSDT", "15m", NOW.floor("15min") - pd.Timedelta("2D"), NEVER)) == 192
        assert not seen(exchange, "/data/")


def test_a_replay_without_an_archive_of_its_own_comes_by_rest(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path
) -> None:
    """The files at another address are not of this replay: none is fetched."""
    with drill(source, tmp_path) as (exchange, _), running_exchange(source, lambda: NOW, name="other") as other:
        for url in (other.url, "http://127.0.0.1:9"):
            market = ArchiveMarket(BinanceMarket([exchange.url]), url, tmp_path, **NO_SLEEP)
            pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert not seen(other, "/data/")


def test_a_replays_file_is_refused_where_the_exchanges_is_expected(source: FileMarket, tmp_path: Path) -> None:
    """Markets never mix: one sentence that names the setting."""
    with drill(source, tmp_path) as (exchange, _):
        archive = Archive(exchange.url, tmp_path, "binance", **NO_SLEEP)
        assert archive.belongs()
        with pytest.raises(MarketError, match="of the market replay:drill, expected binance: set BTCML_ARCHIVE_URL"):
            archive.load("BTCUSDT", "15m", Piece("monthly", START, START, "2024-12"))


def test_an_archive_that_fails_three_times_is_not_used_again(tmp_path: Path) -> None:
    """So that not every month waits for its own time-outs."""
    archive = Archive("http://127.0.0.1:9", tmp_path, attempts=1)
    slow = [archive.load("BTCUSDT", "15m", Piece("monthly", START, START, f"2024-{m:02}")) for m in range(1, 7)]
    assert slow == [None] * 6
    assert archive.gave_up


def test_an_archive_that_bans_gets_no_request_before_the_ban_ends(source: FileMarket, tmp_path: Path) -> None:
    """418 or a long 429: no silent wait for days, and the exchange at the same host uses the same ban."""
    for fault in (Fault(kind="ban", route="archive"), Fault(kind="rate_limit", route="checksum", retry_after=9e5)):
        bans = LocalBans()
        with running_exchange(source, lambda: NOW, [fault], name="drill") as exchange:
            archive = Archive(exchange.url, tmp_path, "replay:drill", bans=bans, **NO_SLEEP)
            months = [archive.load("BTCUSDT", "15m", Piece("monthly", START, START, f"2024-{m}")) for m in (11, 12)]
            assert months == [None, None]
            assert archive.gave_up
            with pytest.raises(BannedError):
                BinanceMarket([exchange.url], bans).now()
            assert not any(entry.during_ban for entry in exchange.log)
            assert len(exchange.log) <= 2


def test_a_verified_file_that_holds_no_candles_comes_by_rest(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of the archive with a valid checksum does not end a backfill."""
    made = Replay._make_zip

    def _spoilt(self: Replay, symbol: str, interval: str, name: str, *span: Any) -> bytes | None:
        return b"PK no zip" if name.endswith("2024-12") else made(self, symbol, interval, name, *span)

    monkeypatch.setattr(Replay, "_make_zip", _spoilt)
    with drill(source, tmp_path) as (_, market):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)


def _change_lines(monkeypatch: pytest.MonkeyPatch, change: Callable[[list[bytes]], Any]) -> None:
    """Let a function change the lines of December's file."""
    made = Replay._make_zip

    def _changed(self: Replay, symbol: str, interval: str, name: str, *span: Any) -> bytes | None:
        content = made(self, symbol, interval, name, *span)
        if not name.endswith("2024-12") or content is None:
            return content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            lines = archive.read(f"{name}.csv").splitlines(keepends=True)
        change(lines)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"{name}.csv", b"".join(lines))
        return buffer.getvalue()

    monkeypatch.setattr(Replay, "_make_zip", _changed)


def test_two_different_rows_of_one_time_in_a_file_are_left_to_the_contract(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is taken silently; a line that is there twice is one."""

    def _contradict(lines: list[bytes]) -> None:
        fields = lines[30].split(b",")
        lines += [lines[40], b",".join([*fields[:5], b"0.5", *fields[6:]])]

    _change_lines(monkeypatch, _contradict)
    with drill(source, tmp_path) as (_, market):
        found = fetched(market)
    good, bad = enforce_contract(found, "15m")
    assert bad["rule"].tolist() == ["unique_open_time"] * 2
    assert bad["open_time"][0] == bad["open_time"][1]
    expected = truth[truth["open_time"] != bad["open_time"][0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(good, expected, check_exact=True)


@pytest.mark.parametrize("lost", [slice(5 * 96, 6 * 96), slice(0, 7 * 96), slice(-3 * 96, None)])
def test_a_hole_of_a_file_is_asked_of_rest(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: slice
) -> None:
    """A month lacks days that REST has: they are no halt of the exchange, wherever they lie."""
    _change_lines(monkeypatch, lambda lines: lines.__delitem__(lost))
    with drill(source, tmp_path) as (_, market):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)


def test_a_hole_that_rest_has_too_is_asked_for_once(source: FileMarket, tmp_path: Path) -> None:
    """A halt of the exchange costs two calls, not one a candle."""
    halt = pd.Timestamp("2024-12-10", tz="UTC"), pd.Timestamp("2024-12-11", tz="UTC")
    frame = source.fetch_candles("BTCUSDT", "15m", START, NEVER)
    frame = frame[~frame["open_time"].between(*halt, inclusive="left")]
    frame.to_parquet(tmp_path / "BTCUSDT-15m.parquet")
    halted = FileMarket(tmp_path / "BTCUSDT-15m.parquet")
    with drill(halted, tmp_path / "cache") as (exchange, market):
        found = fetched(market)
        assert len(seen(exchange, "/api/v3/klines")) <= 4
    assert candle_gaps(found["open_time"], "15m")["missing"].tolist() == [96]


def test_many_holes_of_a_file_are_asked_for_by_the_page(source: FileMarket, tmp_path: Path) -> None:
    """Five hundred candles without a neighbour: a page each thousand candles, not one each."""
    frame = source.fetch_candles("BTCUSDT", "15m", START, NEVER)
    month = frame["open_time"].dt.strftime("%Y-%m") == "2024-12"
    frame = frame.drop(index=frame.index[month][1::6])
    frame.to_parquet(tmp_path / "BTCUSDT-15m.parquet")
    with drill(FileMarket(tmp_path / "BTCUSDT-15m.parquet"), tmp_path / "cache") as (exchange, market):
        found = fetched(market)
        assert len(seen(exchange, "/api/v3/klines")) <= 60
    assert len(candle_gaps(found["open_time"], "15m")) == 496


def test_an_audit_takes_short_ranges_by_file_and_leaves_a_failing_archive_soon(
    source: FileMarket, truth: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler waits for it: two tries of three files, then REST."""
    monkeypatch.setattr(module, "_BY_REST_DENSE", 10**6)
    start, end = (pd.Timestamp(day, tz="UTC") for day in ("2024-12-01", "2025-01-01"))
    month = truth[truth["open_time"].between(start, end, inclusive="left")].reset_index(drop=True)
    down = Fault(kind="server_error", route="checksum", after=1, times=0)
    with drill(source, tmp_path, down) as (exchange, market):
        for files, asked in ((["BTCUSDT-15m-2024-12.zip"], 1), ([], 6)):
            before = len(exchange.log)
            found = market.by_files().fetch_candles("BTCUSDT", "15m", start, end)
            pd.testing.assert_frame_equal(found, month, check_exact=True)
            paths = [entry.path.rsplit("/", 1)[-1] for entry in list(exchange.log)[before:] if "/data/" in entry.path]
            assert len([path for path in paths if path.endswith("CHECKSUM")]) == asked
            assert [path for path in paths if path.endswith("zip")] == files


def test_the_temporary_file_of_a_killed_process_is_deleted(source: FileMarket, tmp_path: Path) -> None:
    """Only when it is old: a new one may be another process.s."""
    folder = tmp_path / "replay-drill" / "monthly"
    folder.mkdir(parents=True)
    old, young = folder / ".a.zip.1.zip", folder / ".b.zip.2.zip"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    with drill(source, tmp_path) as (_, market):
        fetched(market)
    assert [path.name for path in tmp_path.rglob("*/.*")] == [young.name]


def test_before_the_listing_few_requests_are_made(tmp_path: Path) -> None:
    """A month long before the first candle is one request, not thirty."""
    start, end = (pd.Timestamp(day, tz="UTC") for day in ("2017-01-01", "2017-09-01"))
    with drill(SimulatedMarket(), tmp_path) as (exchange, market):
        found = market.fetch_candles("BTCUSDT", "15m", start, end)
        assert found["open_time"].iloc[0] == pd.Timestamp("2017-08-17", tz="UTC")
        assert len(seen(exchange, "/data/", 404)) == 7


def test_a_plan_covers_the_range_once() -> None:
    """Pieces touch, in order, from start to end; today comes by REST."""
    pieces = plan(START, NOW, NOW)
    assert pieces[0].start == START
    assert pieces[-1] == Piece("", NOW.normalize(), NOW)
    assert all(left.end == right.start for left, right in pairwise(pieces))


def test_a_year_of_1m_takes_at_most_twenty_calls_of_rest() -> None:
    """Months and days by file; the plan leaves at most two days to REST."""
    pieces = plan(NOW - pd.Timedelta("365D"), NOW, NOW)
    rest = sum((piece.end - piece.start) // pd.Timedelta("1min") for piece in pieces if not piece.period)
    assert -(-rest // 1000) + 3 <= 20
    assert sum(piece.period == "monthly" for piece in pieces) == 12


@pytest.mark.soak
def test_a_year_of_1m_is_correct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """525,600 candles, value for value, with at most twenty calls of REST in all."""
    monkeypatch.undo()
    start = NOW.floor("min") - pd.Timedelta("365D")
    with drill(SimulatedMarket(), tmp_path) as (exchange, market):
        found = market.fetch_candles("BTCUSDT", "1m", start, NEVER)
        assert len(seen(exchange, "/api/v3/")) <= 20
    expected = SimulatedMarket(clock=lambda: NOW).fetch_candles("BTCUSDT", "1m", start, NEVER)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.real
@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.on}-{fault.times}")
def test_real_candles_survive_every_fault_of_the_archive(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Half a year of real 5m candles over the change to microseconds, value for value."""
    monkeypatch.setattr(module, "_BY_REST", 1000)
    real = FileMarket(shared_data / "BTCUSDT-5m.parquet")
    start, end = pd.Timestamp("2024-11-10", tz="UTC"), pd.Timestamp("2025-04-12 10:00", tz="UTC")
    with running_exchange(real, lambda: end, [fault], name="real") as exchange:
        market = ArchiveMarket(BinanceMarket([exchange.url], **NO_SLEEP), exchange.url, tmp_path, **NO_SLEEP)
        found = market.fetch_candles("BTCUSDT", "5m", start, NEVER)
    pd.testing.assert_frame_equal(found, real.fetch_candles("BTCUSDT", "5m", start, end), check_exact=True)


@pytest.mark.real
def test_real_months_come_back_value_for_value(shared_data: Path, tmp_path: Path) -> None:
    """Hourly candles over the change from milliseconds to microseconds, and an exchange halt."""
    source = FileMarket(shared_data / "BTCUSDT-1h.parquet")
    start, end = pd.Timestamp("2024-10-10", tz="UTC"), source.now()
    with running_exchange(source, source.now, name="real") as exchange:
        market = ArchiveMarket(BinanceMarket([exchange.url]), exchange.url, tmp_path)
        found = market.fetch_candles("BTCUSDT", "1h", start, end)
        early = market.fetch_candles(
            "BTCUSDT", "1h", pd.Timestamp("2018-01-15", tz="UTC"), pd.Timestamp("2018-03-01", tz="UTC")
        )
    pd.testing.assert_frame_equal(found, source.fetch_candles("BTCUSDT", "1h", start, end), check_exact=True)
    assert early["open_time"].diff().max() == pd.Timedelta("34h")


def test_a_file_is_kept_by_market(source: FileMarket, tmp_path: Path) -> None:
    """Two markets never share a cached file."""
    with drill(source, tmp_path) as (exchange, _):
        path = Archive(exchange.url, tmp_path, "replay:drill").load(
            "BTCUSDT", "15m", Piece("daily", START, START, "2025-01-01")
        )
    assert path == tmp_path / "replay-drill" / "daily" / "BTCUSDT-15m-2025-01-01.zip"
