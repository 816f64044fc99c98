"""A release: the wheel holds what the checkout holds, runs from an empty environment, and says what it is made of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from btcml.files import resource

from tests.operations.compose import free_port
from tests.processes import WAIT_S
from tools.audit import audit_offline, locked

ROOT = Path(__file__).parent.parent.parent
NAME = re.compile(r"^([a-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built without isolation and without the network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.mark.parametrize(
    "name",
    ["data_contracts/candles.odcs.yaml", "notebooks/01-ingest.ipynb", "reports/template/page.css", "requirements.lock"],
)
def test_one_function_locates_what_is_no_python(name):
    """In the checkout; the soak drill below does the same from the wheel."""
    folder, _, file = name.rpartition("/")
    assert (resource(folder) / file if folder else resource(file)).is_file()


def test_the_wheel_holds_everything_that_the_checkout_has(wheel):
    """Every module, notebook, template, contract, migration and file of the dashboard."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    moved = {
        "reports/template/": "btcml/reports_template/",
        "notebooks/": "btcml/notebooks/",
        "data_contracts/": "btcml/data_contracts/",
        "btcml/": "btcml/",
    }
    wanted = {new + name.removeprefix(old) for name in tracked for old, new in moved.items() if name.startswith(old)}
    assert wanted - inside == set()
    assert "btcml/requirements.lock" in inside
    assert not [name for name in inside if name.endswith((".env", ".pyc", ".parquet"))]


def test_the_lock_that_runs_is_pinned_by_the_lock_of_development():
    """No package has two versions."""
    whole, run = (
        dict(NAME.findall((ROOT / name).read_text(encoding="utf-8")))
        for name in ("requirements.lock", "requirements.run.lock")
    )
    assert {name: version for name, version in run.items() if whole.get(name) != version} == {}
    assert not {"pytest", "ruff", "mypy", "selenium", "uv"} & run.keys()


def made(target, name, folder):
    """Run the recipe of a target of make as it stands, in a folder whose ``.venv`` is ours; return a file of it."""
    for file in ("Makefile", "requirements.run.lock"):
        shutil.copy(ROOT / file, folder)
    (folder / ".venv" / "bin").parent.mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    for path in ("requirements.lock", "pyproject.toml", ".venv/ready"):
        (folder / path).touch()
    subprocess.run(["make", target], cwd=folder, check=True, capture_output=True)
    return (folder / "build" / name).read_text(encoding="utf-8")


def test_the_bill_of_materials_names_every_package_with_its_hashes(tmp_path):
    """And the list of licences has none that forbids what we do."""
    found = json.loads(made("sbom", "sbom.cdx.json", tmp_path))["components"]
    assert {entry["name"] for entry in found} == set(locked((ROOT / "requirements.run.lock").read_text()))
    assert all(entry["purl"].startswith("pkg:pypi/") for entry in found)
    assert all(entry["externalReferences"][0]["hashes"] for entry in found)
    rows = (tmp_path / "build" / "LICENSES.md").read_text(encoding="utf-8").splitlines()[2:]
    assert len(rows) > 100
    assert not [row for row in rows if "UNKNOWN" in row]
    assert not [row for row in rows if re.search(r"Affero|(?<!Lesser )General Public|\| *GPL", row)]


