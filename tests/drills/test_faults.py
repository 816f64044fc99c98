"""Every fault of the exchange, on real candles, through the verbs: in the end the table is correct."""

from __future__ import annotations

import contextlib
import dataclasses

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.errors import MarketError
from btcml.market import archive as archive_module
from btcml.market.archive import ArchiveMarket
from btcml.market.binance import BinanceMarket
from btcml.market.files import FileMarket
from btcml.market.klines import format_klines, parse_klines
from btcml.pipeline.ingest import backfill, ingest
from btcml.store.candles import BanLedger, read_candles, read_quarantined
from btcml.testing.exchange import running_exchange
from btcml.testing.faults import KINDS, RULES, Fault, _restate

pytestmark = [pytest.mark.real, pytest.mark.soak]

FIVE = pd.Timedelta("5min")
NOW = pd.Timestamp("2025-02-11 13:02:30", tz="UTC")
START = NOW.floor("5min") - pd.Timedelta(days=12)
KEY = SeriesKey("replay:faults", "BTCUSDT", "5m")
RESTATED = (NOW.floor("5min") - pd.Timedelta("2h"), NOW.floor("5min") - pd.Timedelta("1h"))
NEVER = pd.Timestamp("2099-01-01", tz="UTC")


@dataclasses.dataclass
class World:
    """An exchange over real candles, its clock, and a client whose waits take no time."""

    exchange: object
    time: pd.Timestamp
    slept: pd.Timedelta = dataclasses.field(default_factory=lambda: pd.Timedelta(0))

    def now(self):
        return self.time

    def wall(self):
        return pd.Timestamp("2026-01-01", tz="UTC") + self.slept

    def sleep(self, seconds):
        self.slept += pd.Timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """Fifty real days over the archive's change to microseconds, as a file of their own."""
    path = tmp_path_factory.mktemp("real") / "BTCUSDT-5m.parquet"
    whole = pd.read_parquet(shared_data / "BTCUSDT-5m.parquet")
    inside = whole["open_time"].between(pd.Timestamp("2024-12-25", tz="UTC"), pd.Timestamp("2025-02-13", tz="UTC"))
    whole[inside].to_parquet(path)
    return FileMarket(path)


@contextlib.contextmanager
def world(real, *faults):
    """Run the exchange with faults."""
    found = World(None, NOW)
    with running_exchange(real, found.now, faults, name="faults", wall=found.wall, weight_limit=10**6) as exchange:
        found.exchange = exchange
        yield found


def client(place, store, **knobs):
    """Return a new client, as a restarted process has it."""
    bans = BanLedger(store)
    return BinanceMarket(
        [place.exchange.url], bans, clock=place.wall, sleep=place.sleep, **({"timeout": 5.0, "attempts": 3} | knobs)
    )


def truth(real, until=NOW + 20 * FIVE):
    return real.fetch_candles("BTCUSDT", "5m", START, until.floor("5min"))


def restated(frame):
    """Say what the exchange says after it restated an hour."""
    inside = frame["open_time"].between(*RESTATED, inclusive="left")
    rows = [_restate(row) for row in format_klines(frame[inside], "5m")]
    return pd.concat([frame[~inside], parse_klines(rows, "5m")]).sort_values("open_time").reset_index(drop=True)


def drilled(place, store, **knobs):
    """Run a backfill into the fault, then later ingests by new clients until the exchange recovers."""
    failures = []
    for step in range(3):
        place.time = NOW + 10 * step * FIVE
        source = client(place, store, **knobs)
        verb = (lambda s: backfill(store, s, KEY, (START, NEVER))) if step == 0 else (lambda s: ingest(store, s, KEY))
        try:
            verb(source)
        except MarketError as error:
            failures.append(error)
            place.slept += pd.Timedelta("1h")
            verb(source)
    assert not any(seen.during_ban for seen in place.exchange.log)
    return failures


def stored(store):
    found = read_candles(store, KEY)
    return found[found["open_time"] >= START].reset_index(drop=True)


def assert_truth(store, expected):
    pd.testing.assert_frame_equal(stored(store), expected, check_exact=True)
    assert read_quarantined(store, KEY) == []


