"""The served models, fitted on everything, and the factors and the interval learned out of sample."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.calibration import CAUTION, UNSEEN, calibrated, newest_factor, probability_losses
from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.distribution import Decision, Distribution, decide, learn_newest, stretch_quantiles
from btcml.forecast.experiment import horizon_row
from btcml.forecast.features import SETS, features_of, tail_length
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.metrics import PERSISTENCE
from btcml.forecast.metrics.interval import LEVEL
from btcml.forecast.models import DIRECTION, FORMER_MEANS, RANGE, members_of
from btcml.forecast.splits import WalkForward
from btcml.forecast.targets import TARGETS, horizon_scale, price_of, prices
from btcml.forecast.verdict import plain
from btcml.forecast.walk import (
    VOLATILITY,
    distribution_inputs,
    fit_all,
    interval_inputs,
    model_of,
    raw_move,
    walk_all,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from btcml.forecast.experiment import Experiment, Result
    from btcml.forecast.models import Model, Sample
    from btcml.forecast.walk import FoldForecasts, RawForecasts

    Array = NDArray[np.float64]
    from collections.abc import Sequence


@dataclass(frozen=True)
class Prediction:
    """One forecast of one candle, made at the close of the candle before, or `horizon` candles before.

    Prices are in quote units (USD) and consistent: ``high >= max(open, close)``,
    ``low <= min(open, close)``, ``amp = high - low``.

    Attributes
    ----------
    open_time
        Of the target candle.
    last_close
        The last close, when it is made: persistence's forecast.
    open, high, low, close, amp
        The served forecast; beyond the next candle high and low are those of all candles until the horizon.
    lo, hi
        90 % interval of the close, around the last close; NaN before its warm-up.
    prob_up
        Calibrated probability that the close rises.
    model
        Name of the served model.
    closes
        Forecast close of every model, persistence and challengers among them.
    horizon
        Candles ahead.
    distribution
        Of the close; None before its warm-up, and of the next candle where the saved models are older than it.
    """

    open_time: pd.Timestamp
    last_close: float
    open: float
    high: float
    low: float
    close: float
    amp: float
    lo: float
    hi: float
    prob_up: float
    model: str
    closes: dict[str, float]
    horizon: int = 1
    distribution: Distribution | None = None

    def decide(self, cost_bp: float) -> Decision:
        """Decide whether a round trip at this cost pays; without a proven model it does not."""
        return decide(self.distribution, cost_bp, proven=self.model != PERSISTENCE)


@dataclass(frozen=True)
class HorizonForecaster:
    """Fitted models of one horizon beyond the next candle.

    Parameters
    ----------
    horizon
        Candles ahead.
    champion
        The served model, or ``persistence``.
    models
        Fitted models by name: members of the champion, the range model and that of the volatility.
    factor
        Multiplier of the champion's forecast.
    shape
        Median of the scaled high and low until the horizon in units of the range forecast.
    quantiles, edges
        What `btcml.forecast.distribution.learn_newest` learned of the champion's past errors.
    facts
        Verdict, figures, when it was judged, and the last candle that was fitted on: JSON values only.
    """

    horizon: int
    champion: str
    models: Mapping[str, Model]
    factor: float
    shape: tuple[float, float]
    quantiles: Sequence[Sequence[float]]
    edges: Sequence[float]
    facts: Mapping[str, Any]

    def prediction(self, data: Dataset, raw: Mapping[str, Array]) -> Prediction:
        """Forecast from the newest candle of a dataset and the raw forecasts of the models."""
        last, scale = float(data.prepared.close[-1]), float(horizon_scale(data.prepared, self.horizon)[-1])
        served = self.champion != PERSISTENCE
        move = self.factor * _newest(self.champion, raw) if served else 0.0
        width = float(np.exp(raw[RANGE][-1]))
        candle = prices(last, move, self.shape[0] * width, -self.shape[1] * width, scale)
        size = scale * float(np.exp((raw[RANGE][-1] + raw[VOLATILITY][-1]) / 2))
        made = self._distribution(last, move * scale, size)
        lo, hi = made.interval(LEVEL) if made else (np.nan, np.nan)
        ahead = pd.Timedelta(microseconds=(self.horizon - 1) * data.prepared.step_us)
        return Prediction(
            open_time=pd.Timestamp(int(data.target_time[-1]), unit="us", tz="UTC") + ahead,
            last_close=last,
            **{name: float(value) for name, value in candle._asdict().items()},
            lo=lo,
            hi=hi,
            prob_up=made.probability_above(last) if made else np.nan,
            model=self.champion,
            closes={PERSISTENCE: last} | ({self.champion: float(candle.close)} if served else {}),
            horizon=self.horizon,
            distribution=made,
        )

    def _distribution(self, last: float, center: float, size: float) -> Distribution | None:
        """Quantiles of the errors in the third of the scale, times the scale, around the forecast."""
        if not len(self.quantiles):
            return None
        third = int(np.searchsorted(np.asarray(self.edges), np.log(size)))
        return Distribution(last, tuple((center + size * np.asarray(self.quantiles[third])).tolist()), center)


@dataclass(frozen=True)
class Forecaster:
    """Fitted models of one series, with everything needed to turn candles into a `Prediction`.

    Parameters
    ----------
    interval
        Interval of the candles.
    features
        Names of the features of the close models.
    served
        Names of the close models, means among them; persistence is always known.
    champion
        The model of `served` (or ``persistence``) whose forecast is served.
    models
        Fitted models by name: members of `served`, the classifier and the range model.
    factors
        Multiplier of each served model and of the classifier's log-odds.
    shape
        Median of the scaled high and low of a candle in units of its range forecast.
    interval_state
        State of the adaptive interval.
    metadata
        Facts about the training: JSON values only.
    horizons
        Models of the horizons beyond the next candle.
    quantiles, edges
        What `btcml.forecast.distribution.learn_newest` learned of the past moves in units of the range forecast.
    """

    interval: str
    features: tuple[str, ...]
    served: tuple[str, ...]
    champion: str
    models: Mapping[str, Model]
    factors: Mapping[str, float]
    shape: tuple[float, float]
    interval_state: Mapping[str, Any]
    metadata: Mapping[str, Any]
    horizons: Mapping[int, HorizonForecaster] = field(default_factory=dict)
    quantiles: Sequence[Sequence[float]] = ()
    edges: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.champion not in {PERSISTENCE, *self.served}:
            msg = f"the champion must be persistence or one of {', '.join(self.served)}, found {self.champion!r}"
            raise UsageError(msg)

    @property
    def tail_length(self) -> int:
        """Number of candles that `predict` needs."""
        return max(tail_length(self._features_of(model)) for model in self._fitted())

    def _fitted(self) -> list[Model]:
        """Models of all horizons."""
        parts = [self.models, *(one.models for one in self.horizons.values())]
        return [model for part in parts for model in part.values()]

    def predict(self, tail: pd.DataFrame) -> Prediction:
        """Forecast the candle after the last one.

        Parameters
        ----------
        tail
            The newest final candles, at least `tail_length` of them for the exact value.

        Raises
        ------
        NotReadyError
            If the features of the last candle are not known: too few candles since the last gap.
        """
        data = self.dataset(tail.iloc[-self.tail_length :])
        return self._prediction(data, self.raw_forecasts(data, 1))

    def predict_all(self, tail: pd.DataFrame) -> dict[int, Prediction]:
        """Forecasts by horizon, the next candle first; otherwise as `predict`."""
        data = self.dataset(tail.iloc[-self.tail_length :])
        made = {1: self._prediction(data, self.raw_forecasts(data, 1))}
        raw = self.horizon_forecasts(data, 1)
        return made | {horizon: one.prediction(data, raw[horizon]) for horizon, one in self.horizons.items()}

    def dataset(self, candles: pd.DataFrame) -> Dataset:
        """Candles with the features of all models together."""
        sets = [self._features_of(model) for model in self._fitted()]
        return make_dataset(candles, self.interval, tuple(dict.fromkeys(name for names in sets for name in names)))

    def _features_of(self, model: Model) -> tuple[str, ...]:
        return tuple(SETS[model.features]) if model.features else self.features

    def raw_forecasts(self, data: Dataset, n: int) -> dict[str, Array]:
        """Scaled forecasts of each fitted model for the last `n` rows of `dataset`, before any factor.

        Raises
        ------
        NotReadyError
            If a row's features are not known.
        """
        if not data.ready[-n:].all():
            need = max(item.warmup for item in features_of(data.sample.names)) + n
            msg = f"a forecast needs {need} candles without a gap, found {data.prepared.age[-1] + 1}: ingest more"
            raise NotReadyError(msg)
        return self._raw(self.models, data.sample, n)

    def horizon_forecasts(self, data: Dataset, n: int) -> dict[int, dict[str, Array]]:
        """Scaled forecasts of the last `n` rows by horizon and model, before any factor; all rows are known."""
        return {h: self._raw(one.models, replace(data.sample, horizon=h), n) for h, one in self.horizons.items()}

    def _raw(self, models: Mapping[str, Model], sample: Sample, n: int) -> dict[str, Array]:
        newest = sample.at(np.arange(len(sample.rows) - n, len(sample.rows)))
        return {name: model.predict(newest.select(self._features_of(model))) for name, model in models.items()}

    def _prediction(self, data: Dataset, raw: dict[str, Array]) -> Prediction:
        last, scale = float(data.prepared.close[-1]), float(data.prepared.scale[-1])
        moves = {name: self._move(name, raw) for name in self.served}
        width = float(np.exp(raw[RANGE][-1]))
        move = moves.get(self.champion, 0.0)
        candle = prices(last, move, self.shape[0] * width, -self.shape[1] * width, scale)
        lo, hi = AdaptiveInterval.from_state(self.interval_state).bounds(width * scale, scale)
        up = float(calibrated(raw[DIRECTION][-1:], self.factors[DIRECTION])[0])
        return Prediction(
            open_time=pd.Timestamp(int(data.target_time[-1]), unit="us", tz="UTC"),
            last_close=last,
            **{name: float(value) for name, value in candle._asdict().items()},
            lo=last * float(np.exp(lo)),
            hi=last * float(np.exp(hi)),
            prob_up=up,
            model=self.champion,
            closes={PERSISTENCE: last} | {name: float(price_of(last, move, scale)) for name, move in moves.items()},
            horizon=1,
            distribution=self._distribution(last, move * scale, width * scale, hi, up),
        )

    def _distribution(self, last: float, move: float, size: float, half: float, up: float) -> Distribution | None:
        """Quantiles of past moves in the third of the scale, stretched to the interval and the probability up."""
        if not len(self.quantiles) or not half > 0:
            return None
        third = int(np.searchsorted(np.asarray(self.edges), np.log(size)))
        tail = (1 - float(self.interval_state["level"])) / 2
        middle = {1 - up: 0.0} if tail < 1 - up < 1 - tail else {}
        found = stretch_quantiles(np.asarray(self.quantiles[third]), {tail: -half} | middle | {1 - tail: half})
        return Distribution(last, tuple(found.tolist()), move) if np.isfinite(found).all() else None

    def _move(self, name: str, raw: dict[str, Array]) -> float:
        return self.factors[name] * _newest(name, raw)


def _newest(name: str, raw: Mapping[str, Array]) -> float:
    """Newest scaled forecast of a model or mean; of a mean that version 0.1 saved, by its members of then."""
    members = members_of(name)
    if not raw.keys() >= {*members}:
        members = members_of(name, FORMER_MEANS)
    return float(np.mean([raw[member][-1] for member in members]))


def empty_models(names: tuple[str, ...], horizon: int = 1) -> dict[str, Model]:
    """Unfitted models of the served ones at a horizon, to load into; those of direction and size are among them.

    A mean has its members of today and those of version 0.1.
    """
    fitted = [member for name in names for member in (*members_of(name), *members_of(name, FORMER_MEANS))]
    others = (DIRECTION, RANGE) if horizon == 1 else (RANGE, VOLATILITY)
    return {name: model_of(name) for name in dict.fromkeys([*fitted, *others])}


MIN_CANDLES = 2_000
"""Minimum number of candles for training."""


class Learned(NamedTuple):
    """What is learned from out-of-sample forecasts, beside the models: fields of a `Forecaster`.

    Parameters
    ----------
    factors, shape, interval_state, quantiles, edges
        Those of the `Forecaster`.
    log_scale, log_volatility
        Median logarithms of the range forecasts and of the known volatility: where another coin begins with these, the
        edges move with its own.
    """

    factors: Mapping[str, float]
    shape: tuple[float, float]
    interval_state: Mapping[str, Any]
    quantiles: Sequence[Sequence[float]]
    edges: Sequence[float]
    log_scale: float
    log_volatility: float


def learn(raw: RawForecasts, served: Sequence[str], level: float, start: Learned | None = None) -> Learned:
    """Learn factors, shape, interval and quantiles.

    Parameters
    ----------
    served
        Models whose factors are learned; the classifier's always is.
    level
        Nominal coverage of the interval.
    start
        What other coins have taught: the interval goes on from it, and the rest is kept where own outcomes are too few.
    """
    (outcome, scale), volatility = interval_inputs(raw), raw.close.scale
    quantiles, edges = (found.tolist() for found in learn_newest(outcome / scale, scale, raw.close.day))
    factors, shape, middle = _factors(raw, served), _shape(raw.ranges), _middle(raw)
    if start is not None:
        factors, shape = dict(start.factors) | {name: factors[name] for name in served}, start.shape
        if not quantiles:
            quantiles, edges = start.quantiles, [edge + middle[0] - start.log_scale for edge in start.edges]
    interval = begin_interval(raw, level, start)
    interval.run(outcome, scale, volatility)
    return Learned(factors, shape, interval.state(), quantiles, edges, *middle)


def begin_interval(raw: RawForecasts, level: float, start: Learned | None = None) -> AdaptiveInterval:
    """Interval that has learned nothing yet from these forecasts; with a start, what other coins have taught."""
    if start is None:
        return AdaptiveInterval.of_candles(raw.close.data.length, level)
    scale, volatility = _middle(raw)
    moved = _moved(start.interval_state, scale - start.log_scale, volatility - start.log_volatility)
    return AdaptiveInterval.from_state(moved)


def _middle(raw: RawForecasts) -> tuple[float, float]:
    """Median logarithms of the range forecasts and of the known volatility."""
    scale, volatility = (np.log(values) for values in (interval_inputs(raw)[1], raw.close.scale))
    return float(np.nanmedian(scale)), float(np.nanmedian(volatility))


def _moved(state: Mapping[str, Any], scale: float, volatility: float) -> dict[str, Any]:
    """State of an interval whose edges are moved by logarithms."""
    edges = {"edges": scale, "volatility_edges": volatility}
    return dict(state) | {name: [edge + by for edge in state[name]] for name, by in edges.items()}


def mean_learned(parts: Sequence[Learned]) -> Learned:
    """Return the mean of what several coins teach; edges are counted from each coin's own median."""
    moved = [_moved(one.interval_state, -one.log_scale, -one.log_volatility) for one in parts]
    states = [state for state in moved if state["unit"] is not None] or moved[:1]
    tables = [one for one in parts if len(one.edges)]
    known = ("unit", "quantiles", "edges", "offsets", "volatility_edges") if states[0]["unit"] is not None else ()
    state = states[0] | {"recent": 0.0} | {name: _mean([one[name] for one in states]) for name in known}
    return Learned(
        factors={DIRECTION: float(np.mean([one.factors[DIRECTION] for one in parts]))},
        shape=tuple(_mean([one.shape for one in parts])),
        interval_state=state,
        quantiles=_mean([one.quantiles for one in tables]) if tables else [],
        edges=_mean([np.subtract(one.edges, one.log_scale) for one in tables]) if tables else [],
        log_scale=0.0,
        log_volatility=0.0,
    )


