"""Reports in another language: complete, with the numbers and CSV files of the English one."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import re
import shutil
import string
from collections import Counter
from html import unescape
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4

from btcml.contract import load_contract
from btcml.errors import UsageError
from btcml.forecast.experiment import Experiment
from btcml.forecast.features import REGISTRY
from btcml.forecast.metrics import forecast_frame
from btcml.forecast.models import MODELS
from btcml.forecast.verdict import verdict
from btcml.pipeline.story import Plan, load_plan, plan_story, save_plan
from btcml.report import exploration, manifest, story, study
from btcml.report.build import build_report
from btcml.report.charts import features
from btcml.report.language import (
    LANGUAGES,
    in_language,
    local_text,
    read_catalogue,
    told,
    translated,
)
from btcml.report.manifest import NOTEBOOKS, verify_report
from btcml.report.pages import Site, build_gallery, chapter_page, find_chapters, index_page, slides_page
from btcml.store.snapshots import save_snapshot

from .conftest import make_snapshot
from tools.messages import catalogue, grammar, messages

PAGES = find_chapters(NOTEBOOKS)
OTHERS = LANGUAGES[1:]
ENGLISH_WORDS = re.compile(r"\b(?:the|of|and|is|are|that|with|from|not|by|no change|which|this)\b")


def entries(name: str):
    """English text and translation, of counted nouns each form."""
    for entry in read_catalogue(name):
        one = isinstance(entry.id, str)
        forms = [(entry.id, entry.string)] if one else zip(entry.id, entry.string, strict=True)
        yield from ((english, text) for english, text in forms if english)


def holes(text: str) -> Counter[str]:
    """Placeholders of a message, of Python, of Jinja and of JavaScript."""
    script = re.findall(r"\$\{[^{}]*\}", text)
    python = [] if script else [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    return Counter([re.sub(r'"[^"]*"', '""', hole) for hole in script] + python + re.findall(r"%\(\w+\)s", text))


@pytest.mark.parametrize("name", OTHERS)
def test_a_catalogue_has_every_message_and_no_other(name):
    """What code, templates, notebooks and frames can show, in all variants of composed sentences."""
    there = catalogue(name)
    assert there.keys() == messages()
    assert all(there.values())


@pytest.mark.parametrize("name", OTHERS)
def test_a_translation_has_the_placeholders_of_its_sentence_and_types_no_number(name):
    """Forms of English verbs may be left out; a digit, as in a formula, is one of the English text."""
    for english, text in entries(name):
        there, wanted = holes(text), holes(english)
        assert there.keys() == wanted.keys() - (grammar() - there.keys()), english
        plain = [re.sub(r"\$?\{[^{}]*\}", "", each) for each in (english, text)]
        assert sorted(re.findall(r"\d+", plain[0])) == sorted(re.findall(r"\d+", plain[1])), english


@pytest.mark.parametrize("name", OTHERS)
def test_a_translation_is_not_translated_again_and_no_name_is(name):
    """A sentence may pass two places that translate; names of features and models are data."""
    texts = {english: text for (context, english), text in catalogue(name).items() if not context}
    assert all(texts.get(text, text) == text for text in texts.values())
    assert not texts.keys() & {*REGISTRY, *MODELS}


SLOW = [
    *[(Experiment, name) for name in ("run", "forecast")],
    *[(study, name) for name in ("learning_curve", "window_curve", "seed_spread", "permutation_importance")],
    *[(study, "model_sizes"), (features, "mutual_info_regression"), (exploration, "stationarity")],
]
"""Computations without words: what the first language has computed serves the others."""


@contextlib.contextmanager
def computed_once(done: dict[tuple[str, int], object]):
    """Answer the calls of slow functions, in their order, from what an earlier block has computed."""
    calls: Counter[str] = Counter()

    def _replaced(name, function):
        def _answer(*args, **options):
            calls[name] += 1
            if (name, calls[name]) not in done:
                done[name, calls[name]] = function(*args, **options)
            return copy.deepcopy(done[name, calls[name]])

        return _answer

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in SLOW:
            patch.setattr(owner, name, _replaced(name, getattr(owner, name)))
        yield


def run_notebook(path: Path, parameters: dict[str, object]):
    """Run a chapter in this process; return the notebook with what it has shown."""
    notebook, space, shown = nbformat.read(path, as_version=4), {}, []
    for cell in [cell for cell in notebook.cells if cell.cell_type == "code"]:
        shown.clear()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            patch.setattr(story, "_show", shown.append)
            exec(cell.source, space)  # noqa: S102 - our own notebook
        if "parameters" in cell.metadata.get("tags", []):
            space |= parameters
        cell.outputs = [v4.new_output("display_data", data=bundle) for bundle in shown if "text/html" in bundle]
        if printed.getvalue():
            cell.outputs.append(v4.new_output("stream", text=printed.getvalue()))
    return notebook


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    """The pages and products of one report in every language, its chapters run in this process."""
    place = tmp_path_factory.mktemp("reports")
    bundle, site = save_snapshot(make_snapshot("1h", 25), place), Site("simulated", "BTCUSDT", "1h", PAGES)
    done: dict[tuple[str, int], object] = {}
    for name in LANGUAGES:
        folder = place / name
        facts = {"interval": "1h", "days": 25, "snapshot": str(bundle), "products": str(folder / "products")}
        with in_language(name), computed_once(done):
            for page in PAGES:
                executed = folder / page.notebook
                shown = run_notebook(NOTEBOOKS / page.notebook, facts)
                executed.parent.mkdir(exist_ok=True)
                nbformat.write(shown, executed)
                (folder / page.href).write_text(chapter_page(executed, page, site))
            (folder / "index.html").write_text(index_page(folder / "products", site))
            (folder / "slides.html").write_text(slides_page(folder / "products", site))
    return {name: place / name for name in LANGUAGES}


def shown_texts(page: Path) -> list[str]:
    """What a reader of a page reads or hears; code, frames of pandas and scripts are left out."""
    html = page.read_text().split("<body", 1)[1]
    for part in ("script", "style", "code", r'table class="frame"', 'details class="code"', r'pre class="printed">"""'):
        html = re.sub(rf"<{part}.*?</{part.split()[0]}>", " ", html, flags=re.DOTALL)
    texts = re.findall(r">([^<>]+)<", html) + re.findall(r'(?:aria-label|alt|title)="([^"]+)"', html)
    return [" ".join(unescape(text).split()) for text in texts if text.strip()]


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_that_a_report_shows_is_untranslated(name, reports):
    """No text is that of the English page but names and words that are the same, and none holds English words."""
    rules = {rule.name for rule in load_contract().rules} | {"required", "ADF", "KPSS"}
    same = {english for english, text in entries(name) if english == text} | {*REGISTRY, *MODELS, *rules, "final"}
    for page in sorted(path.name for path in reports[name].glob("*.html")):
        assert f'<html lang="{name}">' in (reports[name] / page).read_text()
        texts = set(shown_texts(reports[name] / page))
        kept = (texts & set(shown_texts(reports["en"] / page))) - same
        words = {text for text in kept if re.search(r"[A-Za-z]{3}", text)} - {f"fold {place}" for place in range(1, 9)}
        words = {text for text in words if not re.search(r"[_.]|BTCUSDT|btcml|SHA-256", text)}
        assert not words, page
        assert not [text for text in texts if ENGLISH_WORDS.search(text)], page


