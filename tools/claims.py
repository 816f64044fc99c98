"""Every sentence that a report can compute, with the condition under which it stands there, read from the code.

Each of them is an argument of `say.claim` or `say.cases` in one of `MODULES`, so that the list holds all of them, and
none that a page cannot show. In it ``[a | b]`` is one of several texts and ``…`` a computed one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import btcml.report

from tools.texts import Reader, described, scopes

_REPORT = Path(btcml.report.__file__).parent
_CHAPTERS = ("ingest", "eda", "features", "training", "evaluation", "tryout", "horizons")
MODULES: dict[str, Path] = {name: _REPORT / "charts" / f"{name}.py" for name in _CHAPTERS} | {
    "figures": _REPORT / "figures.py",
    "pages": _REPORT / "pages.py",
    "judgement": _REPORT / "judgement.py",
}
"""Where sentences are made: the charts of each chapter, what charts and tables share, the pages, and a judgement."""

Row = tuple[str, str, str]
"""Function that shows a sentence, condition, sentence."""


def claims(path: Path) -> list[Row]:
    """Every claim of a module, in the order of the code."""
    rows = []
    for name, function, reader in scopes(path):
        calls = list(_calls(function, ()))
        found = [row for call, tests in calls for row in _rows(reader, call, tests)]
        early = any(tests for _, tests in calls)
        shown = _shown_by(name, reader.functions)
        rows += [(shown, "otherwise" if early and said == "always" else said, text) for said, text in found]
    return rows


def _calls(node: ast.AST, tests: tuple[ast.expr, ...]) -> Iterator[tuple[ast.Call, tuple[ast.expr, ...]]]:
    """Claims below a node, each with the tests of the statements ``if`` around it."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"say.claim", "say.cases"}:
        yield node, tests
    for child in ast.iter_child_nodes(node):
        inside = isinstance(node, ast.If) and child in node.body
        yield from _calls(child, (*tests, node.test) if inside else tests)


def _shown_by(name: str, functions: dict[str, ast.FunctionDef]) -> str:
    """The public function that uses a private one."""
    if not name.startswith("_"):
        return name
    users = (
        other
        for other, body in functions.items()
        if other != name and any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(body))
    )
    return _shown_by(next(users, name.lstrip("_")), functions)


def _rows(reader: Reader, call: ast.Call, tests: tuple[ast.expr, ...]) -> Iterator[tuple[str, str]]:
    """Conditions and sentences of one claim."""
    around = "".join(f"`{reader.condition(test)}`, " for test in tests)
    for test, sentence in _cases(call):
        own = "" if test is None else "otherwise" if isinstance(test, ast.Constant) else f"`{reader.condition(test)}`"
        condition = (around + own).removesuffix(", ") or "always"
        yield condition, described(reader.text(sentence)) if sentence else "*the build fails*"


def _cases(call: ast.Call) -> list[tuple[ast.expr | None, ast.expr | None]]:
    if ast.unparse(call.func) == "say.cases":
        return [(case.elts[0], case.elts[1]) for case in call.args if isinstance(case, ast.Tuple)]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "holds" not in given:
        return [(None, call.args[0])]
    return [(given["holds"], call.args[0]), (ast.Constant(value=True), given.get("otherwise"))]


def claim_tables() -> dict[str, list[Row]]:
    """Rows of each module's table; a name stands in its first row alone."""
    tables = {}
    for module, path in MODULES.items():
        rows = claims(path)
        firsts = [True, *(before[0] != row[0] for before, row in pairwise(rows))]
        tables[module] = [(f"`{row[0]}`" * first, row[1], row[2]) for first, row in zip(firsts, rows, strict=True)]
    return tables
