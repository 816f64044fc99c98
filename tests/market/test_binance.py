"""The client against the replay exchange: after every fault the candles are correct."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest

from btcml.contract import broken_rules
from btcml.errors import BannedError, BtcmlError, LocationError, MarketError, SourceError, UsageError
from btcml.market import Source
from btcml.market.binance import BinanceMarket, Hosts, RejectedError
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.market.transport import LocalBans
from btcml.testing.exchange import Exchange, running_exchange
from btcml.testing.faults import RULES, Fault

START = pd.Timestamp("2024-12-25", tz="UTC")
END = START + pd.Timedelta("10D")
NOW = END + pd.Timedelta("2min 30s")
NEVER = pd.Timestamp("2099-01-01", tz="UTC")


class Wall:
    """Real time that passes only during sleeps: the client's and the exchange's."""

    def __init__(self) -> None:
        self.time = pd.Timestamp("2026-01-01", tz="UTC")
        self.slept: list[float] = []

    def __call__(self) -> pd.Timestamp:
        """Return the time."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Advance the time; like a real sleep never shorter, not even by a rounding error."""
        self.slept.append(seconds)
        self.time += pd.Timedelta(nanoseconds=math.ceil(seconds * 1e9))


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    return SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, END)


@contextmanager
def drill(*faults: Fault, **knobs: Any) -> Iterator[tuple[Exchange, BinanceMarket, Wall]]:
    """Run an exchange that stands at NOW, a client and the time that they share."""
    wall = Wall()
    limit = knobs.pop("weight_limit", 6000)
    with running_exchange(
        SimulatedMarket(), lambda: NOW, faults, name="drill", wall=wall, weight_limit=limit
    ) as exchange:
        knobs = {"timeout": 600.0, "clock": wall, "sleep": wall.sleep, "weight_limit": limit} | knobs
        yield exchange, BinanceMarket([exchange.url], **knobs), wall


def fetched(market: BinanceMarket, end: pd.Timestamp = NEVER) -> pd.DataFrame:
    return market.fetch_candles("BTCUSDT", "5m", START, end)


def calls(exchange: Exchange) -> int:
    return sum(seen.path == "/api/v3/klines" for seen in exchange.log)


def never_called_in_a_ban(exchange: Exchange) -> bool:
    return not any(seen.during_ban for seen in exchange.log)


def test_every_final_candle_comes_and_nothing_else(truth: pd.DataFrame) -> None:
    """Value for value in every column, without the candle in progress, in as few calls as can be."""
    with drill() as (exchange, market, _):
        pages: list[tuple[int, int]] = []
        found = market.fetch_candles("BTCUSDT", "5m", START, NEVER, lambda *page: pages.append(page))
        pd.testing.assert_frame_equal(found, truth, check_exact=True)
        assert calls(exchange) == 3
        assert len(exchange.log) == 4
        assert pages == [(1000, 2880), (2000, 2880), (2880, 2880)]


def test_the_replay_exchange_is_never_taken_for_the_exchange() -> None:
    """Its name comes from its header and is part of every key."""
    with drill() as (_, market, _):
        assert isinstance(market, Source)
        assert market.market == "replay:drill"
        assert market.now() == NOW
        assert market.default_end("BTCUSDT") == NOW


CONTENT = [
    Fault(kind="duplicated", times=0),
    Fault(kind="repeated", after=1, times=2),
    Fault(kind="overlapping", times=0, after=1),
    Fault(kind="unordered", times=0),
    Fault(kind="hole", row=300, rows=40),
    Fault(kind="hole", row=0, rows=5),
    Fault(kind="hole", row=0, rows=1000, after=1),
    Fault(kind="hole", row=995, rows=5),
    Fault(kind="hole", row=870, rows=10, after=2),
    Fault(kind="not_json", times=2),
    Fault(kind="bad_row", rule="text_price", times=2),
    Fault(kind="bad_row", rule="short_row", row=7, times=2),
]
TRANSPORT = [
    Fault(kind="server_error", after=1, times=2),
    Fault(kind="server_error", route="time", times=2),
    Fault(kind="reset", times=2),
    Fault(kind="truncated", after=2, times=2),
    Fault(kind="rate_limit", retry_after=3, times=2),
    Fault(kind="rate_limit", retry_after=0, after=1),
]


