from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError, ReportError, UsageError
from btcml.report import manifest
from btcml.report.build import (
    adopt_bundle,
    build_chapter,
    build_index,
    build_report,
    check_length,
    check_request,
    open_run,
)
from btcml.report.manifest import Difference, Verification, gather_inputs, manifest_text, verify_report
from btcml.report.pages import build_gallery
from btcml.store.snapshots import save_snapshot

from .conftest import FINISH, TINY, make_snapshot, write_notebook

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chapters(tmp_path, built_once) -> Path:
    return shutil.copytree(built_once / "chapters", tmp_path / "chapters")


@pytest.fixture
def built(tmp_path, built_once) -> Path:
    return shutil.copytree(built_once / "run", tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "pages").glob("*.html")}


def test_a_report_is_built_once_and_then_only_what_changed(built, chapters):
    """Nothing changed: no chapter runs. One notebook changed: its chapter and the index, and what needs it."""
    assert {"index.html", "slides.html", "05-evaluation.html"} <= times(built).keys()
    before, lines = times(built), []
    build_report(built, notebooks=chapters, progress=lines.append)
    assert not lines
    write_notebook(chapters / "02-eda.ipynb", *chapter_cells(chapters, "02-eda"), "'more'", FINISH)
    build_report(built, notebooks=chapters, progress=lines.append)
    after = times(built)
    assert {name for name, stamp in after.items() if stamp != before[name]} == {
        "02-eda.html",
        "index.html",
        "slides.html",
    }
    assert {line.split(":")[0] for line in lines} == {"02-eda"}


def chapter_cells(chapters: Path, name: str) -> list[str]:
    cells = json.loads((chapters / f"{name}.ipynb").read_text())["cells"][1:-1]
    return ["".join(cell["source"]) for cell in cells]


def test_a_new_chapter_is_one_notebook(built, chapters):
    """It stands in the bar of every page and on the index; taken away again, it leaves nothing behind."""
    before = contents(built / "pages")
    write_notebook(chapters / "06-else.ipynb", TINY.format(chapter="else", names=["more"]), FINISH)
    build_report(built, notebooks=chapters)
    pages = built / "pages"
    assert (pages / "data" / "else-more.csv").exists()
    assert all('href="06-else.html"' in page.read_text() for page in pages.glob("0*.html"))
    assert '<a href="06-else.html"><b>Else</b>' in (pages / "index.html").read_text()
    (chapters / "06-else.ipynb").unlink()
    build_report(built, notebooks=chapters)
    assert contents(pages) == before


def test_a_chapter_that_needs_another_follows_it(built, chapters):
    """The evaluation reads what the training left: a changed training makes both again."""
    write_notebook(chapters / "04-training.ipynb", *chapter_cells(chapters, "04-training"), "'more'", FINISH)
    lines: list[str] = []
    build_report(built, notebooks=chapters, progress=lines.append)
    assert {line.split(":")[0] for line in lines} == {"04-training", "05-evaluation"}


def test_a_failed_chapter_leaves_no_page_and_no_index(built, chapters):
    """What was right before is gone, the failed notebook lies beside, and nothing claims success."""
    write_notebook(chapters / "03-features.ipynb", "1 / 0", FINISH)
    with pytest.raises(ReportError, match="03-features did not finish"):
        build_report(built, notebooks=chapters)
    assert not (built / "pages" / "03-features.html").exists()
    assert (built / "executed" / "03-features.failed.ipynb").exists()
    with pytest.raises(ReportError, match="index needs chapter features"):
        build_index(open_run(built, notebooks=chapters))


def test_a_deleted_or_damaged_page_is_made_again(built, chapters):
    """A page that is not the one its stamp names does not count."""
    good = (built / "pages" / "01-ingest.html").read_bytes()
    (built / "pages" / "01-ingest.html").write_text("damaged")
    build_report(built, notebooks=chapters)
    assert (built / "pages" / "01-ingest.html").read_bytes() == good


