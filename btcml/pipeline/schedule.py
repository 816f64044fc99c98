"""The scheduler: ingest, forecast, train and audit when due by the market's clock.

It keeps no plan in memory. Each tick reads from the database what was done last and from the market's
clock what is due, and runs the difference once: late runs coalesce, a restart catches up, and due
times that were missed are counted in the next job. Two schedulers on one database do no harm, since
a due time can be in the log only once and each kind of job holds a lock.

Each series has a thread of its own, so that all are fetched right after the close and a slow one delays no other;
its next candle is forecast as soon as the newest one is stored, before older ones are requested again.
"""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from sqlalchemy.exc import SQLAlchemyError

from btcml.candles import SeriesKey, interval_floor
from btcml.errors import BtcmlError, BusyError
from btcml.market import utc_now
from btcml.pipeline.alerts import send_alerts
from btcml.pipeline.clock import register_clock
from btcml.pipeline.jobs import WAIT_S, JobContext, run_job, spawn_job
from btcml.pipeline.publish import publish_series, read_proof, stamp_series
from btcml.pipeline.sources import shared_source
from btcml.settings import Settings, duration
from btcml.store.candles import read_last_candles
from btcml.store.chain import chain_head
from btcml.store.engine import database_lock, open_store
from btcml.store.forecasts import market_now, read_clock_speed
from btcml.store.jobs import KINDS, Job, abandon_jobs, append_job, last_ok, last_scheduled
from btcml.store.models import read_champion
from btcml.system import end_processes, log_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


T = TypeVar("T")

_log = logging.getLogger("btcml.schedule")

FIRST_PAUSE_S = 5.0
"""Pause before the first retry; it doubles each time."""

AWAIT_S = 0.5
"""The same where an ingest went well, and the exchange did not have the newest candle yet."""

MAX_ATTEMPTS = 6
_SETTLE = pd.Timedelta("0.1s")  # of the market, after the close: its recorded clock may be that much ahead
_LONGEST_WAIT_S = 1.0
_SHORTEST_WAIT_S = 0.02
_NOTIFY_EVERY_S = 10.0
_STOP_S = 8.0
_DAY = pd.Timedelta(days=1)
_EPOCH = pd.Timestamp(0, tz="UTC")


@dataclass(frozen=True)
class Due:
    """A job that is due.

    Attributes
    ----------
    due_at
        When, by the market's clock.
    missed
        Earlier due times that were missed.
    attempt
        1, or more for a retry.
    """

    due_at: pd.Timestamp
    missed: int
    attempt: int


