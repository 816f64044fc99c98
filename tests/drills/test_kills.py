"""kill -9 at any moment: the table is correct, nothing twice, nothing lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import read_candles
from btcml.testing.exchange import running_exchange

NOW = pd.Timestamp("2025-03-01", tz="UTC")
DAYS = 20
KEY = SeriesKey("replay:drill", "BTCUSDT", "1m")
KILLS = 50


@pytest.fixture
def exchange():
    """Replay exchange whose clock stands still."""
    with running_exchange(SimulatedMarket(), clock=lambda: NOW, name="drill") as server:
        yield server


@pytest.fixture
def start(exchange, home, store):  # noqa: ARG001 - an empty database
    """Start btcml as a process of its own, in small chunks so that kills hit a write."""
    started = []
    code = "import btcml.pipeline.ingest as i, btcml.cli, sys; i._CHUNK = 2000; sys.exit(btcml.cli.main())"
    environment = os.environ | {"BTCML_HOME": str(home), "BTCML_BINANCE_URLS": exchange.url, "BTCML_SOURCE": "binance"}

    def _start(*argv):
        command = [sys.executable, "-c", code, *argv, "--interval", "1m"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def truth():
    return SimulatedMarket().fetch_candles("BTCUSDT", "1m", NOW - pd.Timedelta(days=DAYS), NOW)


def is_part_of(stored, whole):
    """Every stored candle is a true one, none twice."""
    same = whole[whole["open_time"].isin(stored["open_time"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored, same)


@pytest.mark.soak
def test_fifty_kills_of_a_backfill_leave_a_correct_table(start, store):
    """After each kill what is stored is true; at last it is complete."""
    chance, whole = random.Random(7), truth()
    for _ in range(KILLS):
        process = start("backfill", "--days", str(DAYS))
        time.sleep(chance.uniform(1.0, 8.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        is_part_of(read_candles(store, KEY), whole)
    process = start("backfill", "--days", str(DAYS))
    assert process.wait(timeout=300) == 0
    pd.testing.assert_frame_equal(read_candles(store, KEY), whole)


@pytest.mark.soak
def test_two_backfills_and_ingests_at_once_leave_a_correct_table(start, store):
    """A second fetcher has to wait (exit 1) or finds nothing to do; nothing is stored twice."""
    processes = [start("backfill", "--days", str(DAYS)) for _ in range(2)]
    for _ in range(5):
        time.sleep(1)
        processes.append(start("ingest"))
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0 or "is busy with" in err, err
    assert start("backfill", "--days", str(DAYS)).wait(timeout=300) == 0
    stored = read_candles(store, KEY)
    pd.testing.assert_frame_equal(
        stored[stored["open_time"] >= NOW - pd.Timedelta(days=DAYS)].reset_index(drop=True), truth()
    )
