"""Every sentence that a report can compute, with the condition under which it stands there, read from the code.

Each of them is an argument of `say.claim` or `say.cases` in one of `MODULES`, so that the list holds all of them, and
none that a page cannot show. In it ``[a | b]`` is one of several texts and ``…`` a computed one.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import btcml.report

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

_WORDS = 8  # letters of a text that is part of a sentence, not a separator


def claims(path: Path) -> list[Row]:
    """Every claim of a module, in the order of the code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    rows = []
    for name, function in functions.items():
        reader = _Reader(functions)
        reader.learn([node for node in tree.body if isinstance(node, ast.Assign)])
        reader.learn(function.body)
        found = [row for call, tests in _calls(function, ()) for row in reader.rows(call, tests)]
        early = any(condition.endswith("`") for condition, _ in found)
        shown = _shown_by(name, functions)
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


@dataclass
class _Reader:
    """What the names of one function stand for.

    Parameters
    ----------
    functions
        Functions of the module, by name.
    texts
        Texts by name, each with the test under which it holds.
    tests
        Conditions by name.
    values
        All that is assigned, by name.
    """

    functions: dict[str, ast.FunctionDef]
    texts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    tests: dict[str, ast.expr] = field(default_factory=dict)
    values: dict[str, list[ast.expr]] = field(default_factory=lambda: defaultdict(list))

    def learn(self, body: list[ast.stmt], test: str = "") -> None:
        """Read the assignments of a body in their order; `test` is what must hold for it."""
        for node in body:
            if isinstance(node, ast.If):
                self.learn(node.body, self.condition(node.test))
                self.learn(node.orelse, f"not {self.condition(node.test)}")
            elif isinstance(node, ast.FunctionDef):
                self.learn(node.body)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self.texts[node.target.id] = [(self._known(node.target.id) + self.text(node.value), "")]
            elif isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
                both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                pairs = zip(target.elts, value.elts, strict=True) if both else [(target, value)]  # type: ignore[attr-defined]
                for name, given in pairs:
                    self._assign(name, given, test)

    def _assign(self, name: ast.expr, value: ast.expr, test: str) -> None:
        if not isinstance(name, ast.Name):
            return
        before = self.texts.get(name.id, []) if test else []
        self.texts[name.id] = [*before, (self.text(value), test)]
        self.values[name.id].append(value)
        if isinstance(value, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Attribute) or _is_number(value):
            self.tests[name.id] = value

    def _known(self, name: str) -> str:
        """What is known of a text by its name."""
        found = self.texts.get(name, [("", "")])
        alone = len(found) == 1
        return _one_of([f"{text} if {test}" if test and not alone else text for text, test in found])

    def rows(self, call: ast.Call, tests: tuple[ast.expr, ...]) -> Iterator[tuple[str, str]]:
        """Conditions and sentences of one claim."""
        around = "".join(f"`{self.condition(test)}`, " for test in tests)
        for test, sentence in self._cases(call):
            own = "" if test is None else "otherwise" if isinstance(test, ast.Constant) else f"`{self.condition(test)}`"
            condition = (around + own).removesuffix(", ") or "always"
            yield condition, self.text(sentence) if sentence else "*the build fails*"

    def _cases(self, call: ast.Call) -> list[tuple[ast.expr | None, ast.expr | None]]:
        if ast.unparse(call.func) == "say.cases":
            return [(case.elts[0], case.elts[1]) for case in call.args if isinstance(case, ast.Tuple)]
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if "holds" not in given:
            return [(None, call.args[0])]
        return [(given["holds"], call.args[0]), (ast.Constant(value=True), given.get("otherwise"))]

    def condition(self, node: ast.expr) -> str:
        """A condition as code, its own names replaced by what they stand for."""
        if isinstance(node, ast.BoolOp):
            word = " and " if isinstance(node.op, ast.And) else " or "
            return word.join(
                f"({inner})" if isinstance(part, ast.BoolOp) or " and " in inner or " or " in inner else inner
                for part in node.values
                for inner in [self.condition(part)]
            )
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.condition(node.operand)
            return f"not ({inner})" if " " in inner else f"not {inner}"
        if isinstance(node, ast.Name) and node.id in self.tests:
            known = self.tests[node.id]
            return self.condition(known)
        return ast.unparse(node)

    def text(self, node: ast.expr) -> str:
        """A text as far as the code has it."""
        match node:
            case ast.Constant(value=str(said)):
                pass
            case ast.JoinedStr(values=parts):
                said = "".join(self.text(part) for part in parts)
            case ast.FormattedValue(value=value):
                said = self.text(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                said = self.text(left) + self.text(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                said = f"[{self.text(left)} if {self.condition(right)}]"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                said = _choice(self.text(body), self.text(orelse), self.condition(test))
            case ast.Name(id=name) if name in self.texts:
                said = self._known(name)
            case _:
                said = self._computed(node)
        return said

    def _computed(self, node: ast.expr) -> str:
        """One of the texts that an expression, or a function of the module, returns."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.functions:
            inner = ast.walk(self.functions[node.func.id])
            parts = [self.text(part.value) for part in inner if isinstance(part, ast.Return) and part.value]
            return _one_of(parts)
        names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
        nodes = [node, *(value for name in names for value in self.values.get(name, []))]
        found = [part.value for value in nodes for part in ast.walk(value) if isinstance(part, ast.Constant)]
        texts = [text for text in found if isinstance(text, str) and len(text) > _WORDS and " " in text]
        return _one_of(texts) if texts else "…"


def _is_number(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in {"bool", "int"}


def _one_of(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"[{' | '.join(texts)}]"


def _choice(first: str, second: str, test: str) -> str:
    if not first:
        return f"[{second} unless {test}]"
    return f"[{first} if {test}{f' | {second}' if second else ''}]"


def claim_tables() -> dict[str, list[Row]]:
    """Rows of each module's table; a name stands in its first row alone."""
    tables = {}
    for module, path in MODULES.items():
        rows = claims(path)
        firsts = [True, *(before[0] != row[0] for before, row in pairwise(rows))]
        tables[module] = [(f"`{row[0]}`" * first, row[1], row[2]) for first, row in zip(firsts, rows, strict=True)]
    return tables
