"""Jobs: one function does each kind, whoever asks; a long one runs in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.errors import BtcmlError, BusyError, NotFoundError, NotReadyError, SourceError, StoreError, UsageError
from btcml.pipeline.clock import register_clock
from btcml.pipeline.ingest import Ingested, backfill, ingest
from btcml.pipeline.predict import Served, seal
from btcml.pipeline.sources import make_source
from btcml.pipeline.train import train
from btcml.settings import Settings, load_settings
from btcml.store.chain import chain_head
from btcml.store.engine import database_lock, open_store
from btcml.store.forecasts import count_scored
from btcml.store.jobs import Job, abandon_jobs, finish_job, read_job, start_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btcml.candles import SeriesKey
    from btcml.market import Source
    from btcml.store.engine import Store

__all__ = ["INTERRUPTED", "Bench", "JobError", "environment", "perform", "spawn"]

_WAIT_S = 20.0
_PAUSE_S = 0.1
INTERRUPTED = 130
"""Exit status of a process that was asked to stop."""

_POLITE = 10
"""Niceness of a job in a process of its own: whoever asks the API meanwhile is answered first."""


class JobError(BtcmlError):
    """A job that did not end well; its status is that of the job's own error.

    Parameters
    ----------
    job
        The job as the log has it.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job.error or f"job {job.id} ended as {job.status}")
        self.status = 503 if job.status == "abandoned" else job.error_status or 500


class Bench:
    """What a job needs at hand.

    Parameters
    ----------
    settings, store, source
        As everywhere.
    served
        Loaded models by series, kept between jobs of one process.
    """

    def __init__(self, settings: Settings, store: Store, source: Source) -> None:
        self.settings, self.store, self.source = settings, store, source
        self.served: dict[SeriesKey, Served] = {}


def perform(bench: Bench, job_id: int, *, wait: bool = False) -> Job:
    """Do a job and write down what became of it.

    Parameters
    ----------
    wait
        Wait some seconds for another job of the kind, instead of failing at once.

    Returns
    -------
    Job
        As the log has it afterwards; its failure is in it, not raised.
    """
    job = read_job(bench.store, job_id)
    try:
        with _alone(bench.store, f"{job.kind} of {job.key}", _WAIT_S if wait else 0.0):
            _check_market(bench, job)
            abandon_jobs(bench.store, job.kind, job.key, job.id)
            start_job(bench.store, job.id)
            result = _DO[job.kind](bench, job)
        finish_job(bench.store, job.id, result=result)
    except NotReadyError as error:
        status = "missed" if job.kind == "forecast" else None
        finish_job(bench.store, job.id, error=str(error), error_status=error.status, status=status)
    except BtcmlError as error:
        finish_job(bench.store, job.id, error=str(error), error_status=error.status)
    except OSError as error:
        sentence = f"the system refused a file ({error}): make room, or mend the folder, then run again"
        finish_job(bench.store, job.id, error=sentence, error_status=503)
    except Exception as error:
        finish_job(bench.store, job.id, error=f"unexpected {type(error).__name__}: {error}", error_status=500)
        raise
    except BaseException:
        with contextlib.suppress(Exception):  # the database may be what has gone
            finish_job(bench.store, job.id, error="stopped before the end", status="abandoned")
        raise
    return read_job(bench.store, job.id)


def _check_market(bench: Bench, job: Job) -> None:
    """Refuse a job about one market to a process that draws from another: markets never mix."""
    if bench.source.market != job.key.market:
        msg = (
            f"job {job.id} is about the market {job.key.market}, but candles come from {bench.source.market}: "
            "set BTCML_SOURCE, or ask again"
        )
        raise NotReadyError(msg)


@contextlib.contextmanager
def _alone(store: Store, name: str, wait: float) -> Iterator[None]:
    """Hold the lock of a kind of job; wait for it where asked to."""
    end = time.monotonic() + wait
    while True:
        lock = database_lock(store, name)
        try:
            lock.__enter__()
        except BusyError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE_S)
        else:
            break
    with contextlib.ExitStack() as stack:
        stack.push(lock)
        yield


