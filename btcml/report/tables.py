"""Tables as HTML: raw numbers kept for the CSV, shown numbers rounded by claims' quantities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.errors import ReportError
from btcml.report.claims import Quantity

if TYPE_CHECKING:
    from btcml.report.claims import Claim

__all__ = ["Columns", "Table", "table_html"]

Columns = Mapping[str, tuple[str, Callable[[Any], Quantity | str]]]
"""For each column that is shown: its heading and how a value becomes text."""


@dataclass(frozen=True)
class Table:
    """A frame and how each of its columns is shown.

    Attributes
    ----------
    name
        Lower-case words joined by hyphens; the file name of its numbers.
    data
        The raw numbers, for the CSV beside the page.
    says
        The conclusion, a claim; it stands above the table.
    columns
        For each column that is shown: its heading and how a value becomes text. The first one names
        the row.
    strong
        Names of the rows (values of the first column) that stand out.
    """

    name: str
    data: pd.DataFrame
    says: Claim
    columns: Columns
    strong: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if missing := [name for name in self.columns if name not in self.data]:
            msg = f"table {self.name} shows the columns {', '.join(missing)}, which its frame does not have"
            raise ReportError(msg)


def table_html(table: Table) -> str:
    """Return a ``<table>`` with headings in scope; a missing value is a dash."""
    headings = "".join(
        f'<th scope="col"{_kind(table.data[name])}>{escape(label)}</th>' for name, (label, _) in table.columns.items()
    )
    rows = "\n".join(_row(table, row) for _, row in table.data.iterrows())
    return f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(table: Table, row: pd.Series) -> str:
    cells = []
    for place, (name, (_, shown)) in enumerate(table.columns.items()):
        text = "\N{EN DASH}" if pd.isna(row[name]) else escape(str(shown(row[name])))
        kind = _kind(table.data[name])
        cells.append(f'<th scope="row"{kind}>{text}</th>' if place == 0 else f"<td{kind}>{text}</td>")
    strong = ' class="strong"' if str(row[next(iter(table.columns))]) in table.strong else ""
    return f"<tr{strong}>{''.join(cells)}</tr>"


def _kind(column: pd.Series) -> str:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return ' class="num"' if numeric else ""
