"""Fit and forecast fold by fold in parallel; the result does not depend on the number of processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships none

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.calibration import (
    CAUTION,
    UNSEEN,
    calibrated,
    probability_losses,
    return_losses,
    trailing_factor,
)
from btcml.forecast.dataset import MOVES, ticks
from btcml.forecast.distribution import Distribution, distribution_columns, learn_newest
from btcml.forecast.features import SETS
from btcml.forecast.features.windows import rolling_max, rolling_min
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.metrics import FORECAST_COLUMNS, PERSISTENCE
from btcml.forecast.metrics.interval import LEVEL
from btcml.forecast.models import DIRECTION, RANGE, make_model, members_of, pool_of, stack
from btcml.forecast.models.boosting import Bins
from btcml.forecast.models.registered import RegisteredModel
from btcml.forecast.registered import forecast_apart
from btcml.forecast.targets import next_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from btcml.forecast.dataset import Dataset
    from btcml.forecast.models import Model, Sample
    from btcml.forecast.splits import Fold

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]
    Fit = tuple[str, list[tuple[Sample, Rows]]]


DAY_US = 86_400_000_000

VOLATILITY = "volatility"
"""Name of the fitted model of the realized volatility."""


@dataclass(frozen=True)
class FoldForecasts:
    """Raw out-of-sample forecasts of one dataset over all folds, burn-in included.

    Parameters
    ----------
    data
        The dataset.
    rows
        The rows that were forecast, in order of time, shape (n,).
    cutoff
        The last training outcome's open time for each row, microseconds of UTC.
    raw
        Scaled forecasts by model before any factor, shape (n,); NaN where features are not warm.
    failed
        Why a registered model failed, by its name.
    """

    data: Dataset
    rows: Rows
    cutoff: Rows
    raw: dict[str, Array]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def day(self) -> Rows:
        """Day number of each target candle."""
        return self.data.target_time[self.rows] // DAY_US

    @property
    def made(self) -> Rows:
        """Day number of each forecast's making."""
        return self.data.made_time[self.rows] // DAY_US

    @property
    def outcome(self) -> Array:
        """Scaled outcome of each row."""
        return self.data.sample.y[self.rows]

    @property
    def scale(self) -> Array:
        """Scale of each row."""
        return self.data.scale[self.rows]


class RawForecasts(NamedTuple):
    """Raw forecasts at one horizon over the same folds.

    The classifier of the direction is for the next candle only; the volatility is forecast unless the next
    candle is all that is asked for.
    """

    close: FoldForecasts
    ranges: FoldForecasts
    direction: FoldForecasts | None = None
    volatility: FoldForecasts | None = None


def walk(
    work: Sequence[tuple[Dataset, Sequence[str]]],
    folds: Sequence[Fold],
    jobs: int = 1,
    backend: str = "loky",
) -> list[FoldForecasts]:
    """Out-of-sample forecasts of every model of every dataset, all fits in one pool.

    Parameters
    ----------
    work
        Datasets, each with the names of the models that learn from it; the slowest first.
    folds
        The folds, in order.
    jobs, backend
        Processes, and the name of the joblib backend (``loky``, ``dask``, ...).

    Returns
    -------
    list of FoldForecasts
        One for each dataset.

    Raises
    ------
    UsageError
        If `jobs` is below 1.
    """
    if jobs < 1:
        msg = f"fits run in at least 1 process, found {jobs}: give --jobs 1"
        raise UsageError(msg)
    tasks = _tasks(work)
    groups = _groups(tasks)
    calls = [delayed(_one_by_one)(_fit_predict, _forecasts(tasks, group, fold)) for group in groups for fold in folds]
    with threadpool_limits(1):  # threads of one process share this limit, and each of them restores it
        forecasts = iter(Parallel(n_jobs=jobs, backend=backend)(calls))
    parts = {n: found for group in groups for n, *found in zip(group, *(next(forecasts) for _ in folds), strict=True)}
    walked, place = [], iter(range(len(tasks)))
    for data, names in work:
        tests = [_test_rows(data, fold) for fold in folds]
        cutoff = np.repeat([ticks(fold.cutoff) for fold in folds], [len(test) for test in tests])
        raw: dict[str, Array] = {}
        failed: dict[str, str] = {}
        for name in names:
            found = parts[next(place)]
            if said := [part for part in found if isinstance(part, str)]:
                failed[name] = said[0]
            else:
                raw[name] = np.concatenate(found)
        walked.append(FoldForecasts(data, np.concatenate(tests), cutoff, raw, failed))
    return walked


