"""Longer horizons of a report: the same test again, with one model that is fitted on fewer rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import interval_delta
from btcml.forecast.dataset import ticks
from btcml.forecast.distribution import COVERAGES, LEAST, distribution_scores
from btcml.forecast.metrics import losses
from btcml.forecast.models import RANGE
from btcml.forecast.statistics import skill_interval
from btcml.forecast.walk import distribution_of

if TYPE_CHECKING:
    from typing import Any

    from btcml.forecast.experiment import Experiment, Result


HORIZONS = (1, 3, 12, 48)
"""Candles ahead."""

MODEL = "lightgbm_mean"
STRIDE = 12
FEWEST = 100
"""Outcomes that do not overlap, without which the span is too short for a horizon."""

_FEW_ROWS = 100_000
BANDS = (0.5, 0.9)
_BINS = 10


def run_longer(
    experiment: Experiment,
    candles: pd.DataFrame,
    trials: pd.DataFrame,
    research: pd.DataFrame,
    horizons: tuple[int, ...] = HORIZONS,
) -> Result | None:
    """Run an experiment at the horizons beyond the next candle that its test suffices for; None: for none.

    Parameters
    ----------
    experiment
        That of the next candle: test, features and folds are its own.
    candles
        Candle frame.
    trials, research
        Earlier tries, as `Experiment.looks` takes them.
    horizons
        Candles ahead that are wanted.
    """
    start, end = experiment.test_span(candles)
    longest = (end - start) // interval_delta(experiment.interval) // FEWEST
    fit = tuple(horizon for horizon in sorted(set(horizons)) if 1 < horizon <= longest)
    if not fit:
        return None
    stride = STRIDE if len(candles) > _FEW_ROWS else 1
    purge = max(experiment.purge, fit[-1])
    longer = experiment.replace(horizons=fit, models=(MODEL,), stride=stride, purge=purge)
    looks = longer.looks(candles, trials, research)
    return longer.run(candles, looks=looks, range_models=(RANGE,), backend="threading")


def skill_by_horizon(result: Result, longer: Result | None) -> pd.DataFrame:
    """Skill of the leader at each horizon, its forecasts used at once and one candle late.

    Returns
    -------
    DataFrame
        ``horizon, model, beats, p, skill, low, high, late, late_low, late_high``.
    """
    return pd.DataFrame([_horizon_row(one) for one in [result, *(longer.family if longer else [])]])


def _horizon_row(result: Result) -> dict[str, Any]:
    own = result.verdict.table.set_index("model").loc[result.leader]
    used = {"": result.of_leader, "late": result.of_leader.assign(y_hat=_one_candle_late(result.of_leader))}
    row = {"horizon": result.horizon, "model": result.leader, "beats": bool(own["beats"]), "p": own["p_holm"]}
    for late, frame in used.items():
        ours, theirs = losses(frame)
        low, high = skill_interval(ours, theirs)
        names = ("late", "late_low", "late_high") if late else ("skill", "low", "high")
        row |= dict(zip(names, (1 - ours.mean() / theirs.mean(), low, high), strict=True))
    return row


def _one_candle_late(forecasts: pd.DataFrame) -> pd.Series:
    """Forecast moves of the candle before, from the last price of each."""
    return forecasts["base"] * (forecasts["y_hat"] / forecasts["base"]).shift(1).fillna(1.0)


def fan(longer: Result) -> pd.DataFrame:
    """The newest distributions whose outcomes are all known, and what came.

    Returns
    -------
    DataFrame
        ``horizon, made`` (open time of the first candle forecast), ``open_time``, ``base, y, median, low_50, high_50,
        low_90, high_90``; empty where earlier errors are too few.
    """
    last, step = longer.family[-1], interval_delta(longer.experiment.interval)
    made = last.of_leader["open_time"].iloc[-1] - (last.horizon - 1) * step
    rows = [_fan_row(one, made, made + (one.horizon - 1) * step) for one in longer.family]
    return pd.DataFrame([row for row in rows if row])


def _fan_row(result: Result, made: pd.Timestamp, wanted: pd.Timestamp) -> dict[str, Any]:
    """Bands of the close of one candle; empty where it or its distribution is not known."""
    raw = result.raw
    if raw is None or raw.volatility is None:
        return {}
    close = raw.close
    found = np.flatnonzero(close.data.target_time[close.rows] == ticks(wanted))
    if not len(found) or int((close.day < close.made[found[0]]).sum()) < 2 * LEAST:
        return {}
    place = int(found[0])
    spread = distribution_of(raw, raw.volatility, result.experiment.models[0], place)
    row = {"horizon": result.horizon, "made": made, "open_time": wanted, "base": spread.base}
    row |= {"y": float(close.data.level[close.rows[place]]), "median": spread.quantile(0.5)}
    for level in BANDS:
        names = f"low_{100 * level:.0f}", f"high_{100 * level:.0f}"
        row |= dict(zip(names, spread.interval(level), strict=True))
    return row


def calibration_by_horizon(longer: Result) -> pd.DataFrame:
    """How often outcomes lie below the quantiles that were forecast, and in the central bands.

    Returns
    -------
    DataFrame
        ``horizon, what`` (``pit`` or ``band``), ``level`` (upper end of the bin, or what the band should hold),
        ``share`` (of the outcomes in the bin, times the number of bins; or in the band) and ``p`` of a uniform PIT.
    """
    parts = [part for one in longer.family for part in _calibration(one)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _calibration(result: Result) -> list[pd.DataFrame]:
    scores = distribution_scores(result.of_leader, result.horizon) if "pit" in result.forecasts else {}
    if not scores:
        return []
    pit = result.of_leader["pit"].dropna().to_numpy()
    shares = np.histogram(pit, _BINS, (0, 1))[0] / len(pit) * _BINS
    bins = {"what": "pit", "level": np.arange(1, _BINS + 1) / _BINS, "share": shares}
    bands = {"what": "band", "level": COVERAGES, "share": [scores[f"coverage_{100 * c:.0f}"] for c in COVERAGES]}
    return [pd.DataFrame(part).assign(horizon=result.horizon, p=scores["pit_p"]) for part in (bins, bands)]