def test_a_manifest_has_inputs_and_outputs_and_no_time(built, tmp_path):
    """Hashes, parameters and versions; no clock, path, host, user or duration."""
    text = (built / "pages" / "manifest.json").read_text()
    facts = json.loads(text)
    assert facts["parameters"]["symbol"] == "BTCUSDT"
    assert facts["parameters"]["days"] == 30
    assert set(facts["notebooks"]) == {"01-ingest", "02-eda", "03-features", "04-training", "05-evaluation"}
    assert {"index.html", "slides.html", "data/eda-memory.csv"} <= set(facts["outputs"])
    assert "btcml/report/build.py" in facts["source"]
    assert str(tmp_path) not in text
    assert "seconds" not in text
    assert set(json.loads((built / "run.json").read_text())["seconds"]) == {
        "ingest",
        "eda",
        "features",
        "training",
        "evaluation",
    }


def test_verify_reports_identical_in_another_zone_locale_and_folder(built, chapters, monkeypatch):
    """The rebuild runs in a process and a folder of its own, under whatever environment it finds."""
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert str(verify_report(built, chapters)).startswith("identical: ")


@pytest.mark.soak
def test_verify_names_the_page_that_differs_and_why_and_where(built, chapters):
    """A touched page and a changed notebook are distinguished."""
    page = built / "pages" / "01-ingest.html"
    page.write_text(page.read_text().replace("Up it goes", "Down it goes"))
    touched = verify_report(built, chapters)
    assert [found.file for found in touched.differences] == ["01-ingest.html"]
    assert touched.causes == ()
    assert "the files themselves were changed after the report was built" in str(touched)
    assert "01-ingest.html: was changed after the report was built: line " in str(touched)
    with pytest.raises(ReportError, match="ingest"):
        touched.require_identical()
    assert "Down" in touched.differences[0].where
    write_notebook(chapters / "02-eda.ipynb", *chapter_cells(chapters, "02-eda"), "'more'", FINISH)
    changed = verify_report(built, chapters)
    assert changed.causes == ("notebook 02-eda",)
    assert "changed since the report was built: notebook 02-eda" in str(changed).splitlines()[1]
    assert "02-eda.html" in {found.file for found in changed.differences}


@pytest.mark.soak
def test_verify_names_a_changed_line_lock_or_parameter(built, chapters):
    """A report that was made by other code, of another lock, from other parameters: each is named."""
    file = built / "pages" / "manifest.json"
    facts = json.loads(file.read_text())
    facts["source"]["btcml/report/build.py"] = facts["lock"] = "0" * 64
    facts["parameters"]["days"] = 31
    file.write_text(json.dumps(facts))
    found = verify_report(built, chapters)
    assert found.causes[:2] == ("parameter days: 31 became 30", "code btcml/report/build.py")
    assert found.causes[2].startswith("lock file: 000000000000 became ")
    assert "manifest.json" in {difference.file for difference in found.differences}


def test_verify_names_another_processor_and_says_what_a_reader_would_notice(built, chapters):
    """A last digit of a CSV is nothing that is printed; a digit of a page is."""
    pages = built / "pages"
    facts = json.loads((pages / "environment.json").read_text())
    (pages / "environment.json").write_text(json.dumps(facts | {"instructions": "x86-64-v2"}))
    numbers = pages / "data" / "eda-memory.csv"
    numbers.write_text(numbers.read_text().replace("1,2", "1,2.000000000002"))
    found = verify_report(built, chapters)
    assert len(found.causes) == 1
    assert found.causes[0].startswith("another processor, C library or Python: instructions: x86-64-v2 became ")
    assert [difference.file for difference in found.differences] == ["data/eda-memory.csv"]
    assert found.differences[0].gap == pytest.approx(1e-12, rel=0.01)
    assert "every printed figure is equal; numbers differ by at most 1e-12" in str(found)
    page = dataclasses.replace(found, differences=(*found.differences, Difference("01-ingest.html", "line 1")))
    assert "every printed figure" not in str(page)


