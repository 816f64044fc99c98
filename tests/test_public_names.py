"""The public names of the package: the same for an editor, a type checker and Python."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import btcml

MODULE = ast.parse(Path(btcml.__file__).read_text(encoding="utf-8"))


def test_what_a_type_checker_sees_is_what_python_loads():
    """The imports under TYPE_CHECKING and the table of homes name the same objects."""
    imports = [node for node in ast.walk(MODULE) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    typed = {name.name: node.module for node in imports for name in node.names if node.module.startswith("btcml.")}
    assert typed == btcml._HOMES
    assert {*typed, "__version__"} == set(btcml.__all__) == set(dir(btcml))


@pytest.mark.parametrize("name", btcml.__all__)
def test_every_public_name_loads(name):
    """At first use."""
    assert getattr(btcml, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        btcml.nothing  # noqa: B018 - asked for


def test_importing_the_package_loads_no_library():
    """So that a command starts fast and py.typed costs nothing."""
    code = "import sys, btcml; print({'pandas', 'sklearn', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_package_is_marked_as_typed():
    """Marker of PEP 561."""
    assert resources.files("btcml").joinpath("py.typed").is_file()


@pytest.mark.soak
def test_a_users_code_is_checked_against_real_types(tmp_path):
    """A wrong argument and an unknown name are found by mypy."""
    code = "import btcml\nreveal_type(btcml.read_candles(days=3))\nbtcml.read_candles(days='x')\nbtcml.nothing\n"
    (tmp_path / "user.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", tmp_path, "--ignore-missing-imports"]
    command += ["--follow-imports=silent", tmp_path / "user.py"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    assert 'Revealed type is "pandas' in said
    assert "[arg-type]" in said
    assert "[attr-defined]" in said
