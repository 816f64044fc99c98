"""From parameters to a snapshot: the plan of a report, made once and written to a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import SeriesKey, interval_floor
from btcml.errors import NotFoundError, NotReadyError
from btcml.files import folder_lock, write_text
from btcml.pipeline.ingest import backfill
from btcml.pipeline.publish import read_proof
from btcml.report.build import adopt_bundle, build_report, check_request
from btcml.report.language import ENGLISH, check_language
from btcml.report.manifest import bundle_facts
from btcml.store.snapshots import read_snapshot, record_snapshot, save_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from btcml.market import Source
    from btcml.settings import RunParameters, Settings
    from btcml.store.engine import Store


@dataclass(frozen=True)
class Plan:
    """A run whose market and end are decided.

    Attributes
    ----------
    market, symbol, interval
        The series.
    days
        Length of the span.
    end
        End of the span, exclusive, ISO format in UTC.
    source
        Source that fetches it: ``binance``, ``simulated`` or a path.
    language
        Language of the report.
    """

    market: str
    symbol: str
    interval: str
    days: int
    end: str
    source: str
    language: str = ENGLISH

    @property
    def key(self) -> SeriesKey:
        """Key of the series."""
        return SeriesKey(self.market, self.symbol, self.interval)

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """From, to (exclusive)."""
        end = pd.Timestamp(self.end)
        return end - pd.Timedelta(days=self.days), end

    @property
    def path(self) -> str:
        """Relative path of the run's results: every parameter that changes them is in it.

        Examples
        --------
        >>> Plan("simulated", "BTCUSDT", "5m", 30, "2025-06-30T00:00:00+00:00", "simulated").path
        'simulated/BTCUSDT/5m/30d-2025-06-30T0000'
        """
        name = f"{self.days}d-{pd.Timestamp(self.end):%Y-%m-%dT%H%M}" + f"-{self.language}" * (self.language != ENGLISH)
        return f"{self.market.replace(':', '-')}/{self.symbol}/{self.interval}/{name}"


def plan_story(source: Source, run: RunParameters, language: str = ENGLISH) -> Plan:
    """Make the plan of a run.

    An empty end is the source's own: a file's last candle, the simulated market's documented time,
    or the newest final candle of a live market.

    Raises
    ------
    UsageError
        If no report can be built: too short a span, one that ends in the future, or no such language.
    """
    check_language(language)
    end = source.default_end(run.symbol) if run.end_time is None else pd.Timestamp(run.end_time)
    end = interval_floor(end, run.interval)
    check_request(run.days, run.interval, end, end if run.end_time is None else source.now())
    name = run.source
    if name == "auto":
        name = "simulated" if source.market == "simulated" else "binance"
    return Plan(source.market, run.symbol, run.interval, run.days, end.isoformat(), name, language)


def snapshot_story(
    settings: Settings, store: Store, source: Source, plan: Plan, on_page: Callable[[int, int], None] | None = None
) -> Path:
    """Ingest what a plan needs, and take its snapshot.

    Returns
    -------
    Path
        The snapshot's bundle.

    Raises
    ------
    NotReadyError
        If the market has no candles in the span, or all of them close at one price.
    """
    backfill(store, source, plan.key, plan.span, on_page=on_page)
    record = settings.btcml_publish_dir and read_proof(settings.btcml_publish_dir, plan.key)
    proof = {name: record[name] for name in ("forecasts", "proven")} if record else None
    snapshot = read_snapshot(store, plan.key, *plan.span, getattr(source, "notes", ()), proof)
    close = snapshot.candles["close"]
    if close.min() == close.max():
        msg = f"a report needs a price that moves, found {len(close):,} candles that all close at {close.iloc[0]:g}: "
        msg += "choose another span or source"
        raise NotReadyError(msg)
    record_snapshot(store, snapshot, source.now())
    return save_snapshot(snapshot, settings.home / "snapshots")


def take_snapshot(
    settings: Settings,
    store: Store,
    source: Source,
    plan: Plan,
    out: Path,
    *,
    on_page: Callable[[int, int], None] | None = None,
) -> Path:
    """Ingest what a plan needs, and put its snapshot into the run folder."""
    bundle = snapshot_story(settings, store, source, plan, on_page)
    with folder_lock(out / plan.path):
        return adopt_bundle(out / plan.path, bundle)


def has_snapshot(plan: Plan, out: Path) -> bool:
    """Whether the run folder of a plan holds a snapshot of its series and span."""
    try:
        facts = bundle_facts(out / plan.path / "snapshot")
    except NotFoundError:
        return False
    start, end = plan.span
    wanted = asdict(plan.key) | {"start": start.isoformat(), "end": end.isoformat()}
    return {name: facts[name] for name in wanted} == wanted


def save_plan(plan: Plan, file: Path, out: Path) -> Path:
    """Write a plan as a file that make includes: the run folder, and the plan as a comment."""
    text = f"RUN := {out / plan.path}\n# {json.dumps(asdict(plan), sort_keys=True)}\n"
    return write_text(file, text)


def load_plan(file: Path) -> Plan:
    """Read a plan back.

    Raises
    ------
    NotFoundError
        If there is no plan in the file.
    """
    try:
        comment = file.read_text(encoding="utf-8").splitlines()[1]
        return Plan(**json.loads(comment.removeprefix("# ")))
    except (OSError, IndexError, ValueError, TypeError) as error:
        msg = f"{file} holds no plan: make it again with btcml report --plan {file}"
        raise NotFoundError(msg) from error


def build_story(
    settings: Settings,
    store: Store,
    source: Source,
    plan: Plan,
    out: Path,
    *,
    progress: Callable[[str], None],
    on_page: Callable[[int, int], None] | None = None,
) -> Path:
    """Ingest, take the snapshot and build every page of a plan's report that is not up to date.

    Returns
    -------
    Path
        ``index.html``.
    """
    bundle = snapshot_story(settings, store, source, plan, on_page)
    return build_report(out / plan.path, bundle=bundle, language=plan.language, progress=progress)
