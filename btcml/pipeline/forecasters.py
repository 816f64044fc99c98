"""Forecasters of other packages (`btcml.forecast.foreign`), each run in its own process with limits."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import spearmanr

from btcml.candles import TIME, interval_delta
from btcml.errors import NotReadyError
from btcml.forecast.apart import MEMORY_MIB, SECONDS, run_apart
from btcml.forecast.experiment import Experiment
from btcml.forecast.foreign import new_candles
from btcml.forecast.judge_checks import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence


OUTSIDE, LEAST_AGREEMENT = "outside knowledge", 0.9
"""Name of the check of a second run, and the rank correlation with the first that it should reach."""

_WEEKS = pd.Timedelta(weeks=104)
_FACTOR = 0.5
_AGAIN = 100


@dataclass(frozen=True)
class Grid:
    """On which candles forecasters are judged, and what they may use.

    Attributes
    ----------
    cutoffs
        Number of cutoffs at most, every n-th candle of the newest third (a year at most).
    window
        Candles up to the cutoff that a forecaster is given.
    horizons
        Candles ahead.
    level
        Level of the interval that is asked for.
    seconds, memory_mib
        Limits of one run.
    """

    cutoffs: int = 2000
    window: int = 1000
    horizons: tuple[int, ...] = (1,)
    level: float = 0.9
    seconds: float = SECONDS
    memory_mib: int = MEMORY_MIB

    def positions(self, candles: pd.DataFrame, interval: str) -> list[int]:
        """Positions of the cutoffs in a candle frame.

        Raises
        ------
        NotReadyError
            If there are too few candles.
        """
        start = Experiment.default(candles, interval, self.horizons).plan.first_test
        first, last = int(candles["open_time"].searchsorted(start)) - 1, len(candles) - 1 - max(self.horizons)
        if first < self.window:
            msg = f"a forecaster needs {self.window} candles before the test, found {first + 1}: give more, or --window"
            raise NotReadyError(msg)
        if last <= first:
            found, ahead = len(candles) - 1 - first, max(self.horizons)
            msg = f"the test has {found} candles, too few for forecasts of {ahead} candles ahead: give more"
            raise NotReadyError(msg)
        units = (candles["open_time"] - candles["open_time"].iloc[first]) // interval_delta(interval)
        places = np.arange(first, last + 1)
        step = max(1, -(-(last - first) // self.cutoffs))
        return [int(place) for place in places[units.to_numpy()[places] % step == 0]]


def run_forecasters(
    names: Sequence[str], candles: pd.DataFrame, interval: str, grid: Grid, *, beside: bool = False
) -> tuple[dict[str, pd.DataFrame], list[Finding]]:
    """Forecasts of each forecaster on the grid, as the judge takes them; one that fails is a finding.

    Parameters
    ----------
    names
        Names registered as entry points ``btcml.models``, or ``module:factory``.
    candles, interval
        The candles.
    grid
        The cutoffs and limits.
    beside
        Whether other forecasts are judged beside theirs.

    Raises
    ------
    NotReadyError
        If all of them fail, and nothing is judged beside them.
    """
    made = grid.positions(candles, interval)
    frames: dict[str, pd.DataFrame] = {}
    findings = []
    for name in names:
        try:
            frames[name] = _run(name, candles, interval, grid, made)
        except NotReadyError as error:
            findings.append(Finding("failed", name, 0, 0, suspected=False, sentence=str(error)))
        else:
            findings += _second_run(name, frames[name], candles, interval, grid)
    if not frames and not beside:
        raise NotReadyError(findings[0].sentence)
    return frames, findings


def _second_run(name: str, first: pd.DataFrame, candles: pd.DataFrame, interval: str, grid: Grid) -> list[Finding]:
    """Compare with a run at other times and prices: a function of the candles alone gives the same forecasts."""
    longest = first[first["horizon"] == first["horizon"].max()]
    chosen = longest.iloc[:: max(1, len(longest) // _AGAIN)]
    moved = candles.assign(open_time=candles["open_time"] - _WEEKS, close=candles["close"] * _FACTOR)
    try:
        again = _run(name, moved, interval, grid, chosen["made"].tolist())
    except NotReadyError as error:
        words = f"{name} fails on the same candles at another time and price: {error}"
    else:
        again = again[again["horizon"] == longest["horizon"].iloc[0]]
        base = candles["close"].to_numpy()[chosen["made"]]
        one, two = np.log(chosen["y_hat"].to_numpy() / base), np.log(again["y_hat"].to_numpy() / (base * _FACTOR))
        if np.allclose(one, two, atol=1e-9, equal_nan=True):
            return []
        rank = float(spearmanr(one, two, nan_policy="omit").statistic) if np.ptp(one) and np.ptp(two) else 0.0
        if rank >= LEAST_AGREEMENT:
            return []
        words = f"{name} has other forecasts of the same candles at another time and price (correlation {rank:.2f})."
    return [Finding(OUTSIDE, name, 0, len(chosen), suspected=True, sentence=words)]


def _run(name: str, candles: pd.DataFrame, interval: str, grid: Grid, made: Sequence[int]) -> pd.DataFrame:
    """Run a forecaster in its own process.

    Raises
    ------
    NotReadyError
        If it fails, or exceeds a limit.
    """
    times, step = candles["open_time"], interval_delta(interval)
    whole = pd.date_range(times.iloc[0], times.iloc[-1], freq=step, unit="us")
    filled = candles.set_index("open_time")["close"].reindex(whole).ffill()  # what is missing has the last close
    frame = pd.DataFrame({"unique_id": "close", "ds": whole.tz_localize(None), "y": filled.to_numpy()})
    places = whole.get_indexer(pd.Index(times.iloc[list(made)]))
    answers = _answers(name, list(new_candles(frame, places.tolist())), grid)
    found = pd.DataFrame([{"made": place} | row for place, rows in zip(made, answers, strict=True) for row in rows])
    cutoff = times.iloc[found["made"]].reset_index(drop=True)
    said = found["y_hat"].dropna().to_numpy()
    odd = said[~(np.isfinite(said) & (said > 0))]
    if len(odd) or not len(said):
        msg = f"{name} failed: its forecasts should be prices, found {odd[0] if len(odd) else 'NaN alone'}"
        raise NotReadyError(msg)
    return found.assign(model=name, cutoff=cutoff, open_time=(cutoff + found["horizon"] * step).astype(TIME))


def _answers(name: str, parts: Sequence[pd.DataFrame], grid: Grid) -> list[list[dict[str, float]]]:
    """Forecasts at each cutoff; the candles of the next one are sent when they are there."""

    def exchange(sent: IO[bytes], answers: IO[bytes]) -> list[list[dict[str, float]]] | None:
        """Send candles and read forecasts in turn."""
        found: list[list[dict[str, float]]] = []
        schema = pa.Schema.from_pandas(parts[0], preserve_index=False).remove_metadata()
        with suppress(OSError, ValueError), pa.ipc.new_stream(sent, schema) as batches:
            for part in parts:
                batches.write_batch(pa.RecordBatch.from_pandas(part, schema))
                sent.flush()
                found.append(json.loads(answers.readline()))
        return found if len(found) == len(parts) else None

    plan = asdict(grid) | {"name": name}
    return run_apart(name, "btcml.forecast.foreign", plan, exchange, grid.seconds, grid.memory_mib)
