"""Each right of each role on each table and function, tried one by one; the catalogue says what there is."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.store.engine import APP_ROLE, READ_ROLE

VALUES = "open high low close volume close_time quote_volume trades taker_buy_base taker_buy_quote"
SEALED = "seq made_at status previous hash hash_version written_at outcome"
ALL = None
# Of each table: the columns that the application may insert, without those named; that it may update; may it delete?
RIGHTS = {
    "alembic_version": (ALL, "", False),
    "bans": ("", "until reason seen_at", False),
    "candles": ("", VALUES, False),
    "candle_revisions": (ALL, "", False),
    "forecasts": (SEALED, "", False),
    "gaps": ("", "end missing checked_at", True),
    "imported_forecasts": ("", "", False),
    "jobs": ("", "status started_at finished_at result error error_status", False),
    "market_clocks": (ALL, "", False),
    "market_choice": ("one found_at", "market found_at", False),
    "models": ("", "role kept", False),
    "outcomes": (ALL, "", False),
    "quarantine": ("", "released_at", False),
    "snapshots": ("", "", False),
    "trials": ("", "", False),
    "forecasts_scored": (ALL, "", False),
    "futuros": (ALL, "", False),
    "job_logs": (ALL, "", False),
}
CALLED = {"record_clock", "analyze_candles"}
COLUMNS = """SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a
ON a.attrelid = c.oid WHERE c.relnamespace = 'btcml'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1"""


@pytest.fixture
def tables(migrated_store):
    """Columns of each table and view, from the catalogue."""
    return dict(tuple(row) for row in migrated_store.fetch(COLUMNS))


def may(owner, role, statement):
    """Whether a statement of a role succeeds, or reaches one of our triggers; nothing is kept."""
    with owner.connect() as connection:
        connection.execute(text(f"SET ROLE {role}"))
        try:
            connection.execute(text(statement))
        except DBAPIError as error:
            return error.orig.pgcode.startswith("BT")
        finally:
            connection.rollback()
    return True


def tried(owner, role, table, columns):
    """What a role may do: columns that it may insert and update, and the operations on the whole table."""
    of_column = {
        "insert": f'INSERT INTO {table} ("{{0}}") OVERRIDING SYSTEM VALUE SELECT "{{0}}" FROM {table} WHERE false',
        "update": f'UPDATE {table} SET "{{0}}" = DEFAULT WHERE false',
    }
    of_table = {
        "select": f"SELECT * FROM {table}",
        "delete": f"DELETE FROM {table} WHERE false",
        "truncate": f"TRUNCATE {table}",
        "trigger": f"CREATE TRIGGER t AFTER INSERT ON {table} EXECUTE FUNCTION tell_change()",
    }
    found = {name: {c for c in columns if may(owner, role, form.format(c))} for name, form in of_column.items()}
    return found | {name: may(owner, role, statement) for name, statement in of_table.items()}


@pytest.mark.parametrize("role", [APP_ROLE, READ_ROLE])
def test_each_role_has_the_least_rights_on_every_table(owner, tables, role):
    """A new table has to be named here; the reader only reads."""
    assert set(tables) == set(RIGHTS)
    for table, columns in tables.items():
        without, update, delete = RIGHTS[table] if role == APP_ROLE else (ALL, "", False)
        insert = set() if without is ALL else set(columns) - set(without.split())
        expected = {"insert": insert, "update": set(update.split()), "select": True, "delete": delete}
        assert tried(owner, role, table, columns) == expected | dict.fromkeys(("truncate", "trigger"), False)


def test_what_runs_with_the_owners_rights_may_be_called_only_where_it_has_to(migrated_store):
    """The application measures clocks and refreshes statistics; triggers need no right to call."""
    query = """SELECT proname, has_function_privilege(:role, oid, 'EXECUTE') FROM pg_proc
    WHERE pronamespace = 'btcml'::regnamespace AND prosecdef"""
    found = {role: dict(map(tuple, migrated_store.fetch(query, {"role": role}))) for role in (APP_ROLE, READ_ROLE)}
    assert {name for name, allowed in found[APP_ROLE].items() if allowed} == CALLED
    assert not any(found[READ_ROLE].values())


def test_no_role_has_more_than_grants(migrated_store):
    """No superuser, no membership, nothing to create but temporary tables; functions with rights pin their path."""
    query = """SELECT rolname FROM pg_roles WHERE rolname IN (:app, :read) AND (rolsuper OR rolcreaterole OR rolcreatedb
    OR rolbypassrls OR rolreplication OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid)
    OR has_schema_privilege(rolname, 'btcml', 'CREATE') OR has_database_privilege(rolname, current_database(), 'CREATE')
    OR EXISTS (SELECT FROM pg_class c WHERE relnamespace = 'btcml'::regnamespace AND relkind = 'r'
      AND has_any_column_privilege(rolname, c.oid, 'REFERENCES')))
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'btcml'::regnamespace AND prosecdef
    AND proconfig IS DISTINCT FROM ARRAY['search_path=btcml, pg_temp']"""
    assert migrated_store.fetch(query, {"app": APP_ROLE, "read": READ_ROLE}) == []
