"""Publish what is sealed as a static folder that outsiders can check, audit such a folder, and witness it.

The record itself, and its check with the standard library alone, is `btcml.record`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
from dataclasses import astuple
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import pandas as pd
import requests

from btcml import record
from btcml.candles import SeriesKey
from btcml.errors import MarketError, NotReadyError, StoreError, UsageError
from btcml.files import folder_lock, text_hash, write_bytes, write_text
from btcml.store.chain import chain_keys
from btcml.store.sealed import read_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from btcml.market import Source
    from btcml.record import Checkpoint, Findings, Read
    from btcml.store.engine import Store
    from btcml.store.sealed import Sealed

    _State = dict[str, Any]

_STATE = ".state.json"
_TIMEOUT_S = 30
_COSIGNATURE = 4
"""Kind of a witness's key (C2SP tlog-cosignature)."""


def publish_series(store: Store, home: Path, root: Path, key: SeriesKey, at: pd.Timestamp) -> dict[str, Any]:
    """Write what was sealed since the last call into the record of a series, and sign the new sizes.

    Each file is written whole before the next one, and the state of the folder last: a call that was interrupted is
    made good by the next one. A row is published only if its hash is that of its content.

    Parameters
    ----------
    home
        Holds the signing key, ``record.key``; it is made at the first call, and readable by its owner alone.
    root
        The record is written into ``MARKET/SYMBOL/INTERVAL`` in it.
    at
        Time that the checkpoints say.

    Returns
    -------
    dict
        ``folder``, rows of ``forecasts`` and ``outcomes``, and how many of them are ``new``.

    Raises
    ------
    NotReadyError
        If nothing has been sealed.
    StoreError
        If the database does not continue what was published, or a row does not have the content of its hash.
    """
    signer = signing_key(home / "record.key")
    names = {log: f"btcml/{key}/{log}" for log in record.LOGS}
    folder = root.joinpath(*astuple(key))
    with folder_lock(folder):
        state = _load_state(folder)
        before = {log: one["size"] for log, one in state.items()}
        sealed = read_sealed(store, key, before)
        if not (before["forecasts"] or sealed.rows["forecasts"]):
            msg = f"no forecast of {key} has been sealed: run btcml schedule, then publish"
            raise NotReadyError(msg)
        for log, name in names.items():
            _require_continuation(key, log, state[log], sealed.heads[log], sealed.rows[log])
            state[log] = _extend(folder, name, state[log], sealed.rows[log], signer, at.isoformat(timespec="seconds"))
        sizes = {log: one["size"] for log, one in state.items()}
        if sizes != before:
            keys = [record.key_line(name, _public(signer)) for name in names.values()]
            write_text(folder / "key", "".join(f"{line}\n" for line in keys))
            write_text(folder / "scores.json", json.dumps(sealed.scores, indent=1) + "\n")
            write_bytes(folder / "verify.py", Path(record.__file__).read_bytes())
            write_text(folder / "index.html", _page(key, sizes, sealed, keys[0]))
            write_text(folder / _STATE, json.dumps(state))
    return {"folder": str(folder)} | sizes | {"new": sum(sizes.values()) - sum(before.values())}


def publish_all(store: Store, home: Path, root: Path, at: pd.Timestamp) -> list[dict[str, Any]]:
    """Publish every series that has sealed forecasts, as `publish_series` does.

    Raises
    ------
    NotReadyError
        If there is none.
    """
    keys = chain_keys(store)
    if not keys:
        msg = "no forecast has been sealed in any series: run btcml schedule, then publish"
        raise NotReadyError(msg)
    return [publish_series(store, home, root, key, at) for key in keys]


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Load an Ed25519 key, or make it at the first call (PEM, readable by its owner alone).

    Raises
    ------
    UsageError
        If the file is no such key, or the extra is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    except ImportError as error:
        msg = "a record is signed by btcml[record]: pip install 'btcml[record]'"
        raise UsageError(msg) from error
    if path.exists():
        try:
            found = serialization.load_pem_private_key(path.read_bytes(), None)
        except ValueError:
            found = None
        if isinstance(found, Ed25519PrivateKey):
            return found
        msg = f"expected an Ed25519 key in PEM, found something else in {path}: restore the file from a backup"
        raise UsageError(msg)
    made = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    payload = made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=path.parent)  # mkstemp's are the owner's alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
        os.link(new, path)
    except FileExistsError:  # another process was first
        return signing_key(path)
    finally:
        Path(new).unlink()
    return made


def _public(signer: Ed25519PrivateKey) -> bytes:
    return signer.public_key().public_bytes_raw()


