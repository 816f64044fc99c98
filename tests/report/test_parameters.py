from __future__ import annotations

import pytest
from nbformat import v4

from btcml.errors import ReportError, UsageError
from btcml.report.parameters import Parameter, check_parameters, read_parameters


def notebook(source: str, *, tags: tuple[str, ...] = ("parameters",)):
    return v4.new_notebook(cells=[v4.new_code_cell(source, metadata={"tags": list(tags)})])


DECLARED = {"days": Parameter("days", "int", 90), "symbol": Parameter("symbol", "str", "BTCUSDT")}


def test_parameters_are_read_from_the_tagged_cell():
    """Names, types and defaults of annotated literals come out; comments are help."""
    found = read_parameters(notebook('days: int = 90  # span\nsymbol: str = "BTCUSDT"'))
    assert found == DECLARED


@pytest.mark.parametrize("source", ["days = 90", "days: int", "days: list = [1]", 'days: int = "90"', "print(1)"])
def test_a_parameters_cell_of_anything_but_annotated_literals_is_refused(source):
    """A parameter without a type could not be checked."""
    with pytest.raises(ReportError, match="name: type = literal"):
        read_parameters(notebook(source))


def test_a_notebook_without_a_parameters_cell_is_refused():
    """Papermill would only warn."""
    with pytest.raises(ReportError, match="exactly one cell tagged parameters, found 0"):
        read_parameters(notebook("days: int = 90", tags=()))


def test_an_unknown_parameter_is_refused_with_a_suggestion():
    """A misspelt name must not silently keep the default."""
    with pytest.raises(UsageError, match="no parameter 'dyas': did you mean 'days'"):
        check_parameters(DECLARED, {"dyas": 1, "symbol": "X"})


def test_a_missing_parameter_is_refused_by_name():
    """A report's parameters are all told."""
    with pytest.raises(UsageError, match="'symbol'"):
        check_parameters(DECLARED, {"days": 1})


@pytest.mark.parametrize("value", ["90", 90.5, True, None])
def test_an_ill_typed_parameter_is_refused_by_name(value):
    """A text, a float or a truth value is no whole number."""
    with pytest.raises(UsageError, match="'days' must be int"):
        check_parameters(DECLARED, {"days": value, "symbol": "X"})
