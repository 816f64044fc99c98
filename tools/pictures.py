"""The README's pictures: the first page of the newest report, and the dashboard.

Run by ``make pictures`` on a machine with chromium and chromedriver. The dashboard is asked at
``BTCML_DASHBOARD_URL`` where it is set; else one is started on a state of its own: an exchange replays
``SOURCE`` (a file of candles, else the simulated market), a model is trained on it, and forecasts are
sealed until there are some to show. The user's own database is not read.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pandas as pd
from PIL import Image
from selenium import webdriver

from btcml.market.files import FileMarket

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
MAX_BYTES = 300_000
_PORT = 8867
_TIMEOUT_S = 120
_DAYS = "400"
_REPLAYED = pd.Timedelta(hours=12)
_SPEED = "40"
_SEALED = 30
_PAINTED = """document.querySelector('#btcml-trainings .btcml-say')?.innerText
 && performance.getEntriesByName('btcml-first').length
 && ![...document.querySelectorAll('#btcml-cards .value')].some((card) => card.innerText === '\u2013')
 && !document.querySelector('#btcml-notices li')"""


def newest_report(folder: Path) -> Path:
    """First page of the newest report; one of real candles before one of simulated ones."""
    found = [page for page in folder.glob("*/*/*/*/pages/index.html") if page.with_name("manifest.json").exists()]
    if not found:
        sys.exit(f"btcml: there is no report in {folder}: make report")
    return max(found, key=lambda page: ("simulated" not in page.parts, page.stat().st_mtime))


def shrink(png: bytes, most: int = MAX_BYTES) -> bytes:
    """The same picture in at most so many bytes: fewer colours first, then fewer pixels."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    while True:
        out = io.BytesIO()
        picture.quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() <= most:
            return out.getvalue()
        picture = picture.resize((picture.width * 9 // 10, picture.height * 9 // 10), Image.Resampling.LANCZOS)


@contextlib.contextmanager
def _browser(height: int, width: int = 1280) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory(prefix="btcml-browser-") as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
        for flag in (*flags, f"--user-data-dir={profile}", f"--window-size={width},{height}", "--lang=en-US"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            yield browser
        finally:
            browser.quit()


@contextlib.contextmanager
def _running(environment: dict[str, str], *argv: str) -> Iterator[None]:
    """A verb of btcml as a process that ends with the block."""
    command = [sys.executable, "-m", "btcml.cli", *argv]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - ourselves
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _begin(source: str) -> str:
    """Time at which the replay begins: some hours before a file ends."""
    if not Path(source).exists():
        return "2025-06-29T12:00"
    return f"{FileMarket(Path(source)).span('BTCUSDT')[1] - _REPLAYED:%Y-%m-%dT%H:%M}"


@contextlib.contextmanager
def _dashboard() -> Iterator[str]:
    if os.environ.get("BTCML_DASHBOARD_URL"):
        yield os.environ["BTCML_DASHBOARD_URL"]
        return
    source = os.environ.get("SOURCE", "")
    source = source if Path(source).is_file() else "simulated"
    exchange, api = (f"http://127.0.0.1:{_PORT + i}" for i in (1, 2))
    with tempfile.TemporaryDirectory(prefix="btcml-pictures-") as home, contextlib.ExitStack() as stack:
        known = {name: value for name, value in os.environ.items() if not name.startswith("BTCML_")}
        known |= {"BTCML_HOME": home, "BTCML_SOURCE": "binance", "BTCML_INTERVAL": "5m", "BTCML_TRAIN_EVERY": "12h"}
        known |= {"BTCML_BINANCE_URLS": exchange, "BTCML_ARCHIVE_URL": exchange, "API_BASE_URL": api}
        replay = ("exchange", "--source", source, "--port", str(_PORT + 1), "--at", _begin(source), "--speed", _SPEED)
        stack.enter_context(_running(known, *replay))
        _wait(f"{exchange}/api/v3/time")
        for verb in ("backfill", "train"):
            subprocess.run([sys.executable, "-m", "btcml.cli", verb, "--days", _DAYS], env=known, check=True)  # noqa: S603 - ourselves
        stack.enter_context(_running(known, "dashboard", "--port", str(_PORT)))
        _wait(f"{api}/health")
        stack.enter_context(_running(known, "schedule", "--days", _DAYS))
        _wait_sealed(f"{api}/futuros")
        yield f"http://127.0.0.1:{_PORT}/"


def _wait_sealed(url: str) -> None:
    """Wait until enough sealed forecasts have an outcome, at most until a timeout."""
    for _ in range(5 * _TIMEOUT_S):
        with contextlib.suppress(OSError), urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
            points = json.loads(answer.read())["points"]
            if sum(point["real_close"] is not None for point in points) >= _SEALED:
                return
        time.sleep(1)


def _wait(url: str) -> None:
    for _ in range(_TIMEOUT_S):
        with contextlib.suppress(OSError), urlopen(url, timeout=5):  # noqa: S310 - our own address
            return
        time.sleep(1)
    sys.exit(f"btcml: nothing answers at {url}")


def _shoot(browser: webdriver.Chrome, url: str, ready: str) -> bytes:
    browser.get(url)
    for _ in range(_TIMEOUT_S):
        if browser.execute_script(f"return {ready}"):
            break
        time.sleep(1)
    time.sleep(1)
    return browser.get_screenshot_as_png()


def _picture_report() -> bytes:
    page = newest_report(ROOT / "reports" / "build")
    with _browser(1600) as browser:
        return _shoot(browser, page.as_uri(), "document.readyState === 'complete'")


def _picture_dashboard() -> bytes:
    with _dashboard() as url, _browser(1000, 1440) as browser:
        _wait(f"{url.rstrip('/')}/health")
        return _shoot(browser, url, _PAINTED)


def main() -> None:
    """Write the pictures that are named, or both."""
    PICTURES.mkdir(exist_ok=True)
    makers = {"report": _picture_report, "dashboard": _picture_dashboard}
    for name in sys.argv[1:] or makers:
        (PICTURES / f"{name}.png").write_bytes(shrink(makers[name]()))
        sys.stdout.write(f"pictures: {PICTURES / name}.png\n")


if __name__ == "__main__":
    main()
