"""Snapshots: all data of a report from the database, immutable, named by their hash."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from btcml.candles import SeriesKey, candle_gaps, content_hash
from btcml.continuity import suspect_spans
from btcml.contract import rule_results
from btcml.errors import NotFoundError, NotReadyError, StoreError
from btcml.files import replaced_folder, write_text
from btcml.sentences import Sentence
from btcml.store.candles import read_candles
from btcml.store.chain import chain_head
from btcml.store.engine import IN_SERIES
from btcml.store.forecasts import read_scored
from btcml.store.jobs import read_merges
from btcml.store.models import read_champion, read_research, read_trials

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from btcml.store.engine import Store


_FORMAT = 3
_SINCE = {"trials": 2, "research": 3}
"""Formats that brought a frame: format 1 kept the number of tries only."""

_RESEARCH = ["kind", "what", "start", "end", "tries"]


@dataclass(frozen=True)
class Snapshot:
    """Content of the database for one span of one series.

    Attributes
    ----------
    key
        Market, symbol and interval.
    start, end
        The span that was requested: ``start <= open_time < end``.
    incumbent
        The champion in service; ``persistence`` where there is none.
    heads
        Sequence number and hash of the newest sealed forecast, empty where there is none.
    candles
        A candle frame.
    gaps
        ``start, end, missing, kind`` ("halt": the market has nothing there; "ours": not requested).
    quarantine
        Rows that broke the contract: candle columns, ``rule, source, seen_at, released_at``.
    revisions
        Old values of candles that the exchange restated: candle columns, ``source, seen_at``.
    rules
        Contract results: ``rule, description, checked, broken``.
    suspects
        Suspect spans: ``start, end, rule, rows``.
    forecasts
        Sealed forecasts with their outcomes.
    trials
        Tries of models on the series: ``model, test_start, test_end, settings``.
    research
        Tries of the authors on candles of the series: ``kind, what, start, end, tries``.
    notes
        Sentences about how files of candles were read.
    merged
        Names of the files whose candles were merged into the market of the series.
    proof
        Number of published ``forecasts`` of the series, and of those ``proven`` in time; empty without a record.
    left_out
        Where models of other symbols are asked to serve the series: how they were tested on coins left out.
    """

    key: SeriesKey
    start: pd.Timestamp
    end: pd.Timestamp
    incumbent: str
    heads: dict[str, str]
    candles: pd.DataFrame
    gaps: pd.DataFrame
    quarantine: pd.DataFrame
    revisions: pd.DataFrame
    rules: pd.DataFrame
    suspects: pd.DataFrame
    forecasts: pd.DataFrame
    trials: pd.DataFrame
    research: pd.DataFrame
    notes: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    proof: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """Frames by name, in a fixed order."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type == "pd.DataFrame"}

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the frames, as plain JSON values."""
        notes = [note.parts if isinstance(note, Sentence) else note for note in self.notes]
        about_files = {"notes": notes, "merged": list(self.merged)}
        return (
            {name: texts for name, texts in about_files.items() if texts}
            | ({"proof": dict(self.proof)} if self.proof else {})
            | ({"left_out": dict(self.left_out)} if self.left_out else {})
            | {
                "format": _FORMAT,
                **asdict(self.key),
                "start": self.start.isoformat(),
                "end": self.end.isoformat(),
                "reigning": self.incumbent,
                "heads": self.heads,
            }
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the content: 64 hexadecimal digits."""
        return _hash(self.facts, self.frames)


def _hash(facts: dict[str, Any], frames: dict[str, pd.DataFrame]) -> str:
    head = pd.DataFrame({"facts": [json.dumps(facts, sort_keys=True)]})
    return content_hash([("facts", head), *frames.items()])


def read_snapshot(
    store: Store,
    key: SeriesKey,
    start: pd.Timestamp,
    end: pd.Timestamp,
    notes: tuple[str, ...] = (),
    proof: Mapping[str, int] | None = None,
) -> Snapshot:
    """Gather a snapshot from the database.

    Parameters
    ----------
    notes
        What the source says of itself.
    proof
        What is proven of its published record, if there is one.

    Raises
    ------
    NotReadyError
        If there are no candles in the span.
    """
    candles = read_candles(store, key, start, end)
    if candles.empty:
        msg = f"no candles of {key} from {start:%Y-%m-%d} to {end:%Y-%m-%d}: ingest them first (btcml ingest)"
        raise NotReadyError(msg)
    span = asdict(key) | {"start": start, "end": end}
    within = f"{IN_SERIES} AND {{}} >= :start AND {{}} < :end"
    known = store.frame("SELECT start, kind FROM gaps WHERE " + within.format("start", "start"), span)
    of_span = within.format("open_time", "open_time") + " ORDER BY id"
    quarantine = store.frame(f"SELECT * FROM quarantine WHERE {of_span}", span)
    revisions = store.frame(f"SELECT * FROM candle_revisions WHERE {of_span}", span)
    gaps = candle_gaps(candles["open_time"], key.interval).merge(known, on="start", how="left")
    champion = read_champion(store, key)
    merges = read_merges(store, key, start, end)
    read = (*notes, *(note for merge in merges for note in _merge_notes(merge.result or {})))
    identity = ["id", "market", "symbol", "interval"]
    return Snapshot(
        key=key,
        start=start,
        end=end,
        incumbent="persistence" if champion is None else champion.name,
        heads=chain_head(store, key),
        candles=candles,
        gaps=gaps.fillna({"kind": "ours"}),
        quarantine=quarantine.drop(columns=identity),
        revisions=revisions.drop(columns=identity),
        rules=rule_results(candles, key.interval),
        suspects=suspect_spans(candles, key.interval),
        forecasts=read_scored(store, key, start, end),
        trials=read_trials(store, key),
        research=read_research(key),
        notes=tuple(dict.fromkeys(read)),
        merged=tuple(dict.fromkeys(merge.parameters["merged"].removeprefix("file:") for merge in merges)),
        proof=proof or {},
        left_out={} if champion is None else champion.verdict.get("left_out", {}),
    )


