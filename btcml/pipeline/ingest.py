"""Ingest and backfill: fetch what is missing, re-read what may have changed, store it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey, interval_delta, interval_floor, interval_floors, join_gaps, span_gaps
from btcml.continuity import suspect_spans
from btcml.errors import UsageError
from btcml.market.archive import ArchiveMarket
from btcml.market.files import FileMarket
from btcml.sentences import Sentence
from btcml.store.candles import (
    Upserted,
    read_candles,
    read_first_time,
    read_halts,
    read_last_candles,
    read_open_times,
    read_quarantined,
    record_gaps,
    upsert_candles,
)
from btcml.store.engine import database_lock
from btcml.store.jobs import append_merge, finish_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btcml.market import OnPage, Source
    from btcml.store.engine import Store


Span = tuple[pd.Timestamp, pd.Timestamp]
"""From, to (exclusive), of open times."""

REREAD = 720
"""Candles that each ingest reads again, to see what the exchange restated: still one page."""

FIRST_DAYS = 90
"""Days that the first ingest of an empty series fetches, unless the source is a file."""

_AUDITS = 28
"""Audits, one a day, in which the whole history is read again."""

_HEALED = 5
"""Maximum number of spans of missing or broken candles that one ingest requests again."""

_CHUNK = 50_000  # candles a transaction: what a kill in the middle of a backfill can lose
_JUDGED = pd.Timedelta(days=45)


@dataclass(frozen=True)
class Ingested:
    """What an ingest did, in candles.

    Attributes
    ----------
    fetched, inserted, revised, quarantined
        Rows that came, that were new, that had changed, and that broke the contract.
    calls
        Parts that were requested: a range by REST, or a file of the archive.
    suspect
        Rows that still lie in suspect spans of the last 45 days.
    notes
        Sentences for the user: what a file held back, or why nothing was fetched.
    """

    key: SeriesKey
    fetched: int = 0
    inserted: int = 0
    revised: int = 0
    quarantined: int = 0
    calls: int = 0
    suspect: int = 0
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values but the series, as the log of jobs has them."""
        return {"status": "ok"} | {name: value for name, value in asdict(self).items() if name != "key"}

    def _plus(self, fetched: int, stored: Upserted) -> Ingested:
        return replace(
            self,
            fetched=self.fetched + fetched,
            inserted=self.inserted + stored.inserted,
            revised=self.revised + stored.revised,
            quarantined=self.quarantined + stored.quarantined,
            calls=self.calls + 1,
        )


def ingest(
    store: Store,
    source: Source,
    key: SeriesKey,
    *,
    on_page: OnPage | None = None,
    on_newest: Callable[[], None] = lambda: None,
) -> Ingested:
    """Bring a series up to the market's present: new candles, restated ones, and what is missing or in doubt.

    Suspect spans, holes of the last 90 days that are not the exchange's, and candles in quarantine
    are requested again.

    Parameters
    ----------
    key
        The series. Its market is the source's own, except for an explicit merge of a file.
    on_page
        Called with rows fetched and rows expected.
    on_newest
        Called when the newest candles are stored, before older ones are requested again.

    Raises
    ------
    UsageError
        If candles of the source may not be stored under that market.
    BusyError
        If another process fetches the same series.
    MarketError
        If the market fails; what was stored before stays.
    """
    check_merge(source, key)
    now = source.now()
    start = interval_floor(_begin(store, source, key, now), key.interval)

    def _work() -> Ingested:
        done = _fetch(store, source, Ingested(key), (start, now), now, on_page)
        on_newest()
        doubts = _suspects(store, key, now)
        spans = list(zip(doubts["start"], doubts["end"], strict=True))
        for first, stop in spans + _broken(store, key, now)[-_HEALED:]:
            more = _fetch(store, source, done, (first, stop), now, on_page)
            done = replace(more, quarantined=done.quarantined) if first >= start else more  # these were counted
        left = int(_suspects(store, key, now)["rows"].sum()) if len(doubts) else 0
        return replace(done, suspect=left, notes=_notes(source, done, (start, now)))

    return _locked(store, source, key, (start, now), _work)


