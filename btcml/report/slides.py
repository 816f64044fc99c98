"""The story in ten pictures: keyboard, touch, and print to PDF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btcml.report.index import exhibit, facts_of
from btcml.report.page import TEMPLATE, render

if TYPE_CHECKING:
    from pathlib import Path

    from btcml.report.masthead import Site

__all__ = ["PICTURES", "slides_page"]

PICTURES: tuple[tuple[str, str, str], ...] = (
    ("eda", "price-and-volume", "The market"),
    ("ingest", "calendar", "The data"),
    ("eda", "tails", "Moves are wild"),
    ("eda", "memory", "Direction forgets, size remembers"),
    ("features", "information", "What a model may know"),
    ("evaluation", "loss-difference", "The test"),
    ("evaluation", "direction-calibration", "Up or down"),
    ("evaluation", "size-forecasts", "How far it goes"),
    ("evaluation", "coverage", "How sure"),
    ("evaluation", "fees", "Is it money"),
)
"""Chapter, picture and heading of each slide after the first."""

_MAY_LACK = {"direction-calibration", "coverage", "fees"}
"""What a chapter tells in a sentence where there is nothing to draw."""


def slides_page(products: Path, site: Site) -> str:
    """Make ``slides.html``: a title slide with the verdict and one slide a picture.

    Raises
    ------
    ReportError
        If a picture is missing.
    """
    shown = [
        (chapter, name, title)
        for chapter, name, title in PICTURES
        if name not in _MAY_LACK or (products / chapter / f"{name}.csv").exists()
    ]
    slides = [{"title": title, "picture": exhibit(products, chapter, name)} for chapter, name, title in shown]
    return render(
        "slides.html.j2",
        site=site,
        question=f"Can the next {site.symbol} candle be forecast?",
        verdict=facts_of(products, "evaluation")["headline"],
        slides=slides,
        css=(TEMPLATE / "page.css").read_text() + (TEMPLATE / "slides.css").read_text(),
        head_js=(TEMPLATE / "slides.js").read_text(),
    )
