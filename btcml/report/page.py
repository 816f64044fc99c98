"""Executed notebooks into pages: one file each, nothing fetched, checked before it counts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbconvert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from btcml.errors import ReportError
from btcml.files import resource
from btcml.report.masthead import INDEX, PAGES
from btcml.report.runner import load_notebook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btcml.report.masthead import Page, Site

__all__ = ["HEAVIEST", "TEMPLATE", "chapter_page", "check_page", "layout", "render"]

TEMPLATE = resource("reports/template")
"""Our template: Jinja, CSS and JavaScript."""

HEAVIEST = 1_500_000
"""Bytes that no page may reach."""


_NEXT_CODE = re.compile(r'\s*</details>\s*<details class="code"><summary>Code</summary>\s*')
"""Where one cell's code follows another's with nothing shown between: one button opens both."""


def chapter_page(executed: Path, page: Page, site: Site) -> str:
    """Turn an executed notebook into its page.

    Raises
    ------
    ReportError
        If the page would not stand alone (see `check_page`).
    """
    exporter = nbconvert.HTMLExporter(  # type: ignore[no-untyped-call]
        template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)], exclude_anchor_links=True
    )
    body, _ = exporter.from_notebook_node(load_notebook(executed))
    body = _NEXT_CODE.sub("\n", body)
    place = PAGES.index(page)
    previous = PAGES[place - 1] if place else INDEX
    following = PAGES[place + 1] if place + 1 < len(PAGES) else None
    html = layout(body, page, site, previous=previous, following=following)
    return check_page(html, page.href)


def layout(
    body: str, page: Page, site: Site, *, pages: tuple[Page, ...] = (INDEX, *PAGES), **steps: Page | None
) -> str:
    """Put a body into the page that all share: bar, banner, contents, footer."""
    body = re.sub(r"<h2>(.*?)</h2>", _with_id, body)
    contents = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body)
    values: dict[str, Any] = {"previous": None, "following": None} | steps
    return render(
        "layout.html.j2",
        title=page.title,
        here=page.href,
        pages=pages,
        site=site,
        contents=contents,
        body=_safe(body),
        css=_safe((TEMPLATE / "page.css").read_text()),
        head_js=_safe((TEMPLATE / "page.js").read_text()),
        **values,
    )


def _with_id(heading: re.Match[str]) -> str:
    words = re.findall(r"[a-z0-9]+", heading[1].lower())
    return f'<h2 id="{"-".join(words)}">{heading[1]}</h2>'


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def _safe(text: str) -> Any:
    return _environment().filters["safe"](text)


def render(template: str, **values: Any) -> str:
    """Render one of our templates; a name that it does not get is an error."""
    return _environment().get_template(template).render(**values)


_FORBIDDEN = {
    r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']?(?:https?:)?//""": "an address outside the page",
    r"""(?:url\(|@import)\s*["']?(?:https?:)?//""": "a style sheet's address outside the page",
    r"Traceback \(most recent call last\)": "a traceback",
    r"0x[0-9a-f]{9,}": "a memory address",
    r">\s*(?:nan|NaN|inf|NaT|None)\s*<": "a value that is not a number",
    r"(?:/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\)": "a path of this machine",
}


def check_page(html: str, name: str, figures: Iterable[str] = ()) -> str:
    """Return the page if it may be shown: it stands alone, is light, and hides nothing.

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
