"""The registry of metrics: each takes the forecast frame of one model and returns a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import interval_delta
from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


Score = Callable[["pd.DataFrame"], float]


@dataclass(frozen=True)
class Metric:
    """A metric with its title, unit and family.

    Attributes
    ----------
    name
        Column in a table of scores; the name of the function.
    title
        Title for display.
    unit
        ``USD``, ``bp``, ``%``, ``share`` (0 to 1), ``z``, ``p`` or empty.
    better
        ``less``, ``more``, or ``level`` where the nominal level is right.
    family
        ``point``, ``direction``, ``probability``, ``interval`` or ``range``.
    function
        The metric itself; a metric is called like it.
    """

    name: str
    title: str
    unit: str
    better: str
    family: str
    function: Score

    def __call__(self, forecasts: pd.DataFrame) -> float:
        """Score of one model's forecast frame; NaN where there is nothing to score."""
        return self.function(forecasts)


METRICS: dict[str, Metric] = {}
"""Every metric by name."""


def metric(family: str, title: str, unit: str, better: str) -> Callable[[Score], Score]:
    """Register a function as a metric under its own name.

    Raises
    ------
    UsageError
        If the name is taken.
    """

    def _register(function: Score) -> Score:
        name = function.__name__
        if name in METRICS:
            msg = f"metric names are unique, {name!r} is registered already: choose another name"
            raise UsageError(msg)
        METRICS[name] = Metric(name, title, unit, better, family, function)
        return function

    return _register


def metric_names(*families: str) -> list[str]:
    """Names of the metrics of some families, family by family."""
    return [name for family in families for name, entry in METRICS.items() if entry.family == family]


def metrics_named(names: Iterable[str]) -> list[Metric]:
    """Metrics by name.

    Raises
    ------
    UsageError
        If there is no metric of a name.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in METRICS]
    if unknown:
        msg = f"there is no metric {', '.join(unknown)}: choose from {', '.join(METRICS)}"
        raise UsageError(msg)
    return [METRICS[name] for name in wanted]


FORECAST_COLUMNS = ("cutoff", "open_time", "horizon", "model", "y", "y_hat", "lo", "hi", "prob_up", "base")
"""Columns of a forecast frame; one without the horizon is of the next candle."""

PERSISTENCE = "persistence"
"""The model that says "no change"; it is in every frame."""


def forecast_frame(
    close: ArrayLike,
    forecasts: Mapping[str, Mapping[str, ArrayLike]],
    *,
    start: str = "2024-01-01",
    interval: str = "5m",
) -> pd.DataFrame:
    """Forecast frame of consecutive candles; persistence joins by itself.

    Parameters
    ----------
    close
        Closes of shape (n + 1,): the first is only the base of the first forecast.
    forecasts
        For each model its columns of shape (n,): ``y_hat`` and, where it has them, ``lo``, ``hi``
        and ``prob_up``.
    start
        Open time (UTC) of the first target candle.
    interval
        Name of the interval.

    Returns
    -------
    DataFrame
        Columns `FORECAST_COLUMNS`, sorted by model and open time; `cutoff` is the candle before
        the first target.

    Examples
    --------
    >>> frame = forecast_frame([100, 101, 99], {"oracle": {"y_hat": [101, 99]}})
    >>> frame[["model", "base", "y", "y_hat"]].to_dict("list")  # doctest: +NORMALIZE_WHITESPACE
    {'model': ['oracle', 'oracle', 'persistence', 'persistence'],
     'base': [100.0, 101.0, 100.0, 101.0], 'y': [101.0, 99.0, 101.0, 99.0],
     'y_hat': [101.0, 99.0, 100.0, 101.0]}
    """
    prices = np.asarray(close, dtype=float)
    first, step = pd.Timestamp(start, tz="UTC"), interval_delta(interval)
    times = pd.Series(pd.date_range(first, periods=len(prices) - 1, freq=step, unit="us"))
    common = pd.DataFrame({"cutoff": first - step, "open_time": times, "y": prices[1:], "base": prices[:-1]})
    common["horizon"] = np.int16(1)
    everybody = {**forecasts, PERSISTENCE: {"y_hat": prices[:-1]}}
    parts = [_part(common.assign(model=name), everybody[name]) for name in sorted(everybody)]
    return pd.concat(parts, ignore_index=True)


def _part(common: pd.DataFrame, columns: Mapping[str, ArrayLike]) -> pd.DataFrame:
    for name in ("y_hat", "lo", "hi", "prob_up"):
        common[name] = np.asarray(columns.get(name, np.nan), dtype=float)
    return common[list(FORECAST_COLUMNS)]


def horizon_of(forecasts: pd.DataFrame) -> int:
    """Candles ahead of a forecast frame."""
    return int(forecasts["horizon"].iloc[0]) if "horizon" in forecasts and len(forecasts) else 1


THIRDS = ("calm", "middle", "storm")
"""Names of the volatility thirds, ascending."""

_SPAN = 96


def volatility_third(forecasts: pd.DataFrame) -> pd.Series:
    """Third of the span to which a row belongs by the volatility known before its candle.

    Volatility is the EWMA(96) of squared log changes of ``base`` (frames of log ranges, whose
    base may be negative: the EWMA(96) of ``base`` itself); the thirds hold equally many rows.

    Parameters
    ----------
    forecasts
        Frame of one model, sorted by ``open_time``.

    Returns
    -------
    Series
        ``calm``, ``middle`` or ``storm`` on the index of `forecasts`; an ordered category.
    """
    base = forecasts["base"].astype(float)
    if (base > 0).all():
        base = pd.Series(np.log(base.to_numpy()), base.index).diff().fillna(0.0) ** 2
    rank = base.ewm(span=_SPAN).mean().rank(method="first").to_numpy()
    codes = ((rank - 1) * len(THIRDS) // max(len(rank), 1)).astype(np.int8)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(THIRDS), ordered=True), forecasts.index)


def _year(forecasts: pd.DataFrame) -> pd.Series:
    return pd.Series(forecasts["open_time"].dt.year.astype(str))


def _month(forecasts: pd.DataFrame) -> pd.Series:
    # Formatted once a month, not once a row.
    months = forecasts["open_time"].dt.tz_localize(None).astype("datetime64[s]").to_numpy().astype("datetime64[M]")
    codes, names = pd.factorize(months)
    return pd.Series(np.array([str(name)[:7] for name in names], dtype=object)[codes], forecasts.index)


def _hour(forecasts: pd.DataFrame) -> pd.Series:
    return pd.Series(forecasts["open_time"].dt.hour)


def _age(forecasts: pd.DataFrame) -> pd.Series:
    return (forecasts["open_time"] - forecasts["cutoff"]).dt.days // 30


GROUPS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "year": _year,
    "month": _month,
    "hour": _hour,
    "third": volatility_third,
    "age": _age,
}
"""By name: one label for each row of one model's frame; times are those of the target candle, UTC; the age
is in whole months of 30 days since the last outcome that the model was fitted on."""


BP = 1e4
"""Basis points in one."""


def _absolute(y: Floats, y_hat: Floats) -> Floats:
    return np.abs(BP * np.log(y_hat / y))


def _squared(y: Floats, y_hat: Floats) -> Floats:
    return np.square(BP * np.log(y_hat / y))


def _level(y: Floats, y_hat: Floats) -> Floats:
    return np.square(y - y_hat)


def _qlike(y: Floats, y_hat: Floats) -> Floats:
    return np.exp(y - y_hat) - (y - y_hat) - 1


LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "absolute": _absolute,
    "squared": _squared,
    "level": _level,
    "qlike": _qlike,
}
"""By name: absolute error in bp and its square (prices); squared error and QLIKE (log ranges).

