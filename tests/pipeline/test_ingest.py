"""Ingest and backfill: what is missing is fetched, what has changed is revised, the rest is left alone."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import adbc_driver_manager.dbapi
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event, text

from btcml.candles import COLUMNS, SeriesKey, as_candles, empty_candles, final_candles, interval_delta, resample_candles
from btcml.errors import BusyError, MarketError, UsageError
from btcml.market.archive import ArchiveMarket
from btcml.market.binance import BinanceMarket
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.ingest import backfill, ingest, missing_spans
from btcml.store.candles import read_candles, read_halts, read_quarantined, upsert_candles
from btcml.store.engine import database_lock
from btcml.testing.exchange import running_exchange

START = pd.Timestamp("2025-01-01", tz="UTC")
DELTA = interval_delta("5m")
KEY = SeriesKey("simulated", "BTCUSDT", "5m")
INSERT_SELECT = f"""INSERT INTO candles (market, symbol, interval, {", ".join(COLUMNS)})
SELECT 'binance', 'ETHUSDT', interval, {", ".join(COLUMNS)} FROM candles WHERE market = 'simulated'"""


@dataclass
class Market:
    """A market that serves one frame by a clock that the test sets, and records requests."""

    frame: pd.DataFrame
    clock: pd.Timestamp
    fails_after: int = 99
    asked: list = field(default_factory=list)
    market: str = "simulated"

    def now(self):
        """Return what the test has set."""
        return self.clock

    def default_end(self, symbol):  # noqa: ARG002 - the same for every symbol
        return self.clock

    def fetch_candles(self, symbol, interval, start, end, on_page=None):  # noqa: ARG002 - the protocol
        self.asked.append((start, end))
        if len(self.asked) > self.fails_after:
            msg = "the market is down: try again later"
            raise MarketError(msg)
        inside = (self.frame["open_time"] >= start) & (self.frame["open_time"] < end)
        return final_candles(self.frame[inside].reset_index(drop=True), self.clock)


@pytest.fixture(scope="module")
def truth():
    return SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, START + pd.Timedelta(days=20))


def at(n):
    """Open time of the n-th candle."""
    return START + n * DELTA


def stored(store):
    return read_candles(store, KEY)


def test_the_candle_in_progress_is_stored_only_when_it_is_final(store, truth):
    """A fault of system 1: a candle that changes after the first fetch must not be frozen unfinished."""
    partial = truth.copy()
    partial.loc[1000, "volume"] *= 0.008
    ingest(store, Market(partial, clock=at(1000) + pd.Timedelta(seconds=20)), KEY)
    assert len(stored(store)) == 1000
    ingest(store, Market(truth, clock=at(1001)), KEY)
    pd.testing.assert_frame_equal(stored(store), truth[:1001])


def test_an_ingest_reads_a_recent_window_again_and_revises_it(store, truth):
    """A candle that the exchange restated an hour later is corrected without an audit."""
    early = truth.copy()
    early.loc[900, "close"] = early.loc[900, "low"]
    ingest(store, Market(early, clock=at(1000)), KEY)
    done = ingest(store, Market(truth, clock=at(1005)), KEY)
    assert (done.inserted, done.revised) == (5, 1)
    pd.testing.assert_frame_equal(stored(store), truth[:1005])


def test_history_that_was_restated_long_ago_is_found_by_an_audit(store, truth):
    """A plain backfill requests only what is missing; an audit reads everything again."""
    early = truth.copy()
    early.loc[10, "close"] = early.loc[10, "low"]
    span = (START, at(2000))
    backfill(store, Market(early, clock=at(2000)), KEY, span)
    again = Market(truth, clock=at(2000))
    assert backfill(store, again, KEY, span).calls == 0
    assert backfill(store, again, KEY, span, audit=True).revised == 1
    pd.testing.assert_frame_equal(stored(store), truth[:2000])


def test_a_backfill_fetches_only_what_is_missing(store, truth):
    """Before, after, and the hole between; nothing that is there."""
    upsert_candles(store, KEY, truth[1000:1800], source="test", at=START)
    upsert_candles(store, KEY, truth[3000:3800], source="test", at=START)
    market = Market(truth, clock=at(4000))
    backfill(store, market, KEY, (START, at(4000)))
    assert market.asked == [(at(0), at(1000)), (at(1800), at(3000)), (at(3800), at(4000))]
    pd.testing.assert_frame_equal(stored(store), truth[:4000])


def test_an_ingest_of_a_file_stores_all_of_it(store, truth, tmp_path):
    """Also what is older than 90 days, and older than the candles that it is merged with; its newest ones once more."""
    long = truth[:4000].assign(open_time=START + np.arange(4000) * interval_delta("1h"))
    long.drop(columns="close_time").to_csv(tmp_path / "BTCUSDT-1h.csv", index=False)
    source = FileMarket(tmp_path / "BTCUSDT-1h.csv")
    known = as_candles(long[3900:3990].drop(columns="close_time"), "1h")
    for market in (source.market, "binance"):
        key = SeriesKey(market, "BTCUSDT", "1h")
        upsert_candles(store, SeriesKey("binance", "BTCUSDT", "1h"), known, source="test", at=START)
        assert ingest(store, source, key).fetched == 3999
        assert len(read_candles(store, key)) == 3999
        assert ingest(store, source, key).fetched == 720


def test_an_exchange_halt_is_recorded_and_not_requested_again(store, truth):
    """A hole is a hole: no price is invented, and no call is wasted on it."""
    halted = truth.drop(index=range(500, 512)).reset_index(drop=True)
    span = (START, at(1000))
    backfill(store, Market(halted, clock=at(1000)), KEY, span)
    assert read_halts(store, KEY) == {at(500)}
    again = Market(halted, clock=at(1000))
    backfill(store, again, KEY, span)
    assert again.asked == []
    assert len(stored(store)) == 988


def test_the_past_before_a_listing_is_not_requested_again(store, truth):
    """Nothing before the listing is a halt like any other."""
    late = truth[300:].reset_index(drop=True)
    span = (START, at(1000))
    backfill(store, Market(late, clock=at(1000)), KEY, span)
    again = Market(late, clock=at(1000))
    backfill(store, again, KEY, span)
    assert again.asked == []


def test_frozen_candles_are_corrected_by_the_next_ingest(store, truth):
    """System 1's table: suspect spans are fetched again, old values kept as revisions."""
    frozen = truth.copy()
    rows = slice(4000, 4399)
    frozen.loc[rows, "volume"] *= 0.008
    frozen.loc[rows, ["quote_volume", "trades", "taker_buy_base", "taker_buy_quote"]] = np.nan
    upsert_candles(store, KEY, frozen[:5500], source="system 1", at=START)
    done = ingest(store, Market(truth, clock=at(5510)), KEY)
    assert (done.inserted, done.revised, done.suspect) == (10, 400, 0)
    pd.testing.assert_frame_equal(stored(store), truth[:5510])


