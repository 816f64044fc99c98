"""Features of range and season, for forecasting the next candle's range and volatility."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.prepared import SCALE_SPAN, Prepared
from btcml.forecast.features.price import SCALE_MEMORY
from btcml.forecast.features.registry import SETS, Feature, feature, register
from btcml.forecast.features.windows import ewm_memory, lag, rolling_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__: list[str] = []

HAR = "Corsi 2009, heterogeneous autoregression, on log ranges"
SEASON = "intraday season by harmonics: Andersen & Bollerslev 1997"


def _range_lag(p: Prepared, n: int) -> Array:
    return lag(p.log_log_range, n) - p.log_scale


def _range_mean(p: Prepared, n: int) -> Array:
    return rolling_sum(p.log_log_range, n) / n - p.log_scale


def _range_ewm(p: Prepared, span: int) -> Array:
    return p.mean("log_range", span) - p.log_scale


def _season(p: Prepared, cycles: int, wave: str) -> Array:
    angle = 2 * np.pi * cycles * (p.next_minute % 1440) / 1440
    return np.sin(angle) if wave == "sin" else np.cos(angle)


def _make() -> None:
    for n in (1, 2):
        register(
            Feature(
                f"range_lag_{n}",
                f"log(log(high / low) {n} before / s)",
                SCALE_SPAN,
                SCALE_MEMORY,
                HAR,
                partial(_range_lag, n=n),
            ),
            ("range",),
        )
    for n in (12, 96):
        register(
            Feature(
                f"range_mean_{n}",
                f"mean of log(log(high / low)) over {n} - log s",
                SCALE_SPAN,
                SCALE_MEMORY,
                HAR,
                partial(_range_mean, n=n),
            ),
            ("range",),
        )
    for span in (4, 16, 48, 288):
        register(
            Feature(
                f"range_ewm_{span}",
                f"EMA{span} of log(log(high / low)) - log s",
                SCALE_SPAN,
                max(SCALE_MEMORY, ewm_memory(span)),
                HAR,
                partial(_range_ewm, span=span),
            ),
            ("range",),
        )
    for cycles in (1, 2, 3, 4):
        for wave in ("sin", "cos"):
            register(
                Feature(
                    f"season_{wave}_{cycles}",
                    f"{wave} of {cycles} cycles a day at the next open",
                    0,
                    1,
                    SEASON,
                    partial(_season, cycles=cycles, wave=wave),
                ),
                ("range",),
            )


_make()


@feature("absolute_return", "|log return| / s", warmup=SCALE_SPAN, memory=SCALE_MEMORY, source=HAR, sets=("range",))
def _absolute_return(p: Prepared) -> Array:
    return np.abs(p.log_return) / p.scale


@feature("log_scale", "log s", warmup=SCALE_SPAN, memory=SCALE_MEMORY, source=HAR, sets=("range",))
def _log_scale(p: Prepared) -> Array:
    return p.log_scale


@feature("on_hour", "1 when the next candle opens on the hour", warmup=0, source=SEASON, sets=("range",))
def _on_hour(p: Prepared) -> Array:
    return np.where(p.next_minute % 60 == 0, 1.0, 0.0)


@feature("on_quarter", "1 when the next candle opens on a quarter of an hour", warmup=0, source=SEASON, sets=("range",))
def _on_quarter(p: Prepared) -> Array:
    return np.where(p.next_minute % 15 == 0, 1.0, 0.0)


@feature("weekend", "1 when the next candle opens on Saturday or Sunday", warmup=0, source=SEASON, sets=("range",))
def _weekend(p: Prepared) -> Array:
    return np.where((p.next_minute // 1440 + 3) % 7 >= 5, 1.0, 0.0)  # noqa: PLR2004 - Saturday is day 5


@feature("day_minute", "minute of the day at which the next candle opens", warmup=0, source=SEASON, sets=("range",))
def _day_minute(p: Prepared) -> Array:
    return p.next_minute % 1440


SETS["range"] += [
    "minute",
    "weekday",
    "range_ratio",
    "volatility_ratio_6_96",
    "volatility_ratio_24_96",
    "volatility_ratio_96_288",
    "volume_ratio_1_96",
    "volume_ratio_12_96",
    "trades_ratio_1_96",
    "position_12",
    "return_1",
    "return_12",
    "taker_imbalance_1",
]
