"""Labels of points and ends of lines, which cover neither a line nor each other.

Where they stand follows from the number of their letters, not from the measures of a font, so that it is the same on
every machine. All lengths are inches, from the lower left corner of the panel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, cast

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator
from scipy.optimize import isotonic_regression

from btcml.report.language import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from numpy.typing import NDArray

LINE, LETTER = 0.18, 0.078
"""Inches of a line of text, and of a letter."""

_SIZE, _DIGIT, _OTHER = 9, 0.08, 0.068  # points of a label, inches of a digit in it and of another letter
_GAP, _EDGE = 0.09, 0.04  # inches above or below a label between it and the line, and on its other sides
_BASELINE = 0.05  # inches of a line of text that are below its letters
_FAR = 0.2  # inches between a point and its label from which on a stem is drawn
_ONE_LINE = 0.65  # share of the panel that one line of a label may take
_ALIGNMENTS = (0.5, 0.25, 0.75, 0.0, 1.0)  # share of a label that is left of its point
_TICKS = 5
_PAST, _STEM = 0.22, 0.17  # inches between a panel and the names of lines, and of the stems to them


@dataclass(frozen=True)
class PointLabel:
    """What is written beside a point of a line.

    Attributes
    ----------
    point
        Which point of the line it is.
    rows
        Rows of texts; those of one row stand on one line where there is room, else below each other.
    above
        Whether it stands above the line or below it; None where either will do.
    """

    point: int
    rows: tuple[tuple[str, ...], ...]
    above: bool | None = None

    def lines(self, width: float) -> list[str]:
        """Return its lines of text in a panel of this width."""
        whole = [(", ".join(row), row) for row in self.rows]
        return [text for one, row in whole for text in ((one,) if _length(one) <= _ONE_LINE * width else row)]


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: _Box) -> bool:
        """Whether both have more than an edge in common."""
        beside = self.left < other.right and other.left < self.right
        return beside and self.bottom < other.top and other.bottom < self.top


@dataclass(frozen=True)
class _Place:
    """A label at one of its places: its lines, the box around them, and its point."""

    lines: list[str]
    box: _Box
    x: float
    y: float

    @property
    def ends(self) -> tuple[float, float]:
        """Heights of the point and of the nearest edge of the label."""
        return self.y, self.box.bottom if self.box.bottom > self.y else self.box.top

    @property
    def far(self) -> float:
        """Distance between the point and the label."""
        return abs(self.ends[1] - self.ends[0])


@dataclass(frozen=True)
class _Panel:
    """A panel with its line and labels: horizontal places are inches, vertical ones shares of the line's height."""

    width: float
    height: float
    line: NDArray[np.float64]
    labels: tuple[PointLabel, ...]

    @property
    def bands(self) -> tuple[float, float]:
        """Heights that are kept free below and above the line, for the labels that stand there."""
        sides = [[label for label in self.labels if label.above in {above, None}] for above in (False, True)]
        below, above = (max((len(label.lines(self.width)) for label in side), default=0) for side in sides)
        return LINE * below + _GAP + _EDGE, LINE * above + _GAP + _EDGE

    def places(self) -> tuple[_Place, ...] | None:
        """Return where the labels stand, as near to their points as they can; None where some would meet."""
        below, above = self.bands
        scale = np.array([1.0, self.height - below - above])
        line = self.line * scale + [0.0, below]
        choices = product(*([*self._choices(label, line)] for label in self.labels))
        free = [
            places for places in choices if not any(one.box.meets(other.box) for one, other in combinations(places, 2))
        ]
        return min(free, key=lambda places: round(sum(place.far for place in places), 2), default=None)

    def _choices(self, label: PointLabel, line: NDArray[np.float64]) -> Iterator[_Place]:
        """Places of a label right above and right below the line, on either side of its point."""
        lines = label.lines(self.width)
        wide, high = max(map(_length, lines)) + 2 * _EDGE, LINE * len(lines)
        x, y = line[label.point]
        for above, share in product((True, False), _ALIGNMENTS):
            left = min(max(x - share * wide, 0.0), self.width - wide)
            reached = _heights(line, left, left + wide)
            bottom = float(reached.max()) + _GAP if above else float(reached.min()) - _GAP - high
            if label.above in {above, None}:
                yield _Place(lines, _Box(left, bottom, left + wide, bottom + high), x, y)


def _length(text: str) -> float:
    """Return about the inches that a text takes, rather more than less."""
    digits = sum(map(str.isdecimal, text))
    return _DIGIT * digits + _OTHER * (len(text) - digits)


def _heights(line: NDArray[np.float64], left: float, right: float) -> NDArray[np.float64]:
    """Heights of a line between two places."""
    x, y = line.T
    inside = (x > left) & (x < right)
    return np.concatenate([np.interp([left, right], x, y), y[inside]])


def _merged(labels: tuple[PointLabel, ...]) -> tuple[PointLabel, ...]:
    """Join each label that has no side to the nearest of those that have one."""
    fixed = [label for label in labels if label.above is not None]
    for label in (label for label in labels if label.above is None):
        near = min(range(len(fixed)), key=lambda place: abs(fixed[place].point - label.point))
        fixed[near] = replace(fixed[near], rows=fixed[near].rows + label.rows)
    return tuple(fixed)


