"""The object that a notebook works with: it shows figures and tables, stores and loads results, and reports the end.

A chapter's products are in ``products/CHAPTER/``: each figure and table as ``NAME.csv`` (raw numbers) and
``NAME.json`` (title and markup), the result of the experiment as ``result.parquet``, and ``facts.json`` with
the headline and the cards of the index.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython import display

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError, ReportError, UsageError
from btcml.files import file_hash, write_text
from btcml.report import claims as say
from btcml.report.claims import Claim
from btcml.report.figures import Chart, Download, Table, exhibit_html
from btcml.report.language import translated
from btcml.store.snapshots import load_snapshot

if TYPE_CHECKING:
    import pandas as pd

    from btcml.forecast.experiment import Result
    from btcml.report.claims import Card
    from btcml.store.snapshots import Snapshot


FINISHED = "application/vnd.btcml.finished+json"
"""MIME type of what the last cell shows: it marks the chapter as complete."""

NONCE = "BTCML_REPORT_NONCE"
"""Variable with the word that the last cell must show, drawn for each run and given to its kernel alone."""


@dataclass(frozen=True)
class Story:
    """One chapter over one snapshot.

    Attributes
    ----------
    chapter
        Name of the chapter.
    snapshot
        The data of the report from the database.
    products
        Where the chapters leave their numbers.
    """

    chapter: str
    snapshot: Snapshot
    products: Path

    @property
    def candles(self) -> pd.DataFrame:
        """The candle frame of the snapshot."""
        return self.snapshot.candles

    def show(self, *items: Chart | Table | Download | Claim) -> None:
        """Put figures, tables, downloads and sentences on the page; leave their numbers in the products.

        Raises
        ------
        ReportError
            If a report shows two figures or tables of one name. In JupyterLab a cell may run again.
        """
        for item in items:
            _put(f"<p>{escape(str(item))}</p>" if isinstance(item, Claim) else self._exhibit(item))

    def _exhibit(self, item: Chart | Table | Download) -> str:
        """Write the numbers of a figure, table or download and return its markup."""
        path = self.products / self.chapter / f"{item.name}.csv"
        if path.exists() and NONCE in os.environ:
            msg = f"chapter {self.chapter} shows {item.name} twice: give each its own name"
            raise ReportError(msg)
        name = f"{self.chapter}-{item.name}"
        write_text(path, csv_text(item.data))
        if isinstance(item, Download):
            self._leave(item.name, {"kind": "download", "says": str(item.conclusion)})
            shown = item.html(f"{name}.csv", file_hash(path))
            return f'<section id="{name}" class="prose"><p>{escape(str(item.conclusion))}</p>\n{shown}</section>'
        drawn = {"drawn": translated(item.alt)} if isinstance(item, Chart) else {}
        self._leave(item.name, {"kind": item.kind, "says": str(item.conclusion), "body": item.body} | drawn)
        return exhibit_html(item, name, str(say.series(self.snapshot.key)))

    def _leave(self, name: str, facts: dict[str, Any]) -> None:
        text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        write_text(self.products / self.chapter / f"{name}.json", text)

    def keep(self, result: Result) -> None:
        """Leave the result of the experiment for later chapters."""
        from btcml.forecast.artifacts import save_result  # noqa: PLC0415 - the first chapters need no models

        save_result(result, self.products / self.chapter / "result.parquet")

    def recall(self, chapter: str) -> Result:
        """Return the result that an earlier chapter kept.

        Raises
        ------
        NotFoundError
            If that chapter has not run.
        """
        from btcml.forecast.artifacts import load_result  # noqa: PLC0415 - as above

        found = load_result(self.products / chapter / "result.parquet")
        if found is None:
            msg = f"chapter {self.chapter} needs the result of chapter {chapter}, found none: run that chapter first"
            raise NotFoundError(msg)
        return found

    def headline(self, sentence: Claim, *cards: Card, answers: tuple[Card, ...] = ()) -> None:
        """Leave the chapter's one sentence, its key figures and its answers for the index; show the sentence."""
        shown = {"cards": _plain(cards), "answers": _plain(answers)}
        self._leave("facts", {"headline": str(sentence), **shown})
        _put(f'<p class="headline">{escape(str(sentence))}</p>')

    def finish(self) -> None:
        """Report that the chapter is complete: the last cell of every notebook.

        Raises
        ------
        ReportError
            If the chapter left no headline, or a figure without its numbers.
        """
        folder = self.products / self.chapter
        for name in [*sorted(path.stem for path in folder.glob("*.csv")), "facts"]:
            if not (folder / f"{name}.json").exists():
                msg = f"chapter {self.chapter} should leave {name}.json in its products, found none"
                raise ReportError(msg)
        _show({FINISHED: {"nonce": os.environ.get(NONCE, "")}, "text/plain": f"{self.chapter}: done"})


def _plain(cards: tuple[Card, ...]) -> list[dict[str, str]]:
    return [
        {"label": translated(card.label), "value": str(card.value), "note": translated(card.note)} for card in cards
    ]


def _put(markup: str) -> None:
    _show({"text/html": markup, "text/plain": ""})


def _show(bundle: dict[str, Any]) -> None:
    display.display(bundle, raw=True)  # type: ignore[no-untyped-call]


def csv_text(data: pd.DataFrame) -> str:
    """Return a frame as CSV with ten significant digits and ISO times, the same on every machine."""
    return data.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def open_story(chapter: str, *, symbol: str, interval: str, market: str, snapshot: str, products: str) -> Story:
    """Open a chapter over a snapshot bundle; the first cell after the parameters.

    Parameters
    ----------
    chapter
        Name of the chapter: its notebook's file name without the number.
    symbol, interval, market
        What the snapshot must be of.
    snapshot
        The folder of the bundle.
    products
        Where chapters leave their numbers; this chapter's part is emptied first.

    Raises
    ------
    UsageError
        If the snapshot is of another series.
    NotFoundError
        If there is no bundle.
    """
    key, bundle = SeriesKey(market, symbol, interval), load_snapshot(Path(snapshot))
    if bundle.key != key:
        msg = f"the parameters ask for {key}, found a snapshot of {bundle.key}: give the folder of its bundle"
        raise UsageError(msg)
    folder = Path(products) / chapter
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Story(chapter, bundle, Path(products))