def _merge_notes(result: dict[str, Any]) -> list[str]:
    """Notes of a merge, with their values where the log has them."""
    return [Sentence.of(parts) for parts in result.get("sentences", result.get("notes", ()))]


def save_snapshot(snapshot: Snapshot, folder: Path) -> Path:
    """Write a snapshot atomically as a folder named by its hash; an existing one stays.

    Returns
    -------
    Path
        The bundle: ``snapshot.json`` and one Parquet file per frame.
    """
    bundle = folder / snapshot.hash
    if bundle.exists():
        return bundle
    facts = snapshot.facts | {"hash": snapshot.hash, "candles": len(snapshot.candles)}
    try:
        with replaced_folder(bundle) as new:
            for name, frame in snapshot.frames.items():
                frame.to_parquet(new / f"{name}.parquet", index=False)
            write_text(new / "snapshot.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        if bundle.exists():  # another process was first
            return bundle
        msg = f"the snapshot cannot be written to {folder}: {error.strerror}; make room or set BTCML_HOME"
        raise StoreError(msg) from error
    return bundle


def load_snapshot(bundle: Path) -> Snapshot:
    """Read a snapshot back and check it against its hash.

    Raises
    ------
    NotFoundError
        If there is no snapshot in the folder.
    StoreError
        If its content does not match its hash.
    """
    try:
        facts = json.loads((bundle / "snapshot.json").read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"no snapshot in {bundle}: make one with btcml report"
        raise NotFoundError(msg) from error
    later = [name for name, format_ in _SINCE.items() if facts["format"] < format_]
    names = [f.name for f in fields(Snapshot) if f.type == "pd.DataFrame" and f.name not in later]
    frames = {name: pd.read_parquet(bundle / f"{name}.parquet") for name in names}
    found = _hash({name: fact for name, fact in facts.items() if name not in {"hash", "candles"}}, frames)
    if found != facts["hash"]:
        expected = facts["hash"][:12]
        msg = f"the snapshot in {bundle} was changed (its content gives {found[:12]}, expected {expected}): delete it"
        raise StoreError(msg)
    columns = {"trials": ["model", "test_start", "test_end", "settings"], "research": _RESEARCH}
    frames |= {name: pd.DataFrame(columns=columns[name]) for name in later}
    key = SeriesKey(facts["market"], facts["symbol"], facts["interval"])
    start, end = pd.Timestamp(facts["start"]), pd.Timestamp(facts["end"])
    notes, merged = tuple(map(Sentence.of, facts.get("notes", ()))), tuple(facts.get("merged", ()))
    incumbent = facts.get("reigning", "persistence")
    proof, left_out = facts.get("proof", {}), facts.get("left_out", {})
    return Snapshot(
        key, start, end, incumbent, facts["heads"], proof=proof, left_out=left_out, notes=notes, merged=merged, **frames
    )


def record_snapshot(store: Store, snapshot: Snapshot, at: pd.Timestamp) -> None:
    """List a snapshot in the database, once."""
    facts = {"hash": snapshot.hash, "start": snapshot.start, "end": snapshot.end, "candles": len(snapshot.candles)}
    store.execute(_RECORD, asdict(snapshot.key) | facts | {"at": at})


_RECORD = """INSERT INTO snapshots (hash, market, symbol, interval, start, "end", candles, made_at)
VALUES (:hash, :market, :symbol, :interval, :start, :end, :candles, :at) ON CONFLICT DO NOTHING"""


def list_snapshots(store: Store) -> pd.DataFrame:
    """List the snapshots that were taken, newest first."""
    query = 'SELECT hash, market, symbol, interval, start, "end", candles, made_at FROM snapshots ORDER BY made_at DESC'
    with store.engine.connect() as connection:
        return pd.read_sql(text(query), connection)
