"""Publish what is sealed as a static folder that outsiders can check, and have its checkpoints stamped.

The record itself, and its check with the standard library alone, is `btcml.record`. What has been published, and which
checkpoints wait for a time stamp, is in the folder's own state: the next call completes what was interrupted.
"""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
import time
from bisect import bisect_left
from contextlib import contextmanager, suppress
from dataclasses import astuple
from datetime import UTC, datetime
from html import escape
from itertools import chain, repeat, zip_longest
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from btcml import record
from btcml.candles import SeriesKey
from btcml.errors import NotReadyError, StoreError, UsageError
from btcml.files import folder_lock, remove_leftovers, write_bytes, write_text
from btcml.pipeline.stamps import load_certificates, request_stamp, save_certificates
from btcml.store.chain import chain_keys
from btcml.store.sealed import read_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from btcml.record import Read, Stamp
    from btcml.store.engine import Store
    from btcml.store.sealed import Sealed

    _State = dict[str, Any]

_STATE = ".state.json"
_EMPTY: _State = {
    "size": 0, "peaks": [], "head": "", "checkpoints": 0,
    "stamps": 0, "unstamped": [], "covered": 0, "claimed": [], "shown": 0,
}  # fmt: skip
"""State of an empty log: rows, roots of the tree, hash of the last row, number of checkpoints; number of stamps,
checkpoints that wait for one, rows under the largest that has one, those of them that it does not prove to be in time,
and the number of stamps when the page was written (-1: not known)."""

_STAMPS_A_TURN, _TURN_S = 6, 5.0


def publish_series(
    store: Store, home: Path, root: Path, key: SeriesKey, at: pd.Timestamp, *, stamped: bool = False
) -> dict[str, Any]:
    """Write what was sealed since the last call into the record of a series, and sign the new sizes.

    Each file is written whole before the next one, and the state of the folder last: the next call completes one that
    was interrupted. A row is published only if its hash is that of its content.

    Parameters
    ----------
    home
        Holds the signing key, ``record.key``; it is made at the first call, and readable by its owner alone.
    root
        The record is written into ``MARKET/SYMBOL/INTERVAL`` in it.
    at
        Time that the checkpoints say.
    stamped
        Whether new checkpoints are queued for a time stamp (`stamp_series`).

    Returns
    -------
    dict
        ``folder``, rows of ``forecasts`` and ``outcomes``, how many of them are ``new``, and how many forecasts are
        ``proven`` in time.

    Raises
    ------
    NotReadyError
        If nothing has been sealed.
    StoreError
        If the database does not continue what was published, or a row does not have the content of its hash.
    """
    signer, folder = signing_key(home / "record.key"), root.joinpath(*astuple(key))
    keys = "".join(f"{record.key_line(_name(key, log), public_key(signer))}\n" for log in record.LOGS)
    with folder_lock(folder), _own_files(folder):
        state, is_new = _load_state(folder), _has_no_key(folder / "key", keys, home)
        before = {log: one["size"] for log, one in state.items()}
        sealed = read_sealed(store, key, before)
        if not (before["forecasts"] or sealed.rows["forecasts"]):
            msg = f"no forecast of {key} has been sealed: run btcml schedule, then publish"
            raise NotReadyError(msg)
        for log, one in state.items():
            _require_continuation(key, log, one, sealed.heads[log], sealed.rows[log])
            rows, time = sealed.rows[log], at.isoformat(timespec="seconds")
            new = one
            if rows or is_new:  # else there is nothing to sign
                new = _extend(folder, _name(key, log), one, rows, signer, time)
            waits = stamped and new["checkpoints"] > one["checkpoints"]
            state[log] = new | {"unstamped": one["unstamped"] + [one["checkpoints"]] * waits}
        sizes, stamps = ({log: one[name] for log, one in state.items()} for name in ("size", "stamps"))
        if is_new or sizes != before or stamps != {log: one["shown"] for log, one in state.items()}:
            _write_pages(folder, key, state, sealed, keys)
            _save_state(folder, {log: one | {"shown": one["stamps"]} for log, one in state.items()})
            remove_leftovers(folder)  # a web server or version control would publish them
    return {"folder": str(folder)} | sizes | {
        "new": sum(sizes.values()) - sum(before.values()), "proven": proof_of(state["forecasts"])["proven"]
    }  # fmt: skip


def _name(key: SeriesKey, log: str) -> str:
    return f"btcml/{key}/{log}"


