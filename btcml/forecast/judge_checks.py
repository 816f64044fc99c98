"""Checks of forecasts from outside: rules, findings, and signs that the outcome was known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from btcml.forecast.metrics import moves
from btcml.forecast.statistics import diebold_mariano

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from btcml.forecast.features import Prepared


MOST_SKILL, MOST_CORRELATION, MOST_AFTER, CLOSE_SHARE, WIDEST = 0.10, 0.3, 0.15, 0.5, 1000.0
"""Bounds: skill, correlation until and after the target, error and width of an interval in median moves."""

CHECKS: dict[str, str] = {
    "cutoff": "The last candle used is the candle that is forecast, or a later one: such forecasts are not scored.",
    "no candle": "A candle is missing between cutoff and target, or has not come yet: such forecasts are not scored.",
    "duplicates": "A model has the same forecast of one candle more than once: it counts once.",
    "repainted": "A model has different forecasts of one candle from one cutoff: the one with the largest error is "
    "scored. Or two files are equal in most forecasts and differ in others, as two versions of one file do.",
    "missing rows": "Candles between the first and the last forecast that the model does not forecast: they are scored "
    "as no change.",
    "selective rows": "Were the missing forecasts as large as the others and all wrong, the model would not be better "
    "than no change.",
    "look-ahead": f"The skill is above {MOST_SKILL:.0%}, or the correlation of the forecast move with the return until "
    f"the target, or until a candle between cutoff and target, is above {MOST_CORRELATION} (both beyond chance).",
    "centred window": f"The correlation of the forecast move with the return after the target is above "
    f"{MOST_AFTER} (beyond chance).",
    "later close": f"The median error is below {CLOSE_SHARE} of the median move: they are the later close and noise.",
    "infinite interval": f"An interval has no finite positive ends, or is wider than {WIDEST:,.0f} median moves: it is "
    "not scored.",
    "outside knowledge": "A forecaster has other forecasts when it runs again on the same candles at another time and "
    "price: it depends on the clock or on a file, or draws random numbers without a seed.",
    "failed": "A forecaster that fails, or exceeds its limits, has no forecasts.",
    "crossed interval": "An interval ends before it begins, or quantiles are not ascending: such intervals are not "
    "scored, such quantiles are sorted.",
}
"""Rule of each check."""

_MOST_ROWS, _LEAST_ROWS, _ERRORS, _LEVEL = 50_000, 20, 5.0, 0.01
_STEPS = tuple(2**n for n in range(10))
_AFTER = 64


class Finding(NamedTuple):
    """Result of a check.

    Attributes
    ----------
    check
        A name in `CHECKS`.
    model, horizon
        Whose forecasts, how many candles ahead; 0 is all.
    rows
        Number of these forecasts.
    suspected
        Whether it may have raised the skill unfairly.
    sentence
        What was found.
    """

    check: str
    model: str
    horizon: int
    rows: int
    suspected: bool
    sentence: str


def count_findings(rows: pd.DataFrame, check: str, words: str, *, suspected: bool = False) -> list[Finding]:
    """One finding for each ``model`` and ``horizon`` of some rows; `words` says what they do."""
    sizes: dict[Any, int] = rows.groupby(["model", "horizon"]).size().to_dict()
    found = []
    for (model, horizon), count in sizes.items():
        of = f"{model} {horizon} candles ahead" if horizon > 1 else model
        sentence = f"{count:,} forecast{'s' * (count > 1)} of {of} {words}."
        found.append(Finding(check, str(model), int(horizon), count, suspected, sentence))
    return found


def find_known_outcomes(model: str, rows: pd.DataFrame, prepared: Prepared, horizon: int, step: int) -> list[Finding]:
    """Findings of ``look-ahead``, ``centred window`` and ``later close``.

    Parameters
    ----------
    model
        Whose forecasts.
    rows
        Its forecasts at one horizon: ``y_hat, y, base`` and ``made``, the position of the cutoff among the candles.
    prepared
        The candles.
    horizon, step
        Candles from cutoff to target, and from one target to the next.
    """
    moving = rows[rows["y_hat"] != rows["base"]]
    if len(moving) < _LEAST_ROWS:
        return []
    (outcome, forecast), made = moves(moving), moving["made"].to_numpy()
    error, move = np.abs(outcome - forecast), np.abs(outcome)
    reasons: dict[str, list[str]] = {"look-ahead": [], "centred window": [], "later close": []}
    skill = 1 - error.sum() / move.sum() if move.sum() > 0 else 0.0
    if skill > MOST_SKILL and diebold_mariano(error, move, horizon=horizon).p_better < _LEVEL:
        reasons["look-ahead"].append(f"the skill is {skill:.1%} on its own forecasts")
    for check, bound, begin, ends in (
        ("look-ahead", MOST_CORRELATION, 0, [*(n for n in _STEPS if n < horizon), horizon]),
        ("centred window", MOST_AFTER, horizon, [horizon + n for n in _STEPS if n <= _AFTER]),
    ):
        most, end = max((_correlation(prepared, made, forecast, (begin, end), step), end) for end in ends)
        if most > bound:
            where = f"from {begin} to {end} candles after the cutoff"
            reasons[check].append(f"the forecast move correlates {most:.2f} with the return {where}")
    if np.median(error) < CLOSE_SHARE * np.median(move):
        share = np.median(error) / np.median(move)
        reasons["later close"].append(f"the median error is {share:.2f} of the median move")
    return [
        Finding(check, model, horizon, len(moving), suspected=True, sentence=f"{model}: {', and '.join(found)}.")
        for check, found in reasons.items()
        if found
    ]


def _correlation(
    prepared: Prepared, made: NDArray[np.int64], forecast: NDArray[np.float64], span: tuple[int, int], step: int
) -> float:
    """Rank correlation of forecast moves with returns between two candles after the cutoff; 0 unless significant."""
    begin, end = span
    kept = np.flatnonzero(made + end < len(prepared.ticks))[:: max(1, len(made) // _MOST_ROWS)]
    kept = kept[prepared.age[made[kept] + end] >= end]
    rows, moved = made[kept], forecast[kept]
    returns = prepared.log_close[rows + end] - prepared.log_close[rows + begin]
    apart = len(kept) * min(1.0, step / (end - begin))  # number of returns that do not overlap
    if apart < _LEAST_ROWS or not np.ptp(returns) > 0 or not np.ptp(moved) > 0:
        return 0.0
    found = float(np.corrcoef(rankdata(moved), rankdata(returns))[0, 1])
    return found if found * math.sqrt(apart) > _ERRORS else 0.0
