"""The database's schema as it grew: Alembic migrations, run by the owner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg2.extensions import encrypt_password
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from btcml.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["APP_ROLE", "READ_ROLE", "head_revision", "is_current", "known_revisions", "migrate", "set_password"]

APP_ROLE = "btcml_app"
"""Role of every session of the application: it owns nothing and cannot change the schema."""

READ_ROLE = "btcml_read"
"""Role that may only read."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """Newest revision that this code knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def known_revisions() -> list[str]:
    """Revisions that this code knows, the oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _revision(url: URL) -> str | None:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_current(url: URL) -> bool:
    """Whether the database has the newest schema.

    Raises
    ------
    StoreError
        If its schema is of a newer btcml than this one.
    """
    revision = _revision(url)
    if revision is not None and revision not in known_revisions():
        msg = f"the database has the schema {revision}, newer than this btcml ({head_revision()}): update btcml"
        raise StoreError(msg)
    return revision == head_revision()


def migrate(url: URL, revision: str = "head") -> None:
    """Bring the schema to a revision, in one transaction and one process at a time.

    Parameters
    ----------
    url
        Address of the database as its owner.
    revision
        The target; the newest by default.

    Raises
    ------
    StoreError
        If the role of `url` may not change the schema.
    """
    config = _config()
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('btcml migrate'))"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except ProgrammingError as error:
            msg = (
                f"the schema cannot be brought up to date ({error.orig}): run btcml db migrate as the database's owner"
            )
            raise StoreError(msg) from error


def set_password(url: URL, role: str, password: str) -> None:
    """Give a role its password; the server hears only its SCRAM verifier, so that no log holds it.

    Parameters
    ----------
    url
        Address of the database as its owner.
    role
        `APP_ROLE` or `READ_ROLE`.
    """
    with create_engine(url, poolclass=NullPool).begin() as connection:
        driver = connection.connection.driver_connection
        verifier = encrypt_password(password, role, scope=driver, algorithm="scram-sha-256")
        connection.exec_driver_sql(f"ALTER ROLE \"{role}\" PASSWORD '{verifier}'")  # base64, and names of our own
