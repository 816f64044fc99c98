"""Features of range and season, for forecasting the next candle's range and volatility."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.prepared import SCALE_SPAN, Prepared
from btcml.forecast.features.price import SCALE_MEMORY
from btcml.forecast.features.registry import SETS, feature
from btcml.forecast.features.windows import ewm_memory, lag, rolling_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

HAR = "Corsi 2009, heterogeneous autoregression, on log ranges"
SEASON = "intraday season by harmonics: Andersen & Bollerslev 1997"

_scaled = partial(feature, warmup=SCALE_SPAN, memory=SCALE_MEMORY, source=HAR, sets=("range",))
_clock = partial(feature, warmup=0, source=SEASON, sets=("range",))


def _range_lag(p: Prepared, n: int) -> Array:
    return lag(p.log_log_range, n) - p.log_scale


def _range_mean(p: Prepared, n: int) -> Array:
    return rolling_sum(p.log_log_range, n) / n - p.log_scale


def _range_ewm(p: Prepared, span: int) -> Array:
    return p.mean("log_range", span) - p.log_scale


def _season(p: Prepared, cycles: int, wave: str) -> Array:
    angle = 2 * np.pi * cycles * (p.next_minute % 1440) / 1440
    return np.sin(angle) if wave == "sin" else np.cos(angle)


for n in (1, 2):
    _scaled(f"range_lag_{n}", f"log(log(high / low) {n} before / s)")(partial(_range_lag, n=n))
for n in (12, 96):
    _scaled(f"range_mean_{n}", f"mean of log(log(high / low)) over {n} - log s")(partial(_range_mean, n=n))
for span in (4, 16, 48, 288):
    feature(
        f"range_ewm_{span}",
        f"EMA{span} of log(log(high / low)) - log s",
        warmup=SCALE_SPAN,
        memory=max(SCALE_MEMORY, ewm_memory(span)),
        source=HAR,
        sets=("range",),
    )(partial(_range_ewm, span=span))
for cycles in (1, 2, 3, 4):
    for wave in ("sin", "cos"):
        _clock(f"season_{wave}_{cycles}", f"{wave} of {cycles} cycles a day at the next open")(
            partial(_season, cycles=cycles, wave=wave)
        )


@_scaled("absolute_return", "|log return| / s")
def _absolute_return(p: Prepared) -> Array:
    return np.abs(p.log_return) / p.scale


@_scaled("log_scale", "log s")
def _log_scale(p: Prepared) -> Array:
    return p.log_scale


@_clock("on_hour", "1 when the next candle opens on the hour")
def _on_hour(p: Prepared) -> Array:
    return np.where(p.next_minute % 60 == 0, 1.0, 0.0)


@_clock("on_quarter", "1 when the next candle opens on a quarter of an hour")
def _on_quarter(p: Prepared) -> Array:
    return np.where(p.next_minute % 15 == 0, 1.0, 0.0)


@_clock("weekend", "1 when the next candle opens on Saturday or Sunday")
def _weekend(p: Prepared) -> Array:
    return np.where((p.next_minute // 1440 + 3) % 7 >= 5, 1.0, 0.0)  # noqa: PLR2004 - Saturday is day 5


@_clock("day_minute", "minute of the day at which the next candle opens")
def _day_minute(p: Prepared) -> Array:
    return p.next_minute % 1440


SETS["range"] += [name for name in SETS["core"] if name not in SETS["range"]]