def _mean(parts: Sequence[Any]) -> Any:
    return np.mean(parts, axis=0).tolist()


HOLDOUT = pd.Timedelta(days=60)
"""Newest candles from which factors and interval are learned where no experiment provides them."""


def train_forecaster(  # noqa: PLR0913 - the options of a training
    candles: pd.DataFrame,
    experiment: Experiment,
    *,
    champion: str = PERSISTENCE,
    raw: RawForecasts | None = None,
    others: Mapping[str, pd.DataFrame] | None = None,
    start: Learned | None = None,
    jobs: int = 2,
    metadata: Mapping[str, Any] | None = None,
) -> Forecaster:
    """Fit everything that is served.

    Models are fitted twice: on all but the newest 60 days (at most a fifth of the candles), whose
    out-of-sample forecasts give the factors, the calibration and the interval; then on everything.

    Parameters
    ----------
    candles
        Candle frame: the training window.
    experiment
        Gives interval, features, models and interval level.
    champion
        The served model: one of the experiment, or persistence.
    raw
        Raw forecasts of an experiment over the same candles up to their end: they replace the first fit.
    others
        Candle frames by symbol of the experiment's pool; those of `raw` where it is given.
    start
        What other coins have taught, for a coin with few outcomes (`btcml.forecast.left_out.LeftOut.start`).
    jobs
        Processes; the result does not depend on their number.
    metadata
        Facts to keep with the models (JSON values), such as the snapshot's hash.

    Raises
    ------
    NotReadyError
        If there are fewer than 2,000 candles, and models are not fitted on other symbols alone.
    UsageError
        If the champion is not among the models.
    """
    if len(candles) < MIN_CANDLES and not experiment.left_out:
        msg = f"training needs {MIN_CANDLES} candles, found {len(candles)}: backfill more days"
        raise NotReadyError(msg)
    interval, times = experiment.interval, candles["open_time"]
    close = raw.close.data if raw else experiment.dataset(candles, others)
    plan = _holdout(times, left_out=close.left_out)
    raw = raw or walk_all(close, plan.folds(close.history, interval), experiment.models, jobs=jobs)
    served = tuple(name for name in experiment.models if name != PERSISTENCE)
    learned = learn(raw, served, experiment.level, start)._asdict()
    del learned["log_scale"], learned["log_volatility"]
    return Forecaster(
        interval=interval,
        features=tuple(item.name for item in features_of(experiment.features)),
        served=served,
        champion=champion,
        models=fit_all([(close, served)], close.history.iloc[0], times.iloc[-1], jobs)[close.horizon],
        metadata=_facts(candles, close) | dict(metadata or {}),
        **learned,
    )


