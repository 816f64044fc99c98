"""A real browser, the real dashboard, and a stub API that the test controls."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import requests
from scipy.stats import norm

from btcml.forecast.distribution import LEVELS as ALL_LEVELS
from btcml.forecast.distribution import Distribution, decide
from btcml.forecast.evaluation import evaluate_span
from btcml.pipeline.predict import LEVELS

from ..processes import WAIT_S, free_port  # noqa: TID252 - of all tests

STEP = 300
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def iso(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class StubApi:
    """The documented shapes, from a seeded walk; ``mode`` is how it behaves, ``moved`` how many candles came since.

    Where ``since`` is set, no candle comes by itself after that time.
    """

    def __init__(self):
        self.reset()
        self.server = None
        self.port = free_port()

    def reset(self):
        self.mode, self.moved, self.model, self.empty, self.seen = "good", 0, "lightgbm_mean", False, []
        self.market, self.since = "simulated", None
        self.job_polls, self.trained, self.delay_s = 0, True, 10.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        stub = self

        class _Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, kind, body = stub.answer(self.command, parts.path, query)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the name is the library's

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), _Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, path, query):
        self.seen.append((method, path, query))
        if path == "/health":
            return 200, "application/json", b'{"status":"ok"}'
        if self.mode == "slow":
            end = time.monotonic() + self.delay_s
            while time.monotonic() < end and self.mode == "slow":
                time.sleep(0.05)
        if self.mode == "html":
            return 200, "text/html", b"<html>a proxy</html>"
        if self.mode.isdigit():
            return self._problem(int(self.mode), f"as the test wants it: {self.mode}")
        name = {"/ingest/run": "ingest", "/prices/latest": "prices", "/futuros": "futures", "/model/info": "models"}
        made = getattr(self, f"_{name.get(path, path.split('/')[1])}")(query)
        return made if isinstance(made, tuple) else (200, "application/json", json.dumps(made).encode())

    def _problem(self, status, detail):
        facts = {"type": "about:blank", "title": "x", "status": status, "detail": detail, "request_id": f"req-{status}"}
        return status, "application/problem+json", json.dumps(facts).encode()

    @property
    def last(self):
        """Open time of the newest final candle."""
        return int(self.since or time.time()) // STEP * STEP - STEP + self.moved * STEP

    def candles(self, count):
        """Seeded by time, so that a candle is the same in every response."""
        made = []
        for time_ in range(self.last - (count - 1) * STEP, self.last + 1, STEP):
            close, before = (
                60_000 * math.exp(0.002 * sum(math.sin(at / STEP / 7**k) for k in range(3)))
                for at in (time_, time_ - STEP)
            )
            noise = random.Random(time_).random()
            row = {
                "open": before,
                "close": close,
                "high": max(before, close) + 20 * noise,
                "low": min(before, close) - 15,
                "volume": 5 + 9 * noise,
            }
            made.append({"time": time_, **row})
        return made

    def _prices(self, query):
        if self.empty:
            return self._problem(409, "no candles of simulated/BTCUSDT/5m yet: POST /init/backfill")
        items = [row | {"time": iso(row["time"])} for row in self.candles(int(query["n"]))]
        copy = [{"ts": item["time"], "close": item["close"]} for item in items]
        head = {"symbol": "BTCUSDT", "interval": "5m", "market": self.market, "count": len(items)}
        return head | {"items": items, "data": copy}

    def _guess(self, row, model=None):
        lean = (
            0
            if (model or self.model) == "persistence"
            else math.copysign(4.0, row["close"] - row["open"] + 3 * math.sin(row["time"]))
        )
        return row["open"] + lean, 0.5 + lean / 200

    def _series(self, query):
        points, model = [], query.get("model", self.model)
        rows = [] if self.empty or not self.trained else self.candles(801)
        for row, after in itertools.pairwise(rows):
            guess, up = self._guess(after, model)
            names = {"open": after["open"], "high": guess + 30, "low": guess - 30, "close": guess, "amp": 60.0}
            points.append(
                {
                    "real": row | {"time": iso(row["time"])},
                    "pred": {f"{name}_next": value for name, value in names.items()},
                    "cls": {"dir_next": 1, "prob_up": up, "prob_down": 1 - up},
                    "err": {
                        "close_abs": 1.0,
                        "close_signed": guess - after["close"],
                        "amp_abs": 1.0,
                        "persistence_abs": 1.0,
                    },
                    "lo": guess - 90,
                    "hi": guess + 90,
                    "origin": "sealed" if after["time"] > self.last - 40 * STEP else "walk-forward",
                }
            )
        head = {"market": self.market, "symbol": "BTCUSDT", "interval": "5m", "model": model}
        return head | {"points": points, "next_start": None}

    def frame(self, model, *, sealed=False):
        """Forecast frame of what `_series` answers, or of the sealed forecasts."""
        rows = []
        for row in self.candles(40 if sealed else 800) if self.trained and not self.empty else []:
            guess, up = self._guess(row, model)
            half = 60 if sealed else 90
            facts = {"y": row["close"], "base": row["open"], "y_hat": guess, "lo": guess - half, "hi": guess + half}
            time_, origin = row["time"], "sealed" if sealed or row["time"] > self.last - 40 * STEP else "walk-forward"
            rows.append({"open_time": time_, "prob_up": up, "origin": origin} | facts)
        names = ["open_time", "prob_up", "origin", "y", "base", "y_hat", "lo", "hi"]
        found = pd.DataFrame(rows, columns=names).assign(model=model, before=lambda table: table["base"].shift())
        found["open_time"] = pd.to_datetime(found["open_time"].astype("int64"), unit="s", utc=True)
        return found.assign(cutoff=found["open_time"])

    def _evaluation(self, query):
        model, sealed = query.get("model", self.model), query.get("origin") == "sealed"
        frame = self.frame(model, sealed=sealed)
        frame = frame[frame["open_time"] >= query.get("start", "1970-01-01T00:00:00Z")].reset_index(drop=True)
        costs = {name: float(query.get(name, usual)) for name, usual in (("cost_bp", 2), ("threshold_bp", 0))}
        head = {"market": self.market, "symbol": "BTCUSDT", "interval": "5m", "model": model, "champion": self.model}
        head |= {"best": "ridge" if self.model == "persistence" else self.model, "origin": query.get("origin")}
        return head | evaluate_span(frame, **costs).to_dict(curves=query.get("curves") != "False")

    def _futures(self, query):
        points, half = [], 60 * int(query.get("horizon", 1)) ** 0.5
        for row in [] if self.empty or not self.trained else self.candles(40):
            guess, up = self._guess(row)
            points.append(
                {
                    "time": iso(row["time"]),
                    "pred_close": guess,
                    "real_close": row["close"],
                    "err_close": guess - row["close"],
                    "base": row["open"],
                    "err_base": 0.0,
                    "lo": guess - half,
                    "hi": guess + half,
                    "prob_up": up,
                    "model": self.model,
                    "status": "sealed",
                    "made_at": iso(row["time"]),
                }
            )
        return {"points": points}

    def _predict(self, query):
        if self.empty or not self.trained:
            return self._problem(
                409, "no model of simulated/BTCUSDT/5m has been trained yet: POST /train, or btcml train"
            )
        newest = self.candles(1)[0]
        close, plain = newest["close"], self.model == "persistence"
        guess = close + (0 if plain else 12.5)
        return {
            "market": self.market,
            "symbol": "BTCUSDT",
            "interval": "5m",
            "time": iso(newest["time"] + STEP),
            "last_time": iso(newest["time"]),
            "last_close": close,
            "predicted_close": guess,
            "delta": guess - close,
            "delta_pct": guess / close - 1,
            "delta_bp": 1e4 * (guess / close - 1),
            "predicted_open": close,
            "predicted_high": guess + 30,
            "predicted_low": close - 30,
            "predicted_amp": 60.0,
            "lo": close - 90,
            "hi": close + 90,
            "interval_level": 0.9,
            "prob_up": None if plain else 0.53,
            "prob_down": None if plain else 0.47,
            "model": self.model,
            "artifact": "a",
            "skill": 0.0 if plain else 0.005,
            "verdict": "as the test wants it",
            "trained_at": iso(newest["time"] - 7200),
            "model_age_seconds": time.time() - newest["time"] + 7200,
            "sealed": True,
            "sealed_at": iso(newest["time"] + STEP),
            "seal_status": "sealed",
            "challengers": [],
        } | self._ahead(newest, plain=plain, cost_bp=float(query.get("cost_bp", 2)))

    @staticmethod
    def _ahead(newest, *, plain, cost_bp):
        """Four horizons, of which half are proven, and the decisions at a cost."""
        rows, decisions, last = [], [], newest["close"]
        for horizon, move in ((1, 0.0002), (3, 0.0), (12, 0.0004), (48, 0.0)):
            proven = bool(move) and not plain
            made = Distribution(
                last, tuple(move * proven + 0.0007 * horizon**0.5 * norm.ppf(ALL_LEVELS)), move * proven
            )
            ends = dict(zip(("lo", "hi"), made.interval(0.9), strict=True))
            close = last * math.exp(made.move)
            facts = {
                "predicted_close": close,
                "delta_bp": 1e4 * (close / last - 1),
                "prob_up": made.probability_above(last),
            }
            facts |= {"predicted_high": made.quantile(0.8), "predicted_low": made.quantile(0.2)} | ends
            facts |= {"levels": list(LEVELS), "quantiles": [made.quantile(level) for level in LEVELS], "sealed": True}
            facts |= {"model": "lightgbm_mean" if proven else "persistence", "skill": 0.005 * proven}
            rows.append({"horizon": horizon, "time": iso(newest["time"] + horizon * STEP)} | facts)
            decisions.append({"horizon": horizon} | decide(made, cost_bp, proven=proven)._asdict())
        return {"horizon": 1, "horizons": rows, "decisions": decisions}

    def training(self, age):
        return {
            "status": "ok",
            "mae": 41.5,
            "mape": 0.07,
            "smape": 0.07,
            "rmse": 60.0,
            "r2": 0.0,
            "persistence_mae": 41.7,
            "ratio": 41.5 / 41.7,
            "skill": 0.005,
            "dm_p": 0.00001,
            "champion": self.model,
            "samples": 25000,
            "split_train": 20000,
            "split_total": 25000,
            "train_end_ts": iso(self.last - age),
            "started_at": iso(self.last - age - 30),
            "finished_at": iso(self.last - age),
            "validation_start": iso(self.last - 9000),
        }

    def _metrics(self, _query):
        items = [self.training(3600 * age) for age in range(5)] if self.trained and not self.empty else []
        return (items[0] if items else {"status": "empty"}) | {"items": items}

    def _models(self, _query):
        champion = {
            "id": "a/x",
            "name": self.model,
            "champion": True,
            "role": "champion",
            "trained_at": iso(self.last - 7200),
            "snapshot": "s",
            "window": ["2025-06-01T00:00:00Z", "2025-06-30T23:55:00Z"],
        }
        beside = {"id": "a/y", "name": "ridge", "champion": False, "role": "challenger", "skill": -0.001}
        return {
            "models_dir": "m",
            "exists": True,
            "files": [],
            "models": [champion, beside] if self.trained and not self.empty else [],
        }

    def _ingest(self, _query):
        self.empty = False
        time.sleep(0.3)
        return {"status": "ok", "fetched": 720, "inserted": 3, "revised": 1, "quarantined": 0, "futures_updated": 0}

    def _job(self, status):
        facts = {
            "id": 7,
            "kind": "train",
            "status": status,
            "symbol": "BTCUSDT",
            "interval": "5m",
            "started_at": iso(self.last),
            "finished_at": None,
        }
        if status == "ok":
            facts |= {"finished_at": iso(self.last + 31), "result": self.training(0)}
        return facts

    def _train(self, _query):
        self.job_polls = 0
        return 202, "application/json", json.dumps(self._job("queued")).encode()

    def _jobs(self, query):
        if "kind" in query:
            return {"items": [], "next_before": None}
        self.job_polls += 1
        self.trained = self.trained or self.job_polls > 2
        return self._job("running" if self.job_polls < 3 else "ok")


@pytest.fixture(scope="session")
def _stub_server():
    stub = StubApi()
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture
def stub(_stub_server):
    """The stub API, good again."""
    _stub_server.reset()
    return _stub_server


@contextlib.contextmanager
def running_dashboard(api_url, *arguments, stderr=None, **variables):
    """Run `btcml dashboard`; yields its address and process, and stops it as a user would."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BTCML_")}
    environment |= {"API_BASE_URL": api_url, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "btcml.cli", "dashboard", "--port", str(port), *arguments]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=stderr)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait(url, process)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(40)
        finally:
            process.kill()
            process.wait()


