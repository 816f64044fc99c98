"""Charts and tables: same data, same bytes, in the colours of the page.

In an SVG text stays text (searchable, in the page's own font, legible in dark mode). What matplotlib takes from
machine or time is fixed: fonts are those in its own wheel, ids come from the chart's
name, there is no date, coordinates have one decimal. Each chart is drawn twice, for wide and for narrow screens. Tables
keep the raw numbers for the CSV beside the page.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape, unescape
from typing import TYPE_CHECKING, Any, ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FixedLocator, FuncFormatter

from btcml.errors import ReportError
from btcml.files import resource
from btcml.report import claims as say
from btcml.report.claims import Quantity
from btcml.report.labels import LETTER, LINE, EndLabels
from btcml.report.language import local_text, translated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from btcml.report.claims import Claim
    from btcml.report.labels import PointLabels


_STYLE = mpl.rc_params_from_file(resource("reports/template") / "charts.mplstyle", use_default_template=False)

INK, MUTED, RULE, PAPER = "#1b2127", "#5a6571", "#d9dfe5", "#fdfdfc"
"""Text, secondary text, grid and background; the page maps them to light or dark."""

SERIES: tuple[str, ...] = tuple(_STYLE["axes.prop_cycle"].by_key()["color"])
"""Colours of the series."""

SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"

_ROLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper"} | {
    color: f"s{place}" for place, color in enumerate(SERIES, 1)
}
_WIDTHS = {"wide": 7.6, "narrow": 4.05}
"""Inches of each drawing: on a screen of 390 pixels, the letters of the narrow one are 11 pixels high."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 0.86, 0.32, 0.26, 0.5
_NAMES = 1.75  # inches for the names of features
_BAR = 0.6  # inches for a scale of colours
_SAMPLE = 5  # letters that the sample of a line and the space around it take
_STACKED = 0.8  # height of a panel below others, over that of one beside them


def published(data: pd.DataFrame) -> pd.DataFrame:
    """Return a frame as its CSV has it: numbers with ten significant digits."""
    floats = data.select_dtypes("float")
    return data.assign(**{str(name): [float(f"{value:.10g}") for value in floats[name]] for name in floats})


Conclude = Callable[[pd.DataFrame], say.Claim]
"""Makes the conclusion of a frame of numbers."""


@dataclass(frozen=True)
class Exhibit:
    """What figures, tables and downloads share: numbers, and a conclusion that is a claim over them and nothing else.

    Attributes
    ----------
    name
        Lower-case words joined by hyphens; the file name of the numbers.
    data
        The numbers, for the CSV beside the page.
    conclude
        Makes the conclusion from the numbers as published; it raises where they contradict what the exhibit is for.
    """

    name: str
    data: pd.DataFrame
    conclude: Conclude

    def __post_init__(self) -> None:
        _ = self.conclusion  # a contradiction is an error already here

    @cached_property
    def conclusion(self) -> Claim:
        """The conclusion; it stands above the exhibit."""
        return self.conclude(published(self.data))


@dataclass(frozen=True)
class Chart(Exhibit):
    """One figure and its one conclusion.

    Attributes
    ----------
    figure
        What is drawn.
    alt
        Text alternative of the figure: what is drawn, not what it shows.
    """

    figure: Drawing
    alt: str
    kind: ClassVar[str] = "plot"

    @cached_property
    def body(self) -> str:
        """Its drawings."""
        return svg_text(self)

    def __post_init__(self) -> None:
        if self.data.empty:
            msg = f"figure {self.name} needs rows to draw, found none: check the frame it was given"
            raise ReportError(msg)
        super().__post_init__()