@pytest.mark.parametrize("fault", [*CONTENT, *TRANSPORT], ids=lambda fault: f"{fault.kind}-{fault.on}-{fault.row}")
def test_after_a_fault_the_candles_are_correct(truth: pd.DataFrame, fault: Fault) -> None:
    """Faults of content and of transport pass; what comes is complete, exact and final."""
    with drill(fault) as (exchange, market, _):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert never_called_in_a_ban(exchange)


def test_a_drip_beyond_the_timeout_is_cut_off_and_requested_again(truth: pd.DataFrame) -> None:
    """The timeout is for the whole answer, not for each byte."""
    with drill(Fault(kind="drip", seconds=60), timeout=4) as (exchange, market, _):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert calls(exchange) >= 4  # a busy machine may be too slow once more


def test_a_short_slow_down_is_waited_for() -> None:
    """429: not one request before Retry-After is over."""
    with drill(Fault(kind="rate_limit", retry_after=7)) as (exchange, market, wall):
        fetched(market)
        refused = next(i for i, seen in enumerate(exchange.log) if seen.status == 429)
        assert (exchange.log[refused + 1].time - exchange.log[refused].time).total_seconds() >= 7
        assert round(sum(wall.slept), 6) >= 7


def test_a_long_slow_down_is_a_ban() -> None:
    """429 with minutes to wait ends in one sentence with the time, remembered."""
    with drill(Fault(kind="rate_limit", retry_after=600)) as (exchange, market, wall):
        with pytest.raises(BannedError, match="until 2026-01-01 00:10:00 UTC") as caught:
            fetched(market)
        assert caught.value.until == wall() + pd.Timedelta("10min")
        assert len(exchange.log) == 2


def test_a_ban_is_remembered_across_restarts_and_nothing_is_called_before_it_ends(truth: pd.DataFrame) -> None:
    """418: a new process with the same memory calls nothing until the ban is over, then all is well."""
    bans = LocalBans()
    with drill(Fault(kind="ban", retry_after=300), bans=bans) as (exchange, market, wall):
        with pytest.raises(BannedError):
            fetched(market)
        asked = len(exchange.log)
        again = BinanceMarket([exchange.url, "http://127.0.0.1:9"], bans, clock=wall, sleep=wall.sleep)
        for call in (lambda: fetched(again), again.now, again.reachable, lambda: again.market):
            with pytest.raises(BannedError, match="00:05:00 UTC"):
                call()
        assert len(exchange.log) == asked
        wall.sleep(299)
        pd.testing.assert_frame_equal(fetched(again), truth, check_exact=True)
        assert never_called_in_a_ban(exchange)


def test_the_used_weight_stays_under_half_of_the_limit(truth: pd.DataFrame) -> None:
    """With a limit of 10 a minute, 5 are used; then the client waits for the next minute."""
    with drill(weight_limit=10) as (exchange, market, wall):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert all(seen.status == 200 for seen in exchange.log)
        per_minute = pd.Series([seen.time.floor("min") for seen in exchange.log]).value_counts()
        assert per_minute.max() <= 2
        assert sum(wall.slept) >= 60


def test_an_exchange_that_keeps_failing_ends_in_one_sentence() -> None:
    """After bounded tries at every host: what each did, and what to do."""
    with drill(Fault(kind="server_error", route="any", times=0)) as (exchange, market, wall):
        with pytest.raises(MarketError, match=r"out of service .HTTP 503.: try again later") as caught:
            fetched(market)
        assert len(exchange.log) == 4
        assert len(wall.slept) == 3
        assert "\n" not in str(caught.value)


def test_a_location_that_is_refused_is_explained() -> None:
    """451 is not tried again at the same host, and the sentence says what to do."""
    with drill(Fault(kind="location", route="any", times=0)) as (exchange, market, _):
        with pytest.raises(LocationError, match=r"data-api\.binance\.vision"):
            fetched(market)
        assert len(exchange.log) == 1


