"""Calls as the clients of the two systems before make them: recorded contracts, and both clients' own flows."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import requests

from btcml.candles import SeriesKey
from btcml.errors import MarketError
from btcml.market import utc_now
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.series import evaluate_series, read_points
from btcml.serve.api import create_app
from btcml.settings import Settings
from btcml.store.engine import open_store
from btcml.testing.exchange import ReplayClock

from ..processes import WAIT_S  # noqa: TID252 - of all tests
from ..replayed import trained_replay  # noqa: TID252 - of all tests
from .clients.system_0 import Page
from .clients.system_1 import Site
from .conftest import Listening, Running

CONTRACTS = json.loads((Path(__file__).parent / "contracts.json").read_text("utf-8"))
NOON = pd.Timestamp("2025-06-30 12:00:02", tz="UTC")
ROWS = [(system, call) for system, calls in CONTRACTS.items() for call in calls]


@pytest.fixture(scope="module")
def old_clients(tmp_path_factory):
    """A service trained over HTTP, as an older client does it, whose market's clock nearly stands still."""
    settings = Settings(database_url=None, btcml_home=tmp_path_factory.mktemp("clients"))
    store, key = open_store(settings), SeriesKey("replay:clients", "BTCUSDT", "5m")
    clock = ReplayClock(NOON, utc_now(), speed=0.01)
    with (
        trained_replay(settings, store, SimulatedMarket(clock=clock), clock, key) as (ours, _),
        Listening(create_app(ours, store)) as url,
    ):
        assert requests.post(url + "/train?days=9", timeout=WAIT_S).status_code == 200
        yield Running(url, ours, store, key)
    store.close()


def at(body, place):
    """Value at a place such as ``points.0.real``."""
    for name in place.split("."):
        body = body[int(name)] if isinstance(body, list) else body[name]
    return body


