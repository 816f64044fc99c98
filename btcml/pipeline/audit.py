"""Audit a published record, and witness it: the checks of those who do not trust its publisher."""

from __future__ import annotations

import base64
from argparse import ArgumentTypeError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml import record
from btcml.candles import SeriesKey
from btcml.errors import MarketError, StoreError, UsageError
from btcml.files import folder_lock, text_hash, write_text
from btcml.market.transport import fetch_reply, host_of, new_session
from btcml.pipeline.publish import public_key, signing_key
from btcml.pipeline.stamps import stamp_checker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from btcml.market import Source
    from btcml.record import CheckStamp, Findings, Read

_TIMEOUT_S = 30
_OK, _TOO_MANY, _UNAVAILABLE = 200, 429, 500
_COSIGNATURE = 4
"""Kind of a witness's key (C2SP tlog-cosignature)."""

_WITNESSED_STAMPS = 10


def open_record(address: str) -> Read:
    """Reader of a record in a folder or at a URL.

    Raises
    ------
    UsageError
        If there is no record.
    """
    is_url = address.startswith(("http://", "https://"))
    try:
        read = _at_url(address.rstrip("/")) if is_url else record.in_folder(Path(address))
        read("key")
    except (OSError, ValueError) as error:
        msg = f"expected a published record with a file key in {address}, found none: give the folder of one series"
        raise UsageError(msg) from error
    return read


def _at_url(address: str) -> Read:
    session, host = new_session(), host_of(address)

    def _read(name: str) -> bytes:
        try:
            reply = fetch_reply(session, f"{address}/{name}", timeout=_TIMEOUT_S)
        except MarketError as error:
            msg = f"expected a record at a URL, but {error}: correct the address, or try again later"
            raise MarketError(msg) from error
        if reply.status >= _UNAVAILABLE or reply.status == _TOO_MANY:
            msg = f"{host} answered with status {reply.status}: try again later"
            raise MarketError(msg)
        if place := reply.headers.get("Location"):
            place = record.printable(place.removesuffix(f"/{name}"))
            msg = f"{host} says that the record is at {place}: give that address, if you trust it"
            raise UsageError(msg)
        if reply.status != _OK:
            raise FileNotFoundError(name)
        return reply.body

    return _read


def audit_record(
    read: Read,
    since: Sequence[str] = (),
    source: Source | None = None,
    check: CheckStamp | None = None,
    newest: int | None = None,
) -> Findings:
    """Check a record, and its outcomes against candles of another source.

    Parameters
    ----------
    read
        From `open_record`.
    since
        Texts of checkpoints that were kept earlier.
    source
        Candles that the publisher did not give; None: the outcomes are not compared.
    check, newest
        Check of time stamps, and how many of them; as `btcml.record.verify_record` takes them.

    Returns
    -------
    Findings
        A fault for each outcome that differs, for each forecast whose base is neither the close of the source nor that
        of the record, and for each that has no outcome though the source has its candle. What the source lacks is not
        compared.
    """
    found = record.verify_record(read, since, check, newest)
    if source is None or found.faults or not found.outcomes:
        return found
    key = SeriesKey(source.market, *found.series[1:])
    times = [row["open_time"] for row in found.outcomes]
    start = min([*times, *(row["open_time"] - row["horizon"] * key.delta for row in found.forecasts)])
    candles = source.fetch_candles(key.symbol, key.interval, pd.Timestamp(start), pd.Timestamp(max(times)) + key.delta)
    prices = ("open", "high", "low", "close")
    known = {row.open_time: {name: getattr(row, name) for name in prices} for row in candles.itertuples()}
    for row in found.outcomes:
        other = known.get(row["open_time"], {})
        found.compared += bool(other)
        differences = [f"{name} {row[name]}, {source.market} has {value}" for name, value in other.items()
                       if row[name] != value]  # fmt: skip
        if differences:
            found.faults.append(f"outcomes: {_place(row)} has {'; '.join(differences)}")
    found.faults += _other_bases(found, key, known)
    return found


def require_consistent(found: Findings) -> Findings:
    """Return what was found in a record.

    Raises
    ------
    StoreError
        If anything is wrong with it.
    """
    if found.faults:
        more = f" and {len(found.faults) - 1} more" if found.faults[1:] else ""
        msg = (
            f"the record is not consistent: {found.faults[0]}{more}: try again in some minutes, then ask its publisher"
        )
        raise StoreError(msg)
    return found