def _load_state(folder: Path) -> dict[str, _State]:
    """What was published of each log: rows, roots of the tree, hash of the last row, number of checkpoints."""
    try:
        return dict(json.loads((folder / _STATE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {log: {"size": 0, "peaks": [], "head": "", "checkpoints": 0} for log in record.LOGS}


def _extend(folder: Path, name: str, state: _State, rows: Sequence[Any], signer: Ed25519PrivateKey, at: str) -> _State:
    """Append new rows to a log and sign it; without new rows it is signed only at first."""
    if state["checkpoints"] and not rows:
        return state
    log = name.rpartition("/")[2]
    lines = [record.to_line(log, row) for row in rows]
    tree = record.Tree(state["size"], [bytes.fromhex(peak) for peak in state["peaks"]])
    for line in lines:
        tree.append(line.encode())
    note = record.Checkpoint(name, tree.size, tree.root())
    signature = _signature(signer, note)
    cells = (str(note.size), base64.b64encode(note.root).decode(), at, signature)
    _append_lines(folder / log, record.LOGS[log], state["size"], lines)
    _append_lines(folder / log / "checkpoints", record.CHECKPOINTS, state["checkpoints"], [",".join(cells)])
    write_text(folder / log / "checkpoint", f"{note.body}\n\N{EM DASH} {name} {signature}\n")
    head = rows[-1]["hash"] if rows else ""
    peaks = [peak.hex() for peak in tree.peaks]
    return {"size": tree.size, "peaks": peaks, "head": head, "checkpoints": state["checkpoints"] + 1}


def _require_continuation(key: SeriesKey, log: str, state: _State, head: str | None, rows: Sequence[Any]) -> None:
    """The last row that was published is still in the database, and each new one follows the row before."""
    if state["size"] and head != state["head"]:
        msg = (
            f"row {state['size']} of the {log} of {key} was published with the hash {state['head'][:12]}, the database "
            f"has {str(head)[:12]}: restore the database, or publish into an empty folder"
        )
        raise StoreError(msg)
    broken = record.broken_rows(log, astuple(key), rows, state["size"], state["head"])
    for number, reason in broken:
        msg = f"row {number} of the {log} of {key} {reason}: run btcml db verify-forecasts"
        raise StoreError(msg)


def _append_lines(folder: Path, header: Sequence[str], start: int, lines: Sequence[str]) -> None:
    """Append lines to numbered files; the first of them is written whole, with what it has before `start`."""
    done = 0
    while done < len(lines) or start == 0 == done:
        number, inside = divmod(start + done, record.TILE)
        path = folder / f"{number:06d}.csv"
        kept = path.read_text(encoding="utf-8").splitlines()[1 : inside + 1] if inside else []
        if len(kept) < inside:
            msg = f"{path} has {len(kept)} lines of {inside} that were published: publish into an empty folder"
            raise StoreError(msg)
        more = lines[done : done + record.TILE - inside]
        write_text(path, "\n".join([",".join(header), *kept, *more]) + "\n")
        done += len(more)
        if not more:
            return


def _signature(signer: Ed25519PrivateKey, note: Checkpoint) -> str:
    raw = record.key_hash(note.origin, 1, _public(signer)) + signer.sign(note.body.encode())
    return base64.b64encode(raw).decode()


# ---- the page ----
def _page(key: SeriesKey, sizes: dict[str, int], sealed: Sealed, line: str) -> str:
    template = Template(Path(__file__).with_name("record.html").read_text(encoding="utf-8"))
    return template.substitute(
        {log: f"{size:,}" for log, size in sizes.items()},
        series=escape(f"{key.symbol}, {key.interval}"),
        market=escape(key.market),
        sentence=escape(_sentence(sealed.scores.get("1", {}))),
        key=escape(line),
        scores="".join(_score_row(horizon, one) for horizon, one in sealed.scores.items()),
        newest=len(sealed.newest),
        rows="".join(_forecast_row(row) for row in sealed.newest),
    )


def _sentence(scores: dict[str, float]) -> str:
    """What the next-candle forecasts were worth, in one sentence."""
    if "ratio" not in scores:
        return "No forecast of the next candle has an outcome yet."
    percent = 100 * (1 - scores["ratio"])
    word = "smaller" if percent > 0 else "larger" if percent < 0 else "different"
    return (
        f"Over {scores['rows']:,.0f} forecasts of the next candle that were sealed in time, the mean absolute error is "
        f"{abs(percent):.2f} % {word} than that of the forecast \N{LEFT DOUBLE QUOTATION MARK}no change"
        f"\N{RIGHT DOUBLE QUOTATION MARK} ({scores['mae_bp']:.3f} against {scores['persistence_mae_bp']:.3f} bp)."
    )


def _score_row(horizon: str, scores: dict[str, float]) -> str:
    cells = [f"{scores[name]:,.0f}" for name in ("rows", "late")]
    cells += [_digits(scores.get(name), form) for name, form in _SCORE_FORMS.items()]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (horizon, *cells)) + "</tr>\n"


_SCORE_FORMS = {"mae_bp": ".3f", "persistence_mae_bp": ".3f", "ratio": ".4f", "coverage": ".1%"}


def _digits(value: float | None, form: str) -> str:
    return "\N{EN DASH}" if value is None or not math.isfinite(value) else format(value, form)


def _forecast_row(row: Any) -> str:
    interval = f"{_digits(row['lo'], ',.8g')} to {_digits(row['hi'], ',.8g')}" if row["lo"] is not None else ""
    cells = (
        f"{row['open_time']:%Y-%m-%d %H:%M}", str(row["horizon"]), _digits(row["close"], ",.8g"), interval,
        _digits(row["real_close"], ",.8g"), _digits(row["error_bp"], ".2f"), row["model"],
        f"{row['made_at']:%Y-%m-%d %H:%M:%S}", row["status"],
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n"


# ---- audit and witness ----
def open_record(address: str) -> Read:
    """Reader of a record in a folder or at a URL.

    Raises
    ------
    UsageError
        If there is no record.
    """
    read = (
        _at_url(address.rstrip("/")) if address.startswith(("http://", "https://")) else record.in_folder(Path(address))
    )
    try:
        read("key")
    except OSError as error:
        msg = f"expected a published record with a file key in {address}, found none: give the folder of one series"
        raise UsageError(msg) from error
    return read


def _at_url(address: str) -> Read:
    session = requests.Session()

    def _read(name: str) -> bytes:
        try:
            answer = session.get(f"{address}/{name}", timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            msg = f"{address} does not answer ({type(error).__name__}): try again later"
            raise MarketError(msg) from error
        if not answer.ok:
            raise FileNotFoundError(name)
        return answer.content

    return _read


def audit_record(read: Read, since: Sequence[str] = (), source: Source | None = None) -> Findings:
    """Check a record, and its outcomes against candles of another source.

    Parameters
    ----------
    read
        From `open_record`.
    since
        Texts of checkpoints that were kept earlier.
    source
        Candles that the publisher did not give; None: the outcomes are not compared.

    Returns
    -------
    Findings
        A fault for each outcome that differs; an outcome whose candle the source lacks is not compared.
    """
    found = record.verify_record(read, since)
    if source is None or not found.outcomes:
        return found
    _, symbol, interval = record.series_of(record.parse_note(read("outcomes/checkpoint").decode())[0].origin)
    key = SeriesKey(source.market, symbol, interval)
    times = [row["open_time"] for row in found.outcomes]
    candles = source.fetch_candles(symbol, interval, pd.Timestamp(min(times)), pd.Timestamp(max(times)) + key.delta)
    prices = ("open", "high", "low", "close")
    known = {row.open_time: {name: getattr(row, name) for name in prices} for row in candles.itertuples()}
    for row in found.outcomes:
        other = known.get(row["open_time"], {})
        found.compared += bool(other)
        differences = [f"{name} {row[name]}, {source.market} has {value}" for name, value in other.items()
                       if row[name] not in {None, value}]  # fmt: skip
        if differences:
            where = f"outcomes: row {row['seq']} of {row['open_time']:%Y-%m-%dT%H:%M}Z"
            found.faults.append(f"{where} has {'; '.join(differences)}")
    return found


def witness_record(read: Read, home: Path, name: str, at: pd.Timestamp) -> dict[str, Any]:
    """Check that a record continues what this witness saw before, keep its checkpoints, and cosign them.

    Parameters
    ----------
    home
        Holds the witness's key and, in ``witness``, the newest checkpoint of each log with its cosignature.
    name
        Name of the witness in its signatures.
    at
        Time of the cosignature.

    Returns
    -------
    dict
        ``key`` (public, of the witness) and ``checkpoints``, the cosigned texts.

    Raises
    ------
    StoreError
        If the record is not consistent, or not a continuation: a fork.
    """
    notes = [read(f"{log}/checkpoint").decode() for log in record.LOGS]
    kept = [home / "witness" / f"{text_hash(record.parse_note(note)[0].origin)}.txt" for note in notes]
    found = record.verify_record(read, [path.read_text(encoding="utf-8") for path in kept if path.exists()])
    if found.faults:
        faults = "; ".join(found.faults[:3])
        msg = f"not cosigned: {faults}: show the publisher the checkpoints in {home / 'witness'}"
        raise StoreError(msg)
    signer = signing_key(home / "witness.key")
    cosigned = [_cosigned(note, signer, name, at) for note in notes]
    for path, note in zip(kept, cosigned, strict=True):
        write_text(path, note)
    return {"key": record.key_line(name, _public(signer), _COSIGNATURE), "checkpoints": cosigned}


def _cosigned(note: str, signer: Ed25519PrivateKey, name: str, at: pd.Timestamp) -> str:
    """Add a cosignature of version 1: of the time and the checkpoint."""
    seconds = int(at.timestamp())
    body = record.parse_note(note)[0].body
    signature = signer.sign(f"cosignature/v1\ntime {seconds}\n{body}".encode())
    raw = record.key_hash(name, _COSIGNATURE, _public(signer)) + seconds.to_bytes(8, "big") + signature
    return f"{note}\N{EM DASH} {name} {base64.b64encode(raw).decode()}\n"
