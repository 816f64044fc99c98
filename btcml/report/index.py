"""The page that opens the story: verdict, key figures, one picture, the way through, the words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from btcml.errors import ReportError
from btcml.report.glossary import GLOSSARY
from btcml.report.masthead import INDEX, PAGES
from btcml.report.page import layout, render

if TYPE_CHECKING:
    from pathlib import Path

    from btcml.report.masthead import Site

__all__ = ["PICTURE", "exhibit", "facts_of", "index_page"]

PICTURE = ("evaluation", "loss-difference")
"""The chapter and the name of the one picture on the opening page."""


def facts_of(products: Path, chapter: str) -> dict[str, Any]:
    """Headline and cards that a chapter left.

    Raises
    ------
    ReportError
        If it left none.
    """
    return _read(products / chapter / "facts.json")


def exhibit(products: Path, chapter: str, name: str) -> dict[str, Any]:
    """One figure or table that a chapter left: ``kind``, ``says`` and ``body``.

    Raises
    ------
    ReportError
        If it left none of that name.
    """
    return _read(products / chapter / f"{name}.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"a chapter should have left {path.parent.name}/{path.name}, found none that can be read: run it again"
        raise ReportError(msg) from error
    return found


def index_page(products: Path, site: Site) -> str:
    """Make ``index.html`` out of what the chapters left.

    Raises
    ------
    ReportError
        If a chapter left no headline or the one picture is missing.
    """
    facts = {page.chapter: facts_of(products, page.chapter) for page in PAGES}
    body = render(
        "index-page.html.j2",
        question=f"Can the next {site.symbol} candle be forecast?",
        verdict=facts["evaluation"]["headline"],
        cards=[card for chapter in facts.values() for card in chapter["cards"]],
        picture=exhibit(products, *PICTURE),
        way=[{"href": page.href, "title": page.title, "headline": facts[page.chapter]["headline"]} for page in PAGES],
        glossary=list(GLOSSARY.items()),
    )
    return layout(body, INDEX, site, following=PAGES[0])
