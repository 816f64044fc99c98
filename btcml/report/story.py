"""What a notebook holds: one frozen story that shows, keeps, recalls and finishes.

A chapter's products rest in ``products/CHAPTER/``: each figure and table as ``NAME.csv`` (raw numbers) and
``NAME.json`` (title, text alternative, markup), frames for later chapters as ``NAME.parquet``, and
``facts.json`` with the cards of the index.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython import display

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError, ReportError, UsageError
from btcml.files import replaced_file, write_text
from btcml.forecast.artifacts import load_result, save_result
from btcml.report.claims import Claim
from btcml.report.figure import Chart, svg_text
from btcml.report.masthead import PAGES
from btcml.report.protocol import FINISHED, NONCE
from btcml.report.tables import Table, table_html
from btcml.store.snapshots import load_snapshot

if TYPE_CHECKING:
    from btcml.forecast.experiment import Result
    from btcml.report.claims import Card
    from btcml.store.snapshots import Snapshot

__all__ = ["CHAPTERS", "Story", "csv_text", "open_story"]

CHAPTERS: dict[str, str] = {page.chapter: page.title for page in PAGES}
"""The chapters in the order of the story, by name, with their titles."""


@dataclass(frozen=True)
class Story:
    """One chapter over one snapshot.

    Attributes
    ----------
    chapter
        A name of `CHAPTERS`.
    key
        Market, symbol and interval.
    days
        Length that was asked for.
    snapshot
        All that a page shows from the database.
    products
        Where the chapters leave their numbers.
    """

    chapter: str
    key: SeriesKey
    days: int
    snapshot: Snapshot
    products: Path

    @property
    def candles(self) -> pd.DataFrame:
        """The candle frame of the snapshot."""
        return self.snapshot.candles

    def show(self, *items: Chart | Table | Claim) -> None:
        """Put figures, tables and sentences on the page; leave their numbers in the products."""
        for item in items:
            markup = f"<p>{escape(str(item))}</p>" if isinstance(item, Claim) else self._exhibit(item)
            _put(markup)

    def _exhibit(self, item: Chart | Table) -> str:
        """Write the numbers of a figure or table and return its markup."""
        path = self.products / self.chapter / f"{item.name}.csv"
        if path.exists():
            msg = f"chapter {self.chapter} shows {item.name} twice: give each its own name"
            raise ReportError(msg)
        body = svg_text(item) if isinstance(item, Chart) else table_html(item)
        kind = "plot" if isinstance(item, Chart) else "table"
        write_text(path, csv_text(item.data))
        facts = {"kind": kind, "says": str(item.says), "body": body}
        write_text(path.with_suffix(".json"), json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        name = f"{self.chapter}-{item.name}"
        return (
            f'<figure id="{name}" class="{kind}"><figcaption>{escape(str(item.says))}</figcaption>\n'
            f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(item.name)}">{body}</div>\n'
            f'<p class="numbers"><a href="data/{name}.csv" download>Numbers (CSV)</a></p></figure>'
        )

    def keep(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Leave a frame for later chapters as ``products/CHAPTER/NAME.parquet``; return it."""
        path = self.products / self.chapter / f"{name}.parquet"
        with replaced_file(path) as new:
            frame.to_parquet(new, index=False, compression="zstd")
        return frame

    def recall(self, chapter: str, name: str) -> pd.DataFrame:
        """Return a frame that an earlier chapter kept.

        Raises
        ------
        NotFoundError
            If that chapter has not run.
        """
        path = self.products / chapter / f"{name}.parquet"
        if not path.exists():
            msg = f"chapter {self.chapter} needs {name} of chapter {chapter}, found none: run that chapter first"
            raise NotFoundError(msg)
        return pd.read_parquet(path)

    def keep_result(self, result: Result) -> None:
        """Leave the result of the experiment for later chapters as ``products/CHAPTER/result.parquet``."""
        save_result(result, self.products / self.chapter / "result.parquet")

    def recall_result(self, chapter: str) -> Result:
        """Return the result that an earlier chapter kept.

        Raises
        ------
        NotFoundError
            If that chapter has not run.
        """
        found = load_result(self.products / chapter / "result.parquet")
        if found is None:
            msg = f"chapter {self.chapter} needs the result of chapter {chapter}, found none: run that chapter first"
            raise NotFoundError(msg)
        return found

    def headline(self, sentence: Claim, *cards: Card) -> None:
        """Leave the chapter's one sentence and its key figures for the index; show the sentence."""
        shown = [{"label": card.label, "value": str(card.value), "note": card.note} for card in cards]
        facts = {"headline": str(sentence), "cards": shown}
        path = self.products / self.chapter / "facts.json"
        write_text(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        _put(f'<p class="headline">{escape(str(sentence))}</p>')

    def finish(self) -> None:
        """Say that the chapter is whole: the last cell of every notebook.

        Raises
        ------
        ReportError
            If the chapter left no headline, or a figure without its numbers.
        """
        folder = self.products / self.chapter
        figures = sorted(path.stem for path in folder.glob("*.csv"))
        for name in [*figures, "facts"]:
            if not (folder / f"{name}.json").exists():
                msg = f"chapter {self.chapter} should leave {name}.json in its products, found none"
                raise ReportError(msg)
        said = {"nonce": os.environ.get(NONCE, ""), "chapter": self.chapter, "figures": figures}
        _show({FINISHED: said, "text/plain": f"{CHAPTERS[self.chapter]}: done"})


def _put(markup: str) -> None:
    _show({"text/html": markup, "text/plain": ""})


def _show(bundle: dict[str, Any]) -> None:
    display.display(bundle, raw=True)  # type: ignore[no-untyped-call]


def csv_text(data: pd.DataFrame) -> str:
    """Return a frame as CSV with ten significant digits and ISO times, the same on every machine."""
    return data.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def open_story(
    chapter: str, *, symbol: str, interval: str, days: int, market: str, snapshot: str, products: str
) -> Story:
    """Open a chapter over a snapshot bundle; the first cell after the parameters.

    Parameters
    ----------
    chapter
        A name of `CHAPTERS`.
    symbol, interval, days, market
        What the snapshot must be of.
    snapshot
        The folder of the bundle.
    products
        Where chapters leave their numbers; this chapter's part is emptied first.

    Raises
    ------
    UsageError
        If there is no such chapter or the snapshot is of another series.
    NotFoundError
        If there is no bundle.
    """
    if chapter not in CHAPTERS:
        msg = f"a chapter is one of {', '.join(CHAPTERS)}, found {chapter!r}"
        raise UsageError(msg)
    key, bundle = SeriesKey(market, symbol, interval), load_snapshot(Path(snapshot))
    if bundle.key != key:
        msg = f"the parameters ask for {key}, found a snapshot of {bundle.key}: give the folder of its bundle"
        raise UsageError(msg)
    folder = Path(products) / chapter
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Story(chapter, key, days, bundle, Path(products))
