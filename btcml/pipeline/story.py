"""From parameters to a snapshot: what a report is about, decided once and written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import SeriesKey, interval_floor
from btcml.pipeline.ingest import backfill
from btcml.store.snapshots import read_snapshot, record_snapshot, save_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from btcml.market.source import Source
    from btcml.settings import RunParameters, Settings
    from btcml.store.engine import Store

__all__ = ["Plan", "plan_story", "snapshot_story"]


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
    """

    market: str
    symbol: str
    interval: str
    days: int
    end: str
    source: str

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
        end = pd.Timestamp(self.end)
        return f"{self.market.replace(':', '-')}/{self.symbol}/{self.interval}/{self.days}d-{end:%Y-%m-%dT%H%M}"

    def to_dict(self) -> dict[str, str | int]:
        """Plain values, as they stand in a file."""
        return asdict(self)


def plan_story(source: Source, run: RunParameters) -> Plan:
    """Decide what a run is about.

    An empty end is the source's own: a file's last candle, the simulated market's documented time,
    or the newest final candle of a live market.
    """
    end = source.default_end(run.symbol) if run.end_time is None else pd.Timestamp(run.end_time)
    end = interval_floor(end, run.interval)
    name = source.market if source.market in {"simulated"} else run.source
    name = "binance" if name == "auto" else name
    return Plan(source.market, run.symbol, run.interval, run.days, end.isoformat(), name)


def snapshot_story(
    settings: Settings, store: Store, source: Source, plan: Plan, on_page: Callable[[int, int], None] | None = None
) -> Path:
    """Ingest what a plan needs, and freeze it.

    Returns
    -------
    Path
        The snapshot's bundle.

    Raises
    ------
    NotReadyError
        If the market has no candles in the span.
    """
    backfill(store, source, plan.symbol, plan.interval, plan.span, on_page=on_page)
    snapshot = read_snapshot(store, plan.key, *plan.span)
    record_snapshot(store, snapshot, source.now())
    return save_snapshot(snapshot, settings.home / "snapshots")
