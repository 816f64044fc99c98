"""What a text of the report can be, read from the code: its alternatives, and the condition of each."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPUTED = "\0"
"""A part that only a run knows."""

_TESTS = {"bool", "int"}  # calls whose result is a condition


@dataclass(frozen=True)
class Choice:
    """Texts of which one is shown, each with its condition; an empty condition is no condition."""

    options: tuple[tuple[Text, str], ...]


Text = tuple[str | Choice, ...]
"""Parts of a text, one after the other."""


def described(text: Text) -> str:
    """Return a text in which ``[a if x | b]`` is a choice and ``…`` is computed."""
    return "".join(_described(part) if isinstance(part, Choice) else part for part in text).replace(COMPUTED, "…")


def _described(choice: Choice) -> str:
    (first, test), *others = choice.options
    if not first:
        return f"[{described(others[0][0])} unless {test}]"
    shown = [(described(text), condition) for text, condition in choice.options if text]
    return f"[{' | '.join(f'{text} if {condition}' if condition else text for text, condition in shown)}]"


def variants(text: Text) -> set[str]:
    """Return every text that this can be; `COMPUTED` is in those with a value of the run."""
    parts = [
        {part} if isinstance(part, str) else {each for option, _ in part.options for each in variants(option)}
        for part in text
    ]
    return {"".join(pieces) for pieces in product(*parts)}


def scopes(path: Path) -> Iterator[tuple[str, ast.AST, Reader]]:
    """Yield the module (without a name), then each of its functions and methods, with what their names stand for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    rest = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)], [])
    module = Reader(functions, {}, {})
    module.learn(rest.body)
    yield "", rest, module
    for function in [*functions.values(), *(node for group in classes for node in group.body)]:
        if isinstance(function, ast.FunctionDef):
            yield function.name, function, module.inside(function)


@dataclass
class Reader:
    """What names stand for.

    Parameters
    ----------
    functions
        Functions of the module, by name.
    texts
        Texts by name, each with the condition under which it holds.
    tests
        Conditions by name.
    """

    functions: dict[str, ast.FunctionDef]
    texts: dict[str, tuple[tuple[Text, str], ...]]
    tests: dict[str, ast.expr]

    def inside(self, function: ast.FunctionDef) -> Reader:
        """Return what names stand for in a function of the module."""
        reader = Reader(self.functions, dict(self.texts), dict(self.tests))
        reader.learn(function.body)
        return reader

    def learn(self, body: list[ast.stmt], test: str = "") -> None:
        """Read the assignments of a body in their order; `test` is what must hold for it."""
        for node in body:
            if isinstance(node, ast.If):
                self.learn(node.body, self.condition(node.test))
                self.learn(node.orelse, f"not {self.condition(node.test)}")
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                more = self.text(node.value)
                added = (Choice(((more, test), ((), ""))),) if test else more
                self.texts[node.target.id] = ((self._known(node.target.id) + added, ""),)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                self._assign(node.targets[0] if isinstance(node, ast.Assign) else node.target, node.value, test)
            else:
                for row in getattr(getattr(node, "iter", None), "elts", ()):
                    self._assign(node.target, row, test, add=True)  # type: ignore[attr-defined]
                self.learn(getattr(node, "body", []), test)

    def _assign(self, target: ast.expr, value: ast.expr, test: str, *, add: bool = False) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for name, part in zip(target.elts, value.elts, strict=True):
                self._assign(name, part, test, add=add)
        elif isinstance(target, ast.Name):
            before = self.texts.get(target.id, ()) if test or add else ()
            self.texts[target.id] = (*before, (self.text(value), test))
            if isinstance(value, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Attribute) or name_of(value) in _TESTS:
                self.tests[target.id] = value

    def _known(self, name: str) -> Text:
        return _one_of(self.texts.get(name, ()))

    def condition(self, node: ast.expr) -> str:
        """Return a condition as code, its own names replaced by what they stand for."""
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
            return self.condition(self.tests[node.id])
        return ast.unparse(node)

    def text(self, node: ast.expr) -> Text:
        """Return a text as far as the code has it."""
        found: Text
        match node:
            case ast.Constant(value=str(said)):
                found = (said,) if said else ()
            case ast.JoinedStr(values=parts):
                found = tuple(piece for part in parts for piece in self.text(part))
            case ast.FormattedValue(value=value) | ast.Subscript(value=value):
                found = self.text(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                found = self.text(left) + self.text(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                found = (Choice(((self.text(left), self.condition(right)), ((), ""))),)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                found = (Choice(((self.text(body), self.condition(test)), (self.text(orelse), ""))),)
            case ast.Name(id=name):
                found = self._known(name)
            case _:
                found = self._computed(node)
        return found

    def _computed(self, node: ast.expr) -> Text:
        """Return what an expression, or a function of the module, has as its results; of a tuple its first part."""
        reader, found = self, []
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                reader = self.inside(self.functions[name])
                nodes = ast.walk(self.functions[name])
                found = [part.value for part in nodes if isinstance(part, ast.Return) and part.value]
            case ast.BoolOp(values=found) | ast.Dict(values=found):
                pass
            case ast.Tuple(elts=parts):
                found = parts[:1]
        return _one_of(tuple((reader.text(part), "") for part in found))


def name_of(node: ast.expr) -> str:
    """Return the name of the function of a call."""
    function = getattr(node, "func", None)
    return str(getattr(function, "attr", getattr(function, "id", "")))


def _one_of(options: tuple[tuple[Text, str], ...]) -> Text:
    if len(options) > 1:
        return (Choice(options),)
    return options[0][0] if options else (COMPUTED,)
