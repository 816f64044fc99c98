"""Forecasters of other packages: their forecasts on a grid of cutoffs.

A forecaster has ``fit(df)`` and ``predict(h)`` in the form of Nixtla's libraries: ``df`` has ``unique_id, ds, y`` (here
the close), and ``predict`` returns a column with forecasts of the next h candles. It is given no candle after the
cutoff: ``python -m btcml.forecast.foreign PLAN`` runs one in its own process, and later candles are sent to it only
when it has returned the forecasts of the cutoff.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from btcml.errors import UsageError
from btcml.forecast.apart import limit_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


GROUP = "btcml.models"
"""Group of the entry points under which another package registers factories of models, or of forecasters."""

QUANTILE = re.compile(r"q(\d+(?:\.\d+)?)")
"""Name of a column of quantiles, with the level in per cent."""

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


def new_candles(frame: pd.DataFrame, made: Iterable[int]) -> Iterator[pd.DataFrame]:
    """Candles that are new at each cutoff; at the first one, all before it, too."""
    for last, place in itertools.pairwise([-1, *made]):
        yield frame.iloc[last + 1 : place + 1].reset_index(drop=True)


def forecast_grid(
    factory: Callable[[], Any], parts: Iterable[pd.DataFrame], plan: Mapping[str, Any]
) -> Iterator[list[dict[str, float]]]:
    """Forecasts of one forecaster at each cutoff, before the candles of the next one are asked for.

    One whose ``predict`` takes ``new_df`` is fitted once, on all candles up to the first cutoff; one with ``update``
    is fitted once and updated with the new candles; any other is fitted at each cutoff.

    Parameters
    ----------
    factory
        Makes an unfitted forecaster.
    parts
        ``unique_id, ds, y`` of the new candles at each cutoff (`new_candles`).
    plan
        ``window`` (candles that it is given), ``horizons`` and ``level``.

    Yields
    ------
    list of dict
        ``horizon, y_hat, lo, hi``, and quantiles such as ``q5`` where it gives them; one for each horizon.
    """
    model, window, with_interval = None, pd.DataFrame(), True
    ahead, level = max(plan["horizons"]), round(100 * plan["level"])
    for part in parts:
        window = pd.concat([window, part]).tail(plan["window"]).reset_index(drop=True)
        options, fitted = dict[str, Any](h=ahead), model
        model = fitted or factory()
        takes = inspect.signature(model.predict).parameters
        once = "new_df" in takes or hasattr(model, "update")
        if fitted is None:
            model.fit(part if once else window.copy())
        elif "new_df" in takes:
            options["new_df"] = window.copy()
        else:
            model.update(part)
        asked = level if with_interval and "level" in takes else None
        found, with_interval = _predicted(model, options, asked)
        yield _rows(found, plan["horizons"], level)
        model = model if once else None


def _predicted(model: Any, options: dict[str, Any], level: int | None) -> tuple[pd.DataFrame, bool]:
    """Forecasts, with an interval where the forecaster has one; and whether it has."""
    if level is not None:
        with suppress(Exception):
            return model.predict(**options, level=[level]), True
    return model.predict(**options), False


def _rows(found: pd.DataFrame, horizons: Sequence[int], level: int) -> list[dict[str, float]]:
    """Rows of what ``predict`` returned: its first column of forecasts, the interval of that, and quantiles."""
    if not isinstance(found, pd.DataFrame):
        msg = f"predict should return a pandas DataFrame, found {type(found).__name__}"
        raise UsageError(msg)
    names = [str(name) for name in found if name not in _KEYS and not re.search(r"-(lo|hi)-", str(name))]
    quantiles = {name: name for name in names if QUANTILE.fullmatch(name)}
    points = [name for name in names if name not in quantiles]
    if not points or len(found) < max(horizons):
        columns, wanted = ", ".join(map(str, found)), max(horizons)
        msg = f"predict should return {wanted} rows with a column of forecasts, found {len(found)} with {columns}"
        raise UsageError(msg)
    known = {"y_hat": points[0], "lo": f"{points[0]}-lo-{level}", "hi": f"{points[0]}-hi-{level}"} | quantiles
    return [
        {"horizon": h}
        | {ours: float(found[theirs].iloc[h - 1]) if theirs in found else np.nan for ours, theirs in known.items()}
        for h in horizons
    ]


def _child(plan: Mapping[str, Any]) -> None:
    """Forecast as the candles come in, an Arrow batch for each cutoff; a line of JSON goes back for each."""
    answers = limit_process(plan)
    with pa.ipc.open_stream(sys.stdin.buffer) as batches:
        for rows in forecast_grid(find_factory(plan["name"]), (batch.to_pandas() for batch in batches), plan):
            answers.write(json.dumps(rows).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
