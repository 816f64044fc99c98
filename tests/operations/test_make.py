"""The Makefile: its output when btcml reports an error, and its targets otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BTCML = """#!/bin/bash
echo "btcml $*" >> calls
printf '%s\n' "$@" > words
case "$*" in
  *"--days 0"*) echo 'btcml: days must be at least 1' >&2; exit 2;;
  *--plan*) printf 'RUN := out/run\\n' > "${@: -1}";;
  *--snapshot*) mkdir -p out/run/snapshot; echo facts > out/run/snapshot/snapshot.json;;
  *--from-plan*) mkdir -p out/run/pages; echo page > out/run/pages/index.html;;
esac
"""


@pytest.fixture
def tmp_path(tmp_path):
    """A checkout may lie anywhere."""
    folder = tmp_path / "my projects"
    folder.mkdir()
    return folder


@pytest.fixture
def make(tmp_path):
    """Run make in a checkout whose btcml is a few lines of shell."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("btcml", "notebooks", "reports/template", "data_contracts"):
        (tmp_path / name).mkdir(parents=True)
    program = tmp_path / ".venv" / "bin" / "btcml"
    program.write_text(BTCML)
    program.chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()

    def _make(*words):
        plain = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(["make", *words], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)

    return _make


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("report", "btcml: days must be at least 1"),
        ("verify", "btcml: no report with these parameters has been built: make report with them first"),
    ],
)
def test_a_refused_parameter_is_one_sentence(make, tmp_path, target, sentence):
    """Called once, and make prints no message about an unknown file; only that it stopped."""
    done = make(target, "DAYS=0")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == sentence
    assert second.startswith("make: *** [Makefile:")
    assert second.endswith(f" {target}] Error 2")
    assert (tmp_path / "build").exists() == (target == "report")


@pytest.mark.parametrize(("given", "meant"), [("DAY=60", "DAYS"), ("INTREVAL=1h", "INTERVAL"), ("symbol=X", "SYMBOL")])
def test_a_misspelt_parameter_is_refused_with_a_suggestion(make, tmp_path, given, meant):
    """It would be ignored, and the default report built."""
    done = make("report", given)
    assert done.returncode == 2
    assert f"btcml: {given.split('=')[0]} is not a parameter: did you mean {meant}?" in done.stderr
    assert not (tmp_path / "calls").exists()


def test_other_variables_are_not_judged(make):
    """Those of make, and settings, may be given; the environment is none of make's business."""
    assert make("report", "CFLAGS=-O2", "BTCML_TRAIN_EVERY=1h", "DATABASE_URL=postgresql://h/d").returncode == 0


def test_verify_does_not_build_what_it_compares_with(make, tmp_path):
    """Changed code would be built in place first, and then found identical."""
    assert make("report").returncode == 0
    (tmp_path / "btcml" / "new.py").touch()
    assert make("verify").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["report", "report", "report", "verify"]


@pytest.mark.parametrize(
    ("touched", "steps"),
    [
        ("notebooks/02-eda.ipynb", ["pages"]),
        ("btcml/report.py", ["pages"]),
        ("btcml/store/rows.py", ["snapshot", "pages"]),
    ],
)
def test_a_touched_notebook_makes_pages_and_fetches_nothing(make, tmp_path, touched, steps):
    """Candles are fetched for a new plan, or when the code that fetches, checks or stores them has changed."""
    file = tmp_path / touched
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert make("report").returncode == 0
    later = (tmp_path / "out" / "run" / "pages" / "index.html").stat().st_mtime + 5
    os.utime(file, (later, later))
    (tmp_path / "calls").unlink()
    assert make("report").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["snapshot" if call.endswith("--snapshot") else "pages" for call in calls] == steps


