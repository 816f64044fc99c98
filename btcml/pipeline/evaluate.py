"""Evaluate: forecast the past walk-forward, let the fixed rule judge, and keep what it saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.candles import SeriesKey, interval_delta
from btcml.continuity import suspect_rows
from btcml.errors import NotReadyError
from btcml.files import replaced_file
from btcml.forecast.backtest import Backtest, WalkedAll, assemble, walk_all
from btcml.forecast.dataset import make_dataset
from btcml.forecast.metrics import evaluate as score
from btcml.forecast.naming import RANGE
from btcml.forecast.splits import WalkForward
from btcml.forecast.training import SERVED
from btcml.forecast.verdict import Verdict, verdict
from btcml.store.candles import read_candles, read_last_candles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btcml.settings import Settings
    from btcml.store.engine import Store

__all__ = [
    "LEAST_CANDLES",
    "Judged",
    "evaluate",
    "figures",
    "judge",
    "load_walk",
    "plan_of",
    "read_window",
    "save_walk",
    "series_folder",
    "verdict_facts",
]

LEAST_CANDLES = 2_000
"""Fewest candles that can be trained on and judged."""

FIGURES = (
    "mae_usd",
    "rmse_usd",
    "mae_bp",
    "r2",
    "mape",
    "smape",
    "ratio",
    "skill",
    "dm_z",
    "dm_p",
    "direction",
    "coverage",
)
"""Metrics of a training, each beside persistence's."""

_MOST_TEST = pd.Timedelta(days=365)


@dataclass(frozen=True)
class Judged:
    """A walk-forward and what the rule says of it.

    Attributes
    ----------
    verdict
        Champion, reason and table.
    walk
        The forecast frame of the test with ``open, high, low, amp`` beside the close's ``y_hat``.
    raw
        What the frame was made of, for the training that follows.
    """

    verdict: Verdict
    walk: pd.DataFrame
    raw: WalkedAll


def read_window(store: Store, key: SeriesKey, days: int) -> pd.DataFrame:
    """Read the newest `days` of candles, or what there is of them.

    Raises
    ------
    NotReadyError
        If they are too few to train on.
    """
    newest = read_last_candles(store, key, 1)
    candles = newest
    if len(newest):
        candles = read_candles(store, key, start=newest["open_time"].iloc[-1] - pd.Timedelta(days=days))
    if len(candles) < LEAST_CANDLES:
        msg = (
            f"training needs {LEAST_CANDLES} candles of {key}, found {len(candles)} in the last {days} days: "
            "train on more days, or backfill more first"
        )
        raise NotReadyError(msg)
    return candles


def plan_of(candles: pd.DataFrame, interval: str) -> WalkForward:
    """Test the newest third of the candles, at most a year, refitting every half year.

    The year ends with the last candle or after it: a minute less, and everything would be fitted
    once more for that minute.
    """
    first, end = candles["open_time"].iloc[0], candles["open_time"].iloc[-1] + interval_delta(interval)
    start = end - min((end - first) / 3, _MOST_TEST)
    return WalkForward(start.ceil("h").isoformat(), refit="6 months", burn_in="60 days")


def judge(
    candles: pd.DataFrame,
    key: SeriesKey,
    *,
    looks: int = 1,
    reigning: str = "persistence",
    models: Sequence[str] = SERVED,
    jobs: int = 2,
) -> Judged:
    """Forecast the newest third of the candles out of sample, and judge who serves.

    Parameters
    ----------
    looks
        Verdicts that the series has seen, this one included.
    reigning
        The champion so far.
    """
    data = make_dataset(candles, key.interval, suspects=suspect_rows(candles, key.interval))
    plan = plan_of(candles, key.interval)
    walked = walk_all(data, plan.folds(candles["open_time"], key.interval), models, jobs=jobs)
    both = assemble(walked, models, (RANGE,), plan)
    return Judged(verdict(both.close, looks=looks, reigning=reigning), _whole_candles(both, candles), walked)


