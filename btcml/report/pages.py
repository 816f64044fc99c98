"""Executed notebooks into pages: chapters, opening page, slides and the page above several reports.

Each page is one file, fetches nothing, and is checked before it counts. The chapters are the numbered
notebooks of a folder, in the order of their names: the title is a notebook's first heading, and its metadata
may hold ``{"btcml": {"short": "Market", "needs": ["training"]}}``, the name in the bar and the chapters whose
products it reads.
"""

from __future__ import annotations

import json
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import nbconvert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from btcml.candles import interval_delta
from btcml.errors import NotFoundError, ReportError
from btcml.files import resource, write_text
from btcml.report import claims as say
from btcml.report.execute import load_notebook
from btcml.report.language import LANGUAGES, counted, in_language, language, translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbformat import NotebookNode


TEMPLATE = resource("reports/template")
"""Our template: Jinja, CSS and JavaScript."""

HEAVIEST = 1_500_000
"""Bytes that no page may reach."""


@dataclass(frozen=True)
class Page:
    """One page: its chapter, file, title, the short name in the bar above, and the chapters that it needs."""

    chapter: str
    href: str
    title: str
    short: str
    needs: tuple[str, ...] = ()

    @property
    def notebook(self) -> str:
        """File of the notebook."""
        return f"{Path(self.href).stem}.ipynb"


INDEX = Page("index", "index.html", "Can the next candle be forecast?", "Start")
SLIDES = Page("slides", "slides.html", "In pictures", "Slides")
_ALL = Page("gallery", "index.html", "All reports", "Reports")


def find_chapters(notebooks: Path) -> tuple[Page, ...]:
    """Return the chapters of a folder, in order; one that cannot be read is reported when it runs."""
    return tuple(_chapter(path) for path in sorted(notebooks.glob("[0-9]*-*.ipynb")))


def _chapter(path: Path) -> Page:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own, cells = content["metadata"].get("btcml", {}), content["cells"]
    except (ValueError, KeyError, AttributeError, TypeError):
        own, cells = {}, []
    name = path.stem.split("-", 1)[1]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    title = found[1] if (found := re.search(r"^# (.+)$", prose, re.MULTILINE)) else name.capitalize()
    return Page(name, f"{path.stem}.html", title, own.get("short", name.capitalize()), tuple(own.get("needs", ())))


_MIXED = (
    "Not all of these reports are of the real market: “simulated” was made by a program, and replays and files are "
    "not fetched from the exchange. The column “Market” shows the source of each."
)


_SIMULATED = (
    "Simulated market: a program made these candles, and their direction has one small, documented predictability. "
    "They say nothing about the real market."
)


@dataclass(frozen=True)
class Site:
    """Data that every page of one report shows.

    Attributes
    ----------
    market, symbol, interval
        The series.
    pages
        The chapters in order; none on a page over several reports.
    footer
        Names and short hashes of what the pages were made from.
    markets
        All markets of a page over several reports; its banner names each.
    """

    market: str
    symbol: str
    interval: str
    pages: tuple[Page, ...] = ()
    footer: tuple[tuple[str, str], ...] = ()
    markets: tuple[str, ...] = ()

    @property
    def banner(self) -> str:
        """The sentence above every page that is not of the real market alone; empty on those that are."""
        if len(self.markets) > 1 and set(self.markets) != {"binance"}:
            return translated(_MIXED)
        return banner(self.markets[0] if self.markets else self.market)

    @property
    def question(self) -> str:
        """The question of the report."""
        return str(say.claim("Can the next {symbol} candle be forecast?", symbol=say.word(self.symbol)))


def banner(market: str) -> str:
    """Return the notice about a market that is not the real one.

    Examples
    --------
    >>> banner("binance")
    ''
    >>> banner("simulated")[:16]
    'Simulated market'
    """
    kind, _, name = market.partition(":")
    if kind == "binance":
        return ""
    notice = say.cases(
        (kind == "simulated", _SIMULATED),
        (kind == "replay", "Replayed market “{name}”: these candles came from a replay server, not from the exchange."),
        (kind == "file", "Candles of the file “{name}”: taken as the file has them, not fetched from the exchange."),
        name=say.word(name or kind),
    )
    return str(notice)


