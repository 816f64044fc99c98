"""The largest task: features and one boosting fit on 4,350,000 one-minute candles: ``make bench-scale``."""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd

from btcml.forecast.dataset import make_dataset
from btcml.forecast.features import feature_frame
from btcml.forecast.models import make_model
from btcml.market.simulate import SimulatedMarket

CANDLES = 4_350_000
FIRST = pd.Timestamp("2017-09-01", tz="UTC")


def tell(what, begin):
    """Print wall seconds, processor seconds and the greatest memory so far."""
    wall, processor = (now - then for now, then in zip((time.perf_counter(), time.process_time()), begin, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:<44} {wall:7.1f} s wall {processor:7.1f} s processor {peak:5.2f} GiB peak", flush=True)


def start():
    """Both clocks."""
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    begin = start()
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "1m", FIRST, FIRST + CANDLES * pd.Timedelta(minutes=1))
    tell(f"{len(candles):,} simulated candles", begin)
    begin = start()
    feature_frame(candles, "1m")
    tell("features core", begin)
    begin = start()
    data = make_dataset(candles, "1m")
    train = data.training_rows(candles["open_time"].iloc[0], candles["open_time"].iloc[-1])
    tell("dataset", begin)
    begin = start()
    model = make_model("lightgbm_huber").fit(data.sample.at(train))
    tell(f"one fit of lightgbm_huber on {len(train):,} rows", begin)
    begin = start()
    forecast = model.predict(data.sample.at(train[-100_000:]))
    tell(f"forecasts of 100,000 rows, {np.isfinite(forecast).sum():,} finite", begin)
