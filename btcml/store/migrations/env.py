"""Alembic's environment: it runs on the connection that `btcml.store.engine.migrate` opened."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="btcml")
context.run_migrations()
