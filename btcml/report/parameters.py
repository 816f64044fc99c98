"""The parameters of a notebook: one tagged cell of annotated literals, read and checked.

papermill only warns about a parameter that the notebook does not know; here it is refused by name.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from btcml.errors import ReportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbformat import NotebookNode

__all__ = ["Parameter", "check_parameters", "read_parameters"]

Literal = str | int | float | bool

_KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One annotated literal of the parameters cell.

    Attributes
    ----------
    name
        Its name in the notebook.
    kind
        ``str``, ``int``, ``float`` or ``bool``.
    default
        The literal in the notebook.
    """

    name: str
    kind: str
    default: Literal


def read_parameters(notebook: NotebookNode) -> dict[str, Parameter]:
    """Parameters that a notebook declares, by name.

    Raises
    ------
    ReportError
        If there is not exactly one cell tagged ``parameters``, or it holds anything but annotated
        literals.

    Examples
    --------
    >>> from nbformat import v4
    >>> cell = v4.new_code_cell("days: int = 90  # span", metadata={"tags": ["parameters"]})
    >>> read_parameters(v4.new_notebook(cells=[cell]))["days"].default
    90
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        msg = f"a notebook needs exactly one cell tagged parameters, found {len(cells)}: tag one"
        raise ReportError(msg)
    try:
        found = [_parameter(node) for node in ast.parse(cells[0].source).body]
    except SyntaxError as error:
        msg = f"the parameters cell should be Python, found {error.msg} in its line {error.lineno}: correct it"
        raise ReportError(msg) from error
    return {parameter.name: parameter for parameter in found}


def _parameter(node: ast.stmt) -> Parameter:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        kind, value = ast.unparse(node.annotation), _literal(node.value)
        if kind in _KINDS and _fits(value, kind):
            return Parameter(node.target.id, kind, value)
    msg = f"a parameter is written `name: type = literal`, found `{ast.unparse(node)}`: annotate it"
    raise ReportError(msg)


def _literal(node: ast.expr) -> Any:
    """Value of a literal; None, which no parameter may be, for anything that would have to be computed."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _fits(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, _KINDS[kind]) or (kind == "float" and isinstance(value, int))


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, Literal]) -> None:
    """Refuse parameters that are unknown, missing or of the wrong type.

    Raises
    ------
    UsageError
        With the name, and the nearest known name as a suggestion.
    """
    for name in given:
        if name not in declared:
            msg = f"the notebook has no parameter {name!r}{_suggestion(name, declared)}"
            raise UsageError(msg)
    for name, parameter in declared.items():
        if name not in given:
            msg = f"parameter {name!r} ({parameter.kind}) is missing: give it, such as {parameter.default!r}"
            raise UsageError(msg)
        if not _fits(given[name], parameter.kind):
            msg = f"parameter {name!r} must be {parameter.kind}, found {given[name]!r}: such as {parameter.default!r}"
            raise UsageError(msg)


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else f": it has {', '.join(known)}"
