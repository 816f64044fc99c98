"""The service's health in Prometheus' text format: requests as they come, the rest on request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import text

from btcml.forecast.evaluation import seal_lags
from btcml.pipeline.publish import read_proof
from btcml.store.candles import read_last_candles
from btcml.store.forecasts import count_missing, live_scores, read_seal_times
from btcml.store.jobs import count_jobs
from btcml.store.models import read_champion

if TYPE_CHECKING:
    from pathlib import Path

    from btcml.candles import SeriesKey
    from btcml.serve.service import Service


_requests = CollectorRegistry()
_seen = Counter("btcml_requests", "Requests by route and status.", ["method", "route", "status"], registry=_requests)
_took = Histogram(
    "btcml_request_seconds",
    "Time to answer, by route.",
    ["route"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60),
    registry=_requests,
)
_DAY = pd.Timedelta(days=1)
_SERIES = ["market", "symbol", "interval"]
SERIES_FIGURES = {
    "candle_age_seconds": "Time since the newest candle closed.",
    "model_age_seconds": "Time since the champion was trained.",
    "walk_forward_skill": "Share of the error of no change that the champion avoids, in its walk-forward.",
    "edge_slope_per_year": "Change of that share in a year, by its trend over the days of the walk-forward.",
    "edge_now": "That share at the end of the trend.",
    "edge_lasts": "Whether the trend stays above 0 for a year at the lower end of its 95 % interval.",
    "forecasts_scored": "Sealed forecasts whose outcome is known.",
    "forecasts_missed": "Candles since the first sealed forecast that have none.",
    "live_skill": "Share of the error of no change that the sealed forecasts avoid.",
    "live_coverage": "Share of the closes inside the sealed intervals.",
    "proven_in_time": "Share of the published forecasts that a time stamp proves to be older than their candle's end.",
    "stamps_waiting": "Published checkpoints that wait for their time stamp.",
    "seal_lag_p50_seconds": "Time from a close until the next forecast was sealed: half of the last day's are shorter.",
    "seal_lag_p99_seconds": "The same: 99 of 100 are shorter.",
}
"""What is known of each series, by name."""


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request."""
    _seen.labels(method, route, status).inc()
    _took.labels(route).observe(seconds)


def exposition(service: Service) -> tuple[bytes, str]:
    """All figures as text, and their media type."""
    registry = CollectorRegistry()
    jobs = Gauge("btcml_jobs", "Jobs of the log by kind and status.", ["kind", "status"], registry=registry)
    for (kind, status), number in count_jobs(service.store).items():
        jobs.labels(kind, status).set(number)
    bans = Gauge("btcml_bans", "Hosts of the exchange that ban this address now.", registry=registry)
    with service.store.engine.connect() as connection:
        bans.set(int(connection.scalar(text("SELECT count(*) FROM bans WHERE until > now()")) or 0))
    _add_series(service, registry)
    return generate_latest(_requests) + generate_latest(registry), CONTENT_TYPE_LATEST


def _add_series(service: Service, registry: CollectorRegistry) -> None:
    """One gauge per figure, with one sample per series."""
    gauges = {name: Gauge(f"btcml_{name}", words, _SERIES, registry=registry) for name, words in SERIES_FIGURES.items()}
    for symbol in service.settings.btcml_symbols:
        key = service.key(symbol, None)
        for name, value in _series_figures(service, key).items():
            gauges[name].labels(key.market, key.symbol, key.interval).set(value)


def _series_figures(service: Service, key: SeriesKey) -> dict[str, float]:
    now = service.now(key)
    figures = live_figures(service, key)
    sealed = read_seal_times(service.store, key, now - _DAY, now + key.delta)
    figures |= {f"seal_lag_{name}_seconds": lag for name, lag in seal_lags(sealed).items()}
    figures |= _proof_figures(service.settings.btcml_publish_dir, key)
    newest, champion = read_last_candles(service.store, key, 1), read_champion(service.store, key)
    if len(newest):
        age = now - newest["open_time"].iloc[-1] - key.delta
        figures["candle_age_seconds"] = age.total_seconds()
    if champion is not None:
        figures["model_age_seconds"] = (now - champion.trained_at).total_seconds()
        figures["walk_forward_skill"] = float(champion.verdict.get("skill") or 0.0)
        edge = champion.verdict.get("edge", {})
        known = [name for name in ("slope_per_year", "now", "lasts") if edge.get(name) is not None]
        figures |= {f"edge_{name}": float(edge[name]) for name in known}
    return figures


def _proof_figures(root: Path | None, key: SeriesKey) -> dict[str, float]:
    """What a time-stamp authority proves of the published record; nothing where there is none."""
    proof = read_proof(root, key) if root else None
    if not proof:
        return {}
    return {"proven_in_time": proof["proven"] / max(proof["forecasts"], 1), "stamps_waiting": proof["waiting"]}


def live_figures(service: Service, key: SeriesKey) -> dict[str, float]:
    """Skill and coverage of the sealed forecasts so far; without those that have no outcome yet."""
    scores = live_scores(service.store, key)
    counts = {"forecasts_scored": scores["rows"], "forecasts_missed": float(count_missing(service.store, key))}
    if not scores["rows"]:
        return counts
    return counts | {"live_skill": 1 - scores.get("ratio", 1.0), "live_coverage": scores.get("coverage", math.nan)}
