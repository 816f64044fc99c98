"""Files that are whole or absent: written aside, synced, renamed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from btcml.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["alone", "file_hash", "text_hash", "write_bytes", "write_text"]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against every other process; a process that dies lets go by itself.

    Raises
    ------
    ReportError
        If another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"one build at a time may work in {folder}, found another at work: wait until it has ended"
            raise ReportError(msg) from error
        yield


def write_bytes(path: Path, payload: bytes) -> Path:
    """Write a file so that a reader, or a crash, sees the old content or the new, nothing between.

    Raises
    ------
    OSError
        If the disk is full or the folder may not be written; the old content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


def write_text(path: Path, text: str) -> Path:
    r"""Write UTF-8 text with ``\n`` line ends, as `write_bytes` does."""
    return write_bytes(path, text.encode())


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of the bytes of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
