"""Longer horizons of a report: the same test again, with one model that is fitted on fewer rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import interval_delta
from btcml.forecast.distribution import COVERAGES, LEAST, distribution_scores
from btcml.forecast.metrics import losses
from btcml.forecast.statistics import skill_interval
from btcml.forecast.walk import distribution_of

if TYPE_CHECKING:
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


def look_ahead(
    experiment: Experiment,
    candles: pd.DataFrame,
    trials: pd.DataFrame,
    research: pd.DataFrame,
    horizons: tuple[int, ...] = HORIZONS,
) -> Result | None:
    """Result at the horizons beyond the next candle that the candles suffice for; None: for none.

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
    fit = tuple(h for h in sorted(set(horizons)) if 1 < h <= longest)
    if not fit:
        return None
    stride = STRIDE if len(candles) > _FEW_ROWS else 1
    purge = max(experiment.purge, fit[-1])
    longer = experiment.replace(horizons=fit, models=(MODEL,), stride=stride, purge=purge)
    return longer.run(candles, looks=longer.looks(candles, trials, research))


def skill_by_horizon(result: Result, ahead: Result | None) -> pd.DataFrame:
    """Skill of the leader at each horizon, its forecasts used at once and one candle late.

    Returns
    -------
    DataFrame
        ``horizon, model, beats, p, skill, low, high, late, late_low, late_high``.
    """
    rows = []
    for one in [result, *(ahead.family if ahead else [])]:
        own = one.verdict.table.set_index("model").reindex([one.leader]).iloc[0]
        row = {"horizon": one.horizon, "model": one.leader, "beats": bool(own["beats"]), "p": own["p_holm"]}
        late = one.of_leader.assign(y_hat=_late(one.of_leader))
        for names, frame in ((("skill", "low", "high"), one.of_leader), (("late", "late_low", "late_high"), late)):
            ours, theirs = losses(frame)
            row |= dict(zip(names, (1 - ours.mean() / theirs.mean(), *skill_interval(ours, theirs)), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _late(forecasts: pd.DataFrame) -> pd.Series:
    """Forecasts of the move of the candle before, from the last price of each."""
    return forecasts["base"] * (forecasts["y_hat"] / forecasts["base"]).shift(1).fillna(1.0)


def fan(ahead: Result) -> pd.DataFrame:
    """The newest distributions whose outcomes are all known, and what came.

    Returns
    -------
    DataFrame
        ``horizon, made`` (close of the last candle known), ``open_time``, ``base, y, median, low_50, high_50, low_90,
        high_90``; empty where earlier errors are too few.
    """
    longest, rows = ahead.family[-1].of_leader, []
    step = interval_delta(ahead.experiment.interval)
    last = longest["open_time"].iloc[-1] - (ahead.family[-1].horizon - 1) * step  # of the first candle forecast
    for one in ahead.family:
        raw = one.raw
        wanted = last + (one.horizon - 1) * step
        if raw is None or raw.volatility is None:
            continue
        place = np.flatnonzero(raw.close.data.target_time[raw.close.rows] == wanted.value // 1000)
        if not len(place) or int((raw.close.day < raw.close.made[place[0]]).sum()) < 2 * LEAST:
            continue
        made = distribution_of(raw, raw.volatility, one.experiment.models[0], int(place[0]))
        row = {"horizon": one.horizon, "made": last, "open_time": wanted, "base": made.base}
        row |= {"y": float(raw.close.data.level[raw.close.rows[place[0]]]), "median": made.quantile(0.5)}
        for level in BANDS:
            row |= dict(zip((f"low_{100 * level:.0f}", f"high_{100 * level:.0f}"), made.interval(level), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def calibration_by_horizon(ahead: Result) -> pd.DataFrame:
    """How often outcomes lie below the quantiles that were forecast, and in the central bands.

    Returns
    -------
    DataFrame
        ``horizon, what`` (``pit`` or ``band``), ``level`` (upper end of the bin, or what the band should hold) and
        ``share`` (of the outcomes in the bin, times the number of bins; or in the band), ``p`` of a uniform PIT.
    """
    parts = []
    for one in ahead.family:
        own = distribution_scores(one.of_leader, one.horizon) if "pit" in one.forecasts else {}
        if not own:
            continue
        pit = one.of_leader["pit"].dropna().to_numpy()
        shares = np.histogram(pit, _BINS, (0, 1))[0] / len(pit) * _BINS
        bins = {"what": "pit", "level": np.arange(1, _BINS + 1) / _BINS, "share": shares}
        bands = {"what": "band", "level": COVERAGES, "share": [own[f"coverage_{100 * c:.0f}"] for c in COVERAGES]}
        parts += [pd.DataFrame(part).assign(horizon=one.horizon, p=own["pit_p"]) for part in (bins, bands)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
