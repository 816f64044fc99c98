"""Broken or hostile chapters, notebooks, snapshots, disks and operators: none yields a page.

`tests/report/test_execute.py` has those that end a single chapter in its kernel; here whole builds are broken.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

from btcml.errors import BtcmlError, BusyError
from btcml.files import folder_lock
from btcml.report.build import build_report
from btcml.report.execute import Limits
from btcml.report.pages import PICTURES

from ..processes import WAIT_S, started, until  # noqa: TID252 - of all tests
from .conftest import FINISH, PARAMETERS, write_notebook
from .test_execute import SABOTAGES

SHOW = "from IPython.display import display\ndisplay({'text/html': %r}, raw=True)"
FACTS = """import json, os, pathlib
from IPython.display import display
folder = pathlib.Path(products) / "eda"
folder.mkdir(parents=True, exist_ok=True)
(folder / "facts.json").write_text(json.dumps({"headline": "All is told.", "cards": []}))"""
OPEN = """import os
from IPython.display import display
from btcml.report.story import open_story
open_story("eda", symbol=symbol, interval=interval, market=market, snapshot=snapshot, products=products)"""

CELLS = {
    "a NaN in a claim": ("from btcml.report import claims as say; say.number(float('nan'))", "finite"),
    "a claim that does not hold": (
        "from btcml.report import claims as say; say.claim('It is so.', holds=False)",
        "hold",
    ),
    "a number typed into a claim": ("from btcml.report import claims as say; say.claim('It is 7.')", "digit"),
    "numbers without their figure": ("(folder / 'lost.csv').write_text('x\\n1\\n')", "lacks the figures eda-lost"),
    "a figure without words": (SHOW % "<svg><path/></svg>", "text alternative"),
    "a script from elsewhere": (SHOW % '<script src="https://cdn.example/x.js"></script>', "outside the page"),
    "a NaN in a table": (SHOW % "<td>nan</td>", "not a number"),
    "a traceback shown as text": ("import traceback; print('Traceback (most recent call last)')", "a traceback"),
    "a path of this machine": ("print(os.path.abspath('/tmp/x'))", "a path of this machine"),
    "a page that is too heavy": (SHOW % "<p>x</p>" + "\nprint('x' * 1_600_000)", "draw fewer points"),
    "a chapter that allocates too much memory": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31)); bytearray(1 << 36)",
        "MemoryError",
    ),
    "a kernel that stops itself": ("import signal; os.kill(os.getpid(), signal.SIGSTOP)", "timed out"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_last_cell(path: Path) -> None:
    notebook = json.loads(path.read_text())
    notebook["cells"].pop()
    path.write_text(json.dumps(notebook))


def change_a_candle(run: Path) -> None:
    path = run / "snapshot" / "candles.parquet"
    candles = pd.read_parquet(path)
    candles.loc[9, "close"] += 0.01
    candles.to_parquet(path, index=False)


def turn_a_bit(run: Path) -> None:
    path = run / "snapshot" / "candles.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def redeclare(extra: str):
    def write(path: Path) -> None:
        write_notebook(path, FACTS, FINISH, parameters=extra)

    return write


NOTEBOOKS = {
    "a truncated notebook": (cut, "a notebook was expected"),
    "an empty notebook": (lambda path: path.write_text(""), "a notebook was expected"),
    "a notebook without its last cell": (drop_last_cell, "did not report its end"),
    "a parameter without a value": (redeclare(PARAMETERS + "\nmood: str = 'bad'"), "'mood'.*is missing"),
    "a parameter that the notebook does not know": (redeclare(PARAMETERS.replace("days:", "dais:")), "did you mean"),
    "a parameter of another type": (redeclare(PARAMETERS.replace("days: int = 30", "days: str = 'x'")), "must be str"),
    "parameters that are no Python": (redeclare(PARAMETERS + "\nmood: str ="), "should be Python"),
    "a parameter that is computed": (redeclare(PARAMETERS + "\nnow: float = time()"), "written `name"),
}

BUNDLES = {
    "a snapshot that cannot be read": (lambda run: cut(run / "snapshot" / "snapshot.json"), "snapshot bundle was"),
    "a snapshot that is not there": (lambda run: shutil.rmtree(run / "snapshot"), "snapshot bundle was expected"),
    "facts without a hash": (lambda run: (run / "snapshot" / "snapshot.json").write_text("{}"), "found one without"),
    "a changed candle": (change_a_candle, "was changed"),
    "a flipped bit": (turn_a_bit, "did not finish"),
    "a truncated table": (lambda run: cut(run / "snapshot" / "candles.parquet"), "did not finish"),
    "a table that is gone": (lambda run: (run / "snapshot" / "gaps.parquet").unlink(), "did not finish"),
}


@pytest.fixture
def place(tmp_path, built_once) -> Path:
    """A finished report and its chapters, to be broken."""
    return shutil.copytree(built_once, tmp_path / "place")


def refuse(place: Path, why: str, **options) -> None:
    """The build raises, and neither the chapter, the index nor the manifest stands."""
    with pytest.raises(BtcmlError, match=f"(?s){why}"):
        build_report(place / "run", notebooks=place / "chapters", **options)
    for name in ("02-eda.html", "index.html", "slides.html", "manifest.json"):
        assert not (place / "run" / "pages" / name).exists(), name


def test_there_are_more_than_twenty_sabotages():
    """Sixteen end a kernel, these break a build."""
    assert len({*SABOTAGES, *CELLS, *NOTEBOOKS, *BUNDLES}) >= 40


@pytest.mark.parametrize("name", CELLS)
def test_no_broken_chapter_yields_a_page(place, name):
    """Whatever a chapter does, an older page of it, the index and the manifest are gone."""
    cell, why = CELLS[name]
    write_notebook(place / "chapters" / "02-eda.ipynb", FACTS, cell, FINISH)
    refuse(place, why, limits=Limits(cell=4 if "stops itself" in name else 60))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_broken_notebook_yields_a_page(place, name):
    """A file that is not a complete notebook with the right parameters is reported by name."""
    damage, why = NOTEBOOKS[name]
    damage(place / "chapters" / "02-eda.ipynb")
    refuse(place, why)


@pytest.mark.parametrize("name", BUNDLES)
def test_no_broken_snapshot_yields_a_page(place, name):
    """Content that does not match its hash is on no page."""
    damage, why = BUNDLES[name]
    write_notebook(place / "chapters" / "02-eda.ipynb", OPEN, FINISH)
    damage(place / "run")
    with pytest.raises(BtcmlError, match=f"(?s){why}"):
        build_report(place / "run", notebooks=place / "chapters")
    assert "did not finish" not in why or not (place / "run" / "pages" / "index.html").exists()


def test_a_chapter_that_is_gone_leaves_nothing_behind(place):
    """Its page, numbers and slides are gone, the others stand; without the last chapter there is no report."""
    pages = place / "run" / "pages"
    (place / "chapters" / "02-eda.ipynb").unlink()
    build_report(place / "run", notebooks=place / "chapters")
    assert not [path for path in pages.rglob("*") if "eda" in path.name]
    assert "02-eda" not in (pages / "index.html").read_text()
    slides = 1 + sum(chapter != "eda" for chapter, *_ in PICTURES)
    assert (pages / "slides.html").read_text().count('class="slide"') == slides
    (place / "chapters" / "05-evaluation.ipynb").unlink()
    with pytest.raises(BtcmlError, match="should have left evaluation/facts"):
        build_report(place / "run", notebooks=place / "chapters")
    assert not (pages / "manifest.json").exists()


def test_two_builds_never_work_in_one_folder(place):
    """The second one is refused in a sentence and touches nothing."""
    with folder_lock(place / "run"), pytest.raises(BusyError, match="another process is working in"):
        build_report(place / "run", notebooks=place / "chapters")
    build_report(place / "run", notebooks=place / "chapters")


BUILD = """import resource, signal, sys
from pathlib import Path
from btcml.report.build import build_report
signal.signal(signal.SIGTERM, signal.default_int_handler)
{limit}
build_report(Path(sys.argv[1]) / "run", notebooks=Path(sys.argv[1]) / "chapters")"""


def start(place: Path, limit: str = ""):
    code = BUILD.format(limit=limit)
    return started([sys.executable, "-c", code, str(place)], stdout=-1, stderr=-1, text=True)


def test_a_full_disk_yields_no_page_and_no_success(place):
    """Files that may not grow beyond two kilobytes: the build fails, and no half page counts."""
    write_notebook(place / "chapters" / "02-eda.ipynb", FACTS, SHOW % ("<p>long</p>" * 999), FINISH)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))"
    with start(place, limit) as process:
        _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1, said
    for name in ("02-eda.html", "index.html", "manifest.json"):
        assert not (place / "run" / "pages" / name).exists(), name


def test_an_interrupted_build_ends_at_once_leaves_no_index_and_can_be_made_again(place):
    """SIGTERM half-way through a cell of an hour: the kernel is stopped with the build, not waited for."""
    chapter = place / "chapters" / "02-eda.ipynb"
    kept = chapter.read_bytes()
    mark = place / "kernel"
    write_notebook(
        chapter, FACTS, f"open({str(mark)!r}, 'w').write(str(os.getpid()))\nimport time; time.sleep(3600)", FINISH
    )
    with start(place) as process:
        until(lambda: (mark.exists() and mark.read_text()) or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    assert not running(int(mark.read_text()))
    assert not (place / "run" / "pages" / "index.html").exists()
    assert not (place / "run" / "pages" / "02-eda.html").exists()
    chapter.write_bytes(kept)
    assert build_report(place / "run", notebooks=place / "chapters").exists()


def running(pid: int) -> bool:
    """Whether a process is alive (a zombie is not)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
