"""Calls as the clients of the two systems before would make them."""

from __future__ import annotations

import requests

from ..processes import WAIT_S  # noqa: TID252 - of all tests


def test_system_0s_dashboard_goes_on_working(service):
    """Ingest, latest prices, predict, metrics, model info, with its parameters and field names."""
    base = service.url
    before = stored(base)
    ingest = requests.post(
        f"{base}/ingest/run", params={"symbol": "BTCUSDT", "interval": "5m", "limit": 500}, timeout=WAIT_S
    )
    assert ingest.json()["inserted"] == stored(base) - before
    assert ingest.json()["fetched"] > 0
    prices = requests.get(
        f"{base}/prices/latest", params={"symbol": "BTCUSDT", "interval": "5m", "n": 50}, timeout=WAIT_S
    )
    assert set(prices.json()["items"][0]) >= {"time", "open", "high", "low", "close", "volume"}
    made = requests.post(f"{base}/predict", params={"symbol": "BTCUSDT", "interval": "5m"}, timeout=WAIT_S).json()
    assert set(made) >= {"symbol", "interval", "last_close", "predicted_close", "delta", "delta_pct"}
    assert "items" in requests.get(f"{base}/metrics", params={"limit": 10}, timeout=WAIT_S).json()
    assert {"models_dir", "exists", "files"} <= set(requests.get(f"{base}/model/info", timeout=WAIT_S).json())
    wrong = requests.post(f"{base}/predict", params={"interval": "7x"}, timeout=WAIT_S)
    assert isinstance(wrong.json()["detail"], str)


def test_system_1s_site_goes_on_working(service):
    """Backfill, series, rebuild, metrics and futuros, with its parameters and field names."""
    base = service.url
    options = {"days": 1, "symbol": "BTCUSDT", "interval": "5m", "sleep_ms": 0, "limit": 1000}
    backfilled = requests.post(f"{base}/init/backfill", params=options, timeout=WAIT_S).json()
    assert set(backfilled) >= {"status", "fetched", "inserted", "calls", "days"}
    ingested = requests.post(f"{base}/ingest", timeout=WAIT_S).json()
    assert set(ingested) >= {"status", "fetched", "inserted", "futures_updated"}
    for path in ("/series/rebuild", "/train/apply"):
        assert requests.post(f"{base}{path}", params={"days": 90}, timeout=WAIT_S).json()["count"] > 0
    for path in ("/series", "/series/cached"):
        point = requests.get(f"{base}{path}", params={"fallback_days": 7}, timeout=WAIT_S).json()["points"][0]
        assert set(point["real"]) == {"time", "open", "high", "low", "close", "volume"}
        assert set(point["pred"]) == {"open_next", "high_next", "low_next", "close_next", "amp_next"}
        assert set(point["cls"]) == {"dir_next", "prob_up", "prob_down"}
        assert set(point["err"]) >= {"close_abs", "close_signed", "amp_abs"}
    assert requests.get(f"{base}/metrics", timeout=WAIT_S).json()["status"] in {"ok", "empty"}
    futures = requests.get(f"{base}/futuros", timeout=WAIT_S).json()["points"]
    assert all({"time", "pred_close", "real_close", "err_close"} <= set(point) for point in futures)
    assert requests.post(f"{base}/futuros/update", timeout=WAIT_S).json()["status"] == "ok"


def stored(base):
    """Candles that the service has."""
    options = {"symbol": "BTCUSDT", "interval": "5m", "n": 10_000}
    return requests.get(f"{base}/prices/latest", params=options, timeout=WAIT_S).json()["count"]
