"""A published record of forecasts, and its check with nothing but Python's standard library.

    python3 verify.py [FOLDER] [--since CHECKPOINT ...] [--stamps N|all] [--authority FILE]

A record is a folder: ``key`` (public keys), ``scores.json``, and one log each of forecasts and outcomes. A log is a
Merkle tree (RFC 9162) whose leaves are the lines of ``LOG/000000.csv``, ``LOG/000001.csv``, …; a file that is full is
never written again. ``LOG/checkpoint`` signs the size and the root (C2SP tlog-checkpoint, Ed25519), and
``LOG/checkpoints/`` keeps all earlier ones. Whoever kept a checkpoint can prove with ``--since`` that nothing before it
was changed.

``LOG/stamps/`` holds time stamps (RFC 3161): an authority states when it saw a checkpoint. A forecast is proven in time
where a stamp on a checkpoint that contains it comes before the end of the first candle ahead; all others are claimed,
and ``proof.json`` lists them. ``--stamps`` has ``openssl ts`` check the authority's signatures; this system must trust
the authority, or its root certificate be given by ``--authority``. This module is published beside the record as
``verify.py``.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an outsider's may be older
    sys.exit(f"expected Python 3.11 or newer, found {sys.version.split()[0]}: run verify.py with another one")

import argparse
import base64
import hashlib
import json
import math
import os
import shutil
import ssl
import struct
import subprocess
import tempfile
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Row = Mapping[Any, Any]
    Read = Callable[[str], bytes]
    CheckStamp = Callable[["Stamp"], str]
    Span = Sequence[int]

TILE = 4096
"""Lines of a full file."""

LARGEST = 1 << 28
"""Bytes of the largest file that is read."""

STAMP_TILE = 128
"""Lines of a full file of time stamps, which are long."""

SEALED = {
    "forecasts": (
        "seq", "open_time", "horizon", "role", "model", "artifact", "cutoff", "base", "open", "high", "low", "close",
        "amp", "lo", "hi", "prob_up", "levels", "quantiles", "made_at", "written_at", "status", "outcome", "previous",
        "hash", "hash_version",
    ),
    "outcomes": (
        "seq", "open_time", "open", "high", "low", "close", "known_at", "forecast_seq", "forecast_hash", "previous",
        "hash", "hash_version",
    ),
}  # fmt: skip
"""Columns of a sealed row; the last two are not hashed."""

_IMPLIED = {"previous", "forecast_hash"}
LOGS = {log: tuple(name for name in names if name not in _IMPLIED) for log, names in SEALED.items()}
"""Columns of each log: the hash of the row before, and of the forecast that is numbered, are in their own lines."""

CHECKPOINTS = ("size", "root", "signed_at", "signature")
"""Columns of the list of a log's checkpoints; the time is the publisher's word."""

STAMPS = ("size", "response")
"""Columns of a log's time stamps: rows of the checkpoint, and the authority's answer in base64."""

_VERSION_1 = (
    "seq", "open_time", "role", "model", "artifact", "cutoff", "base", "open", "high", "low", "close", "amp", "lo",
    "hi", "prob_up", "made_at", "status", "previous",
)  # fmt: skip
_TIMES = {"open_time", "cutoff", "made_at", "written_at", "known_at"}
_NUMBERS = {"seq", "horizon", "forecast_seq", "hash_version"}
_TEXTS = {"role", "model", "artifact", "status", "outcome", "hash"}
_NEVER_NULL = {"outcome"}
_TOLERANCE = 1e-9


def canonical(value: Any) -> str | None:
    """Text of a value as it is hashed: UTC with microseconds, floats as the hexadecimal digits of their bytes."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, float):
        return struct.pack(">d", value).hex()
    if isinstance(value, list):
        return " ".join(struct.pack(">d", item).hex() for item in value)
    return None if value is None else str(value)


def row_hash(log: str, series: Iterable[str], row: Row) -> str:
    """SHA-256 of the canonical bytes of a sealed row, the hash left out.

    Version 1 joins the columns by bars; version 2 writes each as its length, a colon and its text, a null as a minus
    sign, joined by commas.
    """
    if row["hash_version"] == 1:
        joined = "|".join([*series, *(canonical(row[name]) or "" for name in _VERSION_1)])
        return hashlib.sha256(joined.encode()).hexdigest()
    values = [log.removesuffix("s"), row["hash_version"], *series, *(row[name] for name in SEALED[log][:-2])]
    parts = ("-" if part is None else f"{len(part)}:{part}" for part in map(canonical, values))
    return hashlib.sha256(",".join(parts).encode()).hexdigest()


def to_line(log: str, row: Row) -> str:
    """Write a row as a line of its log: floats as Python prints them, lists with spaces, nulls empty."""
    return ",".join(_cell(row[name]) for name in LOGS[log])


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return (canonical(value) or "").replace(".000000Z", "Z")
    return " ".join(map(repr, value)) if isinstance(value, list) else "" if value is None else str(value)