def test_verify_explains_each_kind_of_change_in_one_line():
    """Code, notebook, template, data, parameter, package, Python: its name, and what became of it."""
    then = {
        "snapshot": "a" * 64, "heads": {}, "parameters": {"days": 30}, "notebooks": {"02-eda": "1"}, "lock": "b" * 64,
        "source": {"btcml/x.py": "1", "btcml/old.py": "1"}, "template": {"page.css": "1"},
        "versions": {"python": "3.11.2", "numpy": "2.1"},
    }  # fmt: skip
    now = {
        "snapshot": "c" * 64, "heads": {}, "parameters": {"days": 31}, "notebooks": {"02-eda": "2"}, "lock": "b" * 64,
        "source": {"btcml/x.py": "2", "btcml/new.py": "1"}, "template": {"page.css": "2"},
        "versions": {"python": "3.12.1", "numpy": "2.2"},
    }  # fmt: skip
    causes = [cause for key in manifest._CAUSES for cause in manifest._changed(key, then.get(key), now.get(key))]
    assert causes == [
        "data: aaaaaaaaaaaa became cccccccccccc", "parameter days: 30 became 31", "notebook 02-eda",
        "code btcml/new.py is new", "code btcml/old.py is gone", "code btcml/x.py", "page template page.css",
        "version of numpy: 2.1 became 2.2", "version of python: 3.11.2 became 3.12.1",
    ]  # fmt: skip
    many = {str(place): "1" for place in range(20)}
    assert manifest._changed("source", many, {})[-1] == "code: 8 more"


def test_verify_tells_a_touched_page_from_other_bytes_of_the_same_inputs():
    """A page that was edited and a kernel that computes otherwise are not the same finding."""
    edited = Verification(2, (Difference("a.html", "line 1", touched=True),), ())
    assert "changed after the report was built" in str(edited).splitlines()[1]
    other = Verification(2, (Difference("a.html", "line 1"),), ())
    assert "gave other bytes here" in str(other).splitlines()[1]
    assert str(Verification(2, (), ("notebook 02-eda",))).splitlines() == [
        "identical: 2 files, byte for byte", "  changed since the report was built: notebook 02-eda",
    ]  # fmt: skip


def test_a_folder_without_a_report_is_an_error(tmp_path):
    """A folder without a report is the caller's mistake."""
    with pytest.raises(NotFoundError, match="manifest"):
        verify_report(tmp_path)


def test_a_chapter_that_does_not_exist_is_refused(built, chapters):
    """By name, with those that do."""
    with pytest.raises(UsageError, match="ingest, eda, features"):
        build_chapter(open_run(built, notebooks=chapters), "inject")


def test_a_run_folder_without_a_bundle_is_refused(tmp_path):
    """There is nothing to report."""
    with pytest.raises(NotFoundError, match="snapshot bundle was expected"):
        build_report(tmp_path)