def test_an_ingest_fills_holes_and_quarantine_beyond_its_window(store, truth):
    """What was lost a week ago is requested again, and a repaired row leaves quarantine."""
    early = truth.drop(index=range(2000, 2010)).reset_index(drop=True)
    early.loc[1000, "high"] = 1.0
    upsert_candles(store, KEY, early[:4000], source="test", at=at(4010))
    assert len(read_quarantined(store, KEY)) == 1
    done = ingest(store, Market(truth, clock=at(4010)), KEY)
    assert (done.inserted, done.quarantined) == (11, 0)
    pd.testing.assert_frame_equal(stored(store), truth[:4010])
    assert read_quarantined(store, KEY) == []


def test_a_row_that_stays_broken_costs_one_request_per_ingest(store, truth):
    """Bounded for any market."""
    broken = truth.copy()
    broken.loc[range(0, 4000, 20), "high"] = 1.0
    ingest(store, Market(broken, clock=at(5500)), KEY)
    again = Market(broken, clock=at(5500))
    ingest(store, again, KEY)
    assert len(again.asked) <= 6


def test_a_recent_hole_is_requested_again(store, truth):
    """An answer that lacked rows for an hour is no halt: the next day it is complete."""
    holed = truth.drop(index=range(900, 905)).reset_index(drop=True)
    ingest(store, Market(holed, clock=at(950)), KEY)
    assert at(900) not in read_halts(store, KEY)
    ingest(store, Market(truth, clock=at(1800)), KEY)
    pd.testing.assert_frame_equal(stored(store), truth[:1800])


def test_a_market_that_fails_half_way_loses_nothing(store, truth, monkeypatch):
    """What was stored stays, and the next call goes on from there."""
    monkeypatch.setattr("btcml.pipeline.ingest._CHUNK", 500)
    span = (START, at(2000))
    with pytest.raises(MarketError):
        backfill(store, Market(truth, clock=at(2000), fails_after=2), KEY, span)
    assert len(stored(store)) == 1000
    again = Market(truth, clock=at(2000))
    backfill(store, again, KEY, span)
    assert again.asked[0][0] == at(1000)
    pd.testing.assert_frame_equal(stored(store), truth[:2000])


