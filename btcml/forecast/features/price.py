"""Features of price, volume and order flow: gaps to averages, past returns, ranges, ratios, imbalance."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.prepared import RANGE_FLOOR, SCALE_SPAN, Prepared
from btcml.forecast.features.registry import SETS, feature
from btcml.forecast.features.windows import ewm_memory, lag, rolling_max, rolling_min, rolling_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


SCALE_MEMORY = ewm_memory(SCALE_SPAN) + 1
"""Rows on which a feature divided by the scale depends."""

RECIPE = "measured recipe: mean reversion of volatility-scaled returns"
BOTH = ("core", "ohlcv")
RETURN = "log(close / close {n} before) / (s sqrt {n})"
POSITION = "(2 close - top - bottom) / (top - bottom) of {n}"
WIDE = (24, 48, 96, 192, 384, 672)
"""Candles of the long windows: at 15m from six hours to a week."""

_scaled = partial(feature, warmup=SCALE_SPAN, memory=SCALE_MEMORY, source=RECIPE)
_clock = partial(feature, warmup=0, source=RECIPE)


VOLUME = "measured recipe: volume against its own average"
ROADMAP = "system 1's roadmap: taker-buy imbalance"
SLOW = 96


def _volume_ratio(p: Prepared, span: int) -> Array:
    quick = p.volume if span == 1 else p.mean("volume", span)
    return np.log((quick + 1e-9) / (p.mean("volume", SLOW) + 1e-9))


def _taker_imbalance(p: Prepared, n: int) -> Array:
    volume = rolling_sum(p.volume, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(volume > 0, 2 * rolling_sum(p.column("taker_buy_base"), n) / volume - 1, 0.0)


for span, sets in ((1, ("core", "ohlcv", "range")), (12, ("range",))):
    feature(
        f"volume_ratio_{span}_{SLOW}",
        f"log(EMA{span} of volume / EMA{SLOW} of volume)",
        warmup=SLOW,
        memory=ewm_memory(SLOW),
        source=VOLUME,
        sets=sets,
    )(partial(_volume_ratio, span=span))
for n, of in ((1, ("core", "range")), (12, ())):
    feature(
        f"taker_imbalance_{n}",
        f"2 taker buy volume / volume - 1 over {n}",
        warmup=n - 1,
        source=ROADMAP,
        sets=of,
        optional=True,
    )(partial(_taker_imbalance, n=n))


@feature(
    "trades_ratio_1_96",
    "log(trades / EMA96 of trades)",
    warmup=SLOW,
    memory=ewm_memory(SLOW),
    source=VOLUME,
    sets=("range",),
    optional=True,
)
def _trades_ratio(p: Prepared) -> Array:
    return np.log((p.column("trades") + 1) / (p.mean("trades", SLOW) + 1))


def _ema_gap(p: Prepared, span: int) -> Array:
    return (p.log_close - p.mean("log_close", span)) / p.scale


def _past_return(p: Prepared, n: int) -> Array:
    return p.past_return(n) / (p.scale * np.sqrt(n))


def _range_over(p: Prepared, n: int) -> Array:
    width = np.log(rolling_max(p.high, n) / rolling_min(p.low, n))
    return np.log(np.maximum(width, RANGE_FLOOR) / (p.scale * np.sqrt(n)))


def _average_gap(p: Prepared, quote_volume: Array, n: int) -> Array:
    volume = rolling_sum(p.volume, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        average = np.where(volume > 0, rolling_sum(quote_volume, n) / volume, p.close)
    return np.log(p.close / average) / p.scale


def _typical_gap(p: Prepared, n: int) -> Array:
    return _average_gap(p, (p.high + p.low + p.close) / 3 * p.volume, n)


def _vwap_gap(p: Prepared, n: int) -> Array:
    return _average_gap(p, p.quote_volume, n)


def _volatility_ratio(p: Prepared, fast: int, slow: int) -> Array:
    return 0.5 * np.log((p.mean("square", fast) + 1e-14) / (p.mean("square", slow) + 1e-14))


for n in (2, 4, 16, 32, 96):
    _scaled(f"ema_gap_{n}", f"(log close - EMA{n} of log close) / s", sets=BOTH)(partial(_ema_gap, span=n))
for n in (1, 3, 6, 12):
    _scaled(f"return_{n}", RETURN.format(n=n), sets=BOTH)(partial(_past_return, n=n))
for n in (1, 3, 12, 48):
    feature(f"position_{n}", POSITION.format(n=n), warmup=n, source=RECIPE, sets=BOTH)(partial(Prepared.position, n=n))
for kind, formula, lengths, compute, least in (
    ("return", RETURN, WIDE, _past_return, SCALE_MEMORY),
    ("position", POSITION, (24, *WIDE[2:]), Prepared.position, SCALE_SPAN + 1),
    ("range", "log(log(top / bottom) / (s sqrt {n})) of {n}", (4, 12, *WIDE), _range_over, SCALE_MEMORY),
):
    for n in lengths:
        feature(
            f"{kind}_{n}",
            formula.format(n=n),
            warmup=max(SCALE_SPAN, n),
            memory=max(least, n + 1),
            source=RECIPE,
            sets=("wide",),
            optional=True,
        )(partial(compute, n=n))
for n, chosen in {1: ("core",), 3: ("core",), 12: ()}.items():
    _scaled(f"vwap_gap_{n}", f"log(close / VWAP over {n}) / s", sets=chosen)(partial(_vwap_gap, n=n))
for n in (1, 12, 48):
    _scaled(f"typical_gap_{n}", f"log(close / VWAP of typical prices over {n}) / s", sets=("ohlcv",))(
        partial(_typical_gap, n=n)
    )
for fast, slow in ((6, 96), (24, 96), (96, 288)):
    feature(
        f"volatility_ratio_{fast}_{slow}",
        f"log(s{fast} / s{slow}), s by EWMA of squared log returns",
        warmup=SCALE_SPAN,
        memory=ewm_memory(slow) + 1,
        source=RECIPE,
        sets=("range",),
    )(partial(_volatility_ratio, fast=fast, slow=slow))


@_scaled("range_ratio", "log(log(high / low) / s)", sets=(*BOTH, "range"))
def _range_ratio(p: Prepared) -> Array:
    return p.log_log_range - p.log_scale


@_scaled("body", "log(close / open) / s", sets=BOTH)
def _body(p: Prepared) -> Array:
    return np.log(p.close / p.open) / p.scale


@_scaled("shadow_up", "log(high / max(open, close)) / s", sets=("wide",))
def _shadow_up(p: Prepared) -> Array:
    return np.log(p.high / np.maximum(p.open, p.close)) / p.scale


@_scaled("shadow_down", "log(min(open, close) / low) / s", sets=("wide",))
def _shadow_down(p: Prepared) -> Array:
    return np.log(np.minimum(p.open, p.close) / p.low) / p.scale


@_scaled("return_before", "log return of the candle before / s", sets=("wide",))
def _return_before(p: Prepared) -> Array:
    return lag(p.log_return, 1) / p.scale


@_clock("minute", "minute of the hour at which the next candle opens", sets=(*BOTH, "range"))
def _minute(p: Prepared) -> Array:
    return p.next_minute % 60


@_clock("quarter_minute", "minute of the quarter of an hour at which the next candle opens", sets=BOTH)
def _quarter_minute(p: Prepared) -> Array:
    return p.next_minute % 15


@_clock("four_hour_minute", "minute of the four hours (from midnight UTC) at which the next candle opens", sets=BOTH)
def _four_hour_minute(p: Prepared) -> Array:
    return p.next_minute % 240


@_scaled("since_hour", "log(close / last close before the hour that this candle ends in) / s", sets=BOTH)
def _since_hour(p: Prepared) -> Array:
    return p.since(60) / p.scale


@_clock("hour", "hour of the day (UTC) at which the next candle opens", sets=BOTH)
def _hour(p: Prepared) -> Array:
    return p.next_minute // 60 % 24


@_clock("weekday", "day of the week (Monday 0) on which the next candle opens", sets=("range",))
def _weekday(p: Prepared) -> Array:
    return (p.next_minute // 1440 + 3) % 7


SETS["wide"] += SETS["core"]
