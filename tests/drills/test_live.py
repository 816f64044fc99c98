"""The service at work for long: forecasts are sealed right after each close, and the API's memory does not grow."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pandas as pd
import psutil
import pytest
import requests

from btcml.candles import SeriesKey
from btcml.forecast.evaluation import seal_lags
from btcml.market import utc_now
from btcml.market.simulate import SYMBOLS, SimulatedMarket
from btcml.pipeline.ingest import backfill
from btcml.pipeline.jobs import environment
from btcml.pipeline.train import train
from btcml.store.candles import read_last_candles
from btcml.store.chain import verify_chain
from btcml.store.forecasts import market_now, read_scored
from btcml.store.jobs import read_jobs
from btcml.testing.exchange import ReplayClock

from ..processes import WAIT_S, free_port, started, until  # noqa: TID252 - of all tests
from ..replayed import trained_replay  # noqa: TID252 - where drills begin

LAG_S = float(os.environ.get("LAG_SECONDS", "1800"))
RSS_S = float(os.environ.get("RSS_SECONDS", "3600"))
MOST_LAG_S, MOST_GROWTH = 2.0, 0.05
MINUTE = pd.Timedelta("1min")
FIFTH = "LTCUSDT"
FIVE = (*SYMBOLS, FIFTH)


class FiveSymbols:
    """The simulated market, with a fifth symbol that moves as another."""

    market, symbols = "simulated", FIVE

    def now(self):
        return utc_now()

    def fetch_candles(self, symbol, interval, start, end, on_page=None):
        name = "SOLUSDT" if symbol == FIFTH else symbol
        return SimulatedMarket(clock=lambda: utc_now() + MINUTE).fetch_candles(name, interval, start, end, on_page)


@contextmanager
def scheduled(settings, *arguments):
    """The scheduler as a process, which is ended in order."""
    command = [sys.executable, "-m", "btcml.cli", "schedule", "--days", "9", *arguments]
    with started(command, env=environment(settings), stderr=subprocess.DEVNULL) as process:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.soak
def test_five_symbols_are_sealed_within_two_seconds_of_each_close_beside_a_training(settings, store):
    """Candles of a minute at real speed; the times are those that the database sealed."""
    key = SeriesKey("replay:lag", FIVE[0], "1m")
    rhythm = {"btcml_symbols": FIVE, "btcml_interval": "1m", "btcml_train_every": "1m"}
    with trained_replay(settings, store, FiveSymbols(), utc_now, key, **rhythm) as (ours, source):
        keys = [SeriesKey(key.market, symbol, "1m") for symbol in FIVE]
        for other in keys[1:]:
            now = source.now()
            backfill(store, source, other, (now - pd.Timedelta(days=9), now))
            train(store, ours, other, models=("autoreg",), now=now, jobs=1)
        with scheduled(ours) as process:
            until(lambda: all(len(read_scored(store, one, role="champion")) for one in keys))
            begin = market_now(store, key.market)
            time.sleep(LAG_S)
            end = market_now(store, key.market)
            assert process.poll() is None
    for one in keys:
        rows = read_scored(store, one, begin.ceil("min"), end.floor("min"), "champion")
        assert rows["status"].eq("sealed").all()
        assert len(rows) == (end.floor("min") - begin.ceil("min")) / MINUTE
        assert verify_chain(store, one) is None
    sealed = pd.concat([read_scored(store, one, begin.ceil("min"), end, "champion") for one in keys])
    trainings = read_jobs(store, kinds=["train"], statuses=["ok"])
    worked = sum((job.finished_at - job.started_at).total_seconds() for job in trainings if job.asked_by == "scheduler")
    assert worked > LAG_S / 4  # it was beside a training
    lags = seal_lags(sealed)
    print(f"{len(sealed)} forecasts, {len(trainings)} trainings of {worked:.0f} s: {lags}")  # noqa: T201 - for -s
    assert lags["p99"] <= MOST_LAG_S


PAGES = (
    "/health", "/ready", "/predict", "/jobs?limit=20", "/model/info", "/metrics?limit=20", "/prices/latest?n=500",
    "/series?fallback_days=1", "/series?fallback_days=7", "/futuros?limit=500", "/evaluation?origin=sealed",
    "/evaluation?fallback_days=3", "/metrics/prometheus",
)  # fmt: skip
"""What an open dashboard and a monitor ask for."""


@pytest.mark.soak
def test_the_memory_of_the_api_does_not_grow(settings, store):
    """A market sixty times as fast, a scheduler, a client: the first fifth after the start against the last one."""
    clock = ReplayClock(pd.Timestamp("2025-03-01", tz="UTC"), utc_now(), 60.0)
    key = SeriesKey("replay:memory", "BTCUSDT", "5m")
    port = free_port()
    with trained_replay(settings, store, SimulatedMarket(), clock, key, btcml_train_every="6h") as (ours, _):
        command = [sys.executable, "-m", "btcml.cli", "api", "--port", str(port)]
        with (
            scheduled(ours),
            started(command, env=environment(ours), stderr=subprocess.DEVNULL) as api,
        ):
            sizes, answers = watched(api, f"http://127.0.0.1:{port}")
            api.send_signal(signal.SIGTERM)
            assert api.wait(timeout=60) is not None
        newest = read_last_candles(store, key, 1)["open_time"].iloc[0]
    assert newest > clock.origin_market + 0.9 * RSS_S * pd.Timedelta(seconds=60)
    assert answers["ok"] > len(PAGES)
    assert set(answers) <= {"ok", "/predict", "/ready"}  # which say 409 and 503 until the candle has come
    parts = [statistics.median(part) for part in (sizes[: len(sizes) // 5], sizes[-len(sizes) // 5 :])]
    growth = parts[1] / parts[0] - 1
    print(f"{len(sizes)} sizes, {dict(answers)}, {parts[0] / 2**20:.0f} MiB, {growth:+.1%}")  # noqa: T201 - for -s
    assert growth <= MOST_GROWTH


def watched(process, url):
    """Sizes of a process in bytes, from a sixth of the time on, while a client asks; and what was not answered."""
    answers, stop = {"ok": 0}, threading.Event()

    def ask():
        with requests.Session() as session:
            while not stop.is_set():
                for page in PAGES:
                    send = session.post if page == "/predict" else session.get
                    ok = send(url + page, timeout=WAIT_S).ok
                    answers["ok" if ok else page] = answers.get("ok" if ok else page, 0) + 1
                stop.wait(0.2)

    until(lambda: answering(url))
    client = threading.Thread(target=ask)
    client.start()
    begin, sizes = time.monotonic(), []
    try:
        while (passed := time.monotonic() - begin) < RSS_S:
            assert process.poll() is None
            assert client.is_alive()
            if passed > RSS_S / 6:
                sizes.append(psutil.Process(process.pid).memory_info().rss)
            time.sleep(min(1.0, RSS_S / 300))
    finally:
        stop.set()
        client.join()
    return sizes, answers


def answering(url):
    """Whether the API is there."""
    try:
        return requests.get(url + "/health", timeout=WAIT_S).ok
    except requests.ConnectionError:
        return False