def from_line(log: str, line: str) -> dict[str, Any]:
    """Read a row from its line.

    Raises
    ------
    ValueError
        If a cell cannot be read, or their number is not that of the columns.
    """
    cells = line.split(",")
    if len(cells) != len(LOGS[log]):
        msg = f"a line has {len(cells)} cells, its log {len(LOGS[log])} columns"
        raise ValueError(msg)
    return {name: _value(name, cell) for name, cell in zip(LOGS[log], cells, strict=True)}


def _value(name: str, cell: str) -> Any:
    if not cell and name not in _NEVER_NULL:
        return None
    if name in _TEXTS:
        return cell
    if name in _TIMES:
        return datetime.fromisoformat(cell)
    if name in _NUMBERS:
        return int(cell)
    return [float(item) for item in cell.split(" ")] if name in {"levels", "quantiles"} else float(cell)


@dataclass
class Tree:
    """A Merkle tree of RFC 9162 that only grows: roots of the perfect subtrees from left to right.

    Examples
    --------
    >>> tree = Tree()
    >>> tree.root().hex()[:8]
    'e3b0c442'
    >>> tree.append(b"")
    >>> tree.root().hex()[:8]
    '6e340b9c'
    """

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its content."""
        node, rest = hashlib.sha256(b"\0" + leaf).digest(), self.size
        while rest & 1:
            node, rest = _parent(self.peaks.pop(), node), rest >> 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Root of the tree as it is; of an empty tree the hash of nothing."""
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = _parent(peak, root)
        return root


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True)
class Checkpoint:
    """Size and root of a log at one time.

    Attributes
    ----------
    origin
        Name of the log: ``btcml/MARKET/SYMBOL/INTERVAL/LOG``.
    """

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse_note(text: str) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """Read a signed checkpoint: the checkpoint, and (name, key hash and signature) of each signature.

    Raises
    ------
    ValueError
        If it is no checkpoint.
    """
    body, _, rest = text.partition("\n\n")
    origin, size, root, *_ = [*body.split("\n"), "", ""]
    if not size.isdecimal():
        msg = "not a checkpoint"
        raise ValueError(msg)
    found = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    if found.body != f"{body}\n" or printable(text.replace("\n", "")) != text.replace("\n", ""):
        msg = "not a checkpoint in the form that is signed"
        raise ValueError(msg)
    lines = (line.split(" ") for line in rest.splitlines())
    return found, [(name, base64.b64decode(signature)) for _, name, signature in lines]


def printable(text: str) -> str:
    r"""Text of a record as it is shown: what would move a terminal's cursor is written as its code.

    Examples
    --------
    >>> printable("row 3\x1b[2J")
    'row 3\\x1b[2J'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def to_note(checkpoint: Checkpoint, signature: str) -> str:
    """Text of a signed checkpoint, as it stands in ``LOG/checkpoint`` and as it is stamped."""
    return f"{checkpoint.body}\n\N{EM DASH} {checkpoint.origin} {signature}\n"


def key_hash(name: str, kind: int, public: bytes) -> bytes:
    """Four bytes that name a key in a signature (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def key_line(name: str, public: bytes, kind: int = 1) -> str:
    """Text of a public key: name, key hash and key (C2SP signed-note)."""
    return f"{name}+{key_hash(name, kind, public).hex()}+{base64.b64encode(bytes([kind]) + public).decode()}"


def parse_key(line: str) -> tuple[str, bytes]:
    """Name and public key of a line of ``key``.

    Raises
    ------
    ValueError
        If the line is no key.
    """
    name, digest, encoded = line.strip().split("+", 2)
    kind, public = (raw := base64.b64decode(encoded))[0], raw[1:]
    if bytes.fromhex(digest) != key_hash(name, kind, public):
        msg = "the hash of the key does not match"
        raise ValueError(msg)
    return name, public


# ---- Ed25519 (RFC 8032): verification only; no secret is used, so timing leaks nothing ----
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def _x_of(y: int, sign: int) -> int:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_MINUS_1 % _P
    if (x * x - square) % _P or y >= _P or (x == 0 and sign):
        msg = "not a point of the curve"
        raise ValueError(msg)
    return _P - x if x & 1 != sign else x


def _point(encoded: bytes) -> _Point:
    number = int.from_bytes(encoded, "little")
    y = number & ((1 << 255) - 1)
    x = _x_of(y, number >> 255)
    return x, y, 1, x * y % _P


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, p: _Point) -> _Point:
    q = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            q = _add(q, p)
        p, scalar = _add(p, p), scalar >> 1
    return q


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature of a message is valid."""
    try:
        key, commitment, scalar = _point(public), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    except ValueError:
        return False
    if len(signature) != 64 or scalar >= _ORDER:  # noqa: PLR2004 - bytes of a signature
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _ORDER
    y = 4 * pow(5, -1, _P) % _P
    left = _times(scalar, (x := _x_of(y, 0), y, 1, x * y % _P))
    right = _add(commitment, _times(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % _P == 0 == (left[1] * right[2] - right[1] * left[2]) % _P


# ---- time stamps (RFC 3161) ----
_SHA_256 = bytes.fromhex("0609608648016503040201")
_GENERALIZED_TIME = 0x18


@dataclass(frozen=True)
class Stamp:
    """What an authority says: it saw the digest at a time.

    Attributes
    ----------
    size
        Rows of the checkpoint that is stamped.
    time
        When the authority saw it.
    digest
        SHA-256 of the signed checkpoint.
    response
        The answer, as DER.
    """

    size: int
    time: datetime
    digest: bytes
    response: bytes


def parse_stamp(size: int, response: bytes) -> Stamp:
    """Read time and digest of an authority's answer; its signature is not checked.

    Raises
    ------
    ValueError
        If it is no answer with a stamp on a SHA-256.
    """
    _, (_, wrapped) = der_parts(signed_parts(response)[2][1])
    ((_, octets),) = der_parts(wrapped)
    ((_, info),) = der_parts(octets)
    _, _, (_, imprint), _, (kind, time), *_ = der_parts(info)
    (_, algorithm), (_, digest) = der_parts(imprint)
    if kind != _GENERALIZED_TIME or algorithm[:11] != _SHA_256:
        msg = "not a stamp on a SHA-256"
        raise ValueError(msg)
    text = time.decode().rstrip("Z")
    form = "%Y%m%d%H%M%S.%f" if "." in text else "%Y%m%d%H%M%S"
    return Stamp(size, datetime.strptime(text, form).replace(tzinfo=UTC), digest, response)


def signed_parts(response: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each part of what an authority signed: version, digests, stamp, certificates, signers.

    Raises
    ------
    ValueError
        If the authority refused, or the answer cannot be read.
    """
    ((_, answer),) = der_parts(response)
    (_, status), (_, token) = der_parts(answer)
    _, (_, content) = der_parts(token)
    ((_, signed),) = der_parts(content)
    if der_parts(status)[0][1] != b"\0":
        msg = "refused"
        raise ValueError(msg)
    return der_parts(signed)


