"""A server by address: any password, shared with other applications, and with few rights."""

from __future__ import annotations

import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg2
import pytest

from btcml.errors import BtcmlError, StoreError
from btcml.settings import Settings
from btcml.store.backup import backup_database, restore_database
from btcml.store.engine import open_store, owner_url, parse_url

from .compose import free_port
from .server import Server

PRINTABLE = "".join(sorted(set(string.printable) - set(string.whitespace))) + " "


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL over TCP with passwords."""
    found = Server(free_port(), "owner", "owner-word")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def database(server):
    """Name of an empty database; it and the roles of btcml are dropped afterwards."""
    server.query("postgres", "CREATE DATABASE shop")
    yield "shop"
    for name in ("shop", "shop2"):
        server.query("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    for role in ("btcml_app", "btcml_read", "tenant"):
        server.query("postgres", f"DROP ROLE IF EXISTS {role}")


def address(server, database, user="owner", word="owner-word"):
    return f"postgresql://{quote(user, safe='')}:{quote(word, safe='')}@127.0.0.1:{server.port}/{database}"


def settings(url, **values):
    return Settings(database_url=url, btcml_source="simulated", **values)


@pytest.mark.parametrize("word", [PRINTABLE, "a+b", "100%", "p@ss", "a/b", "%2B"])
def test_any_password_works_for_rows_columns_and_tools(server, database, tmp_path, word):
    """One parser for SQLAlchemy, ADBC and pg_dump."""
    literal = word.replace("'", "''")
    server.query("postgres", f"CREATE ROLE tenant SUPERUSER LOGIN PASSWORD '{literal}'")
    given = settings(address(server, database, "tenant", word))
    store = open_store(given)
    assert store.scalar("SELECT session_user") == "tenant"
    with store.bulk() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT session_user")
        assert cursor.fetchone() == ("tenant",)
    store.close()
    assert backup_database(owner_url(given), tmp_path, tmp_path / "x.backup")["verified"]


@pytest.mark.parametrize("character", sorted(set(PRINTABLE) - set("@% ")))
def test_a_password_may_be_written_as_it_is_but_for_two_characters(character):
    """@ and % have a meaning in an address; every other character is itself."""
    assert parse_url(f"postgresql://u:a{character}b@host/d").password == f"a{character}b"


def test_an_at_sign_in_a_password_is_an_error_with_advice():
    """And shows nothing of it."""
    with pytest.raises(StoreError, match="as %40") as refused:
        parse_url("postgresql://u:se@cret@host/d")
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/x",
        "postgresql://u@127.0.0.1:1/x?password=secret",
        "postgresql://u@127.0.0.1:1/x?sslpassword=secret",
        "postgresql://u:secret",
        "postgresql://u:p@secret@127.0.0.1:1/x",
        "mysql://u:secret@h/x",
    ],
)
def test_no_message_shows_a_secret_of_the_address(url):
    """Wherever the secret stands in it, and whatever is wrong."""
    with pytest.raises(BtcmlError) as refused:
        open_store(settings(url))
    assert "secret" not in str(refused.value)


def _opened(url):
    code = "import sys; from btcml.settings import Settings; from btcml.store.engine import open_store;"
    code += "open_store(Settings(database_url=sys.argv[1])).close()"
    return subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False).stderr


def test_two_empty_databases_of_one_server_are_opened_at_once(server, database):
    """Roles belong to the server, not to a database: the second migration finds them."""
    server.query("postgres", "CREATE DATABASE shop2")
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(_opened, [address(server, name) for name in (database, "shop2")])) == ["", ""]


def test_two_migrations_that_make_the_roles_at_the_same_moment_both_end_well(server, database):
    """Another transaction has made a role and not committed yet when a migration comes to it."""
    other = psycopg2.connect(address(server, "postgres"))
    other.cursor().execute("CREATE ROLE btcml_app LOGIN")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%CREATE ROLE%'"
    with ThreadPoolExecutor(1) as threads:
        opened = threads.submit(_opened, address(server, database))
        while server.query("postgres", waits) == "0" and not opened.done():
            time.sleep(0.05)
        other.commit()
        assert opened.result() == ""
    other.close()


def test_what_belongs_to_others_in_the_database_stays(server, database):
    """Their table, their rows, and the right of every role to make temporary tables."""
    server.query(database, "CREATE TABLE orders (id int); INSERT INTO orders VALUES (7)")
    before = server.query(database, "SELECT has_database_privilege('public', current_database(), 'TEMPORARY')")
    open_store(settings(address(server, database))).close()
    assert server.query(database, "SELECT id FROM orders") == "7"
    assert server.query(database, "SELECT has_database_privilege('public', current_database(), 'TEMPORARY')") == before


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('a1b2c3')",
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('0002')",
        "CREATE TABLE candles (id int)",
        "CREATE FUNCTION bits(x int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW futuros AS SELECT 1 AS one",
    ],
)
def test_a_database_is_shared_with_an_application_that_uses_the_same_names(server, database, tmp_path, made):
    """Both have what is theirs, and a restore drops nothing of the other."""
    server.query(database, made)
    theirs = """SELECT string_agg(relname, ',' ORDER BY relname), (SELECT count(*) FROM pg_proc WHERE
    pronamespace = 'public'::regnamespace) FROM pg_class WHERE relnamespace = 'public'::regnamespace"""
    before = server.query(database, theirs)
    given = settings(address(server, database))
    store = open_store(given)
    assert store.scalar("SELECT count(*) FROM candles") == 0
    store.close()
    backup_database(owner_url(given), tmp_path, tmp_path / "x.backup")
    restore_database(owner_url(given), tmp_path, tmp_path / "x.backup", replace=True)
    assert server.query(database, theirs) == before


def test_a_schema_btcml_of_another_application_is_left_alone(server, database):
    """Not "update btcml": one sentence that it is another's."""
    made = "CREATE SCHEMA btcml; CREATE TABLE btcml.alembic_version (version_num text)"
    server.query(database, f"{made}; INSERT INTO btcml.alembic_version VALUES ('a1b2c3')")
    with pytest.raises(StoreError, match="is of another application: give btcml a database of its own") as refused:
        open_store(settings(address(server, database)))
    assert "update btcml" not in str(refused.value)


