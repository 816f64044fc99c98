from __future__ import annotations

import json

import nbformat
import pytest
from nbformat import v4

from btcml.errors import ReportError
from btcml.report.masthead import INDEX, PAGES, Site, banner, provenance
from btcml.report.page import HEAVIEST, chapter_page, check_page, layout

SITE = Site("simulated", "BTCUSDT", "15m", (("Snapshot", "abc"),))


@pytest.mark.parametrize(
    ("html", "what"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "an address outside"),
        ('<link href="//cdn.example/x.css">', "an address outside"),
        ("<style>@import 'http://x.example';</style>", "style sheet's address"),
        ("<style>a{background:url(https://x.example/y.png)}</style>", "style sheet's address"),
        ("<pre>Traceback (most recent call last)</pre>", "a traceback"),
        ("<td>nan</td>", "not a number"),
        ("<td> NaT </td>", "not a number"),
        ("<pre>&lt;object at 0x7f2b4c0d1e50&gt;</pre>", "a memory address"),
        ("<pre>/home/me/btcml/x.py</pre>", "a path of this machine"),
    ],
)
def test_a_page_that_would_not_stand_alone_is_refused(html, what):
    """External addresses, NaN, tracebacks, addresses and paths never reach a reader."""
    with pytest.raises(ReportError, match=what):
        check_page(html, "x.html")


def test_a_page_without_its_figure_is_refused():
    """Every CSV has its figure on the page."""
    with pytest.raises(ReportError, match="lacks the figures eda-tails"):
        check_page('<figure id="eda-week">', "x.html", figures=["eda-week", "eda-tails"])


def test_a_figure_without_words_is_refused():
    """A picture that is drawn past the story has no text alternative."""
    with pytest.raises(ReportError, match="text alternative"):
        check_page("<svg><path/></svg>", "x.html")


def test_a_heavy_page_is_refused():
    """The limit is told with the weight."""
    with pytest.raises(ReportError, match="draw fewer points"):
        check_page("x" * HEAVIEST, "x.html")


def test_every_page_has_bar_banner_contents_steps_and_footer():
    """One layout: where am I, what market, what is here, what came before, from what it was made."""
    html = check_page(layout("<h2>One & two</h2>", PAGES[0], SITE, previous=INDEX, following=PAGES[1]), "x.html")
    for part in (
        'aria-current="page">Data',
        "Simulated market",
        '<a href="#one-two">',
        'rel="prev"',
        'rel="next"',
        "abc",
    ):
        assert part in html


def test_markup_in_a_name_is_escaped():
    """A market's name is text."""
    assert "<b>" not in layout("", INDEX, Site("file:x", "BTCUSDT", "5m", (("Snapshot", "<b>"),)))


@pytest.mark.parametrize(
    ("market", "word"), [("simulated", "Simulated"), ("replay:crash", "crash"), ("file:mine", "mine"), ("binance", "")]
)
def test_every_market_but_the_real_one_has_its_banner(market, word):
    """Nobody mistakes a made-up candle for a real one."""
    assert word in banner(market)
    assert bool(banner(market)) == (market != "binance")
    assert provenance(market).endswith(".")


def test_a_page_holds_no_clock():
    """The same body gives the same page."""
    assert json.dumps(layout("", INDEX, SITE)) == json.dumps(layout("", INDEX, SITE))


def test_code_of_cells_that_show_nothing_opens_with_the_next(tmp_path):
    """No row of bare buttons: between two figures, or above the first, there is one."""
    seen = [v4.new_output("display_data", data={"text/html": "<b>seen</b>"})]
    outputs = [[], [], [], seen, seen, [], [], []]
    cells = [v4.new_code_cell("go()", id=f"c{place}", outputs=said) for place, said in enumerate(outputs)]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    html = chapter_page(tmp_path / "x.ipynb", PAGES[0], SITE)
    body = html.split('<main id="main">')[1]
    parts = [part.count("<summary>Code</summary>") for part in body.split("<b>seen</b>")]
    assert parts == [1, 1, 1]
    assert body.count("<details") == body.count("</details>") == 3
    assert body.count('class="highlight') == 8
