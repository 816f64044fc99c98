"""Candles, their revisions, quarantine, gaps, snapshots, trials and bans."""

from __future__ import annotations

from alembic import op

from btcml.contract import load_contract, sql_functions

revision = "0001"
down_revision = None

_KEY = 'market text COLLATE "C" NOT NULL, symbol text COLLATE "C" NOT NULL, interval text COLLATE "C" NOT NULL'
_VALUES = """
    open double precision, high double precision, low double precision, close double precision,
    volume double precision, close_time timestamptz, quote_volume double precision, trades double precision,
    taker_buy_base double precision, taker_buy_quote double precision"""

_TABLES = (
    f"""CREATE TABLE candle_revisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_KEY}, open_time timestamptz NOT NULL,
    {_VALUES}, source text NOT NULL, seen_at timestamptz NOT NULL)""",
    "CREATE INDEX candle_revisions_key ON candle_revisions (market, symbol, interval, open_time)",
    f"""CREATE TABLE quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_KEY}, open_time timestamptz,
    {_VALUES}, rule text NOT NULL, source text NOT NULL, seen_at timestamptz NOT NULL, released_at timestamptz)""",
    "CREATE INDEX quarantine_key ON quarantine (market, symbol, interval, open_time)",
    f"""CREATE TABLE gaps (
    {_KEY}, start timestamptz NOT NULL, "end" timestamptz NOT NULL, missing bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('halt', 'ours')), checked_at timestamptz NOT NULL,
    PRIMARY KEY (market, symbol, interval, start))""",
    f"""CREATE TABLE snapshots (
    hash text PRIMARY KEY CHECK (hash ~ '^[0-9a-f]{{64}}$'), {_KEY}, start timestamptz NOT NULL,
    "end" timestamptz NOT NULL, candles bigint NOT NULL, made_at timestamptz NOT NULL)""",
    f"""CREATE TABLE trials (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_KEY}, model text NOT NULL, parameters jsonb NOT NULL,
    snapshot text NOT NULL, score double precision, tried_at timestamptz NOT NULL,
    UNIQUE (market, symbol, interval, model, parameters, snapshot))""",
    """CREATE TABLE bans (
    host text PRIMARY KEY, until timestamptz NOT NULL, reason text NOT NULL, seen_at timestamptz NOT NULL)""",
)

_ANALYZE = """
CREATE FUNCTION analyze_candles() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = btcml, pg_temp AS $$ BEGIN ANALYZE candles; END $$"""

# Roles belong to the whole server: another database's migration may make them at the same moment, which no
# advisory lock prevents. What an administrator has granted already is not asked for again.
_ROLES = """
DO $$ DECLARE role text; BEGIN
  FOREACH role IN ARRAY ARRAY['btcml_app', 'btcml_read'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      BEGIN EXECUTE format('CREATE ROLE %I LOGIN', role);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END;
    END IF;
  END LOOP;
  FOR try IN 1..50 LOOP
    EXIT WHEN pg_has_role(current_user, 'btcml_app',
      CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END);
    BEGIN EXECUTE format('GRANT btcml_app TO %I', current_user);
    EXCEPTION WHEN unique_violation OR internal_error THEN PERFORM pg_sleep(0.1); END;
  END LOOP;
  IF NOT has_database_privilege('btcml_app', current_database(), 'TEMPORARY') THEN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO btcml_app', current_database());
  END IF;
END $$
"""

_GRANTS = (
    "GRANT USAGE ON SCHEMA btcml TO btcml_app, btcml_read",
    "GRANT SELECT ON ALL TABLES IN SCHEMA btcml TO btcml_app, btcml_read",
    "GRANT INSERT, UPDATE ON candles, quarantine, gaps, snapshots, bans TO btcml_app",
    "GRANT DELETE ON gaps, snapshots, bans TO btcml_app",
    "GRANT INSERT ON candle_revisions, trials TO btcml_app",
)


def upgrade() -> None:
    """Make the tables and the two roles."""
    for statement in (
        _ROLES,
        *sql_functions(),
        load_contract().create_table_sql(),
        *_TABLES,
        _ANALYZE,
        *_GRANTS,
    ):
        op.execute(statement)
