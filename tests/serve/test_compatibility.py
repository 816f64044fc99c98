"""Calls as the clients of the two systems before would make them."""

from __future__ import annotations

import requests


def test_system_0s_dashboard_goes_on_working(service):
    """Ingest, latest prices, predict, metrics, model info, with its parameters and field names."""
    base = service.url
    ingest = requests.post(
        f"{base}/ingest/run", params={"symbol": "BTCUSDT", "interval": "5m", "limit": 500}, timeout=60
    )
    assert ingest.json()["inserted"] >= 0
    prices = requests.get(f"{base}/prices/latest", params={"symbol": "BTCUSDT", "interval": "5m", "n": 50}, timeout=60)
    assert set(prices.json()["items"][0]) >= {"time", "open", "high", "low", "close", "volume"}
    made = requests.post(f"{base}/predict", params={"symbol": "BTCUSDT", "interval": "5m"}, timeout=60).json()
    assert set(made) >= {"symbol", "interval", "last_close", "predicted_close", "delta", "delta_pct"}
    assert "items" in requests.get(f"{base}/metrics", params={"limit": 10}, timeout=60).json()
    assert {"models_dir", "exists", "files"} <= set(requests.get(f"{base}/model/info", timeout=60).json())
    wrong = requests.post(f"{base}/predict", params={"interval": "7x"}, timeout=60)
    assert isinstance(wrong.json()["detail"], str)


def test_system_1s_site_goes_on_working(service):
    """Backfill, series, rebuild, metrics and futuros, with its parameters and field names."""
    base = service.url
    options = {"days": 1, "symbol": "BTCUSDT", "interval": "5m", "sleep_ms": 0, "limit": 1000}
    backfilled = requests.post(f"{base}/init/backfill", params=options, timeout=120).json()
    assert set(backfilled) >= {"status", "fetched", "inserted", "calls", "days"}
    ingested = requests.post(f"{base}/ingest", timeout=60).json()
    assert set(ingested) >= {"status", "fetched", "inserted", "futures_updated"}
    for path in ("/series/rebuild", "/train/apply"):
        assert requests.post(f"{base}{path}", params={"days": 90}, timeout=60).json()["count"] > 0
    for path in ("/series", "/series/cached"):
        point = requests.get(f"{base}{path}", params={"fallback_days": 7}, timeout=60).json()["points"][0]
        assert set(point["real"]) == {"time", "open", "high", "low", "close", "volume"}
        assert set(point["pred"]) == {"open_next", "high_next", "low_next", "close_next", "amp_next"}
        assert set(point["cls"]) == {"dir_next", "prob_up", "prob_down"}
        assert set(point["err"]) >= {"close_abs", "close_signed", "amp_abs"}
    assert requests.get(f"{base}/metrics", timeout=60).json()["status"] in {"ok", "empty"}
    futures = requests.get(f"{base}/futuros", timeout=60).json()["points"]
    assert all({"time", "pred_close", "real_close", "err_close"} <= set(point) for point in futures)
    assert requests.post(f"{base}/futuros/update", timeout=60).json()["status"] == "ok"