def _whole_candles(both: Backtest, candles: pd.DataFrame) -> pd.DataFrame:
    """Put forecast open, high, low and amplitude beside each forecast close, from the range forecast.

    The shares of the range above and below the last close are running medians of the outcomes before.
    """
    ranges = both.log_range[both.log_range["model"] != "persistence"]
    frame = both.close.merge(
        ranges[["open_time", "y_hat"]].rename(columns={"y_hat": "range"}), on="open_time", how="left"
    )
    real = candles.set_index("open_time")[["high", "low"]].reindex(ranges["open_time"])
    base = both.close[both.close["model"] == "persistence"].set_index("open_time")["base"].reindex(ranges["open_time"])
    width = np.exp(ranges["y_hat"].to_numpy())
    up = pd.Series(np.log(real["high"].to_numpy() / base.to_numpy()) / width).shift(1).expanding().median()
    down = pd.Series(np.log(base.to_numpy() / real["low"].to_numpy()) / width).shift(1).expanding().median()
    shares = pd.DataFrame({"open_time": ranges["open_time"].to_numpy(), "up": up.fillna(0.5), "down": down.fillna(0.5)})
    frame = frame.merge(shares, on="open_time", how="left")
    spread = np.exp(frame["range"].fillna(-math.inf))
    top = frame[["y_hat", "base"]].max(axis=1)
    bottom = frame[["y_hat", "base"]].min(axis=1)
    frame["open"] = frame["base"]
    frame["high"] = np.maximum(top, frame["base"] * np.exp(frame["up"] * spread))
    frame["low"] = np.minimum(bottom, frame["base"] * np.exp(-frame["down"] * spread))
    frame["amp"] = frame["high"] - frame["low"]
    return frame.drop(columns=["range", "up", "down"])


def verdict_facts(found: Verdict) -> dict[str, Any]:
    """Plain values of a verdict, as they stand in the database."""
    table = found.table.set_index("model", drop=False)
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]
    own = table.loc[found.champion] if found.champion in table.index else None
    return {
        "champion": found.champion,
        "reason": found.reason,
        "looks": found.looks,
        "rows": found.rows,
        "alpha": found.alpha,
        "skill": _skill(found),
        "dm_z": None if own is None else _plain(own["z"]),
        "dm_p": None if own is None else _plain(own["p_holm"]),
        "table": rows,
    }


def _skill(found: Verdict) -> float:
    ratios = dict(zip(found.table["model"], found.table["ratio"], strict=True))
    return 0.0 if found.champion == "persistence" else 1 - float(ratios[found.champion])


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    return int(value) if isinstance(value, np.integer) else value


def figures(forecasts: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Metrics by model of a forecast frame; empty where no candle can be scored."""
    if forecasts.empty:
        return {}
    table = score(forecasts, FIGURES)
    records = table.set_index("model").to_dict("index")
    return {str(model): {str(k): _plain(v) for k, v in row.items()} for model, row in records.items()}


def series_folder(settings: Settings, key: SeriesKey) -> Path:
    """Folder of a series' models."""
    return settings.models / key.market.replace(":", "-") / key.symbol / key.interval


def save_walk(settings: Settings, key: SeriesKey, walk: pd.DataFrame) -> Path:
    """Keep the newest walk-forward of a series: written aside, synced, renamed."""
    path = series_folder(settings, key) / "walk-forward.parquet"
    with replaced_file(path) as new:
        walk.assign(model=walk["model"].astype("str")).to_parquet(new, index=False)
    return path


def load_walk(settings: Settings, key: SeriesKey) -> pd.DataFrame | None:
    """Read the newest walk-forward of a series, or None before the first verdict."""
    file = series_folder(settings, key) / "walk-forward.parquet"
    return pd.read_parquet(file) if file.exists() else None


def evaluate(store: Store, settings: Settings, key: SeriesKey, *, days: int = 1095, jobs: int = 2) -> dict[str, Any]:
    """Judge the models of a series on its newest candles, without putting any into service.

    Returns
    -------
    dict
        The verdict's facts, and the figures of every model beside persistence's.
    """
    judged = judge(read_window(store, key, days), key, jobs=jobs)
    save_walk(settings, key, judged.walk)
    return verdict_facts(judged.verdict) | {"figures": figures(judged.walk)}