def _locked(store: Store, source: Source, key: SeriesKey, span: Span, work: Callable[[], Ingested]) -> Ingested:
    """Fetch a series under its lock; where a file is merged into another market, the log of jobs keeps what it said."""
    with database_lock(store, f"fetching {key}"):
        if source.market == key.market:
            return work()
        job = append_merge(store, key, source.market, span)
        try:
            done = work()
        except BaseException as error:
            with contextlib.suppress(Exception):  # the database may be gone
                finish_job(store, job, error=str(error) or "stopped before the end")
            raise
        sentences = [note.parts for note in done.notes if isinstance(note, Sentence)]
        finish_job(store, job, result=done.facts | {"sentences": sentences})
        return done


def _begin(store: Store, source: Source, key: SeriesKey, now: pd.Timestamp) -> pd.Timestamp:
    """Start of an ingest: `REREAD` or `FIRST_DAYS` back; a file with candles before what is stored: its first one."""
    known = read_last_candles(store, key, REREAD)
    if isinstance(source, FileMarket):
        first, stored = source.span(key.symbol)[0], read_first_time(store, key)
        if stored is None or first < stored:
            return first
    return known["open_time"].iloc[0] if len(known) else now - pd.Timedelta(days=FIRST_DAYS)


def check_merge(source: Source, key: SeriesKey) -> None:
    """Check that candles of a source may be stored under the market of a key.

    Raises
    ------
    UsageError
        If the markets differ and the source is not a file, or the market is a simulated or replayed one: these
        never mix with others.
    """
    real = key.market == "binance" or key.market.startswith("file:")
    if key.market == source.market or (real and source.market.startswith("file:")):
        return
    msg = (
        f"candles of the market {source.market} are never stored as {key.market}: leave --market out, or name "
        "a file of candles with --source"
    )
    raise UsageError(msg)


def _broken(store: Store, key: SeriesKey, now: pd.Timestamp) -> list[Span]:
    """Spans of candles in quarantine, and of what is missing since the first candle of the last 90 days."""
    end = interval_floor(now, key.interval)
    since = interval_floor(now - pd.Timedelta(days=FIRST_DAYS), key.interval)
    known = read_open_times(store, key, since, end)
    missing = missing_spans(known, read_halts(store, key), (known.iloc[0], end), key.interval) if len(known) else []
    held = sorted({interval_floor(time, key.interval) for time in read_quarantined(store, key) if time < since})
    return [(time, time + key.delta) for time in held] + missing


def _suspects(store: Store, key: SeriesKey, now: pd.Timestamp) -> pd.DataFrame:
    return suspect_spans(read_candles(store, key, start=now - _JUDGED), key.interval)


def backfill(
    store: Store,
    source: Source,
    key: SeriesKey,
    span: Span,
    *,
    audit: bool = False,
    on_page: OnPage | None = None,
) -> Ingested:
    """Fetch what is missing of a span, or, as an audit, all of it again.

    Parameters
    ----------
    key
        The series. Its market is the source's own, except for an explicit merge of a file.
    span
        From, to (exclusive). What the market's clock has not closed yet is left to the next ingest.
    audit
        Read everything again, to find candles that the exchange has restated: files of its archive where it has
        them, by their checksums of today, else by REST.

    Raises
    ------
    UsageError
        If candles of the source may not be stored under that market.
    BusyError
        If another process fetches the same series.
    MarketError
        If the market fails; what was stored before stays, and a second call goes on from there.
    """
    check_merge(source, key)
    if audit and isinstance(source, ArchiveMarket):
        source = source.by_files()
    now = source.now()
    start, end = (interval_floor(time, key.interval) for time in (span[0], min(span[1], now)))

    def _work() -> Ingested:
        done = Ingested(key)
        for wanted in [(start, end)] if audit else _missing(store, key, (start, end)):
            done = _fetch(store, source, done, wanted, now, on_page)
        return replace(done, notes=_notes(source, done, (start, end)))

    return _locked(store, source, key, (start, end), _work)


def _notes(source: Source, done: Ingested, span: Span) -> tuple[str, ...]:
    """What a source says of itself, and why nothing came where nothing came."""
    notes = tuple(getattr(source, "notes", ()))
    if done.fetched or not hasattr(source, "extent"):
        return notes
    if not done.calls:
        return (*notes, "no candle is missing in the span: no request was sent")
    extent = source.extent(done.key.symbol, done.key.interval)
    name = f"{source.market} has {done.key.symbol} {done.key.interval}"
    if extent is None:
        return (*notes, f"{source.market} has no candles of {done.key.symbol} {done.key.interval}")
    first, last = extent
    if span[1] <= first:
        return (*notes, f"{name} from {first:%Y-%m-%d %H:%M} on: the span ends before that")
    if span[0] >= last:
        return (*notes, f"{name} until {last:%Y-%m-%d %H:%M}: the span begins after that")
    return (*notes, f"{name} from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, but no candle of the span")


