"""A day of system time with faults, restarts and kills (one of the database server): the database stays consistent."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.errors import StoreError
from btcml.market import utc_now
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.jobs import environment
from btcml.store.candles import read_candles, read_last_candles
from btcml.store.chain import verify_chain
from btcml.store.forecasts import count_missing, market_now, read_scored
from btcml.store.jobs import read_jobs
from btcml.testing.exchange import ReplayClock
from btcml.testing.faults import Fault

from ..replayed import trained_replay  # noqa: TID252 - where drills begin

CANDLES = int(os.environ.get("DRILL_CANDLES", "288"))
SPEED = float(os.environ.get("DRILL_SPEED", "120"))
BEGIN = pd.Timestamp("2025-03-01", tz="UTC")
FIVE = pd.Timedelta("5min")
KEY = SeriesKey("replay:day", "BTCUSDT", "5m")
FAULTS = (
    Fault(kind="rate_limit", after=30, retry_after=1, times=2),
    Fault(kind="server_error", after=60, times=3),
    Fault(kind="reset", after=90, times=2),
    Fault(kind="truncated", after=110, times=2),
    Fault(kind="not_json", after=130),
    Fault(kind="partial", after=10, times=10),
    Fault(kind="bad_row", after=150, rule="high_is_highest", row=719),
    Fault(kind="duplicated", after=170, times=2),
)


class Drill:
    """The scheduler as a process that can be ended in two ways."""

    def __init__(self, settings, store):
        self.environment = environment(settings)
        self.store, self.process = store, None

    def start(self):
        command = [sys.executable, "-m", "btcml.cli", "schedule", "--days", "9"]
        self.process = subprocess.Popen(command, env=self.environment)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(timeout=30)

    def until(self, at):
        while self._now() < at:
            assert self.process.poll() is None, "the scheduler ended by itself"
            time.sleep(0.05)

    def _now(self):
        try:
            return market_now(self.store, KEY.market)
        except StoreError:  # its server was killed: the scheduler is to start it again
            return BEGIN

    def kill_the_server(self):
        note = self.store.home / "postgres" / "postmaster.pid"
        os.kill(int(note.read_text().splitlines()[0]), signal.SIGKILL)

    def in_the_middle_of_a_write(self):
        """Wait until an ingest runs."""
        query = text("SELECT count(*) FROM jobs WHERE kind = 'ingest' AND status = 'running'")
        while True:
            with self.store.engine.connect() as connection:
                if connection.scalar(query):
                    return
            time.sleep(0.005)


@pytest.fixture
def drill(settings, store):
    """A trained series on an exchange whose clock runs fast."""
    clock = ReplayClock(BEGIN, utc_now(), SPEED)
    often = {"btcml_train_every": "6h"}
    with trained_replay(settings, store, SimulatedMarket(), clock, KEY, faults=FAULTS, **often) as (ours, _):
        found = Drill(ours, store)
        yield found
        if found.process is not None and found.process.poll() is None:
            found.end(signal.SIGKILL)


@pytest.mark.soak
def test_a_day_with_faults_restarts_and_kills_leaves_a_consistent_database(drill, store):
    """Every candle final and true, every forecast in time or marked late, no job lost or doubled."""
    begin = market_now(store, KEY.market)
    drill.start()
    for share, how in ((0.3, signal.SIGTERM), (0.5, signal.SIGKILL), (0.75, signal.SIGTERM)):
        drill.until(begin + share * CANDLES * FIVE)
        if how == signal.SIGKILL:
            drill.in_the_middle_of_a_write()
        drill.end(how)
        drill.start()
    drill.until(begin + 0.85 * CANDLES * FIVE)
    drill.kill_the_server()
    drill.until(begin + CANDLES * FIVE)
    drill.end(signal.SIGTERM)
    forecasts = read_scored(store, KEY)
    champions = forecasts[forecasts["role"] == "champion"]
    _check_candles(store)
    _check_every_candle_has_its_forecast_or_is_missed(store, champions, begin)
    _check_forecasts(store, champions)
    _check_jobs(store)


def _check_every_candle_has_its_forecast_or_is_missed(store, champions, begin):
    first = champions["open_time"].min()
    last = max(champions["open_time"].max(), read_last_candles(store, KEY, 1)["open_time"].iloc[0])
    assert len(champions) + count_missing(store, KEY) == (last - first) / FIVE + 1
    assert first <= begin + 12 * FIVE
    assert last >= begin + (CANDLES - 3) * FIVE


def _check_candles(store):
    ours = read_candles(store, KEY)
    truth = SimulatedMarket().fetch_candles(
        "BTCUSDT", "5m", ours["open_time"].iloc[0], ours["open_time"].iloc[-1] + FIVE
    )
    pd.testing.assert_frame_equal(ours, truth, check_exact=False, rtol=1e-12)


def _check_forecasts(store, champions):
    assert verify_chain(store, KEY) is None
    assert champions["open_time"].is_unique
    late = champions["made_at"] > champions["open_time"] + 0.2 * FIVE
    assert (late == champions["status"].eq("late")).all()
    assert (champions["made_at"] < champions["open_time"] + FIVE).all()
    assert len(champions) > CANDLES / 2


def _check_jobs(store):
    jobs = read_jobs(store, limit=100_000)
    assert not [job for job in jobs if job.status in {"queued", "running"}]
    done = [(job.kind, job.due_at) for job in jobs if job.status == "ok" and job.due_at is not None]
    assert len(done) == len(set(done))
    for kind, every in (("ingest", FIVE), ("forecast", FIVE)):
        times = sorted({job.due_at: job.missed for job in jobs if job.kind == kind and job.due_at}.items())
        steps = [(later - earlier) / every for (earlier, _), (later, _) in itertools.pairwise(times)]
        assert [missed for _, missed in times[1:]] == [round(step) - 1 for step in steps]
    assert "abandoned" in {job.status for job in jobs if job.kind == "ingest"}