def test_a_second_fetcher_of_the_same_series_is_busy(store, truth):
    """One fetcher per symbol and interval at a time, across processes and machines."""
    with database_lock(store, f"fetching {KEY}"), pytest.raises(BusyError, match="fetching simulated/BTCUSDT/5m"):
        ingest(store, Market(truth, clock=at(10)), KEY)


def test_an_explicit_market_merges_a_file_into_another(store, truth):
    """The key decides where candles go; by default it is the source's own market."""
    key = SeriesKey("binance", "BTCUSDT", "5m")
    backfill(store, Market(truth, clock=at(100), market="file:mine"), key, (START, at(100)))
    assert len(read_candles(store, key)) == 100
    assert stored(store).empty


@pytest.mark.parametrize("market", ["simulated", "replay:drill", "binance"])
@pytest.mark.parametrize("target", ["binance", "simulated", "replay:other", "file:mine"])
def test_only_a_file_is_merged_into_another_market(store, truth, market, target):
    """A simulated or replayed candle never revises a real one, whatever the caller asks for."""
    if market == target:
        return
    key, source = SeriesKey(target, "BTCUSDT", "5m"), Market(truth, clock=at(100), market=market)
    for verb in (lambda: ingest(store, source, key), lambda: backfill(store, source, key, (START, at(100)))):
        with pytest.raises(UsageError, match=f"of the market {market} are never stored as {target}"):
            verb()
    assert read_candles(store, key).empty
    assert source.asked == []


@pytest.mark.parametrize("source", ["simulated", "replay:drill"])
def test_the_database_refuses_candles_of_another_market(store, truth, source):
    """Beside the verbs: neither new, changed nor quarantined rows come from a simulated or replayed source."""
    key = SeriesKey("binance", "BTCUSDT", "5m")
    upsert_candles(store, key, truth[:10], source="binance", at=START)
    other = truth[:10].assign(volume=truth["volume"][:10] + 1)
    for frame in (truth[10:20], other, other.assign(high=0.001)):
        with pytest.raises(Exception, match=r"real.candles.stay.real"):
            upsert_candles(store, key, frame, source=source, at=START)
    pd.testing.assert_frame_equal(read_candles(store, key), truth[:10])
    assert upsert_candles(store, key, other, source="file:mine", at=START).revised == 10


@pytest.mark.parametrize("statement", [INSERT_SELECT, "UPDATE candles SET close = close WHERE market = 'binance'"])
def test_a_statement_that_names_no_source_writes_no_real_candle(store, truth, statement):
    """Whichever way a merge is done, also by hand in SQL, by the owner's connection or the application's."""
    for market in ("binance", "simulated"):
        upsert_candles(store, SeriesKey(market, "BTCUSDT", "5m"), truth[:10], source=market, at=START)
    with pytest.raises(Exception, match=r"real.candles.stay.real"), store.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("how", ["off the grid", "without a time", "without a price"])
def test_a_row_that_cannot_be_stored_goes_to_quarantine_and_costs_no_other(store, truth, how):
    """Its slot is a hole like any other; a later answer fills it."""
    broken = truth.copy()
    if how == "without a price":
        broken.loc[700, "close"] = np.nan
    else:
        broken.loc[700, "open_time"] = pd.NaT if how == "without a time" else at(700) + pd.Timedelta("7.001s")
        broken.loc[700, "close_time"] = pd.NaT
    market = Market(broken, clock=at(1000))
    market.fetch_candles = lambda _s, _i, start, end, _p=None: final_candles(
        broken[~((broken["open_time"] < start) | (broken["open_time"] >= end))].reset_index(drop=True), market.clock
    )
    done = backfill(store, market, KEY, (START, at(1000)))
    assert (done.inserted, done.quarantined) == (999, 1)
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM quarantine WHERE released_at IS NULL")) == 1
    assert read_halts(store, KEY) == set()  # an answer that is broken is no silence
    ingest(store, Market(truth, clock=at(1000)), KEY)
    pd.testing.assert_frame_equal(stored(store), truth[:1000])


def test_two_different_rows_of_one_time_are_both_quarantined_and_leave_a_hole(store, truth):
    """None of them is known to be true; a later answer fills the slot."""
    other = truth[700:701].assign(close=truth["low"])
    contradicting = pd.concat([truth[:701], other, truth[701:]], ignore_index=True)
    done = backfill(store, Market(contradicting, clock=at(1000)), KEY, (START, at(1000)))
    assert (done.inserted, done.quarantined) == (999, 2)
    held = store.fetch("SELECT open_time, rule, close FROM quarantine ORDER BY id")
    assert [(row.open_time, row.rule) for row in held] == [(at(700), "unique_open_time")] * 2
    assert {row.close for row in held} == {truth["close"][700], truth["low"][700]}
    assert read_halts(store, KEY) == set()
    ingest(store, Market(truth, clock=at(1000)), KEY)
    pd.testing.assert_frame_equal(stored(store), truth[:1000])
    assert read_quarantined(store, KEY) == []


