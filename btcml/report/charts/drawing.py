"""What several exhibits draw alike: axes of times and of prices, and candles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter

from btcml.report.figure import SERIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar

__all__ = ["date_axis", "draw_candles", "draw_dots", "plain_scale", "thousands"]


def date_axis(axes: Axes) -> None:
    """Give an axis of times few, short labels."""
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def thousands(axes: Axes) -> None:
    """Write the values of the upright axis with thousands separated."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def plain_scale(bar: Colorbar) -> None:
    """Keep a colour scale plain: no outline, no ticks, drawn as shapes."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
        bar.solids.set_edgecolor("face")


def draw_candles(axes: Axes, candles: pd.DataFrame) -> None:
    """Draw candles: rising ones blue and hollow, falling ones orange and filled."""
    place = np.arange(len(candles))
    for rising, color in ((True, SERIES[0]), (False, SERIES[1])):
        part = ((candles["close"] >= candles["open"]) == rising).to_numpy()
        rows = candles[part]
        axes.vlines(place[part], rows["low"], rows["high"], color=color, linewidth=0.8)
        body = rows["close"] - rows["open"]
        axes.bar(
            place[part],
            body,
            bottom=rows["open"],
            width=0.64,
            color="none" if rising else color,
            edgecolor=color,
        )
    axes.set_xlim(-1, len(candles))


def draw_dots(axes: Axes, groups: pd.DataFrame, value: str, low: str, high: str) -> None:
    """Draw a percentage with its interval, one dot a group."""
    place = np.arange(len(groups))
    axes.vlines(place, 100 * groups[low], 100 * groups[high], color=SERIES[0], linewidth=2)
    axes.plot(place, 100 * groups[value], "o", color=SERIES[0])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, len(groups) - 0.4)
