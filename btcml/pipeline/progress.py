"""Whether a series moves on: candles, forecasts and trainings, judged by the market's clock and the log of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from btcml.errors import NotReadyError
from btcml.settings import duration
from btcml.store.candles import read_last_candles
from btcml.store.engine import lock_is_held
from btcml.store.forecasts import read_scored
from btcml.store.jobs import read_jobs
from btcml.store.models import read_champion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btcml.candles import SeriesKey
    from btcml.settings import Settings
    from btcml.store.engine import Store
    from btcml.store.jobs import Job


GRACE = 0.2
"""Share of a candle for which the forecast of the one before may still be shown while its outcome comes in."""

_PAUSES = 2


@dataclass(frozen=True)
class Standstill:
    """What should have moved on and has not.

    Attributes
    ----------
    found
        What stands still, and since when.
    cure
        What to do.
    """

    found: str
    cure: str

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.found}: {self.cure}"


@dataclass(frozen=True)
class Progress:
    """How far a series has come: the same for ``/ready`` and doctor.

    Attributes
    ----------
    until
        Close of the newest candle; None without candles.
    missing
        Why no forecast of the open candle can be made from the candles; None where it can.
    warnings
        What else does not move on: ingests, forecasts and trainings.
    """

    until: pd.Timestamp | None
    missing: Standstill | None
    warnings: list[Standstill]


def read_progress(store: Store, key: SeriesKey, now: pd.Timestamp) -> Progress:
    """Read how far a series has come; a file's has always come as far as it can.

    Parameters
    ----------
    now
        The market's time, asked for before.
    """
    newest = read_last_candles(store, key, 1)
    until = newest["open_time"].iloc[-1] + key.delta if len(newest) else None
    if until is not None and key.market.startswith("file:"):
        return Progress(until, None, [])
    found = [
        _ingests(store, key),
        None if until is None else _forecasts(store, key, until, now),
        _trainings(store, key),
    ]
    return Progress(until, _missing(store, key, until, now), [standstill for standstill in found if standstill])


def _missing(store: Store, key: SeriesKey, until: pd.Timestamp | None, now: pd.Timestamp) -> Standstill | None:
    """Whether there are no candles, or the one after the newest, which closed at `until`, has closed too."""
    if until is None:
        return Standstill(f"candles of {key}", f"POST /init/backfill?symbol={key.symbol}&interval={key.interval}")
    following = until + key.delta
    if key.market.startswith("file:") or now <= following + GRACE * key.delta:
        return None
    found = (
        f"the newest stored candle of {key} closed at {until:%Y-%m-%d %H:%M} UTC, and by "
        f"{now:%Y-%m-%d %H:%M} UTC the next one has closed too"
    )
    return Standstill(found, _feed_cure(store, key, following))


def dead_feed(
    store: Store, settings: Settings, key: SeriesKey, until: pd.Timestamp, now: pd.Timestamp
) -> Standstill | None:
    """Whether an ingest of the scheduler has asked for newer candles in vain, for longer than two pauses.

    Before the first one has ended, as after a backfill that took long, nothing is known of the feed.

    Parameters
    ----------
    until
        Close of the newest candle.
    now
        The market's time.
    """
    pause = min(pd.Timedelta(duration(settings.btcml_ingest_every)), key.delta)
    job = _last(store, key, "ingest", ["ok", "error"])
    asked = job is not None and job.due_at is not None and job.due_at >= until + key.delta
    if not asked or now - until <= key.delta + _PAUSES * pause:
        return None
    found = f"{key} has no candle after {until:%Y-%m-%d %H:%M} UTC"
    return Standstill(found, _feed_cure(store, key, until + key.delta))


def _feed_cure(store: Store, key: SeriesKey, close: pd.Timestamp) -> str:
    """What to do where the candle that closed at a time has not come."""
    job = _last(store, key, "ingest")
    if job is not None and job.status != "ok":
        return f"the last ingest failed, {job.error}"
    if job is not None and job.due_at is not None and job.due_at >= close:
        return "the last ingest went well, so the exchange has none: btcml doctor compares the clocks"
    return "POST /ingest/run, or btcml ingest, first; btcml up does it at every close"


def _last(
    store: Store, key: SeriesKey, kind: str, statuses: Sequence[str] = ("ok", "error", "abandoned")
) -> Job | None:
    """Newest job of a kind that ended."""
    return next(iter(read_jobs(store, key=key, kinds=[kind], statuses=statuses, limit=1)), None)


def _ingests(store: Store, key: SeriesKey) -> Standstill | None:
    job = _last(store, key, "ingest")
    if job is None or job.status == "ok":
        return None
    return Standstill(f"ingest {job.id} of {key} failed", f"{job.error}")


def _forecasts(store: Store, key: SeriesKey, target: pd.Timestamp, now: pd.Timestamp) -> Standstill | None:
    """Whether the candle that opened at `target` has no sealed forecast, though a model was in service before."""
    champion = read_champion(store, key)
    if champion is None:
        return None
    due = target + GRACE * key.delta <= now < target + key.delta and champion.trained_at < target
    if not due or len(read_scored(store, key, target, target + key.delta, "champion")):
        return None
    job = next(iter(read_jobs(store, key=key, kinds=["forecast"], limit=1)), None)
    cure = (job.error if job else None) or "start the scheduler (btcml schedule, or btcml up)"
    return Standstill(f"{key} has no forecast of the candle of {target:%Y-%m-%d %H:%M} UTC", cure)


def _trainings(store: Store, key: SeriesKey) -> Standstill | None:
    job = next(iter(read_jobs(store, key=key, kinds=["train"], limit=1)), None)
    if job is None or job.status in {"ok", "queued"}:
        return None
    if job.status != "running":
        return Standstill(
            f"training {job.id} of {key} failed", f"{job.error}; the scheduler tries again, or btcml train"
        )
    if is_worked_on(store, job):
        return None
    return Standstill(f"training {job.id} of {key} was killed", "run btcml train, or start the scheduler (btcml up)")


def is_worked_on(store: Store, job: Job) -> bool:
    """Whether a process holds the lock of a job: what the log says of a process that was killed stays as it was."""
    return lock_is_held(store, f"{job.kind} of {job.key}")


def check_fresh(store: Store, key: SeriesKey, candle_time: pd.Timestamp, now: pd.Timestamp) -> None:
    """Reject a forecast of a candle that has closed already; a file's has not.

    Parameters
    ----------
    candle_time
        Open time of the newest candle.
    now
        The market's time.

    Raises
    ------
    NotReadyError
        If the newest candle is too old; the message has its age, and why none came.
    """
    missing = _missing(store, key, candle_time + key.delta, now)
    if missing is not None:
        raise NotReadyError(str(missing))
