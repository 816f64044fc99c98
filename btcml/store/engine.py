"""One way to the database: the embedded server, or the one that ``DATABASE_URL`` names."""

from __future__ import annotations

import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import adbc_driver_postgresql.dbapi as adbc
import psycopg2
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DisconnectionError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from btcml.errors import BusyError, StoreError
from btcml.store.embedded import start_embedded
from btcml.store.schema import APP_ROLE, is_current, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import URL
    from sqlalchemy.engine.interfaces import ExceptionContext

    from btcml.settings import Settings

__all__ = ["Store", "database_lock", "open_store", "owner_url"]

_DATABASE = "btcml"


@dataclass(frozen=True)
class Store:
    """A database that is reached and migrated, through a role that owns nothing.

    Attributes
    ----------
    url
        Address with the role and time zone of every session in its options.
    home
        State folder of the embedded server; None where the server is somebody else's.
    """

    url: URL
    home: Path | None = None

    @cached_property
    def engine(self) -> Engine:
        """Pool of connections for rows, opened at first use."""
        return _explaining(create_engine(self._rows, pool_pre_ping=True, pool_size=5))

    @cached_property
    def _single(self) -> Engine:
        """Connections for what belongs to a session, such as a lock: each is closed after its use."""
        return _explaining(create_engine(self._rows, poolclass=NullPool, isolation_level="AUTOCOMMIT"))

    @property
    def _rows(self) -> URL:
        return self.url.set(drivername="postgresql+psycopg2")

    @cached_property
    def _columns(self) -> QueuePool:
        uri = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        uri = uri.replace("+", "%20")  # libpq reads no plus as a space
        pool = QueuePool(lambda: adbc.connect(uri), pool_size=3, max_overflow=20, reset_on_return=None)
        event.listen(pool, "checkout", _ping)
        weakref.finalize(self, pool.dispose)  # the driver complains of connections that are just dropped
        return pool

    @contextmanager
    def bulk(self) -> Iterator[adbc.Connection]:
        """Open one transaction on a connection that moves Arrow columns; commit it at the end."""
        try:
            connection = cast("adbc.Connection", self._columns.connect())
        except adbc.Error as error:
            raise _failed(error) from error
        try:
            yield connection
            connection.commit()
        except BaseException as error:
            connection.invalidate()
            if isinstance(error, adbc.Error):
                raise _failed(error) from error
            raise
        finally:
            connection.close()

    def revive(self) -> None:
        """Start the embedded server again where it has died; another's server is not ours to start.

        Raises
        ------
        StoreError
            If it does not start, yet: its children may still be ending.
        """
        if self.home is not None:
            start_embedded(self.home)

    def close(self) -> None:
        """Give the pool's connections back to the server."""
        self.engine.dispose()
        self._columns.dispose()


def _ping(connection: adbc.Connection, _record: object, _proxy: object) -> None:
    """Replace a connection that a restart of the server has cut."""
    try:
        with connection.cursor() as cursor:
            cursor.executescript("SELECT 1")  # a quarter of the time of a query with an answer
    except adbc.Error as error:
        raise DisconnectionError from error


def _explaining(engine: Engine) -> Engine:
    event.listen(engine, "handle_error", _explain)
    return engine


def _explain(context: ExceptionContext) -> None:
    """Say what the database could not do, where it is its fault: full disk, stopped server, cut connection."""
    error = context.original_exception
    if isinstance(error, psycopg2.OperationalError) and not context.is_pre_ping:
        raise _failed(error) from error


def _failed(error: BaseException) -> StoreError:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return StoreError(f"the database failed ({why}): nothing is half stored; see to it, then run again")


def owner_url(settings: Settings) -> URL:
    """Address of the database as its owner, who migrates it; the embedded server is started.

    Raises
    ------
    StoreError
        If ``DATABASE_URL`` is no PostgreSQL address, or the embedded server cannot start.
    """
    if settings.database_url is None:
        url = make_url(start_embedded(settings.home)).set(drivername="postgresql+psycopg2")
        _ensure_database(url)
        return url.set(database=_DATABASE)
    return _server_url(settings.database_url.get_secret_value())


def _server_url(address: str) -> URL:
    try:
        url = make_url(address)
    except SQLAlchemyError as error:
        msg = "DATABASE_URL must be of the form postgresql://user:password@host:5432/database; it cannot be read"
        raise StoreError(msg) from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        msg = (
            f"DATABASE_URL must name a PostgreSQL server, found {url.get_backend_name()}: unset it for the embedded one"
        )
        raise StoreError(msg)
    return url.set(drivername="postgresql+psycopg2")


def _ensure_database(url: URL) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext('btcml create database'))"))
        if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": _DATABASE}):
            connection.execute(text(f"CREATE DATABASE {_DATABASE}"))


def open_store(settings: Settings) -> Store:
    """Reach the database, bring its schema up to date, and connect as the application's role.

    Raises
    ------
    StoreError
        If the server cannot be reached, or its schema is newer than this code.
    """
    url = owner_url(settings)
    try:
        if not is_current(url):
            migrate(url)
    except OperationalError as error:
        where = url.render_as_string(hide_password=True)
        msg = f"the database {where} cannot be reached: {_first_line(error)}; start it or correct DATABASE_URL"
        raise StoreError(msg) from error
    embedded = settings.database_url is None
    session = "-c timezone=UTC -c work_mem=128MB"  # enough to sort a million candles without the disk
    if not embedded:
        session += f" -c role={APP_ROLE}"
    if embedded:
        url = url.set(username=APP_ROLE)
    return Store(url.update_query_dict({"options": session}), settings.home if embedded else None)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]


@contextmanager
def database_lock(store: Store, name: str) -> Iterator[None]:
    """Hold a lock that no other process on any machine holds at the same time.

    It is released when the block ends or the process dies.

    Raises
    ------
    BusyError
        If somebody holds it already.
    """
    with store._single.connect() as connection:  # noqa: SLF001 - a lock belongs to its session
        if not connection.scalar(text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), {"name": name}):
            msg = f"another process is busy with {name}: wait for it, or look at the jobs"
            raise BusyError(msg)
        try:
            yield
        finally:  # closing alone frees it a moment later, when the server has noticed
            with suppress(SQLAlchemyError, StoreError):
                connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