def audit_span(store: Store, key: SeriesKey, now: pd.Timestamp, after: pd.Timestamp | None) -> Span:
    """Part of the stored history that an audit reads: whole months, so that 28 audits read all of it.

    Parameters
    ----------
    now
        The market's time. The newest `REREAD` candles are left out: each ingest reads them.
    after
        End of the audit before. Where that was no month's beginning, it was the end of the history, and the
        first month is next.

    Returns
    -------
    (Timestamp, Timestamp)
        From, to (exclusive); empty where nothing is old enough.
    """
    end = interval_floor(now, key.interval) - REREAD * key.delta
    first = read_first_time(store, key) or end
    begin = after if after is not None and after == _month(after) and first < after < end else first
    months = (end.year - first.year) * 12 + end.month - first.month + 1
    return begin, max(begin, min(_month(begin) + pd.DateOffset(months=-(-months // _AUDITS)), end))


def _month(time: pd.Timestamp) -> pd.Timestamp:
    return time.normalize().replace(day=1)


def make_span(
    source: Source, symbol: str, since: pd.Timestamp | None, until: pd.Timestamp | None, days: int | None, usual: int
) -> Span:
    """Span that a user named: from `since`, else so many days, until a time, else the market's present.

    Without `since` and `days` it is all of a file, and the `usual` days of any other source.

    Raises
    ------
    UsageError
        If it is empty.
    """
    end = until or source.now()
    if since is None and days is None and isinstance(source, FileMarket):
        since = source.span(symbol)[0]
    start = since or end - pd.Timedelta(days=days or usual)
    if start >= end:
        msg = f"the span from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} is empty: give an earlier start"
        raise UsageError(msg)
    return start, end


def _missing(store: Store, key: SeriesKey, span: Span) -> list[Span]:
    known = read_open_times(store, key, *span)
    return missing_spans(known, read_halts(store, key), span, key.interval)


def missing_spans(known: pd.Series, halts: set[pd.Timestamp], span: Span, interval: str) -> list[Span]:
    """Parts of a span of which no candle is known.

    Parameters
    ----------
    known
        Open times that are known inside the span, ascending.
    halts
        First open times of holes in which the market has nothing: not requested again.
    span
        From, to (exclusive).
    interval
        Interval of the candles.

    Returns
    -------
    list of (Timestamp, Timestamp)
        Ascending; holes less than `REREAD` candles apart come as one, for they are one page.
    """
    gaps = span_gaps(known, *span, interval)
    return join_gaps(gaps[~gaps["start"].isin(halts)], REREAD * interval_delta(interval))


def _fetch(
    store: Store, source: Source, done: Ingested, span: Span, at: pd.Timestamp, on_page: OnPage | None
) -> Ingested:
    """Fetch and store a span part by part, each in a transaction of its own; `at` is the time of the request."""
    key, reached = done.key, span[0]
    for frame in _parts(source, key, span, on_page):
        stored = upsert_candles(store, key, frame, source=source.market, at=at)
        done = done._plus(len(frame), stored)  # noqa: SLF001 - our own class
        known = frame["open_time"].dropna()
        times = interval_floors(known, key.interval).drop_duplicates().sort_values()  # a broken row is no silence
        if len(times):
            end = times.iloc[-1] + key.delta
            if len(known) == len(frame):  # else a row without a time may be of any hole
                record_gaps(store, key, span_gaps(times, reached, end, key.interval), (reached, end), at)
            reached = end
    return done


def _parts(source: Source, key: SeriesKey, span: Span, on_page: OnPage | None) -> Iterator[pd.DataFrame]:
    """Candles of a span in ascending parts: the source's own, or chunks."""
    start, end = span
    if isinstance(source, ArchiveMarket):
        yield from source.fetch_parts(key.symbol, key.interval, start, end, on_page)
        return
    total, done = (end - start) // key.delta, 0
    while start < end:
        stop = min(start + key.delta * _CHUNK, end)
        frame = source.fetch_candles(key.symbol, key.interval, start, stop, _shifted_progress(on_page, done, total))
        done += len(frame)
        yield frame
        start = stop


def _shifted_progress(on_page: OnPage | None, before: int, total: int) -> OnPage | None:
    """Report the progress of a part as that of the whole."""
    return None if on_page is None else lambda done, _: on_page(before + done, max(total, before + done))