def due_now(
    last: Job | None,
    current: pd.Timestamp,
    every: pd.Timedelta,
    now: pd.Timestamp,
    speed: float = 1.0,
    *,
    complete: bool = True,
) -> Due | None:
    """What is due, given the log of jobs.

    Parameters
    ----------
    last
        Newest job of the kind that had a due time.
    current
        Newest due time that has come, by the market's clock.
    every
        Time between due times.
    now
        Real time, as the database stamps jobs.
    speed
        Seconds of the market in a second: pauses shrink with it.
    complete
        Whether the job, where it went well, has had its effect; else it is done again soon.
    """
    if last is None or last.due_at is None:
        return Due(current, 0, 1)
    if last.due_at >= current:
        again = {"error": FIRST_PAUSE_S, "abandoned": FIRST_PAUSE_S} | ({} if complete else {"ok": AWAIT_S})
        return _retry(last, now, again[last.status] / max(speed, 1.0)) if last.status in again else None
    if last.status in {"queued", "running"}:
        return None
    return Due(current, max(int((current - last.due_at) // every) - 1, 0), 1)


def _retry(last: Job, now: pd.Timestamp, first_pause: float) -> Due | None:
    if last.attempt >= MAX_ATTEMPTS or last.finished_at is None or last.due_at is None:
        return None
    pause = pd.Timedelta(seconds=first_pause * 2 ** (last.attempt - 1))
    return Due(last.due_at, last.missed, last.attempt + 1) if now >= last.finished_at + pause else None


class Scheduler:
    """Keeps the series of the settings fresh.

    Parameters
    ----------
    context
        Settings, database and source.
    days
        Days of candles to have and to train on.
    """

    def __init__(self, context: JobContext, days: int = 1095) -> None:
        self.context, self.days = context, days
        settings = context.settings
        market = context.source.market
        self.keys = [SeriesKey(market, symbol, settings.btcml_interval) for symbol in settings.btcml_symbols]
        self.ingest_every = pd.Timedelta(duration(settings.btcml_ingest_every))
        self.train_every = pd.Timedelta(duration(settings.btcml_train_every))
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self._serve, args=(key,), daemon=True) for key in self.keys]
        self._error: BaseException | None = None
        self._training: tuple[SeriesKey, subprocess.Popen[bytes]] | None = None
        self._auditing = threading.Lock()
        self._failed: set[SeriesKey] = set()
        self.speed = 1.0
        self._background = ThreadPoolExecutor(2, thread_name_prefix="btcml-background")
        self._notifying: Future[None] | None = None
        self._stamping: Future[None] | None = None
        self._next_notifying = 0.0
        context.on_newest = self._forecast

    def run(self) -> None:
        """Run until `stop` is set or the process is interrupted; no job is left open."""
        try:
            self._begin()
            for thread in self._threads:
                thread.start()
            pause = max(self.train_every.total_seconds() / self.speed / 10, _SHORTEST_WAIT_S)
            while not self.stop.wait(min(pause, _LONGEST_WAIT_S)):
                self._supervise()
        finally:
            self._end()
            for key in self.keys:  # a job that was due, and stopped before it began, is not left open
                self._recover(key)
        if self._error is not None:
            raise self._error

    def _serve(self, key: SeriesKey) -> None:
        """Keep one series fresh; what nobody expects ends the scheduler."""
        try:
            while not self.stop.is_set():
                self.stop.wait(self._work(key))
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._error = error
            self.stop.set()

    def _begin(self) -> None:
        register_clock(self.context.store, self.context.source)
        self.speed = read_clock_speed(self.context.store, self.context.source.market) or 1.0
        for key in self.keys:
            self._recover(key)
            if self._short(key):
                self._backfill(key)

    def _recover(self, key: SeriesKey, kinds: Iterable[str] = KINDS, *, queued: bool = True) -> None:
        """Close the jobs of processes that died: a live process holds the lock of its job."""
        for kind in kinds:
            if kind == "train" and self._in_training():
                continue
            try:
                with database_lock(self.context.store, f"{kind} of {key}"):
                    abandon_jobs(self.context.store, kind, key, but=0, queued=queued)
            except BusyError:
                continue

    def _short(self, key: SeriesKey) -> bool:
        """Whether candles are missing at the beginning, and no backfill of that length has succeeded yet."""
        done = last_ok(self.context.store, "backfill", key)
        if done is not None and int(done.parameters.get("days", 0)) >= self.days:
            return False
        return len(read_last_candles(self.context.store, key, 1)) == 0 or done is None

    def _backfill(self, key: SeriesKey) -> None:
        number = append_job(self.context.store, "backfill", key, asked_by="scheduler", parameters={"days": self.days})
        self._report(run_job(self.context, number or 0, wait=WAIT_S))

    def tick(self) -> float:
        """Do what is due now, one series after the other.

        Returns
        -------
        float
            Seconds until something can be due again, at most one.
        """
        waits = [self._work(key) for key in self.keys]
        self._supervise()
        return min(waits, default=_LONGEST_WAIT_S)

    def _work(self, key: SeriesKey) -> float:
        """Do what is due of a series but its training, and return the seconds until more can be."""
        wait = self._attempt(self._tick, key)
        if key not in self._failed and self._auditing.acquire(blocking=False):  # one at a time
            try:
                self._attempt(self._audit, key)
            finally:
                self._auditing.release()
        return max(_LONGEST_WAIT_S if wait is None else wait, _SHORTEST_WAIT_S)

    def _supervise(self) -> None:
        """Start trainings, alerts and publishing: all run beside the forecasts."""
        for key in self.keys:
            self._attempt(self._train_when_due, key)
        self._notify()

    def _notify(self) -> None:
        """Send alerts and publish in a thread: a slow receiver or disk delays no forecast."""
        settings = self.context.settings
        wanted = settings.btcml_alerts or settings.btcml_publish_dir
        if wanted and _is_idle(self._notifying) and time.monotonic() >= self._next_notifying:
            self._next_notifying = time.monotonic() + _NOTIFY_EVERY_S
            self._notifying = self._background.submit(self._notify_all)

    def _notify_all(self) -> None:
        for key in self.keys:
            for name, work in (("alerts", self._send_alerts), ("publishing", self._publish)):
                try:
                    work(key)
                except (BtcmlError, SQLAlchemyError, OSError) as error:
                    _log.warning(json.dumps({"event": f"{name} failed", "series": str(key), "error": str(error)}))
        root, authority = self.context.settings.btcml_publish_dir, self.context.settings.btcml_tsa_url
        if root and authority and _is_idle(self._stamping) and not self.stop.is_set():
            self._stamping = self._background.submit(self._stamp_all, root, authority)

    def _stamp_all(self, root: Path, authority: str) -> None:
        """Have what was published stamped; where the authority fails, the rest waits for the next turn."""
        for key in [key for key in self.keys if read_proof(root, key)]:
            try:
                done = stamp_series(root.expanduser(), key, authority)
            except (BtcmlError, OSError) as error:
                done = {"error": str(error)}
            if done["error"]:
                _log.warning(json.dumps({"event": "stamping failed", "series": str(key)} | done))
                return

    def _send_alerts(self, key: SeriesKey) -> None:
        for alert in send_alerts(self.context.store, self.context.settings, key):
            _log.info(json.dumps({"event": "alert", "topic": alert.topic, "text": alert.text}))

    def _publish(self, key: SeriesKey) -> None:
        settings = self.context.settings
        if settings.btcml_publish_dir is not None and chain_head(self.context.store, key):
            root, stamped = settings.btcml_publish_dir.expanduser(), bool(settings.btcml_tsa_url)
            publish_series(self.context.store, settings.home, root, key, utc_now(), stamped=stamped)

    def _attempt(self, work: Callable[[SeriesKey], T], key: SeriesKey) -> T | None:
        """Do work of a series; a failure is logged, and None returned."""
        try:
            return work(key)
        except BtcmlError as error:
            self._failed.add(key)
            _log.warning(json.dumps({"event": "tick failed", "series": str(key), "error": str(error)}))
            return None

    def _tick(self, key: SeriesKey) -> float:
        """Do what is due of a series, and return the seconds until more can be."""
        if key in self._failed:  # a job may have been cut off, and the server with it
            self.context.store.restart_server()
            self._recover(key)
            self._failed.discard(key)
        now = self._settled(key)
        step, current = min(self.ingest_every, key.delta), self._last_due(key, now)
        complete = key.market.startswith("file:") or self._newest(key) == interval_floor(now, key.interval) - key.delta
        self._do("ingest", key, current, step, complete=complete)
        self._forecast(key)
        now = self._settled(key)
        close = interval_floor(now, key.interval) + key.delta
        wait = min(_floor(now, self.ingest_every) + self.ingest_every, close) - now
        return min(_LONGEST_WAIT_S, wait.total_seconds() / max(self.speed, 1e-9))

    def _settled(self, key: SeriesKey) -> pd.Timestamp:
        return market_now(self.context.store, key.market) - _SETTLE

    def _last_due(self, key: SeriesKey, now: pd.Timestamp) -> pd.Timestamp:
        """Newest time at which an ingest was due: every so often, and at each close."""
        return max(_floor(now, self.ingest_every), interval_floor(now, key.interval))

    def _newest(self, key: SeriesKey) -> pd.Timestamp | None:
        newest = read_last_candles(self.context.store, key, 1)
        return newest["open_time"].iloc[-1] if len(newest) else None

    def _forecast(self, key: SeriesKey) -> None:
        """Forecast the open candle, where the one before it is there and a model to forecast with."""
        target = interval_floor(market_now(self.context.store, key.market), key.interval)
        if self._newest(key) == target - key.delta and read_champion(self.context.store, key) is not None:
            self._do("forecast", key, target, key.delta)

    def _audit(self, key: SeriesKey) -> bool:
        """Read some older months of an exchange's history again, once a day: it may have restated them."""
        if not key.market.startswith(("binance", "replay:")):
            return False
        today = _floor(market_now(self.context.store, key.market), _DAY)
        return self._do("backfill", key, today, _DAY, audit=True)

    def _due(
        self,
        kind: str,
        key: SeriesKey,
        current: pd.Timestamp,
        every: pd.Timedelta,
        *,
        complete: bool = True,
        **parameters: Any,
    ) -> int | None:
        """Number of the job that is due now, written into the log; None where nothing is."""
        last = last_scheduled(self.context.store, kind, key)
        if last is not None and last.status == "running":  # by another scheduler, or it was killed
            self._recover(key, [kind], queued=False)
            last = last_scheduled(self.context.store, kind, key)
        due = due_now(last, current, every, pd.Timestamp.now(tz="UTC"), self.speed, complete=complete)
        if due is None:
            return None
        return append_job(
            self.context.store,
            kind,
            key,
            asked_by="scheduler",
            parameters=parameters,
            due_at=due.due_at,
            missed=due.missed,
            attempt=due.attempt,
        )

    def _do(self, kind: str, key: SeriesKey, current: pd.Timestamp, every: pd.Timedelta, **parameters: Any) -> bool:
        """Run a job if it is due; return whether it was."""
        number = self._due(kind, key, current, every, **parameters)
        if number is not None:
            self._report(run_job(self.context, number))
        return number is not None

    def _train_when_due(self, key: SeriesKey) -> None:
        self._train(key, _floor(market_now(self.context.store, key.market), self.train_every))

    def _train(self, key: SeriesKey, current: pd.Timestamp) -> None:
        """Start a training in a process of its own, one at a time."""
        if self._in_training():
            return
        if self._training is not None:  # ended: where it was killed, its job is still open
            ended, _ = self._training
            self._recover(ended, ["train"])
            self._training = None
        number = self._due("train", key, current, self.train_every, days=self.days)
        if number is not None:
            self._training = key, spawn_job(self.context.settings, number, key.market)

    def _in_training(self) -> bool:
        return self._training is not None and self._training[1].poll() is None

    def _report(self, job: Job) -> None:
        facts: dict[str, Any] = {"event": "job", "job_id": job.id, "kind": job.kind, "series": str(job.key)}
        facts |= {"status": job.status, "missed": job.missed, "attempt": job.attempt, "error": job.error}
        restated = job.parameters.get("audit") and job.result and job.result["revised"]
        _log.log(logging.WARNING if restated else logging.INFO, json.dumps(facts | {"result": job.result}, default=str))

    def _end(self) -> None:
        """Wait for what runs in threads, and end a training, whose job is closed by its own process."""
        self.stop.set()
        deadline = time.monotonic() + _STOP_S
        self._background.shutdown(wait=False, cancel_futures=True)
        if self._training is not None:
            end_processes([self._training[1]])
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))


def _is_idle(task: Future[None] | None) -> bool:
    return task is None or task.done()


def _floor(now: pd.Timestamp, every: pd.Timedelta) -> pd.Timestamp:
    return _EPOCH + (now - _EPOCH) // every * every


def run_schedule(settings: Settings, days: int = 1095) -> None:
    """Keep everything fresh until stopped."""
    log_json()
    store = open_store(settings)
    source = shared_source(settings, store, anew=True)
    Scheduler(JobContext(settings, store, source), days).run()
