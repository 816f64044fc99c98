"""Atomic writes of files and folders, hashes, locks, and the files shipped with btcml."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from btcml.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator


_INSIDE = {"reports/template": "reports_template"}


def resource(name: str) -> Path:
    """Path of ``data_contracts``, ``notebooks``, ``reports/template`` or ``requirements.lock``.

    In an installed wheel they are inside the package, in a checkout beside it.

    Examples
    --------
    >>> resource("notebooks").joinpath("01-ingest.ipynb").exists()
    True
    """
    package = Path(__file__).resolve().parent
    inside = package / _INSIDE.get(name, name)
    return inside if inside.exists() else package.parent / name


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; after the block its file is synced and takes the place of `path`.

    A reader sees the old content or the new, also after a crash. If the block or the
    disk fails, the old content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    new = Path(name)
    try:
        yield new
        _sync(new)
        new.chmod(0o644)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what `replaced_file` left beside its files, in a folder and those below, when a process was killed.

    The caller holds the folder's lock, so that no other process is writing there.
    """
    for path in folder.rglob(".*"):
        parts = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}(\.\w+)?", path.name)
        if parts and (target := path.with_name(parts[1])).exists() and target.suffix == (parts[2] or ""):
            path.unlink()


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; after the block its files are synced and it takes the place of `path`.

    If the block or the disk fails, the old folder stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            path.rename(old)
        new.rename(path)
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, payload: bytes) -> Path:
    """Write a file as `replaced_file` does; its folder is made where it is missing."""
    with replaced_file(path) as new:
        new.write_bytes(payload)
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


@contextmanager
def folder_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder against every other process; the lock of a process that dies is released.

    Parameters
    ----------
    wait
        Whether to wait until no other process holds it.

    Raises
    ------
    BusyError
        If another process holds it, and this one does not wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            msg = f"another process is working in {folder}: wait until it has ended"
            raise BusyError(msg) from error
        yield
