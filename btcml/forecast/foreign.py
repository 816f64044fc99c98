"""Forecasters of other packages: their forecasts on a grid of cutoffs.

A forecaster has ``fit(df)`` and ``predict(h)`` in the form of Nixtla's libraries: ``df`` has ``unique_id, ds, y`` (here
the close), and ``predict`` returns a column with forecasts of the next h candles. It is given no candle after the
cutoff. ``python -m btcml.forecast.foreign FOLDER`` runs one in its own process.
"""

from __future__ import annotations

import inspect
import json
import re
import resource
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


GROUP = "btcml.models"
"""Group of the entry points under which another package registers factories of models, or of forecasters."""

QUANTILE = re.compile(r"q(\d+(?:\.\d+)?)")
"""Name of a column of quantiles, with the level in per cent."""

_MIB = 1 << 20
_KEYS = {"unique_id", "ds", "cutoff", "index"}


def find_factory(name: str) -> Callable[[], Any]:
    """Return the factory of a registered name, or of ``module:factory``.

    Raises
    ------
    UsageError
        If there is none.
    """
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
        msg = f"a forecaster is a name registered under {GROUP} ({known}) or module:factory, found {name!r}"
        raise UsageError(msg)
    return getattr(import_module(module), attribute)


def forecast_grid(factory: Callable[[], Any], frame: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """Forecasts of one forecaster at each cutoff.

    One whose ``predict`` takes ``new_df`` is fitted once, on all candles up to the first cutoff; one with ``update``
    is fitted once and updated with the new candles; any other is fitted at each cutoff.

    Parameters
    ----------
    factory
        Makes an unfitted forecaster.
    frame
        ``unique_id, ds, y``.
    plan
        ``made`` (positions of the cutoffs), ``window`` (candles that it is given), ``horizons`` and ``level``.

    Returns
    -------
    DataFrame
        ``made, horizon, y_hat, lo, hi``, and quantiles such as ``q5`` where it gives them.
    """
    rows, fitted, known, with_interval = [], None, 0, True
    ahead, level = max(plan["horizons"]), round(100 * plan["level"])
    for place in plan["made"]:
        window = frame.iloc[max(0, place + 1 - plan["window"]) : place + 1].reset_index(drop=True).copy()
        model, options = fitted or factory(), dict[str, Any](h=ahead)
        takes = inspect.signature(model.predict).parameters
        if fitted is None:
            once = "new_df" in takes or hasattr(model, "update")
            model.fit(frame.iloc[: place + 1].copy() if once else window)
            fitted = model if once else None
        elif "new_df" in takes:
            options["new_df"] = window
        else:
            model.update(frame.iloc[known : place + 1].copy())
        known = place + 1
        asked = level if with_interval and "level" in takes else None
        found, with_interval = _predicted(model, options, asked)
        rows += _rows(found, place, plan["horizons"], level)
    return pd.DataFrame(rows)


def _predicted(model: Any, options: dict[str, Any], level: int | None) -> tuple[pd.DataFrame, bool]:
    """Forecasts, with an interval where the forecaster has one; and whether it has."""
    if level is not None:
        with suppress(Exception):
            return model.predict(**options, level=[level]), True
    return model.predict(**options), False


def _rows(found: pd.DataFrame, place: int, horizons: Sequence[int], level: int) -> list[dict[str, float]]:
    """Rows of what ``predict`` returned: its first column of forecasts, the interval of that, and quantiles."""
    names = [str(name) for name in found if name not in _KEYS and not re.search(r"-(lo|hi)-", str(name))]
    quantiles = {name: name for name in names if QUANTILE.fullmatch(name)}
    points = [name for name in names if name not in quantiles]
    if not points or len(found) < max(horizons):
        columns, wanted = ", ".join(map(str, found)), max(horizons)
        msg = f"predict should return {wanted} rows with a column of forecasts, found {len(found)} with {columns}"
        raise UsageError(msg)
    known = {"y_hat": points[0], "lo": f"{points[0]}-lo-{level}", "hi": f"{points[0]}-hi-{level}"} | quantiles
    return [
        {"made": place, "horizon": h}
        | {ours: float(found[theirs].iloc[h - 1]) if theirs in found else np.nan for ours, theirs in known.items()}
        for h in horizons
    ]


def _child(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    limit = plan["memory_mib"] * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    frame = pd.read_parquet(folder / "candles.parquet")
    forecast_grid(find_factory(plan["name"]), frame, plan).to_parquet(folder / "forecasts.parquet")


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
