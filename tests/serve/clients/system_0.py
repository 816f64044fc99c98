"""What the Streamlit page of ML Crypto does, with the fields that it reads."""

from __future__ import annotations

import pandas as pd
import requests

from ...processes import WAIT_S  # noqa: TID252 - of all tests


class Page:
    """The page: its buttons, its chart and its tables.

    Parameters
    ----------
    base
        Address of the API.
    """

    def __init__(self, base, symbol, interval):
        self.base, self.symbol, self.interval = base, symbol, interval

    def _send(self, method, path, **params):
        return requests.request(method, self.base + path, params=params, timeout=WAIT_S).json()

    def ingest(self, limit):
        """The first button."""
        done = self._send("POST", "/ingest/run", symbol=self.symbol, interval=self.interval, limit=limit)
        return done["symbol"], done["interval"], done["limit"], done["inserted"]

    def train(self):
        """The second button."""
        done = self._send("POST", "/train", symbol=self.symbol)
        names = ("version", "mae", "rmse", "model_path", "n_rows", "n_features")
        return {name: done[name] for name in names}

    def predict(self, **ingest):
        """The third button, and the boxes below the chart."""
        made = self._send("POST", "/predict", symbol=self.symbol, **ingest)
        assert pd.Timestamp(made["last_ts"]) < pd.Timestamp(made["predicted_at"])
        return {
            "symbol": made["symbol"],
            "last": f"{made['last_close']:.2f}",
            "next": f"{made['predicted_next_close']:.2f}",
            "delta": f"{made['delta']:.2f}",
            "percent": f"{made['delta_pct'] * 100:.3f}%",
            "model": made["model_version"],
        }

    def prices(self, n):
        """The chart: a frame that is indexed by time."""
        js = self._send("GET", "/prices/latest", symbol=self.symbol, n=n)
        assert js["symbol"] == self.symbol
        frame = pd.DataFrame(js.get("data", []))
        return frame.assign(ts=pd.to_datetime(frame["ts"])).set_index("ts")["close"]

    def metrics(self):
        """The table of trainings."""
        items = self._send("GET", "/metrics", limit=50).get("items", [])
        return pd.DataFrame(items)[["model_version", "train_end_ts", "mae", "rmse", "created_at"]]

    def model(self):
        """The files of the model."""
        info = self._send("GET", "/model/info")
        return info["models_dir"], info["model_path"], info["exists"], info["listing"]

    def export(self, n):
        """The button of the side bar: a path and a number of rows, or a message."""
        done = self._send("POST", "/export/parquet", symbol=self.symbol, n=n)
        return (done["path"], done["rows"]) if done["ok"] else done["message"]

    def scheduler(self):
        """Whether the API says that its scheduler runs."""
        health = self._send("GET", "/health")
        return health["status"], health["scheduler"]
