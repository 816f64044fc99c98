"""Structure: layers, sizes, names, dependencies; each a test that can fail."""

from __future__ import annotations

import ast
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "btcml").rglob("*.py"))
MODULES = [path for path in MODULES if "versions" not in path.parts]


def functions(path):
    """Functions and methods of a module with the number of their lines without the docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1] if documented else node.body[0]
            yield node, node.end_lineno - first.lineno + 1


def lint(folder):
    """Run the layers test on a copy of the package."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": "."})


def copy_of_the_package(folder):
    shutil.copytree(ROOT / "btcml", folder / "btcml", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder / "btcml"


def test_every_module_imports_only_from_lower_layers():
    """The layers of DESIGN §3, as data in pyproject.toml."""
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("forecast/targets.py", "import sqlalchemy"),
        ("forecast/targets.py", "import btcml.market"),
        ("market/__init__.py", "import btcml.store.engine"),
        ("candles.py", "import btcml.contract"),
    ],
)
def test_an_import_from_a_higher_layer_is_caught(module, line, tmp_path):
    """Plant the mistake: the layers test must fail."""
    path = copy_of_the_package(tmp_path) / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout


def test_a_module_without_a_layer_is_refused(tmp_path):
    """The list of layers is exhaustive."""
    (copy_of_the_package(tmp_path) / "helpers.py").write_text("", encoding="utf-8")
    assert lint(tmp_path).returncode == 1


def test_functions_are_short():
    """Median at most 10 lines, nine in ten at most 25, none over 40."""
    lengths = {f"{path.name}:{node.name}": n for path in MODULES for node, n in functions(path)}
    ordered = sorted(lengths.values())
    assert statistics.median(ordered) <= 10
    assert ordered[int(0.9 * len(ordered))] <= 25
    assert not {name: n for name, n in lengths.items() if n > 40}


def test_every_public_name_is_documented():
    """A public module, class or function without a docstring is not finished."""
    bare = []
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef))]
        bare += [
            f"{path.name}:{getattr(n, 'name', 'module')}"
            for n in nodes
            if ast.get_docstring(n) is None and not getattr(n, "name", "x").startswith("_")
        ]
    assert not bare


def test_every_dependency_has_its_reason():
    """One line in pyproject.toml says why each is there."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    lines = {line.split('"')[1]: line for line in text.splitlines() if line.startswith('  "') and line.count('"') == 2}
    for dependency in (name for group in groups for name in group):
        assert "#" in lines[dependency], f"{dependency} has no reason"


def test_the_lock_has_hashes_and_no_address():
    """Versions and hashes are locked, a package index is not."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert "--index-url" not in lock


def test_nothing_is_unpickled():
    """Law 7: no module of ours loads a pickle."""
    words = ("pickle", "cloudpickle", "dill", "joblib.load", "read_pickle")
    found = [
        f"{path.name}: {line.strip()}"
        for path in MODULES
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("import ", "from ")) and any(word in line for word in words)
    ]
    assert not found


def test_no_test_patches_the_standard_library_for_other_threads():
    """A clock that stands still for one test stops the event loops of all others; the module's own name is patched."""
    names = "|".join(sorted(sys.stdlib_module_names - {"os"}))  # os.fsync fails for all writers, as a full disk does
    patch = re.compile(rf"setattr\(\s*(?:[\"'][\w.]+\.(?:{names})\.\w+[\"']|(?:\w+\.)?(?:{names}), [\"'])")
    assert patch.search('setattr("btcml.serve.up.time.monotonic", clock)')
    assert patch.search('setattr(up.subprocess, "Popen", None)')
    found = {path.name for path in (ROOT / "tests").rglob("*.py") if patch.search(path.read_text(encoding="utf-8"))}
    assert found == {Path(__file__).name}