def walk_all(
    close: Dataset,
    folds: Sequence[Fold],
    models: Sequence[str],
    range_models: Sequence[str] = (RANGE,),
    jobs: int = 2,
    backend: str = "loky",
) -> RawForecasts:
    """Raw forecasts of the models, the classifier and the range models, all fits in one pool."""
    return walk_horizons(close, folds, (close.horizon,), models, range_models, jobs, backend)[close.horizon]


def walk_horizons(
    close: Dataset,
    folds: Sequence[Fold],
    horizons: Sequence[int],
    models: Sequence[str],
    range_models: Sequence[str] = (RANGE,),
    jobs: int = 2,
    backend: str = "loky",
) -> dict[int, RawForecasts]:
    """Raw forecasts by horizon from the same features, all fits in one pool."""
    wide = close.with_features("range")
    works = {
        h: _work(close.with_target("close", h), models, range_models, wide, volatility=[*horizons] != [1])
        for h in horizons
    }
    walked = iter(walk([item for work in works.values() for item in work.values()], folds, jobs, backend))
    return {h: RawForecasts(**{part: next(walked) for part in work}) for h, work in works.items()}


def fit_all(
    closes: Sequence[tuple[Dataset, Sequence[str]]], start: pd.Timestamp, cutoff: pd.Timestamp, jobs: int = 1
) -> dict[int, dict[str, Model]]:
    """Models by horizon and name, fitted on the target candles of [start, cutoff] in parallel processes.

    Parameters
    ----------
    closes
        The close at each horizon, on the same features, with its models. The range model is fitted besides, and the
        classifier of the next candle; beyond it `VOLATILITY`.
    """
    wide = closes[0][0].with_features("range")
    works = [_work(close, names, (RANGE,), wide, volatility=close.horizon > 1) for close, names in closes]
    # The range model is the slowest, so it starts first: no process waits for it at the end.
    tasks = _tasks([part for work in works for part in [*work.values()][::-1]])
    groups = _groups(tasks)
    calls = [delayed(_one_by_one)(_fit_dump, _fits([tasks[n] for n in group], start, cutoff)) for group in groups]
    found: dict[int, dict[str, Model]] = {close.horizon: {} for close, _ in closes}
    for n, files in zip(chain(*groups), chain(*Parallel(n_jobs=jobs)(calls)), strict=True):
        name, data = tasks[n]
        name = VOLATILITY if data.target == "realized_volatility" else name
        found[data.horizon][name] = model_of(name).load(files)
    return found


def model_of(name: str) -> Model:
    """Return a new model of those that `fit_all` returns; that of the volatility is a range model, too."""
    return make_model(RANGE if name == VOLATILITY else name)


def _work(
    close: Dataset,
    models: Sequence[str],
    range_models: Sequence[str],
    wide: Dataset | None = None,
    *,
    volatility: bool = False,
) -> dict[str, tuple[Dataset, list[str]]]:
    """Datasets with the models that learn from them, by name in `RawForecasts`; ranges have wide features."""
    wide = wide or close.with_features("range")
    sizes = list(dict.fromkeys([RANGE, *range_models]))
    work = {"close": (close, _members(models))}
    if close.horizon == 1:
        work["direction"] = (close.with_target("direction"), [DIRECTION])
    work["ranges"] = (wide.with_target("log_range", close.horizon), sizes)
    if volatility:
        work["volatility"] = (wide.with_target("realized_volatility", close.horizon), sizes)
    return work