SPAN = {"start": RESTATED[0], "end": RESTATED[1]}
FAULTS = [
    Fault(kind="rate_limit", retry_after=7, times=2),
    Fault(kind="rate_limit", retry_after=600, after=2),
    Fault(kind="ban", after=2, retry_after=300),
    Fault(kind="ban", route="time", after=3, retry_after=259_200 / 100),
    Fault(kind="location", after=1),
    Fault(kind="server_error", after=1, times=2),
    Fault(kind="server_error", route="any", times=5),
    Fault(kind="reset", times=2),
    Fault(kind="truncated", after=2, times=2),
    Fault(kind="not_json", times=2),
    Fault(kind="drip", seconds=4),
    Fault(kind="duplicated", times=0),
    Fault(kind="repeated", after=1, times=2),
    Fault(kind="overlapping", times=0, after=1),
    Fault(kind="unordered", times=0),
    Fault(kind="hole", row=300, rows=40),
    Fault(kind="hole", row=300, rows=40, times=3),
    Fault(kind="hole", row=0, rows=1000, after=1, times=3),
    Fault(kind="partial", after=3, times=2),
    Fault(kind="clock", route="time", seconds=400, times=2),
    Fault(kind="clock", route="time", seconds=-7200, times=2),
    Fault(kind="clock", route="time", seconds=7200, times=2),
    Fault(kind="clock", seconds=200, times=8),
    Fault(kind="clock", seconds=-200, times=8),
    *(Fault(kind="bad_row", rule=rule, row=9, after=1, times=2) for rule in RULES),
]


def name_of(fault):
    return f"{fault.kind}-{fault.on}-{fault.rule if fault.kind == 'bad_row' else fault.seconds:}-{fault.times}"


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_after_a_fault_of_the_exchange_the_table_is_correct(real, store, fault):
    """Candle for candle, nothing left in quarantine, and not one request during a ban."""
    with world(real, fault) as place:
        drilled(place, store, **({"timeout": 1.0} if fault.kind == "drip" else {}))
    assert_truth(store, truth(real))


def test_after_a_restatement_the_table_equals_the_exchange(real, store):
    """The old values are kept as revisions."""
    with world(real, Fault(kind="restated", times=0, after=5, **SPAN)) as place:
        drilled(place, store)
    assert_truth(store, restated(truth(real)))
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM candle_revisions")) == 12


def test_candles_frozen_unfinished_in_the_middle_of_history_are_found_by_an_audit(real, store):
    """Single ones prove nothing by themselves; reading the span again does."""
    with world(real, Fault(kind="partial", times=4)) as place:
        drilled(place, store)
        source = client(place, store)
        assert backfill(store, source, KEY, (START, NEVER), audit=True).revised == 4
    assert_truth(store, truth(real))


ARCHIVED = [
    Fault(kind="wrong_checksum", times=2),
    Fault(kind="wrong_checksum", times=0),
    Fault(kind="truncated_zip", times=2),
    Fault(kind="truncated_zip", times=0),
    Fault(kind="missing", times=0),
    Fault(kind="missing", route="checksum", times=1, after=1),
    Fault(kind="server_error", route="archive", times=3),
    Fault(kind="reset", route="archive", times=2),
    Fault(kind="rate_limit", route="archive", retry_after=2, times=2),
    Fault(kind="ban", route="archive", after=1, retry_after=300),
    Fault(kind="ban", route="klines", retry_after=300),
]


@pytest.mark.parametrize("fault", ARCHIVED, ids=name_of)
def test_after_a_fault_of_the_archive_the_table_is_correct(real, store, fault, tmp_path, monkeypatch):
    """Whole months by file, what is wrong there by REST; a ban of the one is a ban of the other."""
    monkeypatch.setattr(archive_module, "_BY_REST", 1000)
    begin = pd.Timestamp("2024-12-25", tz="UTC")
    with world(real, fault) as place:
        for _ in range(3):
            rest = client(place, store)
            bans = BanLedger(store)
            knobs = {"clock": place.wall, "sleep": place.sleep, "bans": bans}
            source = ArchiveMarket(rest, place.exchange.url, tmp_path, workers=1, **knobs)
            with contextlib.suppress(MarketError):
                backfill(store, source, KEY, (begin, NEVER))
                break
            place.slept += pd.Timedelta("1h")
            store.engine.dispose()
        assert not any(seen.during_ban for seen in place.exchange.log)
    expected = real.fetch_candles("BTCUSDT", "5m", begin, NOW.floor("5min"))
    pd.testing.assert_frame_equal(read_candles(store, KEY), expected, check_exact=True)


def test_every_kind_of_fault_is_tested_here():
    """A new kind of fault or of bad row comes with its test."""
    kinds = {fault.kind for fault in (*FAULTS, *ARCHIVED)} | {"restated"}
    assert kinds == set(KINDS)
    assert {fault.rule for fault in FAULTS if fault.kind == "bad_row"} == set(RULES)
