"""How look-ahead is looked for: scramble the future, keep its shape, compare the past bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import COLUMNS
from btcml.market.simulate import SimulatedMarket

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = [name for name in COLUMNS if name not in {"open_time", "close_time"}]


def simulated(days: int) -> pd.DataFrame:
    """Return simulated 5m candles with a hole of half an hour after a third of them."""
    start = pd.Timestamp("2025-03-01", tz="UTC")
    frame = SimulatedMarket(seed=5).fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta(days=days))
    return frame.drop(index=range(len(frame) // 3, len(frame) // 3 + 6)).reset_index(drop=True)


def scrambled(candles: pd.DataFrame, t: int, seed: int = 0) -> pd.DataFrame:
    """Candles whose rows after `t` are in another order and at another level; times stay."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.arange(t + 1, len(candles)))
    out = candles.copy()
    out.loc[t + 1 :, VALUES] = candles.loc[order, VALUES].to_numpy() * rng.uniform(0.8, 1.25)
    return out


def changed(run: Callable[[pd.DataFrame], np.ndarray], candles: pd.DataFrame, t: int, past: int | None = None) -> bool:
    """Whether anything that `run` says of the first `past` rows (t + 1) changes with the future of t."""
    rows = t + 1 if past is None else past
    before, after = (np.asarray(run(frame))[:rows] for frame in (candles, scrambled(candles, t)))
    return not np.array_equal(before, after, equal_nan=True)
