"""Features of volume and order flow."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.prepared import Prepared
from btcml.forecast.features.registry import feature
from btcml.forecast.features.windows import ewm_memory, rolling_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__: list[str] = []

RECIPE = "measured recipe: volume against its own average"
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
        source=RECIPE,
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
    source=RECIPE,
    sets=("range",),
    optional=True,
)
def _trades_ratio(p: Prepared) -> Array:
    return np.log((p.column("trades") + 1) / (p.mean("trades", SLOW) + 1))