# ---- chapters ----
_NEXT_CODE = re.compile(r'\s*</details>\s*<details class="code"><summary>[^<]*</summary>\s*')
"""Where one cell's code follows another's with nothing shown between: one button opens both."""

_FRAME = re.compile(
    r'(<div>\s*<style[^>]*>.*?</style>\s*)?(<table[^>]*class="dataframe">.*?</table>)(?:\s*<p>\d+ rows.*?</p>)?',
    re.DOTALL,
)
"""A data frame as pandas shows it, with or without a style of its own."""


def chapter_page(executed: Path, page: Page, site: Site) -> str:
    """Turn an executed notebook into its page.

    Raises
    ------
    ReportError
        If the page is not valid (see `check_page`).
    """
    exporter = nbconvert.HTMLExporter(  # type: ignore[no-untyped-call]
        template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)], exclude_anchor_links=True
    )
    exporter.register_filter("translated", translated)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(_translated(load_notebook(executed)))
    body = _FRAME.sub(_frame, _NEXT_CODE.sub("\n", body))
    return check_page(layout(body, page, site), page.href)


def _translated(notebook: NotebookNode) -> NotebookNode:
    """Translate the prose, paragraph by paragraph."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = "\n\n".join(map(_paragraph, cell.source.split("\n\n")))
    return notebook


def _paragraph(text: str) -> str:
    marks = re.match(r"(#+ )?", text)
    return f"{marks[0]}{translated(text[marks.end() :])}" if marks else text


def _frame(found: re.Match[str]) -> str:
    """Return a frame in the style of the page: it scrolls by itself, and a missing value is a dash."""
    table = re.sub(r'<table[^>]*class="dataframe">', '<table class="frame">', found[2])
    table = re.sub(r">\s*(?:NaN|NaT|None)\s*<", ">\N{EN DASH}<", table.replace(' style="text-align: right;"', ""))
    label = translated("Rows of a table")
    scroll = f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">{table}</div>'
    return f"<div>{scroll}" if found[1] else scroll


def layout(body: str, page: Page, site: Site) -> str:
    """Put a body into the page that all share: bar, banner, contents, steps, footer."""
    body = re.sub(r"<h2>(.*?)</h2>", _with_id, body)
    scripts = ("page", "tryout") if 'class="tryout"' in body else ("page",)
    bar = (INDEX, *site.pages) if site.pages else ()
    place = bar.index(page) if page in bar else len(bar)
    return render(
        "layout.html.j2",
        title=translated(page.title),
        here=page.href,
        pages=bar,
        site=site,
        contents=re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body),
        body=body,
        previous=bar[place - 1] if 0 < place < len(bar) else None,
        following=bar[place + 1] if place + 1 < len(bar) else None,
        css=(TEMPLATE / "page.css").read_text(),
        head_js="".join(render(f"{name}.js") for name in scripts),
    )


def _with_id(heading: re.Match[str]) -> str:
    words = re.findall(r"[a-z0-9]+", _plain_letters(heading[1].lower()))
    return f'<h2 id="{"-".join(words)}">{heading[1]}</h2>'


def _plain_letters(text: str) -> str:
    """Return a text without accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


@cache
def environment() -> Environment:
    """Return what renders our templates: their texts are translated, and a name that is not given is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATE),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.install_gettext_callables(translated, counted, newstyle=False)  # type: ignore[attr-defined]
    return made


def render(template: str, **values: Any) -> str:
    """Render one of our templates in the language of the report."""
    return environment().get_template(template).render(language=language(), **values)


_FORBIDDEN = {
    r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']?(?:https?:)?//""": "an address outside the page",
    r"""(?:url\(|@import)\s*["']?(?:https?:)?//""": "a style sheet's address outside the page",
    r"Traceback \(most recent call last\)": "a traceback",
    r"0x[0-9a-f]{9,}": "a memory address",
    r">\s*(?:nan|NaN|inf|NaT|None)\s*<": "a value that is not a number",
    r"(?:/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\)": "a path of this machine",
}


