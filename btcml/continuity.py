"""Spans of candles that were probably stored before they were final.

A single odd candle is not enough: real opens jump, and real volume can be near zero. Hours in which most
candles break a rule indicate unfinished candles. ``continuity``: the open
continues the previous close within what this symbol has shown in 30 days. ``volume_collapse``: the
volume is not far below the least of 30 days. The bounds are learned from accepted rows only.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.candles import TIME, interval_delta

if TYPE_CHECKING:
    from numpy.typing import NDArray


_LEARN_DAYS = 30
_LEARN_AT_LEAST_DAYS = 7
_WINDOW = pd.Timedelta(hours=4)
_WINDOW_AT_LEAST = 6
_SHARE = 0.5
_TICK = 1e-7  # relative to the price: a hundredth of a dollar at 100,000


def _measures(candles: pd.DataFrame, interval: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Relative jump of the open from the close before (NaN after a hole), and volume."""
    before = np.concatenate([[np.nan], candles["close"].to_numpy()[:-1]])
    follows = (candles["open_time"].diff() == interval_delta(interval)).to_numpy()
    jump = np.abs(candles["open"].to_numpy() - before) / before
    return np.where(follows, jump, np.nan), candles["volume"].to_numpy()


def _bounds(jump: NDArray[Any], volume: NDArray[Any]) -> tuple[float, float]:
    """Twice the 99 % quantile of jumps, at least a tick; half of the 1 % quantile of volume."""
    known = jump[np.isfinite(jump)]
    largest = float(np.quantile(known, 0.99)) * 2 if known.size else np.inf
    return max(largest, _TICK), float(np.quantile(volume, 0.01)) / 2


def _dense(breaks: NDArray[Any], window: int) -> NDArray[Any]:
    """Rows inside any window in which at least half of the rows break a bound."""
    if breaks.sum() < _SHARE * (window // 2):  # too few for any window
        return np.zeros(len(breaks), dtype=bool)
    share = pd.Series(breaks).rolling(window, min_periods=window // 2).mean()
    return (share >= _SHARE)[::-1].rolling(window, min_periods=1).max()[::-1].to_numpy(dtype=bool)


def _breaks(candles: pd.DataFrame, interval: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Walk day by day: bounds from accepted rows only, so that bad spans do not become normal."""
    jump, volume = _measures(candles, interval)
    day_rows = max(int(pd.Timedelta(days=1) / interval_delta(interval)), 1)
    window = max(int(_WINDOW / interval_delta(interval)), _WINDOW_AT_LEAST)
    days = candles["open_time"].dt.floor("D").astype("int64").to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(days)) + 1, [len(days)]])
    jumps, collapses, suspect = np.zeros((3, len(days)), dtype=bool)
    past = np.zeros(0, dtype=np.int64)
    for first, stop in itertools.pairwise(starts):
        if len(past) >= _LEARN_AT_LEAST_DAYS * day_rows:
            most, least = _bounds(jump[past], volume[past])
            jumps[first:stop], collapses[first:stop] = jump[first:stop] > most, volume[first:stop] < least
            back = max(first - window, 0)
            suspect[back:stop] |= _dense((jumps | collapses)[back:stop], window)
        good = np.flatnonzero(~suspect[first:stop]) + first
        past = np.concatenate([past, good])[-_LEARN_DAYS * day_rows :]
    return jumps, collapses, suspect


def suspect_rows(candles: pd.DataFrame, interval: str) -> NDArray[np.bool_]:
    """Which candles lie in a suspect span.

    Parameters
    ----------
    candles
        A candle frame, sorted and unique.
    interval
        Its interval.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
        False for all of the first seven days, from which the bounds are learned.
    """
    return _breaks(candles, interval)[2] if len(candles) else np.zeros(0, dtype=bool)


def suspect_spans(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Spans of suspect candles, each with the rule that more of its rows break.

    Returns
    -------
    DataFrame
        ``start`` (first open time), ``end`` (open time after the last), ``rule``, ``rows``.
    """
    empty = pd.DataFrame({"start": [], "end": [], "rule": [], "rows": []})
    if candles.empty:
        return empty.astype({"start": TIME, "end": TIME, "rule": "str", "rows": "int64"})
    jumps, collapses, suspect = _breaks(candles, interval)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], suspect, [False]]).astype("int8")))
    firsts, stops = edges[::2], edges[1::2]
    rules = [
        "continuity" if jumps[a:b].sum() >= collapses[a:b].sum() else "volume_collapse"
        for a, b in zip(firsts, stops, strict=True)
    ]
    return pd.DataFrame(
        {
            "start": candles["open_time"].iloc[firsts].reset_index(drop=True),
            "end": candles["open_time"].iloc[stops - 1].reset_index(drop=True) + interval_delta(interval),
            "rule": pd.Series(rules, dtype="str"),
            "rows": (stops - firsts).astype("int64"),
        }
    )
