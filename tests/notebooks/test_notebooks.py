"""The notebooks: short cells, no typed numbers, one opening and one closing call."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from btcml.report.execute import read_parameters

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
MAX_LINES = 12


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_of(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_the_report_begins_with_five_chapters():
    """A further one adds to them; their order stays."""
    assert [path.stem for path in CHAPTERS][:5] == [
        "01-ingest",
        "02-eda",
        "03-features",
        "04-training",
        "05-evaluation",
    ]


def test_no_number_is_typed_into_the_story(notebook):
    """Prose holds no digit: every number on a page was computed."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert not [line for text in prose for line in text.splitlines() if re.search(r"\d", line)]


def test_no_number_is_formatted_or_typed_in_code(notebook):
    """Beyond the parameters no cell holds a number, an f-string or a format call."""
    for source in code_of(notebook)[1:]:
        nodes = list(ast.walk(ast.parse(source)))
        numbers = [
            node
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and node.value
        ]
        texts = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        calls = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr in {"format", "round"}]
        found = [ast.unparse(node) for node in numbers + texts + calls]
        assert not found, "numbers and their format belong into the module of charts"


def test_cells_are_short_and_define_nothing(notebook):
    """No definition, class, loop, SQL or try; short cells; imports in the first cell after the parameters."""
    banned = (ast.FunctionDef, ast.ClassDef, ast.Try, ast.For, ast.While, ast.With, ast.Lambda)
    for place, source in enumerate(code_of(notebook)):
        nodes = list(ast.walk(ast.parse(source)))
        found = [ast.unparse(node) for node in nodes if isinstance(node, banned)]
        assert not found, "definitions and control flow belong into the module of charts"
        assert len(source.splitlines()) <= MAX_LINES
        assert place == 1 or not [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not re.search(r"\b(SELECT|INSERT)\b", source)


def test_the_notebook_opens_with_its_parameters_and_ends_by_saying_so(notebook):
    """The same six parameters everywhere, and the last cell is the proof of having finished."""
    assert list(read_parameters(notebook)) == ["symbol", "interval", "days", "market", "snapshot", "products"]
    assert code_of(notebook)[-1] == "story.finish()"
    assert notebook.cells[-1].cell_type == "code"


def test_no_output_is_kept_in_git(notebook):
    """Outputs belong to a run; a cell has an id of its own, whichever JupyterLab gave it."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