def _members(models: Sequence[str]) -> list[str]:
    """Names to fit, each once."""
    return list(dict.fromkeys(member for name in models for member in members_of(name)))


def _tasks(work: Sequence[tuple[Dataset, Sequence[str]]]) -> list[tuple[str, Dataset]]:
    """Models with their data; a model that requires its own features gets them, computed once for all targets."""
    tasks, known = [], {(id(data.prepared), data.sample.names): data for data, _ in work}
    for data, names in work:
        for name in names:
            own = tuple(SETS[required]) if (required := make_model(name).features) else data.sample.names
            if own == data.sample.names:
                tasks.append((name, data))
                continue
            key = (id(data.prepared), own)
            if key not in known:
                known[key] = data.with_features(own)
            tasks.append((name, known[key].with_target(data.target, data.horizon)))
    return tasks


def _groups(tasks: Sequence[tuple[str, Dataset]]) -> list[list[int]]:
    """Places of tasks that are done together: those that can share the bins of their features; largest first."""
    groups: dict[object, list[int]] = {}
    for n, (name, data) in enumerate(tasks):
        groups.setdefault(id(data.sample.x) if _shares_bins(name, data) else f"alone {n}", []).append(n)
    return sorted(groups.values(), key=len, reverse=True)


def _shares_bins(name: str, data: Dataset) -> bool:
    return make_model(name).binned and not pool_of(name) and not data.left_out


def _fits(group: Sequence[tuple[str, Dataset]], start: pd.Timestamp, cutoff: pd.Timestamp) -> list[Fit]:
    """Names and training parts of tasks that are done together, with the bins that they share."""
    sample, rows = group[0][1].sample, group[0][1].binned_rows(start, cutoff)
    bins = Bins(sample.x, sample.names, rows) if _shares_bins(*group[0]) else None
    fits = [(name, data.training_parts(name, start, cutoff)) for name, data in group]
    return [(name, [(replace(own, bins=bins), rows) for own, rows in parts]) for name, parts in fits]


def _forecasts(tasks: Sequence[tuple[str, Dataset]], group: Sequence[int], fold: Fold) -> list[tuple[Any, ...]]:
    """Arguments of `_fit_predict` for tasks that are done together on a fold."""
    own = [tasks[n] for n in group]
    fits = zip(_fits(own, fold.train_start, fold.cutoff), own, strict=True)
    return [(*fit, data.sample, _test_rows(data, fold), data.ready) for fit, (_, data) in fits]