class Drawing(Figure):
    """A figure that is laid out for a wide and for a narrow screen, with margins in inches.

    Attributes
    ----------
    panels
        Its axes, row by row.
    bar
        Axes of the scale of colours, right of all panels.
    labels
        Labels of points of a line.
    """

    bar: Axes | None = None
    labels: PointLabels | None = None

    def __init__(self, rows: int, columns: int, height: float, left: float, bottom: float, **shared: Any) -> None:
        super().__init__(figsize=(_WIDTHS["wide"], height))
        self._columns, self._body, self._left, self._bottom = columns, height - _TOP - bottom, left, bottom
        self._shared = bool(shared.get("sharey"))
        self._ends: list[EndLabels] = []
        self._gaps = {"wspace": 0.26, "hspace": 0.16 if shared.get("sharex") else 0.55}
        self.panels: list[Axes] = list(self.subplots(rows, columns, squeeze=False, **shared).ravel())
        self._grid = GridSpec(rows, columns, figure=self, height_ratios=shared.get("height_ratios"))
        self.lay_out("wide")

    def lay_out(self, name: str) -> None:
        """Put margins and panels where they belong on a ``wide`` or ``narrow`` screen, and names above what is drawn.

        On a wide one, the last panel of a row has them on its right. On a narrow one, panels beside each other stand
        below each other, and labels are wrapped or left out.
        """
        width, body = _WIDTHS[name], self._body
        for ends in self._ends:
            ends.clear()
        last = self.panels[self._columns - 1 :: self._columns] if name == "wide" else []
        self._ends = [ends for ends in map(EndLabels, last) if ends.room]
        stacked = name == "narrow" and self._columns > 1
        self._place(stacked=stacked)
        body *= _STACKED * self._columns if stacked else 1.0
        self._margins(width, body, _TOP, self._bottom)
        rooms = [(panel, panel.get_position().width * width) for panel in self.panels]
        above = max((_name_above(panel, room) for panel, room in rooms if panel not in last), default=0)
        below = max(_fit_labels(panel, room) for panel, room in rooms)
        self._margins(width, body, _TOP + LINE * above, self._bottom + LINE * below)
        if self.labels:
            self.labels.place(*self.get_size_inches())
        for ends in self._ends:
            ends.place(*self.get_size_inches())

    def _place(self, *, stacked: bool) -> None:
        grid = GridSpec(len(self.panels), 1, figure=self) if stacked else self._grid
        for place, panel in enumerate(self.panels):
            panel.set_subplotspec(grid[place])
            panel.tick_params(labelleft=stacked or not self._shared or place % self._columns == 0)

    def _margins(self, width: float, body: float, top: float, bottom: float) -> None:
        room = max((ends.room for ends in self._ends), default=0.0)
        height, right = top + body + bottom, _RIGHT + (_BAR if self.bar else 0.0) + room
        self.set_size_inches(width, height)
        self.subplots_adjust(self._left / width, bottom / height, 1 - right / width, 1 - top / height, **self._gaps)
        if self.bar:
            self.bar.set_position((1 - (right - 0.16) / width, bottom / height, 0.1 / width, body / height))