def _has_no_key(path: Path, keys: str, home: Path) -> bool:
    """Whether a record is new, or its publisher has deleted its key to go on with another one.

    Raises
    ------
    UsageError
        If it has another key: a new one, made where the old was lost, is not used without a word.
    """
    if not path.exists():
        return True
    if path.read_text(encoding="utf-8") != keys:
        msg = (
            f"expected the key of {path} in {home / 'record.key'}, found another one: restore it, or delete {path} and "
            "tell your readers the new one"
        )
        raise UsageError(msg)
    return False


def _write_pages(folder: Path, key: SeriesKey, state: dict[str, _State], sealed: Sealed, keys: str) -> None:
    """Write what is derived from the logs: keys, scores, proofs, script and page."""
    write_text(folder / "key", keys)
    write_text(folder / "scores.json", json.dumps(sealed.scores, indent=1) + "\n")
    write_text(folder / "proof.json", json.dumps(proof_of(state["forecasts"])) + "\n")
    write_bytes(folder / "verify.py", Path(record.__file__).read_bytes())
    about = {"series": f"{key.symbol}, {key.interval}", "market": key.market, "tile": record.TILE}
    write_text(folder / "README.md", _template("record.md").substitute(about))
    write_text(folder / "index.html", _page(folder, key, state, sealed, keys.partition("\n")[0]))


def publish_all(store: Store, home: Path, root: Path, at: pd.Timestamp, authority: str = "") -> list[dict[str, Any]]:
    """Publish every series that has sealed forecasts, as `publish_series` does, and have the checkpoints stamped.

    Parameters
    ----------
    authority
        Address of a time-stamp authority; empty: none is asked.

    Raises
    ------
    NotReadyError
        If there is none.
    """
    keys = chain_keys(store)
    if not keys:
        msg = "no forecast has been sealed in any series: run btcml schedule, then publish"
        raise NotReadyError(msg)
    published = [publish_series(store, home, root, key, at, stamped=bool(authority)) for key in keys]
    if authority:
        stamps = [stamp_series(root, key, authority) for key in keys]
        shown = [publish_series(store, home, root, key, at, stamped=True) for key in keys]
        published = [
            one | {"proven": new["proven"], "stamps": of} for one, new, of in zip(published, shown, stamps, strict=True)
        ]
    return published


# ---- time stamps ----
def stamp_series(root: Path, key: SeriesKey, authority: str) -> dict[str, Any]:
    """Have some of the checkpoints that wait for a time stamp stamped, the newest first.

    No lock is held while the authority is asked: neither sealing nor publishing waits for it.

    Returns
    -------
    dict
        Number of checkpoints that are ``stamped`` now and are ``waiting``, and the ``error`` that ended the call.

    Raises
    ------
    UsageError
        If the extra is not installed.
    """
    folder = root.joinpath(*astuple(key))
    read = record.in_folder(folder)
    with _own_files(folder):
        queue = _waiting(_load_state(folder))[:_STAMPS_A_TURN]
        notes = [_note(read, key, log, number) for log, number in queue]
    if not queue:
        return {"stamped": 0, "waiting": 0, "error": ""}
    certificates, made, error, end = load_certificates(read), [], "", time.monotonic() + _TURN_S
    for (log, number), (size, note) in zip(queue, notes, strict=True):
        if time.monotonic() > end:
            break
        try:
            stamp, certificates = request_stamp(authority, size, note, certificates)
        except NotReadyError as failure:
            error = str(failure)
            break
        made.append((log, number, stamp))
    with folder_lock(folder, wait=True), _own_files(folder):  # a stamp of now is worth more than one of the next turn
        state = _load_state(folder)
        if made:
            save_certificates(folder, certificates)
            for log, number, stamp in made:
                state[log] = _stamped(folder, log, state[log], number, stamp, key.interval)
            write_text(folder / "proof.json", json.dumps(proof_of(state["forecasts"])) + "\n")
            _save_state(folder, state)
    return {"stamped": len(made), "waiting": len(_waiting(state)), "error": error}


def _waiting(state: Mapping[str, _State]) -> list[tuple[str, int]]:
    """Log and number of each checkpoint that waits for its stamp, the newest of each log first."""
    queues = ([(log, number) for number in _queue(one)] for log, one in state.items())
    return [item for item in chain.from_iterable(zip_longest(*queues)) if item is not None]


def _queue(one: _State) -> list[int]:
    """Numbers of checkpoints, descending; where a log has no stamp yet, the newest one at least."""
    newest = [one["checkpoints"] - 1] if one["checkpoints"] and not one["stamps"] else []
    return sorted(one["unstamped"] or newest, reverse=True)


