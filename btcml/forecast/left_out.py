"""A coin without a past: models fitted on other coins alone, proven on coins left out.

Moves are scaled by each coin's own volatility, so a model of other coins can forecast a coin from its first days, when
it has no verdict of its own. Whether that helps is tested on coins with a past: each is left out in turn, forecast by
models that never saw it, and judged against persistence by the rule of `btcml.forecast.verdict`, on one span for all,
with Holm over the coins. It is proven where every one of them, and at least two, pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pandas as pd

from btcml.candles import interval_delta
from btcml.errors import UsageError
from btcml.forecast.experiment import OTHERS_MODEL, Experiment
from btcml.forecast.forecaster import MIN_CANDLES, Learned, learn, mean_learned
from btcml.forecast.metrics import PERSISTENCE
from btcml.forecast.models import RANGE
from btcml.forecast.verdict import ALPHA, RECENT_MONTHS, plain, verdict
from btcml.rounding import decimals_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.forecast.walk import RawForecasts

LEAST_COINS = 2
"""Minimum number of coins with a past."""

_DAY = pd.Timedelta(days=1)
_LONGEST = 365
_TINY = 0.001


@dataclass(frozen=True)
class LeftOut:
    """Outcome of `leave_one_out`.

    Attributes
    ----------
    model
        Name of the model.
    table
        One row per coin: ``coin, rows, ratio`` (MAE over persistence's), ``z, p`` (Diebold-Mariano, one-sided),
        ``p_holm`` (after Holm over the coins, times the looks), ``recent_ratio`` (last six months), ``looks, proven``.
    start
        What was learned beside the models on the coins left out: with it a coin without outcomes begins.
    """

    model: str
    table: pd.DataFrame = field(compare=False, repr=False)
    start: Learned = field(compare=False, repr=False)

    @property
    def proven(self) -> bool:
        """Whether every coin that was left out passed."""
        return len(self.table) >= LEAST_COINS and bool(self.table["proven"].all())

    @property
    def reason(self) -> str:
        """One sentence that says why it is proven or not."""
        failed = self.table[~self.table["proven"]]
        if len(failed):
            said = ", and ".join(_figures(row) for row in failed.to_dict("records"))
            return f"{self.model} is not proven on coins left out: without its own candles {said}."
        coins = ", ".join(self.table["coin"])
        low, high, p = self.table["ratio"].min(), self.table["ratio"].max(), self.table["p_holm"].max()
        return (
            f"{self.model} is proven on coins left out: {coins}, each without its own candles, have {_ratio(low)} to "
            f"{_ratio(high)} of the error of no change (largest {_p(p)} after Holm over {len(self.table)} coins)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; unknown ones are None."""
        rows: list[dict[str, Any]] = plain(self.table.to_dict("records"))
        return {"model": self.model, "proven": self.proven, "reason": self.reason, "table": rows}

    def __str__(self) -> str:
        """Table for a terminal."""
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.5g}")
        return f"coins left out\n{table}\n{self.reason}"


def leave_one_out(
    experiment: Experiment,
    frames: Mapping[str, pd.DataFrame],
    *,
    looks: Mapping[str, int] | None = None,
    incumbent: bool = False,
    jobs: int = 2,
    backend: str = "loky",
) -> LeftOut:
    """Judge a model of other coins on each of several coins, which it never saw.

    Parameters
    ----------
    experiment
        Gives test, window and the model: one whose name begins with ``others_`` (`left_out_experiment`).
    frames
        Candle frames by coin, two or more.
    looks
        Looks at each coin's candles, this one included; 1 where left out.
    incumbent
        Whether the model serves a coin already: then it stays as long as it passes at a single look.
    jobs, backend
        As `Experiment.run` takes them.

    Raises
    ------
    UsageError
        If there are fewer than two coins.
    """
    if len(frames) < LEAST_COINS:
        msg = f"coins are left out of at least {LEAST_COINS}, found {len(frames)}: name other symbols as pool"
        raise UsageError(msg)
    model, rows = experiment.models[0], []
    tested = {coin: _test(experiment, frames, coin, jobs, backend) for coin in frames}
    for coin, one in tested.items():
        rest, seen = [other.p for name, other in tested.items() if name != coin], (looks or {}).get(coin, 1)
        current = model if incumbent else PERSISTENCE
        found = verdict(one.forecasts, looks=seen, incumbent=current, others=rest, served=(model,))
        figures = found.table.set_index("model").reindex([model]).iloc[0].to_dict()
        facts = {"coin": coin, "rows": found.rows} | {name: figures[name] for name in _SHOWN}
        rows.append(facts | {"looks": seen, "proven": found.champion == model})
    return LeftOut(model, pd.DataFrame(rows), mean_learned([one.learned for one in tested.values()]))