def _place(row: Mapping[str, Any]) -> str:
    return f"row {row['seq']} of {row['open_time']:%Y-%m-%dT%H:%M}Z"


def _other_bases(found: Findings, key: SeriesKey, known: Mapping[Any, Mapping[str, float]]) -> Iterator[str]:
    """Forecasts with a base that no candle has, and those that were not scored."""
    closes = {row["open_time"]: row["close"] for row in found.outcomes}
    newest = max(closes)
    for row in found.forecasts:
        time = row["open_time"] - row["horizon"] * key.delta
        base = known.get(time, {}).get("close", row["base"])
        if row["base"] not in {base, closes.get(time)}:
            yield f"forecasts: {_place(row)} has the base {row['base']}, {key.market} has the close {base}"
        if row["open_time"] in known and row["open_time"] not in closes and row["open_time"] < newest:
            yield f"forecasts: {_place(row)} has no outcome, {key.market} has its candle"


def witness_record(
    read: Read, home: Path, name: str, at: pd.Timestamp, authority: Path | None = None
) -> dict[str, Any]:
    """Check that a record continues what this witness saw before, keep its checkpoints, and cosign them.

    Parameters
    ----------
    home
        Holds the witness's key and, in ``witness``, the newest checkpoint of each log with its cosignature.
    name
        Name of the witness in its signatures.
    at
        Time of the cosignature.
    authority
        Root certificates of the time-stamp authority; None: those that this machine trusts. The newest stamps are
        checked.

    Returns
    -------
    dict
        ``key`` (public, of the witness) and ``checkpoints``, the cosigned texts.

    Raises
    ------
    StoreError
        If the record is not consistent, or not a continuation: a fork; or if what was kept is damaged.
    UsageError
        If the name cannot stand in a signature.
    BusyError
        If another process is witnessing with the same home: the older view would replace the newer.
    """
    if [name] != name.split() or not name.isprintable() or "+" in name:
        msg = f"expected a name without spaces and +, such as example.net/witness, found {name!r}: give --name"
        raise UsageError(msg)
    with folder_lock(home / "witness"):
        kept: list[Path] = []
        with suppress(OSError, ValueError):  # a finding below
            kept = _kept_paths(home, (record.read_text(read, f"{log}/checkpoint") for log in record.LOGS))
        since = [_kept_note(home, path) for path in kept if path.exists()]
        found = record.verify_record(read, since, stamp_checker(read, authority), _WITNESSED_STAMPS)
        if not found.faults and _kept_paths(home, found.notes.values()) != kept:
            found.faults.append("the names of the logs changed while they were read")
        if found.faults:
            faults = "; ".join(found.faults[:3])
            msg = f"not cosigned: {faults}: show the publisher the checkpoints in {home / 'witness'}"
            raise StoreError(msg)
        signer = signing_key(home / "witness.key")
        cosigned = [_cosigned(note, signer, name, at) for note in found.notes.values()]
        for path, note in zip(kept, cosigned, strict=True):
            write_text(path, note)
    return {"key": record.key_line(name, public_key(signer), _COSIGNATURE), "checkpoints": cosigned}


def _kept_note(home: Path, path: Path) -> str:
    """Text of the checkpoint that a witness has kept of a log; one that is damaged is no fault of the record."""
    note = ""
    with suppress(ArgumentTypeError):
        note = record.kept_note(str(path))
    if not note or _kept_paths(home, [note]) != [path]:
        msg = f"expected the kept checkpoint of a log in {path}, found something else: restore it, or move it away"
        raise StoreError(msg)
    return note


def _kept_paths(home: Path, notes: Iterable[str]) -> list[Path]:
    """Files of a witness for the logs of some checkpoints."""
    return [home / "witness" / f"{text_hash(record.parse_note(note)[0].origin)}.txt" for note in notes]


def _cosigned(note: str, signer: Ed25519PrivateKey, name: str, at: pd.Timestamp) -> str:
    """Add a cosignature of version 1: of the time and the checkpoint."""
    seconds = int(at.timestamp())
    body = record.parse_note(note)[0].body
    signature = signer.sign(f"cosignature/v1\ntime {seconds}\n{body}".encode())
    raw = record.key_hash(name, _COSIGNATURE, public_key(signer)) + seconds.to_bytes(8, "big") + signature
    return f"{note}\N{EM DASH} {name} {base64.b64encode(raw).decode()}\n"