class PointLabels:
    """Labels of points of a line, which `place` puts where the panel of a drawing has room for them.

    Parameters
    ----------
    axes
        The panel; the line, with at least two different values, is the first that was drawn there.
    labels
        At most one above, one below and one on either side, which joins one of the others where there is no room.
    """

    def __init__(self, axes: Axes, labels: Iterable[PointLabel]) -> None:
        self._axes, self._labels = axes, tuple(labels)
        self._line = np.asarray(axes.lines[0].get_xydata())
        self._low, self._high = self._line[:, 1].min(), self._line[:, 1].max()
        self._artists: list[Artist] = []

    def place(self, width: float, height: float) -> None:
        """Put the labels into a drawing of this size; the vertical axis grows by the room that they take."""
        for artist in self._artists:
            artist.remove()
        corner = self._axes.get_position()
        size = corner.width * width, corner.height * height
        panel = self._panel(self._labels, *size)
        places = panel.places()
        if places is None:
            panel = self._panel(_merged(self._labels), *size)
            places = panel.places() or ()
        self._limit(panel)
        self._artists = [artist for place in places for artist in self._draw(place, panel)]

    def _panel(self, labels: tuple[PointLabel, ...], width: float, height: float) -> _Panel:
        first, last = self._axes.get_xlim()
        line = (self._line - [first, self._low]) / [(last - first) / width, self._high - self._low]
        return _Panel(width, height, line, labels)

    def _limit(self, panel: _Panel) -> None:
        """Give the axis its limits, and ticks only where the line is: none is below all prices."""
        below, above = panel.bands
        inch = (self._high - self._low) / (panel.height - below - above)
        self._axes.set_ylim(self._low - below * inch, self._high + above * inch)
        ticks = np.asarray(MaxNLocator(_TICKS).tick_values(self._low, self._high))
        self._axes.yaxis.set_major_locator(FixedLocator(ticks[(ticks >= self._low) & (ticks <= self._high)]))

    def _draw(self, place: _Place, panel: _Panel) -> Iterator[Artist]:
        box, inside = place.box, self._axes.transAxes
        for row, text in enumerate(reversed(place.lines)):
            x, y = (box.left + box.right) / 2 / panel.width, (box.bottom + LINE * row + _BASELINE) / panel.height
            yield self._axes.text(x, y, text, transform=inside, ha="center", va="baseline", fontsize=_SIZE)
        if place.far > _FAR:
            x, color = place.x / panel.width, mpl.rcParams["axes.edgecolor"]
            ends = [end / panel.height for end in place.ends]
            stem = Line2D([x, x], ends, transform=inside, color=color, linewidth=0.8, zorder=1.5)
            yield self._axes.add_artist(stem)


class EndLabels:
    """Names of what is drawn in a panel, right of it: as high as its right end, apart from each other, with a stem.

    Parameters
    ----------
    axes
        The panel; lines, dots and bands that have a label are named.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        drawn, names = axes.get_legend_handles_labels()
        self._drawn = cast("list[Line2D | PolyCollection]", drawn)
        self._names = [translated(name) for name in names]
        self._artists: list[Artist] = []

    @property
    def room(self) -> float:
        """Inches that they take; 0 where nothing has a label."""
        return _PAST + max(map(_length, self._names)) if self._names else 0.0

    def clear(self) -> None:
        """Take them out of the drawing."""
        for artist in self._artists:
            artist.remove()

    def place(self, width: float, height: float) -> None:
        """Put them into a drawing of this size, in place of a legend."""
        if legend := self._axes.get_legend():
            legend.remove()
        corner = self._axes.get_position()
        wide, high = corner.width * width, corner.height * height
        ends = np.array([_right_end(self._axes, artist) for artist in self._drawn]).reshape(-1, 2)
        heights = apart(ends[:, 1] * high, LINE) / high
        for artist, name, (x, y), at in zip(self._drawn, self._names, ends, heights, strict=True):
            inside, color = self._axes.transAxes, _color(artist)
            stem = Line2D(
                [x, 1.0, 1 + _STEM / wide], [y, y, at], transform=inside, color=color, linewidth=1, clip_on=False
            )
            text = self._axes.text(1 + _PAST / wide, at, name, transform=inside, va="center", fontsize=_SIZE)
            self._artists += [self._axes.add_artist(stem), text]


def _right_end(axes: Axes, artist: Line2D | PolyCollection) -> NDArray[np.float64]:
    """Last point of a line, or upper right corner of a band, as shares of its panel."""
    axes.get_xlim(), axes.get_ylim()  # they are final from here on
    if isinstance(artist, Line2D):
        points, onto = np.asarray(artist.get_xydata()), artist.get_transform()
        end = points[np.isfinite(points).all(axis=1)][-1]
    else:
        points, onto = np.asarray(artist.get_paths()[0].vertices), axes.transData
        end = points[np.lexsort((points[:, 1], points[:, 0]))[-1]]
    return np.asarray(axes.transAxes.inverted().transform(onto.transform(end)))


def _color(artist: Line2D | PolyCollection) -> str:
    if isinstance(artist, Line2D):
        return to_hex(artist.get_color())
    red, green, blue, _ = np.asarray(artist.get_facecolor())[0]
    return to_hex((red, green, blue))


def apart(places: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Move places apart to at least a distance, in their order and as little as that takes, by least squares.

    Examples
    --------
    >>> apart(np.array([1.0, 1.25, 3.0]), 0.5).tolist()
    [0.875, 1.375, 3.0]
    """
    order = np.argsort(places, kind="stable")
    steps = least * np.arange(len(places))
    found = np.empty(len(places))
    found[order] = isotonic_regression(places[order] - steps).x + steps
    return found
