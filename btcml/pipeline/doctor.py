"""Checks of the whole installation, each with advice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from sqlalchemy.exc import SQLAlchemyError

from btcml.candles import SeriesKey
from btcml.errors import BtcmlError, StoreError
from btcml.market import utc_now
from btcml.market.binance import BinanceMarket
from btcml.pipeline.clock import check_clock
from btcml.pipeline.predict import load_served
from btcml.pipeline.progress import Standstill, is_worked_on, read_progress
from btcml.pipeline.publish import read_proof
from btcml.settings import duration
from btcml.store.candles import BanLedger, check_contract, read_series_keys
from btcml.store.chain import chain_head, chain_keys, restated_outcomes, seal_faults, verify_chain
from btcml.store.engine import Store, head_revision, open_store
from btcml.store.forecasts import market_now, read_clock_speed
from btcml.store.jobs import count_audits, read_jobs
from btcml.store.models import read_champion
from btcml.system import public_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from btcml.settings import Settings


_DISK_BAD, _DISK_LOW = 1 << 29, 1 << 31
_CLOCK_S = 5.0
_MODEL_DAYS = 2
_LOG_BYTES = 100 << 20

Status = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes
    ----------
    name
        What was checked.
    status
        ``ok``, ``warn`` (works, but look) or ``bad`` (does not work).
    found
        The result as text.
    cure
        What to do; empty where nothing is wrong.
    """

    name: str
    status: Status
    found: str
    cure: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Check disk, database, exchange, clocks, data, models and the chains of forecasts.

    Never raises for a finding: a part that cannot be examined is a finding itself.
    """
    try:
        store = open_store(settings)
    except BtcmlError as error:
        cure = "unset DATABASE_URL for the embedded database, or start the server and correct the address"
        return [_disk(settings), Finding("database", "bad", str(error), cure), *_exchange(settings, None)]
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("database", lambda: _database(settings, store)),
        ("exchange", lambda: _exchange(settings, store)),
        ("contract", lambda: [_contract(store)]),
        ("seal", lambda: [_seal(store)]),
        ("forecasts", lambda: _chains(store)),
        ("record", lambda: _record(settings, store)),
        ("jobs", lambda: [_jobs(store)]),
        *((str(key), lambda key=key: _series(settings, store, key)) for key in _watched(settings, store)),
    ]
    try:
        return [_disk(settings)] + [finding for name, check in checks for finding in _checked(name, check)]
    finally:
        store.close()


def _checked(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except (BtcmlError, SQLAlchemyError, OSError, ValueError) as error:
        cure = "see the message, then run btcml doctor again"
        return [Finding(name, "bad", " ".join(str(error).split())[:300], cure)]


def _found(name: str, wrong: object, found: str, cure: str, otherwise: Status = "warn") -> Finding:
    """Finding that is ok unless something is `wrong`."""
    return Finding(name, otherwise, found, cure) if wrong else Finding(name, "ok", found)


def render(findings: list[Finding]) -> str:
    """Text for a terminal: a line per finding, and what to do below it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<4}  {finding.name:<{width}}  {finding.found}")
        if finding.cure:
            lines.append(f"{'':<4}  {'':<{width}}  -> {finding.cure}")
    return "\n".join(lines)


def summarize(findings: list[Finding]) -> dict[str, Any]:
    """Status, counts and findings as plain values, for programs."""
    counts = {status: sum(finding.status == status for finding in findings) for status in ("bad", "warn")}
    status = "bad" if counts["bad"] else "ok"
    rows = [vars(finding) for finding in findings]
    return {"status": status, "bad": counts["bad"], "warnings": counts["warn"], "findings": rows}


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    cure = f"make room on the disk of {folder}, or set BTCML_HOME to a larger one"
    found = f"{free / 2**30:.1f} GiB free for {settings.home}"
    return _found("disk", free < _DISK_LOW, found, cure, "bad" if free < _DISK_BAD else "warn")


def _database(settings: Settings, store: Store) -> list[Finding]:
    kind = "embedded" if settings.database_url is None else f"server {store.url.host}"
    query = "SELECT current_setting('server_version'), pg_database_size(current_database()), clock_timestamp()"
    ((version, size, clock),) = store.fetch(query)
    found = f"{kind}, PostgreSQL {version}, schema {head_revision()}, {size / 2**20:.0f} MiB"
    findings = [Finding("database", "ok", found), _clock("database clock", pd.Timestamp(clock), "this machine")]
    log = settings.home / "postgres" / "log"
    if settings.database_url is None and log.exists() and log.stat().st_size > _LOG_BYTES:
        cure = f"stop btcml and delete {log}: the server begins a new one"
        findings.append(Finding("database log", "warn", f"{log.stat().st_size / 2**20:.0f} MiB", cure))
    return findings


