"""Alerts in the log of jobs, and the market that processes with the source ``auto`` share."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the kind of job and the table."""
    kinds = "('ingest', 'train', 'backfill', 'forecast', 'alert')"
    op.execute("ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check")
    op.execute(f"ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN {kinds})")
    op.execute(
        "CREATE TABLE market_choice (one boolean PRIMARY KEY DEFAULT true CHECK (one), "
        "market text NOT NULL, found_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    op.execute("GRANT SELECT ON market_choice TO btcml_app, btcml_read")
    op.execute("GRANT INSERT (market), UPDATE (market, found_at) ON market_choice TO btcml_app")
    op.execute(
        "CREATE TRIGGER market_choice_tell AFTER INSERT OR UPDATE ON market_choice "
        "FOR EACH STATEMENT EXECUTE FUNCTION tell_change()"
    )