def _note(read: Read, key: SeriesKey, log: str, number: int) -> tuple[int, str]:
    """Size and text of a signed checkpoint."""
    tile, line = divmod(number, record.TILE)
    size, root, _, signature = record.read_tile(read, f"{log}/checkpoints", tile, record.CHECKPOINTS)[line].split(",")
    return int(size), record.to_note(record.Checkpoint(_name(key, log), int(size), base64.b64decode(root)), signature)


def _stamped(folder: Path, log: str, one: _State, number: int, stamp: Stamp, interval: str) -> _State:
    """Append a stamp to its log; one on forecasts proves those that no earlier stamp covers."""
    line = f"{stamp.size},{base64.b64encode(stamp.response).decode()}"
    _append_lines(folder / log / "stamps", record.STAMPS, one["stamps"], [line], record.STAMP_TILE)
    one = one | {"stamps": one["stamps"] + 1, "unstamped": [other for other in one["unstamped"] if other != number]}
    if stamp.size > one["covered"]:
        lines = record.read_lines(record.in_folder(folder), log, record.LOGS[log], stamp.size, start=one["covered"])
        rows = (record.from_line(log, line) for line in lines) if log == "forecasts" else ()
        late = record.unproven(rows, interval, [(stamp.size, stamp.time)])
        one |= {"covered": stamp.size, "claimed": record.spans(late, one["claimed"])}
    return one


def proof_of(one: Mapping[str, Any]) -> dict[str, Any]:
    """What ``proof.json`` says: number of ``forecasts``, of those ``proven`` in time, and runs of those ``claimed``."""
    claimed = record.spans(range(one["covered"] + 1, one["size"] + 1), one["claimed"])
    return {"forecasts": one["size"], "proven": one["size"] - record.count_in(claimed), "claimed": claimed}


def read_proof(root: Path, key: SeriesKey) -> dict[str, Any] | None:
    """What is proven of a published record, and how many checkpoints are ``waiting`` for a stamp; None without one."""
    folder = root.expanduser().joinpath(*astuple(key))
    if not (folder / "forecasts" / "checkpoint").exists():
        return None
    with _own_files(folder):
        state = _load_state(folder)
    return proof_of(state["forecasts"]) | {"waiting": sum(len(one["unstamped"]) for one in state.values())}


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Load an Ed25519 key, or make it at the first call (PEM, readable by its owner alone).

    Raises
    ------
    UsageError
        If the file is no such key, or the extra is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - of an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    except ImportError as error:
        msg = "a record is signed by btcml[record]: pip install 'btcml[record]'"
        raise UsageError(msg) from error
    if path.exists():
        try:
            found = serialization.load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # not PEM, encrypted, of another kind
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


def public_key(signer: Ed25519PrivateKey) -> bytes:
    """Public key of a signing key, 32 bytes."""
    return signer.public_key().public_bytes_raw()


def _load_state(folder: Path) -> dict[str, _State]:
    """What was published of each log."""
    state = {}
    with suppress(FileNotFoundError, ValueError, AttributeError, TypeError):  # lost, or damaged: the files tell it
        found = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        state = {log: _EMPTY | found[log] for log in record.LOGS if log in found}
    for log in record.LOGS:
        if log not in state or any(_stamp_lines(folder, log, state[log]["stamps"])):
            state[log] = _recovered(folder, log)  # a call that was interrupted has written more than its state says
    return state


def _stamp_lines(folder: Path, log: str, start: int = 0) -> Iterator[str]:
    """Lines of a log's time stamps after `start`."""
    return record.read_lines(
        record.in_folder(folder), f"{log}/stamps", record.STAMPS, start=start, tile=record.STAMP_TILE
    )


def _recovered(folder: Path, log: str) -> _State:
    """State of a log as its files tell it: without one, publishing again would write over the stamps."""
    read = record.in_folder(folder)
    if not (folder / log / "checkpoint").exists():  # the first call was interrupted
        return dict(_EMPTY)
    newest = record.parse_note(record.read_text(read, f"{log}/checkpoint"))[0]
    listed = [one for one in record.listed_checkpoints(read, log) if one[0] <= newest.size]
    tree, rows = record.Tree(), []
    for line in record.read_lines(read, log, record.LOGS[log], newest.size):
        tree.append(line.encode())
        rows.append(record.from_line(log, line))
    if (tree.size, tree.root()) != (newest.size, newest.root):
        msg = f"the {log} of {folder} do not match their newest checkpoint"
        raise ValueError(msg)
    cells = (line.split(",") for line in _stamp_lines(folder, log))
    stamps = [record.parse_stamp(int(size), base64.b64decode(response)) for size, response in cells]
    covered = max((stamp.size for stamp in stamps), default=0)
    late = record.unproven(
        rows[:covered], record.series_of(newest.origin)[2], [(stamp.size, stamp.time) for stamp in stamps]
    )
    return _EMPTY | {
        "size": tree.size, "peaks": [peak.hex() for peak in tree.peaks], "head": rows[-1]["hash"] if rows else "",
        "checkpoints": len(listed), "stamps": len(stamps), "covered": covered,
        "claimed": record.spans(late) if log == "forecasts" else [], "shown": -1,
        "unstamped": [len(listed) - 1] if stamps and covered < tree.size else [],
    }  # fmt: skip