def test_the_next_host_is_used_when_one_fails(truth: pd.DataFrame) -> None:
    """A dead host, one that does not serve this location, then one that responds: it stays first."""
    with drill(Fault(kind="location", route="any", times=0)) as (refusing, _, wall), drill() as (exchange, _, _):
        urls = ["http://127.0.0.1:9", refusing.url, exchange.url]
        market = BinanceMarket(urls, clock=wall, sleep=wall.sleep)
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert len(refusing.log) == 1


def test_markets_never_mix_behind_one_client() -> None:
    """A second host of another name is refused, whatever it would answer."""
    with drill() as (exchange, _, wall), running_exchange(SimulatedMarket(), lambda: NOW, name="other") as other:
        market = BinanceMarket([exchange.url, other.url], clock=wall, sleep=wall.sleep, attempts=1)
        assert market.market == "replay:drill"
        exchange.faults.add(Fault(kind="server_error", route="any", times=0))
        with pytest.raises(MarketError, match="markets never mix"):
            fetched(market)


@pytest.mark.parametrize("seconds", [-7200, -200, 200, 7200])
def test_the_exchanges_clock_alone_decides_what_is_final(seconds: float) -> None:
    """Ahead or behind the local clock by hours: final is what has closed by the exchange's clock."""
    with drill(Fault(kind="clock", times=0, seconds=seconds)) as (_, market, _):
        found = fetched(market)
        expected = (NOW + pd.Timedelta(seconds=seconds)).floor("5min")
        assert found["open_time"].iloc[-1] + pd.Timedelta("5min") == expected


def test_a_candle_served_unfinished_is_right_when_it_is_read_again(truth: pd.DataFrame) -> None:
    """What the exchange served too early differs; reading the window again corrects it."""
    with drill(Fault(kind="partial", after=2)) as (_, market, _):
        early = fetched(market)
        assert (early["volume"] != truth["volume"]).sum() == 2
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)


def test_a_restated_candle_is_read_as_it_is_now(truth: pd.DataFrame) -> None:
    """The exchange changed history: exactly the candles of that span come with other values."""
    span = {"start": START + pd.Timedelta("1h"), "end": START + pd.Timedelta("2h")}
    with drill(Fault(kind="restated", times=0, after=3, **span)) as (_, market, _):
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        restated = fetched(market)
        changed = restated["open_time"][(restated != truth).any(axis=1)]
        assert (changed.iloc[0], changed.iloc[-1], len(changed)) == (
            span["start"],
            span["end"] - pd.Timedelta("5min"),
            12,
        )


def test_an_exchange_that_goes_on_repeating_itself_ends_in_one_sentence() -> None:
    """No endless loop, no candles of another range."""
    with drill(Fault(kind="repeated", after=1, times=0)) as (exchange, market, _):
        with pytest.raises(MarketError, match="not of the range from"):
            fetched(market)
        assert calls(exchange) == 5


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in {"text_price", "short_row", "null_time"}])
def test_a_row_that_breaks_a_rule_is_passed_on_to_the_contract(truth: pd.DataFrame, rule: str) -> None:
    """The client neither judges nor drops: one row differs, as served."""
    with drill(Fault(kind="bad_row", rule=rule, row=10)) as (_, market, _):
        found = fetched(market)
        merged = found.merge(truth, how="outer", indicator=True)
        assert (merged["_merge"] == "left_only").sum() == 1
        assert (merged["_merge"] == "right_only").sum() <= 1


@pytest.mark.parametrize("rule", ["text_price", "short_row", "null_time", "open_time_on_grid"])
def test_a_row_that_cannot_be_read_costs_no_other(truth: pd.DataFrame, rule: str) -> None:
    """It is asked for again, then passed on to the contract; all other candles of the page are there."""
    with drill(Fault(kind="bad_row", rule=rule, row=10, times=0)) as (_, market, _):
        found = fetched(market)
    good = found.merge(truth, how="inner")
    assert len(truth) - 5 <= len(good)
    others = found[~found["open_time"].isin(good["open_time"])]
    assert broken_rules(others, "5m").any(axis=1).all()
    assert len(others) >= 1


def test_pages_of_rows_that_are_never_candles_end_in_one_sentence() -> None:
    """Where most rows are broken the exchange has failed."""
    rows = json.dumps([[n * 300_000 + 1735689600000, *(["n/a"] * 5), 0, "1", 1, "1", "1", "0"] for n in range(20)])
    with answering(200, rows) as url:
        market = BinanceMarket([url], sleep=lambda _: None)
        market.now = lambda: NOW  # type: ignore[method-assign]
        with pytest.raises(MarketError, match=r"column open: expected a number, found 'n/a'"):
            fetched(market)


