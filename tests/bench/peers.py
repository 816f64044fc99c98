"""The same rows given to a peer, and to the recipes that btcml replaces: ``make bench-peers``.

mlforecast gets its features, one fit and all one-step forecasts; so does our LightGBM, both on one
thread. The peer is asked twice: as its documentation shows it, and regularised as an expert would.
"""

from __future__ import annotations

import sys
import time

import lightgbm
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.lag_transforms import ExponentiallyWeightedMean, RollingMean, RollingStd
from mlforecast.target_transforms import Differences
from threadpoolctl import threadpool_limits

from btcml.candles import as_candles
from btcml.forecast.calibration import CAUTION, return_losses, trailing_factor
from btcml.forecast.dataset import make_dataset
from btcml.forecast.experiment import Experiment
from btcml.forecast.models import make_model
from btcml.forecast.walk import DAY_US
from btcml.market.simulate import SimulatedMarket

INTERVAL = "5m"
SIMULATED = pd.Timestamp("2022-01-01", tz="UTC"), pd.Timestamp("2025-01-01", tz="UTC")
ROUNDS = 3
EXPERT = {
    "objective": "huber",
    "alpha": 1.0,
    "n_estimators": 120,
    "learning_rate": 0.05,
    "num_leaves": 64,
    "min_child_samples": 1000,
    "reg_lambda": 50.0,
    "subsample": 0.7,
    "subsample_freq": 1,
    "colsample_bytree": 0.6,
}


def read(source):
    """Candles of a file, or of the simulated market."""
    if source:
        return as_candles(pd.read_parquet(source), INTERVAL)
    return SimulatedMarket().fetch_candles("BTCUSDT", INTERVAL, *SIMULATED)


def documented():
    """As its first steps show it: differences, a few lags, a rolling mean, the hour, LightGBM as it is."""
    return MLForecast(
        lightgbm.LGBMRegressor(n_jobs=1, verbosity=-1, random_state=0),
        freq="5min",
        lags=[1, 12, 288],
        lag_transforms={1: [RollingMean(12)], 12: [RollingMean(288)]},
        date_features=["hour", "dayofweek"],
        target_transforms=[Differences([1])],
    )


def regularised():
    """As an expert has it: scaled returns, gaps to several means, volatility, the minute, a robust loss."""
    means = [RollingMean(n) for n in (2, 4, 16, 32, 96)]
    return MLForecast(
        lightgbm.LGBMRegressor(n_jobs=1, verbosity=-1, random_state=0, **EXPERT),
        freq="5min",
        lags=[1, 2, 3, 4, 6, 12],
        lag_transforms={1: [*means, RollingStd(12), RollingStd(96), ExponentiallyWeightedMean(0.06)]},
        date_features=["minute", "hour", "dayofweek"],
    )


def through_peer(make, candles, first_test, unit):
    """Forecast log returns of the test by one fit: time stamps, forecasts, outcomes."""
    move = np.log(candles["close"]).diff().fillna(0.0) * 1e4
    value = np.log(candles["close"]) * 1e4 if unit == "level" else move
    series = pd.DataFrame({"unique_id": "0", "ds": candles["open_time"].dt.tz_localize(None), "y": value})
    peer = make()
    rows = peer.preprocess(series, static_features=[], dropna=True)
    x, past = rows.drop(columns=["unique_id", "ds", "y"]), rows["ds"] < first_test
    model = peer.models["LGBMRegressor"].fit(x[past], rows["y"][past])
    return rows["ds"][~past], model.predict(x[~past]), rows["y"][~past]


def through_btcml(candles, first_test):
    """Do the same by our features and the LightGBM."""
    data = make_dataset(candles, INTERVAL)
    at, day = pd.Timestamp(first_test, tz="UTC"), pd.Timedelta(days=1)
    train = data.training_rows(candles["open_time"].iloc[0], at - day)
    test = np.flatnonzero(data.ready & data.known & data.between(at, candles["open_time"].iloc[-1]))
    model = make_model("lightgbm_l1").fit(data.sample.at(train))
    scale, outcome = data.prepared.scale[test], data.sample.y[test]
    raw = model.predict(data.sample.at(test))
    losses, day = return_losses(raw, outcome, scale), data.target_time[test] // DAY_US
    forecast = raw * trailing_factor(losses, day, model.multiplier, CAUTION)
    return pd.to_datetime(data.target_time[test], unit="us"), forecast * scale * 1e4, outcome * scale * 1e4


def ratio(found):
    """Mean absolute error over that of no change."""
    _, forecast, outcome = found
    return float(np.abs(outcome - forecast).mean() / np.abs(outcome).mean())


def contest(candles, first_test):
    """Median seconds and the ratio of each way, in turn so that a busy machine slows all of them."""
    ways = {
        "btcml, LightGBM": lambda: through_btcml(candles, first_test),
        "mlforecast as documented": lambda: through_peer(documented, candles, first_test, "level"),
        "mlforecast regularised": lambda: through_peer(regularised, candles, first_test, "move"),
    }
    seconds, ratios = {name: [] for name in ways}, {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin = time.perf_counter()
            ratios[name] = ratio(way())
            seconds[name].append(time.perf_counter() - begin)
    return pd.DataFrame({"seconds": pd.DataFrame(seconds).median(), "ratio": ratios})


def replaced_systems(candles):
    """Ratios of the recipes of the two systems over the newest 150 days, refitted each month on 90."""
    last = candles["open_time"].iloc[-1]
    newest = candles[candles["open_time"] >= last - pd.Timedelta(days=270)].reset_index(drop=True)
    start = (last - pd.Timedelta(days=150)).isoformat()
    plan = Experiment(INTERVAL, start, models=("system0", "system1"), refit="1 months", burn_in=None)
    return plan.run(newest).scores(metrics=["ratio", "dm_z"]).set_index("model")


def main(source=""):
    """Print the tables; exit 1 where the peer is quicker than we are, or better."""
    candles = read(source)
    first, last = candles["open_time"].iloc[0], candles["open_time"].iloc[-1]
    first_test = (last - (last - first) / 3).floor("D").tz_localize(None)
    with threadpool_limits(1):
        table = contest(candles, first_test)
    print(table.round({"seconds": 2, "ratio": 5}).to_string())
    print(replaced_systems(candles).round(5).to_string())
    own, peer = table.iloc[0], table.loc["mlforecast regularised"]
    return int(own["ratio"] >= table["ratio"].iloc[1:].min() or own["seconds"] > peer["seconds"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
