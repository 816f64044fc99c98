"""Jobs of the log: one function for each kind; a long one runs in a process of its own."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.errors import BtcmlError, BusyError, NotFoundError, NotReadyError, SourceError, StoreError, UsageError
from btcml.forecast.metrics import PERSISTENCE
from btcml.pipeline.clock import register_clock
from btcml.pipeline.ingest import audit_span, backfill, ingest
from btcml.pipeline.predict import Served, seal
from btcml.pipeline.sources import make_source
from btcml.pipeline.train import Trained, train
from btcml.settings import Settings, load_settings
from btcml.store.chain import chain_head
from btcml.store.engine import database_lock, open_store
from btcml.store.forecasts import count_scored
from btcml.store.jobs import Job, abandon_jobs, finish_job, last_ok, read_job, start_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btcml.candles import SeriesKey
    from btcml.market import Source
    from btcml.store.engine import Store


WAIT_S = 20.0
"""Seconds that a client who waits is made to wait for another job of the kind."""

_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
INTERRUPTED = 130
"""Exit status of a process that was terminated."""

NICENESS = 10
"""Niceness of a job in a process of its own, so that requests of the API come first."""


class JobError(BtcmlError):
    """A job that failed; its status is that of the job's own error.

    Parameters
    ----------
    job
        The job as the log has it.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job.error or f"job {job.id} ended as {job.status}")
        self.status = 503 if job.status == "abandoned" else job.error_status or 500


class JobContext:
    """What a job needs.

    Parameters
    ----------
    settings, store, source
        As everywhere.
    served
        Loaded models by series, kept between jobs of one process.
    on_newest
        What an ingest calls when the newest candles are stored, before it requests older ones again.
    """

    def __init__(self, settings: Settings, store: Store, source: Source) -> None:
        self.settings, self.store, self.source = settings, store, source
        self.served: dict[SeriesKey, Served] = {}
        self.on_newest: Callable[[SeriesKey], None] = lambda _: None


def run_job(context: JobContext, job_id: int, *, wait: float = 0.0) -> Job:
    """Run a job and record its result.

    Parameters
    ----------
    wait
        Seconds to wait for another job of the kind, before it fails.

    Returns
    -------
    Job
        As recorded; a failure is in it, not raised.
    """
    job = read_job(context.store, job_id)
    try:
        with _job_lock(context.store, f"{job.kind} of {job.key}", wait):
            _check_market(context, job)
            abandon_jobs(context.store, job.kind, job.key, job.id)
            start_job(context.store, job.id)
            result = _HANDLERS[job.kind](context, job)
        finish_job(context.store, job.id, result=result)
    except NotReadyError as error:
        status = "missed" if job.kind == "forecast" else None
        finish_job(context.store, job.id, error=str(error), error_status=error.status, status=status)
    except BtcmlError as error:
        finish_job(context.store, job.id, error=str(error), error_status=error.status)
    except OSError as error:
        sentence = f"a file cannot be written ({error}): make room, or repair the folder, then run again"
        finish_job(context.store, job.id, error=sentence, error_status=503)
    except Exception as error:
        finish_job(context.store, job.id, error=f"unexpected {type(error).__name__}: {error}", error_status=500)
        raise
    except BaseException:
        with contextlib.suppress(Exception):  # the database may be gone
            finish_job(context.store, job.id, error="stopped before the end", status="abandoned")
        raise
    return read_job(context.store, job.id)


def _check_market(context: JobContext, job: Job) -> None:
    """Reject a job of another market than the process reads from: markets never mix."""
    if context.source.market != job.key.market:
        msg = (
            f"job {job.id} is about the market {job.key.market}, but candles come from {context.source.market}: "
            "set BTCML_SOURCE, or ask again"
        )
        raise NotReadyError(msg)


@contextlib.contextmanager
def _job_lock(store: Store, name: str, wait: float) -> Iterator[None]:
    """Hold the lock of a kind of job; wait for it at most `wait` seconds."""
    end, pause = time.monotonic() + wait, _PAUSE_S
    while True:
        lock = database_lock(store, name)
        try:
            lock.__enter__()
        except BusyError:
            if time.monotonic() > end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            break
    with contextlib.ExitStack() as stack:
        stack.push(lock)
        yield


def _ingest(context: JobContext, job: Job) -> dict[str, Any]:
    replay = job.key.market.startswith("replay:")
    if replay:
        register_clock(context.store, context.source)
    before = count_scored(context.store, job.key)
    with _known_series():
        done = ingest(context.store, context.source, job.key, on_newest=lambda: context.on_newest(job.key))
    if not replay:
        with contextlib.suppress(StoreError):  # the candles are true all the same; btcml doctor shows it
            register_clock(context.store, context.source)
    updated = {"futures_updated": count_scored(context.store, job.key) - before}
    return done.facts | updated | {"heads": chain_head(context.store, job.key)}


