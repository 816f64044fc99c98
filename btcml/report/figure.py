"""Figures as SVG text: same data, same bytes, in the colours of the page.

Text stays text (searchable, in the page's own font, legible in dark mode). What matplotlib would take
from the machine or the moment is fixed: fonts are those in its own wheel, ids come from the chart's name,
there is no date, coordinates have one decimal.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import matplotlib as mpl
from cycler import cycler
from matplotlib import font_manager
from matplotlib.figure import Figure

from btcml.errors import ReportError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from btcml.report.claims import Claim

__all__ = ["DIVERGING", "INK", "MESH", "MUTED", "SEQUENTIAL", "SERIES", "Chart", "canvas", "panels", "svg_text"]

INK, MUTED, RULE, PAPER = "#1b2127", "#5a6571", "#d9dfe5", "#fdfdfc"
"""Text, secondary text, grid and background; the page maps them to light or dark."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7f87")
"""Okabe and Ito's colours, distinguishable to the colour-blind."""

SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"

MESH: dict[str, Any] = {"shading": "nearest", "edgecolors": "face", "linewidth": 0.5}
"""How heat maps are drawn: cells meet without a seam."""

_ROLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper"} | {
    color: f"s{place}" for place, color in enumerate(SERIES, 1)
}

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "axes.prop_cycle": cycler(color=list(SERIES)),
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.4,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "timezone": "UTC",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

_WIDTH = 7.6
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.86, 0.32, 0.26, 0.5
_NAMED = 0.2  # share of the width: words stand to the left, not figures


@dataclass(frozen=True)
class Chart:
    """One figure and its one conclusion.

    Attributes
    ----------
    name
        Lower-case words joined by hyphens; the file name of its numbers.
    figure
        What is drawn.
    data
        The numbers that are drawn, for the CSV beside the page.
    says
        The conclusion, a claim; it stands above the figure.
    alt
        What is seen, for those who do not see it.
    """

    name: str
    figure: Figure
    data: pd.DataFrame
    says: Claim
    alt: str

    def __post_init__(self) -> None:
        if self.data.empty:
            msg = f"figure {self.name} needs rows to draw, found none: check the frame it was given"
            raise ReportError(msg)


def canvas(height: float = 3.0, *, left: float = _LEFT, bottom: float = _BOTTOM) -> tuple[Figure, Axes]:
    """Return an empty figure in the style of the pages and its one pair of axes.

    Parameters
    ----------
    height
        Inches; the width is that of the page.
    left, bottom
        Inches for the tick labels. Margins are fixed, so that no text is measured.
    """
    figure, axes = panels(1, 1, height, left=left, bottom=bottom)
    return figure, axes[0]


def panels(
    rows: int,
    columns: int,
    height: float,
    *,
    left: float = _LEFT,
    bottom: float = _BOTTOM,
    **shared: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with several axes, row by row."""
    _apply_style()
    figure = Figure(figsize=(_WIDTH, height))
    figure.subplots_adjust(
        left / _WIDTH,
        bottom / height,
        1 - _RIGHT / _WIDTH,
        1 - _TOP / height,
        0.26,
        0.16 if shared.get("sharex") else 0.5,
    )
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).ravel())


def _apply_style() -> None:
    mpl.rcdefaults()
    mpl.rcParams.update(cast("Any", _STYLE))
    fonts = font_manager.fontManager
    fonts.ttflist = [font for font in fonts.ttflist if "mpl-data" in font.fname]


def svg_text(chart: Chart) -> str:
    """Draw a chart as one inline ``<svg>`` element with a text alternative.

    Returns
    -------
    str
        The same for the same chart on every machine with the same matplotlib.
    """
    _apply_style()
    mpl.rcParams["svg.hashsalt"] = chart.name
    stream = io.StringIO()
    chart.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return _inline(stream.getvalue(), chart)


def _inline(drawn: str, chart: Chart) -> str:
    text = drawn[drawn.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"| version="1.1"| xmlns:xlink="[^"]*"', "", text, count=3)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'( (?:d|points|x|y|x1|x2|y1|y2)=")([^"]*)"', _rounded, text)
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*", _font, text)
    text = _own_ids(text, chart.name)
    for color, role in _ROLES.items():
        text = text.replace(color, f"var(--{role})")
    label = chart.alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    named = ' class="named"' * (chart.figure.subplotpars.left > _NAMED)  # the page lets a narrow screen begin there
    text = text.replace("<svg", f'<svg role="img" aria-label="{label}"{named}', 1)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _rounded(match: re.Match[str]) -> str:
    short = re.sub(r"-?\d+\.\d+(?:e-?\d+)?", lambda found: _short(found[0]), match[2].replace("\n", " "))
    return f'{match[1]}{" ".join(short.split())}"'


def _short(digits: str) -> str:
    return f"{round(float(digits), 1) + 0.0:.1f}".removesuffix(".0")


def _font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {found[0]}" if (found := re.search(r"\b(?:bold|[1-9]00)\b", match[1])) else ""
    return f"font-size: {match[2]}{weight}"


def _own_ids(text: str, name: str) -> str:
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
