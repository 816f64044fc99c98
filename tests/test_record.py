"""The check of a record: RFC 9162, RFC 8032 and C2SP forms against independent code."""

from __future__ import annotations

import ast
import hashlib
import random
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btcml import record


def root_by_definition(leaves):
    """RFC 9162, 2.1.1: split at the largest power of two below the number of leaves."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    both = root_by_definition(leaves[:split]) + root_by_definition(leaves[split:])
    return hashlib.sha256(b"\1" + both).digest()


def test_the_tree_is_that_of_rfc_9162():
    """Of every size to 70: the tree that grows has the root of the recursive definition."""
    leaves, tree = [b"%d" % number for number in range(70)], record.Tree()
    for size in range(71):
        assert tree.root() == root_by_definition(leaves[:size])
        assert tree.size == size
        tree.append(b"%d" % size)


def test_signatures_are_those_of_ed25519():
    """Signatures of another implementation are accepted; one changed bit anywhere is not."""
    chance = random.Random(0)
    for number in range(8):
        key, message = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32)), chance.randbytes(number * 9)
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        assert record.is_signed(public, signature, message)
        at = chance.randrange(64)
        changed = signature[:at] + bytes([signature[at] ^ 1 << chance.randrange(8)]) + signature[at + 1 :]
        assert not record.is_signed(public, changed, message)
        assert not record.is_signed(public, signature, message + b"x")
    high = (int.from_bytes(signature[32:], "little") + record._ORDER).to_bytes(32, "little")
    assert not record.is_signed(public, signature[:32] + high, message)  # RFC 8032, 5.1.7: S is below the order
    assert not record.is_signed(b"\xff" * 32, signature, message)


def test_the_test_vector_of_rfc_8032():
    """7.1, TEST 2: one byte."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert record.is_signed(public, signature, b"\x72")


def test_a_key_line_names_its_key_and_is_read_again():
    """Name, hash and key; a hash of another key is refused."""
    line = record.key_line("btcml/binance/BTCUSDT/5m/forecasts", b"k" * 32)
    assert record.parse_key(line) == ("btcml/binance/BTCUSDT/5m/forecasts", b"k" * 32)
    with pytest.raises(ValueError, match="does not match"):
        record.parse_key(line.replace("forecasts", "outcomes"))


def test_the_script_needs_the_standard_library_alone():
    """A stranger runs it without installing anything."""
    tree = ast.parse(Path(record.__file__).read_text(encoding="utf-8"))
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
