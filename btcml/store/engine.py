"""The database: its address, its schema, and connections through a role that owns nothing."""

from __future__ import annotations

import re
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import psycopg2
from psycopg2.extensions import encrypt_password, make_dsn
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DisconnectionError, InternalError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from btcml.candles import TIME
from btcml.errors import BusyError, StoreError
from btcml.store.embedded import start_embedded
from btcml.system import public_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alembic.config import Config
    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import ExceptionContext

    from btcml.settings import Settings


APP_ROLE = "btcml_app"
"""Role of every session of the application: it owns nothing and cannot change the schema."""

READ_ROLE = "btcml_read"
"""Role that may only read."""

IN_SERIES = "market = :market AND symbol = :symbol AND interval = :interval"
"""Condition that selects one series; its values are those of ``asdict`` of a `btcml.candles.SeriesKey`."""

SCHEMA = "btcml"
"""Schema of all tables, views and functions of btcml; nothing else in a database is touched."""

_DATABASE = "btcml"
_MIGRATING = threading.Lock()  # Alembic keeps the migration that runs in a global variable
_TEXTS = {*("market", "symbol", "interval", "kind", "rule", "source"), *("role", "model", "artifact", "status")}
_TEXTS |= {"previous", "hash"}
_INTEGERS = {"id", "seq"}