def _clock(name: str, time: pd.Timestamp, against: str) -> Finding:
    offset = (time - utc_now()).total_seconds()
    found = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} {against}"
    return _found(name, abs(offset) > _CLOCK_S, found, "switch on time synchronisation (NTP) on both machines", "bad")


def _exchange(settings: Settings, store: Store | None) -> list[Finding]:
    if settings.btcml_source not in {"auto", "binance"}:
        return [Finding("exchange", "ok", f"not asked: the source is {settings.btcml_source}")]
    market = BinanceMarket(settings.btcml_binance_urls, bans=None if store is None else BanLedger(store))
    try:
        answers = market.reachable()
    except BtcmlError as error:
        return [Finding("exchange", "bad", str(error), "wait for the end of the ban: no request is sent before it")]
    if not answers:
        cure = "check the network, or set BTCML_BINANCE_URLS; BTCML_SOURCE=simulated works without the exchange"
        found = f"none of {', '.join(map(public_url, settings.btcml_binance_urls))} answers"
        return [Finding("exchange", "bad" if settings.btcml_source == "binance" else "warn", found, cure)]
    if market.market.startswith("replay:"):
        clock = _replay_clock(store, market)
    else:
        clock = _clock("exchange clock", market.now(), "this machine")
    return [Finding("exchange", "ok", f"{market.market} answers"), clock]


def _replay_clock(store: Store | None, market: BinanceMarket) -> Finding:
    try:
        known = None if store is None else read_clock_speed(store, market.market)
        now = market.now() if store is None or known is None else check_clock(store, market)
    except StoreError as error:
        found, _, cure = str(error).partition(": ")
        return Finding("exchange clock", "bad", found, cure)
    return Finding("exchange clock", "ok", f"{now:%Y-%m-%d %H:%M} UTC, a replay's own")


def _contract(store: Store) -> Finding:
    broken = int(check_contract(store)["broken"].sum())
    cure = "run btcml ingest --audit --days 5000, which reads all candles again"
    return _found("data contract", broken, f"{broken} stored candles break a rule", cure, "bad")


def _seal(store: Store) -> Finding:
    faults = seal_faults(store)
    cure = "restore the newest backup that btcml db verify-forecasts finds intact (btcml db restore)"
    found = "; ".join(faults) or "triggers, functions and clocks are as expected"
    return _found("seal", faults, found, cure, "bad")


def _chains(store: Store) -> list[Finding]:
    cure = "sealed rows were changed: restore the newest backup whose chain is intact (btcml db restore)"
    findings = []
    for key in chain_keys(store):
        gap = verify_chain(store, key)
        state = str(gap) if gap else f"is intact: {chain_head(store, key)['seq']} rows"
        findings.append(_found("forecasts", gap, f"the chain of {key} {state}", cure, "bad"))
        if restated := restated_outcomes(store, key):
            found = f"{len(restated)} outcomes of {key} were restated after they were sealed"
            findings.append(Finding("forecasts", "warn", found, "btcml db verify-forecasts lists them: compare them"))
    return findings or [Finding("forecasts", "ok", "no forecast has been sealed yet")]


def _record(settings: Settings, store: Store) -> list[Finding]:
    """Keys that others can read, how much of each record is proven in time, and what waits for the authority."""
    keys = [path for name in ("record.key", "witness.key") if (path := settings.home / name).exists()]
    cure = "chmod 600 {}; with a new key, if somebody may have copied it, go on as docs/how-to/publish.md says"
    findings = [Finding("record", "warn", f"other users can read {path}, which signs in your name", cure.format(path))
                for path in keys if path.stat().st_mode & 0o077]  # fmt: skip
    root = settings.btcml_publish_dir
    for key in chain_keys(store):
        proof = read_proof(root, key) if root else None
        if not proof:
            continue
        waiting = proof["waiting"] if settings.btcml_tsa_url else 0
        found = f"{proof['proven']} of {proof['forecasts']} published forecasts of {key} are proven in time"
        found += f", {waiting} checkpoints wait for their stamp" if waiting else ""
        cure = 'look for "stamping failed" in the log of the scheduler: the authority is asked again every ten seconds'
        findings.append(_found("record", waiting > _WAITING, found, cure))
    return findings


_WAITING = 4
"""Checkpoints that wait in normal operation: the newest of both logs, and those of the candle before."""


def _jobs(store: Store) -> Finding:
    done = read_jobs(store, limit=20)
    failed = [job for job in done if job.status in {"error", "abandoned"}]
    if not failed:
        return Finding("jobs", "ok", f"none of the last {len(done)} failed")
    last = failed[0]
    found = f"{len(failed)} of the last {len(done)} failed; job {last.id}, {last.kind}: {last.error}"
    return Finding("jobs", "warn", found, "read GET /jobs, fix the cause; the scheduler tries again")


