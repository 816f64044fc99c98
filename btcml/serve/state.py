"""What the service holds between requests: database, source, and the newest forecast ready to send."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError
from btcml.pipeline.predict import GRACE, Forecast, Served, check_fresh, load_served, predict_newest
from btcml.pipeline.sources import make_source
from btcml.serve.watch import Watch
from btcml.store.candles import read_series_keys
from btcml.store.forecasts import market_now, read_clock_speed
from btcml.system import end_processes

if TYPE_CHECKING:
    import subprocess

    from btcml.market import Source
    from btcml.settings import Settings
    from btcml.store.engine import Store

__all__ = ["Answer", "Service", "prediction_facts"]

_TABLES = ("candles", "models", "forecasts")


@dataclass(frozen=True)
class Answer:
    """A forecast as bytes, good until something is new or its candle is over.

    Attributes
    ----------
    body
        JSON object without its last brace: the age of the model is added when it is sent.
    trained
        Time of the training on the market's clock, in seconds of the epoch.
    version
        Of the tables behind it.
    """

    body: bytes
    trained: float
    fresh_until: float
    version: tuple[int, ...]
    clock: _Clock


@dataclass(frozen=True)
class _Clock:
    """A market's time from this machine's, in seconds."""

    market: float
    here: float
    speed: float

    def now(self) -> float:
        """Seconds of the market's epoch."""
        return self.market + (time.monotonic() - self.here) * self.speed


class Service:
    """State of one process of the service.

    Parameters
    ----------
    settings
        Frozen settings.
    store
        The database.
    guarded
        Whether changing routes ask for the key.
    """

    def __init__(self, settings: Settings, store: Store, *, guarded: bool = False) -> None:
        self.settings, self.store, self.guarded = settings, store, guarded
        self.watch = Watch(store)
        self._served: dict[SeriesKey, Served] = {}
        self._answers: dict[tuple[str, str | None], Answer] = {}
        self._lock = threading.Lock()
        self.children: set[subprocess.Popen[bytes]] = set()

    @cached_property
    def source(self) -> Source:
        """The market, decided once; asked again only after a failure."""
        return make_source(self.settings, self.settings.btcml_source, self.store)

    def key(self, symbol: str, interval: str | None) -> SeriesKey:
        """Series of a request; an omitted interval is the usual one, or the only one with candles."""
        market = self.source.market
        if interval is None:
            interval = self._usual(market, symbol)
        return SeriesKey(market, symbol, interval)

    def _usual(self, market: str, symbol: str) -> str:
        usual = self.settings.btcml_interval
        known = [key.interval for key in read_series_keys(self.store) if (key.market, key.symbol) == (market, symbol)]
        return known[0] if len(known) == 1 and usual not in known else usual

    def now(self, key: SeriesKey) -> pd.Timestamp:
        """Market's time; a file's is where it ends."""
        return self.source.now() if key.market.startswith("file:") else market_now(self.store, key.market)

    def served(self, key: SeriesKey) -> Served:
        """Training in service, loaded once."""
        with self._lock:
            found = load_served(self.store, self.settings, key, self._served.get(key))
            self._served[key] = found
            return found

    def ready_answer(self, symbol: str, interval: str | None) -> Answer | None:
        """Return the kept answer, where nothing is new and its candle is not over."""
        answer = self._answers.get((symbol, interval))
        if answer is None or not self.watch.alive or answer.version != self.watch.version(*_TABLES):
            return None
        return answer if answer.clock.now() <= answer.fresh_until else None

    def answer(self, symbol: str, interval: str | None) -> Answer:
        """Forecast anew, and keep the answer.

        Raises
        ------
        NotReadyError
            If there are no candles, stale ones, or no training yet.
        """
        version = self.watch.version(*_TABLES)  # before reading: what comes in between makes it old
        key = self.key(symbol, interval)
        forecast = predict_newest(self.store, key, self.served(key))
        now = self.now(key)
        if not key.market.startswith("file:"):
            check_fresh(key, forecast.candle_time, now)
        answer = self._made(forecast, now, version)
        self._answers[symbol, interval] = answer
        return answer

    def _made(self, forecast: Forecast, now: pd.Timestamp, version: tuple[int, ...]) -> Answer:
        key = forecast.key
        still = key.market.startswith("file:")
        speed = 0.0 if still else read_clock_speed(self.store, key.market) or 1.0
        until = forecast.prediction.open_time + (1 + GRACE) * key.delta
        body = json.dumps(prediction_facts(forecast), allow_nan=False).encode()[:-1]
        return Answer(
            body,
            forecast.record.trained_at.timestamp(),
            math.inf if still else until.timestamp(),
            version,
            _Clock(now.timestamp(), time.monotonic(), speed),
        )

    def start(self) -> None:
        """Listen to the database, find the market, and make the usual forecast, so that the first client is fast."""
        self.watch.start()
        for symbol in self.settings.btcml_symbols:
            try:
                self.answer(symbol, None)
            except NotReadyError:
                continue

    def end_jobs(self) -> None:
        """End the jobs that run in processes of their own."""
        end_processes(list(self.children))

    def stop(self) -> None:
        """Stop listening, and end whatever runs."""
        self.end_jobs()
        self.watch.stop()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def prediction_facts(forecast: Forecast) -> dict[str, Any]:
    """Plain values of a forecast, but for the age of its model."""
    made, record, seal = forecast.prediction, forecast.record, forecast.seal
    up = _number(made.prob_up)
    others = [
        {"model": name, "role": "persistence" if name == "persistence" else "challenger", "predicted_close": close}
        for name, close in made.closes.items()
        if name != made.model and math.isfinite(close)
    ]
    return {
        "market": forecast.key.market,
        "symbol": forecast.key.symbol,
        "interval": forecast.key.interval,
        "time": made.open_time.isoformat(),
        "last_time": forecast.candle_time.isoformat(),
        "last_close": made.last_close,
        "predicted_close": made.close,
        "delta": made.close - made.last_close,
        "delta_pct": 100 * (made.close / made.last_close - 1),
        "predicted_open": made.open,
        "predicted_high": made.high,
        "predicted_low": made.low,
        "predicted_amp": made.amp,
        "lo": _number(made.lo),
        "hi": _number(made.hi),
        "interval_level": 0.9,
        "prob_up": up,
        "prob_down": None if up is None else 1 - up,
        "model": made.model,
        "artifact": record.artifact,
        "skill": record.verdict.get("skill"),
        "verdict": record.verdict.get("reason", ""),
        "trained_at": record.trained_at.isoformat(),
        "sealed": seal.sealed,
        "sealed_at": None if seal.made_at is None else seal.made_at.isoformat(),
        "seal_status": seal.status,
        "challengers": others,
    }