def test_a_report_in_another_language_has_a_plan_of_its_own(make, tmp_path):
    """From make's command line, for report and verify; the plans of English reports keep their names."""
    for given in ((), ("REPORT_LANGUAGE=en",), ("REPORT_LANGUAGE=pt-BR",), ("REPORT_LANGUAGE=x'; touch made; '",)):
        assert make("report", *given).returncode == 0
        assert make("verify", *given).returncode == 0
    assert make("verify", "REPORT_LANGUAGE=fr").returncode == 2
    calls = [call for call in (tmp_path / "calls").read_text().splitlines() if "--plan" in call]
    given = [call.split(" --language ")[1].split(" --interval")[0] for call in calls]
    assert given == ["en", "pt-BR", "x'; touch made; '"]
    assert len([*(tmp_path / "build" / "plans").iterdir()]) == len(calls)
    assert not (tmp_path / "made").exists()


def test_a_report_is_planned_and_built_once(make, tmp_path):
    """Plan, snapshot, pages; the second time there is nothing to be done."""
    for _ in range(2):
        done = make("report", "DAYS=9", "SOURCE=simulated")
        assert (done.returncode, done.stdout, done.stderr) == (0, "report: out/run/pages/index.html\n", "")
    assert make("verify", "DAYS=9", "SOURCE=simulated").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["report", "report", "report", "verify"]


NAMES = [
    "my candles.csv",
    "it's.csv",
    "x$HOME.csv",
    "R&D.csv",
    "a#b.csv",
    "50%.csv",
    'say "x".csv',
    "a:b=c;d|e.csv",
    "ação 币.csv",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_source_may_have_any_path(make, tmp_path, name):
    """From a checkout with a space in its path, too: btcml gets the path as it is, in a plan of its own."""
    (tmp_path / name).write_text("1")
    for target in ("report", "verify", "report"):
        done = make(target, f"SOURCE={name}")
        assert (done.returncode, done.stderr) == (0, "")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["report", "report", "report", "verify"]
    assert f"--source {name} --plan build/plans/" in calls[0]
    make("up", f"SOURCE={name}")
    assert (tmp_path / "words").read_text().splitlines() == ["up", "--source", name]


@pytest.mark.parametrize("folder", [False, True])
def test_a_source_with_another_content_is_another_plan(make, tmp_path, folder):
    """Rewritten, also inside a folder: no report of an older content; touched it is the same."""
    source = tmp_path / "my candles" / "x.csv"
    source.parent.mkdir()
    given = f"SOURCE={source.parent if folder else source}"
    for content, plans in (("1", 1), ("2", 2), ("2", 2), ("1", 2)):
        source.write_text(content)
        assert make("report", given).returncode == 0
        assert len(list((tmp_path / "build" / "plans").iterdir())) == plans


def test_only_a_symbol_that_was_given_is_passed_on(make, tmp_path):
    """The default would win over the symbol in the name of a file."""
    make("report", "SOURCE=x.csv")
    make("report", "SOURCE=x.csv", "SYMBOL=BTCUSDT")
    plans = [call for call in (tmp_path / "calls").read_text().splitlines() if "--plan" in call]
    assert ["--symbol" in call for call in plans] == [False, True]


def test_the_state_folder_may_have_any_path(make, tmp_path):
    """A dollar sign in it is no variable of make."""
    (tmp_path / ".venv" / "bin" / "btcml").write_text('#!/bin/bash\nprintf %s "$BTCML_HOME" > words\n')
    for given in ("BTCML_HOME=x$HOME/R&D", "BTCML_HOME=it's"):
        make("api", given)
        assert (tmp_path / "words").read_text() == given.removeprefix("BTCML_HOME=")


@pytest.mark.parametrize("target", ["lab", "up"])
def test_lab_and_up_pass_on_what_the_user_gave(make, tmp_path, target):
    """And nothing else: the settings have the rest."""
    make(target)
    make(target, "SYMBOL=ETHUSDT", "INTERVAL=15m", "DAYS=90", "SOURCE=my candles.csv")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split() for call in calls] == [
        ["btcml", target],
        f"btcml {target} --symbol ETHUSDT --interval 15m --days 90 --source my candles.csv".split(),
    ]
