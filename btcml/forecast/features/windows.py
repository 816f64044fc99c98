"""Causal windows on plain arrays: the kernels under every feature.

Each output depends on the rows of its own window only, added in an order that does not depend on
where the series began: a value computed from a tail equals the whole series' value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Moments = tuple[int, Array, Array]


SPANS = 6
"""An exponential window is cut after this many spans; the rest weighs 6 in a million."""

MAX_MEMORY = 768
"""Maximum number of rows of an exponential window, so that the newest row needs only a short tail; a span of
288 leaves out half a percent of the weight."""


def segment_age(ticks: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Rows since the last gap (or the start), 0 at the first row of each unbroken segment.

    Examples
    --------
    >>> segment_age(np.array([0, 5, 10, 30, 35]), 5)
    array([0, 1, 2, 0, 1])
    """
    rows = np.arange(len(ticks))
    broken = np.ones(len(ticks), dtype=bool)
    broken[1:] = np.diff(ticks) != step
    return rows - np.maximum.accumulate(np.where(broken, rows, 0))


def lag(x: Array, n: int) -> Array:
    """Values of `n` rows before; NaN in the first `n` rows.

    Examples
    --------
    >>> lag(np.array([1.0, 2.0, 3.0]), 1)
    array([nan,  1.,  2.])
    """
    out = np.full(len(x), np.nan)
    if n < len(x):
        out[n:] = x[: len(x) - n]
    return out


def _rolling(combine: Callable[[Array, Array], Array], x: Array, n: int) -> Array:
    """Combine the last `n` values by doubling: log2(n) passes, any associative operation."""
    block, size, done = x, 1, 0
    total: Array | None = None
    while True:
        if n & size:
            total = block if total is None else combine(total, lag(block, done))
            done += size
        if 2 * size > n:
            break
        block = combine(block, lag(block, size))
        size *= 2
    return x if total is None else total


def rolling_sum(x: Array, n: int) -> Array:
    """Sum of the last `n` values; NaN in the first n - 1 rows and where any of them is NaN.

    Examples
    --------
    >>> rolling_sum(np.array([1.0, 2.0, 3.0, 4.0]), 3)
    array([nan, nan,  6.,  9.])
    """
    return _rolling(np.add, x, n)


def rolling_max(x: Array, n: int) -> Array:
    """Greatest of the last `n` values; NaN as in `rolling_sum`."""
    return _rolling(np.maximum, x, n)


def rolling_min(x: Array, n: int) -> Array:
    """Smallest of the last `n` values; NaN as in `rolling_sum`."""
    return _rolling(np.minimum, x, n)


def rolling_std(x: Array, n: int) -> Array:
    """Sample standard deviation (n - 1) of the last `n` values; NaN as in `rolling_sum`.

    Means and squared deviations of blocks are merged (Chan, Golub & LeVeque 1979), which keeps
    its digits where the mean is large against the deviation.
    """
    block: Moments = (1, x, np.zeros(len(x)))
    total: Moments | None = None
    while True:
        if n & block[0]:
            total = block if total is None else _merge(total, block)
        if 2 * block[0] > n:
            break
        block = _merge(block, block)
    return np.sqrt((total or block)[2] / (n - 1))


def _merge(newer: Moments, older: Moments) -> Moments:
    """Moments of the newer rows and of the older ones that end just before them."""
    m, n = newer[0], older[0]
    mean, square = lag(older[1], m), lag(older[2], m)
    apart = newer[1] - mean
    return m + n, (m * newer[1] + n * mean) / (m + n), newer[2] + square + apart**2 * (m * n / (m + n))


def ewm_memory(span: int) -> int:
    """Number of rows in an exponential window of `span`, the current one included."""
    return min(SPANS * span, MAX_MEMORY)


def ewm(x: Array, age: NDArray[np.int64], span: int) -> Array:
    """Exponentially weighted mean with weights (1 - 2/(span + 1))^k, cut after `ewm_memory` rows.

    Parameters
    ----------
    x
        Values; a NaN restarts the window after it, as a gap does.
    age
        Rows since the last gap.
    span
        Span in rows, as in pandas.

    Returns
    -------
    ndarray
        The weights of the available rows are normalised, so the first row of a segment is its own
        mean; callers null the warm-up. NaN where `x` is.
    """
    known = np.isfinite(x)
    count = (age + 1) if known.all() else _run_length(known, age)
    memory, decay = ewm_memory(span), 1 - 2 / (span + 1)
    full = np.asarray(lfilter([1.0], [1.0, -decay], np.where(known, x, 0.0)))
    out = np.full(len(x), np.nan)
    out[memory:] = full[memory:] - decay**memory * full[: max(len(x) - memory, 0)]
    out *= (1 - decay) / (1 - decay**memory)
    young = np.flatnonzero(count <= memory)
    out[young] = _young(full, young, count[young], decay)
    return out


def _run_length(known: NDArray[np.bool_], age: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = np.arange(len(known))
    last_unknown = np.maximum.accumulate(np.where(known, -1, rows))
    return np.minimum(age + 1, rows - last_unknown)


def _young(full: Array, rows: NDArray[np.int64], count: NDArray[np.int64], decay: float) -> Array:
    """Means of windows that reach back to the start of their segment only."""
    before = rows - count
    weight = decay**count
    past = np.where(before >= 0, full[np.maximum(before, 0)], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, (full[rows] - weight * past) * (1 - decay) / (1 - weight), np.nan)
