# ruff: noqa: INP001 - a script beside the documents, not a package
"""The README's pictures: the first page of the newest report, and the dashboard.

Run by ``make pictures`` on a machine with chromium and chromedriver. The dashboard is asked at
``BTCML_DASHBOARD_URL`` where it is set; else one is started on the state of ``BTCML_HOME``.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from PIL import Image
from selenium import webdriver

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["newest_report", "shrink"]

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 300_000
_PORT = 8867
_PATIENCE_S = 120


def newest_report(folder: Path) -> Path:
    """First page of the newest report; one of real candles before one of simulated ones."""
    found = [page for page in folder.glob("*/*/*/*/pages/index.html") if page.with_name("manifest.json").exists()]
    if not found:
        sys.exit(f"btcml: there is no report in {folder}: make report")
    return max(found, key=lambda page: ("simulated" not in page.parts, page.stat().st_mtime))


def shrink(png: bytes, most: int = MOST_BYTES) -> bytes:
    """The same picture in at most so many bytes: fewer colours first, then fewer pixels."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    while True:
        out = io.BytesIO()
        picture.quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() <= most:
            return out.getvalue()
        picture = picture.resize((picture.width * 9 // 10, picture.height * 9 // 10), Image.Resampling.LANCZOS)


@contextlib.contextmanager
def _browser(height: int) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory(prefix="btcml-browser-") as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
        for flag in (*flags, f"--user-data-dir={profile}", f"--window-size=1280,{height}", "--lang=en-US"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            metrics = {"width": 1280, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            yield browser
        finally:
            browser.quit()


@contextlib.contextmanager
def _dashboard() -> Iterator[str]:
    if os.environ.get("BTCML_DASHBOARD_URL"):
        yield os.environ["BTCML_DASHBOARD_URL"]
        return
    command = [sys.executable, "-m", "btcml.cli", "dashboard", "--port", str(_PORT)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - ourselves
    try:
        yield f"http://127.0.0.1:{_PORT}/"
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str) -> None:
    for _ in range(_PATIENCE_S):
        with contextlib.suppress(OSError), urlopen(f"{url.rstrip('/')}/health", timeout=5):  # noqa: S310 - our own address
            return
        time.sleep(1)
    sys.exit(f"btcml: no dashboard answers at {url}")


def _shoot(browser: webdriver.Chrome, url: str, ready: str) -> bytes:
    browser.get(url)
    for _ in range(_PATIENCE_S):
        if browser.execute_script(f"return {ready}"):
            break
        time.sleep(1)
    time.sleep(1)
    return browser.get_screenshot_as_png()


def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(exist_ok=True)
    page = newest_report(ROOT / "reports" / "build")
    with _browser(1600) as browser:
        report = _shoot(browser, page.as_uri(), "document.readyState === 'complete'")
    (PICTURES / "report.png").write_bytes(shrink(report))
    with _dashboard() as url, _browser(1100) as browser:
        _wait(url)
        shown = _shoot(browser, url, "document.querySelector('.btcml')?.dataset.painted === 'all'")
    (PICTURES / "dashboard.png").write_bytes(shrink(shown))
    sys.stdout.write(f"pictures: {PICTURES}, of {page.parent.parent.name}\n")


if __name__ == "__main__":
    main()