def test_an_unknown_symbol_is_named() -> None:
    """-1121 is the user's mistake, not the exchange's."""
    with drill() as (exchange, market, _):
        with pytest.raises(UsageError, match="no symbol 'BTCUSTD'"):
            market.fetch_candles("BTCUSTD", "5m", START, END)
        with pytest.raises(UsageError, match="no symbol 'btc usdt'"):
            market.fetch_candles("btc usdt", "5m", START, END)
        assert calls(exchange) == 2


def test_an_empty_range_is_an_empty_frame() -> None:
    """Before the listing and in the future there is nothing, and that is no error."""
    with drill() as (_, market, _):
        assert market.fetch_candles("BTCUSDT", "5m", NOW, NEVER).empty
        old = pd.Timestamp("2010-01-01", tz="UTC")
        assert market.fetch_candles("BTCUSDT", "1d", old, old + pd.Timedelta("9D")).empty


def test_ninety_days_of_5m_take_thirty_calls_and_sixty_of_weight() -> None:
    """The budget of a backfill by REST alone."""
    with drill() as (exchange, market, _):
        found = market.fetch_candles("BTCUSDT", "5m", NOW.floor("5min") - pd.Timedelta("90D"), NEVER)
        assert len(found) == 90 * 288
        assert len(exchange.log) <= 30
        assert 2 * calls(exchange) + 1 <= 60


def test_whether_the_exchange_answers_is_known_in_seconds() -> None:
    """True where any host answers; False where none does or this location is refused."""
    with drill() as (exchange, _, _):
        assert BinanceMarket(["http://127.0.0.1:9", exchange.url]).reachable()
        exchange.faults.add(Fault(kind="location", route="any", times=0))
        assert not BinanceMarket([exchange.url]).reachable()
    assert not BinanceMarket(["http://127.0.0.1:9"]).reachable()


def test_a_ban_at_the_first_request_is_remembered() -> None:
    """Banned before anything was asked: no silent change to another market, and not one call more."""
    with drill(Fault(kind="ban", route="any", retry_after=300)) as (exchange, market, _):
        for _ in range(3):
            with pytest.raises(BannedError, match="00:05:00 UTC"):
                market.reachable()
        assert len(exchange.log) == 1
    with drill(Fault(kind="rate_limit", route="any", retry_after=3)) as (_, market, _):
        assert market.reachable()


def test_a_range_that_begins_before_the_epoch_is_no_wrong_symbol() -> None:
    """A request for all candles is served."""
    with drill() as (exchange, market, _):
        old = pd.Timestamp("1900-01-01", tz="UTC")
        found = market.fetch_candles("BTCUSDT", "1d", old, pd.Timestamp("2017-09-01", tz="UTC"))
        assert found["open_time"].iloc[0] == pd.Timestamp("2017-08-17", tz="UTC")
        assert {seen.status for seen in exchange.log} == {200}


def test_a_client_without_a_host_is_a_mistake() -> None:
    """The sentence names the setting."""
    with pytest.raises(UsageError, match="BTCML_BINANCE_URLS"):
        BinanceMarket([])


@pytest.mark.real
@pytest.mark.parametrize("fault", [*CONTENT, *TRANSPORT], ids=lambda fault: f"{fault.kind}-{fault.on}-{fault.row}")
def test_real_candles_survive_every_fault(shared_data, fault: Fault) -> None:
    """The older system's real dump, served and fetched: value for value."""
    source, wall = FileMarket(shared_data / "seed" / "BTCUSDT-5m.parquet"), Wall()
    start = source.now() - pd.Timedelta("10D")
    known = source.fetch_candles("BTCUSDT", "5m", start, NEVER)
    with running_exchange(source, source.now, [fault], name="seed", wall=wall) as exchange:
        market = BinanceMarket([exchange.url], clock=wall, sleep=wall.sleep)
        found = market.fetch_candles("BTCUSDT", "5m", start, NEVER)
        pd.testing.assert_frame_equal(found, known, check_exact=True)
        assert never_called_in_a_ban(exchange)


