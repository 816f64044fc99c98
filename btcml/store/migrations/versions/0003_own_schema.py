"""A schema of our own: until now the tables stood in ``public``, from where `btcml.store.engine.migrate` moves them."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_FUNCTIONS = ("analyze_candles()", "market_now(text)", "forecast_digest(forecasts)", "seal_forecast()")

# Who logs in as one of our roles finds the tables by their names, and the reader's transactions are read-only. An owner
# of the database that does not administrate the roles has to leave that to an administrator.
_SETTINGS = """
DO $$ BEGIN
  EXECUTE format('ALTER ROLE btcml_app IN DATABASE %I SET search_path = btcml', current_database());
  EXECUTE format('ALTER ROLE btcml_read IN DATABASE %I SET search_path = btcml', current_database());
  EXECUTE format('ALTER ROLE btcml_read IN DATABASE %I SET default_transaction_read_only = on', current_database());
EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE 'an administrator has to set the search_path of the roles';
END $$
"""


def upgrade() -> None:
    """Give functions and roles the new place."""
    for function in _FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function} SET search_path = btcml, pg_temp")
    op.execute("GRANT USAGE ON SCHEMA btcml TO btcml_app, btcml_read")
    op.execute(_SETTINGS)