def test_a_bundle_is_adopted_once_and_replaced_whole(tmp_path, bundle):
    """The same bundle stays as it is; another one takes its place."""
    adopt_bundle(tmp_path, bundle)
    facts = tmp_path / "snapshot" / "snapshot.json"
    first = facts.stat().st_ino
    adopt_bundle(tmp_path, bundle)
    assert facts.stat().st_ino == first
    facts.write_text(facts.read_text().replace('"hash": "', '"hash": "0'))
    adopt_bundle(tmp_path, bundle)
    assert facts.read_bytes() == (bundle / "snapshot.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [0.5, 2.0, 4.0, 6.0, 9.0])
def test_kill_minus_nine_at_any_moment_and_then_again_is_right(built, chapters, tmp_path, bundle, seconds):
    """What a killed build leaves never stands in the way of the next one, and no half page counts."""
    run = tmp_path / "killed"
    adopt_bundle(run, bundle)
    code = (
        "import sys; from pathlib import Path; from btcml.report.build import build_report; "
        "build_report(Path(sys.argv[1]), notebooks=Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run), str(chapters)], start_new_session=True)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    build_report(run, notebooks=chapters)
    assert contents(run / "pages") == contents(built / "pages")


@pytest.mark.soak
def test_one_changed_candle_changes_the_snapshot_in_the_manifest(built, chapters, tmp_path):
    """The manifest says what is different: the data."""
    snapshot = make_snapshot()
    snapshot.candles.loc[5, "volume"] += 1.0
    run = tmp_path / "other"
    adopt_bundle(run, save_snapshot(snapshot, tmp_path / "bundles"))
    build_report(run, notebooks=chapters)
    first, second = (json.loads((place / "pages" / "manifest.json").read_text()) for place in (built, run))
    assert [key for key in first if first[key] != second[key]] == ["outputs", "snapshot"]


REBUILD = (
    "import sys; from pathlib import Path; from btcml.report.build import build_report, adopt_bundle; "
    "run = Path(sys.argv[1]); adopt_bundle(run, Path(sys.argv[2])); build_report(run, workers=int(sys.argv[3]))"
)


@pytest.mark.soak
def test_the_real_story_is_byte_identical_in_another_place_zone_locale_and_processor(tmp_path, monkeypatch):
    """Law five, on the real chapters over a small simulated market."""
    bundle = save_snapshot(make_snapshot("15m", 40), tmp_path / "bundles")
    pages = []
    elsewhere = {"TZ": "America/Sao_Paulo", "LC_ALL": "C", "OMP_NUM_THREADS": "2"}
    older = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}
    places = {"one": {}, "two/three": elsewhere | older}
    for place, environment in places.items():
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        run = tmp_path / place
        subprocess.run(
            [sys.executable, "-c", REBUILD, str(run), str(bundle), "2" if place == "one" else "1"], check=True
        )
        pages.append({path.relative_to(run).as_posix(): path.read_bytes() for path in (run / "pages").rglob("*.*")})
    assert pages[0] == pages[1]
    assert max(len(content) for name, content in pages[0].items() if name.endswith(".html")) < 1_500_000


LOADED = """import ast, json, sys
from pathlib import Path
for path in Path("notebooks").glob("0*.ipynb"):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.parse("".join(cell["source"])).body:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    exec(ast.unparse(node))
import btcml.report.build
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "btcml" and m.__file__]))"""


def test_every_line_of_code_that_makes_a_page_is_named_in_the_manifest(bundle):
    """What notebooks and renderer import of the package is hashed, so that a changed line is reported."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(path).resolve().relative_to(ROOT).as_posix() for path in json.loads(done.stdout)}
    assert {"btcml/report/charts/eda.py", "btcml/market/simulate.py"} <= loaded
    assert loaded <= set(gather_inputs(bundle).source)


def test_the_heads_of_the_sealed_forecasts_stand_in_the_manifest(tmp_path, built, chapters):
    """A report names the newest sealed forecast that it knew."""
    assert json.loads((built / "pages" / "manifest.json").read_text())["heads"] == {}
    snapshot = dataclasses.replace(make_snapshot(), heads={"seq": "7", "hash": "ab" * 32})
    inputs = gather_inputs(save_snapshot(snapshot, tmp_path / "bundles"), chapters)
    assert json.loads(manifest_text(dataclasses.asdict(inputs), {}))["heads"] == {"seq": "7", "hash": "ab" * 32}


def test_too_short_a_span_stops_the_build_before_its_first_chapter(tmp_path, built_once):
    """No chapter runs for a report that cannot come out, and the mistake stays the caller's."""
    said = []
    short = save_snapshot(make_snapshot(days=3), tmp_path / "bundles")
    with pytest.raises(UsageError, match="found 3 days"):
        build_report(tmp_path / "run", bundle=short, notebooks=built_once / "chapters", progress=said.append)
    assert not said


END = pd.Timestamp("2024-01-01", tz="UTC")


@pytest.mark.parametrize(("days", "interval"), [(19, "1h"), (150, "1d")])
def test_too_few_candles_for_a_report_are_one_sentence(days, interval):
    """What is needed, what was found, what to do."""
    with pytest.raises(UsageError, match="give more DAYS or a shorter INTERVAL"):
        check_length(END - pd.Timedelta(days=days), END, interval)


@pytest.mark.parametrize("days", range(18, 32))
def test_a_request_is_checked_like_a_snapshot(days):
    """An hour's candles over twenty days leave too few for a verdict; before and after fetching it is the same."""
    if days >= 25:
        check_request(days, "1h", END, END)
    else:
        with pytest.raises(UsageError, match="200 candles"):
            check_request(days, "1h", END, END)


def test_twenty_requested_days_are_twenty_days_found():
    """The span ends where the last candle does."""
    check_length(END - pd.Timedelta(days=20), END, "5m")
    with pytest.raises(UsageError, match="found 19 days"):
        check_length(END - pd.Timedelta(days=20), END - pd.Timedelta("5min"), "5m")


@pytest.mark.parametrize(
    ("days", "interval", "end", "sentence"),
    [
        (3, "5m", "2025-01-01", "needs 20 days and 200 candles in their last third .*, found 3 days and 288 candles"),
        (90, "1d", "2025-01-01", "found 90 days and 30 candles: give more DAYS or a shorter INTERVAL"),
        (20, "1h", "2025-01-01", "found 20 days and 168 candles"),
        (4000, "1w", "2025-01-01", "found 4000 days and 5. candles"),
        (30, "5m", "2030-01-01", "END may not be after 2025-07-01 00:00 UTC, where the source ends, found 2030"),
    ],
)
def test_an_impossible_report_is_refused_before_anything_is_fetched(days, interval, end, sentence):
    """Nothing is fetched or run for it, and the advice works."""
    now = pd.Timestamp("2025-07-01", tz="UTC")
    check_request(20, "5m", now, now)
    with pytest.raises(UsageError, match=sentence):
        check_request(days, interval, pd.Timestamp(end, tz="UTC"), now)


@pytest.mark.soak
def test_a_report_of_a_symbol_beyond_ascii_is_built_and_verified(tmp_path, chapters):
    """In a run folder whose path has its letters: pages, manifest, gallery and the comparison of every byte."""
    snapshot = dataclasses.replace(make_snapshot(), key=SeriesKey("replay:letters", "币安人生USDT", "15m"))
    run = tmp_path / "build" / "replay-letters" / "币安人生USDT" / "15m" / "30d"
    build_report(run, bundle=save_snapshot(snapshot, tmp_path / "bundles"), notebooks=chapters)
    assert "币安人生USDT" in (run / "pages" / "index.html").read_text(encoding="utf-8")
    assert json.loads((run / "pages" / "manifest.json").read_text(encoding="utf-8"))["parameters"]["symbol"][0] == "币"
    assert not verify_report(run, chapters).differences
    assert "币安人生USDT" in build_gallery(tmp_path / "build").read_text(encoding="utf-8")


@pytest.mark.soak
def test_a_report_of_a_source_without_volume_is_built(tmp_path):
    """All five chapters over candles of which every volume is zero; the second one says so."""
    unknown = dict.fromkeys(("quote_volume", "trades", "taker_buy_base", "taker_buy_quote"), float("nan"))
    snapshot = make_snapshot()
    silent = dataclasses.replace(snapshot, candles=snapshot.candles.assign(volume=0.0, **unknown))
    build_report(tmp_path / "run", bundle=save_snapshot(silent, tmp_path / "bundles"))
    page = (tmp_path / "run" / "pages" / "02-eda.html").read_text(encoding="utf-8")
    assert "The volume of every candle is zero: this source does not record it." in page
