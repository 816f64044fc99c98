"""Features of price: gaps to moving averages, past returns, position in a range, VWAP, volatility."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.prepared import SCALE_SPAN, Prepared
from btcml.forecast.features.registry import Feature, feature, register
from btcml.forecast.features.windows import ewm_memory, rolling_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__: list[str] = []

SCALE_MEMORY = ewm_memory(SCALE_SPAN) + 1
RECIPE = "measured recipe: mean reversion of volatility-scaled returns"
_CORE = ("core", "ohlcv")


def _ema_gap(p: Prepared, span: int) -> Array:
    return (p.log_close - p.mean("log_close", span)) / p.scale


def _past_return(p: Prepared, n: int) -> Array:
    return p.past_return(n) / (p.scale * np.sqrt(n))


def _position(p: Prepared, n: int) -> Array:
    return p.position(n)


def _vwap_gap(p: Prepared, n: int) -> Array:
    typical = (p.high + p.low + p.close) / 3
    volume = rolling_sum(p.volume, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        vwap = np.where(volume > 0, rolling_sum(typical * p.volume, n) / volume, p.close)
    return np.log(p.close / vwap) / p.scale


def _volatility_ratio(p: Prepared, fast: int, slow: int) -> Array:
    return 0.5 * np.log((p.mean("square", fast) + 1e-14) / (p.mean("square", slow) + 1e-14))


def _make() -> None:
    for span in (2, 4, 16, 32):
        register(
            Feature(
                f"ema_gap_{span}",
                f"(log close - EMA{span} of log close) / s",
                SCALE_SPAN,
                SCALE_MEMORY,
                RECIPE,
                partial(_ema_gap, span=span),
            ),
            _CORE,
        )
    for n in (1, 3, 6, 12):
        register(
            Feature(
                f"return_{n}",
                f"log(close / close {n} before) / (s sqrt {n})",
                SCALE_SPAN,
                SCALE_MEMORY,
                RECIPE,
                partial(_past_return, n=n),
            ),
            _CORE,
        )
    for n in (3, 12, 48):
        register(
            Feature(
                f"position_{n}",
                f"(2 close - max high - min low) / (max high - min low) over {n}",
                n,
                n + 1,
                RECIPE,
                partial(_position, n=n),
            ),
            _CORE,
        )
    for n in (12, 48):
        register(
            Feature(
                f"vwap_gap_{n}",
                f"log(close / VWAP over {n}) / s",
                SCALE_SPAN,
                SCALE_MEMORY,
                RECIPE,
                partial(_vwap_gap, n=n),
            ),
            _CORE,
        )
    for fast, slow in ((6, 96), (24, 96), (96, 288)):
        register(
            Feature(
                f"volatility_ratio_{fast}_{slow}",
                f"log(s{fast} / s{slow}), s by EWMA of squared log returns",
                SCALE_SPAN,
                ewm_memory(slow) + 1,
                RECIPE,
                partial(_volatility_ratio, fast=fast, slow=slow),
            ),
            _CORE,
        )


_make()


@feature(
    "range_ratio",
    "log(log(high / low) / s)",
    warmup=SCALE_SPAN,
    memory=SCALE_MEMORY,
    source=RECIPE,
    sets=_CORE,
)
def _range_ratio(p: Prepared) -> Array:
    return np.log(p.log_range / p.scale)


@feature("body", "log(close / open) / s", warmup=SCALE_SPAN, memory=SCALE_MEMORY, source=RECIPE)
def _body(p: Prepared) -> Array:
    return np.log(p.close / p.open) / p.scale


@feature("minute", "minute of the hour at which the next candle opens", warmup=0, source=RECIPE, sets=_CORE)
def _minute(p: Prepared) -> Array:
    return p.next_minute % 60


@feature("hour", "hour of the day (UTC) at which the next candle opens", warmup=0, source=RECIPE, sets=_CORE)
def _hour(p: Prepared) -> Array:
    return p.next_minute // 60 % 24


@feature("weekday", "day of the week (Monday 0) on which the next candle opens", warmup=0, source=RECIPE)
def _weekday(p: Prepared) -> Array:
    return (p.next_minute // 1440 + 3) % 7
