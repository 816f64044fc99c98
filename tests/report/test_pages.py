from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat import v4

from btcml.errors import NotFoundError, ReportError
from btcml.report.charts.ingest import provenance
from btcml.report.manifest import NOTEBOOKS
from btcml.report.pages import (
    HEAVIEST,
    INDEX,
    Site,
    banner,
    build_gallery,
    chapter_page,
    check_page,
    find_chapters,
    index_page,
    layout,
)

PAGES = find_chapters(NOTEBOOKS)
SITE = Site("simulated", "BTCUSDT", "15m", PAGES, (("Snapshot", "abc"),))


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
    """The message has the limit and the size."""
    with pytest.raises(ReportError, match="draw fewer points"):
        check_page("x" * HEAVIEST, "x.html")


def test_every_page_has_bar_banner_contents_steps_and_footer():
    """One layout: where am I, what market, what is here, what came before, from what it was made."""
    html = check_page(layout("<h2>One & two</h2>", PAGES[0], SITE), "x.html")
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
    assert "<b>" not in layout("", INDEX, Site("file:x", "BTCUSDT", "5m", PAGES, (("Snapshot", "<b>"),)))


@pytest.mark.parametrize(
    ("market", "word"), [("simulated", "Simulated"), ("replay:crash", "crash"), ("file:mine", "mine"), ("binance", "")]
)
def test_every_market_but_the_real_one_has_its_banner(market, word):
    """A simulated candle is never shown as a real one."""
    assert word in banner(market)
    assert bool(banner(market)) == (market != "binance")
    assert str(provenance(market)).endswith(".")


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


@pytest.fixture
def built(tmp_path, built_once) -> Path:
    return shutil.copytree(built_once / "run", tmp_path / "run")


def test_the_first_page_opens_with_the_three_answers(built):
    """Before any key figure stands what is knowable, each answer with its reason."""
    facts = built / "products" / "evaluation" / "facts.json"
    answer = {"label": "How far?", "value": "very well", "note": "most of it"}
    facts.write_text(json.dumps({"headline": "So it is.", "cards": [], "answers": [answer]}))
    page = index_page(built / "products", SITE)
    assert page.index("So it is.") < page.index("How far?") < page.index("most of it") < page.index('class="cards"')


def test_several_reports_have_one_gallery(built, tmp_path):
    """The gallery links every report and shows every verdict."""
    page = build_gallery(built.parent).read_text()
    assert "run/pages/index.html" in page
    assert "All is told." in page
    with pytest.raises(NotFoundError, match="a report was expected"):
        build_gallery(tmp_path / "none")


def test_a_report_that_is_being_built_again_keeps_no_other_from_its_gallery(built):
    """It begins by clearing what its last chapter left; a kill in there must not stop the reports beside it."""
    other = shutil.copytree(built, built.parent / "other")
    (other / "products" / "evaluation" / "facts.json").unlink()
    page = build_gallery(built.parent).read_text()
    assert "run/pages/index.html" in page
    assert "other/pages" not in page


def test_the_gallery_has_a_grid_of_symbols_and_intervals(built, tmp_path):
    """Of two reports of one cell the newer one stands there; both stand in the list."""
    for name in ("a", "b"):
        shutil.copytree(built, tmp_path / "all" / name)
    facts = tmp_path / "all" / "b" / "products" / "ingest" / "facts.json"
    card = {"label": "Span", "value": "30 days", "note": "until 2030-01-01"}
    facts.write_text(json.dumps({"headline": "So it is.", "cards": [card]}))
    page = build_gallery(tmp_path / "all").read_text()
    grid = page.split("Symbol by interval</h2>")[1].split("<h2")[0]
    assert 'href="b/pages/index.html"' in grid
    assert 'href="a/pages/index.html"' not in grid
    assert page.count('href="a/pages/index.html"') == 2


def test_the_gallery_names_each_report_and_what_is_simulated(built, tmp_path):
    """Span and end are in every name; the banner of the pages below is above them too."""
    for name, days, market in (("a", 30, "simulated"), ("b", 60, "simulated"), ("c", 60, "binance")):
        run = shutil.copytree(built, tmp_path / "all" / name)
        manifest = json.loads((run / "pages" / "manifest.json").read_text())
        manifest["parameters"] |= {"days": days, "market": market}
        (run / "pages" / "manifest.json").write_text(json.dumps(manifest))
        card = {"label": "Span", "value": "some", "note": "until 2025-07-01"}
        facts = {"headline": "So it is.", "cards": [card]}
        (run / "products" / "ingest" / "facts.json").write_text(json.dumps(facts))
    page = build_gallery(tmp_path / "all").read_text().replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert page.count("BTCUSDT 15m<br>30 days<br>until 2025-07-01") == 1
    assert page.count("BTCUSDT 15m, 30 days until 2025-07-01, simulated") == 1
    assert "Not all of these reports are of the real market" in page
    shutil.rmtree(tmp_path / "all" / "c")
    assert banner("simulated") in build_gallery(tmp_path / "all").read_text()
    shutil.rmtree(tmp_path / "all" / "a")
    (tmp_path / "all" / "b" / "pages" / "manifest.json").write_text(json.dumps(manifest))
    assert 'class="banner"' not in build_gallery(tmp_path / "all").read_text()


def test_a_chapter_is_a_notebook_and_nothing_else(tmp_path):
    """Name, title, short name and needs are the notebook's own; the bar has the chapters in the order of files."""
    assert [page.chapter for page in PAGES[:5]] == ["ingest", "eda", "features", "training", "evaluation"]
    assert next(page for page in PAGES if page.chapter == "evaluation").needs == ("training",)
    cells = [v4.new_markdown_cell("# What else there is\n\nMore.")]
    metadata = {"btcml": {"short": "Else", "needs": ["training"]}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "06-else.ipynb")
    (tmp_path / "07-broken.ipynb").write_text("no notebook")
    (tmp_path / "dashboard.ipynb").write_text("no chapter")
    found = find_chapters(tmp_path)
    assert [(page.chapter, page.title, page.short, page.needs) for page in found] == [
        ("else", "What else there is", "Else", ("training",)),
        ("broken", "Broken", "Broken", ()),
    ]


def test_a_frame_is_shown_in_the_style_of_the_page(tmp_path):
    """No style of pandas' own; it scrolls by itself, and what is missing is a dash."""
    frame = pd.DataFrame({"x": [1.5, float("nan")], "time": pd.to_datetime(["2025-01-01", None], utc=True)})
    outputs = [v4.new_output("execute_result", data={"text/html": frame._repr_html_()}, execution_count=1)]
    cell = v4.new_code_cell("frame", id="c", outputs=outputs, execution_count=1)
    nbformat.write(v4.new_notebook(cells=[cell]), tmp_path / "x.ipynb")
    body = chapter_page(tmp_path / "x.ipynb", PAGES[0], SITE).split('<main id="main">')[1]
    assert '<div class="scroll" tabindex="0" role="group" aria-label="Rows of a table"><table class="frame">' in body
    assert body.count(">\N{EN DASH}<") == 2
    assert "<style" not in body
    assert "dataframe" not in body
