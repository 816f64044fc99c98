"""The embedded server: start, errors, access and restarts."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import make_url

from btcml.candles import SeriesKey
from btcml.errors import StoreError
from btcml.settings import Settings
from btcml.store import embedded
from btcml.store.candles import read_last_candles
from btcml.store.embedded import start_embedded
from btcml.store.engine import Store, database_lock, open_store
from btcml.store.jobs import append_job, read_job

from ..processes import WAIT_S, started  # noqa: TID252 - of all tests

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user of the machine")


@pytest.fixture
def fake_programs(monkeypatch):
    """Make programs that stand in for PostgreSQL's, where every user may run them, so that none is copied for later."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)

        def _made(**scripts):
            for name, script in scripts.items():
                (Path(folder) / name).write_text(f"#!/bin/sh\n{script}\n")
                (Path(folder) / name).chmod(0o755)
            monkeypatch.setattr(embedded, "programs_folder", lambda: Path(folder))

        yield _made


def test_a_server_that_cannot_start_reports_the_reason(tmp_path, fake_programs):
    """The last fatal line that it has added to its log now."""
    initdb = 'touch "$2/PG_VERSION" "$2/pg_hba.conf" "$2/pg_ident.conf"; echo "FATAL:  the last time" > "$2/log"'
    server = 'echo "LOG:  starting"; echo "FATAL:  could not write to file: No space left on device"; exit 1'
    fake_programs(initdb=f"[ $1 = --version ] || {{ {initdb}; }}", postgres=server)
    with pytest.raises(StoreError, match=r"did not start \(could not write to file: No space left on device\): fix"):
        start_embedded(tmp_path / "home")


def test_a_full_disk_is_named_when_the_data_are_made(tmp_path, fake_programs):
    """The message of initdb itself, and no log that does not exist; the next start begins again."""
    said = "initdb: error: could not write to file 'x': No space left on device"
    fake_programs(initdb=f'[ "$1" = --version ] && exit; echo "{said}" >&2; exit 1')
    with pytest.raises(StoreError, match="No space left on device") as refused:
        start_embedded(tmp_path / "home")
    assert "log" not in str(refused.value)
    assert use(tmp_path / "home").returncode == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """Without any log the error itself is the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="set DATABASE_URL"):
        start_embedded(tmp_path / "file" / "home")


NAMES = ["My Projects", "R&D", "it's", "x$HOME", "c++", "a%20b", 'a"b', "a\\b", "a`b`", "a,b=c?d#e", "日本", "a" * 120]


@pytest.mark.parametrize("name", NAMES)
def test_any_path_that_a_folder_may_have_works(tmp_path, name):
    """Rows through SQLAlchemy, columns through ADBC; no shell and no address reads the path."""
    done = use(tmp_path / name / "home")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_line_break_in_a_path_is_refused_in_one_sentence(tmp_path):
    """PostgreSQL writes the path as one line of a file."""
    with pytest.raises(StoreError, match="line break"):
        start_embedded(tmp_path / "a\nb")


NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def attack(sockets):
    """Answers that another user of the machine gets from the server in a folder, one for each role."""
    answers = []
    for role in ("postgres", "btcml_app", "btcml_read"):
        command = [embedded.programs_folder() / "psql", "-Xw", "-h", sockets, "-p5432", "-U", role, "-d", "postgres"]
        command += ["-c", "COPY (SELECT 1) TO PROGRAM 'id'"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **NOBODY)
        answers.append(done.stderr if done.returncode else "it was done")
    return answers


@pytest.fixture
def own_sockets(monkeypatch):
    """Let servers of this test have their sockets where no other run of btcml closes the folder."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        ours = vars(tempfile) | {"gettempdir": lambda: folder}
        monkeypatch.setattr(embedded, "tempfile", SimpleNamespace(**ours))
        yield


