"""The service on one core, and a default training: ``make bench-service``.

Absolute bars need a quiet machine. The CPU time of the service a request, which is printed beside
them, does not: it says the same on a busy one. Neither do the ratios of reading routes to ``/health``.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import psutil

from btcml.forecast.artifacts import load_forecaster

PORT = 8397
CLI = [sys.executable, "-m", "btcml.cli"]
DAYS = int(sys.argv[1]) if len(sys.argv) > 1 else 1095
RATE, SECONDS = 100, 10.0
RATIOS = {  # bars of reading routes, as multiples of the time of /health
    "/series?fallback_days=1": 8,
    "/series?fallback_days=7": 25,
    "/series?fallback_days=90": 150,
    "/prices/latest": 5,
    "/futuros?start={day}": 8,
}
WIRE_MB = 3.0


class Client:
    """One kept connection."""

    def __init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)

    def send(self, method, path, **headers):
        """Send one request and read its answer, which must be good."""
        self.connection.request(method, path, headers=headers)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status < 300, (answer.status, body)
        return body


def trained(environment):
    """Train as the command line does; facts, wall seconds and peak memory of all its processes."""
    begin, peak = time.perf_counter(), 0
    process = subprocess.Popen([*CLI, "train", "--days", str(DAYS), "--json"], env=environment, stdout=subprocess.PIPE)
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, memory(tree))
        time.sleep(0.2)
    facts = json.loads(process.stdout.read())
    return facts, time.perf_counter() - begin, peak


def memory(tree):
    """Proportional memory of a process and its children in bytes, without the database."""
    total = 0
    for process in [tree, *tree.children(recursive=True)]:
        try:
            if "postgres" not in process.name():
                total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def closed_loop(method, path, seconds=2.0):
    """Requests a second of one client that asks again as soon as it is answered."""
    client, count, end = Client(), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        client.send(method, path)
        count += 1
    return count / seconds


def open_loop(method, path, until, clients=4):
    """Milliseconds of answers to requests that come at a fixed rate, from the moment each was due."""
    begin, taken, lock, dues = time.perf_counter(), [], threading.Lock(), iter(range(10**9))

    def work():
        client = Client()
        while True:
            with lock:
                due = begin + next(dues) / RATE
            if until(due - begin):
                return
            time.sleep(max(due - time.perf_counter(), 0))
            client.send(method, path)
            taken.append(1000 * (time.perf_counter() - due))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.percentile(taken, [50, 99])


def together(path, seconds=2.0, clients=4):
    """Milliseconds of a response while clients ask at once, each again as soon as it is answered."""
    end, counts = time.perf_counter() + seconds, []

    def work():
        client, count, begin = Client(), 0, time.perf_counter()
        while time.perf_counter() < end or not count:
            client.send("GET", path, **{"Accept-Encoding": "gzip"})
            count += 1
        counts.append((time.perf_counter() - begin) / count)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * statistics.fmean(counts)


def ratios(rows):
    """Each reading route beside /health, first and repeated, and the largest response on the wire."""
    newest = json.loads(Client().send("GET", "/prices/latest?n=1"))["items"][0]["time"]
    day = (datetime.fromisoformat(newest) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for path, bound in RATIOS.items():
        asked = path.format(day=day)
        begin = time.perf_counter()
        size = len(Client().send("GET", asked, **{"Accept-Encoding": "gzip"})) / 1e6
        first, took, health = time.perf_counter() - begin, together(asked), together("/health")
        rows.append(
            (f"{path} / health ({took:.2f} / {health:.2f} ms, first {1000 * first:.0f} ms)", took / health, bound)
        )
        rows.append((f"{path} on the wire, MB", size, WIRE_MB))


def cpu_ms(process, method, path, count=2000):
    """Milliseconds of CPU that the service spends on a request."""
    client, before = Client(), sum(process.cpu_times()[:2])
    for _ in range(count):
        client.send(method, path)
    return 1000 * (sum(process.cpu_times()[:2]) - before) / count


def served(environment, rows):
    """Start the service on one core and measure it."""
    process = subprocess.Popen([*CLI, "api", "--port", str(PORT)], env=environment, stderr=subprocess.DEVNULL)
    try:
        psutil.Process(process.pid).cpu_affinity([0])
        while True:
            try:
                Client().send("GET", "/health")
                break
            except OSError:
                time.sleep(0.01)
        begin = time.perf_counter()
        Client().send("POST", "/predict")
        rows.append(("a cold first predict after the port answers, s", time.perf_counter() - begin, 1.0))
        measure(psutil.Process(process.pid), rows)
    finally:
        process.terminate()
        process.wait()


def measure(process, rows):
    """Warm latencies, throughput and CPU; then health while a training runs."""
    client = Client()
    client.send("POST", "/ingest/run")
    client.send("POST", "/predict")
    p50, p99 = open_loop("POST", "/predict", lambda passed: passed > SECONDS)
    rows += [("predict at 100 a second: p50, ms", p50, 3.0), ("predict at 100 a second: p99, ms", p99, 10.0)]
    pairs = [(closed_loop("GET", "/health"), closed_loop("POST", "/predict")) for _ in range(3)]
    health, predict = (statistics.median(side) for side in zip(*pairs, strict=True))
    rows.append((f"health / predict throughput ({health:.0f} / {predict:.0f} a second)", health / predict, 2.5))
    ratios(rows)
    rows.append(("CPU of a predict, ms", cpu_ms(process, "POST", "/predict"), 3.0))
    rows.append(("CPU of a health, ms", cpu_ms(process, "GET", "/health"), 3.0))
    job = json.loads(Client().send("POST", f"/train?days={DAYS}", Prefer="respond-async"))["id"]

    def over(passed):
        """Look at the job now and then."""
        ended = round(passed * RATE) % RATE == 0 and json.loads(Client().send("GET", f"/jobs/{job}"))["status"] not in {
            "queued",
            "running",
        }
        return ended or passed > 300

    rows.append(("health at 100 a second during a training: p99, ms", open_loop("GET", "/health", over, 1)[1], 50.0))


def main():
    """Print each figure with its bar; exit status 1 where one is missed."""
    rows = []
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"BTCML_HOME": home, "BTCML_SOURCE": "simulated", "OMP_NUM_THREADS": "1"}
        subprocess.run([*CLI, "backfill", "--days", str(DAYS)], env=environment, check=True, stdout=subprocess.DEVNULL)
        facts, wall, peak = trained(environment)
        rows += [("a default training, wall s", wall, 60.0), ("its memory, MiB", peak / 2**20, 2048.0)]
        rows.append(("model files, MB", facts["bytes"] / 1e6, 10.0))
        folder = next(Path(home).rglob(facts["artifact"]))
        load_forecaster(folder)
        loads = []
        for _ in range(7):
            begin = time.perf_counter()
            load_forecaster(folder)
            loads.append(1000 * (time.perf_counter() - begin))
        rows.append(("load and self-check, ms", statistics.median(loads), 100.0))
        served(environment, rows)
    for name, value, bound in rows:
        print(f"{'ok  ' if value <= bound else 'MISS'} {name:70} {value:9.2f}  (<= {bound:g})")
    return int(any(value > bound for _, value, bound in rows))


if __name__ == "__main__":
    sys.exit(main())