@pytest.mark.parametrize("open_time", [pd.NaT, at(100) + pd.Timedelta("7s")])
def test_the_slot_of_a_broken_row_is_asked_for_again_however_old(store, truth, open_time):
    """It is older than what each ingest reads again, and was no hole of the exchange's."""
    broken = truth.copy()
    broken.loc[100, ["open_time", "close_time"]] = [open_time, pd.NaT]
    market = Market(broken, clock=at(2000))
    market.fetch_candles = lambda _s, _i, start, end, _p=None: broken[:2000][
        ~((broken["open_time"][:2000] < start) | (broken["open_time"][:2000] >= end))
    ].reset_index(drop=True)
    backfill(store, market, KEY, (START, at(2000)))
    assert len(stored(store)) == 1999
    ingest(store, Market(truth, clock=at(2000)), KEY)
    pd.testing.assert_frame_equal(stored(store), truth[:2000])


@pytest.mark.parametrize("target", ["simulated", "replay:x"])
def test_a_file_is_never_stored_in_a_simulated_or_replayed_market(store, truth, target):
    """Markets never mix, in either direction."""
    key = SeriesKey(target, "BTCUSDT", "5m")
    with pytest.raises(UsageError, match="are never stored as"):
        ingest(store, Market(truth, clock=at(10), market="file:x"), key)


def test_a_merged_file_with_holes_revises_no_complete_hour(store, truth, tmp_path):
    """An hour of eleven parts has too little volume: it is not made, and that is told."""
    key, hours = SeriesKey("binance", "BTCUSDT", "1h"), resample_candles(truth[:864], "1h")
    upsert_candles(store, key, hours, source="binance", at=START)
    file = tmp_path / "BTCUSDT-5m.parquet"
    truth[:864].drop(index=[100, 400]).reset_index(drop=True).to_parquet(file)
    done = ingest(store, FileMarket(file), key)
    assert (done.fetched, done.revised) == (69, 0)
    assert "2 candles of 1h are not made" in done.notes[-1]
    pd.testing.assert_frame_equal(read_candles(store, key), hours)


def test_refused_rows_are_counted_once(store, truth):
    """Twelve broken rows are twelve, though an ingest asks for their candles again."""
    broken = truth.copy()
    broken.loc[range(900, 912), "high"] = 1.0
    assert ingest(store, Market(broken, clock=at(1000)), KEY).quarantined == 12


def test_why_nothing_was_fetched_is_said(store, truth):
    """Before the first candle, after the last, in a hole, or because nothing was missing."""
    market = SimulatedMarket(clock=lambda: at(1000))
    early = (pd.Timestamp("2010-01-01", tz="UTC"), pd.Timestamp("2010-01-03", tz="UTC"))
    assert backfill(store, market, KEY, early).notes == (
        "simulated has BTCUSDT 5m from 2017-08-17 00:00 on: the span ends before that",
    )
    held = Market(truth[:500].drop(index=range(100, 200)), clock=at(1000), market="file:x")
    held.extent = lambda _symbol, _interval: (at(0), at(500))
    key = SeriesKey("file:x", "BTCUSDT", "5m")
    assert (
        "until 2025-01-02 17:40: the span begins after that" in backfill(store, held, key, (at(600), at(700))).notes[0]
    )
    assert "but no candle of the span" in backfill(store, held, key, (at(110), at(120))).notes[0]
    backfill(store, market, KEY, (START, at(100)))
    assert "no candle is missing" in backfill(store, market, KEY, (START, at(100))).notes[0]


def holed(truth, count):
    """A hole and a broken row in each of the first `count` groups of six candles."""
    broken = truth.copy()
    broken.loc[range(4, 6 * count, 6), "high"] = 1.0
    return broken.drop(index=range(2, 6 * count, 6)).reset_index(drop=True)