@dataclass(frozen=True)
class Store:
    """A database that can be reached and has the newest schema.

    Attributes
    ----------
    url
        Address with the role and time zone of every session in its options.
    home
        State folder of the embedded server; None where the server is reached by address.
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
        address = make_dsn(**libpq_parameters(self.url))
        pool = QueuePool(lambda: adbc.connect(address), pool_size=3, max_overflow=20, reset_on_return=None)
        event.listen(pool, "checkout", _ping)
        weakref.finalize(self, pool.dispose)  # the driver complains of connections that are just dropped
        return pool

    def fetch(self, query: str, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Read the rows of a query, as named tuples, with its named values bound."""
        with self.engine.connect() as connection:
            return connection.execute(text(query), values).fetchall()

    def scalar(self, query: str, values: Mapping[str, Any] | None = None) -> Any:
        """Read the first value of the first row of a query, or None where there is no row."""
        with self.engine.connect() as connection:
            return connection.scalar(text(query), values)

    def execute(self, query: str, *rows: Mapping[str, Any]) -> int:
        """Run a statement once for each of `rows`, in one transaction; return the number of rows changed."""
        with self.engine.begin() as connection:
            return sum(connection.execute(text(query), row).rowcount for row in rows)

    def frame(self, query: str, values: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Read the rows of a query with dtypes that follow from the columns' names, with or without rows.

        ``start``, ``cutoff`` and names in ``_time`` and ``_at`` are times, keys and names are text,
        ``id`` and ``seq`` are integers, and all else is ``float64``.
        """
        with self.engine.connect() as connection:
            result = connection.execute(text(query), values)
            frame = pd.DataFrame(result.fetchall(), columns=list(result.keys()))
        for name in frame.columns:
            if name in {"start", "cutoff"} or name.endswith(("_time", "_at")):
                frame[name] = pd.to_datetime(frame[name], utc=True).astype(TIME)
            else:
                dtype: Any = "str" if name in _TEXTS else "int64" if name in _INTEGERS else "float64"
                frame[name] = frame[name].astype(dtype)
        return frame

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

    def restart_server(self) -> None:
        """Start the embedded server again where it has died; a server by address is left alone.

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


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as values to bind: NaN and NaT are null."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


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
    """Turn failures of the database itself (full disk, stopped server, cut connection) into one sentence."""
    error = context.original_exception
    if isinstance(error, psycopg2.OperationalError) and not context.is_pre_ping:
        raise _failed(error) from error


def _failed(error: BaseException) -> StoreError:
    return StoreError(f"the database failed ({_first_line(error)}): nothing is partially stored; fix the cause, retry")


def libpq_parameters(url: URL) -> dict[str, Any]:
    """Parameters of an address as PostgreSQL's own library names them; used by all drivers and tools."""
    return dict(create_engine(url, poolclass=NullPool).dialect.create_connect_args(url)[1])


def _first_line(error: BaseException) -> str:
    return (str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def connected(url: URL, isolation: Any = "READ COMMITTED") -> Iterator[Connection]:
    """Open one connection outside of any pool; its transaction is rolled back unless it is committed.

    Raises
    ------
    StoreError
        If the server cannot be reached, or rejects the user.
    """
    try:
        connection = create_engine(url, isolation_level=isolation, poolclass=NullPool).connect()
    except (OperationalError, ProgrammingError, ValueError) as error:  # also of a parameter that does not exist
        where = public_url(url.render_as_string())
        msg = f"the database {where} cannot be reached: {_first_line(error)}; start it or correct its address"
        raise StoreError(msg) from error
    with connection:
        yield connection


def owner_url(settings: Settings) -> URL:
    """Address of the database as its owner, who migrates it; the embedded server is started.

    Raises
    ------
    StoreError
        If ``DATABASE_URL`` is no PostgreSQL address, or the embedded server cannot start.
    """
    if settings.database_url is None:
        url = start_embedded(settings.home)
        _ensure_database(url)
        return _in_schema(url.set(database=_DATABASE))
    return _in_schema(parse_url(settings.database_url.get_secret_value()))


def _in_schema(url: URL, options: str = "") -> URL:
    """Address whose sessions find the tables of btcml by their names, with more options for them."""
    given = url.query.get("options", "")
    return url.update_query_dict({"options": f"{given} -c search_path={SCHEMA}{options}".strip()})


def parse_url(address: str, name: str = "DATABASE_URL") -> URL:
    """Address of a PostgreSQL server from its text; special characters in it are percent-encoded.

    Parameters
    ----------
    name
        What holds the address, for the message.

    Raises
    ------
    StoreError
        If it is no such address; the message does not contain it.
    """
    form = f"{name} must be of the form postgresql://user:password@host:5432/database"
    try:
        url = make_url(address)
    except (SQLAlchemyError, ValueError) as error:
        msg = f"{form}; it cannot be read"
        raise StoreError(msg) from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        msg = f"{name} must name a PostgreSQL server, found {url.get_backend_name()}: unset it for the embedded one"
        raise StoreError(msg)
    if "@" in (url.host or ""):
        msg = f"{form}, found two @ in it: write that of the password as %40"
        raise StoreError(msg)
    if isinstance(password := url.query.get("password"), str):  # where it would be shown with the address
        url = url.set(password=password).difference_update_query(["password"])
    return url.set(drivername="postgresql+psycopg2")


def _ensure_database(url: URL) -> None:
    with connected(url, "AUTOCOMMIT") as connection:
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
    if not is_current(url):
        migrate(url)
    session = " -c timezone=UTC -c work_mem=128MB"  # enough to sort a million candles without the disk
    if settings.database_url is None:
        return Store(_in_schema(url.set(username=APP_ROLE), session), settings.home)
    return Store(_in_schema(url, f"{session} -c role={APP_ROLE}"))


def find_store(settings: Settings) -> Store | None:
    """Reach the database where there is one: a server, or the embedded one of an earlier command."""
    there = settings.database_url is not None or (settings.home / "postgres").exists()
    return open_store(settings) if there else None


@contextmanager
def database_lock(store: Store, name: str) -> Iterator[None]:
    """Hold a lock that no other process on any machine holds at the same time.

    It is released when the block ends or the process dies.

    Raises
    ------
    BusyError
        If it is held already.
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


def lock_is_held(store: Store, name: str) -> bool:
    """Whether any process holds a `database_lock`, without taking it."""
    return bool(store.scalar(_HELD, {"name": name}))


_HELD = """SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (classid::bigint << 32) | objid::bigint = hashtextextended(:name, 0))"""


def _alembic() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - a kernel that only reads snapshots does not load it

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """Newest revision of the schema in this code."""
    return known_revisions()[-1]


def known_revisions() -> list[str]:
    """Revisions in this code, the oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as above

    return [script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()][::-1]


def is_current(url: URL) -> bool:
    """Whether the database has the newest schema.

    Raises
    ------
    StoreError
        If its schema is of a newer btcml than this one, the schema btcml is of another application, or the role
        may not read it.
    """
    with connected(url) as connection:
        return _revision(connection) == head_revision()


def _revision(connection: Connection) -> str | None:
    """Revision of the tables in our own schema; None where there are none yet."""
    facts = connection.execute(text(_FACTS)).one()
    if facts.tables and not facts.ours:
        msg = (
            f"the schema btcml of the database {connection.engine.url.database} is of another application: give btcml "
            "a database of its own in DATABASE_URL"
        )
        raise StoreError(msg)
    place = SCHEMA if facts.ours else "public" if facts.old else None
    if place is None:
        return None
    try:
        revision = connection.scalar(text(f"SELECT version_num FROM {place}.alembic_version"))
    except ProgrammingError as error:
        grant = f'GRANT {APP_ROLE} TO "{connection.engine.url.username}"'
        msg = f"the role may not use the schema of btcml ({_first_line(error)}): let an administrator run {grant}"
        raise StoreError(msg) from error
    if revision is None:
        msg = f"the table {place}.alembic_version is empty: restore it, or the database, from a backup"
        raise StoreError(msg)
    if revision not in known_revisions():
        msg = f"the database has the schema {revision}, newer than this btcml ({head_revision()}): update btcml"
        raise StoreError(msg)
    return str(revision) if place == SCHEMA else "0"


# In version 0.1 the tables were in the schema public. They belong to btcml if all of them are there.
_OURS = ("candles", "candle_revisions", "quarantine", "gaps", "snapshots", "trials", "bans", "alembic_version")
_FACTS = f"""SELECT count(*) FILTER (WHERE schemaname = '{SCHEMA}') AS tables,
count(*) FILTER (WHERE schemaname = '{SCHEMA}' AND tablename IN {_OURS}) = {len(_OURS)} AS ours,
count(*) FILTER (WHERE schemaname = 'public' AND tablename IN {_OURS}) = {len(_OURS)} AS old
FROM pg_tables WHERE schemaname IN ('{SCHEMA}', 'public')"""


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
    from alembic.command import upgrade  # noqa: PLC0415 - as above

    config = _alembic()
    with _MIGRATING, connected(url) as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('btcml migrate'))"))
        found = _revision(connection)
        config.attributes["connection"] = connection
        try:
            if not connection.scalar(text(f"SELECT to_regnamespace('{SCHEMA}')")):
                connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
            if found == "0":
                connection.execute(text(_MOVE))
            connection.execute(text(f"SET LOCAL search_path = {SCHEMA}"))
            upgrade(config, revision)
        except (ProgrammingError, InternalError) as error:
            right = _missing_right(str(error.orig), url)
            msg = f"the schema cannot be migrated ({_first_line(error)}): {right}"
            raise StoreError(msg) from error