def _wait(url, process):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        assert process.poll() is None, "the dashboard ended by itself"
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}health", timeout=5).ok:
                return
        time.sleep(0.2)
    pytest.fail("the dashboard did not come up")


@pytest.fixture(scope="session")
def dashboard(_stub_server):
    """Address of a dashboard on the stub API."""
    with running_dashboard(_stub_server.url) as (url, _):
        yield url


@contextlib.contextmanager
def running_browser(tmp_path, *, language="en-US", width=1440, height=900):
    """Run a headless browser with a new profile."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path}", f"--lang={language}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def browser(tmp_path):
    """A headless browser of an English viewer at 1440 by 900."""
    with running_browser(tmp_path) as found:
        yield found


def until(browser, script):
    """Wait until a script answers something true, and return it."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = browser.execute_script(script)
        if found:
            return found
        time.sleep(0.05)
    shown = browser.execute_script("return document.body.innerText.slice(0, 1500)")
    pytest.fail(f"never true: {script}\nthe page shows:\n{shown}")


ALL = (
    "return performance.getEntriesByName('btcml-first').length > 0 && document.querySelector('#btcml-score') !== null"
    " && ['direction', 'money', 'trainings']"
    ".every(name => document.querySelector(`#btcml-${name} .btcml-say`)?.innerText)"
)
"""Whether everything is drawn: cards, charts and tables."""


def painted(browser, url):
    """Open the page and wait until it is drawn."""
    browser.get(url)
    until(browser, ALL)


def console(browser):
    """Errors and warnings of the console, but for what Voilà's own packages say of each other's versions."""
    found = [entry for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]
    return [entry for entry in found if "atisf" not in entry["message"]]