@pytest.mark.real
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="ban", retry_after=300, after=3),
        Fault(kind="location", route="any", after=2),
        Fault(kind="partial", after=2),
        Fault(kind="restated", after=3, times=4),
        Fault(kind="drip", seconds=4, after=1),
        *(Fault(kind="bad_row", rule=rule, row=4, after=1) for rule in RULES),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.rule}",
)
def test_real_candles_are_correct_after_a_fault(shared_data, fault: Fault) -> None:
    """Whatever came, or did not come, while the fault lasted: what is read afterwards is exact."""
    source, wall = FileMarket(shared_data / "seed" / "BTCUSDT-5m.parquet"), Wall()
    start = source.now() - pd.Timedelta("14D")
    known = source.fetch_candles("BTCUSDT", "5m", start, NEVER)
    with running_exchange(source, source.now, [fault], name="seed", wall=wall) as exchange:
        market = BinanceMarket([exchange.url], timeout=1.0, clock=wall, sleep=wall.sleep)
        for _ in range(2):
            with contextlib.suppress(BannedError, BtcmlError, LocationError):
                market.fetch_candles("BTCUSDT", "5m", start, NEVER)
            wall.sleep(301)
        found = market.fetch_candles("BTCUSDT", "5m", start, NEVER)
        pd.testing.assert_frame_equal(found, known, check_exact=True)
        assert never_called_in_a_ban(exchange)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40))
def test_any_mix_of_faults_ends_with_correct_candles(truth: pd.DataFrame, seed: int) -> None:
    """Up to five faults at random moments: what comes is exact, or one sentence and exact the next time."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len([*CONTENT, *TRANSPORT]), size=random.integers(2, 6))
    mix = [
        [*CONTENT, *TRANSPORT][i].model_copy(update={"after": int(random.integers(0, 5)), "times": 1}) for i in chosen
    ]
    with drill(*mix) as (exchange, market, wall):
        for _ in range(4):
            with contextlib.suppress(MarketError):
                pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
            wall.sleep(5)
        pd.testing.assert_frame_equal(fetched(market), truth, check_exact=True)
        assert never_called_in_a_ban(exchange)


@pytest.mark.real
@pytest.mark.soak
def test_a_year_of_real_candles_comes_back_value_for_value(shared_data) -> None:
    """A file served over HTTP and fetched is the file, in every column that it has."""
    source = FileMarket(shared_data / "BTCUSDT-5m.parquet")
    start = source.now() - pd.Timedelta("365D")
    with running_exchange(source, source.now, name="year") as exchange:
        found = BinanceMarket([exchange.url]).fetch_candles("BTCUSDT", "5m", start, NEVER)
    pd.testing.assert_frame_equal(found, source.fetch_candles("BTCUSDT", "5m", start, NEVER), check_exact=True)


def test_a_damaged_row_is_the_sources_fault_only_in_a_file() -> None:
    """SourceError stays the user's mistake; from the exchange it becomes a MarketError."""
    assert not issubclass(MarketError, SourceError)


JANUARY = pd.Timestamp("2026-01-01", tz="UTC")


@contextmanager
def answering(status: int, body: str, headers: dict[str, str] | None = None) -> Iterator[str]:
    """Run a server that always answers this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            """Keep silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(status: int, body: str, headers: dict[str, str] | None = None, bans: LocalBans | None = None) -> Any:
    """Ask a server that always answers this."""
    with answering(status, body, headers) as url:
        return Hosts([url], bans, clock=lambda: JANUARY, sleep=lambda _: None, attempts=2).get_json("/api/v3/klines")