def der_parts(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element of a DER sequence."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1] if at + 1 < len(der) else 0, at + 2
        if length & 0x80:
            more = length & 0x7F
            length, at = int.from_bytes(der[at : at + more], "big"), at + more
        found.append((tag, der[at : at + length]))
        at += length
    if at != len(der):
        msg = "cut off"
        raise ValueError(msg)
    return found


def unproven(rows: Iterable[Row], interval: str, stamps: Iterable[tuple[int, datetime]]) -> Iterator[int]:
    """Numbers of the forecasts that no stamp proves to be made at their horizon, before its first candle ended."""
    length, ordered = _length(interval), sorted(stamps)
    sizes = [size for size, _ in ordered]
    times = [*accumulate((time for _, time in reversed(ordered)), min)][::-1]  # the earliest on this size or a larger
    for row in rows:
        at = bisect_left(sizes, row["seq"])
        if at == len(sizes) or times[at] >= _first_end(row, length):
            yield row["seq"]


def _first_end(row: Row, length: timedelta) -> datetime:
    """End of the candle in which a forecast is made: its own, or the first of those that it looks ahead over."""
    end: datetime = row["open_time"] - (row["horizon"] - 2) * length
    return end


def _length(interval: str) -> timedelta:
    return timedelta(**{_UNITS[interval[-1]]: int(interval[:-1])})


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def spans(numbers: Iterable[int], before: Iterable[Span] = ()) -> list[list[int]]:
    """First and last of each run of ascending numbers; `before` are runs that end earlier.

    Examples
    --------
    >>> spans([4, 5, 9], [[1, 3]])
    [[1, 5], [9, 9]]
    """
    found = [list(span) for span in before]
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def count_in(found: Iterable[Span]) -> int:
    """Count the numbers of runs."""
    return sum(last - first + 1 for first, last in found)


def by_openssl(program: str, folder: Path, authority: Path | None) -> CheckStamp:
    """Check of a stamp by ``openssl ts``; it returns the reason why a stamp does not hold, or nothing.

    Parameters
    ----------
    folder
        Has the record's ``certificates.pem``, if any; answers are written into it.
    authority
        Root certificates that are trusted; None: those of this system.
    """
    paths = ssl.get_default_verify_paths()
    trusted = ["-CAfile", str(authority or paths.cafile)]
    if authority is None and paths.cafile is None:
        trusted = ["-CApath", str(paths.capath)]
    if (folder / "certificates.pem").exists():
        trusted += ["-untrusted", str(folder / "certificates.pem")]

    def _check(stamp: Stamp) -> str:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as answer:  # two stamps may have one digest
            answer.write(stamp.response)
        command = [program, "ts", "-verify", "-digest", stamp.digest.hex(), "-in", answer.name, *trusted]
        failure = _failure(command)
        if "expired" in failure:  # since: a certificate has to be valid when it stamps
            failure = _failure([*command, "-attime", str(int(stamp.time.timestamp()))])
        return _reason(failure) if failure else ""

    return _check


def _failure(command: Sequence[str]) -> str:
    """Output of a command that fails; empty where it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - openssl, and no shell
    return f"{done.stdout}{done.stderr}failed" if done.returncode else ""


def _reason(output: str) -> str:
    unknown = any(
        words in output for words in ("certificate verify error", "signer certificate", "signing certificate")
    )
    return NOT_TRUSTED if unknown else "does not hold: its signature is not the authority's"


NOT_TRUSTED = "is of an authority that is not trusted here: give its root certificate by --authority, if you trust it"
"""Why a stamp of an unknown authority proves nothing."""


# ---- the check ----
@dataclass
class Findings:
    """What was found in a record.

    Attributes
    ----------
    faults
        One sentence each; empty where the record is consistent.
    series
        Market, symbol and interval.
    notes
        Text of the newest checkpoint of each log.
    sizes
        Rows of each log by its newest checkpoint.
    scores
        Recomputed scores by horizon.
    forecasts, outcomes
        The rows.
    signed
        When the newest checkpoint of each log was signed, by the publisher's word.
    claimed
        First and last of each run of forecasts that no stamp proves to be in time.
    stamps, checked
        Number of time stamps, and of those whose authority was checked.
    compared
        How many outcomes were compared with another source.
    """

    faults: list[str] = field(default_factory=list)
    series: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    forecasts: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    signed: dict[str, str] = field(default_factory=dict)
    claimed: list[list[int]] = field(default_factory=list)
    stamps: int = 0
    checked: int = 0
    compared: int = 0

    @property
    def proven(self) -> int:
        """Number of forecasts that a stamp proves to be in time."""
        return len(self.forecasts) - count_in(self.claimed)


def series_of(origin: str) -> tuple[str, ...]:
    """Market, symbol and interval in the name of a log."""
    return tuple(origin.split("/")[1:4])


def verify_record(
    read: Read, since: Iterable[str] = (), check: CheckStamp | None = None, newest: int | None = None
) -> Findings:
    """Check signatures, hashes, roots, scores and time stamps of a record.

    Parameters
    ----------
    read
        Gives the content of a file of the record by its name; raises OSError where there is none.
    since
        Texts of checkpoints that were kept earlier: the record must still have the same rows up to their sizes.
    check
        Gives the reason why the authority's signature of a stamp does not hold, or nothing; None: it is not checked.
    newest
        Number of stamps of each log to check so, from the newest; None: all.

    Returns
    -------
    Findings
        With all faults that were found. A record that is published anew while it is read is read again.
    """
    since = list(since)
    for _ in range(_ATTEMPTS):
        before = _published_state(read)
        found = _verify_once(read, since, check, newest)
        if not found.faults or _published_state(read) == before:
            break
    return found


_ATTEMPTS = 3
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


def _published_state(read: Read) -> list[bytes]:
    """Content of the small files that change with each publication and stamp."""
    found = []
    for name in ("forecasts/checkpoint", "outcomes/checkpoint", "scores.json", "proof.json"):
        with suppress(OSError):
            found.append(read(name))
    return found


def _verify_once(read: Read, since: Iterable[str], check: CheckStamp | None, newest: int | None) -> Findings:
    found = Findings()
    try:
        lines = read_text(read, "key").splitlines()
        keys = dict(map(parse_key, lines))
        kept = list(map(parse_note, since))
    except _UNREADABLE as error:
        found.faults.append(printable(f"no public key or no checkpoint to compare with can be read: {error}"))
        return found
    for log in LOGS:
        try:
            getattr(found, log).extend(_verified_rows(read, log, keys, [note for note, _ in kept], found))
        except _UNREADABLE as error:
            found.faults.append(f"{log}: a file is missing or cannot be read: {error}")
            break  # the other log has the hashes of this one
    found.claimed = spans(range(1, len(found.forecasts) + 1))  # until stamps say more
    others = [note.origin for note, _ in kept if note.origin not in keys]
    found.faults += [f"the checkpoint that was kept is of another log, {name}" for name in others]
    found.faults += [f"the checkpoint of {note.size} rows of {note.origin} that was kept is {_UNSIGNED}"
                     for note, raw in kept if note.origin in keys and not _is_note_signed(note, raw, keys)]  # fmt: skip
    if len(lines) > len(keys):
        found.faults.append("the file key has two keys of one log")
    if not found.faults:
        try:
            _verify_claims(read, found, found.series[2], check, newest)
        except _UNREADABLE as error:
            found.faults.append(f"a file of stamps, scores.json or proof.json is missing or cannot be read: {error!r}")
    found.faults = list(map(printable, found.faults))
    return found


_UNSIGNED = "not signed by the key of the record: ask the publisher whether the key is new"


def _verify_claims(read: Read, found: Findings, interval: str, check: CheckStamp | None, newest: int | None) -> None:
    """Recompute scores and proofs from rows and stamps, and compare with what the publisher says."""
    length = _length(interval)
    found.faults += [f"{log}: row {row['seq']} has values that no sealed row has"
                     for log in LOGS for row in getattr(found, log) if not _is_possible(log, row, length)]  # fmt: skip
    if found.faults:
        return
    links = broken_links(found.forecasts, found.outcomes)
    found.faults += [f"forecasts: row {number} {reason}" for number, reason in links]
    found.faults += _contradictions(found, interval)
    found.scores = scores(found.forecasts, found.outcomes)
    stamps = {log: _verified_stamps(read, log, found, check, newest) for log in LOGS}
    found.claimed = spans(unproven(found.forecasts, interval, stamps["forecasts"]))
    found.faults += _other_scores(json.loads(read("scores.json")), found.scores)
    found.faults += _other_proof(json.loads(read("proof.json")), found.claimed, len(found.forecasts))


def _contradictions(found: Findings, interval: str) -> Iterator[str]:
    """Second rows of one candle, rows of none, and forecasts that say to be sealed in time after its end."""
    length = _length(interval)
    for log in LOGS:
        seen, rows = set(), getattr(found, log)
        for row in rows:
            candle = row["open_time"], row.get("horizon"), row.get("role")
            if candle in seen and row.get("role") != "challenger":
                yield f"{log}: row {row['seq']} is the second of its candle"
            seen.add(candle)
            if (row["open_time"] - rows[0]["open_time"]) % length:
                yield f"{log}: row {row['seq']} is not of a candle of {interval}"
            if row.get("status") == "sealed" and row["made_at"] >= _first_end(row, length):
                yield f"{log}: row {row['seq']} was made after the end of its candle, and is not marked late"


def _is_possible(log: str, row: Row, length: timedelta) -> bool:
    """Whether the database could have sealed a row: values that it refuses would hide a forecast from the scores."""
    nullable = _NULLABLE if log == "forecasts" else {"forecast_seq", "forecast_hash"}
    if any(value is None and name not in nullable for name, value in row.items()):
        return False
    if row["open_time"].year not in _YEARS:
        return False
    if log == "outcomes":
        return all(0 < row[name] < math.inf for name in ("open", "high", "low", "close"))
    return (
        row["role"] in {"champion", "challenger"}
        and row["status"] in {"sealed", "late"}
        and row["hash_version"] in {1, 2}
        and row["horizon"] > 0
        and row["cutoff"] < _first_end(row, length) - length
        and 0 < row["base"] < math.inf
        and 0 < row["close"] < math.inf
        and (row["lo"] is row["hi"] is None or (None not in (row["lo"], row["hi"]) and row["lo"] <= row["hi"]))
    )


_YEARS = range(2000, 2200)
_NULLABLE = {"open", "high", "low", "amp", "lo", "hi", "prob_up", "levels", "quantiles", "written_at"}


def _verified_rows(
    read: Read, log: str, keys: Mapping[str, bytes], kept: Sequence[Checkpoint], found: Findings
) -> list[dict[str, Any]]:
    """Rows of one log; what is wrong is added to the findings."""
    found.notes[log] = read_text(read, f"{log}/checkpoint")
    newest, signatures = parse_note(found.notes[log])
    found.sizes[log], found.series = newest.size, found.series or series_of(newest.origin)
    if newest.origin != "/".join(("btcml", *found.series, log)):
        found.faults.append(f"{log}: the checkpoint is of another log, {newest.origin}")
    if not _is_note_signed(newest, signatures, keys):
        found.faults.append(f"{log}: the newest checkpoint is not signed by the key of the record")
    roots = _roots(read, log, newest, kept, found)
    tree, rows = Tree(), list[dict[str, Any]]()
    other_roots = [0] if roots.get(0, _EMPTY_ROOT) != _EMPTY_ROOT else []
    for line in read_lines(read, log, LOGS[log]):
        if tree.size == newest.size:
            found.faults.append(f"{log}: row {tree.size + 1} is not in the checkpoint: it was added later")
            break
        tree.append(line.encode())
        row = from_line(log, line)
        if to_line(log, row) != line:
            found.faults.append(f"{log}: row {tree.size} is not written as a record writes it: readers may differ")
        rows.append(_implied(row, rows, found))
        if tree.size in roots and base64.b64encode(tree.root()).decode() != roots[tree.size]:
            other_roots.append(tree.size)
    chain = broken_rows(log, series_of(newest.origin), rows)
    found.faults += [f"{log}: row {number} {reason}" for number, reason in chain]
    found.faults += [f"{log}: the first {n} rows are not those of the checkpoint of that size" for n in other_roots]
    if tree.size < newest.size:
        found.faults.append(f"{log}: row {tree.size + 1} is missing of {newest.size} in the checkpoint")
    return rows


_EMPTY_ROOT = base64.b64encode(Tree().root()).decode()


def _roots(read: Read, log: str, newest: Checkpoint, kept: Sequence[Checkpoint], found: Findings) -> dict[int, str]:
    """Root by size of all checkpoints of a log; where they differ is added to the findings."""
    roots: dict[int, str] = {}
    lines = list(listed_checkpoints(read, log))
    listed = [(size, root) for size, root, _, _ in lines]
    found.signed[log] = {size: at for size, _, at, _ in lines}.get(newest.size, "")
    if not found.signed[log]:
        found.faults.append(f"{log}: the newest checkpoint is not in the list of checkpoints")
    if (largest := max(listed, default=(0, ""))[0]) > newest.size:
        found.faults.append(f"{log}: {largest - newest.size} rows of a checkpoint in the list were cut off")
    own = [note for note in kept if note.origin == newest.origin]
    cut = [note.size - newest.size for note in own if note.size > newest.size]
    found.faults += [f"{log}: {rows} rows of the kept checkpoint were cut off" for rows in cut]
    for size, root in listed + [(note.size, base64.b64encode(note.root).decode()) for note in [newest, *own]]:
        if roots.setdefault(size, root) != root:
            found.faults.append(f"{log}: two checkpoints of {size} rows have different roots: a fork")
    return roots


def _implied(row: dict[str, Any], before: Sequence[Row], found: Findings) -> dict[str, Any]:
    """A row with the hashes that its line leaves out."""
    row["previous"] = before[-1]["hash"] if before else ""
    if "forecast_seq" in row:
        number = row["forecast_seq"] or 0
        row["forecast_hash"] = found.forecasts[number - 1]["hash"] if 0 < number <= len(found.forecasts) else None
    return row


def _verified_stamps(
    read: Read, log: str, found: Findings, check: CheckStamp | None, newest: int | None
) -> list[tuple[int, datetime]]:
    """Sizes and times of the stamps of one log that are on its checkpoints; what is wrong is added to the findings."""
    origin = parse_note(found.notes[log])[0].origin
    digests = {(size, _note_digest(origin, size, *signed)) for size, *signed in listed_checkpoints(read, log)}
    stamps: list[tuple[int, Stamp]] = []
    for number, line in enumerate(read_lines(read, f"{log}/stamps", STAMPS, tile=STAMP_TILE), 1):
        size, _, response = line.partition(",")
        try:
            stamp = parse_stamp(int(size), base64.b64decode(response, validate=True))
        except (ValueError, IndexError):
            found.faults.append(f"{log}: stamp {number}, on {size} rows, cannot be read")
            continue
        if (stamp.size, stamp.digest) in digests:
            stamps.append((number, stamp))
        else:
            found.faults.append(f"{log}: stamp {number}, on {size} rows, is of another checkpoint")
    found.stamps += len(stamps)
    broken = _broken_stamps(stamps[-newest:] if newest else stamps, check, found) if check else {}
    found.faults += [f"{log}: stamp {number}, on {size} rows, {reason}" for (number, size), reason in broken.items()]
    return [(stamp.size, stamp.time) for number, stamp in stamps if (number, stamp.size) not in broken]


def _broken_stamps(
    stamps: Sequence[tuple[int, Stamp]], check: CheckStamp, found: Findings
) -> dict[tuple[int, int], str]:
    """Number and size of each stamp that does not hold, and why."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = list(pool.map(check, [stamp for _, stamp in stamps]))
    found.checked += len(stamps)
    return {(number, stamp.size): why for (number, stamp), why in zip(stamps, reasons, strict=True) if why}


def _note_digest(origin: str, size: int, root: str, _: str, signature: str) -> bytes:
    note = to_note(Checkpoint(origin, size, base64.b64decode(root)), signature)
    return hashlib.sha256(note.encode()).digest()


def listed_checkpoints(read: Read, log: str) -> Iterator[tuple[int, str, str, str]]:
    """Size, root, time and signature of each checkpoint in the list of a log.

    Raises
    ------
    ValueError
        If a line cannot be read, or is not in its form.
    """
    for line in read_lines(read, f"{log}/checkpoints", CHECKPOINTS):
        size, root, at, signature = line.split(",")
        time = datetime.fromisoformat(at).astimezone(UTC).isoformat(timespec="seconds")
        if (str(abs(int(size))), time) != (size, at):
            msg = f"the list of checkpoints has the size {size} at {at}"
            raise ValueError(msg)
        yield int(size), root, at, signature


def _is_note_signed(note: Checkpoint, signatures: Iterable[tuple[str, bytes]], keys: Mapping[str, bytes]) -> bool:
    public = keys.get(note.origin, b"")
    wanted = key_hash(note.origin, 1, public)
    return any(
        name == note.origin and raw[:4] == wanted and is_signed(public, raw[4:], note.body.encode())
        for name, raw in signatures
    )


def broken_rows(
    log: str, series: Iterable[str], rows: Iterable[Row], start: int = 0, previous: str = ""
) -> Iterator[tuple[int, str]]:
    """Find the rows of a chain that are not what they should be.

    Parameters
    ----------
    log
        ``forecasts`` or ``outcomes``.
    series
        Market, symbol and interval.
    rows
        Ascending, with the columns of `SEALED`.
    start, previous
        Number and hash of the row before the first.

    Yields
    ------
    tuple
        Number of a row, and what is wrong with it.
    """
    series = tuple(series)
    for number, row in enumerate(rows, start + 1):
        if row["seq"] != number:
            yield number, "is missing"
        if row["previous"] != previous:
            yield number, "does not follow the row before"
        if row_hash(log, series, row) != row["hash"]:
            yield number, "does not match its hash"
        previous = row["hash"]


def read_tile(read: Read, folder: str, number: int, header: Sequence[str]) -> list[str]:
    """Lines of a numbered file, without its columns.

    Raises
    ------
    ValueError
        If it does not begin with its columns.
    """
    name = f"{folder}/{number:06d}.csv"
    first, *lines = read_text(read, name).removesuffix("\n").split("\n")
    if first != ",".join(header):
        msg = f"{name} does not begin with its columns"
        raise ValueError(msg)
    return lines


def read_text(read: Read, name: str) -> str:
    """Text of a file, also where a version control has written other line ends.

    Raises
    ------
    ValueError
        If it is no text.
    """
    return read(name).decode().replace("\r\n", "\n")


def read_lines(
    read: Read, folder: str, header: Sequence[str], size: float = math.inf, *, start: int = 0, tile: int | None = None
) -> Iterator[str]:
    """Lines of all numbered files after `start`, to the line `size` at most; a file that is not full is the last."""
    tile = tile or TILE
    number, lines = start // tile, [""] * tile
    while number * tile < size and len(lines) == tile:
        try:
            lines = read_tile(read, folder, number, header)
        except FileNotFoundError:
            return
        if len(lines) > tile:
            msg = f"{folder}/{number:06d}.csv has {len(lines)} lines, a file at most {tile}"
            raise ValueError(msg)
        first, last = (int(min(max(at - number * tile, 0), tile)) for at in (start, size))
        yield from lines[first:last]
        number += 1


def broken_links(forecasts: Iterable[Row], outcomes: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """Find forecasts that name an outcome that is not there, or were committed when their own was known.

    Yields
    ------
    tuple
        Number of a forecast, and what is wrong with it.
    """
    hashes = {"", *(row["hash"] for row in outcomes)}
    known = {row["open_time"]: row["forecast_seq"] or 0 for row in outcomes}
    for row in forecasts:
        if row["seq"] > known.get(row["open_time"], row["seq"]):
            yield row["seq"], "was committed after its outcome was known"
        if row["hash_version"] > 1 and row["outcome"] not in hashes:
            yield row["seq"], "names an outcome that is not in the chain"


def scores(forecasts: Iterable[Row], outcomes: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Scores of the forecasts in service by horizon, beside "no change".

    Returns
    -------
    dict
        ``rows`` (sealed in time, with an outcome), ``late``, ``mae_bp`` and ``persistence_mae_bp`` (mean absolute error
        of the log close in basis points), ``ratio`` of the two, and ``coverage`` of the interval.
    """
    closes = {row["open_time"]: row["close"] for row in outcomes}
    sums: dict[str, list[float]] = {}
    for row in forecasts:
        close = closes.get(row["open_time"])
        if row["role"] != "champion" or close is None:
            continue
        one = sums.setdefault(str(row["horizon"]), [0.0] * 6)
        if row["status"] != "sealed":
            one[1] += 1
            continue
        one[0] += 1
        one[2] += 1e4 * abs(math.log(row["close"] / close))
        one[3] += 1e4 * abs(math.log(row["base"] / close))
        if row["lo"] is not None:
            one[4] += 1
            one[5] += row["lo"] <= close <= row["hi"]
    return {horizon: _means(*sums[horizon]) for horizon in sorted(sums, key=int)}


def _means(rows: float, late: float, error: float, base: float, intervals: float, inside: float) -> dict[str, float]:
    means = {"mae_bp": error / rows, "persistence_mae_bp": base / rows} if rows else {}
    ratio = {"ratio": error / base} if base else {}
    return {"rows": rows, "late": late} | means | ratio | ({"coverage": inside / intervals} if intervals else {})


def _other_scores(published: Mapping[str, Row], own: Mapping[str, Row]) -> Iterator[str]:
    if published.keys() != own.keys():
        yield f"the scores are of horizons {', '.join(published)}, the rows of {', '.join(own)}"
        return
    for horizon, figures in own.items():
        for name in published[horizon].keys() - figures.keys():
            yield f"scores.json has {name} of horizon {horizon}, the rows do not give it"
        for name, value in figures.items():
            shown = published[horizon].get(name, math.nan)
            if not abs(shown - value) <= _TOLERANCE * max(1.0, abs(value)):
                yield f"scores.json has {name} {shown} of horizon {horizon}, the rows give {value}"


def _other_proof(published: Mapping[str, Any], own: Iterable[Span], rows: int) -> Iterator[str]:
    """What ``proof.json`` says of more forecasts than the stamps prove."""
    size: int = published["forecasts"]
    if not 0 <= size <= rows:
        yield f"proof.json counts {size} forecasts, the log has {rows}"
        return
    said: set[int] = set()
    for first, last in published["claimed"]:
        said.update(range(max(first, 1), min(last, size) + 1))
    if published["proven"] != size - len(said):
        yield f"proof.json counts {published['proven']} of {size} forecasts as proven, and lists {len(said)} more"
    wrong = [number for first, last in own for number in range(first, min(last, size) + 1) if number not in said]
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        reason = "no stamp comes before the end of the first candle ahead"
        yield f"forecasts: row {wrong[0]}{more} said to be proven in time: {reason}"


def in_folder(folder: Path) -> Read:
    """Reader of a record in a folder."""

    def _read(name: str) -> bytes:
        if (size := (path := folder / name).stat().st_size) > LARGEST or not path.is_file():
            msg = f"{name} is no file, or has more than {LARGEST} bytes: {size}"
            raise OSError(msg)
        return path.read_bytes()

    return _read


_SHOWN = 20


def summary(found: Findings, unchecked: str = "") -> str:
    """Lines for people: what is there, scores, and what is wrong; `unchecked` is why stamps were not checked."""
    lines = []
    for log, size in found.sizes.items():
        newest = [row.get("made_at") or row["known_at"] for row in getattr(found, log)[-1:]]
        times = [f", the newest sealed {_cell(at)}, its checkpoint signed {found.signed.get(log)}" for at in newest]
        lines.append("".join([f"{log}: {size} rows", *times]))
    if found.scores or not found.faults:
        provided = ", if the time stamps hold" if found.checked < found.stamps else ""
        lines.append(f"proven in time{provided}: {_proof_words(found)}")
    if found.stamps:
        note = f": {unchecked}" if unchecked and not found.checked else ""
        lines.append(f"time stamps: {found.stamps}, the authority of {found.checked} of them checked{note}")
    for horizon, figures in found.scores.items():
        lines.append(f"horizon {horizon}: " + ", ".join(f"{name} {value:.6g}" for name, value in figures.items()))
    lines += found.faults[:_SHOWN] or ["consistent"]
    lines += [f"and {len(found.faults) - _SHOWN} more"] if found.faults[_SHOWN:] else []
    return "\n".join([*lines, *([_TORN] if found.faults else [])])


_TORN = "a copy that was made during a publication shows faults, too: copy the record again, and see whether they stay"
"""What a reader should do before accusing the publisher of a fault."""


def _proof_words(found: Findings) -> str:
    """How many forecasts are proven in time, and which are not."""
    share = found.proven / max(len(found.forecasts), 1)
    rows = ", ".join(f"{first} to {last}" if last > first else str(first) for first, last in found.claimed[:10])
    others = f"; claimed: rows {rows}{', …' if found.claimed[10:] else ''}" if found.claimed else ""
    return f"{found.proven} of {len(found.forecasts)} forecasts ({share:.1%}){others}"


def main() -> int:
    """Check the folder that is named, or the one that this file is in; exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description="Check a published record of forecasts.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--since", type=kept_note, nargs="*", default=[], help="checkpoints that were kept earlier")
    parser.add_argument("--stamps", type=stamp_count, help="check the newest N stamps of each log by openssl, or all")
    parser.add_argument("--authority", type=_file, help="root certificates of the authority that you trust (PEM)")
    args = parser.parse_args()
    read = in_folder(args.folder)
    program = shutil.which("openssl")
    unchecked = "--stamps all checks them" if args.stamps is None else "" if program else "openssl is not here"
    with tempfile.TemporaryDirectory() as folder:
        check = None
        if program and args.stamps is not None:
            with suppress(FileNotFoundError):
                Path(folder, "certificates.pem").write_bytes(read("certificates.pem"))
            check = by_openssl(program, Path(folder), args.authority)
        found = verify_record(read, args.since, check, args.stamps)
    sys.stdout.write(summary(found, unchecked) + "\n")
    return 1 if found.faults else 0


def _file(text: str) -> Path:
    if not Path(text).is_file():
        msg = f"expected a file, found none at {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def kept_note(text: str) -> str:
    """Text of a checkpoint that was kept in a file.

    Raises
    ------
    ArgumentTypeError
        If there is none.
    """
    try:
        parse_note(found := _file(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"expected a checkpoint, found something else in {text!r}"
        raise argparse.ArgumentTypeError(msg) from error
    return found


def stamp_count(text: str) -> int:
    """Number of stamps to check of each log; all: 0.

    Raises
    ------
    ArgumentTypeError
        If it is neither a number from 1 nor ``all``.
    """
    if text != "all" and not (text.isdecimal() and int(text)):
        msg = f"expected a number from 1, or all, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return 0 if text == "all" else int(text)


if __name__ == "__main__":
    sys.exit(main())
