"""Doctor: look at everything that can be wrong, and say of each what to do."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from btcml.candles import SeriesKey
from btcml.errors import BtcmlError
from btcml.market import utc_now
from btcml.market.binance import BinanceMarket
from btcml.pipeline.predict import load_served
from btcml.settings import duration
from btcml.store.candles import BanLedger, check_contract, read_last_candles
from btcml.store.chain import chain_head, chain_keys, verify_chain
from btcml.store.engine import Store, head_revision, open_store
from btcml.store.forecasts import market_now
from btcml.store.jobs import read_jobs
from btcml.store.models import read_champion

if TYPE_CHECKING:
    from collections.abc import Callable

    from btcml.settings import Settings

__all__ = ["Finding", "examine", "examine_scheduler", "render", "summarize"]

_DISK_BAD, _DISK_LOW = 1 << 29, 1 << 31
_CLOCK_S = 5.0
_STALE_CANDLES = 3
_MODEL_DAYS = 2
_LOG_BYTES = 100 << 20

Status = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What was looked at.
    status
        ``ok``, ``warn`` (works, but look) or ``bad`` (does not work).
    found
        What was found, in words.
    cure
        What to do; empty where all is well.
    """

    name: str
    status: Status
    found: str
    cure: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at disk, database, exchange, clocks, data, models and the chains of forecasts.

    Never raises for what it finds: a part that cannot be examined is a finding itself.
    """
    findings = [_disk(settings)]
    try:
        store = open_store(settings)
    except BtcmlError as error:
        cure = "unset DATABASE_URL for the embedded database, or start the server and correct the address"
        return [*findings, Finding("database", "bad", str(error), cure), *_exchange(settings, None)]
    looks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("database", lambda: _database(settings, store)),
        ("exchange", lambda: _exchange(settings, store)),
        ("contract", lambda: _contract(store)),
        ("forecasts", lambda: _chains(store)),
        ("jobs", lambda: _jobs(store)),
        *((str(key), lambda key=key: _series(settings, store, key)) for key in _watched(settings, store)),
    ]
    try:
        return findings + [finding for name, look in looks for finding in _examined(name, look)]
    finally:
        store.close()


def _examined(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except (BtcmlError, SQLAlchemyError, OSError, ValueError) as error:
        return [
            Finding(name, "bad", " ".join(str(error).split())[:300], "read the sentence, then run btcml doctor again")
        ]


def render(findings: list[Finding]) -> str:
    """One page for people: a line a finding, and the cure below it."""
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
    status: Status = "bad" if free < _DISK_BAD else "warn" if free < _DISK_LOW else "ok"
    cure = "" if status == "ok" else f"make room on the disk of {folder}, or set BTCML_HOME to a larger one"
    return Finding("disk", status, f"{free / 2**30:.1f} GiB free for {settings.home}", cure)


def _database(settings: Settings, store: Store) -> list[Finding]:
    kind = "embedded" if settings.database_url is None else f"server {store.url.host}"
    with store.engine.connect() as connection:
        version = connection.scalar(text("SHOW server_version"))
        size = int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        clock = pd.Timestamp(connection.scalar(text("SELECT clock_timestamp()")))
    found = f"{kind}, PostgreSQL {version}, schema {head_revision()}, {size / 2**20:.0f} MiB"
    findings = [Finding("database", "ok", found), _clock("database clock", clock, "this machine")]
    log = settings.home / "postgres" / "log"
    if settings.database_url is None and log.exists() and log.stat().st_size > _LOG_BYTES:
        cure = f"stop btcml and delete {log}: the server begins a new one"
        findings.append(Finding("database log", "warn", f"{log.stat().st_size / 2**20:.0f} MiB", cure))
    return findings


def _clock(name: str, time: pd.Timestamp, against: str) -> Finding:
    apart = (time - utc_now()).total_seconds()
    found = f"{abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} {against}"
    fine = abs(apart) <= _CLOCK_S
    return Finding(
        name, "ok" if fine else "bad", found, "" if fine else "switch on time synchronisation (NTP) on both machines"
    )


def _exchange(settings: Settings, store: Store | None) -> list[Finding]:
    if settings.btcml_source not in {"auto", "binance"}:
        return [Finding("exchange", "ok", f"not asked: the source is {settings.btcml_source}")]
    market = BinanceMarket(settings.btcml_binance_urls, bans=None if store is None else BanLedger(store))
    try:
        if market.reachable():
            return [Finding("exchange", "ok", f"{market.market} answers"), _exchange_clock(market)]
    except BtcmlError as error:
        return [Finding("exchange", "bad", str(error), "wait for the end of the ban: nothing is asked before it")]
    needed = settings.btcml_source == "binance"
    cure = "check the network, or set BTCML_BINANCE_URLS; BTCML_SOURCE=simulated works without the exchange"
    found = f"none of {', '.join(settings.btcml_binance_urls)} answers"
    return [Finding("exchange", "bad" if needed else "warn", found, cure)]


def _exchange_clock(market: BinanceMarket) -> Finding:
    if market.market.startswith("replay:"):
        return Finding("exchange clock", "ok", f"{market.now():%Y-%m-%d %H:%M} UTC, a replay's own")
    return _clock("exchange clock", market.now(), "this machine")


def _contract(store: Store) -> list[Finding]:
    broken = int(check_contract(store)["broken"].sum())
    cure = "run btcml ingest --audit --days 5000, which reads all candles again" if broken else ""
    return [Finding("data contract", "bad" if broken else "ok", f"{broken} stored candles break a rule", cure)]


def _chains(store: Store) -> list[Finding]:
    keys = chain_keys(store)
    if not keys:
        return [Finding("forecasts", "ok", "no forecast has been sealed yet")]
    return [_chain(store, key) for key in keys]


def _chain(store: Store, key: SeriesKey) -> Finding:
    gap = verify_chain(store, key)
    if gap is None:
        return Finding("forecasts", "ok", f"the chain of {key} is whole: {chain_head(store, key)['seq']} rows")
    cure = "somebody changed sealed rows: restore the newest backup whose chain is whole (btcml db restore)"
    return Finding("forecasts", "bad", f"the chain of {key} breaks at {gap.seq}: {gap.reason}", cure)


def _jobs(store: Store) -> list[Finding]:
    done = read_jobs(store, limit=20)
    failed = [job for job in done if job.status in {"error", "abandoned"}]
    if not failed:
        return [Finding("jobs", "ok", f"none of the last {len(done)} failed")]
    last = failed[0]
    found = f"{len(failed)} of the last {len(done)} failed; job {last.id}, {last.kind}: {last.error}"
    return [Finding("jobs", "warn", found, "read GET /jobs, cure what the sentence names; the scheduler tries again")]


def examine_scheduler(settings: Settings) -> Finding:
    """Whether a scheduler has worked within three of its own pauses, or is at work now."""
    try:
        store = open_store(settings)
        with store.engine.connect() as connection:
            row = connection.execute(text(_LAST_WORK)).one()
        store.close()
    except (BtcmlError, SQLAlchemyError) as error:
        return Finding("scheduler", "bad", " ".join(str(error).split())[:300], "start the database, then the scheduler")
    patience = max(_PAUSES * pd.Timedelta(duration(settings.btcml_ingest_every)), _LEAST_PATIENCE)
    if row.running or (row.age is not None and pd.Timedelta(row.age) <= patience):
        return Finding("scheduler", "ok", "at work" if row.running else f"worked {_age(pd.Timedelta(row.age))} ago")
    found = "has never worked" if row.age is None else f"last worked {_age(pd.Timedelta(row.age))} ago"
    return Finding("scheduler", "bad", found, "look at its log, then start it again: btcml schedule")


_PAUSES, _LEAST_PATIENCE = 3, pd.Timedelta(minutes=3)
_LAST_WORK = """SELECT coalesce(bool_or(status = 'running'), false) AS running,
clock_timestamp() - max(coalesce(finished_at, started_at, created_at)) AS age FROM jobs WHERE asked_by = 'scheduler'"""


def _watched(settings: Settings, store: Store) -> list[SeriesKey]:
    """Series that the settings name: of every market that has candles of them, else of the usual one."""
    query = "SELECT DISTINCT market FROM candles WHERE symbol = :symbol AND interval = :interval ORDER BY 1"
    keys = []
    for symbol in settings.btcml_symbols:
        values = {"symbol": symbol, "interval": settings.btcml_interval}
        with store.engine.connect() as connection:
            markets = list(connection.execute(text(query), values).scalars())
        usual = "simulated" if settings.btcml_source == "simulated" else "binance"
        keys += [SeriesKey(market, symbol, settings.btcml_interval) for market in markets or [usual]]
    return keys


def _series(settings: Settings, store: Store, key: SeriesKey) -> list[Finding]:
    newest = read_last_candles(store, key, 1)
    if newest.empty:
        return [Finding(f"data {key}", "warn", "no candles yet", "run btcml ingest, or start the scheduler: make up")]
    end = newest["open_time"].iloc[-1] + key.delta
    now = end if key.market.startswith("file:") else market_now(store, key.market)
    late = (now - end) / key.delta
    stale = late > _STALE_CANDLES
    found = f"newest candle closed {_age(now - end)} ago"
    cure = "run btcml ingest, or start the scheduler: make up" if stale else ""
    return [Finding(f"data {key}", "warn" if stale else "ok", found, cure), _model(settings, store, key, now)]


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
    return Finding(
        name, "warn" if old else "ok", found, "run btcml train, or start the scheduler: make up" if old else ""
    )


def _age(span: pd.Timedelta) -> str:
    """A span in the unit that people would use.

    Examples
    --------
    >>> _age(pd.Timedelta(minutes=7)), _age(pd.Timedelta(days=3))
    ('7 minutes', '3 days')
    """
    for unit, name in (
        (pd.Timedelta(days=1), "days"),
        (pd.Timedelta(hours=1), "hours"),
        (pd.Timedelta(minutes=1), "minutes"),
    ):
        if span >= 2 * unit:
            return f"{span / unit:.0f} {name}"
    return f"{max(span.total_seconds(), 0):.0f} s"