def test_holes_and_broken_rows_cost_the_same_statements_however_many(store, truth, monkeypatch):
    """Fetched, fetched again and repaired: statements to the database by either way, and requests."""
    counts = []
    execute = adbc_driver_manager.dbapi.Cursor.execute

    def count(*_):
        counts[-1] += 1

    def counted(cursor, *args, **kwargs):
        count()
        return execute(cursor, *args, **kwargs)

    monkeypatch.setattr(adbc_driver_manager.dbapi.Cursor, "execute", counted)
    event.listen(store.engine, "before_cursor_execute", count)
    asked = []
    try:
        for symbol, holes in (("BTCUSDT", 3), ("ETHUSDT", 900)):
            key, span = SeriesKey("simulated", symbol, "5m"), (START, at(5700))
            counts.append(0)
            market = Market(holed(truth, holes), clock=at(5700))
            found = [backfill(store, market, key, span, audit=True) for _ in range(2)]
            assert [(done.inserted, done.quarantined) for done in found] == [(5700 - 2 * holes, holes), (0, holes)]
            market.frame = truth
            assert backfill(store, market, key, span, audit=True).inserted == 2 * holes
            assert (read_quarantined(store, key), backfill(store, market, key, span).calls) == ([], 0)
            asked.append(len(market.asked))
    finally:
        event.remove(store.engine, "before_cursor_execute", count)
    assert counts[0] == counts[1]
    assert asked[0] == asked[1]


def test_a_market_with_nothing_is_no_error(store):
    """An empty answer stores nothing and says so."""
    done = ingest(store, Market(empty_candles(), clock=at(10)), KEY)
    assert (done.fetched, done.inserted) == (0, 0)


def test_small_holes_close_together_are_one_call():
    """Holes less than a page apart cost one request, not many."""
    known = pd.Series([at(n) for n in range(1000) if n not in {100, 200, 950}])
    spans = missing_spans(known.astype("datetime64[us, UTC]"), set(), (at(0), at(1000)), "5m")
    assert spans == [(at(100), at(201)), (at(950), at(951))]


@pytest.mark.real
def test_system_ones_database_is_corrected_by_413_revisions(store, shared_data):
    """Its 26,343 candles and an exchange that serves correct candles: the table equals them."""
    seed = as_candles(pd.read_parquet(shared_data / "seed/BTCUSDT-5m.parquet"), "5m")
    compared = pd.read_csv(shared_data / "seed/partial_candles_vs_exchange.csv")
    exact = seed.set_index("open_time")
    times = pd.to_datetime(compared["open_time"], unit="ms", utc=True).dt.as_unit("us")
    for name in ("open", "high", "low", "close", "volume"):
        exact.loc[times, name] = compared[f"{name}_exchange"].to_numpy()
    exact = as_candles(exact.reset_index(), "5m")
    end = seed["open_time"].iloc[-1] + DELTA
    upsert_candles(store, KEY, seed, source="system 1", at=end)
    done = ingest(store, Market(exact, clock=end), KEY)
    assert (done.revised, done.inserted) == (413, 0)
    pd.testing.assert_frame_equal(stored(store), exact)


@contextlib.contextmanager
def exchange_at(now):
    """Run a replay of the simulated market that stands still, and count what is asked of its REST interface."""
    with running_exchange(SimulatedMarket(), lambda: now, name="budget", weight_limit=10**6) as exchange:
        asked = lambda: [seen for seen in exchange.log if seen.path.startswith("/api/")]  # noqa: E731
        yield exchange, asked


def test_ninety_days_of_5m_by_rest_are_thirty_calls_and_sixty_of_weight(store):
    """The whole verb, its questions for the time among them."""
    now = pd.Timestamp("2025-03-01 10:02:30", tz="UTC")
    key = SeriesKey("replay:budget", "BTCUSDT", "5m")
    with exchange_at(now) as (exchange, asked):
        done = backfill(store, BinanceMarket([exchange.url]), key, (now - pd.Timedelta(days=90), now))
        assert done.inserted == 90 * 288
        assert len(asked()) <= 30
        assert sum(2 if seen.path.endswith("klines") else 1 for seen in asked()) <= 60


@pytest.mark.soak
def test_a_year_of_1m_takes_at_most_twenty_calls_of_rest(store, tmp_path):
    """Months and days by file, the rest by REST; and the table is correct."""
    now = pd.Timestamp("2025-03-17 10:02:30", tz="UTC")
    key = SeriesKey("replay:budget", "BTCUSDT", "1m")
    span = (now - pd.Timedelta(days=365), now)
    with exchange_at(now) as (exchange, asked):
        source = ArchiveMarket(BinanceMarket([exchange.url]), exchange.url, tmp_path)
        done = backfill(store, source, key, span)
        assert len(asked()) <= 20
    assert done.inserted == 365 * 1440
    expected = SimulatedMarket(clock=lambda: now).fetch_candles("BTCUSDT", "1m", *(time.floor("min") for time in span))
    pd.testing.assert_frame_equal(read_candles(store, key), expected, check_exact=True)