REFUSALS = [
    (400, '{"code":-1121,"msg":"Invalid symbol."}', RejectedError, "Invalid symbol .code -1121."),
    (404, "<html>no</html>", MarketError, "rejects the request .HTTP 404."),
    (403, "", MarketError, "rejects the request .HTTP 403."),
    (418, '{"code":-1003,"msg":"IP banned until 1767226800000."}', BannedError, "until 2026-01-01 00:20:00 UTC"),
    (418, "", BannedError, "until 2026-01-01 00:10:00 UTC"),
    (451, "{}", LocationError, "data-api"),
    (500, '{"code":-1000,"msg":"unknown"}', MarketError, "out of service .HTTP 500."),
    (200, "[[1,", MarketError, "not JSON"),
    (
        400,
        '{"code":-1003,"msg":"Too many requests."}',
        MarketError,
        "limiting the rate .HTTP 400: Too many requests, code -1003",
    ),
    (
        200,
        '{"code":-1003,"msg":"Too many requests."}',
        MarketError,
        "limiting the rate .HTTP 200: Too many requests, code -1003",
    ),
    (200, '{"code":-1121,"msg":"Invalid symbol."}', RejectedError, "Invalid symbol .code -1121."),
    (
        400,
        '{"code":-1000,"msg":"An unknown error."}',
        MarketError,
        "rejects the request .HTTP 400: An unknown error, code -1000.",
    ),
    (
        200,
        '{"code":-1001,"msg":"Disconnected."}',
        MarketError,
        "rejects the request .HTTP 200: Disconnected, code -1001.",
    ),
    (
        403,
        '{"code":-2015,"msg":"Invalid API-key."}',
        MarketError,
        "rejects the request .HTTP 403: Invalid API-key, code -2015.",
    ),
    (302, "", MarketError, "redirects to nowhere: it is not the exchange"),
    (200, '{"code":"-1003","msg":"Too many requests."}', MarketError, "HTTP 200: Too many requests, code -1003"),
    (200, '{"code":200,"msg":"Maintenance."}', MarketError, "rejects the request .HTTP 200: Maintenance, code 200."),
    (200, "[" * 100_000, MarketError, "not JSON"),
    (418, '{"code":-1003,"msg":"IP banned until 9999999999999."}', BannedError, "until 2026-01-31 00:00:00 UTC"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), REFUSALS)
def test_each_refusal_has_its_own_error(status: int, body: str, kind: type[BtcmlError], words: str) -> None:
    """One sentence, and the kind that decides the exit status."""
    if "1767226800000" in body:
        body = body.replace("1767226800000", str((JANUARY + pd.Timedelta("20min")).value // 10**6))
    with pytest.raises(kind, match=words) as caught:
        asked(status, body)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_ban_is_remembered_with_its_end_and_its_reason() -> None:
    """The longer of Retry-After and the body's own words."""
    told: list[tuple[Any, ...]] = []

    class Memory(LocalBans):
        def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:
            """Remember, and tell the test."""
            told.append((until, reason.split(" from ", maxsplit=1)[0]))
            super().remember(host, until, reason)

    with pytest.raises(BannedError):
        asked(418, "{}", {"Retry-After": "3600"}, Memory())
    assert told == [(JANUARY + pd.Timedelta("1h"), "HTTP 418")]


def test_a_response_is_its_json_and_names_the_market() -> None:
    """A server that does not announce a replay is the exchange."""
    assert asked(200, '{"serverTime": 5}') == {"serverTime": 5}
    with pytest.raises(MarketError, match="expected replay:NAME"):
        asked(200, "{}", {"X-Btcml-Market": "simulated"})


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, "<html>Please log in</html>", {}),
        (200, '"welcome"', {}),
        (302, "", {"Location": "http://127.0.0.1:9/login"}),
        (200, '{"code":-1000,"msg":"An unknown error."}', {}),
        (200, '{"login":"https://portal"}', {}),
    ],
)
def test_a_login_page_is_not_the_exchange(status: int, body: str, headers: dict[str, str]) -> None:
    """In a hotel's network the exchange does not answer, whatever does."""
    with answering(status, body, headers) as url:
        assert not BinanceMarket([url]).reachable()


@pytest.mark.parametrize("time", [1735689600000000, 1735689600, -5, 0, 10**30, "soon", None, True])
def test_an_absurd_time_of_the_exchange_is_one_sentence(time: object) -> None:
    """In microseconds, in seconds, beyond all years, or no time at all."""
    with (
        answering(200, json.dumps({"serverTime": time})) as url,
        pytest.raises(MarketError, match=r"expected serverTime in milliseconds, found"),
    ):
        BinanceMarket([url], sleep=lambda _: None).now()


