"""Features of volume and order flow."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.features.prepared import Prepared
from btcml.forecast.features.registry import Feature, register
from btcml.forecast.features.windows import ewm_memory, rolling_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__: list[str] = []

RECIPE = "measured recipe: volume against its own average"


def _volume_ratio(p: Prepared, fast: int, slow: int) -> Array:
    quick = p.volume if fast == 1 else p.mean("volume", fast)
    return np.log((quick + 1e-9) / (p.mean("volume", slow) + 1e-9))


def _taker_imbalance(p: Prepared, n: int) -> Array:
    volume = rolling_sum(p.volume, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(volume > 0, 2 * rolling_sum(p.column("taker_buy_base"), n) / volume - 1, 0.0)


def _trades_ratio(p: Prepared, fast: int, slow: int) -> Array:
    quick = p.column("trades") if fast == 1 else p.mean("trades", fast)
    return np.log((quick + 1) / (p.mean("trades", slow) + 1))


def _make() -> None:
    for fast, slow in ((1, 96), (12, 96)):
        register(
            Feature(
                f"volume_ratio_{fast}_{slow}",
                f"log(EMA{fast} of volume / EMA{slow} of volume)",
                slow,
                ewm_memory(slow),
                RECIPE,
                partial(_volume_ratio, fast=fast, slow=slow),
            ),
            ("core", "ohlcv"),
        )
    for n in (1, 12):
        register(
            Feature(
                f"taker_imbalance_{n}",
                f"2 taker buy volume / volume - 1 over {n}",
                n - 1,
                n,
                "system 1's roadmap: taker-buy imbalance",
                partial(_taker_imbalance, n=n),
                optional=True,
            ),
            ("core",),
        )
    register(
        Feature(
            "trades_ratio_1_96",
            "log(trades / EMA96 of trades)",
            96,
            ewm_memory(96),
            RECIPE,
            partial(_trades_ratio, fast=1, slow=96),
            optional=True,
        ),
        ("core",),
    )


_make()