@contextlib.contextmanager
def _known_series() -> Iterator[None]:
    """Turn a symbol that the market does not have into a 404."""
    try:
        yield
    except SourceError:
        raise
    except UsageError as error:
        raise NotFoundError(str(error)) from error


def _backfill(context: JobContext, job: Job) -> dict[str, Any]:
    if job.parameters.get("audit"):
        return _audit(context, job)
    days = int(job.parameters.get("days", 90))
    end = context.source.now()
    with _known_series():
        done = backfill(context.store, context.source, job.key, (end - pd.Timedelta(days=days), end))
    return done.facts | {"days": days, "heads": chain_head(context.store, job.key)}


def _audit(context: JobContext, job: Job) -> dict[str, Any]:
    """Read the months after the last audit again."""
    before = last_ok(context.store, "backfill", job.key, audit=True)
    after = pd.Timestamp(before.result["until"]) if before and before.result else None
    span = audit_span(context.store, job.key, context.source.now(), after)
    done = backfill(context.store, context.source, job.key, span, audit=True)
    return done.facts | {"since": span[0].isoformat(), "until": span[1].isoformat()}


def _train(context: JobContext, job: Job) -> dict[str, Any]:
    days, processes = (int(job.parameters.get(name, usual)) for name, usual in (("days", 1095), ("processes", 2)))
    now = context.source.now()
    return training_facts(train(context.store, context.settings, job.key, days=days, now=now, jobs=processes))


_FLAT = {"mae": "mae_usd", "mape": "mape", "smape": "smape", "rmse": "rmse_usd", "r2": "r2"}
_FACTS = ("artifact", "champion", "judged", "samples", "split_train", "split_total", "validation_start", "snapshot")


def training_facts(done: Trained) -> dict[str, Any]:
    """Plain values of a training, flat: the champion's figures in the newest experiment beside persistence's."""
    own, none = (done.figures.get(name, {}) for name in (done.champion, PERSISTENCE))
    facts: dict[str, Any] = {"status": "ok"} | {name: own.get(metric) for name, metric in _FLAT.items()}
    facts |= {f"persistence_{name}": none.get(metric) for name, metric in _FLAT.items()}
    facts |= {"ratio": own.get("ratio"), "skill": done.verdict.get("skill"), "dm_p": done.verdict.get("dm_p")}
    facts |= {"verdict": done.verdict.get("reason"), "heads": done.heads, "window": list(done.window)}
    facts["edge"] = done.verdict.get("edge")
    if left_out := done.verdict.get("left_out"):
        facts["left_out"] = left_out["table"]
    facts |= {name: getattr(done, name) for name in _FACTS}
    rows = done.figures.items()
    models = {name: {key: row.get(key) for key in ("mae_usd", "ratio", "skill")} for name, row in rows}
    if done.horizons:
        shown = ("champion", "skill", "dm_p", "judged_at")
        facts["horizons"] = [{"horizon": h} | {name: one[name] for name in shown} for h, one in done.horizons.items()]
    return facts | {"models": models, "bytes": done.bytes}


def _forecast(context: JobContext, job: Job) -> dict[str, Any]:
    done = seal(context.store, context.settings, job.key, context.served)
    return {"status": "ok"} | done | {"heads": chain_head(context.store, job.key)}


_HANDLERS: dict[str, Callable[[JobContext, Job], dict[str, Any]]] = {
    "ingest": _ingest,
    "backfill": _backfill,
    "train": _train,
    "forecast": _forecast,
}


def environment(settings: Settings) -> dict[str, str]:
    """Environment of a process with the same settings."""
    values: dict[str, Any] = settings.model_dump()
    known = {name: value for name, value in values.items() if value is not None}
    plain = {name.upper(): _text(value) for name, value in known.items()}
    return dict(os.environ) | plain | {"OMP_NUM_THREADS": "1"}


def _text(value: Any) -> str:
    if hasattr(value, "get_secret_value"):
        return str(value.get_secret_value())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def spawn_job(settings: Settings, job_id: int, market: str) -> subprocess.Popen[bytes]:
    """Start a process that runs a job.

    Parameters
    ----------
    market
        The market of this process: where the source is ``auto``, the new process does not choose again.
    """
    if settings.btcml_source == "auto":
        settings = settings.model_copy(update={"btcml_source": "simulated" if market == "simulated" else "binance"})
    command = [sys.executable, "-m", "btcml.pipeline.jobs", str(job_id)]
    return subprocess.Popen(command, env=environment(settings), stdin=subprocess.DEVNULL)  # noqa: S603 - our own module


def main() -> int:
    """Run the job whose number is the first argument, after others of the kind; exit status 0 if it succeeded."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.nice(NICENESS)
    try:
        settings = load_settings()
        store = open_store(settings)
        context = JobContext(settings, store, make_source(settings, settings.btcml_source, store))
        return 0 if run_job(context, int(sys.argv[1]), wait=math.inf).status == "ok" else 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