@pytest.mark.parametrize(("system", "call"), ROWS, ids=[f"{system} {call}" for system, call in ROWS])
def test_every_field_of_the_recorded_contract_is_there(old_clients, system, call):
    """By name and type; a question mark allows null."""
    if "/futures" in call:
        old_clients.post("/futures/update")  # the first forecast is sealed
    method, path = call.split(" ", 1)
    answer = requests.request(method, old_clients.url + path, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text
    for place, kind in CONTRACTS[system][call].items():
        value = at(answer.json(), place)
        if value is None:
            assert kind.endswith("?"), place
        else:
            assert type(value).__name__ == kind.removesuffix("?"), place


def test_the_page_of_ml_crypto_works(old_clients):
    """Ingest, train, predict, prices, metrics, model info, export, in this order."""
    page = Page(old_clients.url, "BTCUSDT", "5m")
    symbol, interval, limit, inserted = page.ingest(500)
    assert (symbol, interval, limit) == ("BTCUSDT", "5m", 500)
    assert inserted >= 0
    trained = page.train()
    assert Path(trained["model_path"]).is_dir()
    assert trained["rmse"] >= trained["mae"] > 0
    made = page.predict(ingest_interval="5m", ingest_limit=5)
    assert made["model"] == trained["version"]
    assert page.predict() == made
    prices = page.prices(720)
    assert len(prices) == 720
    assert prices.index.is_monotonic_increasing
    assert f"{prices.iloc[-1]:.2f}" == made["last"]
    metrics = page.metrics()
    assert metrics["model_version"].iloc[0] == trained["version"]
    assert (pd.to_datetime(metrics["train_end_ts"]) < pd.to_datetime(metrics["created_at"])).all()
    folder, path, exists, listing = page.model()
    assert (path, exists) == (trained["model_path"], True)
    assert Path(path).is_relative_to(folder)
    assert trained["version"] in listing
    assert page.scheduler() == ("ok", False)


def test_delta_pct_is_a_fraction(old_clients):
    """ML Crypto's page multiplies it by 100; basis points stand beside it."""
    made = old_clients.post("/predict").json()
    assert made["delta_pct"] == pytest.approx(made["predicted_close"] / made["last_close"] - 1, abs=1e-12)
    assert made["delta_bp"] == pytest.approx(1e4 * made["delta_pct"], abs=1e-9)


def test_predict_ingests_only_where_it_is_asked_to(old_clients):
    """An ingest is a job of the log; its interval is that of the forecast."""
    newest = old_clients.get("/jobs?limit=1").json()["items"][0]["id"]
    assert old_clients.post("/predict").status_code == 200
    assert old_clients.get("/jobs?limit=1").json()["items"][0]["id"] == newest
    for query, interval in (("ingest_limit=5", "5m"), ("ingest_interval=5m", "5m"), ("ingest_interval=1h", "1h")):
        answer = old_clients.post(f"/predict?{query}")
        assert answer.status_code == (200 if interval == "5m" else 409), answer.text
        job = old_clients.get("/jobs?limit=1").json()["items"][0]
        assert (job["kind"], job["interval"], job["id"] > newest) == ("ingest", interval, True)
    assert old_clients.post("/predict?symbol=NOPE&ingest_limit=5").status_code == 404


def test_predict_answers_although_the_exchange_does_not(service, monkeypatch):
    """As in ML Crypto: the forecast is of the candles that are there."""

    class Silent(SimulatedMarket):
        def fetch_candles(self, *_args, **_options):
            msg = "the exchange does not answer"
            raise MarketError(msg)

    service.post("/ingest/run")
    monkeypatch.setattr("btcml.serve.service.shared_source", lambda *_: Silent())
    with Listening(create_app(service.settings, service.store)) as url:
        assert requests.post(url + "/ingest/run", timeout=WAIT_S).status_code == 502
        assert requests.post(url + "/predict?ingest_limit=5", timeout=WAIT_S).status_code == 200


def test_an_export_stays_in_its_folder(old_clients):
    """ML Crypto's columns, the newest candles, below the home; no name leads out of it."""
    path, rows = Page(old_clients.url, "BTCUSDT", "5m").export(20)
    assert Path(path).parent == old_clients.settings.home / "exports" / "replay-clients"
    table = pd.read_parquet(path)
    assert list(table.columns) == ["symbol", "ts", "open", "high", "low", "close", "volume"]
    assert len(table) == rows == 20
    prices = old_clients.get("/prices/latest?n=20").json()["data"]
    assert table["close"].tolist() == [item["close"] for item in prices]
    assert old_clients.post("/export/parquet", params={"symbol": "../../x"}).status_code == 422
    assert "no candles" in Page(old_clients.url, "ETHUSDT", "5m").export(20)


def test_the_site_of_bitcoin_ml_works(old_clients):
    """Backfill, ingest, train, charts, metrics, futures."""
    site = Site(old_clients.url)
    points, done = site.backfill_job(9)
    assert points > 100
    assert (done["status"], done["days"]) == ("ok", 9)
    status, inserted, updated = site.ingest_job()
    assert (status, inserted >= 0, updated >= 0) == ("ok", True, True)
    trained, counts = site.train_job(9)
    assert trained["status"] == "ok"
    assert all(status == "ok" and count >= points for status, count in counts)
    mae, *_, start = site.metrics_box()
    assert mae == f"{trained['mae']:.2f}"
    assert start > pd.Timestamp("2020", tz="UTC")
    assert site.update_futures()[0] == "ok"
    futures, errors = site.futures()
    assert len(futures) >= len(errors)


@pytest.mark.parametrize("path", ["/series", "/series/cached"])
def test_the_pairing_of_the_charts_page_shows_the_librarys_error(old_clients, path):
    """``pts[i-1].pred`` beside ``pts[i].real``: each error, their number and their mean are the library's."""
    rows = [row for row in Site(old_clients.url).charts(path) if "forecast" in row]
    span = pd.Timestamp(rows[0]["time"]), pd.Timestamp(rows[-1]["time"]) + old_clients.key.delta
    model = old_clients.get("/series?limit=1").json()["model"]
    points = read_points(old_clients.store, old_clients.settings, old_clients.key, span, model)
    assert [pd.Timestamp(row["time"]) for row in rows] == points["open_time"].tolist()
    ours, theirs = points["close"] - points["real_close"], pd.DataFrame(rows)
    assert (theirs["forecast"] - theirs["close"]).tolist() == pytest.approx(ours.tolist(), abs=1e-5)
    assert [row["said"]["close_signed"] for row in rows] == pytest.approx(ours.tolist(), abs=1e-5)
    scores = evaluate_series(points, model).scores.set_index("model")
    assert (theirs["forecast"] - theirs["close"]).abs().mean() == pytest.approx(scores.loc[model, "mae_usd"], rel=1e-7)


def test_points_follow_each_other_without_a_hole(old_clients):
    """Where a point has a forecast, the next point is the candle that it is about."""
    points = old_clients.get("/series?fallback_days=90").json()["points"]
    for before, after in pairwise(points):
        if before["pred"]:
            times = [pd.Timestamp(point["real"]["time"]) for point in (before, after)]
            assert times[1] - times[0] == old_clients.key.delta