def _ingest(bench: Bench, job: Job) -> dict[str, Any]:
    with contextlib.suppress(StoreError):
        register_clock(bench.store, bench.source)
    before = count_scored(bench.store, job.key)
    with _known_series():
        done = ingest(bench.store, bench.source, job.key)
    updated = {"futures_updated": count_scored(bench.store, job.key) - before}
    return _counts(done) | updated | {"heads": chain_head(bench.store, job.key)}


@contextlib.contextmanager
def _known_series() -> Iterator[None]:
    """Say of a symbol that the market does not have that it is not found."""
    try:
        yield
    except SourceError:
        raise
    except UsageError as error:
        raise NotFoundError(str(error)) from error


def _counts(done: Ingested) -> dict[str, Any]:
    facts = asdict(done)
    facts.pop("key")
    return {"status": "ok"} | facts


def _backfill(bench: Bench, job: Job) -> dict[str, Any]:
    days = int(job.parameters.get("days", 90))
    end = bench.source.now()
    with _known_series():
        done = backfill(bench.store, bench.source, job.key, (end - pd.Timedelta(days=days), end))
    return _counts(done) | {"days": days, "heads": chain_head(bench.store, job.key)}


def _train(bench: Bench, job: Job) -> dict[str, Any]:
    now = bench.source.now()
    jobs = int(job.parameters.get("processes", 2))
    done = train(bench.store, bench.settings, job.key, days=int(job.parameters.get("days", 1095)), now=now, jobs=jobs)
    return training_facts(vars(done))


def training_facts(done: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a training, flat, its figures beside persistence's."""
    own = done["figures"].get(done["champion"], {})
    none = done["figures"].get("persistence", {})
    names = {"mae": "mae_usd", "mape": "mape", "smape": "smape", "rmse": "rmse_usd", "r2": "r2"}
    facts = {name: own.get(metric) for name, metric in names.items()}
    facts |= {f"persistence_{name}": none.get(metric) for name, metric in names.items()}
    verdict = done["verdict"]
    facts |= {"skill": verdict.get("skill"), "dm_p": verdict.get("dm_p"), "verdict": verdict.get("reason")}
    kept = ("artifact", "champion", "judged", "samples", "split_train", "split_total", "validation_start", "snapshot")
    facts |= {name: done[name] for name in kept} | {"heads": done["heads"], "window": list(done["window"])}
    models = {
        name: {key: row.get(key) for key in ("mae_usd", "ratio", "skill")} for name, row in done["figures"].items()
    }
    return {"status": "ok"} | facts | {"models": models, "bytes": done["bytes"]}


def _forecast(bench: Bench, job: Job) -> dict[str, Any]:
    done = seal(bench.store, bench.settings, job.key, bench.served)
    return {"status": "ok"} | done | {"heads": chain_head(bench.store, job.key)}


_DO: dict[str, Callable[[Bench, Job], dict[str, Any]]] = {
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
    return ",".join(value) if isinstance(value, tuple) else str(value)


def spawn(settings: Settings, job_id: int, market: str) -> subprocess.Popen[bytes]:
    """Start a process that does a job.

    Parameters
    ----------
    market
        The market that was decided on: where the source is ``auto``, the process does not decide anew.
    """
    if settings.btcml_source == "auto":
        settings = settings.model_copy(update={"btcml_source": "simulated" if market == "simulated" else "binance"})
    command = [sys.executable, "-m", "btcml.serve.work", str(job_id)]
    return subprocess.Popen(command, env=environment(settings), stdin=subprocess.DEVNULL)  # noqa: S603 - our own module


def main() -> int:
    """Do the job whose number is the first argument; exit status 0 if it went well."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.nice(_POLITE)
    try:
        settings = load_settings()
        store = open_store(settings)
        bench = Bench(settings, store, make_source(settings, settings.btcml_source, store))
        return 0 if perform(bench, int(sys.argv[1])).status == "ok" else 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
