"""What the site of bitcoin-ml does: its jobs, and the arithmetic of its charts page."""

from __future__ import annotations

import pandas as pd
import requests

from ...processes import WAIT_S  # noqa: TID252 - of all tests


class Site:
    """The site.

    Parameters
    ----------
    base
        Address of the API.
    """

    def __init__(self, base):
        self.base = base

    def _send(self, method, path, **params):
        return requests.request(method, self.base + path, params=params, timeout=WAIT_S).json()

    def backfill_job(self, days):
        """Points that are there, of those that there could be; then the backfill."""
        points = self._send("GET", "/series", fallback_days=days)["points"]
        assert all(isinstance(point["real"]["time"], str) for point in points)
        done = self._send("POST", "/init/backfill", days=days)
        return len(points), {name: done[name] for name in ("status", "fetched", "inserted", "calls", "days")}

    def ingest_job(self):
        """Every five minutes."""
        done = self._send("POST", "/ingest")
        return done["status"], done["inserted"], done["futures_updated"]

    def train_job(self, days):
        """Every quarter of an hour: train, then write the series for the charts."""
        done = self._send("POST", "/train", days=days)
        counts = [self._send("POST", path, days=days) for path in ("/series/rebuild", "/train/apply")]
        return {name: done[name] for name in ("status", "samples", "mae", "mape", "smape")}, [
            (count["status"], count["materialized"]) for count in counts
        ]

    def metrics_box(self):
        """The box above the charts; nothing before the first training."""
        m = self._send("GET", "/metrics")
        if m["status"] != "ok":
            return None
        texts = (f"{m['mae']:.2f}", f"{m['mape']:.2f}%", f"{m['smape']:.2f}%")
        return (*texts, m["samples"], m["split_train"], m["split_total"], pd.Timestamp(m["validation_start"]))

    def charts(self, path="/series/cached"):
        """A row a candle: the forecast of the point before it beside what happened."""
        pts = self._send("GET", path, fallback_days=90)["points"]
        rows = []
        for i in range(1, len(pts)):
            real, before = pts[i]["real"], pts[i - 1]["pred"]
            row = {name: real[name] for name in ("time", "open", "high", "low", "close", "volume")}
            if before:
                row |= {name: before[f"{name}_next"] for name in ("open", "high", "low", "close")}
                row |= {"close": real["close"], "forecast": before["close_next"], "said": pts[i - 1]["err"]}
                row["percent"] = abs(before["close_next"] - real["close"]) / abs(real["close"]) * 100
            rows.append(row)
        return rows

    def futures(self):
        """Forecast, outcome and error in percent, each where it is known."""
        pts = self._send("GET", "/futures")["points"]
        known = [p for p in pts if p["err_close"] is not None and p["real_close"]]
        return pts, [abs(p["err_close"] / p["real_close"] * 100) for p in known]

    def update_futures(self):
        """The button of the futures chart."""
        done = self._send("POST", "/futures/update")
        return done["status"], done["updated"]