def numbers(page: Path, name: str) -> Counter[str]:
    """Numbers that a page shows, each as English writes it."""
    text = " ".join(shown_texts(page))
    if name != "en":
        text = re.sub(r"\b(\d\d)/(\d\d)/(\d{4})\b", r"\3-\2-\1", text)
        text = re.sub(r"\b(\d\d)/(\d{4})\b", r"\2-\1", text).translate(str.maketrans(",.", ".,"))
    return Counter(re.findall(r"\d+(?:[.,:-]\d+)*", text))


@pytest.mark.parametrize("name", OTHERS)
def test_a_report_has_the_numbers_of_the_english_one(name, reports):
    """On every page the same numbers as often, with the separators and dates of the language; the same CSV files."""
    for page in sorted(path.name for path in reports[name].glob("*.html")):
        english, own = numbers(reports["en"] / page, "en"), numbers(reports[name] / page, name)
        assert own == english, page
    for file in (reports["en"] / "products").glob("*/*.csv"):
        own = reports[name] / file.relative_to(reports["en"])
        assert own.read_bytes() == file.read_bytes(), file.name


def reasons() -> list[str]:
    """What verdicts say of a model that is served, kept, refused, not served, or not to be judged."""
    noise = np.random.default_rng(5).normal(size=(2, 901))
    close = 100 * np.exp(0.001 * noise[0].cumsum())
    moves = np.diff(close)
    models = {name: {"y_hat": close[:-1] + share * moves} for name, share in (("good", 0.3), ("better", 0.5))}
    models["bad"] = {"y_hat": close[:-1] + 0.2 * noise[1][:-1]}
    one, both = (forecast_frame(close, models, interval=interval) for interval in ("1h", "12h"))
    flat = forecast_frame(np.full(500, 5.0), {"flat": {"y_hat": np.full(499, 5.1)}}, interval="1h")
    kept = [verdict(both, incumbent=old, served=only) for old in ("good", "bad") for only in (["good"], ["bad"], [])]
    few = verdict(forecast_frame(close[:9], {}, interval="1h"))
    others = verdict(one.assign(horizon=3), looks=7, others=[pd.Series({"a": 0.5})])
    chosen = ({}, {"good": models["good"]}, {"bad": models["bad"]})
    alone = [verdict(forecast_frame(close, each, interval="1h")) for each in chosen]
    return [each.reason for each in (*alone, *kept, others, few, verdict(flat))]


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_packages_say_is_completed_in_the_language(name):
    """From the values that a sentence keeps; no English word is left, and every number is the English one."""
    for text in reasons():
        with in_language(name):
            own = told(text)
        assert not ENGLISH_WORDS.search(own), own
        both = (text, own.translate(str.maketrans(",.", ".,")))
        assert len({tuple(sorted(re.findall(r"\d+(?:[.,]\d+)*", each))) for each in both}) == 1, own