def test_a_time_of_the_exchange_in_the_future_is_one_sentence() -> None:
    """By such a clock candles in progress would be final."""
    with answering(200, '{"serverTime": 4102444800000}') as url:
        market = BinanceMarket([url], clock=lambda: JANUARY, sleep=lambda _: None)
        with pytest.raises(MarketError, match="2100-01-01 00:00, this machine's 2026-01-01 00:00 UTC: one of them"):
            market.now()


TICKS = 300_000


class Answering(BinanceMarket):
    """A client whose exchange answers 600 candles, one of which a function replaces, whatever was asked."""

    def __init__(self, replace: Any) -> None:
        super().__init__(["http://127.0.0.1:9"], sleep=lambda _: None)
        self._replace, self._hosts.get_json = replace, self._answer  # type: ignore[method-assign]

    def now(self) -> pd.Timestamp:
        """Return a time at which all are final."""
        return JANUARY + pd.Timedelta("60D")

    def _answer(self, _path: str, params: Any) -> list[Any]:
        first = JANUARY.value // 10**6
        times = range(first, first + 600 * TICKS, TICKS)
        rows = [[t, "9", "9", "9", "9", "1", t + TICKS - 1, "9", 1, "0", "0", "0"] for t in times]
        asked = range(int(params["startTime"]), int(params["endTime"]) + 1)
        return [self._replace(row) if row[0] == times[300] else row for row in rows if row[0] in asked]


@pytest.mark.parametrize(
    "replace",
    [
        lambda row: [row[0] - 1000, *row[1:]],  # before its slot
        lambda row: [4102444800000, *row[1:]],  # in 2100
        lambda row: [1240000000000, *row[1:]],  # in 2009
        lambda row: [10**400, *row[1:]],
        lambda row: [row[0], 10**400, *row[2:]],
        lambda row: [None, *row[1:]],
        lambda row: [*row[:6], {}, *row[7:]],
    ],
)
def test_one_row_of_another_time_or_of_no_number_costs_no_other(replace: Any) -> None:
    """Whenever it claims to be; the row itself goes to the contract, once."""
    found = Answering(replace).fetch_candles("BTCUSDT", "5m", JANUARY, JANUARY + 600 * pd.Timedelta("5min"))
    broken = broken_rules(found, "5m").any(axis=1)
    assert (~broken).sum() == 599
    assert 1 <= broken.sum() <= 2
    assert len(found[broken].drop_duplicates()) == broken.sum()


def test_two_different_rows_of_one_time_are_left_to_the_contract() -> None:
    """The client does not choose between them; a row that is there twice is one."""
    market = Answering(lambda row: row)
    once = market._hosts.get_json

    def _contradicting(path: str, params: Any) -> list[Any]:
        rows = once(path, params)
        return [*rows, rows[7], [*rows[5][:4], "9.5", *rows[5][5:]]]

    market._hosts.get_json = _contradicting  # type: ignore[method-assign, assignment]
    found = market.fetch_candles("BTCUSDT", "5m", JANUARY, JANUARY + 600 * pd.Timedelta("5min"))
    broken = broken_rules(found, "5m")["unique_open_time"]
    assert (len(found), found["open_time"][broken].tolist()) == (601, [JANUARY + 5 * pd.Timedelta("5min")] * 2)


def test_the_extent_of_a_series_is_asked_in_two_calls() -> None:
    """Its first candle and the end of its last."""
    with drill() as (exchange, market, _):
        assert market.extent("BTCUSDT", "5m") == (pd.Timestamp("2017-08-17", tz="UTC"), END + pd.Timedelta("5min"))
        assert calls(exchange) == 2


@pytest.mark.real
def test_the_real_error_bodies_are_understood(shared_data: Path) -> None:
    """Every body that users have reported ends in the right kind of error."""
    kinds = {400: RejectedError, 418: BannedError, 429: MarketError, 451: LocationError}
    for sample in json.loads((shared_data / "raw" / "errors" / "binance_error_bodies.json").read_text()):
        body = sample.get("body") or json.dumps({"code": sample["code"], "msg": sample["msg"]})
        if sample["http"] == 200:
            assert asked(200, body)["serverTime"] == 1669675351630
            continue
        with pytest.raises(kinds[sample["http"]]) as caught:
            asked(sample["http"], body)
        assert type(caught.value) is kinds[sample["http"]]
