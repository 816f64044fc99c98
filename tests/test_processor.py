"""The same instructions on every processor with AVX2: the limits hold in whatever process computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from btcml import processor
from btcml.report.execute import _kernel_environment

SHOW = """
import json, {first}
import numpy, scipy.linalg
from numpy.lib.introspect import opt_func_info
from threadpoolctl import threadpool_info
loops = {{target["current"] for found in opt_func_info().values() for target in found.values()}}
print(json.dumps([sorted(loops), sorted({{found.get("architecture", "") for found in threadpool_info()}})]))
"""


def instructions(first: str, environment: dict[str, str]) -> tuple[set[str], set[str]]:
    """Targets of NumPy's loops and of BLAS in a new process."""
    command = [sys.executable, "-c", SHOW.format(first=first)]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    loops, blas = json.loads(shown)
    return {loop.split("(")[0] for loop in loops}, set(blas) - {""}


@pytest.fixture
def outside():
    """Environment of a shell that limits nothing."""
    return {name: value for name, value in os.environ.items() if name not in processor.instruction_limits()}


def test_no_process_of_ours_uses_more_than_every_processor_has(outside, tmp_path):
    """A kernel, and the command line, although NumPy is loaded by what it imports."""
    if not processor.instruction_limits():
        pytest.skip("this processor has no AVX2: nothing is limited")
    kernel = _kernel_environment({}, tmp_path)
    for first, environment in (("btcml.cli", outside), ("sys", kernel)):
        loops, blas = instructions(first, environment)
        assert "X86_V3" in loops
        assert not {loop for loop in loops if loop.startswith(("X86_V4", "AVX512"))}
        assert blas == {"Haswell"}


def test_a_choice_of_the_user_stays(monkeypatch):
    """Where the variables are set, the command line does not change them."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    processor.limit_instructions()
    assert os.environ["OPENBLAS_CORETYPE"] == "Nehalem"


@pytest.mark.parametrize(
    ("flags", "used", "limited"),
    [
        ("sse2 avx2 fma bmi2 avx512f avx512bw avx512vl", "x86-64-v3", True),
        ("sse2 avx2 fma bmi2", "x86-64-v3", True),
        ("sse2 avx", "x86_64", False),
    ],
)
def test_the_level_is_read_from_the_flags(monkeypatch, tmp_path, flags, used, limited):
    """Two processors above the limit have equal facts; one below it is limited by nothing, and named."""
    (tmp_path / "cpuinfo").write_text(f"model name: any\nflags\t\t: {flags}\nbugs\t:\n")
    monkeypatch.setattr(processor, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor, "machine", lambda: "x86_64")
    assert processor.machine_facts()["instructions"] == used
    assert bool(processor.instruction_limits()) == limited


def test_a_machine_without_flags_is_named_by_its_kind(monkeypatch, tmp_path):
    """As on macOS."""
    monkeypatch.setattr(processor, "_CPU", tmp_path / "none")
    monkeypatch.setattr(processor, "machine", lambda: "arm64")
    assert processor.machine_facts()["instructions"] == "arm64"
    assert processor.instruction_limits() == {}
