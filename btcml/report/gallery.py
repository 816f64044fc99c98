"""The page above several reports kept side by side: every verdict in one table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from btcml.candles import interval_delta
from btcml.errors import NotFoundError
from btcml.files import write_text
from btcml.report import claims as say
from btcml.report.index import facts_of
from btcml.report.masthead import PAGES, Page, Site
from btcml.report.page import check_page, layout, render

__all__ = ["build_gallery"]

_LABELS = ("Champion", "Skill", "Direction", "Coverage", "Size of the move", "Break-even fee")
_GALLERY = Page("gallery", "index.html", "All reports", "Reports")


@dataclass(frozen=True)
class _Report:
    series: str
    span: str
    until: str
    market: str
    href: str
    headline: str
    cards: dict[str, str]
    row: str
    interval: str
    order: tuple[str, int]


def build_gallery(folder: Path) -> Path:
    """Make ``index.html`` over every finished report below a folder, newest snapshot or not.

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
    reports = [_report(folder, path.parents[1]) for path in sorted(folder.glob("**/pages/manifest.json"))]
    if not reports:
        msg = f"a report was expected below {folder}, found none: make one with make report"
        raise NotFoundError(msg)
    served = sum("no model beats it" not in report.cards.get("Champion note", "") for report in reports)
    says = say.claim(
        "A model beats “no change” in {some} of {all}.",
        some=say.count(served),
        all=say.count(len(reports), "report"),
    )
    body = render("gallery.html.j2", reports=reports, labels=_LABELS, says=str(says), grid=_grid(reports))
    site = Site("binance", "", "", markets=tuple(sorted({report.market for report in reports})))
    return write_text(folder / "index.html", check_page(layout(body, _GALLERY, site, pages=()), "index.html"))


def _grid(reports: list[_Report]) -> dict[str, Any]:
    """Symbols by intervals: the report with the newest end, and the longest of those, in each cell."""
    cells = {(report.row, report.interval): report for report in sorted(reports, key=lambda found: found.order)}
    intervals = sorted({report.interval for report in reports}, key=interval_delta)
    rows = sorted({report.row for report in reports})
    return {"intervals": intervals, "rows": [(row, [cells.get((row, name)) for name in intervals]) for row in rows]}


def _report(folder: Path, run: Path) -> _Report:
    manifest = json.loads((run / "pages" / "manifest.json").read_text(encoding="utf-8"))
    given = manifest["parameters"]
    facts = {page.chapter: facts_of(run / "products", page.chapter) for page in PAGES}
    cards = [card for chapter in facts.values() for card in chapter["cards"]]
    shown = {card["label"]: card["value"] for card in cards} | {f"{card['label']} note": card["note"] for card in cards}
    until = shown.get("Span note", "")
    href = quote((run / "pages" / "index.html").relative_to(folder).as_posix())
    market = str(given["market"])
    return _Report(
        series=f"{given['symbol']} {given['interval']}",
        span=str(say.count(int(given["days"]), "day")),
        until=until,
        market=market,
        href=href,
        headline=facts["evaluation"]["headline"],
        cards=shown,
        row=f"{given['symbol']}, {market}",
        interval=str(given["interval"]),
        order=(until, int(given["days"])),
    )
