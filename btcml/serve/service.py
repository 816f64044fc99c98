"""What the service keeps between requests: database, market, and the newest forecast as bytes.

A listener is notified by the database which tables have changed, so that a cached forecast is used only while
it is current.
"""

from __future__ import annotations

import json
import logging
import math
import select
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError, StoreError
from btcml.pipeline.doctor import scheduler_finding
from btcml.pipeline.predict import Forecast, Served, load_served, predict_newest
from btcml.pipeline.progress import GRACE, check_fresh
from btcml.pipeline.sources import shared_source
from btcml.serve.job_queue import JobQueue
from btcml.store.candles import read_series_keys
from btcml.store.forecasts import market_now, read_clock_speed

if TYPE_CHECKING:
    from btcml.market import Source
    from btcml.settings import Settings
    from btcml.store.engine import Store


_log = logging.getLogger("btcml.serve")
_RECONNECT_S = 1.0
SHOWN = ("candles", "models", "forecasts", "imported_forecasts", "market_choice")
"""Tables from which responses are made: a change of one makes what is kept old."""

_OLDER_NAMES = {"predicted_next_close": "predicted_close", "model_version": "artifact", "last_ts": "last_time"}
_SCHEDULER_EVERY_S = 5.0


class ChangeListener:
    """A thread that listens to the notifications of the database and counts them by table.

    Parameters
    ----------
    store
        The database.
    settings
        Frozen settings.

    Attributes
    ----------
    alive
        Whether it is connected; while it is not, no cache may be used.
    scheduler
        Whether a scheduler was at work a few seconds ago.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings, url = store, settings, store.engine.url
        self._where = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
        self._stop = threading.Event()
        self._changes: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="btcml-changes", daemon=True)
        self.alive = self.scheduler = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stop.set()
        self._thread.join(timeout=5)

    def version(self, *tables: str) -> tuple[int, ...]:
        """Return a value that changes when any of the tables does."""
        return (self._changes.get("", 0), *(self._changes.get(table, 0) for table in tables))

    def touch(self, table: str = "") -> None:
        """Count a change; without a table, of everything."""
        self._changes[table] = self._changes.get(table, 0) + 1

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (psycopg2.Error, StoreError, SQLAlchemyError) as error:
                _log.warning("no connection to the database: %s", str(error).strip())
            self.alive = self.scheduler = False
            self.touch()
            if not self._stop.wait(_RECONNECT_S):
                self._revive()

    def _revive(self) -> None:
        """Restart an embedded server that has died."""
        try:
            self._store.restart_server()
        except StoreError as error:
            _log.warning("the database does not start: %s", error)

    def _listen(self) -> None:
        connection = psycopg2.connect(**self._where)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("LISTEN btcml")
            self.touch()  # changes may have been missed before
            self.alive = True
            look = 0.0
            while not self._stop.is_set():
                if time.monotonic() >= look:
                    look = time.monotonic() + _SCHEDULER_EVERY_S
                    self.scheduler = scheduler_finding(self._settings, self._store).status == "ok"
                if select.select([connection], [], [], 0.5)[0]:
                    connection.poll()
                    while connection.notifies:
                        self.touch(connection.notifies.pop(0).payload)
        finally:
            connection.close()


@dataclass(frozen=True)
class CachedForecast:
    """A forecast as bytes, valid until a table changes or its candle is over.

    Attributes
    ----------
    bodies
        JSON objects by horizon, each without its last brace: the age of the model is added when it is sent.
    forecast
        The forecast itself.
    trained
        Time of the training on the market's clock, in seconds of the epoch.
    version
        Of the tables behind it.
    """

    bodies: dict[int, bytes]
    forecast: Forecast
    trained: float
    fresh_until: float
    version: tuple[int, ...]
    clock: _Clock


def _body(forecast: Forecast, now: pd.Timestamp) -> bytes:
    facts = forecast.to_dict()
    facts |= {name: facts[ours] for name, ours in _OLDER_NAMES.items()} | {"predicted_at": now.isoformat()}
    return json.dumps(facts, allow_nan=False).encode()[:-1]


@dataclass(frozen=True)
class _Clock:
    """The time of a market, computed from the clock of this machine, in seconds."""

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
    key_required
        Whether changing routes require the key.
    """

    def __init__(self, settings: Settings, store: Store, *, key_required: bool = False) -> None:
        self.settings, self.store, self.key_required = settings, store, key_required
        self.changes = ChangeListener(store, settings)
        self._served: dict[SeriesKey, Served] = {}
        self._forecasts: dict[tuple[str, str | None], CachedForecast] = {}
        self._source: tuple[tuple[int, ...], Source] | None = None
        self._lock = threading.Lock()
        self.queue = JobQueue(self)

    @property
    def source(self) -> Source:
        """The market; where the scheduler finds another one for the source ``auto``, that one."""
        version = self.changes.version("market_choice") if self.settings.btcml_source == "auto" else ()
        if self._source is None or self._source[0] != version:
            self._source = version, shared_source(self.settings, self.store)
        return self._source[1]

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

    def cached_forecast(self, symbol: str, interval: str | None) -> CachedForecast | None:
        """Return the cached forecast, where nothing has changed and its candle is not over."""
        answer = self._forecasts.get((symbol, interval))
        if answer is None or not self.changes.alive or answer.version != self.changes.version(*SHOWN):
            return None
        return answer if answer.clock.now() <= answer.fresh_until else None

    def new_forecast(self, symbol: str, interval: str | None) -> CachedForecast:
        """Forecast, and cache the response.

        Raises
        ------
        NotReadyError
            If there are no candles, stale ones, or no training yet.
        """
        version = self.changes.version(*SHOWN)  # before reading: a change in between makes the cache old
        key = self.key(symbol, interval)
        forecast = predict_newest(self.store, key, self.served(key))
        now = self.now(key)
        check_fresh(self.store, key, forecast.candle_time, now)
        answer = self._made(forecast, now, version)
        self._forecasts[symbol, interval] = answer
        return answer

    def _made(self, forecast: Forecast, now: pd.Timestamp, version: tuple[int, ...]) -> CachedForecast:
        key = forecast.key
        still = key.market.startswith("file:")
        speed = 0.0 if still else read_clock_speed(self.store, key.market) or 1.0
        until = forecast.prediction.open_time + (1 + GRACE) * key.delta
        return CachedForecast(
            {horizon: _body(one, now) for horizon, one in forecast.family.items()},
            forecast,
            forecast.record.trained_at.timestamp(),
            math.inf if still else until.timestamp(),
            version,
            _Clock(now.timestamp(), time.monotonic(), speed),
        )

    def start(self) -> None:
        """Connect to the database, find the market, and cache the usual forecast for the first client."""
        self.changes.start()
        for symbol in self.settings.btcml_symbols:
            try:
                self.new_forecast(symbol, None)
            except NotReadyError:
                continue

    def end_jobs(self) -> None:
        """End the jobs that run in processes of their own."""
        self.queue.end()

    def stop(self) -> None:
        """Disconnect."""
        self.changes.stop()