def check_page(html: str, name: str, figures: Iterable[str] = ()) -> str:
    """Return the page if it is valid: self-contained, small enough, and without errors.

    Raises
    ------
    ReportError
        If it names an external address, a path or memory address of this machine, shows NaN or a
        traceback, lacks a figure or a figure's text, or weighs too much.
    """
    for pattern, what in _FORBIDDEN.items():
        if found := re.search(pattern, html):
            around = html[max(0, found.start() - 40) : found.end() + 40].replace("\n", " ")
            msg = f"page {name} holds {what}: …{around}…: remove it from the chapter"
            raise ReportError(msg)
    if missing := [figure for figure in figures if f'id="{figure}"' not in html]:
        msg = f"page {name} lacks the figures {', '.join(missing)}: run its chapter again"
        raise ReportError(msg)
    if any("aria-label" not in tag for tag in re.findall(r"<svg[^>]*>", html)):
        msg = f"page {name} has a figure without a text alternative: show it through the story"
        raise ReportError(msg)
    if (weight := len(html.encode())) >= HEAVIEST:
        msg = f"page {name} must stay under {HEAVIEST:,} bytes, found {weight:,}: draw fewer points"
        raise ReportError(msg)
    return html


# ---- first page and slides ----
PICTURES: tuple[tuple[str, str, str], ...] = (
    ("eda", "price-and-volume", "The market"),
    ("ingest", "calendar", "The data"),
    ("eda", "memory", "Memory of direction and size"),
    ("features", "information", "What a model may know"),
    ("evaluation", "loss-difference", "The test"),
    ("evaluation", "direction-calibration", "Direction"),
    ("evaluation", "size-forecasts", "How large the move will be"),
    ("evaluation", "skill-by-horizon", "Beyond the next candle"),
    ("evaluation", "fan", "The next hours"),
    ("evaluation", "coverage", "Prediction intervals"),
)
"""Chapter, picture and heading of each slide after the first."""

_OPTIONAL = {"direction-calibration", "skill-by-horizon", "fan", "coverage"}
"""Results that may be a sentence where there is nothing to draw."""


