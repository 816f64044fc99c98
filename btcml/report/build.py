"""Builds a report in a run folder; each page is written atomically.

The run folder::

    snapshot/    the bundle               products/CHAPTER/   results of the chapters
    executed/    executed notebooks       pages/              the report: HTML, data/*.csv, manifest.json
    run.json     timings, outside of everything that is hashed
"""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from btcml.candles import interval_delta
from btcml.errors import ReportError, UsageError
from btcml.files import file_hash, folder_lock, replaced_folder, write_bytes, write_text
from btcml.report.execute import Limits, Progress, no_progress, run_chapter, stop_kernels
from btcml.report.language import ENGLISH, in_language
from btcml.report.manifest import (
    NOTEBOOKS,
    Inputs,
    bundle_facts,
    chapter_key,
    gather_inputs,
    manifest_text,
    site_of,
    write_environment,
)
from btcml.report.pages import INDEX, SLIDES, Page, chapter_page, check_page, index_page, slides_page

_DEFAULT_LIMITS = Limits()
_SHORTEST = 20
_MIN = 200  # minimum number of candles of a verdict
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Run:
    """One run folder and the inputs that decide its report.

    Attributes
    ----------
    folder
        The run folder.
    inputs
        Hashes and parameters, gathered once for all chapters.
    notebooks
        Folder of the chapters.
    limits
        Seconds for start, cell and chapter.
    """

    folder: Path
    inputs: Inputs
    notebooks: Path = NOTEBOOKS
    limits: Limits = _DEFAULT_LIMITS

    @property
    def pages(self) -> Path:
        """Folder of the report."""
        return self.folder / "pages"

    @property
    def products(self) -> Path:
        """Folder of the chapters' results."""
        return self.folder / "products"

    def page(self, chapter: str) -> Page:
        """Return the page of a chapter.

        Raises
        ------
        UsageError
            If there is no such chapter.
        """
        found = {page.chapter: page for page in self.inputs.pages}
        if chapter not in found:
            msg = f"a chapter is one of {', '.join(found)}, found {chapter!r}"
            raise UsageError(msg)
        return found[chapter]

    def executed(self, page: Page) -> Path:
        """Return the path of the executed notebook of a page."""
        return self.folder / "executed" / f"{Path(page.href).stem}.ipynb"

    def stamp(self, page: Page) -> Path:
        """Return the file with the inputs and outputs of a finished chapter."""
        return self.executed(page).with_suffix(".json")


def open_run(
    folder: Path, *, notebooks: Path = NOTEBOOKS, language: str = ENGLISH, limits: Limits = _DEFAULT_LIMITS
) -> Run:
    """Open a run folder that holds a bundle in ``snapshot/``.

    Raises
    ------
    NotFoundError
        If it holds none.
    UsageError
        If there is no translation into the language.
    """
    return Run(folder, gather_inputs(folder / "snapshot", notebooks, language), notebooks, limits)


