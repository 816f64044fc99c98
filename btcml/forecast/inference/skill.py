"""How sure is the skill: a block bootstrap of 1 - mean loss / mean loss of the benchmark."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["skill_interval"]


def skill_interval(
    loss: ArrayLike, benchmark: ArrayLike, *, level: float = 0.95, reps: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Block-bootstrap interval of the skill 1 - mean(loss) / mean(benchmark).

    Parameters
    ----------
    loss, benchmark
        Losses on the same rows in order of time, shape (n,), without NaN.
    level
        Confidence of the percentile interval.
    reps, seed
        Number of replications, and the seed of their draws.

    Returns
    -------
    tuple of float
        Lower and upper end; NaN where the benchmark has no loss at all.

    Notes
    -----
    Blocks of about sqrt(n) consecutive rows are drawn whole (Carlstein 1986), so dependence
    within hours (5m candles: two days) survives; the remainder of the rows joins the last block.
    A block drawn k times is a block weighed k times: one matrix product makes all replications.
    """
    ours, theirs = np.asarray(loss, dtype=float), np.asarray(benchmark, dtype=float)
    if not theirs.sum() > 0:
        return math.nan, math.nan
    blocks = math.isqrt(len(theirs))
    starts = np.arange(blocks) * blocks
    sums = np.column_stack([np.add.reduceat(ours, starts), np.add.reduceat(theirs, starts)])
    weights = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=reps)
    drawn = weights @ sums
    low, high = np.quantile(1 - drawn[:, 0] / drawn[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