@AS_ROOT
@pytest.mark.usefixtures("own_sockets")
@pytest.mark.parametrize("name", ["short", "long" * 30])
def test_another_user_of_the_machine_gets_nothing_from_the_server(tmp_path, name):
    """The folder of the socket is closed; were it open, peer authentication refuses."""
    url = start_embedded(tmp_path / name / "home")
    sockets = Path(url.query["host"])
    assert stat.S_IMODE(sockets.stat().st_mode) == stat.S_IMODE(sockets.parent.stat().st_mode) == 0o700
    assert [answer for answer in attack(sockets) if "Permission denied" not in answer] == []
    for folder, mode in ((sockets, 0o755), (sockets.parent, 0o755), (sockets / ".s.PGSQL.5432", 0o777)):
        folder.chmod(mode)
    assert [answer for answer in attack(sockets) if "authentication failed" not in answer] == []


def _as_nobody(home):
    """Use the server of a folder as another user would, and say how the files look."""
    os.setgroups([])
    os.setgid(home.stat().st_gid)
    os.setuid(home.stat().st_uid)
    start_embedded(home)
    found = (home / "postgres").stat()
    embedded._joined(home).leave(os.getpid())
    return found.st_uid == os.getuid(), stat.S_IMODE(found.st_mode)


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's are closed."""
    folder = Path(tempfile.mkdtemp(prefix="btcml-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@AS_ROOT
def test_a_user_without_rights_has_a_server_of_its_own_that_root_may_use(open_folder):
    """Its data are that user's alone; root, who may do anything, gets in by the same way."""
    home = open_folder / "home"
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as processes:
        assert processes.submit(_as_nobody, home).result() == (True, 0o700)
    assert use(home).returncode == 0


@AS_ROOT
@pytest.mark.parametrize("name", ["pg_hba.conf", "pg_ident.conf", "log"])
def test_root_writes_through_no_link_that_the_owner_of_the_data_has_made(tmp_path, open_folder, name):
    """Rules and log are written as that user, who may not write what is root's."""
    home, victim = open_folder / "home", tmp_path / "victim"
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as processes:
        processes.submit(_as_nobody, home).result()
    victim.write_text("root's own")
    (home / "postgres" / name).unlink()
    (home / "postgres" / name).symlink_to(victim)
    done = use(home)
    assert victim.read_text() == "root's own"
    assert done.returncode != 0
    assert "ermission denied" in done.stderr or "cannot create" in done.stderr


@AS_ROOT
def test_root_opens_no_folder_for_the_server(tmp_path):
    """The server's user cannot enter the closed folder, and works in a folder below it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    modes = [folder.stat().st_mode for folder in (closed, tmp_path)]
    assert use(closed / "home").returncode == 0
    assert use(closed / "home").returncode == 0
    assert [folder.stat().st_mode for folder in (closed, tmp_path)] == modes


@AS_ROOT
def test_programs_that_the_servers_user_cannot_reach_are_copied(tmp_path, open_folder, monkeypatch):
    """As where the environment lies below /root, or its path has characters that initdb's shell reads."""
    own = embedded.programs_folder()
    closed = tmp_path / "closed$HOME"
    closed.mkdir(mode=0o700)
    (closed / "site").symlink_to(own.parents[2])
    monkeypatch.setattr(embedded, "programs_folder", lambda: closed / "site" / own.relative_to(own.parents[2]))
    monkeypatch.setattr(embedded, "_ROOT_FOLDER", open_folder)
    open_store(Settings(database_url=None, btcml_home=tmp_path / "home")).close()
    assert [path.name[:9] for path in open_folder.iterdir()] == ["programs-"]
    embedded._joined(tmp_path / "home").leave(os.getpid())
    (copy,) = open_folder.iterdir()
    embedded._copy_programs(own, copy)  # as a second process that began at the same time
    assert list(open_folder.iterdir()) == [copy]


@AS_ROOT
def test_root_without_sbin_on_its_path_finds_useradd(monkeypatch):
    """Cron's PATH is /usr/bin:/bin; where there is no useradd at all, the message says what to install."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("btcml.store.embedded._USER", "btcml-test")
    try:
        assert embedded._server_user(Path("/nonexistent")).pw_name == "btcml-test"
    finally:
        subprocess.run(["/usr/sbin/userdel", "btcml-test"], check=False, capture_output=True)
    monkeypatch.setattr("btcml.store.embedded._SBIN", ())
    monkeypatch.setattr("btcml.store.embedded._USER", "btcml-test-2")
    with pytest.raises(RuntimeError, match="install the package passwd"):
        embedded._server_user(Path("/nonexistent"))


def test_a_server_of_version_0_1_is_closed_too(tmp_path):
    """It trusted every user of the machine."""
    assert use(tmp_path).returncode == 0
    (tmp_path / "postgres" / "pg_hba.conf").write_text("local all all trust\n")
    assert use(tmp_path).returncode == 0
    assert (tmp_path / "postgres" / "pg_hba.conf").read_text() == "local all all peer map=btcml\n"


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path, monkeypatch):
    """A link in its place could lead anywhere."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("btcml.store.embedded._LONGEST", 1000)
    (tmp_path / "elsewhere").mkdir()
    user = embedded._server_user(tmp_path / "none")
    (tmp_path / f"btcml-{os.geteuid() if user is None else user.pw_uid}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="belongs to another user"):
        start_embedded(tmp_path / "home")


USE = """import sys
from pathlib import Path
from btcml.settings import Settings
from btcml.store.engine import open_store
store = open_store(Settings(database_url=None, btcml_home=sys.argv[1]))
with store.bulk() as connection, connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM candles")
assert store.scalar("SELECT current_user") == "btcml_app"
"""


def is_working(number):
    """Whether a process runs; zombies, which stay in some containers, do not."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def use(home, **options):
    """Start the server in a process of its own, connect, and end it again."""
    command = [sys.executable, "-c", USE, str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("left", ["{other}\n{data}\n1\n5432\n{data}\n\n 1 2\nready\n", "{other}\n{data}\n", ""])
def test_a_stale_pid_file_neither_blocks_the_start_nor_ends_a_foreign_process(tmp_path, left):
    """After a power cut, or in a restarted container, its process number may belong to another process."""
    assert use(tmp_path).returncode == 0
    with started([sys.executable, "-c", "import time; time.sleep(600)"]) as foreign:
        data = tmp_path / "postgres"
        (data / "postmaster.pid").write_text(left.format(other=foreign.pid, data=data))
        done = use(tmp_path)
        assert foreign.poll() is None
        foreign.kill()
    assert done.returncode == 0, done.stderr


def test_a_server_that_was_killed_is_started_again_and_has_everything(tmp_path):
    """A process that holds the store restarts it, and what was committed is there."""
    store = open_store(Settings(database_url=None, btcml_home=tmp_path))
    assert append_job(store, "ingest", SeriesKey("simulated", "BTCUSDT", "5m"), asked_by="me") == 1
    number = int((tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    psutil.Process(number).send_signal(signal.SIGKILL)
    psutil.wait_procs([psutil.Process(number)] if psutil.pid_exists(number) else [])
    with pytest.raises(StoreError):
        read_job(store, 1)
    restart(store)
    assert read_job(store, 1).status == "queued"
    with database_lock(store, "anything"):
        assert len(read_last_candles(store, SeriesKey("simulated", "BTCUSDT", "5m"), 1)) == 0
    store.close()


def restart(store):
    """As the service does: again, while the children of the dead one are still ending."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            store.restart_server()
        except StoreError:
            assert time.monotonic() < end
            time.sleep(0.2)
        else:
            return


def test_users_that_were_killed_do_not_keep_the_server_running(tmp_path):
    """A killed process did not release the server: the last one that ends normally stops it all the same."""
    hold = USE + "\nimport time; print('there', flush=True); time.sleep(600)"
    with started([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout.readline() == b"there\n"
        killed.kill()
        killed.wait()
    number = int((tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    assert is_working(number)
    assert use(tmp_path).returncode == 0
    assert not is_working(number)


def test_a_server_of_others_is_not_started(monkeypatch):
    """Only the embedded one is ours."""
    monkeypatch.setattr("btcml.store.engine.start_embedded", lambda _: pytest.fail("something was started"))
    Store(make_url("postgresql://somebody@elsewhere/btcml")).restart_server()
