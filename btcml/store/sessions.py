"""Who else is connected to the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from btcml.errors import BusyError
from btcml.store.schema import APP_ROLE

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["require_alone"]

# Of another's session an owner who is no superuser sees no more than these columns.
_OTHERS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
AND usename IN (:app, session_user)"""


def require_alone(url: URL, patience: float = 3.0) -> None:
    """Refuse while others use the database as btcml does; who only reads is no harm.

    Parameters
    ----------
    url
        Address of the database as its owner.
    patience
        Seconds for a command that has just ended to leave.

    Raises
    ------
    BusyError
        If API, scheduler or another command is connected.
    """
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    end = time.monotonic() + patience
    with engine.connect() as connection:
        while others := connection.scalar(text(_OTHERS), {"app": APP_ROLE}):
            if time.monotonic() > end:
                who = "API, scheduler and whatever else uses btcml"
                msg = f"others are connected to the database (sessions: {others}): stop {who}, then repeat"
                raise BusyError(msg)
            time.sleep(0.1)
