from __future__ import annotations

import json
import os

import nbformat
import pytest
from nbformat import v4

from btcml.errors import ReportError, UsageError
from btcml.report.execute import (
    FIXED_ENVIRONMENT,
    Limits,
    Parameter,
    check_parameters,
    failed_path,
    read_parameters,
    run_chapter,
)

from .conftest import write_notebook

PARAMETERS = "days: int = 90  # span"

SPEAK = """import os
from IPython.display import display
display({"application/vnd.btcml.finished+json": {"nonce": os.environ["BTCML_REPORT_NONCE"]}}, raw=True)"""

SABOTAGES = {
    "an exception": (["1 / 0", SPEAK], "ZeroDivisionError"),
    "a syntax error": (["1 +", SPEAK], "SyntaxError"),
    "sys.exit(0) half-way": (["import sys; sys.exit(0)", SPEAK], "ended with an error"),
    "exit() half-way": (["raise SystemExit", SPEAK], "ended with an error"),
    "sys.exit(0) in the last cell": ([SPEAK + "\nimport sys; sys.exit(0)"], "ended with an error"),
    "os._exit(0)": (["import os; os._exit(0)", SPEAK], "Kernel died"),
    "a killed kernel": (["import os; os.kill(os.getpid(), 9)", SPEAK], "Kernel died"),
    "an endless loop": (["while True: pass", SPEAK], "timed out"),
    "a kernel that sleeps past the total": (
        ["import time; time.sleep(2.5)", "time.sleep(2.5)", SPEAK],
        "timed out|may take",
    ),
    "a last cell that says nothing": (["1 + 1"], "did not report its end"),
    "a word said too early": ([SPEAK, "1 + 1"], "did not report its end"),
    "a made-up word": ([SPEAK.replace('os.environ["BTCML_REPORT_NONCE"]', '"finished"')], "did not report its end"),
    "a word said twice": ([f"{SPEAK}\n{SPEAK}"], "did not report its end"),
    "a failed assertion": (["assert days == 4", SPEAK], "AssertionError"),
    "memory that is not there": (["bytes(1 << 60)", SPEAK], "MemoryError|OverflowError"),
    "an import that is not there": (["import btcml.nothing", SPEAK], "ModuleNotFoundError"),
}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "executed" / "01-sabotage.ipynb"


@pytest.fixture
def run(tmp_path, out):
    def run_cells(*cells, given=None, **options):
        notebook = write_notebook(tmp_path / "01-sabotage.ipynb", *cells, parameters=PARAMETERS)
        return run_chapter(notebook, {"days": 3} if given is None else given, out, **options)

    return run_cells


@pytest.mark.parametrize("name", SABOTAGES)
def test_no_sabotage_yields_an_executed_notebook(run, out, name):
    """Whatever stops a notebook, it does not count: there is an error, a failed notebook, and nothing else."""
    cells, why = SABOTAGES[name]
    out.parent.mkdir()
    out.write_text("of an earlier run")
    limits = (
        Limits(cell=4, total=4, start=600) if "sleep" in cells[0] else Limits(cell=2 if "while" in cells[0] else 60)
    )
    with pytest.raises(ReportError, match=why):
        run(*cells, limits=limits)
    assert not out.exists()
    assert nbformat.read(failed_path(out), as_version=4).cells


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "missing"),
        ({"days": "3"}, "must be int"),
        ({"days": 3, "dais": 4}, "no parameter 'dais': did you mean 'days'"),
    ],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(run, out, given, why):
    """Unknown, missing and ill-typed parameters are the caller's mistake, reported by name."""
    with pytest.raises(UsageError, match=why):
        run(SPEAK, given=given)
    assert not out.parent.exists()


def test_a_kernel_that_dies_is_reported_once(run, capfd, caplog):
    """The sentence of the error is enough: the client's own log lines would hide it."""
    with pytest.raises(ReportError, match="Kernel died"):
        run("import os; os.kill(os.getpid(), 9)", SPEAK)
    assert "Kernel died" not in capfd.readouterr().err + caplog.text


def test_a_kernel_needs_no_port_that_another_process_could_take(run):
    """Its sockets are files of the chapter's own folder."""
    connected = "from ipykernel import get_connection_info; found = get_connection_info(unpack=True)"
    run(connected, "assert (found['transport'], 'btcml-chapter-' in found['ip']) == ('ipc', True), found", SPEAK)


def test_a_missing_notebook_is_the_callers_mistake(tmp_path, out):
    """One sentence, not a traceback of the notebook library."""
    with pytest.raises(UsageError, match="a notebook was expected"):
        run_chapter(tmp_path / "none.ipynb", {}, out)


def test_a_cell_that_may_raise_still_fails_the_chapter(tmp_path, out):
    """Jupyter's tag for expected exceptions is ignored."""
    path = write_notebook(tmp_path / "01-tagged.ipynb", "1 / 0", SPEAK, parameters=PARAMETERS)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    with pytest.raises(ReportError):
        run_chapter(path, {"days": 3}, out)
    assert not out.exists()


def test_a_whole_run_counts_and_holds_nothing_of_the_moment(run, out, monkeypatch):
    """The executed notebook has parameters and outputs, but no time, id, nonce, warning or user's environment."""
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    lines: list[str] = []
    show = (
        "import os, time, warnings; warnings.warn('a path: /x'); print(days, os.environ['PYTHONHASHSEED'], time.tzname)"
    )
    run(show, SPEAK, progress=lines.append)
    notebook = json.loads(out.read_text())
    assert notebook["cells"][2]["outputs"] == [
        {"name": "stdout", "output_type": "stream", "text": ["3 0 ('UTC', 'UTC')\n"]}
    ]
    assert [cell["id"] for cell in notebook["cells"]] == ["cell-0", "cell-1", "cell-2", "cell-3"]
    assert not failed_path(out).exists()
    assert lines == [f"01-sabotage: cell {cell} of 4" for cell in (1, 2, 3, 4)]
    first = out.read_bytes()
    run(show, SPEAK)
    assert out.read_bytes() == first


def test_the_kernels_environment_is_fixed_where_it_matters():
    """Hash seed, time zone, locale and every thread count are ours."""
    assert {name for name in FIXED_ENVIRONMENT if name.endswith("NUM_THREADS")} >= {
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
    }
    assert (FIXED_ENVIRONMENT["TZ"], FIXED_ENVIRONMENT["PYTHONHASHSEED"]) == ("UTC", "0")


def test_a_full_disk_is_no_success(run, out, monkeypatch):
    """Where the executed notebook cannot be written there is none."""

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(SPEAK)
    assert not out.exists()


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
    """All parameters of a report are required."""
    with pytest.raises(UsageError, match="'symbol'"):
        check_parameters(DECLARED, {"days": 1})


@pytest.mark.parametrize("value", ["90", 90.5, True, None])
def test_an_ill_typed_parameter_is_refused_by_name(value):
    """A text, a float or a truth value is no whole number."""
    with pytest.raises(UsageError, match="'days' must be int"):
        check_parameters(DECLARED, {"days": value, "symbol": "X"})