def _product(products: Path, chapter: str, name: str) -> dict[str, Any]:
    """Headline and cards of a chapter (``facts``), or one of its figures and tables."""
    try:
        found: dict[str, Any] = json.loads((products / chapter / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"a chapter should have left {chapter}/{name}.json, found none that can be read: run it again"
        raise ReportError(msg) from error
    return found


def index_page(products: Path, site: Site) -> str:
    """Make ``index.html`` from the results of the chapters.

    Raises
    ------
    ReportError
        If a chapter left no headline or the one picture is missing.
    """
    facts = {page.chapter: _product(products, page.chapter, "facts") for page in site.pages}
    last = _product(products, "evaluation", "facts")
    body = render(
        "index-page.html.j2",
        question=site.question,
        verdict=last["headline"],
        answers=last.get("answers", []),
        cards=[card for chapter in facts.values() for card in chapter["cards"]],
        picture=_product(products, "evaluation", "loss-difference"),
        forecasts=(products / "evaluation" / "forecasts.csv").exists(),
        way=[{"page": page, "headline": facts[page.chapter]["headline"]} for page in site.pages],
    )
    return layout(body, INDEX, site)


def slides_page(products: Path, site: Site) -> str:
    """Make ``slides.html``: a title slide, one slide per picture, and the verdict with the three answers.

    Raises
    ------
    ReportError
        If a picture is missing.
    """
    slides = [
        {"title": translated(title), "picture": _product(products, chapter, name)}
        for chapter, name, title in PICTURES
        if (products / chapter / ("facts.json" if name not in _OPTIONAL else f"{name}.csv")).exists()
    ]
    facts = _product(products, "evaluation", "facts")
    return render(
        "slides.html.j2",
        site=site,
        verdict=facts["headline"],
        answers=facts.get("answers", []),
        slides=slides,
        css=(TEMPLATE / "page.css").read_text() + (TEMPLATE / "slides.css").read_text(),
        head_js=(TEMPLATE / "slides.js").read_text(),
    )


# ---- several reports ----
_LABELS = ("Champion", "Skill", "Direction", "Coverage", "Size of the move", "Break-even fee")


def build_gallery(folder: Path) -> Path:
    """Make ``index.html`` over every finished report below a folder, newest snapshot or not.

    A report that is being built again, or was interrupted, is left out. Where there are reports in several languages,
    those beside the first have ``index.LANGUAGE.html``.

    Parameters
    ----------
    folder
        Holds run folders at any depth, each with ``pages/manifest.json``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    NotFoundError
        If there is no report below the folder.
    """
    reports = []
    for path in sorted(folder.glob("**/pages/manifest.json")):
        with suppress(ReportError):
            reports.append(_report(folder, path.parents[1]))
    if not reports:
        msg = f"a report was expected below {folder}, found none: make one with make report"
        raise NotFoundError(msg)
    spoken = [name for name in LANGUAGES if any(report["language"] == name for report in reports)]
    for name in LANGUAGES[1:]:
        (folder / f"index.{name}.html").unlink(missing_ok=True)
    for name in spoken[1:]:
        _gallery_page([report for report in reports if report["language"] == name], folder / f"index.{name}.html")
    return _gallery_page([report for report in reports if report["language"] == spoken[0]], folder / "index.html")


def _gallery_page(reports: list[dict[str, Any]], file: Path) -> Path:
    """Write the page over reports of one language."""
    with in_language(reports[0]["language"]):
        return write_text(file, check_page(_gallery(reports), file.name))


def _gallery(reports: list[dict[str, Any]]) -> str:
    champion = translated("Champion")
    served = sum(report["cards"].get(champion) != str(say.model("persistence")) for report in reports)
    conclusion = say.claim(
        "A model is champion over “no change” in {some} of {all}.",
        some=say.count(served),
        all=say.count(len(reports), "report"),
    )
    labels = [translated(label) for label in _LABELS]
    body = render("gallery.html.j2", reports=reports, labels=labels, says=str(conclusion), grid=_grid(reports))
    site = Site("binance", "", "", markets=tuple(sorted({report["market"] for report in reports})))
    return layout(body, _ALL, site)


def _grid(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Symbols by intervals: the report with the newest end, and the longest of those, in each cell."""
    newest = sorted(reports, key=lambda report: (report["end"], report["days"]))
    cells = {(report["row"], report["interval"]): report for report in newest}
    intervals = sorted({report["interval"] for report in reports}, key=interval_delta)
    rows = sorted({report["row"] for report in reports})
    return {"intervals": intervals, "rows": [(row, [cells.get((row, name)) for name in intervals]) for row in rows]}


def _report(folder: Path, run: Path) -> dict[str, Any]:
    """Language, parameters and key figures of one report, as the gallery shows them."""
    manifest = json.loads((run / "pages" / "manifest.json").read_text(encoding="utf-8"))
    with in_language(manifest.get("language", LANGUAGES[0])):
        return _shown(folder, run, manifest["parameters"]) | {"language": language()}


def _shown(folder: Path, run: Path, given: dict[str, Any]) -> dict[str, Any]:
    products = run / "products"
    facts = {path.parent.name: _product(products, path.parent.name, "facts") for path in products.glob("*/facts.json")}
    cards = {card["label"]: card for chapter in facts.values() for card in chapter["cards"]}
    until = cards[span]["note"] if (span := translated("Span")) in cards else ""
    date = re.findall(r"\d+", until)
    return given | {
        "series": f"{given['symbol']} {given['interval']}",
        "row": f"{given['symbol']}, {given['market']}",
        "span": str(say.count(int(given["days"]), "day")),
        "until": until,
        "end": date if re.search(r"\d{4}-", until) else date[::-1],  # year first
        "href": quote((run / "pages" / "index.html").relative_to(folder).as_posix()),
        "headline": _product(products, "evaluation", "facts")["headline"],
        "cards": {label: card["value"] for label, card in cards.items()},
        "notes": {label: card["note"] for label, card in cards.items()},
    }
