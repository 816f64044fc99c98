"""Backup, drop everything, restore: nothing is lost, and a bad file changes nothing."""

from __future__ import annotations

import zipfile

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from btcml.errors import BusyError, SourceError, StoreError, UsageError
from btcml.store import backup
from btcml.store.backup import backup_database, restore_database, table_hashes
from btcml.store.chain import chain_head, verify_chain
from btcml.store.engine import migrate, owner_url

from .seeding import KEY, fill


@pytest.fixture
def url(settings, store, alone):
    """Owner's address of a database with rows in it, without other sessions."""
    fill(store)
    alone()
    return owner_url(settings)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    (folder / "simulated").mkdir(parents=True)
    (folder / "simulated" / "model.txt").write_text("trees", encoding="utf-8")
    return folder


def hashes(url):
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return table_hashes(connection)


def drop(url):
    """Lose the database: every table with everything in it."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("DROP SCHEMA btcml CASCADE"))


def test_what_is_backed_up_dropped_and_restored_is_equal(url, store, alone, models, tmp_path):
    """Every table's hash, the chain of forecasts, its head, and the models' files."""
    before, head = hashes(url), chain_head(store, KEY)
    made = backup_database(url, models, tmp_path / "btcml.backup")
    assert made["verified"]
    assert made["rows"] == sum(facts["rows"] for facts in before.values()) > 280
    alone()
    drop(url)
    restored = restore_database(url, tmp_path / "elsewhere", tmp_path / "btcml.backup")
    assert hashes(url) == before
    assert chain_head(store, KEY) == head != {}
    assert verify_chain(store, KEY, head) is None
    assert restored["models"] == 1
    assert (tmp_path / "elsewhere" / "simulated" / "model.txt").read_text(encoding="utf-8") == "trees"


def test_after_a_restore_the_seal_still_holds(url, owner, models, tmp_path):
    """Triggers and roles come back with the rows: even the owner cannot change a forecast."""
    backup_database(url, models, tmp_path / "x.backup")
    restore_database(url, models, tmp_path / "x.backup", replace=True)
    with pytest.raises(Exception, match="forecasts are sealed"), owner.begin() as connection:
        connection.execute(text("UPDATE forecasts SET close = 1"))
    with owner.connect() as connection:
        grant = "SELECT has_any_column_privilege('btcml_app', 'forecasts', :what)"
        assert [connection.scalar(text(grant), {"what": what}) for what in ("INSERT", "UPDATE")] == [True, False]
        known = text("SELECT count(*) FROM pg_stats WHERE tablename = 'forecasts'")
        assert connection.scalar(known)  # statistics: without, joins of 100,000 rows take minutes


def test_a_restore_over_rows_needs_replace(url, models, tmp_path):
    """A command meant for another database does not drop this one."""
    backup_database(url, models, tmp_path / "x.backup")
    with pytest.raises(UsageError, match="--replace"):
        restore_database(url, models, tmp_path / "x.backup")


def test_nothing_is_restored_under_a_running_service(url, store, alone, models, tmp_path):
    """API and scheduler would go on with what they remember: one sentence, and nothing has changed."""
    file = tmp_path / "x.backup"
    backup_database(url, models, file)
    before = hashes(url)
    with store.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(BusyError, match="stop API, scheduler and"):
            restore_database(url, models, file, replace=True)
    assert hashes(url) == before
    alone()
    assert restore_database(url, models, file, replace=True)["rows"] > 280


def test_a_backup_of_an_older_schema_is_brought_up_to_date(settings, store, alone, models, tmp_path):  # noqa: ARG001
    """The rows come back as they were, then the migrations run."""
    alone()
    url = owner_url(settings)
    drop(url)
    migrate(url, "0001")
    try:
        with create_engine(url, poolclass=NullPool).begin() as connection:
            connection.execute(text("INSERT INTO bans VALUES ('old', now(), 'test', now())"))
        backup_database(url, models, tmp_path / "old.backup")
        drop(url)
        restore_database(url, models, tmp_path / "old.backup")
    finally:
        migrate(url)
    assert hashes(url)["bans"]["rows"] == 1
    assert "forecasts" in hashes(url)


def test_a_backup_with_wrong_row_counts_changes_nothing(url, models, tmp_path, monkeypatch):
    """The comparison is inside the restore's transaction: a wrong table takes everything back."""
    file = tmp_path / "x.backup"
    backup_database(url, models, file)
    before = hashes(url)
    manifest = backup.load_manifest(file)
    manifest["tables"]["candles"]["hash"] = "1"
    monkeypatch.setattr(backup, "load_manifest", lambda _: manifest)
    with pytest.raises(StoreError, match="table candles differs from the backup"):
        restore_database(url, models, file, replace=True)
    assert hashes(url) == before


def test_a_copy_that_differs_is_no_backup(url, models, tmp_path, monkeypatch):
    """The file gets its name only after a restored copy had equal hashes."""
    calls = iter((1, 2))
    monkeypatch.setattr(backup, "table_hashes", lambda _: {"candles": {"rows": next(calls)}})
    with pytest.raises(StoreError, match="differs from the database in candles"):
        backup_database(url, models, tmp_path / "x.backup")
    assert not list(tmp_path.glob("*backup*"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_refused_before_anything_happens(url, models, tmp_path, content):
    """One sentence, and the database is as it was."""
    file = tmp_path / "bad.backup"
    file.write_bytes(content)
    before = hashes(url)
    with pytest.raises(SourceError, match="is not a backup"):
        restore_database(url, models, file, replace=True)
    assert hashes(url) == before


def test_a_flipped_byte_is_found(url, models, tmp_path):
    """Checksums of the container cover the dump."""
    file = tmp_path / "x.backup"
    backup_database(url, models, file)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        at = archive.getinfo("database.dump").header_offset + 500
    content[at] ^= 255
    file.write_bytes(content)
    with pytest.raises(SourceError, match=r"damaged|not a backup"):
        restore_database(url, models, file, replace=True)
