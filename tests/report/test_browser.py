"""The pages in a real browser: offline, quiet, light and dark, by keyboard."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from btcml.report.build import build_report
from btcml.report.pages import HEAVIEST, build_gallery
from btcml.store.snapshots import save_snapshot

from .conftest import make_snapshot

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("story")]  # its report is built once

AXE = Path(__file__).parents[1] / "browser" / "vendor" / "axe.min.js"

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --host-resolver-rules=MAP~*~~NOTFOUND"
)


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS.split():
        options.add_argument(flag.replace("~", " "))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def pages(built_once):
    return sorted((built_once / "run" / "pages").glob("*.html"))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The real chapters over a small simulated market, and the page above them."""
    place = tmp_path_factory.mktemp("story")
    build_report(place / "run", bundle=save_snapshot(make_snapshot(), place / "bundles"))
    build_gallery(place)
    return [*sorted((place / "run" / "pages").glob("*.html")), place / "index.html"]


def look(browser, page, width: int, theme: str) -> None:
    """Open a page on a screen of that width, in a light or dark theme."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    room = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", room)
    browser.get(page.as_uri())
    browser.execute_script("try{localStorage.clear()}catch(e){}; delete document.documentElement.dataset.theme")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_serious_violation_on_any_page_of_the_real_story(browser, story, width, theme):
    """Contrast, names, landmarks, keyboard: every page, wide and narrow, light and dark."""
    assert len(story) == 8
    assert {page.name: found for page in story if (found := serious(browser, page, width, theme))} == {}


@pytest.mark.soak
def test_axe_finds_no_serious_violation_in_portuguese(browser, tmp_path):
    """Names, labels and languages of parts are those of the translation."""
    build_report(tmp_path / "run", bundle=save_snapshot(make_snapshot(), tmp_path / "bundles"), language="pt-BR")
    pages = sorted((tmp_path / "run" / "pages").glob("*.html"))
    assert len(pages) == 7
    for width, theme in ((1440, "light"), (390, "dark"), (1440, "dark"), (390, "light")):
        assert {page.name: found for page in pages if (found := serious(browser, page, width, theme))} == {}


def serious(browser, page: Path, width: int, theme: str) -> list[tuple[str, str]]:
    """Serious violations that axe finds on a page."""
    look(browser, page, width, theme)
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    return [
        (rule["id"], rule["nodes"][0]["html"][:120])
        for rule in found["violations"]
        if rule["impact"] in {"serious", "critical"}
    ]


def test_the_real_story_asks_for_nothing_is_quiet_and_fits(browser, story):
    """With the network off: the file itself and nothing else, an empty console, no page wider than a phone."""
    for page in story:
        browser.get_log("performance")
        look(browser, page, 390, "light")
        assert {url for url in requests_of(browser) if not url.startswith("data:")} == {page.as_uri()}
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), page.name
        assert page.stat().st_size < HEAVIEST


def requests_of(browser) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [entry["params"]["request"]["url"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]


def test_no_page_asks_for_anything_or_complains(browser, pages):
    """With the network off: no request beyond the file itself, no line in the console."""
    assert len(pages) == 7
    browser.get_log("performance")  # of other tests
    for page in pages:
        browser.get(page.as_uri())
        assert {url for url in requests_of(browser) if not url.startswith("data:")} == {page.as_uri()}
        assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_screen(browser, pages, width):
    """Tables and figures scroll by themselves; the page does not."""
    for page in pages:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_charts_fit_the_screen_and_their_text_can_be_read(browser, story):
    """One drawing of each chart is shown, no wider than the screen, its letters 11 pixels high or more."""
    seen = """return [...document.querySelectorAll("figure.plot")].map(figure => {
        const shown = [...figure.querySelectorAll("svg")].filter(svg => svg.getClientRects().length), svg = shown[0];
        const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
        const texts = [...svg.querySelectorAll("text")].filter(text => text.textContent.trim());
        const sizes = texts.map(text => parseFloat(getComputedStyle(text).fontSize) * scale);
        return [shown.length, box.right <= innerWidth, Math.min(...sizes)]})"""
    for page in story:
        if page.name == "slides.html":
            continue
        look(browser, page, 390, "light")
        for drawings, fits, smallest in browser.execute_script(seen):
            assert (drawings, fits) == (1, True), page.name
            assert smallest >= 11, page.name


def test_on_a_phone_the_names_of_rows_stay(browser, story):
    """A table that scrolls keeps its first column."""
    look(browser, story[4], 390, "light")
    kept = """const part = document.querySelector(".table .scroll"), name = part.querySelector("tbody th");
        const before = name.getBoundingClientRect().left; part.scrollLeft = 90;
        return [part.scrollLeft > 0, before === name.getBoundingClientRect().left]"""
    assert browser.execute_script(kept) == [True, True]


def test_light_and_dark_are_one_click_apart(browser, pages):
    """The button changes the background, and the choice is kept for the next page."""
    browser.get(pages[0].as_uri())
    paper = "return getComputedStyle(document.body).backgroundColor"
    first = browser.execute_script(paper)
    browser.find_element("id", "theme").click()
    second = browser.execute_script(paper)
    assert first != second
    browser.get(pages[1].as_uri())
    assert browser.execute_script(paper) == second


def test_slides_move_by_keyboard(browser, pages):
    """Arrow keys go through a title, ten pictures and the verdict, one at a time, and stop at the ends."""
    slides = next(page for page in pages if page.name == "slides.html")
    browser.get(slides.as_uri())
    assert browser.execute_script("return document.querySelectorAll('.slide').length") == 12
    body = browser.find_element("tag name", "body")
    body.send_keys("\ue014\ue014")  # arrow right, twice
    assert browser.execute_script("return location.hash") == "#3"
    body.send_keys("\ue010\ue014")  # end, and one more
    assert browser.execute_script("return [location.hash, document.querySelectorAll('.slide.on').length]") == ["#12", 1]


def test_printed_slides_are_numbered_and_name_their_market(browser, pages):
    """The banner of the screen is not printed, so the foot of each slide says it."""
    slides = next(page for page in pages if page.name == "slides.html")
    browser.get(slides.as_uri())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        feet = browser.execute_script("return [...document.querySelectorAll('.slide footer')].map(e => e.innerText)")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(feet) == 12
    for number, foot in enumerate(feet, 1):
        assert foot.startswith(f"{number} / 12")
        assert "Simulated market" in foot


def test_a_reader_plays_against_model_and_coin_and_the_score_is_that_of_the_page(browser, story):
    """Twenty times up; the sentence above counts the same for model and coin, the file the rises."""
    page = next(one for one in story if one.name == "05-evaluation.html")
    look(browser, page, 390, "light")
    press = "document.querySelector('#evaluation-guess .buttons button').click()"
    for _ in range(2 * 20):
        browser.execute_script(press)
    text = (page.parent / "data" / "evaluation-guess.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    came = [(row["came"], row["said"], row["coin"]) for row in rows]
    hits = [sum(row[0] == "up" for row in came), *(sum(row[0] == row[place] for row in came) for place in (1, 2))]
    told = browser.execute_script("return document.querySelector('#evaluation-guess .told').textContent")
    assert told == "You: {} of 20 right. The model: {} of 20 right. A coin: {} of 20 right.".format(*hits)
    says = browser.execute_script("return document.querySelector('#evaluation-guess figcaption').textContent")
    assert f"is right in {hits[1]} of them, a coin in {hits[2]};" in says


def test_the_sentences_below_the_fee_and_the_loss_follow_the_reader(browser, story):
    """At the highest fee it is a loss; by squared error the months are those of the sentence above."""
    page = next(one for one in story if one.name == "05-evaluation.html")
    look(browser, page, 1440, "light")
    told = "return document.querySelector('#evaluation-{} .told').textContent"
    free = browser.execute_script(told.format("fee"))
    move = "const slide = document.querySelector('#evaluation-fee input'); slide.value = slide.max;"
    browser.execute_script(f"{move} slide.dispatchEvent(new Event('input'))")
    assert free.startswith("At 0.0 bp a round trip")
    assert browser.execute_script(told.format("fee")).startswith("At 20.0 bp a round trip loses")
    browser.execute_script("document.querySelectorAll('#evaluation-loss button')[1].click()")
    count = re.search(r"in (\d+) of", browser.execute_script(told.format("loss")))[1]
    says = browser.execute_script("return document.querySelector('#evaluation-loss figcaption').textContent")
    assert says.endswith(f"in {count}.")