def test_a_role_of_ours_finds_the_tables_by_their_names(server, database):
    """As a client of system 1, or Adminer, asks for its views."""
    open_store(settings(address(server, database))).close()
    server.query("postgres", "ALTER ROLE btcml_read PASSWORD 'x'")
    assert server.query(database, "SELECT count(*) FROM futuros", "btcml_read", "x") == "0"


def test_an_owner_without_createrole_gets_the_statements_for_an_administrator(server, database):
    """And with these statements run, the same command goes well."""
    server.query("postgres", f"CREATE ROLE tenant LOGIN PASSWORD 'x'; ALTER DATABASE {database} OWNER TO tenant")
    given = settings(address(server, database, "tenant", "x"))
    with pytest.raises(StoreError, match="let an administrator run CREATE ROLE") as refused:
        open_store(given)
    for statement in str(refused.value).partition("administrator run ")[2].split("; "):
        server.query("postgres", statement)
    store = open_store(given)
    assert store.scalar("SELECT current_user") == "btcml_app"
    store.close()


def test_an_owner_gets_one_grant_where_the_roles_are_there(server, database):
    """CREATE ROLE would fail: an administrator has made them."""
    server.query("postgres", "CREATE ROLE btcml_app LOGIN; CREATE ROLE btcml_read LOGIN")
    server.query("postgres", f"CREATE ROLE tenant LOGIN PASSWORD 'x'; ALTER DATABASE {database} OWNER TO tenant")
    with pytest.raises(StoreError, match=r'administrator run GRANT btcml_app TO "tenant"$'):
        open_store(settings(address(server, database, "tenant", "x")))


def test_another_role_on_a_database_of_btcml_gets_the_missing_grant(server, database):
    """And with it run, the same command goes well."""
    open_store(settings(address(server, database))).close()
    server.query("postgres", "CREATE ROLE tenant LOGIN PASSWORD 'x'")
    given = settings(address(server, database, "tenant", "x"))
    with pytest.raises(StoreError, match=r'permission denied.* run GRANT btcml_app TO "tenant"$') as refused:
        open_store(given)
    server.query("postgres", str(refused.value).partition("administrator run ")[2])
    open_store(given).close()


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ("ALTER DATABASE shop SET default_transaction_read_only = on", "read-only transaction.: name the primary"),
        ("CREATE SCHEMA btcml; CREATE VIEW btcml.candles AS SELECT 1 AS one", "give btcml a database of its own"),
        (
            "CREATE SCHEMA btcml; CREATE FUNCTION btcml.bits(double precision) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "give btcml a database of its own",
        ),
    ],
)
def test_a_database_that_cannot_be_migrated_is_one_true_sentence(server, database, made, sentence):
    """What stands in the way, and what to do about it."""
    server.query(database, made)
    with pytest.raises(StoreError, match=sentence):
        open_store(settings(address(server, database)))


def test_a_schema_of_another_role_gets_the_missing_grant(server, database):
    """Not a right on the database, which the owner has."""
    server.query(database, "CREATE SCHEMA btcml; CREATE ROLE btcml_app LOGIN; CREATE ROLE btcml_read LOGIN")
    server.query("postgres", f"CREATE ROLE tenant LOGIN PASSWORD 'x'; ALTER DATABASE {database} OWNER TO tenant")
    server.query("postgres", "GRANT btcml_app TO tenant")
    with pytest.raises(StoreError, match='GRANT ALL ON SCHEMA btcml TO "tenant"'):
        open_store(settings(address(server, database, "tenant", "x")))


def test_a_database_without_its_revision_is_not_taken_for_a_newer_one(server, database):
    """As after a restore that was interrupted."""
    given = settings(address(server, database))
    open_store(given).close()
    server.query(database, "DELETE FROM btcml.alembic_version")
    with pytest.raises(StoreError, match=r"alembic_version is empty: restore it"):
        open_store(given)


@pytest.mark.parametrize("url", ["postgresql://u@127.0.0.1:1/x?foo=1", "postgresql://u:p%00q@127.0.0.1:1/x"])
def test_an_address_that_the_library_refuses_is_one_sentence(url):
    """A parameter that does not exist, a character that no password may have."""
    with pytest.raises(StoreError, match="cannot be reached"):
        open_store(settings(url))


def test_two_threads_migrate_one_after_the_other(server, database):
    """Alembic keeps what runs in a global variable."""
    server.query("postgres", "CREATE DATABASE shop2")
    with ThreadPoolExecutor(4) as threads:
        opened = [threads.submit(open_store, settings(address(server, name))) for name in (database, "shop2") * 2]
        for store in opened:
            store.result().close()


def test_a_role_without_create_gets_the_missing_grant(server, database):
    """One sentence with the missing right."""
    server.query("postgres", "CREATE ROLE tenant LOGIN CREATEROLE PASSWORD 'x'")
    with pytest.raises(StoreError, match=r"permission denied for database shop.*GRANT CREATE ON DATABASE"):
        open_store(settings(address(server, database, "tenant", "x")))
