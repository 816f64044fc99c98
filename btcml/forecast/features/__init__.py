"""Features: one function on a candle frame for training and serving alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.forecast.features import classic, price, ranges
from btcml.forecast.features.prepared import RANGE_FLOOR, SCALE_SPAN, Prepared
from btcml.forecast.features.registry import (
    REGISTRY,
    SETS,
    Feature,
    definition_hash,
    feature,
    features_of,
    register,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "RANGE_FLOOR",
    "REGISTRY",
    "SCALE_SPAN",
    "SETS",
    "Feature",
    "Prepared",
    "definition_hash",
    "feature",
    "feature_frame",
    "features_of",
    "newest_features",
    "register",
    "tail_length",
]

_ = (classic, price, ranges)


def feature_frame(candles: pd.DataFrame, interval: str, features: str | Iterable[str] = "core") -> pd.DataFrame:
    """Features of every candle, each from that candle and earlier ones only.

    Parameters
    ----------
    candles
        Candle frame of n rows.
    interval
        Its interval.
    features
        Name of a set (`SETS`) or names of features.

    Returns
    -------
    DataFrame
        n rows aligned with `candles`, one float64 column a feature. Null in a feature's warm-up,
        at the start and again after every gap, and where an optional column is unknown.
    """
    items = features_of(features)
    prepared = Prepared(candles, interval)
    block = np.empty((len(items), len(candles)))
    for row, item in zip(block, items, strict=True):
        row[:] = item.values(prepared)
    return pd.DataFrame(block.T, columns=[item.name for item in items], copy=False)


def tail_length(features: str | Iterable[str] = "core") -> int:
    """Candles that give the newest row exactly: the longest memory among the features.

    That of the scale is followed by the candles that cap its first returns.
    """
    return max(price.SCALE_MEMORY + SCALE_SPAN, *(item.memory for item in features_of(features)))


def newest_features(candles_tail: pd.DataFrame, interval: str, features: str | Iterable[str] = "core") -> pd.Series:
    """Features of the last candle of a tail of at least `tail_length` candles.

    Equal to the last row of `feature_frame` on the whole series to 1e-9 of a feature's scale;
    from a shorter tail, null where a warm-up is not over.
    """
    tail = candles_tail.iloc[-tail_length(features) :]
    return feature_frame(tail, interval, features).iloc[-1]