_SERVICE = ("jobs", "models", "market_clocks", "forecasts", "imported_forecasts")
_VIEWS = ("forecasts_scored", "futuros", "job_logs")
_FUNCTIONS = (
    *("on_grid", "plausible_close", "analyze_candles", "interval_length", "market_now", "refuse_clock"),
    *("forecast_digest", "utc_text", "bits", "seal_forecast", "refuse_change", "tell_change"),
)
# Indexes, triggers and sequences go with their table; views and constraints refer to what they mean, not to names.
# The functions come after the tables: one of them has a table's row as its argument.
_MOVE = f"""DO $$ DECLARE statement text; BEGIN
  FOR statement IN
    SELECT format('ALTER %s public.%I SET SCHEMA {SCHEMA}', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relname)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
    AND relname IN {(*_OURS, *_SERVICE, *_VIEWS)}
  LOOP EXECUTE statement; END LOOP;
  FOR statement IN SELECT format('ALTER FUNCTION %s SET SCHEMA {SCHEMA}', oid::regprocedure) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proname IN {_FUNCTIONS}
  LOOP EXECUTE statement; END LOOP;
END $$"""


def _missing_right(refusal: str, url: URL) -> str:
    """What an administrator of the server has to do so that a migration succeeds."""
    role = f'"{url.username}"'
    asked = "let an administrator run"
    made = "CREATE ROLE btcml_app LOGIN; CREATE ROLE btcml_read LOGIN"
    advice = {
        "create role": f"{asked} {made}; GRANT btcml_app TO {role}",
        "grant role": f"{asked} GRANT btcml_app TO {role}",  # an administrator has made it
        "read-only": "name the primary server in DATABASE_URL, or set default_transaction_read_only to off",
        "already exists|existing function": "the schema is not btcml's: give btcml a database of its own",
        "permission denied for schema": f"{asked} GRANT ALL ON SCHEMA {SCHEMA} TO {role}",
        "permission denied for": f'{asked} GRANT CREATE ON DATABASE "{url.database}" TO {role}',
        "": "run btcml db migrate as the database's owner",
    }
    return next(cure for cause, cure in advice.items() if re.search(cause, refusal))


def set_password(url: URL, role: str, password: str) -> None:
    """Give a role its password; only its SCRAM verifier goes to the server, so that no log holds it.

    Parameters
    ----------
    url
        Address of the database as its owner.
    role
        `APP_ROLE` or `READ_ROLE`.
    """
    with connected(url, "AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        verifier = encrypt_password(password, role, scope=driver, algorithm="scram-sha-256")
        try:
            connection.exec_driver_sql(f"ALTER ROLE \"{role}\" PASSWORD '{verifier}'")  # base64, and names of our own
        except ProgrammingError as error:
            msg = f"the password of {role} cannot be set ({_first_line(error)}): let an administrator set it"
            raise StoreError(msg) from error


# An owner without superuser rights sees only these columns of other sessions.
_OTHERS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
AND usename IN (:app, session_user)"""


def require_no_sessions(url: URL, wait: float = 3.0) -> None:
    """Refuse while other processes use the database as btcml does; the read-only role is allowed.

    Parameters
    ----------
    url
        Address of the database as its owner.
    wait
        Seconds for a command that has just ended to disconnect.

    Raises
    ------
    BusyError
        If API, scheduler or another command is connected.
    """
    deadline = time.monotonic() + wait
    with connected(url, "AUTOCOMMIT") as connection:
        while others := connection.scalar(text(_OTHERS), {"app": APP_ROLE}):
            if time.monotonic() > deadline:
                msg = f"the database is in use (sessions: {others}): stop API, scheduler and other btcml commands"
                raise BusyError(msg)
            time.sleep(0.1)