QLIKE is exp(e) - e - 1 with e = y - y_hat (Patton 2011, of the range itself): it punishes a range
forecast too low more than one too high, and is robust to noise in the range.
"""


def known(forecasts: pd.DataFrame, *columns: str) -> list[Floats]:
    """Columns as arrays, without the rows in which any of them is NaN."""
    arrays = [forecasts[name].to_numpy(dtype=float) for name in columns]
    whole = ~np.isnan(arrays).any(axis=0)
    return arrays if whole.all() else [values[whole] for values in arrays]


def moves(forecasts: pd.DataFrame) -> tuple[Floats, Floats]:
    """Actual and forecast log return from the last close, rows without NaN, shape (n,) each."""
    y, y_hat, base = known(forecasts, "y", "y_hat", "base")
    return np.log(y / base), np.log(y_hat / base)


def loss_of(forecasts: pd.DataFrame, loss: str = "absolute", column: str = "y_hat") -> Floats:
    """Loss of every row, NaN where it is not known, shape (n,).

    Raises
    ------
    UsageError
        If there is no loss of that name.
    """
    if loss not in LOSSES:
        msg = f"there is no loss {loss!r}: choose from {', '.join(LOSSES)}"
        raise UsageError(msg)
    return LOSSES[loss](forecasts["y"].to_numpy(dtype=float), forecasts[column].to_numpy(dtype=float))


def losses(forecasts: pd.DataFrame, loss: str = "absolute") -> tuple[Floats, Floats]:
    """Losses of one model and of persistence on the same rows, without NaN."""
    ours, theirs = loss_of(forecasts, loss), loss_of(forecasts, loss, "base")
    whole = ~(np.isnan(ours) | np.isnan(theirs))
    return ours[whole], theirs[whole]


def loss_table(forecasts: pd.DataFrame, loss: str = "absolute") -> pd.DataFrame:
    """Losses of all models on the rows that all of them forecast.

    Returns
    -------
    DataFrame
        Index ``open_time`` ascending, one column per model by name, persistence first; no NaN.

    Raises
    ------
    UsageError
        If a model forecasts one candle twice, or there is no loss of that name.
    """
    # As text: an unused category would count as a model without forecasts, and empty the table.
    keys = pd.MultiIndex.from_arrays([forecasts["open_time"], forecasts["model"].astype(str)])
    if keys.has_duplicates:
        time, model = keys[keys.duplicated()][0]
        msg = f"one forecast per candle and model is needed, found two by {model} for {time}: drop one"
        raise UsageError(msg)
    table = pd.Series(loss_of(forecasts, loss), keys).unstack("model").dropna().sort_index()  # noqa: PD010
    table.columns.name = None
    return table[sorted(table, key=lambda name: (name != PERSISTENCE, name))]


_PRICE_FAMILIES = ("point", "direction", "probability", "interval")


def evaluate(forecasts: pd.DataFrame, metrics: Iterable[str] | None = None, by: str | None = None) -> pd.DataFrame:
    """Score every model by every metric, on the rows that all models forecast.

    Parameters
    ----------
    forecasts
        Long forecast frame of one target with the columns of `FORECAST_COLUMNS` and the model
        `PERSISTENCE`.
    metrics
        Names of metrics, in the order wanted; by default all that suit prices (frames of log
        ranges want ``metric_names("range")``).
    by
        ``year``, ``month``, ``hour``, ``third``, ``age`` or None for the whole span.

    Returns
    -------
    DataFrame
        Columns ``model``, with `by` its label, ``rows``, then one a metric. Persistence comes
        first, the others by the first metric's column in the order better to worse; NaN where a
        model has nothing to score.

    Raises
    ------
    UsageError
        If a column, persistence or a common row is missing, or a name is unknown.

    Notes
    -----
    A model that could not forecast a candle removes that candle for all models: none is scored on easier rows.
    Volatility thirds are cut on the whole span.

    Examples
    --------
    >>> from btcml.forecast.metrics import forecast_frame
    >>> frame = forecast_frame([100, 101, 99, 100], {"oracle": {"y_hat": [101, 99, 100]}})
    >>> evaluate(frame, ["skill", "mae_usd"])[["model", "skill"]].to_dict("list")
    {'model': ['persistence', 'oracle'], 'skill': [0.0, 1.0]}
    """
    chosen = metrics_named(metric_names(*_PRICE_FAMILIES) if metrics is None else metrics)
    frames = _common_frames(forecasts)
    labels = _labels(next(iter(frames.values())), by)
    rows = [
        {"model": model, **({by: label} if by else {}), **_scores(part, chosen)}
        for model, frame in frames.items()
        for label, part in frame.groupby(labels, observed=True, sort=True)
    ]
    return _ordered(pd.DataFrame(rows), chosen)


def _scores(part: pd.DataFrame, chosen: list[Metric]) -> dict[str, float]:
    return {"rows": len(part), **{entry.name: entry(part) for entry in chosen}}


def _common_frames(forecasts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    missing = [name for name in FORECAST_COLUMNS if name not in forecasts and name != "horizon"]
    if missing:
        msg = f"a forecast frame needs the columns {', '.join(FORECAST_COLUMNS)}, missing: {', '.join(missing)}"
        raise UsageError(msg)
    scorable = forecasts[forecasts[["y", "y_hat", "base"]].notna().all(axis=1)]
    models = [str(name) for name in scorable["model"].unique()]
    if PERSISTENCE not in models:
        msg = f"the model {PERSISTENCE} must be among the forecasts, found {', '.join(models) or 'none'}"
        raise UsageError(msg)
    forecast_by = scorable.groupby("open_time")["model"].transform("nunique")
    common = scorable[forecast_by == len(models)].sort_values("open_time", kind="stable")
    if common.empty:
        msg = f"no candle is forecast by all of {', '.join(models)}: score them on one span"
        raise UsageError(msg)
    names = [PERSISTENCE, *(name for name in models if name != PERSISTENCE)]
    return {name: common[common["model"] == name].reset_index(drop=True) for name in names}


def _labels(frame: pd.DataFrame, by: str | None) -> pd.Series:
    if by is None:
        return pd.Series("all", frame.index)
    if by not in GROUPS:
        msg = f"by must be one of {', '.join(GROUPS)}, found {by!r}"
        raise UsageError(msg)
    return GROUPS[by](frame)


def _ordered(table: pd.DataFrame, chosen: list[Metric]) -> pd.DataFrame:
    first = chosen[0]
    mean = table.groupby("model")[first.name].mean() * (-1 if first.better == "more" else 1)
    mean[PERSISTENCE] = float("-inf")
    rank = table["model"].map(mean.rank(method="first"))
    return table.assign(rank=rank).sort_values("rank", kind="stable", ignore_index=True).drop(columns="rank")