class _Tested(NamedTuple):
    """What is kept of the run on a coin; its raw forecasts are large."""

    forecasts: pd.DataFrame
    p: pd.Series
    learned: Learned


def _test(experiment: Experiment, frames: Mapping[str, pd.DataFrame], coin: str, jobs: int, backend: str) -> _Tested:
    """Forecast a coin by models of the others."""
    others = {name: frame for name, frame in frames.items() if name != coin}
    plan = experiment.replace(pool=tuple(others))
    result = plan.run(frames[coin], others=others, range_models=(RANGE,), jobs=jobs, backend=backend)
    raw = cast("RawForecasts", result.raw)  # a run keeps them
    return _Tested(result.forecasts, result.challenger_p, learn(raw, (), experiment.level))


_SHOWN = ("ratio", "z", "p", "p_holm", "recent_ratio")


def left_out_experiment(frames: Mapping[str, pd.DataFrame], interval: str, model: str = OTHERS_MODEL) -> Experiment:
    """Return the published experiment for coins left out: the newest third of the shortest past, at most 365 days."""
    plans = [Experiment.default(frame, interval) for frame in frames.values()]
    latest = max(plans, key=lambda plan: plan.plan.first_test)
    return latest.replace(models=(model,), burn_in=None, pool=tuple(frames))


def cold_start_experiment(
    candles: pd.DataFrame, interval: str, pool: tuple[str, ...], model: str = OTHERS_MODEL
) -> Experiment:
    """Return the experiment of a young coin: all its candles, at most 365 days, forecast by models of the pool."""
    start = max(candles["open_time"].iloc[0], candles["open_time"].iloc[-1] - _LONGEST * _DAY)
    purge = max(1, math.ceil(_DAY / interval_delta(interval)))
    return Experiment(interval, start.isoformat(), models=(model,), purge=purge, burn_in=None, pool=pool)


def is_cold_start(candles: pd.DataFrame) -> bool:
    """Whether a coin has too few candles for a verdict of its own: the newest third has not the six months of the rule.

    Examples
    --------
    >>> candles = pd.DataFrame({"open_time": pd.date_range("2024-01-01", "2025-06-30", freq="h", tz="UTC")})
    >>> is_cold_start(candles), is_cold_start(candles.iloc[-2000:])
    (False, True)
    """
    if len(candles) < MIN_CANDLES:
        return True
    first, last = candles["open_time"].iloc[0], candles["open_time"].iloc[-1]
    return bool((last - first) / 3 < last - (last - pd.DateOffset(months=RECENT_MONTHS)))


def _figures(row: Mapping[Any, Any]) -> str:
    recent = f"{_ratio(row['recent_ratio'])} in the last {RECENT_MONTHS} months"
    return f"{row['coin']} has {_ratio(row['ratio'])} of the error of no change ({_p(row['p_holm'])}; {recent})"


def _ratio(value: float) -> str:
    return f"{value:.{decimals_apart(value, 1.0, 4)}f}"


def _p(value: float) -> str:
    return "p < 0.001" if value < _TINY else f"p {value:.{decimals_apart(value, ALPHA, 3)}f}"