def examine_scheduler(settings: Settings) -> Finding:
    """Open the database for `scheduler_finding`."""
    try:
        store = open_store(settings)
        finding = scheduler_finding(settings, store)
        store.close()
    except (BtcmlError, SQLAlchemyError) as error:
        return Finding("scheduler", "bad", " ".join(str(error).split())[:300], "start the database, then the scheduler")
    return finding


def scheduler_finding(settings: Settings, store: Store) -> Finding:
    """Whether a scheduler has run within three of its own pauses, or is at work now."""
    jobs = read_jobs(store, statuses=["running"])
    if any(job.asked_by == "scheduler" and is_worked_on(store, job) for job in jobs):
        return Finding("scheduler", "ok", "running")
    since = store.scalar(_LAST_WORK)
    age = None if since is None else pd.Timedelta(since)
    limit = max(_PAUSES * pd.Timedelta(duration(settings.btcml_ingest_every)), _MIN_LIMIT)
    found = "has never run" if age is None else f"ran {_age(age)} ago"
    cure = "look at its log, then start it again: btcml schedule"
    return _found("scheduler", age is None or age > limit, found, cure, "bad")


_PAUSES, _MIN_LIMIT = 3, pd.Timedelta(minutes=3)
_LAST_WORK = """SELECT clock_timestamp() - max(coalesce(finished_at, started_at, created_at)) AS age
FROM (SELECT * FROM jobs ORDER BY id DESC LIMIT 5000) newest WHERE asked_by = 'scheduler'"""


def _watched(settings: Settings, store: Store) -> list[SeriesKey]:
    """Series that the settings name: of every market that has candles of them, else of the usual one."""
    usual = "simulated" if settings.btcml_source == "simulated" else "binance"
    interval, known = settings.btcml_interval, read_series_keys(store)
    keys = []
    for symbol in settings.btcml_symbols:
        found = [key for key in known if (key.symbol, key.interval) == (symbol, interval)]
        keys += found or [SeriesKey(usual, symbol, interval)]
    return keys


def _series(settings: Settings, store: Store, key: SeriesKey) -> list[Finding]:
    time = market_now(store, key.market)
    progress, is_file = read_progress(store, key, time), key.market.startswith("file:")
    if progress.until is None:
        return [Finding(f"data {key}", "warn", "no candles yet", "run btcml ingest, or start the scheduler: make up")]
    now = progress.until if is_file else time
    cure = progress.missing.cure if progress.missing else ""
    found = f"newest candle closed {_age(now - progress.until)} ago"
    findings = [_found(f"data {key}", progress.missing, found, cure), _model(settings, store, key, now)]
    if is_file:
        return findings
    findings += _progress(key, progress.warnings)
    return [*findings, _audits(store, key)] if key.market.startswith(("binance", "replay:")) else findings


def _progress(key: SeriesKey, warnings: list[Standstill]) -> list[Finding]:
    name = f"progress {key}"
    findings = [Finding(name, "warn", still.found, still.cure) for still in warnings]
    return findings or [Finding(name, "ok", "ingests, forecasts and trainings go on")]


def _audits(store: Store, key: SeriesKey) -> Finding:
    audits, revised = count_audits(store, key)
    found = f"{audits} audits of older candles in 31 days, which found {revised} restated"
    cure = "models and reports made before have the old values (kept as revisions): train and report again"
    return _found(f"history {key}", revised, found, cure)


def _model(settings: Settings, store: Store, key: SeriesKey, now: pd.Timestamp) -> Finding:
    name, champion = f"model {key}", read_champion(store, key)
    if champion is None:
        return Finding(name, "warn", "nothing has been trained yet", f"run btcml train --symbol {key.symbol}")
    try:
        load_served(store, settings, key)
    except BtcmlError as error:
        return Finding(name, "bad", str(error), "run btcml train, or restore the models' folder from a backup")
    age = now - champion.trained_at
    old = age > pd.Timedelta(days=_MODEL_DAYS) and not key.market.startswith("file:")
    found = f"{champion.name} serves, trained {_age(age)} ago: {champion.verdict.get('reason', '')}"
    return _found(name, old, found, "run btcml train, or start the scheduler: make up")


def _age(span: pd.Timedelta) -> str:
    """A span in a readable unit.

    Examples
    --------
    >>> _age(pd.Timedelta(minutes=7)), _age(pd.Timedelta(days=3))
    ('7 minutes', '3 days')
    """
    for unit in ("days", "hours", "minutes"):
        count = span / pd.Timedelta(1, unit)
        if count >= 2:  # noqa: PLR2004 - below two, the smaller unit is more precise
            return f"{count:.0f} {unit}"
    return f"{max(span.total_seconds(), 0):.0f} s"