@contextmanager
def _own_files(folder: Path) -> Iterator[None]:
    """Turn what cannot be read in the folder of a record into one sentence.

    Raises
    ------
    StoreError
        If a file is damaged.
    """
    try:
        yield
    except (ValueError, LookupError) as error:
        msg = f"expected a record in {folder}, found a damaged file ({error}): restore it, or use an empty folder"
        raise StoreError(msg) from error


def _save_state(folder: Path, state: dict[str, _State]) -> None:
    write_text(folder / _STATE, json.dumps(state))


def _extend(folder: Path, name: str, state: _State, rows: Sequence[Any], signer: Ed25519PrivateKey, at: str) -> _State:
    """Append new rows to a log and sign it."""
    log = name.rpartition("/")[2]
    lines = [record.to_line(log, row) for row in rows]
    tree = record.Tree(state["size"], [bytes.fromhex(peak) for peak in state["peaks"]])
    for line in lines:
        tree.append(line.encode())
    note = record.Checkpoint(name, tree.size, tree.root())
    raw = record.key_hash(name, 1, public_key(signer)) + signer.sign(note.body.encode())
    signature = base64.b64encode(raw).decode()
    cells = (str(note.size), base64.b64encode(note.root).decode(), at, signature)
    _append_lines(folder / log, record.LOGS[log], state["size"], lines)
    _append_lines(folder / log / "checkpoints", record.CHECKPOINTS, state["checkpoints"], [",".join(cells)])
    write_text(folder / log / "checkpoint", record.to_note(note, signature))
    head = rows[-1]["hash"] if rows else state["head"]
    peaks = [peak.hex() for peak in tree.peaks]
    return state | {"size": tree.size, "peaks": peaks, "head": head, "checkpoints": state["checkpoints"] + 1}


def _require_continuation(key: SeriesKey, log: str, state: _State, head: str | None, rows: Sequence[Any]) -> None:
    """The last row that was published is still in the database, and each new one follows the row before."""
    if state["size"] and head != state["head"]:
        msg = (
            f"row {state['size']} of the {log} of {key} was published with the hash {state['head'][:12]}, the database "
            f"has {head[:12] if head else 'no such row'}: restore the database, or publish into an empty folder"
        )
        raise StoreError(msg)
    broken = record.broken_rows(log, astuple(key), rows, state["size"], state["head"])
    for number, reason in broken:
        msg = f"row {number} of the {log} of {key} {reason}: run btcml db verify-forecasts"
        raise StoreError(msg)


def _append_lines(
    folder: Path, header: Sequence[str], start: int, lines: Sequence[str], tile: int | None = None
) -> None:
    """Append lines to numbered files; the first that changes is written whole, with its lines before `start`."""
    done, tile = 0, tile or record.TILE
    while done < len(lines) or start == 0 == done:
        number, inside = divmod(start + done, tile)
        path = folder / f"{number:06d}.csv"
        kept = path.read_text(encoding="utf-8").splitlines()[1 : inside + 1] if inside else []
        if len(kept) < inside:
            msg = f"{path} has {len(kept)} lines of {inside} that were published: publish into an empty folder"
            raise StoreError(msg)
        more = lines[done : done + tile - inside]
        write_text(path, "\n".join([",".join(header), *kept, *more]) + "\n")
        done += len(more)
        if not more:
            return


# ---- the page ----
def _page(folder: Path, key: SeriesKey, state: Mapping[str, _State], sealed: Sealed, line: str) -> str:
    oldest = min((row["seq"] for row in sealed.newest), default=1)
    sizes, signed = _signing_times(folder, state["forecasts"]["checkpoints"], oldest)
    first_signed = (signed[bisect_left(sizes, row["seq"])] for row in sealed.newest)
    return _template("record.html").substitute(
        {log: f"{one['size']:,}" for log, one in state.items()},
        series=escape(f"{key.symbol}, {key.interval}"),
        market=escape(key.market),
        sentence=escape(_sentence(sealed.scores.get("1", {}))),
        proof=escape(_proof_sentence(proof_of(state["forecasts"]))),
        key=escape(line),
        scores="".join(_score_row(horizon, one) for horizon, one in sealed.scores.items()),
        newest=len(sealed.newest),
        rows="".join(map(_forecast_row, sealed.newest, first_signed, repeat(state["forecasts"]))),
        oldest=oldest,
        forecast_count=state["forecasts"]["size"],
        outcome_count=state["outcomes"]["size"],
        checkpoint_count=state["forecasts"]["checkpoints"],
        tile=record.TILE,
        horizons=json.dumps(sorted({row["horizon"] for row in sealed.newest})),
    )


