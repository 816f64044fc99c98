"""Two dask workers as processes: the same scores bit for bit as on one machine, and faster than one worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from btcml.forecast.experiment import Experiment
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.cluster import joblib_backend

from .compose import free_port

DASK = Path(sys.executable).parent / "dask"
END = pd.Timestamp("2025-06-01", tz="UTC")
DAYS = int(os.environ.get("DRILL_CLUSTER_DAYS", "730"))  # about a minute of one worker
START = (END - pd.Timedelta(days=DAYS / 3)).isoformat()
PLAN = Experiment("5m", START, models=("lightgbm_mean", "ridge"), window=None, refit="1 month")


@contextlib.contextmanager
def cluster(folder, workers):
    """Address of a scheduler with so many workers, each a process with one thread."""
    address = f"tcp://127.0.0.1:{free_port()}"
    quiet = ["--no-dashboard", "--interface", "lo"]
    commands = [[DASK, "scheduler", "--port", address.rpartition(":")[2], *quiet]]
    commands += [
        [DASK, "worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", folder, *quiet]
        for _ in range(workers)
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with contextlib.ExitStack() as stack, (folder / "dask.log").open("ab") as log:
        for command in commands:
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
        with import_module("distributed").Client(address, timeout="30s") as client:
            client.wait_for_workers(workers, timeout=60)
            client.run(import_module, "btcml.forecast.walk")  # imports are not timed
        yield address


def timed(candles, address):
    """Forecasts of the walk where the address says, and how long they took."""
    begun = time.monotonic()
    with joblib_backend(address) as backend:
        found = PLAN.run(candles, jobs=2, backend=backend)
    return found, time.monotonic() - begun


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # those of dask are not ours
def test_two_workers_give_the_same_bits_as_one_and_as_this_machine(tmp_path):
    """Every forecast, bound and probability; how much faster is printed, since only a quiet machine can judge it."""
    candles = SimulatedMarket(clock=lambda: END).fetch_candles("BTCUSDT", "5m", END - pd.Timedelta(days=DAYS), END)
    here, _ = timed(candles, None)
    seconds = {}
    for workers in (1, 2):
        with cluster(tmp_path, workers) as address:
            found, seconds[workers] = timed(candles, address)
        pd.testing.assert_frame_equal(found.forecasts, here.forecasts, check_exact=True)
        pd.testing.assert_frame_equal(found.ranges, here.ranges, check_exact=True)
        pd.testing.assert_frame_equal(found.scores(), here.scores(), check_exact=True)
    ratio = seconds[1] / seconds[2]
    sys.stdout.write(f"one worker {seconds[1]:.1f} s, two {seconds[2]:.1f} s: {ratio:.2f} times faster\n")
