"""The two widgets of the dashboard whose front end is our own: a chart, and the browser's side of a visit."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILES = Path(__file__).parent / "dashboard_files"
"""Folder that Jupyter searches for our template."""

STATIC = FILES / "voila" / "templates" / "btcml" / "static"
"""Folder of what a browser loads."""

LIBRARY_SHA256 = "1bb1ee79f9d4dd17261b53d930f7a8995748276f80e7ba0e24412b5068062f5f"
"""Of lightweight-charts 5.2.1, dist/lightweight-charts.standalone.production.mjs, unmodified (Apache 2.0)."""

_MODULES = {"chart.js": ("lightweight-charts.js", "layers.js"), "visit.js": ()}

_FROM_PAGE = """
const { static: folder, version } = document.body.dataset;
const widget = await import(new URL(`${folder}%s?v=${version}`, location.href));
export default widget.default;
"""

_LOADER = """
const made = {};
for (const [name, text] of files) {
  const linked = text.replace(/from "\\.\\/([\\w.-]+)"/g, (_, other) => `from "${made[other]}"`);
  made[name] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
}
const widget = await import(made[files[files.length - 1][0]]);
export default widget.default;
"""


def module_text(name: str, *, own_page: bool) -> str:
    """Front end of a widget: loaded from our page's server, or carried whole, for JupyterLab.

    Parameters
    ----------
    own_page
        Whether the page is ours; a notebook's front end knows no address of our files.
    """
    if own_page:
        return _FROM_PAGE % name
    files = [(file, (STATIC / file).read_text(encoding="utf-8")) for file in (*_MODULES[name], name)]
    return f"const files = {json.dumps(files)};\n{_LOADER}"


def style_text() -> str:
    """Style sheet of the page."""
    return (STATIC / "dashboard.css").read_text(encoding="utf-8")


def assets_hash() -> str:
    """Short hash of all files: a browser may keep them until it changes."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def columns(rows: Iterable[Mapping[str, Any]], *names: str) -> dict[str, list[Any]]:
    """Columns of rows, each sent once instead of with every row; rows without one of the values are left out.

    Examples
    --------
    >>> columns([{"time": 1, "value": 2.0}, {"time": 2, "value": None}], "time", "value")
    {'time': [1], 'value': [2.0]}
    """
    kept = [row for row in rows if all(row.get(name) is not None for name in names)]
    return {name: [row[name] for row in kept] for name in names}


class Chart(anywidget.AnyWidget):
    """A chart over time: lightweight-charts with a shared crosshair, zoom, reset and CSV.

    Attributes
    ----------
    look
        What is drawn: ``name``, ``series`` (``name, kind`` of candles, boxes, line, dots, bars or band,
        ``label, tone, pane, digits, unit``), ``panes``, ``keys``, ``hidden`` series, ``words``, ``locale``,
        ``zone``, ``step`` in seconds, and ``view``: a new one shows the whole span again.
    data
        Rows as JSON, packed: see `put`.
    title, say
        Heading, and one sentence of what the chart shows.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    look = traitlets.Dict().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    say = traitlets.Unicode().tag(sync=True)

    def __init__(self, name: str, *, own_page: bool = False) -> None:
        super().__init__(_esm=module_text("chart.js", own_page=own_page), look={"name": name, "series": [], "keys": []})

    def put(
        self,
        series: Mapping[str, Mapping[str, list[Any]]],
        *,
        spans: Iterable[tuple[int, int, str]] = (),
        marks: Mapping[str, list[tuple[int, str, str, str]]] | None = None,
    ) -> None:
        """Show rows.

        Parameters
        ----------
        series
            Columns by the name of a series: ``time`` in seconds, and ``value``, ``open, high, low, close``
            or ``lo, hi``; ``tone`` is a colour of the palette with an alpha, such as ``s3:.5``.
        spans
            Shaded spans: from, to, colour.
        marks
            By series: time, ``aboveBar`` or ``belowBar``, colour, words or none.
        """
        facts = {"series": series, "spans": list(spans), "marks": marks or {}}
        self.data = gzip.compress(json.dumps(facts, separators=(",", ":")).encode(), 2, mtime=0)


class Visit(anywidget.AnyWidget):
    """The browser of a visit: its language and zone, the address as a link, the countdown, a lost kernel.

    Attributes
    ----------
    page
        ``theme, lang, title, state`` (written into the address), ``sleep_s``, and words of a lost kernel.
    countdown
        ``until`` in seconds of the epoch with words for each case, or ``fixed`` words.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    page = traitlets.Dict({"theme": "auto", "state": None}).tag(sync=True)
    countdown = traitlets.Dict().tag(sync=True)

    def __init__(self, *, own_page: bool = False) -> None:
        super().__init__(_esm=module_text("visit.js", own_page=own_page), _css="" if own_page else style_text())
