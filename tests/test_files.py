from __future__ import annotations

import errno
import os

import pytest

from btcml.files import file_hash, text_hash, write_text


def test_a_file_is_written_whole(tmp_path):
    """Folders are made, no temporary file stays, and every user may read it."""
    path = write_text(tmp_path / "a" / "b.txt", "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_full_disk_leaves_the_old_content(tmp_path, monkeypatch):
    """A write that fails half-way is as if it had never begun."""
    path = write_text(tmp_path / "b.txt", "old")

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.txt"]


def test_a_file_and_its_text_have_one_hash(tmp_path):
    """The manifest may hash either."""
    assert file_hash(write_text(tmp_path / "x", "x\n")) == text_hash("x\n")
