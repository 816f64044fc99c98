"""Indicators of the two systems that btcml replaces, on price levels and as they were named there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.registry import SETS, Feature, register
from btcml.forecast.features.windows import ewm_memory, lag, rolling_max, rolling_min, rolling_std, rolling_sum

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btcml.forecast.features.prepared import Prepared

    Array = NDArray[np.float64]

SYSTEM0 = "system 0, ML Crypto"
SYSTEM1 = "system 1, bitcoin-ml"


def _close_lag(p: Prepared, n: int) -> Array:
    return lag(p.close, n)


def _sma(p: Prepared, n: int) -> Array:
    return rolling_sum(p.close, n) / n


def _deviation(p: Prepared, n: int) -> Array:
    return rolling_std(p.close, n)


def _acceleration(p: Prepared) -> Array:
    return p.log_return - lag(p.log_return, 1)


def _amplitude(p: Prepared) -> Array:
    return p.high - p.low


def _relative_volume(p: Prepared, n: int) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return p.volume / (rolling_sum(p.volume, n) / n)


def _ema(p: Prepared, span: int) -> Array:
    return np.exp(p.mean("log_close", span))


def _rsi(p: Prepared, n: int) -> Array:
    """Relative strength with simple means: 100 of gains over gains and losses, 50 where the price does not move."""
    gain = rolling_sum(np.maximum(p.log_return, 0.0), n)
    loss = rolling_sum(np.maximum(-p.log_return, 0.0), n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(gain + loss == 0, 50.0, 100 * gain / (gain + loss))


def _macd(p: Prepared) -> Array:
    return p.mean("log_close", 12) - p.mean("log_close", 26)


def _bollinger(p: Prepared, n: int) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (p.close - _sma(p, n)) / (2 * rolling_std(p.close, n))
    return np.where(np.isinf(score), 0.0, score)


def _true_range(p: Prepared) -> Array:
    before = lag(p.close, 1)
    return np.maximum(p.high, before) - np.minimum(p.low, before)


def _atr(p: Prepared, n: int) -> Array:
    return rolling_sum(_true_range(p), n) / n


def _realized(p: Prepared, n: int) -> Array:
    return np.sqrt(rolling_sum(p.log_return**2, n))


def _stochastic(p: Prepared, n: int) -> Array:
    top, bottom = rolling_max(p.high, n), rolling_min(p.low, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(top == bottom, 50.0, 100 * (p.close - bottom) / (top - bottom))


def _enter(
    name: str, formula: str, warmup: int, source: str, compute: Callable[[Prepared], Array], memory: int = 0
) -> None:
    sets = {SYSTEM0: ("system0",), SYSTEM1: ("system1",)}[source]
    register(Feature(name, formula, warmup, memory or warmup + 1, source, compute), sets)


def _make() -> None:
    for n in (0, 1, 2, 3, 5):
        _enter(f"close_lag_{n}", f"close {n} before", n, SYSTEM0, partial(_close_lag, n=n))
    for n in (5, 10, 20):
        _enter(f"sma_{n}", f"mean close of {n}", n - 1, SYSTEM0, partial(_sma, n=n))
        _enter(f"std_{n}", f"sample deviation of the close over {n}", n - 1, SYSTEM0, partial(_deviation, n=n))
    _enter("log_return", "log(close / close before)", 1, SYSTEM1, lambda p: p.log_return)
    _enter("acceleration", "log return - log return before", 2, SYSTEM1, _acceleration)
    _enter("amplitude", "high - low", 0, SYSTEM1, _amplitude)
    _enter("volume_rel_20", "volume / mean volume of 20", 19, SYSTEM1, partial(_relative_volume, n=20))
    for span in (9, 21):
        memory = ewm_memory(span)
        _enter(f"ema_{span}", f"exp EMA{span} of log close", span, SYSTEM1, partial(_ema, span=span), memory)
    _enter("rsi_14", "100 gains / (gains + losses) over 14", 14, SYSTEM1, partial(_rsi, n=14))
    _enter("macd", "EMA12 - EMA26 of log close", 26, SYSTEM1, _macd, ewm_memory(26))
    _enter("bollinger_20", "(close - SMA20) / 2 deviations", 19, SYSTEM1, partial(_bollinger, n=20))
    _enter("atr_14", "mean true range of 14", 14, SYSTEM1, partial(_atr, n=14))
    _enter("realized_12", "root of summed squared log returns over 12", 12, SYSTEM1, partial(_realized, n=12))
    _enter("stochastic_14", "100 (close - low14) / (high14 - low14)", 13, SYSTEM1, partial(_stochastic, n=14))


_make()
SETS["system0"] += ["log_scale"]
SETS["system1"] += ["close_lag_0", "hour", "weekday", "log_scale"]
