"""The page's own files: modules, style, and the chart library as its makers published it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

__all__ = ["LIBRARY_SHA256", "MODULES", "STATIC", "assets_hash", "module_text", "style_text"]

FILES = Path(__file__).parent / "dashboard_files"
"""Folder that Jupyter searches for our template."""

STATIC = FILES / "voila" / "templates" / "btcml" / "static"
"""Folder of what a browser loads."""

LIBRARY_SHA256 = "1bb1ee79f9d4dd17261b53d930f7a8995748276f80e7ba0e24412b5068062f5f"
"""Of lightweight-charts 5.2.1, dist/lightweight-charts.standalone.production.mjs, unmodified (Apache 2.0)."""

MODULES = (
    "lightweight-charts.js",
    "words.js",
    "format.js",
    "figures.js",
    "link.js",
    "layers.js",
    "charts.js",
    "drawings.js",
    "layout.js",
    "dashboard.js",
)
"""Modules, each after those that it imports; the last one is the widget."""

_LOADER = """
const made = {};
for (const [name, text] of files) {
  const linked = text.replace(/from "\\.\\/([\\w.-]+)"/g, (_, other) => `from "${made[other]}"`);
  made[name] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
}
const widget = await import(made[files[files.length - 1][0]]);
export default widget.default;
"""


def module_text() -> str:
    """One module that carries all of them, for JupyterLab: a relative import does not work there."""
    files = [(name, (STATIC / name).read_text(encoding="utf-8")) for name in MODULES]
    return f"const files = {json.dumps(files)};\n{_LOADER}"


def style_text() -> str:
    """Style sheet of the page."""
    return (STATIC / "dashboard.css").read_text(encoding="utf-8")


def assets_hash() -> str:
    """Short hash of all files: a browser may keep them until it changes."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]