def adopt_bundle(folder: Path, bundle: Path) -> Path:
    """Copy a snapshot bundle into a run folder atomically; an equal one stays.

    Raises
    ------
    NotFoundError
        If there is no bundle.
    """
    place, wanted = folder / "snapshot", bundle_facts(bundle)["hash"]
    if (place / "snapshot.json").exists() and bundle_facts(place)["hash"] == wanted:
        return place
    with replaced_folder(place) as new:
        shutil.copytree(bundle, new, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return place


def build_report(
    folder: Path,
    *,
    bundle: Path | None = None,
    notebooks: Path = NOTEBOOKS,
    language: str = ENGLISH,
    limits: Limits = _DEFAULT_LIMITS,
    workers: int = 2,
    progress: Progress = no_progress,
) -> Path:
    """Make every page of a run folder that is missing or was made from other inputs.

    Parameters
    ----------
    folder
        Run folder; two builds never work in one at once.
    bundle
        Snapshot bundle of the report; by default the one in ``snapshot/``.
    notebooks, language, limits
        Folder of the chapters, the language of the pages, and the seconds that chapters may take.
    workers
        Number of chapters that run in parallel, each in its own kernel.
    progress
        Called with one line per cell.

    Returns
    -------
    Path
        ``index.html``.

    Raises
    ------
    UsageError
        If the snapshot holds too little for a report, or there is no such language; no chapter has started then.
    ReportError
        If a chapter fails: its failed notebook is in ``executed/``, and there is no page of it, no index and no
        manifest. If another build uses the folder.
    """
    with folder_lock(folder):
        if bundle is not None:
            adopt_bundle(folder, bundle)
        run = open_run(folder, notebooks=notebooks, language=language, limits=limits)
        _check_length(run)
        _build_chapters(run, workers, progress)
        return build_index(run)


def _check_length(run: Run) -> None:
    """Reject a too short snapshot at once; a damaged one is reported by its first reader."""
    try:
        times = pd.read_parquet(run.folder / "snapshot" / "candles.parquet", columns=["open_time"])
    except (OSError, ValueError):
        return
    interval = str(run.inputs.parameters["interval"])
    check_length(times["open_time"].iloc[0], times["open_time"].iloc[-1] + interval_delta(interval), interval)


def _build_chapters(run: Run, workers: int, progress: Progress) -> None:
    """Make what is not up to date, in parallel where one chapter does not need the other."""
    pages, started = run.inputs.pages, dict[str, Future[Path]]()
    needed = {name for page in pages for name in page.needs}

    def one(page: Page) -> Path:
        """Build a page after those that it needs."""
        for earlier in page.needs:
            started[earlier].result()
        return build_chapter(run, page.chapter, progress=progress)

    with ThreadPoolExecutor(workers) as pool:
        # Chapters that others need start first.
        for page in sorted(pages, key=lambda page: (bool(page.needs), page.chapter not in needed)):
            started[page.chapter] = pool.submit(one, page)
        try:
            for page in pages:
                started[page.chapter].result()
        except KeyboardInterrupt:
            stop_kernels()  # else the interruption would wait for complete chapters
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def build_chapter(run: Run, chapter: str, *, progress: Progress = no_progress) -> Path:
    """Run one chapter and make its page, unless both are there and were made from the same inputs.

    Raises
    ------
    UsageError
        If there is no such chapter.
    ReportError
        If the chapter or its page fails; its older page is then deleted.
    """
    page = run.page(chapter)
    key, target = _key(run, page), run.pages / page.href
    if _fresh(run, page, key):
        return target
    # Without the chapter, index and manifest must go too.
    for old in (target, run.stamp(page), *(run.pages / name for name in (INDEX.href, SLIDES.href, "manifest.json"))):
        old.unlink(missing_ok=True)
    begun, notebook = time.monotonic(), run.notebooks / page.notebook
    run_chapter(
        notebook,
        run.inputs.parameters,
        run.executed(page),
        folder=run.folder,
        language=run.inputs.language,
        limits=run.limits,
        progress=progress,
    )
    with in_language(run.inputs.language):
        outputs = _publish(run, page)
    write_environment(run.pages)
    made = {"key": key, "outputs": outputs, "seconds": round(time.monotonic() - begun, 1)}
    write_text(run.stamp(page), json.dumps(made, indent=1) + "\n")
    progress(f"{notebook.stem}: {target.name} is ready")
    return target


def _key(run: Run, page: Page) -> str:
    """Key of a chapter: its inputs, and those of the chapters that it needs."""
    earlier = [json.loads(run.stamp(run.page(name)).read_text())["key"] for name in page.needs]
    return "-".join([chapter_key(run.inputs, page), *earlier])


def _fresh(run: Run, page: Page, key: str) -> bool:
    if not run.stamp(page).exists():
        return False
    stamp = json.loads(run.stamp(page).read_text())
    files = {run.pages / name: digest for name, digest in stamp["outputs"].items()}
    return stamp["key"] == key and all(path.exists() and file_hash(path) == files[path] for path in files)


def _publish(run: Run, page: Page) -> dict[str, str]:
    """Write the CSV files and then the page; return the hash of each."""
    numbers = sorted((run.products / page.chapter).glob("*.csv"))
    html = chapter_page(run.executed(page), page, site_of(run.inputs, page))
    check_page(html, page.href, figures=[f"{page.chapter}-{path.stem}" for path in numbers])
    for old in (run.pages / "data").glob(f"{page.chapter}-*.csv"):
        old.unlink()
    written = [write_bytes(run.pages / "data" / f"{page.chapter}-{path.name}", path.read_bytes()) for path in numbers]
    written.append(write_text(run.pages / page.href, html))
    return {path.relative_to(run.pages).as_posix(): file_hash(path) for path in written}


def build_index(run: Run) -> Path:
    """Make the first page, the slides and the manifest from the results of the chapters.

    Raises
    ------
    ReportError
        If a chapter has not been made.
    """
    outputs: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for folder in run.products.glob("*"):  # of a removed chapter
        if folder.name not in {page.chapter for page in run.inputs.pages}:
            shutil.rmtree(folder)
    for page in run.inputs.pages:
        if not run.stamp(page).exists():
            msg = f"the index needs chapter {page.chapter}, found no page of it: build it first"
            raise ReportError(msg)
        stamp = json.loads(run.stamp(page).read_text())
        outputs |= stamp["outputs"]
        seconds[page.chapter] = stamp["seconds"]
    for page, make in ((INDEX, index_page), (SLIDES, slides_page)):
        with in_language(run.inputs.language):
            html = check_page(make(run.products, site_of(run.inputs, page)), page.href)
        outputs[page.href] = file_hash(write_text(run.pages / page.href, html))
    for old in [*run.pages.glob("*.html"), *run.pages.glob("data/*")]:
        if old.relative_to(run.pages).as_posix() not in outputs:
            old.unlink()
    write_text(run.pages / "manifest.json", manifest_text(asdict(run.inputs), outputs))
    write_text(run.folder / "run.json", json.dumps({"seconds": seconds}, indent=1) + "\n")
    return run.pages / INDEX.href


def check_length(first: pd.Timestamp, end: pd.Timestamp, interval: str) -> None:
    """Refuse candles from `first` to `end` (exclusive) that are too few for a report.

    Raises
    ------
    UsageError
        If they span fewer than twenty days, or hold too few candles for a verdict.
    """
    days = (end - interval_delta(interval) - first) // _DAY
    start = (end - interval_delta(interval) - min(365, days // 3) * _DAY).floor("D")
    span, tested = end - first, (end - start) // interval_delta(interval)
    if span < _SHORTEST * _DAY or tested < _MIN:
        msg = (
            f"a report needs {_SHORTEST} days and {_MIN} candles in their last third (of a year at most), found "
            f"{span // _DAY} days and {tested:,} candles: give more DAYS or a shorter INTERVAL"
        )
        raise UsageError(msg)


def check_request(days: int, interval: str, end: pd.Timestamp, now: pd.Timestamp) -> None:
    """Reject a report that cannot be built, before anything is fetched.

    Parameters
    ----------
    days, interval, end
        The span that is requested; `end` is exclusive.
    now
        The time of the source's clock.

    Raises
    ------
    UsageError
        If the span ends in the future, holds fewer than twenty days, or too few candles for a verdict.
    """
    if end > now:
        msg = (
            f"END may not be after {now:%Y-%m-%d %H:%M} UTC, where the source ends, found {end:%Y-%m-%d %H:%M}: "
            "give an earlier END"
        )
        raise UsageError(msg)
    check_length(end - days * _DAY, end, interval)