def _name_above(panel: Axes, room: float) -> int:
    """Name the labelled lines above a panel, in as many columns as its room has; return the number of rows."""
    handles, english = panel.get_legend_handles_labels()
    if not english:
        return 0
    labels = [translated(label) for label in english]
    fit = int(room / LETTER / (max(map(len, labels)) + _SAMPLE))
    columns = min(max(fit, 1), len(labels))
    panel.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns)
    return -(-len(labels) // columns)


def _fit_labels(panel: Axes, room: float) -> int:
    """Wrap the label of the horizontal axis, leave out ticks that have no room; return the lines that were added."""
    label = textwrap.fill(translated(panel.get_xlabel().replace("\n", " ")), int(room / LETTER) + _SAMPLE)
    panel.set_xlabel(label)
    if isinstance(panel.xaxis.get_major_locator(), FixedLocator):
        ticks = [text.get_text() for text in panel.get_xticklabels()]
        letters = sum(max(map(len, text.split("\n"))) + 1 for text in ticks)
        if (step := math.ceil(letters * LETTER / room)) > 1:
            panel.set_xticks(panel.get_xticks()[::step], ticks[::step])
    return label.count("\n")


def canvas(height: float = 3.0, *, left: float = _LEFT, bottom: float = _BOTTOM) -> tuple[Drawing, Axes]:
    """Return an empty figure in the style of the pages and its one pair of axes.

    Parameters
    ----------
    height
        Inches; the width is that of the page.
    left, bottom
        Inches for the tick labels.
    """
    figure, axes = panels(1, 1, height, left=left, bottom=bottom)
    return figure, axes[0]


def panels(
    rows: int, columns: int, height: float, *, left: float = _LEFT, bottom: float = _BOTTOM, **shared: Any
) -> tuple[Drawing, list[Axes]]:
    """Return a figure with several axes, row by row."""
    _apply_style()
    figure = Drawing(rows, columns, height, left, bottom, **shared)
    return figure, figure.panels


def named_rows(names: list[str]) -> tuple[Drawing, Axes]:
    """Return a figure with one named row, such as a feature, from top to bottom."""
    figure, axes = canvas(0.7 + 0.19 * len(names), left=_NAMES)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(np.arange(len(names)), names)
    return figure, axes


def _apply_style() -> None:
    mpl.rcdefaults()
    mpl.rcParams.update(_STYLE)
    fonts = font_manager.fontManager
    fonts.ttflist = [font for font in fonts.ttflist if "mpl-data" in font.fname]


def date_axis(axes: Axes) -> None:
    """Give an axis of times few, short labels."""
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def thousands(axes: Axes) -> None:
    """Write the values of the vertical axis with thousands separated."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def zero_line(axes: Axes, label: str = "") -> None:
    """Draw the dashed line at zero: no change, no skill or no gain."""
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--", label=label or None)


def heat_map(figure: Drawing, axes: list[Axes], grids: list[pd.DataFrame], low: float, high: float) -> None:
    """Draw frames as heat maps with one colour scale: plain, and drawn as shapes; row names go down the left."""
    colors: dict[str, Any] = {"cmap": DIVERGING if low < 0 else SEQUENTIAL, "vmin": low, "vmax": high}
    for part, grid in zip(axes, grids, strict=True):
        places = grid.columns if grid.columns.dtype.kind in "iM" else np.arange(grid.shape[1])
        mesh = part.pcolormesh(
            places, np.arange(len(grid)), grid, shading="nearest", edgecolors="face", linewidth=0.5, **colors
        )
        part.grid(visible=False)
    axes[0].set_yticks(np.arange(len(grids[0])), list(grids[0].index))
    axes[0].invert_yaxis()
    figure.bar = figure.add_axes((0.9, 0.1, 0.02, 0.8))
    bar = figure.colorbar(mesh, cax=figure.bar)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
        bar.solids.set_edgecolor("face")


def candle_bars(axes: Axes, candles: pd.DataFrame, unit: str) -> None:
    """Draw candles: rising ones blue and hollow, falling ones orange and filled; some carry their time below."""
    place = np.arange(len(candles))
    for rising, color in ((True, SERIES[0]), (False, SERIES[1])):
        part = ((candles["close"] >= candles["open"]) == rising).to_numpy()
        rows = candles[part]
        axes.vlines(place[part], rows["low"], rows["high"], color=color, linewidth=0.8)
        fill: dict[str, Any] = {"color": "none" if rising else color, "edgecolor": color}
        axes.bar(place[part], rows["close"] - rows["open"], bottom=rows["open"], width=0.64, **fill)
    ticks = np.linspace(0, len(candles) - 1, 5).astype(int)
    axes.set_xticks(ticks, [candles["open_time"].iloc[tick].strftime("%d %b\n%H:%M") for tick in ticks])
    axes.set_xlim(-1, len(candles))
    axes.set_ylabel(str(say.claim("price, {unit}", unit=say.word(unit))) if unit else "price")
    thousands(axes)


def dots(axes: Axes, groups: pd.DataFrame, value: str, low: str, high: str) -> None:
    """Draw a percentage with its interval, one dot per group."""
    place = np.arange(len(groups))
    axes.vlines(place, 100 * groups[low], 100 * groups[high], color=SERIES[0], linewidth=2)
    axes.plot(place, 100 * groups[value], "o", color=SERIES[0])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, len(groups) - 0.4)


def svg_text(chart: Chart) -> str:
    """Draw a chart as two inline ``<svg>`` elements with a text alternative; the page shows the one that fits.

    Returns
    -------
    str
        The same for the same chart on every machine with the same matplotlib.
    """
    return "\n".join(_drawn(chart, name) for name in _WIDTHS)


def _drawn(chart: Chart, name: str) -> str:
    _apply_style()
    mpl.rcParams["svg.hashsalt"] = chart.name
    chart.figure.lay_out(name)
    stream = io.StringIO()
    chart.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return _inline(stream.getvalue(), chart, name)


def _inline(drawn: str, chart: Chart, name: str) -> str:
    text = drawn[drawn.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"| version="1.1"| xmlns:xlink="[^"]*"', "", text, count=3)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'( (?:d|points|x|y|x1|x2|y1|y2)=")([^"]*)"', _rounded, text)
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*", _font, text)
    text = re.sub(r"(<text[^>]*>)([^<]+)", lambda found: found[1] + _drawn_text(found[2]), text)
    text = _own_ids(text, f"{chart.name}-{name}")
    for color, role in _ROLES.items():
        text = text.replace(color, f"var(--{role},{color})")  # JupyterLab and nbconvert have no such variables
    label = translated(chart.alt).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    hidden = "display:none;" * (name == "narrow")  # the page shows it on a small screen
    style = f' style="{hidden}background:var(--paper,{PAPER});font-family:var(--sans,sans-serif)"'
    text = text.replace("<svg", f'<svg class="{name}" role="img" aria-label="{label}"{style}', 1)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _drawn_text(text: str) -> str:
    return escape(local_text(unescape(text)), quote=False)


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


Columns = Mapping[str, str | tuple[str, Callable[[Any], Quantity | str]]]
"""For each column that is shown: its heading, and how a value becomes text where that is not as its type does."""


@dataclass(frozen=True)
class Table(Exhibit):
    """A frame and how each of its columns is shown.

    Attributes
    ----------
    columns
        For each column that is shown: its heading, or heading and how a value becomes text (by its type:
        text, time, count or number with two decimals). The first one names the row.
    strong
        Names of the rows (values of the first column) that stand out.
    folded
        Whether the page shows it on demand only: a list to look something up in.
    """

    columns: Columns
    strong: tuple[str, ...] = ()
    folded: bool = False
    kind: ClassVar[str] = "table"

    @cached_property
    def body(self) -> str:
        """Its ``<table>``."""
        return table_html(self)

    def __post_init__(self) -> None:
        if missing := [name for name in self.columns if name not in self.data]:
            msg = f"table {self.name} shows the columns {', '.join(missing)}, which its frame does not have"
            raise ReportError(msg)
        super().__post_init__()


@dataclass(frozen=True)
class Tryout(Table):
    """Something that the reader tries on the page: `tryout.js` has a builder of its name; the table needs no script.

    Attributes
    ----------
    facts
        What it is built from: JSON values.
    """

    folded: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def placeholder(self) -> str:
        """Markup of the element that the script fills."""
        facts = json.dumps(self.facts, separators=(",", ":")).replace("<", "\\u003c")
        return f'<div class="tryout" data-kind="{self.name}"><script type="application/json">{facts}</script></div>\n'


@dataclass(frozen=True)
class Download(Exhibit):
    """Numbers that are too many to be shown, and a script for them.

    Attributes
    ----------
    script
        Python that needs nothing but the standard library and the file of the numbers.
    command
        What follows the file's name on the command line.
    """

    script: str
    command: str

    def html(self, file: str, digest: str) -> str:
        """Return the markup: link, hash of the content, command and script."""
        script = base64.b64encode(self.script.encode()).decode()
        return (
            f'<p class="download"><a href="data/{file}" download>{file}</a>, SHA-256 <code>{digest}</code></p>\n'
            f'<p><a href="data:text/x-python;base64,{script}" download="recompute.py">recompute.py</a>, '
            f"{translated('run as')} <code>python recompute.py {file} {escape(self.command)}</code>:</p>\n"
            f'<pre class="printed">{escape(self.script)}</pre>'
        )


def exhibit_html(item: Chart | Table, name: str, series: str) -> str:
    """Return a figure or table below its conclusion, with a link to its numbers in ``data/NAME.csv``.

    Parameters
    ----------
    item
        The figure or table.
    name
        Its id, and the name of its numbers.
    series
        Of what a figure is; it stands below the conclusion with what is drawn.
    """
    if isinstance(item, Chart):  # a screen reader has the subtitle from the drawing itself
        shown = f'<p class="drawn" aria-hidden="true">{escape(f"{translated(item.alt)} {series}.")}</p>\n{item.body}'
    else:
        shown = _scrolling(item)
    return (
        f'<figure id="{name}" class="{item.kind}"><figcaption>{escape(str(item.conclusion))}</figcaption>\n{shown}\n'
        f'<p class="numbers"><a href="data/{name}.csv" download>{translated("Numbers (CSV)")}</a></p></figure>'
    )


def _scrolling(table: Table) -> str:
    label = escape(translated(table.name))
    shown = f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">{table.body}</div>'
    if table.folded:
        rows = say.claim("Table of {rows}", rows=say.count(len(table.data), "row"))
        shown = f'<details class="fold"><summary>{rows}</summary>{shown}</details>'
    return table.placeholder + shown if isinstance(table, Tryout) else shown


def table_html(table: Table) -> str:
    """Return a ``<table>`` with headings in scope; a missing value is a dash."""
    labels = {name: given if isinstance(given, str) else given[0] for name, given in table.columns.items()}
    headings = "".join(
        f'<th scope="col"{_kind(table.data[name])}>{escape(translated(label))}</th>' for name, label in labels.items()
    )
    rows = "\n".join(_row(table, row) for _, row in table.data[list(labels)].iterrows())
    return f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(table: Table, row: pd.Series) -> str:
    cells = []
    for place, (name, given) in enumerate(table.columns.items()):
        shown = _format(table.data[name]) if isinstance(given, str) else given[1]
        text = "\N{EN DASH}" if pd.isna(row[name]) else escape(_cell(shown(row[name])))
        kind = _kind(table.data[name])
        cells.append(f'<th scope="row"{kind}>{text}</th>' if place == 0 else f"<td{kind}>{text}</td>")
    strong = ' class="strong"' if str(row[next(iter(table.columns))]) in table.strong else ""
    return f"<tr{strong}>{''.join(cells)}</tr>"


def _cell(shown: Quantity | str) -> str:
    return shown.text if isinstance(shown, Quantity) else local_text(str(shown))


def _format(column: pd.Series) -> Callable[[Any], Quantity | str]:
    """How a column is shown by its type."""
    kinds: dict[str, Callable[[Any], Quantity | str]] = {"M": say.minute, "i": say.count, "f": say.number}
    return kinds.get(column.dtype.kind, str)


def _kind(column: pd.Series) -> str:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return ' class="num"' if numeric else ""
