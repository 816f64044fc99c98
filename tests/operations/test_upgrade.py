"""From every earlier schema with rows in it to the newest: nothing is lost, nothing changes."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from btcml.store.backup import table_hashes
from btcml.store.engine import head_revision, is_current, known_revisions, migrate, owner_url

_VALUE = {
    "timestamp with time zone": "timestamptz '2025-06-30T00:00:00+00:00'",
    "double precision": "1.5",
    "bigint": "1",
    "integer": "1",
    "smallint": "2",
    "ARRAY": "'{0.5}'",
    "boolean": "true",
    "jsonb": "'{}'",
    "text": "'x'",
}
_BY_NAME = {
    "market": "'simulated'",
    "symbol": "'BTCUSDT'",
    "interval": "'5m'",
    "close_time": "timestamptz '2025-06-30T00:04:59.999+00:00'",
    "finished_at": "NULL",
    "hash": "repeat('a', 64)",
    "manifest": "repeat('a', 64)",
    "artifact": "'20250630T000000-x'",
}
_CHECKED = {
    ("gaps", "kind"): "'halt'",
    ("jobs", "kind"): "'train'",
    ("jobs", "status"): "'running'",
    ("models", "role"): "'champion'",
    ("forecasts", "role"): "'champion'",
    ("forecasts", "status"): "'sealed'",
    ("forecasts", "cutoff"): "timestamptz '2025-06-29T00:00:00+00:00'",
    ("forecasts", "prob_up"): "0.5",
    ("market_clocks", "market"): "'replay:x'",
}
_COLUMNS = """SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = 'btcml' AND table_name = :table AND is_identity = 'NO' ORDER BY ordinal_position"""


def fill(connection):
    """One row into every table, whatever its columns are."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))  # the seal refuses rows of the past
    for table in table_hashes(connection):
        if table != "alembic_version":
            columns = connection.execute(text(_COLUMNS), {"table": table}).all()
            values = [_CHECKED.get((table, name)) or _BY_NAME.get(name) or _VALUE[kind] for name, kind in columns]
            names = ", ".join(f'"{name}"' for name, _ in columns)
            connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({", ".join(values)})'))


def contents(connection, like=None):
    """Rows of every table, in the columns that the table has in `like`."""
    tables = like or {table: [{}] for table in table_hashes(connection)}
    names = {table: ", ".join(f'"{name}"' for name in rows[0]) or "*" for table, rows in tables.items()}
    found = {table: connection.execute(text(f'SELECT {names[table]} FROM "{table}"')) for table in tables}
    return {table: [dict(row) for row in rows.mappings()] for table, rows in found.items()}


@pytest.fixture
def empty(settings, migrated_store):  # noqa: ARG001 - the server must run
    """Address of a database without a schema, gone afterwards."""
    url = owner_url(settings)
    with create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        connection.execute(text("CREATE DATABASE upgrading"))
        yield url.set(database="upgrading")
        connection.execute(text("DROP DATABASE upgrading WITH (FORCE)"))


@pytest.mark.parametrize("revision", known_revisions())
def test_an_upgrade_keeps_every_row(empty, revision):
    """Rows of all tables that were there have the same values afterwards."""
    migrate(empty, revision)
    engine = create_engine(empty, poolclass=NullPool)
    with engine.begin() as connection:
        fill(connection)
        before = contents(connection)
    migrate(empty)
    with engine.connect() as connection:
        after = contents(connection, like=before)
    assert all(len(rows) == 1 for rows in before.values())
    assert {name for name, rows in before.items() if after[name] != rows} <= {"alembic_version"}
    assert is_current(empty)


_BACK = """DO $$ DECLARE statement text; BEGIN
  FOR statement IN SELECT format('ALTER %s btcml.%I SET SCHEMA public', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE'
    END, relname) FROM pg_class WHERE relnamespace = 'btcml'::regnamespace AND relkind IN ('r', 'v')
  LOOP EXECUTE statement; END LOOP;
  FOR statement IN SELECT format('ALTER FUNCTION %s SET search_path = public', oid::regprocedure) FROM pg_proc
    WHERE pronamespace = 'btcml'::regnamespace AND proconfig IS NOT NULL
  LOOP EXECUTE statement; END LOOP;
  FOR statement IN SELECT format('ALTER FUNCTION %s SET SCHEMA public', oid::regprocedure) FROM pg_proc
    WHERE pronamespace = 'btcml'::regnamespace
  LOOP EXECUTE statement; END LOOP;
  DROP SCHEMA btcml; END $$"""


def test_tables_that_stood_in_public_move_with_their_rows(empty):
    """As version 0.1 left them; the seal works at the new place, and what is another's stays."""
    migrate(empty, "0002")
    engine = create_engine(empty, poolclass=NullPool)
    with engine.begin() as connection:
        fill(connection)
        before = contents(connection)
        connection.execute(text(_BACK))
        connection.execute(text("CREATE TABLE public.orders (id int)"))
    assert not is_current(empty)
    migrate(empty)
    with engine.begin() as connection:
        after = contents(connection, like=before)
        assert {name for name, rows in before.items() if after[name] != rows} == {"alembic_version"}
        left = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert connection.execute(text(left)).scalars().all() == ["orders"]
        old = (
            "SELECT proname FROM pg_proc WHERE proconfig::text LIKE '%public%' OR pronamespace = 'public'::regnamespace"
        )
        assert connection.execute(text(old)).scalars().all() == []
        connection.execute(text("SET LOCAL search_path = pg_catalog"))
        with pytest.raises(DBAPIError, match="has closed: a forecast of it is no forecast"):
            connection.execute(text("INSERT INTO btcml.forecasts SELECT * FROM btcml.forecasts"))


def test_the_revisions_are_one_chain():
    """No two heads: the newest is the last of all."""
    assert known_revisions()[-1] == head_revision()
