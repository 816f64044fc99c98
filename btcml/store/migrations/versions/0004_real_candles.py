"""Simulated and replayed candles never revise, nor are held in quarantine for, another market's."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Check new rows; NOT VALID leaves rows alone that an older version has written."""
    for table in ("candle_revisions", "quarantine"):
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT real_candles_stay_real_{table} CHECK "
            "(source = market OR (source <> 'simulated' AND source NOT LIKE 'replay:%')) NOT VALID"
        )
