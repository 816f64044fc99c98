# ruff: noqa: INP001 - a script beside the documents, not a package
"""What btcml is made of: a CycloneDX bill of materials and the list of licences, from lock and environment.

Run by ``make sbom``. Versions and hashes come from ``requirements.run.lock``; licences from what is
installed. Packages for other systems are listed too, without a licence.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

__all__ = ["components", "licence_of"]

ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def licence_of(name: str) -> str:
    """Licence as the installed package states it; empty where it is not installed."""
    try:
        facts = metadata(name)
    except PackageNotFoundError:
        return ""
    expression = facts.get("License-Expression")
    if expression:
        return str(expression)
    classified = [c.rsplit(" :: ", 1)[1] for c in facts.get_all("Classifier") or [] if c.startswith("License :: ")]
    classified = [words for words in classified if words != "OSI Approved"]
    stated = str(facts.get("License") or "").strip().splitlines()
    return "; ".join(classified) or (stated[0] if stated else "not stated")


def components(lock: str) -> list[dict[str, Any]]:
    """One component a pinned package: name, version, purl, hashes of its files, licence."""
    parts = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    found = []
    for part in parts:
        match = _PIN.match(part)
        if match is None:
            continue
        name, version = match.groups()
        entry: dict[str, Any] = {"type": "library", "name": name, "version": version}
        entry |= {"purl": f"pkg:pypi/{name}@{version}", "bom-ref": f"{name}@{version}"}
        entry["properties"] = [{"name": "sha256", "value": value} for value in _HASH.findall(part)]
        licence = licence_of(name)
        if licence:
            entry["licenses"] = [{"license": {"name": licence}}]
        found.append(entry)
    return found


def main() -> None:
    """Write ``build/sbom.cdx.json`` and ``build/LICENSES.md``."""
    found = components((ROOT / "requirements.run.lock").read_text(encoding="utf-8"))
    out = ROOT / "build"
    out.mkdir(exist_ok=True)
    subject = {"type": "application", "name": "btcml", "licenses": [{"license": {"id": "MIT"}}]}
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": subject}}
    (out / "sbom.cdx.json").write_text(json.dumps(sbom | {"components": found}, indent=1) + "\n", encoding="utf-8")
    rows = [
        (c["name"], c["version"], c.get("licenses", [{}])[0].get("license", {}).get("name", "other systems only"))
        for c in found
    ]
    lines = ["# Licences of what btcml runs on", "", "| package | version | licence |", "|---|---|---|"]
    lines += [f"| {name} | {version} | {licence.replace('|', '/')} |" for name, version, licence in rows]
    (out / "LICENSES.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(found)} packages: {out / 'sbom.cdx.json'}, {out / 'LICENSES.md'}\n")


if __name__ == "__main__":
    main()