def train_horizons(
    results: Sequence[Result], *, jobs: int = 2, facts: Mapping[str, Any] | None = None
) -> dict[int, HorizonForecaster]:
    """Fit what is served at the horizons beyond the next candle, by horizon.

    Factor, shape and quantiles are learned from the forecasts of the experiment, then the models are fitted on all
    its candles.

    Parameters
    ----------
    results
        Of one `btcml.forecast.experiment.Experiment.run` at these horizons, with their raw forecasts.
    jobs
        Processes; the result does not depend on their number.
    facts
        Facts to keep beside each verdict (JSON values).

    Raises
    ------
    UsageError
        If a result has no raw forecasts of range and volatility.
    """
    closes = [(_raw(result)[0].close.data, [result.verdict.champion]) for result in results]
    first, last = closes[0][0].history
    fitted = fit_all(closes, first, last, jobs)
    known = {"cutoff": last.isoformat()} | dict(facts or {})
    return {result.horizon: _of_horizon(result, fitted[result.horizon], known) for result in results}


def _raw(result: Result) -> tuple[RawForecasts, FoldForecasts]:
    """Raw forecasts of a result, and those of the volatility among them."""
    if result.raw is None or result.raw.volatility is None:
        msg = "models of a horizon are fitted from the result of a run at it, found a saved one or the next candle's"
        raise UsageError(msg)
    return result.raw, result.raw.volatility


