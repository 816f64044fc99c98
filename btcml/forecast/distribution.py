"""The predictive distribution of the close at a horizon: a scale forecast times quantiles learned from its past errors.

An error is the log return less the forecast, over the forecast scale. Each day the quantiles of the errors of the last
180 days are taken anew, by thirds of the scale: conformal prediction with a moving window, so no shape is assumed. The
forecast distribution is the forecast plus the scale times these quantiles. Outcomes overlap and come late where the
horizon is more than one candle: a day uses the outcomes of the days before it only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kstest

from btcml.errors import UsageError
from btcml.forecast.metrics import volatility_third
from btcml.forecast.metrics.interval import worst_share
from btcml.rounding import decimals_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]


LEVELS: Array = np.arange(1, 100) / 100
"""Levels of the quantiles, 1 % to 99 %."""

WINDOW_DAYS = 180
"""Days of past errors that the quantiles are taken from."""

LEAST = 200
"""Errors without which a third has no quantiles of its own, and half of what any quantiles need."""

COVERAGES = (0.5, 0.8, 0.9, 0.95)
"""Levels of the central intervals that are scored."""

_TAIL = np.log(5.0)  # log(5 % / 1 %): beyond 1 % and 99 % the tails fall off exponentially, as between 5 % and 1 %
_BP = 1e4
_MIDDLE = 0.5
_CHUNK = 8_192
_NOTHING_BP = 1e-6


class Learned(NamedTuple):
    """Quantiles of errors over a span of forecasts.

    Parameters
    ----------
    tables
        Quantiles at `LEVELS`, one row for each day and third, shape (k, 99).
    row
        Row of `tables` for each forecast, -1 where there is none yet, shape (n,).
    """

    tables: Array
    row: Rows


def learn(error: ArrayLike, scale: ArrayLike, day: Rows, made: Rows, *, thirds: bool = True) -> Learned:
    """Quantiles for each forecast, from the errors that are known on the day it is made.

    Parameters
    ----------
    error
        Outcome less forecast, over the scale; NaN where unknown, shape (n,).
    scale
        Scale forecasts, positive or NaN, shape (n,).
    day, made
        Day numbers of the candle that is forecast, and of the making of the forecast; ascending, shape (n,).
    thirds
        Whether large, middle and small scales have quantiles of their own.
    """
    errors, log_scale = np.asarray(error, dtype=float), np.log(np.asarray(scale, dtype=float))
    whole = np.isfinite(errors) & np.isfinite(log_scale)
    tables: list[Array] = []
    row = np.full(len(errors), -1)
    for today in np.unique(made):
        rows = slice(*np.searchsorted(made, [today, today + 1]))
        past = slice(*np.searchsorted(day, [today - WINDOW_DAYS, today]))
        known = whole[past]
        found, edges = _quantiles(errors[past][known], log_scale[past][known], thirds=thirds)
        if len(found):
            third = np.searchsorted(edges, log_scale[rows])
            row[rows] = np.where(np.isfinite(log_scale[rows]), len(tables) + third, -1)
            tables += list(found)
    return Learned(np.array(tables).reshape(-1, len(LEVELS)), row)


def learn_newest(error: ArrayLike, scale: ArrayLike, day: Rows) -> tuple[Array, Array]:
    """Quantiles for the day after the last, as `learn` would use them.

    Returns
    -------
    tuple
        Quantiles of the errors at `LEVELS`, one row for each third (or one for all, or none), shape (k, 99); and the
        edges of the log scale between the thirds, shape (k - 1,).
    """
    errors, log_scale = np.asarray(error, dtype=float), np.log(np.asarray(scale, dtype=float))
    known = np.isfinite(errors) & np.isfinite(log_scale) & (day > np.max(day, initial=0) - WINDOW_DAYS)
    found, edges = _quantiles(errors[known], log_scale[known], thirds=True)
    return np.array(found).reshape(-1, len(LEVELS)), edges


def _quantiles(errors: Array, log_scale: Array, *, thirds: bool) -> tuple[list[Array], Array]:
    """Quantiles of each third, and the edges between the thirds."""
    if len(errors) < 2 * LEAST:
        return [], np.empty(0)
    if not thirds or len(errors) < 3 * LEAST:
        return [_at_levels(errors)], np.empty(0)
    edges = np.quantile(log_scale, [1 / 3, 2 / 3])
    third = np.searchsorted(edges, log_scale)
    return [_at_levels(errors[third == group]) for group in range(3)], edges


def _at_levels(errors: Array) -> Array:
    """Quantiles at `LEVELS`, bit for bit those of `numpy.quantile`, which takes ten times as long."""
    if not len(errors):
        return np.full(len(LEVELS), np.nan)
    ordered, place = np.sort(errors), LEVELS * (len(errors) - 1)
    left = np.floor(place).astype(np.int64)
    share, low, high = place - left, ordered[left], ordered[np.minimum(left + 1, len(errors) - 1)]
    return np.where(share < _MIDDLE, low + (high - low) * share, high - (high - low) * (1 - share))


def crps(quantiles: Array, y: Array) -> Array:
    """Continuous ranked probability score of each row: twice the mean pinball loss over `LEVELS`.

    Parameters
    ----------
    quantiles
        Shape (n, 99).
    y
        Outcomes in the unit of the quantiles, shape (n,).
    """
    apart = y[:, None] - quantiles
    return np.asarray(2 * np.maximum(LEVELS * apart, (LEVELS - 1) * apart).mean(axis=1))


def probability_below(quantiles: Array, y: Array) -> Array:
    """Probability of an outcome below `y` in each row: linear between quantiles, exponential tails beyond them.

    Examples
    --------
    >>> probability_below(np.array([LEVELS]), np.array([0.305])).round(3)
    array([0.305])
    """
    above = (quantiles < y[:, None]).sum(axis=1)
    left = np.clip(above - 1, 0, len(LEVELS) - 2)
    rows = np.arange(len(y))
    low, high = quantiles[rows, left], quantiles[rows, left + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (y - low) / (high - low), 0.5)
        inside = LEVELS[left] + np.clip(share, 0, 1) * (LEVELS[left + 1] - LEVELS[left])
        under = _tail(quantiles[:, 0] - y, quantiles[:, 4] - quantiles[:, 0])
        over = 1 - _tail(y - quantiles[:, -1], quantiles[:, -1] - quantiles[:, -5])
    below = np.where(above == 0, under, np.where(above == len(LEVELS), over, inside))
    return np.where(np.isfinite(quantiles[:, 0]), below, np.nan)


def _tail(beyond: Array, width: Array) -> Array:
    """Probability of an outcome further out than this distance beyond the last quantile."""
    return np.asarray(LEVELS[0] * np.exp(-np.where(beyond > 0, beyond * _TAIL / width, 0.0)))


def quantile_at(quantiles: Array, level: float) -> Array:
    """Quantile of each row at any level between 0 and 1, the inverse of `probability_below`."""
    low, high = LEVELS[0], LEVELS[-1]
    if level < low:
        return quantiles[:, 0] - (quantiles[:, 4] - quantiles[:, 0]) / _TAIL * np.log(low / level)
    if level > high:
        return quantiles[:, -1] + (quantiles[:, -1] - quantiles[:, -5]) / _TAIL * np.log(low / (1 - level))
    left = min(int(np.searchsorted(LEVELS, level, side="right")) - 1, len(LEVELS) - 2)
    share = (level - LEVELS[left]) / (LEVELS[left + 1] - LEVELS[left])
    return np.asarray(quantiles[:, left] + share * (quantiles[:, left + 1] - quantiles[:, left]))


def stretch_quantiles(quantiles: Array, points: Mapping[float, float]) -> Array:
    """Quantiles stretched piece by piece so that they have given values at some levels: nearly, between `LEVELS`.

    Parameters
    ----------
    quantiles
        At `LEVELS`, ascending, shape (99,).
    points
        Values by level, two or more, both ascending.

    Returns
    -------
    ndarray
        Ascending, shape (99,); unknown (NaN) where the quantiles do not differ between two points.

    Examples
    --------
    >>> bent = stretch_quantiles(LEVELS - 0.5, {0.05: -2.0, 0.4: 0.0, 0.95: 2.0})
    >>> quantile_at(bent[None], 0.4).round(9), bent[[0, 4, 94]].round(3).tolist()
    (array([0.]), [-2.229, -2.0, 2.0])
    """
    values = np.array([*points.values()])
    known = np.concatenate([quantile_at(quantiles[None], level) for level in points])
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(np.diff(known) > 0, np.diff(values) / np.diff(known), np.nan)
    below, above = np.minimum(quantiles - known[0], 0), np.maximum(quantiles - known[-1], 0)
    bent = np.interp(quantiles, known, values) + slope[0] * below + slope[-1] * above
    return np.maximum.accumulate(bent + 0.0 * slope.sum())  # a rounded end of a piece may lie above the next one


def distribution_columns(
    outcome: Array, center: Array, scale: Array, reference: Array, day: Rows, made: Rows, level: float
) -> dict[str, Array]:
    """What a forecast frame keeps of the distributions of all rows.

    Parameters
    ----------
    outcome
        Log returns over the horizon, NaN where unknown, shape (n,).
    center, scale
        Forecasts of the log return and of its scale.
    reference
        Scale of the reference, which is centred on no change and knows no thirds.
    day, made
        As in `learn`.
    level
        Coverage of the interval.

    Returns
    -------
    dict
        ``lo, hi`` (log returns), ``prob_up, pit`` (probabilities) and ``crps_bp, crps_reference_bp``.
    """
    learned = learn((outcome - center) / scale, scale, day, made)
    columns = score_quantiles(_spreads(learned, center, scale), outcome, level)
    return columns | {"crps_reference_bp": reference_crps(outcome, reference, day, made)}


def in_parts(rows: int) -> Iterator[slice]:
    """Slices of so many rows that the quantiles of one part fit in memory."""
    return (slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK))


def score_quantiles(parts: Iterable[tuple[slice, Array]], outcome: Array, level: float) -> dict[str, Array]:
    """Interval, probability of a rise and scores of the distributions of all rows.

    Parameters
    ----------
    parts
        Some rows at a time (`in_parts`), and the quantiles of their log returns at `LEVELS`, shape (m, 99).
    outcome, level
        As in `distribution_columns`.

    Returns
    -------
    dict
        ``lo, hi, prob_up, pit`` and ``crps_bp``, as in `distribution_columns`; NaN where a row is in no part.
    """
    columns = {name: np.full(len(outcome), np.nan) for name in ("lo", "hi", "prob_up", "pit", "crps_bp")}
    for rows, own in parts:
        y = outcome[rows]
        columns["lo"][rows], columns["hi"][rows] = (quantile_at(own, (1 + side * level) / 2) for side in (-1, 1))
        columns["prob_up"][rows] = 1 - probability_below(own, np.zeros(len(y)))
        columns["pit"][rows] = probability_below(own, y)
        columns["crps_bp"][rows] = _BP * crps(own, y)
    return columns


def reference_crps(outcome: Array, reference: Array, day: Rows, made: Rows) -> Array:
    """CRPS in bp of the reference distribution of each row, which is centred on no change and knows no thirds.

    Parameters
    ----------
    outcome, reference, day, made
        As in `distribution_columns`.
    """
    learned, found = learn(outcome / reference, reference, day, made, thirds=False), np.full(len(outcome), np.nan)
    for rows, own in _spreads(learned, 0.0 * outcome, reference):
        found[rows] = _BP * crps(own, outcome[rows])
    return found


def _spreads(learned: Learned, center: Array, scale: Array) -> Iterator[tuple[slice, Array]]:
    """Some rows at a time, and the quantiles of their log returns, shape (m, 99); NaN where there are none."""
    for rows in in_parts(len(center)):
        row = learned.row[rows]
        tables = np.full((len(row), len(LEVELS)), np.nan)
        tables[row >= 0] = learned.tables[row[row >= 0]]
        yield rows, center[rows, None] + scale[rows, None] * tables


def distribution_scores(forecasts: pd.DataFrame, horizon: int) -> dict[str, float]:
    """Scores of the distributions in one model's forecast frame.

    Parameters
    ----------
    forecasts
        With the columns ``pit, crps_bp, crps_reference_bp`` of `distribution_columns`, if it has distributions.
    horizon
        Candles ahead: outcomes of fewer candles apart overlap.

    Returns
    -------
    dict
        ``crps_bp``; ``crps_skill`` against the reference; ``coverage_50`` and so on; ``coverage_90_calm`` and so on by
        volatility third; ``coverage_90_worst_day``; ``pit_p``: the Kolmogorov-Smirnov p of a uniform PIT on every
        h-th forecast. Empty where no distribution is known.
    """
    if "pit" not in forecasts:
        return {}
    known = forecasts[forecasts[["pit", "crps_bp", "crps_reference_bp"]].notna().all(axis=1)]
    if known.empty:
        return {}
    pit = known["pit"].to_numpy()
    inside = pd.DataFrame({f"{100 * level:.0f}": np.abs(pit - 0.5) <= level / 2 for level in COVERAGES}, known.index)
    third = volatility_third(forecasts)[known.index]
    return {
        "crps_bp": float(known["crps_bp"].mean()),
        "crps_skill": 1 - float(known["crps_bp"].sum() / known["crps_reference_bp"].sum()),
        **{f"coverage_{name}": float(part.mean()) for name, part in inside.items()},
        **{f"coverage_90_{name}": float(inside["90"][third == name].mean()) for name in third.cat.categories},
        "coverage_90_worst_day": worst_share(inside["90"], known["open_time"].dt.floor("D"), 0.9),
        "pit_p": float(kstest(pit[::horizon], "uniform").pvalue),
    }


@dataclass(frozen=True)
class Distribution:
    """Predictive distribution of one close.

    Parameters
    ----------
    base
        The last close.
    quantiles
        Quantiles of the log return from the base at `LEVELS`, ascending.
    move
        Log return that a model forecasts; None: the mean of the quantiles, which also has the drift of past errors.

    Examples
    --------
    >>> from scipy.stats import norm
    >>> made = Distribution(100.0, tuple(0.01 * norm.ppf(LEVELS)))
    >>> [round(price, 2) for price in made.interval(0.8)]
    [98.73, 101.29]
    >>> round(made.probability_above(101.0), 3), round(made.probability_reached(101.0), 3)
    (0.16, 0.32)
    """

    base: float
    quantiles: tuple[float, ...]
    move: float | None = None

    def __post_init__(self) -> None:
        if len(self.quantiles) != len(LEVELS) or (np.diff(self.quantiles) < 0).any() or not self.base > 0:
            msg = f"a distribution needs a positive price and {len(LEVELS)} ascending quantiles, found others"
            raise UsageError(msg)

    @property
    def _table(self) -> Array:
        return np.array([self.quantiles])

    def quantile(self, level: float) -> float:
        """Price below which the close lies with this probability.

        Raises
        ------
        UsageError
            If the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            msg = f"a level lies between 0 and 1, found {level}: write 0.9"
            raise UsageError(msg)
        return self.base * float(np.exp(quantile_at(self._table, level)[0]))

    def interval(self, level: float) -> tuple[float, float]:
        """Central interval of the close."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def probability_above(self, price: float) -> float:
        """Probability that the close lies above a price."""
        return 1 - float(probability_below(self._table, np.log([price / self.base]))[0])

    def probability_reached(self, price: float) -> float:
        """Probability that the price is reached on the way or at the end.

        Twice the probability of a close beyond it, at most 1: the reflection principle, exact for a path without drift
        whose volatility does not depend on its direction.
        """
        above = self.probability_above(price)
        return min(1.0, 2 * (above if price >= self.base else 1 - above))

    def probability_move(self, size_bp: float) -> float:
        """Probability that the close moves by more than `size_bp` basis points of log return, up or down."""
        ends = np.array([-size_bp, size_bp]) / _BP
        below, above = probability_below(np.repeat(self._table, 2, axis=0), ends)
        return float(below + 1 - above)

    @property
    def expected_bp(self) -> float:
        """Forecast log return in basis points."""
        return _BP * float(np.mean(self.quantiles) if self.move is None else self.move)


class Decision(NamedTuple):
    """What `decide` says.

    Attributes
    ----------
    action
        ``long``, ``short`` or ``no trade``.
    expected_bp
        Expected move; NaN where it is not known.
    needed_bp
        Smallest expected move that pays the cost.
    probability
        Of a move beyond the cost, up or down; NaN where it is not known.
    proven
        Whether the model is proven to beat no change.
    reason
        One sentence.
    """

    action: str
    expected_bp: float
    needed_bp: float
    probability: float
    proven: bool
    reason: str


def decide(distribution: Distribution | None, cost_bp: float, *, proven: bool = True) -> Decision:
    """Decide whether a round trip until the horizon is expected to pay its cost.

    Parameters
    ----------
    distribution
        Of the close at the horizon; None, before its warm-up, is no trade.
    cost_bp
        Cost of a round trip, in basis points.
    proven
        Whether its model is proven to beat no change: without proof there is no trade.

    Raises
    ------
    UsageError
        If the cost is negative.

    Examples
    --------
    >>> from scipy.stats import norm
    >>> decide(Distribution(100.0, tuple(0.0002 + 0.01 * norm.ppf(LEVELS))), cost_bp=10).reason
    'no trade: the expected move of +2.0 bp does not pay a cost of 10 bp'
    """
    if not cost_bp >= 0:
        msg = f"a cost is at least 0 bp, found {cost_bp}: give what a round trip costs"
        raise UsageError(msg)
    if distribution is None:
        words = "no trade: the distribution of the close is not known yet"
        return Decision("no trade", np.nan, cost_bp, np.nan, proven, words)
    expected, probability = distribution.expected_bp, distribution.probability_move(cost_bp)
    action = {0: "no trade", 1: "long", -1: "short"}[int(stakes(expected, cost_bp)) if proven else 0]
    shown = f"{expected:+.{decimals_apart(abs(expected), cost_bp, 1)}f} bp"
    words = (
        f"the expected move of {shown} {'does not pay' if action == 'no trade' else 'pays'} a cost of {cost_bp:g} bp"
    )
    reason = words if proven else "no model is proven to beat no change"
    return Decision(action, expected, cost_bp, probability, proven, f"{action}: {reason}")


def stakes(expected_bp: ArrayLike, cost_bp: float) -> Array:
    """Rule of `decide` on expected moves: 1 where a rise pays the cost, -1 where a fall does, else 0.

    Examples
    --------
    >>> stakes([12.0, -12.0, 10.0, 0.0], 10).tolist()
    [1.0, -1.0, 0.0, 0.0]
    """
    moves = np.asarray(expected_bp, dtype=float)
    return np.where(np.abs(moves) > max(cost_bp, _NOTHING_BP), np.sign(moves), 0.0)
