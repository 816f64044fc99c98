"""Known vulnerabilities of the packages in ``requirements.run.lock``.

Run by ``make audit``. With ``OSV=all.zip`` (the PyPI export of osv.dev, one JSON file a vulnerability) it
needs no network. Otherwise pip-audit queries the package index, then osv.dev. Each service must first report the
vulnerability of a release that is known to have one: a mirror without vulnerability data would report
every lock file as clean.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
CANARY = "jinja2==2.10"
"""A release with a known vulnerability (CVE-2019-10906)."""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_SERVICES = ("pypi", "osv")
_TIMEOUT_S = 900


def locked(text: str) -> dict[str, str]:
    """Versions by name of a lock file."""
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def audit_offline(export: Path, pins: dict[str, str]) -> list[str]:
    """Vulnerabilities of the pinned versions by an export of osv.dev, as ``name version: id, summary``.

    Raises
    ------
    SystemExit
        If the export holds no vulnerability at all.
    """
    found, seen = [], 0
    with zipfile.ZipFile(export) as archive:
        for name in archive.namelist():
            entry = json.loads(archive.read(name))
            seen += 1
            found += [] if entry.get("withdrawn") else list(_hits(entry, pins))
    if not seen:
        sys.exit(f"btcml: {export} holds no vulnerability: fetch the PyPI export of osv.dev again")
    return sorted(set(found))


def _hits(entry: dict[str, Any], pins: dict[str, str]) -> Iterator[str]:
    for affected in entry.get("affected", []):
        name = canonicalize_name(affected.get("package", {}).get("name", ""))
        version = pins.get(name)
        if version and (version in affected.get("versions", []) or _in_ranges(affected.get("ranges", []), version)):
            yield f"{name} {version}: {entry['id']}, {entry.get('summary', '')}"


def _in_ranges(ranges: list[dict[str, Any]], version: str) -> bool:
    """Whether a version lies in one of the ranges: introduced, until fixed or last affected."""
    wanted = Version(version)
    for span in (span for span in ranges if span.get("type") == "ECOSYSTEM"):
        inside = False
        for event in span.get("events", []):
            kind, bound = next(iter(event.items()))
            try:
                edge = Version(bound)
            except InvalidVersion:
                continue
            if kind == "introduced" and wanted >= edge:
                inside = True
            elif (kind == "fixed" and wanted >= edge) or (kind == "last_affected" and wanted > edge):
                inside = False
        if inside:
            return True
    return False


def _pip_audit(service: str, requirements: Path, *more: str) -> subprocess.CompletedProcess[str]:
    options = ["--vulnerability-service", service, "--disable-pip", "--requirement", str(requirements), *more]
    command = [sys.executable, "-m", "pip_audit", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own command


def service_problem(service: str) -> str:
    """Why the answers of a service cannot be trusted; empty where it reports the canary's vulnerability."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "canary.txt"
        file.write_text(f"{CANARY}\n", encoding="utf-8")
        done = _pip_audit(service, file, "--no-deps", "--format", "json")
    try:
        facts = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
    return "" if any(item.get("vulns") for item in facts) else f"no vulnerability of {CANARY} reported"


def _audit_online(lock: Path) -> int:
    problems = {}
    for service in _SERVICES:
        problems[service] = service_problem(service)
        if not problems[service]:
            done = _pip_audit(service, lock, "--require-hashes")
            sys.stdout.write(done.stdout + done.stderr)
            return done.returncode
    reasons = "; ".join(f"{service}: {why}" for service, why in problems.items())
    sys.stderr.write(f"btcml: NOTHING WAS AUDITED, no service has vulnerability data ({reasons}): use OSV=all.zip\n")
    return 2


def main() -> int:
    """Audit the lock that runs."""
    lock, export = ROOT / "requirements.run.lock", os.environ.get("OSV", "")
    if not export:
        return _audit_online(lock)
    pins = locked(lock.read_text(encoding="utf-8"))
    found = audit_offline(Path(export), pins)
    sys.stdout.write("".join(f"{line}\n" for line in found) + f"{len(pins)} packages, {len(found)} vulnerabilities\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
