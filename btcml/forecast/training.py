"""Training what is served: learn factors on a held-out span, then fit on everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.errors import NotReadyError
from btcml.forecast.backtest import WalkedAll, assemble, boldness, interval_inputs, walk_all, work_of
from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.features import features_of
from btcml.forecast.forecaster import Forecaster
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.multiplier import CAUTION, newest_factor, probability_losses
from btcml.forecast.naming import DIRECTION, RANGE
from btcml.forecast.splits import WalkForward, span_offset
from btcml.forecast.targets import TARGETS
from btcml.forecast.walk import Walked, fit_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["SERVED", "train_forecaster"]

SERVED = ("lightgbm_mean", "random_forest", "autoreg")
"""Close models of a default training: boosting, the forest and the statsmodels baseline."""

LEAST_CANDLES = 2_000


def train_forecaster(  # noqa: PLR0913 - a training has this many knobs
    candles: pd.DataFrame,
    interval: str,
    models: Sequence[str] = SERVED,
    *,
    champion: str = "persistence",
    features: str | Iterable[str] = "core",
    holdout: str | int = "60 days",
    walked: WalkedAll | None = None,
    jobs: int = 2,
    suspects: NDArray[np.bool_] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Forecaster:
    """Fit everything that is served.

    Models are fitted twice: on all but the held-out newest span, whose out-of-sample forecasts
    teach the factors, the calibration and the interval and give the training's figures; then on
    everything.

    Parameters
    ----------
    candles
        Candle frame: the training window.
    interval
        Its interval.
    models
        Close models, means among them.
    champion
        The served one: a name in `models`, or persistence.
    features
        Set or names of features of the close models.
    holdout
        Candles, days or months at the end; at most a fifth of the candles is held out.
    walked
        Raw forecasts of a walk-forward over these very candles, features and models that reaches
        to their end: they stand in for the first fit.
    jobs
        Processes; no bit depends on their number.
    suspects
        One boolean a candle: rows not to fit on.
    metadata
        Facts to keep with the models (JSON values), such as the snapshot's hash.

    Raises
    ------
    NotReadyError
        If there are fewer than 2,000 candles.
    UsageError
        If a model or feature is unknown, or the champion is not among the models.
    """
    if len(candles) < LEAST_CANDLES:
        msg = f"training needs {LEAST_CANDLES} candles, found {len(candles)}: backfill more days"
        raise NotReadyError(msg)
    names = tuple(item.name for item in features_of(features))
    times, plan = candles["open_time"], _plan(candles["open_time"], holdout)
    close = walked.close.data if walked else make_dataset(candles, interval, names, "close", suspects)
    walked = walked or walk_all(close, plan.folds(times, interval), models, (RANGE,), jobs)
    fitted = fit_all(work_of(close, models), times.iloc[0], times.iloc[-1], jobs)
    return Forecaster(
        interval=interval,
        features=names,
        served=tuple(name for name in models if name != "persistence"),
        champion=champion,
        models=fitted,
        factors=_factors(walked, models),
        shape=_shape(walked.ranges),
        interval_state=_interval_state(walked),
        metadata=_facts(candles, close) | dict(metadata or {}),
        holdout=assemble(walked, models, (RANGE,), plan).close,
    )


def _plan(open_time: pd.Series, holdout: str | int) -> WalkForward:
    """One fold: everything but the held-out span, of at most a fifth of the candles."""
    delta = open_time.diff().min()
    fifth = open_time.iloc[-(len(open_time) // 5)]
    start = max(fifth, open_time.iloc[-1] + delta - span_offset(holdout, delta))
    return WalkForward(start, window=None, refit=len(open_time), purge=1, burn_in=None)


def _factors(walked: WalkedAll, models: Sequence[str]) -> dict[str, float]:
    factors = {}
    for name in models:
        if name != "persistence":
            _, losses, prior = boldness(walked.close, name)
            factors[name] = newest_factor(losses, walked.close.day, prior, CAUTION)
    direction = walked.direction
    losses = probability_losses(direction.raw[DIRECTION], direction.outcome)
    return factors | {DIRECTION: newest_factor(losses, direction.day, 1.0)}


def _shape(ranges: Walked) -> tuple[float, float]:
    """Median height above and depth below the last close, in units of the range forecast."""
    width = np.exp(ranges.raw[RANGE])
    high, low = (TARGETS[name].scaled(ranges.data.prepared)[ranges.rows] for name in ("high", "low"))
    return float(np.nanmedian(high / width)), float(np.nanmedian(-low / width))


def _interval_state(walked: WalkedAll) -> dict[str, Any]:
    interval = AdaptiveInterval(level=0.9)
    interval.run(*interval_inputs(walked))
    return interval.state()


def _facts(candles: pd.DataFrame, close: Dataset) -> dict[str, Any]:
    times = candles["open_time"]
    samples = int((close.ready & close.known & ~close.suspect).sum())
    return {"window": [times.iloc[0].isoformat(), times.iloc[-1].isoformat()], "samples": samples}
