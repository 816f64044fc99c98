"""One way to the database, through a role that owns nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import text

from btcml.errors import BusyError, StoreError
from btcml.settings import Settings
from btcml.store.engine import database_lock, head_revision, is_current, migrate, open_store, owner_url


def test_every_session_is_the_application_in_utc(store):
    """Rows through SQLAlchemy and columns through Arrow use the same role and zone."""
    query = "SELECT current_user, current_setting('timezone')"
    with store.engine.connect() as connection:
        assert tuple(connection.execute(text(query)).one()) == ("btcml_app", "UTC")
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        assert cursor.fetchone() == ("btcml_app", "UTC")


def _insert_and_fail(connection, insert):
    with connection.cursor() as cursor:
        cursor.execute(insert)
    raise StoreError


def test_a_failure_inside_a_bulk_block_leaves_nothing(store):
    """The transaction is rolled back."""
    insert = "INSERT INTO bans VALUES ('x', now(), 'test', now())"
    with pytest.raises(StoreError), store.bulk() as connection:
        _insert_and_fail(connection, insert)
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM bans")) == 0


def test_a_server_by_address_is_used_with_the_role_of_the_application(settings, migrated_store):  # noqa: ARG001
    """DATABASE_URL of an owner: its sessions still own nothing."""
    address = owner_url(settings).set(drivername="postgresql").render_as_string(hide_password=False)
    served = open_store(Settings(database_url=address))
    with served.engine.connect() as connection:
        assert connection.scalar(text("SELECT current_user")) == "btcml_app"
    served.close()


@pytest.mark.parametrize("address", ["mysql://u:secret@h/d", "not an address", "sqlite:///x.db"])
def test_another_kind_of_database_is_refused_without_showing_the_password(address):
    """Law 6: PostgreSQL, and no second dialect."""
    with pytest.raises(StoreError, match="DATABASE_URL must") as refused:
        open_store(Settings(database_url=address))
    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_one_sentence():
    """What was tried, why it failed, what to do."""
    with pytest.raises(StoreError, match="cannot be reached") as refused:
        open_store(Settings(database_url="postgresql://u:secret@127.0.0.1:1/x"))
    assert "secret" not in str(refused.value)


def test_a_schema_of_a_newer_btcml_is_refused(settings, owner):
    """An old program must not write into a new schema."""
    with owner.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(StoreError, match="newer than this btcml"):
            is_current(owner_url(settings))
    finally:
        with owner.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": head_revision()})


def test_migrating_again_does_nothing(settings, migrated_store):  # noqa: ARG001 - it must exist
    """Two processes that both start a fresh installation do not collide."""
    migrate(owner_url(settings))
    assert is_current(owner_url(settings))


def test_a_lock_is_held_once_and_freed_at_the_end(store):
    """The second one is refused with what is busy; after the block the lock is free."""
    taken = pytest.raises(BusyError, match="busy with training")
    with database_lock(store, "training"), taken, database_lock(store, "training"):
        pass
    with database_lock(store, "training"):
        pass


def test_two_processes_share_one_embedded_server(settings, store):
    """A second process joins the server that this one runs, and leaves it running."""
    code = (
        "from btcml.settings import Settings; from btcml.store.engine import open_store;"
        f"print(open_store(Settings(database_url=None, btcml_home={str(settings.home)!r})).url.query['host'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == store.url.query["host"]
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    """The embedded server says where it failed and what else can be done."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="did not start"):
        open_store(Settings(database_url=None, btcml_home=blocked))


def test_a_server_that_goes_away_is_one_sentence(store):
    """Whichever way it is asked: what happened, and that nothing is partially stored; the next question is answered."""
    gone = "SELECT pg_terminate_backend(pg_backend_pid())"
    words = r"the database failed \(.*nothing is partially stored"
    with pytest.raises(StoreError, match=words), store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(gone)
    with pytest.raises(StoreError, match=r"the database failed \("), store.engine.connect() as connection:
        connection.execute(text(gone))
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_a_lock_is_free_the_moment_its_block_ends(store):
    """The next one need not wait until the server has noticed a closed connection."""
    for _ in range(50):
        with database_lock(store, "drill"):
            pass