def _template(name: str) -> Template:
    return Template(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _signing_times(folder: Path, count: int, oldest: int) -> tuple[list[int], list[str]]:
    """Sizes of the newest checkpoints and when they were signed, back to the first that contains a row."""
    lines: list[str] = []
    while count and (not lines or int(lines[0].partition(",")[0]) >= oldest):
        start = (count - 1) // record.TILE * record.TILE
        read, name = record.in_folder(folder), "forecasts/checkpoints"
        lines = [*record.read_lines(read, name, record.CHECKPOINTS, count, start=start), *lines]
        count = start
    cells = [line.split(",") for line in lines]
    return [int(size) for size, *_ in cells], [at for _, _, at, _ in cells]


def _proof_sentence(proof: Mapping[str, Any]) -> str:
    """How many forecasts are proven in time, and what that means."""
    forecasts, proven, word = proof["forecasts"], proof["proven"], "the publisher\N{RIGHT SINGLE QUOTATION MARK}s word."
    if not proven:
        return f"None of the {forecasts:,} forecasts is proven in time: that they preceded their outcome is {word}"
    share = math.floor(1000 * proven / forecasts) / 10
    rest = f" The other {forecasts - proven:,} are claimed: their time is {word}" if proven < forecasts else ""
    return (
        f"{proven:,} of {forecasts:,} forecasts ({share:.1f} %) are proven in time: a time-stamp authority saw a "
        f"checkpoint that contains them before the end of the first candle ahead.{rest}"
    )


def _sentence(scores: dict[str, float]) -> str:
    """What the next-candle forecasts were worth, in one sentence."""
    if "ratio" not in scores:
        return "No forecast of the next candle has an outcome yet."
    percent = 100 * (1 - scores["ratio"])
    word = f"{abs(percent):.2f} % {'smaller' if percent > 0 else 'larger'} than" if percent else "equal to"
    return (
        f"Over {scores['rows']:,.0f} forecasts of the next candle that were sealed in time, the mean absolute error is "
        f"{word} that of the forecast \N{LEFT DOUBLE QUOTATION MARK}no change"
        f"\N{RIGHT DOUBLE QUOTATION MARK} ({scores['mae_bp']:.3f} against {scores['persistence_mae_bp']:.3f} bp)."
    )


def _score_row(horizon: str, scores: dict[str, float]) -> str:
    cells = [horizon, *(_digits(scores.get(name), form) for name, form in _SCORE_FORMS.items())]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


_SCORE_FORMS = {
    "ratio": ".4f", "mae_bp": ".3f", "persistence_mae_bp": ".3f", "coverage": ".1%", "rows": ",.0f", "late": ",.0f",
}  # fmt: skip


def _digits(value: float | None, form: str) -> str:
    return "\N{EN DASH}" if value is None or not math.isfinite(value) else format(value, form)


def _forecast_row(row: Any, signed: str, state: Mapping[str, Any]) -> str:
    interval = f"{_digits(row['lo'], ',.8g')} to {_digits(row['hi'], ',.8g')}" if row["lo"] is not None else ""
    claimed = row["seq"] > state["covered"] or any(first <= row["seq"] <= last for first, last in state["claimed"])
    late = "" if row["status"] == "sealed" else f", {row['status']}"
    cells = (
        f"{row['open_time']:%Y-%m-%d %H:%M}", str(row["horizon"]), _digits(row["close"], ",.8g"),
        _digits(row["real_close"], ",.8g"), f"{'claimed' if claimed else 'proven'}{late}", interval,
        _clock(row["made_at"], row["open_time"]), _clock(datetime.fromisoformat(signed), row["open_time"]),
        row["model"] if row["role"] == "champion" else f"{row['model']}, {row['role']}",
    )  # fmt: skip
    marked = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<tr>{marked.replace('<td>proven', '<td class=proven>proven')}</tr>\n"


def _clock(time: datetime, day: datetime) -> str:
    """Time of day, with the date where it is another."""
    form = "%H:%M:%S" if time.date() == day.date() else "%Y-%m-%d %H:%M:%S"
    return f"{time.astimezone(UTC):{form}}"
