"""Candles as arrays to fit and forecast on: one function for back-test, training and serving."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import LONGEST_HORIZON
from btcml.errors import UsageError
from btcml.forecast.features import Prepared, features_of
from btcml.forecast.features.windows import lag, rolling_max
from btcml.forecast.models import OTHERS, POOLED, Sample, pool_of
from btcml.forecast.targets import TARGETS, horizon_scale

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


EPOCH = pd.Timestamp(0, tz="UTC")

MOVES = ("close", "open")
"""Targets whose forecasts are multiplied by a factor: moves around 0."""

SUSPECT_REACH = 12
"""A suspect candle excludes the rows that depend on it most: itself and the next SUSPECT_REACH - 1."""


@dataclass(frozen=True)
class Dataset:
    """Everything about n candle rows that forecasting one target needs.

    Parameters
    ----------
    sample
        All rows, ready or not; features of rows that are not ready are 0.
    target_time
        Open time of the candle `horizon` after each row, shape (n,), in microseconds of UTC.
    ready
        Rows whose features and scale are known: they can be forecast.
    known
        Rows whose outcome is known, the candles up to the horizon being there.
    spoiled
        Rows whose features depend on a suspect candle.
    level
        Outcome in the target's own unit; NaN where not known.
    persistence
        Persistence's forecast of the level.
    prepared
        Shared quantities of the candles.
    target
        Name of the target.
    horizon
        Candles from the row that forecasts to the candle that is forecast.
    stride
        Models are fitted on every stride-th row; for moves it is at most the horizon.
    others
        Datasets of other symbols, on whose rows pooled models are fitted.
    left_out
        Whether all models are fitted on the rows of others alone, those of direction and range among them.
    """

    sample: Sample
    target_time: NDArray[np.int64]
    ready: NDArray[np.bool_]
    known: NDArray[np.bool_]
    spoiled: NDArray[np.bool_]
    level: Array
    persistence: Array
    prepared: Prepared
    target: str
    horizon: int = 1
    stride: int = 1
    others: tuple[Dataset, ...] = ()
    left_out: bool = False

    @property
    def scale(self) -> Array:
        """Scale of a move over the horizon, shape (n,)."""
        return horizon_scale(self.prepared, self.horizon)

    @property
    def length(self) -> pd.Timedelta:
        """Length of a candle."""
        return pd.Timedelta(microseconds=self.prepared.step_us)

    @property
    def history(self) -> pd.Series:
        """First and last open time of what models are fitted on; where left out, the first is that of the others."""
        first = min(int(one.prepared.ticks[0]) for one in (self, *(self.others if self.left_out else ())))
        return pd.Series(pd.to_datetime([first, int(self.prepared.ticks[-1])], unit="us", utc=True).as_unit("us"))

    @property
    def suspect(self) -> NDArray[np.bool_]:
        """Rows not to fit on: they, or a candle up to their horizon, depend on a suspect candle."""
        later = np.append(self.spoiled, np.zeros(self.horizon)).astype("float64")
        return rolling_max(later, self.horizon + 1)[self.horizon :] > 0

    @property
    def made_time(self) -> NDArray[np.int64]:
        """When each row's forecast is made, the close of its candle, shape (n,), in microseconds of UTC."""
        return self.prepared.ticks + self.prepared.step_us

    def level_of(self, rows: NDArray[np.int64], scaled: Array) -> Array:
        """Forecast levels of scaled forecasts made at `rows`."""
        whole = np.full(len(self.ready), np.nan)
        whole[rows] = scaled
        return TARGETS[self.target].level(self.prepared, whole, self.horizon)[rows]

    def with_target(self, target: str, horizon: int | None = None) -> Dataset:
        """Return the same rows and features with another outcome, at another horizon if one is given."""
        h, prepared = horizon or self.horizon, self.prepared
        y = TARGETS[target].scaled(prepared, h)
        known = np.isfinite(y)
        return replace(
            self,
            sample=replace(self.sample, y=np.where(known, y, 0.0), horizon=h),
            target_time=prepared.ticks + h * prepared.step_us,
            known=known,
            level=TARGETS[target].level(prepared, y, h),
            persistence=TARGETS[target].persistence(prepared, h),
            target=target,
            horizon=h,
            others=tuple(one.with_target(target, h) for one in self.others),
        )

    def with_features(self, features: str | Iterable[str]) -> Dataset:
        """Return the same rows and outcome with other features."""
        if tuple(item.name for item in features_of(features)) == self.sample.names:
            return self
        x, ready = _matrix(self.prepared, features)
        names = tuple(item.name for item in features_of(features))
        others = tuple(one.with_features(features) for one in self.others)
        return replace(self, sample=replace(self.sample, x=x, names=names), ready=ready, others=others)

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> NDArray[np.bool_]:
        """Rows whose target candle opens in [start, end]."""
        return (self.target_time >= ticks(start)) & (self.target_time <= ticks(end))

    def training_rows(self, start: pd.Timestamp, cutoff: pd.Timestamp) -> NDArray[np.int64]:
        """Positions of rows to fit on, their target candles in [start, cutoff]: every stride-th, counted from the last.

        For moves the stride is at most the horizon; sizes are easier to forecast, and need fewer rows.
        """
        rows = np.flatnonzero(self.ready & self.known & ~self.suspect & self.between(start, cutoff))
        step = min(self.stride, self.horizon) if self.target in MOVES else self.stride
        return rows[::-step][::-1]

    def binned_rows(self, start: pd.Timestamp, cutoff: pd.Timestamp) -> NDArray[np.int64]:
        """Positions of rows from which one may fit on outcomes in [start, cutoff], at any horizon."""
        first = ticks(start) - LONGEST_HORIZON * self.prepared.step_us
        return np.flatnonzero(self.ready & (self.prepared.ticks >= first) & (self.prepared.ticks <= ticks(cutoff)))

    def training_parts(
        self, model: str, start: pd.Timestamp, cutoff: pd.Timestamp
    ) -> list[tuple[Sample, NDArray[np.int64]]]:
        """Samples, each with the positions of its rows that a model of this name is fitted on."""
        pool = OTHERS if self.left_out else pool_of(model)
        parts = {"": (self,), POOLED: (self, *self.others), OTHERS: self.others}[pool]
        return [(one.sample, one.training_rows(start, cutoff)) for one in parts]