def _one_by_one(fit: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Results of tasks that share bins, in another process."""
    return [fit(*task) for task in tasks]


def _test_rows(data: Dataset, fold: Fold) -> Rows:
    """Rows whose target candles lie in the fold's test and are known."""
    last = fold.test_end - pd.Timedelta(microseconds=1)
    return np.flatnonzero(data.known & data.between(fold.test_start, last))


def _training(name: str, parts: Sequence[tuple[Sample, Rows]]) -> Sample:
    if not any(len(rows) for _, rows in parts):
        msg = f"training {name} needs candles at which all features are known, found none: ingest more days"
        raise NotReadyError(msg)
    return stack([sample.training(rows) for sample, rows in parts])


def _fit_dump(name: str, parts: Sequence[tuple[Sample, Rows]]) -> dict[str, bytes]:
    """Fit in another process; the model is returned as the files of `dump`."""
    with threadpool_limits(1):
        return make_model(name).fit(_training(name, parts)).dump()


def _fit_predict(
    name: str, parts: Sequence[tuple[Sample, Rows]], sample: Sample, test: Rows, ready: NDArray[np.bool_]
) -> Array | str:
    """Fit on the training rows and forecast the test rows: one task. A text: why a registered model failed."""
    training, tested, model = _training(name, parts), sample.at(test), make_model(name)
    if isinstance(model, RegisteredModel):
        try:
            found = forecast_apart(name, training, replace(tested, y=np.empty(0)))
        except NotReadyError as error:
            return str(error)
    else:
        with threadpool_limits(1):
            found = model.fit(training).predict(tested)
    return np.where(ready[test], found, np.nan)


def raw_move(walked: FoldForecasts, name: str) -> tuple[Array, Array, float]:
    """Raw forecast of a model or mean, its losses under each factor, and its prior factor."""
    members = members_of(name)
    raw = np.mean([walked.raw[member] for member in members], axis=0)
    prior = float(np.mean([make_model(member).multiplier for member in members]))
    return raw, return_losses(raw, walked.outcome, walked.scale), prior


def level_frame(walked: FoldForecasts, models: Sequence[str]) -> pd.DataFrame:
    """Long forecast frame of one target, burn-in included: a block of rows per model, in order of names.

    Moves are multiplied by the factor learned from their earlier forecasts; NaN is persistence.
    """
    data, rows = walked.data, walked.rows
    base = data.persistence[rows]
    shared = pd.DataFrame(
        {"cutoff": _times(walked.cutoff), "open_time": _times(data.target_time[rows]), "y": data.level[rows]}
    ).assign(horizon=np.int16(data.horizon))
    scaled = {PERSISTENCE: np.full(len(rows), np.nan)}
    scaled |= {name: _scaled(walked, name) for name in models if name != PERSISTENCE}
    parts = []
    for name in sorted(scaled):
        level = data.level_of(rows, scaled[name])
        parts.append(shared.assign(model=name, y_hat=np.where(np.isnan(level), base, level), base=base))
    frame = pd.concat(parts, ignore_index=True).assign(lo=np.nan, hi=np.nan, prob_up=np.nan)
    return frame.assign(model=frame["model"].astype(pd.CategoricalDtype(sorted(scaled))))[list(FORECAST_COLUMNS)]


def _scaled(walked: FoldForecasts, name: str) -> Array:
    raw, losses, prior = raw_move(walked, name)
    if walked.data.target not in MOVES:
        return raw
    if walked.data.left_out:  # a coin without a past has no earlier forecasts to learn a factor from
        return raw * UNSEEN
    return raw * trailing_factor(losses, walked.day, prior, CAUTION, walked.made)


def _times(stamps: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.to_datetime(stamps, unit="us", utc=True).as_unit("us")


def close_frame(walked: RawForecasts, models: Sequence[str], level: float = LEVEL) -> pd.DataFrame:
    """Long forecast frame of the close, burn-in included, with all columns that pages show.

    Returns
    -------
    DataFrame
        `FORECAST_COLUMNS` and ``open, high, low, amp``. ``lo`` and ``hi`` are the interval at `level`
        around the last close, ``prob_up`` the calibrated probability of a rise (NaN for persistence);
        a column ``level`` is there unless it is 90 %. Unless the next candle is all that is forecast, ``pit``,
        ``crps_bp`` and ``crps_reference_bp`` score the predictive distribution, and bounds and probability
        beyond the next candle are its own.
    """
    frame = level_frame(walked.close, models)
    base = walked.close.data.persistence[walked.close.rows]
    up, down = _reach(walked, base)
    columns = {} if walked.volatility is None else _distributions(walked, walked.volatility, base, models, level)
    if walked.direction is not None:
        columns |= _next_candle(walked, walked.direction, base, level)
    columns |= {"up": base * np.exp(up), "down": base * np.exp(-down)}
    tiled = {name: np.tile(column, frame["model"].nunique()) for name, column in columns.items()}
    frame = frame.assign(open=frame["base"], **{name: tiled[name] for name in columns if name in _KEPT})
    frame["prob_up"] = np.where(frame["model"] == PERSISTENCE, np.nan, tiled["prob_up"])
    frame["high"] = np.fmax(frame[["y_hat", "base"]].max(axis=1), tiled["up"])
    frame["low"] = np.fmin(frame[["y_hat", "base"]].min(axis=1), tiled["down"])
    if level != LEVEL:
        frame["level"] = level
    return frame.assign(amp=frame["high"] - frame["low"])


_KEPT = ("lo", "hi", "pit", "crps_bp", "crps_reference_bp")


def _distributions(
    walked: RawForecasts, volatility: FoldForecasts, base: Array, models: Sequence[str], level: float
) -> dict[str, Array]:
    """Columns of the predictive distributions, around the forecasts of the first model.

    The scale is the geometric mean of the range and volatility forecasts over the horizon.
    """
    close, first = walked.close, next(name for name in models if name != PERSISTENCE)
    outcome, center, scale = distribution_inputs(walked, volatility, first)
    found = distribution_columns(outcome, center, scale, close.scale, close.day, close.made, level)
    return found | {name: base * np.exp(found[name]) for name in ("lo", "hi")}


def distribution_inputs(walked: RawForecasts, volatility: FoldForecasts, model: str) -> tuple[Array, Array, Array]:
    """Log returns until the horizon, forecasts of them by a model, and their forecast scales, shape (n,)."""
    close, rows = walked.close, walked.close.rows
    sizes = [
        pd.Series(part.data.level_of(part.rows, part.raw[RANGE]), part.rows).reindex(rows).to_numpy()
        for part in (walked.ranges, volatility)
    ]
    moves = np.zeros(len(rows)) if model == PERSISTENCE else np.nan_to_num(_scaled(close, model))
    outcome = np.log(close.data.level[rows] / close.data.persistence[rows])
    return outcome, moves * close.scale, np.exp(np.mean(sizes, axis=0))


def distribution_of(walked: RawForecasts, volatility: FoldForecasts, model: str, place: int) -> Distribution | None:
    """Distribution that one of the rows of a walk had, from the errors known on its day; None: they were too few."""
    close = walked.close
    outcome, center, scale = distribution_inputs(walked, volatility, model)
    known = close.day < close.made[place]
    tables, edges = learn_newest(((outcome - center) / scale)[known], scale[known], close.day[known])
    if not len(tables):
        return None
    table = tables[np.searchsorted(edges, np.log(scale[place]))]
    base = close.data.persistence[close.rows[place]]
    return Distribution(float(base), tuple(map(float, center[place] + scale[place] * table)))


def _next_candle(walked: RawForecasts, direction: FoldForecasts, base: Array, level: float) -> dict[str, Array]:
    """Interval and calibrated probability of a rise of the next candle."""
    bounds = AdaptiveInterval.of_candles(walked.close.data.length, level).run(
        *interval_inputs(walked), walked.close.scale
    )
    raw = direction.raw[DIRECTION]
    factor = trailing_factor(probability_losses(raw, direction.outcome), direction.day, 1.0)
    lo, hi = (base * np.exp(bounds[name].to_numpy()) for name in ("lo", "hi"))
    return {"lo": lo, "hi": hi, "prob_up": calibrated(raw, factor)}


def interval_inputs(walked: RawForecasts) -> tuple[Array, Array]:
    """Realised log returns and the range forecasts that scale their intervals, shape (n,)."""
    close, ranges = walked.close, walked.ranges
    level = ranges.data.level_of(ranges.rows, ranges.raw[RANGE])
    forecast = pd.Series(level, ranges.rows).reindex(close.rows)
    return np.log(close.data.level[close.rows] / close.data.persistence[close.rows]), np.exp(forecast.to_numpy())


def _reach(walked: RawForecasts, base: Array) -> tuple[Array, Array]:
    """Forecast log distance of high and low from the last close.

    The range forecast times the running median share of the range above and below in the outcomes before;
    one half each before there are any. NaN where the range is not forecast.
    """
    prepared, rows, horizon = walked.close.data.prepared, walked.close.rows, walked.close.data.horizon
    width = interval_inputs(walked)[1]
    reached = rolling_max(prepared.high, horizon), rolling_min(prepared.low, horizon)
    high, low = (np.log(next_value(price, prepared.age, horizon)[rows] / base) for price in reached)
    # The outcomes of the newest rows are not known yet.
    up, down = (pd.Series(part / width).shift(horizon).expanding().median().fillna(0.5) for part in (high, -low))
    return up.to_numpy() * width, down.to_numpy() * width