@pytest.mark.parametrize("name", OTHERS)
def test_no_translation_holds_an_english_word(name):
    """Also of what no test makes a page say: every entry of the catalogue is read."""
    assert not [text for _, text in entries(name) if ENGLISH_WORDS.search(text.replace("--as-of", ""))]


def test_a_page_writes_minus_as_everywhere_and_the_verdict_itself_stays_plain():
    """The text that is stored and printed has the hyphen of a terminal."""
    text = next(text for text in reasons() if "z -" in text)
    assert told(text) == text.replace("z -", "z \N{MINUS SIGN}")
    assert told("a text that keeps no values") == "a text that keeps no values"


def test_a_language_that_is_not_known_gets_one_sentence_with_those_that_are(tmp_path, bundle):
    """Before a chapter starts or a candle is fetched."""
    for hostile in ("fr", "pt_BR", "../en", "", "en\n"):
        with pytest.raises(UsageError, match=r"^the language of a report is en or pt-BR, found [^\n]*$"):
            build_report(tmp_path / "run", bundle=bundle, language=hostile)
        with pytest.raises(UsageError, match="is en or pt-BR"):
            plan_story(None, None, hostile)
    assert not (tmp_path / "run" / "pages").exists()


def test_a_run_folder_has_one_language(tmp_path, built_once):
    """Built again in another language nothing of the first is left; manifest and pages name the language."""
    run = shutil.copytree(built_once / "run", tmp_path / "run")
    assert json.loads((run / "pages" / "manifest.json").read_text())["language"] == "en"
    lines: list[str] = []
    build_report(run, notebooks=built_once / "chapters", language="pt-BR", progress=lines.append)
    assert {line.split(":")[0] for line in lines} == {Path(page.href).stem for page in PAGES}
    assert json.loads((run / "pages" / "manifest.json").read_text())["language"] == "pt-BR"
    assert all('<html lang="pt-BR">' in page.read_text() for page in (run / "pages").glob("*.html"))
    assert "Glossário" in (run / "pages" / "index.html").read_text()


def test_reports_of_two_languages_stand_side_by_side(tmp_path, built_once):
    """Each language has a folder and a page over its reports; the default's path and page stay as they were."""
    plan = Plan("simulated", "BTCUSDT", "15m", 30, "2025-07-01T00:00:00+00:00", "simulated")
    other = dataclasses.replace(plan, language="pt-BR")
    assert other.path == f"{plan.path}-pt-BR"
    assert load_plan(save_plan(other, tmp_path / "plan.mk", tmp_path)) == other
    for name, one in (("en", plan), ("pt-BR", other)):
        run = shutil.copytree(built_once / "run", tmp_path / one.path)
        file = run / "pages" / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"language": name}))
    alone = build_gallery(tmp_path).read_text()
    assert alone.count(f'href="{plan.path}/pages/index.html"') == alone.count("/pages/index.html")
    beside = (tmp_path / "index.pt-BR.html").read_text()
    assert '<html lang="pt-BR">' in beside
    assert beside.count(f'href="{other.path}/pages/index.html"') == beside.count("/pages/index.html")
    assert "1 relatório lado a lado" in beside
    shutil.rmtree(tmp_path / other.path)
    assert build_gallery(tmp_path).read_text() == alone
    assert not (tmp_path / "index.pt-BR.html").exists()


def test_verify_builds_again_in_the_language_of_the_manifest(tmp_path, built_once, monkeypatch):
    """A manifest of an earlier version names none: its pages are English."""
    run, asked = shutil.copytree(built_once / "run", tmp_path / "run"), []
    file = run / "pages" / "manifest.json"
    monkeypatch.setattr(manifest, "_rebuild", lambda folder, _, language: asked.append((folder, language)))
    monkeypatch.setattr(manifest, "compare_pages", lambda *_: None)
    facts = json.loads(file.read_text())
    for named in ({"language": "pt-BR"}, {"language": "en"}, {}):
        file.write_text(json.dumps({name: value for name, value in facts.items() if name != "language"} | named))
        verify_report(run)
    assert [language for _, language in asked] == ["pt-BR", "en", "en"]


def test_texts_of_tables_and_drawings_are_written_as_the_language_does():
    """Numbers, months, dates, lists of words; names and what is English already stay."""
    with in_language("pt-BR"):
        assert local_text("1,234,567.5") == "1.234.567,5"
        assert local_text("2025-06-30") == "30/06/2025"
        assert local_text("2025-Feb") == "fev 2025"
        assert local_text("Persistence, Ridge regression") == "Persistência, Ridge"
        assert local_text("ema_gap_2") == "ema_gap_2"
        assert translated("") == ""
    assert local_text("1,234.5") == "1,234.5"
