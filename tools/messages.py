"""What a translation of the report must have: every text of charts, pages, templates and notebooks, with its variants.

Sentences are completed from literals of the code: where an expression joins several, each whole sentence that it can
make is one message. ``python -m tools.messages`` names what the catalogues lack and what they do not need.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import btcml
from btcml.contract import load_contract
from btcml.forecast.features import features_of
from btcml.forecast.metrics import THIRDS
from btcml.report import claims, exploration, pages
from btcml.report.charts import evaluation
from btcml.report.execute import load_notebook
from btcml.report.language import BELOW_TWO, COUNTS, LANGUAGES, read_catalogue
from btcml.report.manifest import NOTEBOOKS
from btcml.report.pages import TEMPLATE
from btcml.store.models import RESEARCH

from tools.texts import COMPUTED, Reader, name_of, scopes, variants

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = tuple[str, str]
"""Context, and the English text: of a counted noun both forms, joined by a bar."""

_HOUSE = Path(btcml.__file__).parent
_REPORT = ("claims.py", "figures.py", "pages.py", "story.py", "charts/*.py")
_BELOW = ("forecast/experiment.py", "forecast/verdict.py", "market/files.py", "market/formats.py")
"""Files whose sentences keep their values for the report."""

_SHOWN: dict[str, tuple[int | str, ...]] = {
    "claim": (0, "otherwise"), "word": (0,), "number": (2, "unit"), "Card": (0, 2), "Chart": (4,),
    "Table": (0,), "Tryout": (0,), "Page": (2, 3), "translated": (0,), "zero_line": (1,), "where": (1, 2),
    "set": ("xlabel", "ylabel", "title"), "set_xlabel": (0,), "set_ylabel": (0,), "set_title": (0,),
    "_skill_line": (2,), "plot": ("label",), "axhline": ("label",), "axvline": ("label",), "fill_between": ("label",),
}  # fmt: skip
"""Functions with arguments, by place or name, that are shown."""

_CELLS = (
    *("up", "down", "champion", "challenger", "halt", "ours", "range", "volatility", "all", *THIRDS),
    *("log price", "log return", "Ljung-Box: is there memory left?", "ARCH-LM: does the size have memory?"),
    *("As the last candle", "unlikely at one look", "yes", "most likely", "not shown", "this report", "to"),
    *("month", "year"),
    *("simulated market", "replay", "file", "No required value is missing.", "No open time comes twice."),
    *(f"{kind} of the authors" for kind in ("search", "verdict")),
    *(f"{kind} of this installation" for kind in ("search", "verdict", "experiment")),
)
"""What frames hold and tables and drawings show."""

_FOOTER = ("Snapshot", "Code", "Notebook", "Lock")


class _Found:
    """What the code of the report shows.

    Attributes
    ----------
    messages
        Texts, and nouns that are counted.
    mixed
        Texts that are joined from words and a value of the run, as code.
    verbs
        Placeholders of verbs.
    """

    def __init__(self) -> None:
        self.messages: set[Message] = set()
        self.mixed: set[str] = set()
        self.verbs: set[str] = set()
        for file in (file for pattern in _REPORT for file in (_HOUSE / "report").glob(pattern)):
            for _, scope, reader in scopes(file):
                self._columns(reader)
                for node in ast.walk(scope):
                    if isinstance(node, ast.Call):
                        self._call(node, reader)
        for _, scope, reader in (found for file in _BELOW for found in scopes(_HOUSE / file)):
            calls = [node for node in ast.walk(scope) if name_of(node) == "Sentence"]
            self.messages |= {("", text) for call in calls for text in _texts(call.args[0], reader)}

    def _columns(self, reader: Reader) -> None:
        """Headings of a table that a function has given this name."""
        self.messages |= {("", text) for text in _texts(ast.Name("columns"), reader)}

    def _call(self, call: ast.Call, reader: Reader) -> None:
        name = name_of(call)
        given = dict(enumerate(call.args)) | {keyword.arg: keyword.value for keyword in call.keywords}
        self.verbs |= {str(key) for key, value in given.items() if name_of(value) == "verb"}
        shown = [given[key] for key in _SHOWN.get(name, ()) if key in given]
        if name == "cases":
            shown = [arg.elts[1] for arg in call.args if isinstance(arg, ast.Tuple)]
        for node in shown:
            for text in _texts(node, reader):
                if COMPUTED not in text:
                    self.messages.add(("", text))
                elif name != "word":  # a name is not translated
                    self.mixed.add(ast.unparse(node))
        if name == "number":
            units = {unit for node in shown for unit in _texts(node, reader)}
            self.messages |= {(BELOW_TWO, unit) for unit in units if len(unit) > len("bp")}  # signs have no plural
        if name == "count" and 1 in given:
            plural = _texts(given[2], reader) if 2 in given else set()  # noqa: PLR2004 - its place
            self.messages |= {(COUNTS, f"{one}|{next(iter(plural), f'{one}s')}") for one in _texts(given[1], reader)}


def _texts(node: ast.expr, reader: Reader) -> set[str]:
    """Every text that an expression can be; none where it is a value of the run."""
    return {text for text in variants(reader.text(node)) if text.strip(COMPUTED)}


_found = cache(_Found)


def grammar() -> set[str]:
    """Return the placeholders of verbs, which translations leave out."""
    return _found().verbs


def _template_messages() -> Iterator[Message]:
    for file in TEMPLATE.glob("*.j*"):
        for _, function, text in pages.environment().extract_translations(file.read_text(encoding="utf-8")):
            yield (COUNTS, "|".join(text[:2])) if function == "ngettext" else ("", text or "")


def _notebook_messages() -> Iterator[Message]:
    for page in pages.find_chapters(NOTEBOOKS):
        yield from (("", page.title), ("", page.short))
        cells = [cell.source for cell in load_notebook(NOTEBOOKS / page.notebook).cells if cell.cell_type == "markdown"]
        yield from (("", text.lstrip("# ")) for source in cells for text in source.split("\n\n"))


def _frame_messages() -> Iterator[str]:
    """Texts that the report takes from elsewhere."""
    yield from (*_CELLS, *_FOOTER, *claims.TITLES.values(), *(title for *_, title in pages.PICTURES))
    yield from (rule.description for rule in load_contract().rules)
    for name in ("core", "wide", "range"):
        yield from (feature.formula for feature in features_of(name))
    yield from pd.read_csv(RESEARCH)["what"]
    yield from (text for pair in evaluation.JOINT.values() for text in pair)
    yield from (text for day in exploration.DAYS for text in (day, f"{day}s"))


def messages() -> set[Message]:
    """Return every message; counted nouns have the context of counts.

    Raises
    ------
    ValueError
        If a text that is shown is joined from words and a value of the run: make it a claim.
    """
    if mixed := _found().mixed:
        msg = f"a text with a value is a claim with a placeholder, found {'; '.join(sorted(mixed))}"
        raise ValueError(msg)
    nouns = {(COUNTS, f"{noun}|{noun}s") for noun in evaluation.NOUNS.values()}
    loose = {("", text) for text in _frame_messages()}
    return (_found().messages | nouns | loose | {*_template_messages(), *_notebook_messages()}) - {("", "")}


def catalogue(language: str) -> dict[Message, str | tuple[str, ...]]:
    """Return the messages of a catalogue and their translations."""
    entries = [entry for entry in read_catalogue(language) if entry.id]
    keys = [entry.id if isinstance(entry.id, str) else "|".join(entry.id) for entry in entries]
    return {(entry.context or "", key): entry.string for key, entry in zip(keys, entries, strict=True)}


def main() -> None:
    """Print what each catalogue lacks and what it does not need."""
    for language in LANGUAGES[1:]:
        wanted, there = messages(), catalogue(language).keys()
        for word, found in (("lacks", wanted - there), ("does not need", there - wanted)):
            for context, text in sorted(found):
                sys.stdout.write(f"{language} {word} {f'({context}) ' * bool(context)}{text!r}\n")


if __name__ == "__main__":
    main()
