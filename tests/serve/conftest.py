"""A service that really listens: one process, one home, one small training for all its tests."""

from __future__ import annotations

import dataclasses
import socket
import threading

import pandas as pd
import pytest
import requests
import uvicorn

from btcml.candles import SeriesKey
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.ingest import backfill, ingest
from btcml.pipeline.train import train
from btcml.serve.api import create_app
from btcml.serve.http_protocol import TimeoutProtocol
from btcml.settings import Settings
from btcml.store.engine import open_store

from ..pipeline.conftest import ahead, forecaster, market, series, trained, trained_ahead  # noqa: F401, TID252 - fixtures of the verbs
from ..processes import WAIT_S, until  # noqa: TID252 - of all tests


@dataclasses.dataclass
class Running:
    """A listening service and what stands behind it."""

    url: str
    settings: Settings
    store: object
    key: SeriesKey

    def get(self, path, **options):
        return requests.get(self.url + path, timeout=WAIT_S, **options)

    def post(self, path, **options):
        return requests.post(self.url + path, timeout=WAIT_S, **options)


@dataclasses.dataclass
class Listening:
    """An application on a free port, in a thread."""

    app: object
    limit_concurrency: int | None = None

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                port=port,
                http=TimeoutProtocol,
                log_config=None,
                access_log=False,
                limit_concurrency=self.limit_concurrency,
                timeout_graceful_shutdown=10,  # as in service: an open connection may not hold it for ever
            )
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="session")
def service_settings(tmp_path_factory):
    """Settings of a home of its own, so that other tests do not empty its tables; its trainings are short."""
    home = tmp_path_factory.mktemp("service")
    return Settings(database_url=None, btcml_home=home, btcml_source="simulated", btcml_horizons=(1,))


@pytest.fixture(scope="session")
def service(service_settings):
    """A service with nine days of simulated candles and a small training."""
    store = open_store(service_settings)
    key = SeriesKey("simulated", "BTCUSDT", "5m")
    source = SimulatedMarket()
    now = source.now()
    backfill(store, source, key, (now - pd.Timedelta(days=9), now))
    train(store, service_settings, key, models=("autoreg",), now=now, jobs=1)
    with Listening(create_app(service_settings, store)) as url:
        yield Running(url, service_settings, store, key)
    store.close()


@pytest.fixture(autouse=True)
def _newest_candles(request):
    """A slow run outlasts the candles of its beginning, and the service would say that they are stale."""
    if "service" in request.fixturenames:
        found = request.getfixturevalue("service")
        ingest(found.store, SimulatedMarket(), found.key)


@pytest.fixture(scope="session")
def empty_service(tmp_path_factory):
    """A service whose database holds nothing yet."""
    settings = Settings(database_url=None, btcml_home=tmp_path_factory.mktemp("empty"), btcml_source="simulated")
    store = open_store(settings)
    with Listening(create_app(settings, store)) as url:
        yield Running(url, settings, store, SeriesKey("simulated", "BTCUSDT", "5m"))
    store.close()