@pytest.mark.parametrize(
    ("affected", "hit"),
    [
        ({"versions": ["1.0", "1.1"]}, True),
        ({"versions": ["1.0"]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.1"}]}]}, True),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, False),
    ],
)
def test_an_offline_export_finds_what_is_locked(tmp_path, affected, hit):
    """By the versions that it names, and by its ranges."""
    entry = {"id": "PYSEC-1", "summary": "bad", "affected": [{"package": {"name": "Some_Thing"}} | affected]}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(entry))
    found = audit_offline(tmp_path / "all.zip", locked("some-thing==1.1 \\\n    --hash=sha256:0\n"))
    assert found == (["some-thing 1.1: PYSEC-1, bad"] if hit else [])


def test_an_export_without_a_vulnerability_is_no_clean_bill(tmp_path):
    """An empty file is an error."""
    zipfile.ZipFile(tmp_path / "all.zip", "w").close()
    with pytest.raises(SystemExit, match="holds no vulnerability"):
        audit_offline(tmp_path / "all.zip", {"pip": "1"})


def needs(name):
    """A package with everything that it needs on this machine."""
    found = {name}
    for line in requires(name) or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found |= needs(wanted.name.lower())
    return found


def test_the_image_installs_all_that_its_build_needs():
    """A list with a hole is refused by pip; a new dependency of the build tool would only show in the image."""
    named = re.search(r"/\^\(([\w|-]+)\)==/", (ROOT / "Dockerfile").read_text(encoding="utf-8"))[1].split("|")
    assert set(named) == {"uv"} | needs("hatchling")


@pytest.mark.soak
def test_the_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    """A new environment from lock and wheel: doctor, report, verify, API and dashboard, far from the checkout."""
    uv = Path(sys.executable).parent / "uv"
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    lock = ROOT / "requirements.run.lock"
    subprocess.run(
        [uv, "pip", "sync", "-q", "--system-certs", "--require-hashes", "--python", python, lock], check=True
    )
    subprocess.run([uv, "pip", "install", "-q", "--offline", "--no-deps", "--python", python, wheel], check=True)
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "BTCML_SOURCE": "simulated"}

    def btcml(*argv):
        done = subprocess.run(
            ["btcml", *argv], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert json.loads(btcml("doctor", "--json"))["status"] == "ok"
    report = Path(json.loads(btcml("report", "--days", "30", "--json"))["report"])
    assert (folder / report).is_file()
    btcml("verify", str(report.parent.parent))
    _visit(folder, environment)
    where = subprocess.run(
        [python, "-c", "import btcml; print(btcml.__file__)"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert str(tmp_path) in where.stdout


def _visit(folder, environment):
    """The dashboard and the API that it starts: a page with a kernel behind it, its files, Swagger, candles."""
    api, own = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = ["btcml", "dashboard", "--port", own.rpartition(":")[2], "--warm", "1"]
    process = subprocess.Popen(command, cwd=folder, env=environment | {"API_BASE_URL": api})
    try:
        end = time.monotonic() + WAIT_S
        while not _get(f"{own}/health") and time.monotonic() < end:
            assert process.poll() is None, "the dashboard ended by itself"
            time.sleep(0.5)
        page = _get(f"{own}/")
        assert "kernelId" in page
        assert "vnd.jupyter.widget-view+json" in page
        static = "voila/templates/btcml/static/"
        assert all(len(_get(f"{own}/{static}{name}")) > 1000 for name in ("chart.js", "lightweight-charts.js"))
        assert "swagger" in _get(f"{api}/docs").lower()
        assert json.loads(_get(f"{api}/prices/latest?n=1"))["items"]
        assert "report" in _get(f"{own}/reports/index.html").lower()
    finally:
        process.terminate()
        assert process.wait(60) in {0, 130}


def _get(url):
    """Text of an address, empty where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own address
            return answer.read().decode()
    except OSError:
        return ""


@pytest.mark.soak
def test_the_images_install_step_runs_in_a_clean_folder(tmp_path):
    """The RUN lines of the Dockerfile's first stage, as they stand, with their folders moved here."""
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[1]
    lines = re.findall(r"^RUN (.*?)(?<!\\)$", stage, re.MULTILINE | re.DOTALL)
    assert len(lines) == 3
    kept = [
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    ]
    build = tmp_path / "build"
    build.mkdir()
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, build / name)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BTCML_", "VIRTUAL_ENV", "PYTHON"))
    }
    (tmp_path / "bin").mkdir()  # an image has a python; a machine may have python3 alone
    (tmp_path / "bin" / "python").symlink_to(Path(sys.base_prefix, "bin", "python3"))
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    for line in lines:
        command = line.replace("\\\n", "").replace("/opt/", f"{tmp_path}/opt-")
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", command],
            cwd=build,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
    done = subprocess.run(
        [tmp_path / "opt-btcml" / "bin" / "btcml", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("btcml ")
