"""What a translation of the report must have: every text of charts, pages, templates and notebooks, with its variants.

Sentences are completed from literals of the code: where an expression joins several, each whole sentence that it can
make is one message. ``python -m tools.messages`` names what the catalogues lack and what they do not need.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from babel.messages.pofile import read_po

import btcml.report
from btcml.contract import load_contract
from btcml.forecast.features import features_of
from btcml.forecast.metrics import THIRDS
from btcml.report import claims, exploration, pages
from btcml.report.charts import evaluation
from btcml.report.execute import load_notebook
from btcml.report.language import COUNTS, LANGUAGES, PATTERNS
from btcml.report.manifest import NOTEBOOKS
from btcml.report.pages import TEMPLATE
from btcml.store.models import RESEARCH

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = tuple[str, str]
"""Context, and the English text: of a counted noun both forms, joined by a bar."""

_REPORT = Path(btcml.report.__file__).parent
_CODE = ("claims.py", "figures.py", "pages.py", "story.py", "charts/*.py")
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

_MIXED = "\0"
"""Mark of an expression that joins words and a value of the run."""

_FOOTER = ("Snapshot", "Code", "Notebook", "Lock")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Reader:
    """Collects the texts of one module, statement by statement."""

    def __init__(self, file: Path) -> None:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        self.found: set[Message] = set()
        self.lost: set[str] = set()
        self.verbs: set[str] = set()
        self._functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self._module: dict[str, set[str]] = {}
        self._read(tree.body, self._module)

    def _read(self, body: list[ast.stmt], known: dict[str, set[str]]) -> set[str]:
        """Collect the texts of statements; return those that they return."""
        returned: set[str] = set()
        for statement in body:
            for node in _own_nodes(statement):
                if isinstance(node, ast.Call):
                    self._call(node, known)
            self._assign(statement, known)
            if isinstance(statement, ast.Return) and statement.value:
                returned |= self.texts(statement.value, known)
            for part in ("body", "orelse", "finalbody"):
                inside = known | {} if isinstance(statement, ast.FunctionDef | ast.ClassDef) else known
                returned |= self._read(getattr(statement, part, []), inside)
        return returned

    def _assign(self, statement: ast.stmt, known: dict[str, set[str]]) -> None:
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            name, more = statement.target.id, self.texts(statement.value, known)
            known[name] = self._joined(statement.value, [known.get(name, set()), more]) if more else set()
        elif isinstance(statement, ast.For) and isinstance(statement.iter, ast.Tuple):
            for row in statement.iter.elts:
                self._bind(statement.target, row, known, add=True)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            self._bind(target, statement.value, known)
            if isinstance(target, ast.Name) and target.id == "columns":
                self.found |= {("", text) for text in known[target.id]}

    def _bind(self, target: ast.expr, value: ast.expr, known: dict[str, set[str]], *, add: bool = False) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for name, part in zip(target.elts, value.elts, strict=False):
                self._bind(name, part, known, add=add)
        elif isinstance(target, ast.Name):
            known[target.id] = self.texts(value, known) | (known.get(target.id, set()) if add else set())

    def _call(self, call: ast.Call, known: dict[str, set[str]]) -> None:
        name = _name(call)
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        placed = dict(enumerate(call.args))
        self.verbs |= {key for key, value in named.items() if key and _name(value) == "verb"}
        if name == "cases":
            shown = [arg.elts[1] for arg in call.args if isinstance(arg, ast.Tuple)]
        else:
            shown = [node for key in _SHOWN.get(name, ()) if (node := placed.get(key, named.get(str(key))))]
        found = {text for node in shown for text in self.texts(node, known)}
        mixed = {text for text in found if _MIXED in text}
        self.found |= {("", text) for text in found - mixed}
        self.lost |= mixed if name != "word" else set()  # a name is not translated
        if name == "count" and 1 in placed:
            plural = self.texts(placed[2], known) if 2 in placed else set()  # noqa: PLR2004 - its place
            for one in self.texts(placed[1], known):
                self.found.add((COUNTS, f"{one}|{next(iter(plural), f'{one}s')}"))

    def texts(self, node: ast.expr, known: dict[str, set[str]]) -> set[str]:
        """Every text that an expression can be; none where it is a value of the run."""
        found: set[str] = set()
        match node:
            case ast.Constant(value=str(text)):
                found = {text} - {""}
            case ast.Name(id=name):
                found = known.get(name, self._module.get(name, set()))
            case ast.BinOp(op=ast.Mult(), left=text):
                found = {"", *self.texts(text, known)}
            case ast.BinOp(op=ast.Add(), left=begin, right=end):
                found = self._joined(node, [self.texts(part, known) for part in (begin, end)])
            case ast.JoinedStr(values=pieces):
                parts = [piece.value if isinstance(piece, ast.FormattedValue) else piece for piece in pieces]
                found = self._joined(node, [self.texts(part, known) for part in parts])
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                found = self._read(self._functions[name].body, {})
            case _:
                found = {text for part in _alternatives(node) for text in self.texts(part, known)}
        return found

    def _joined(self, node: ast.expr, parts: list[set[str]]) -> set[str]:
        """Every text of these parts; one with a value of the run is no message."""
        if any(parts) and not all(parts):
            return {f"{_MIXED}{ast.unparse(node)}"}
        return {"".join(pieces) for pieces in product(*parts)}


def _name(node: ast.expr) -> str:
    """Name of the function of a call."""
    function = getattr(node, "func", None)
    return str(getattr(function, "attr", getattr(function, "id", "")))


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Nodes of a statement without those of the statements in it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """Expressions of which the value is one; of a tuple its first part, as in a table the heading."""
    match node:
        case ast.IfExp(body=one, orelse=other):
            return [one, other]
        case ast.Subscript(value=one):
            return [one]
        case ast.Tuple(elts=parts):
            return parts[:1]
        case ast.BoolOp(values=parts) | ast.Dict(values=parts):
            return parts
    return []


@cache
def _readers() -> list[_Reader]:
    return [_Reader(file) for pattern in _CODE for file in _REPORT.glob(pattern)]


def grammar() -> set[str]:
    """Return the placeholders of verbs, which translations leave out."""
    return {name for reader in _readers() for name in reader.verbs}


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
    yield from (*_CELLS, *_FOOTER, *_MONTHS, *claims.TITLES.values(), *(title for *_, title in pages.PICTURES))
    yield from (rule.description for rule in load_contract().rules)
    yield from (feature.formula for feature in features_of("core"))
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
    found = {message for reader in _readers() for message in reader.found}
    if lost := {text for reader in _readers() for text in reader.lost}:
        msg = f"a text with a value is a claim with a placeholder, found {'; '.join(sorted(lost))}"
        raise ValueError(msg)
    nouns = {(COUNTS, f"{noun}|{noun}s") for noun in evaluation.NOUNS.values()}
    loose = {("", text) for text in _frame_messages()}
    return (found | nouns | loose | {*_template_messages(), *_notebook_messages()}) - {("", "")}


def catalogue(language: str) -> dict[Message, str | tuple[str, ...]]:
    """Return the messages of a catalogue and their translations, without the patterns."""
    with (TEMPLATE / f"{language}.po").open("rb") as file:
        entries = [entry for entry in read_po(file, abort_invalid=True) if entry.id and entry.context != PATTERNS]
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