def ticks(time: pd.Timestamp) -> int:
    """Microseconds of UTC since the epoch."""
    return int((time - EPOCH) // pd.Timedelta(microseconds=1))


def scaled_path(prepared: Prepared) -> Array:
    """Scaled log returns r_t / s_(t-1), 0 where unknown."""
    return np.nan_to_num(prepared.log_return / lag(prepared.scale, 1), nan=0.0)


def _matrix(prepared: Prepared, features: str | Iterable[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features as float32 with unknown optional ones at 0, and the rows where all others are known."""
    items = features_of(features)
    ready = np.isfinite(prepared.scale)
    x = np.empty((len(ready), len(items)), dtype="float32")
    for column, item in enumerate(items):
        values = item.values(prepared)
        if not item.optional:
            ready &= np.isfinite(values)
        x[:, column] = np.where(np.isnan(values), 0.0, values) if item.optional else values
    x[~ready] = 0.0
    return x, ready


def _spoiled_rows(suspects: NDArray[np.bool_] | None, n: int) -> NDArray[np.bool_]:
    if suspects is None:
        return np.zeros(n, dtype=bool)
    if len(suspects) != n:
        msg = f"suspects must be one boolean per candle ({n}), found {len(suspects)}: align them with the candles"
        raise UsageError(msg)
    padded = np.concatenate([np.zeros(SUSPECT_REACH - 1), np.asarray(suspects, dtype="float64")])
    return rolling_max(padded, SUSPECT_REACH)[SUSPECT_REACH - 1 :] > 0


def make_dataset(
    candles: pd.DataFrame,
    interval: str,
    features: str | Iterable[str] = "core",
    target: str = "close",
    suspects: NDArray[np.bool_] | None = None,
    horizon: int = 1,
) -> Dataset:
    """Features, outcomes and masks of a candle frame.

    Parameters
    ----------
    candles
        Candle frame of n rows.
    interval
        Its interval.
    features
        Set or names of features.
    target
        A name in `targets.TARGETS`.
    suspects
        One boolean per candle, True for rows not to fit on; they are forecast all the same.
    horizon
        Candles ahead.

    Raises
    ------
    UsageError
        If target or feature is unknown, or `suspects` has another length.
    """
    if target not in TARGETS:
        msg = f"a target is one of {', '.join(TARGETS)}, found {target!r}: name one of them"
        raise UsageError(msg)
    prepared = Prepared(candles, interval)
    x, ready = _matrix(prepared, features)
    names = tuple(item.name for item in features_of(features))
    nothing, never = np.zeros(len(x)), np.zeros(len(x), dtype=bool)
    return Dataset(
        Sample(x, names, scaled_path(prepared), np.arange(len(x)), nothing),
        prepared.ticks,
        ready,
        never,
        _spoiled_rows(suspects, len(x)),
        nothing,
        nothing,
        prepared,
        target,
    ).with_target(target, horizon)
