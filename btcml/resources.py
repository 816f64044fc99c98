"""Where the files lie that belong to btcml but are no Python: one function for checkout and wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["resource"]

_INSIDE = {"reports/template": "reports_template"}


def resource(name: str) -> Path:
    """Path of ``data_contracts``, ``notebooks``, ``reports/template`` or ``requirements.lock``.

    In an installed wheel they lie inside the package, in a checkout beside it.

    Examples
    --------
    >>> resource("notebooks").joinpath("01-ingest.ipynb").exists()
    True
    """
    package = Path(__file__).resolve().parent
    inside = package / _INSIDE.get(name, name)
    return inside if inside.exists() else package.parent / name