def _of_horizon(result: Result, models: Mapping[str, Model], facts: Mapping[str, Any]) -> HorizonForecaster:
    """What is served at a horizon, of its fitted models and what its forecasts teach."""
    (raw, volatility), champion = _raw(result), result.verdict.champion
    outcome, center, scale = distribution_inputs(raw, volatility, champion)
    quantiles, edges = learn_newest((outcome - center) / scale, scale, raw.close.day)
    verdict = {name: fact for name, fact in result.verdict.to_dict().items() if name != "table"}
    return HorizonForecaster(
        horizon=result.horizon,
        champion=champion,
        models=models,
        factor=_factors(raw, [champion])[champion] if members_of(champion) else 1.0,
        shape=_shape(raw.ranges),
        quantiles=quantiles.tolist(),
        edges=edges.tolist(),
        facts=verdict | {"figures": plain(horizon_row(result))} | dict(facts),
    )


def _holdout(open_time: pd.Series, *, left_out: bool) -> WalkForward:
    """One fold: everything but the held-out span, of at most a fifth of the candles; of all where left out."""
    delta = open_time.diff().min()
    fifth = open_time.iloc[0 if left_out else -(len(open_time) // 5)]
    start = max(fifth, open_time.iloc[-1] + delta - HOLDOUT)
    return WalkForward(start, window=None, refit=len(open_time), purge=1, burn_in=None)


def _factors(raw: RawForecasts, models: Sequence[str]) -> dict[str, float]:
    factors = {}
    for name in models:
        _, losses, prior = raw_move(raw.close, name)
        factors[name] = UNSEEN if raw.close.data.left_out else newest_factor(losses, raw.close.day, prior, CAUTION)
    direction = raw.direction
    if direction is None:
        return factors
    losses = probability_losses(direction.raw[DIRECTION], direction.outcome)
    return factors | {DIRECTION: newest_factor(losses, direction.day, 1.0)}


def _shape(ranges: FoldForecasts) -> tuple[float, float]:
    """Median height above and depth below the last close, in units of the range forecast."""
    data, width = ranges.data, np.exp(ranges.raw[RANGE])
    high, low = (TARGETS[name].scaled(data.prepared, data.horizon)[ranges.rows] for name in ("high", "low"))
    return float(np.nanmedian(high / width)), float(np.nanmedian(-low / width))


def _facts(candles: pd.DataFrame, close: Dataset) -> dict[str, Any]:
    times = candles["open_time"]
    parts = close.others if close.left_out else (close,)
    samples = sum(int((one.ready & one.known & ~one.suspect).sum()) for one in parts)
    return {"window": [times.iloc[0].isoformat(), times.iloc[-1].isoformat()], "samples": samples}
