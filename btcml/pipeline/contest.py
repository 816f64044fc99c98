"""The whole contest: every model of the story over a test span, judged, scored and told as tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.continuity import suspect_rows
from btcml.errors import NotReadyError, UsageError
from btcml.forecast.backtest import run_backtests
from btcml.forecast.metrics import evaluate as score
from btcml.forecast.metrics import metric_names
from btcml.forecast.money import money
from btcml.forecast.search import search
from btcml.forecast.splits import WalkForward
from btcml.forecast.verdict import Verdict, verdict
from btcml.store.candles import read_candles
from btcml.store.models import append_trials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btcml.candles import SeriesKey
    from btcml.store.engine import Store

__all__ = ["CONTESTANTS", "Contest", "contest", "search_before"]

CONTESTANTS = (
    "lightgbm_mean",
    "lightgbm_huber",
    "lightgbm_l1",
    "extra_trees_strong",
    "random_forest",
    "ridge",
    "autoreg",
)
"""Models of the default evaluation, the strong settings where there are two."""

_PRICE = (
    "ratio",
    "dm_z",
    "dm_p",
    "mae_bp",
    "mae_usd",
    "rmse_bp",
    "r2",
    "direction",
    "top_direction",
    "brier_skill",
    "brier_z",
    "calibration_error",
)
_INTERVAL = ("coverage", "coverage_calm", "coverage_middle", "coverage_storm", "winkler_bp", "coverage_worst_day")


_MONEY = ("rule", "entry", "trips", "turnover", "gross_bp", "break_even_bp", "drawdown")


@dataclass(frozen=True)
class Contest:
    """What a contest found.

    Attributes
    ----------
    verdict
        Who would be served, by the fixed rule.
    close
        Models by metrics of the close, persistence first.
    interval
        The 90 % interval of the champion, or of the nearest model.
    log_range
        Models by metrics of the log range.
    months
        The champion's ratio, or the nearest model's, month by month.
    ages
        The same by whole months of 30 days since it was fitted: what refitting more often could win.
    money
        What its forecasts would have earned, entered at once and late, before and after costs; a
        minute late where the one-minute candles of the market are stored, else a candle late.
    """

    verdict: Verdict
    close: pd.DataFrame
    interval: pd.DataFrame
    log_range: pd.DataFrame
    months: pd.DataFrame
    ages: pd.DataFrame
    money: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        names = ("close", "interval", "log_range", "months", "ages", "money")
        tables = {name: _records(getattr(self, name)) for name in names}
        return {"champion": self.verdict.champion, "reason": self.verdict.reason} | tables

    def __str__(self) -> str:
        """Tables for a terminal."""
        tables = {
            "next close": self.close,
            "90 % interval": self.interval,
            "log range": self.log_range,
            "by age of the model in months of 30 days": self.ages,
            "money before costs, bp a round trip": self.money[self.money["cost_bp"] == 0][list(_MONEY)],
        }
        parts = [self.verdict.reason]
        for title, table in tables.items():
            parts += ["", title, table.to_string(index=False, float_format=lambda x: f"{x:.5g}")]
        below = int((self.months["ratio"] < 1).sum())
        parts.append(f"\nmonths with a smaller error than persistence: {below} of {len(self.months)}")
        return "\n".join(parts)


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows as JSON has them: what is not known is null."""
    plain = table.astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def contest(
    store: Store,
    key: SeriesKey,
    plan: WalkForward,
    *,
    models: Sequence[str] = CONTESTANTS,
    jobs: int = 2,
    backend: str = "loky",
    start: pd.Timestamp | None = None,
) -> Contest:
    """Let every model forecast the test span walk-forward, and judge.

    Parameters
    ----------
    plan
        Test span, window, refit and purge.
    models
        Names for `btcml.forecast.models.make_model`.
    jobs, backend
        Parallel fits, and joblib's backend for them: ``dask`` for a cluster.
    start
        First candle that may be used; omitted, the first that is stored.

    Raises
    ------
    NotReadyError
        If there are no candles before or in the test.
    """
    candles = read_candles(store, key, start)
    if candles.empty:
        msg = f"no candles of {key} yet: btcml backfill, or give --source"
        raise NotReadyError(msg)
    suspects = suspect_rows(candles, key.interval)
    both = run_backtests(candles, key.interval, models, plan, jobs=jobs, backend=backend, suspects=suspects)
    found = verdict(both.close)
    table = score(both.close, _PRICE)
    shown = found.champion if found.champion != "persistence" else str(table["model"].iloc[1])
    mine = both.close[both.close["model"].isin([shown, "persistence"])]
    interval = score(mine, _INTERVAL)
    months, ages = (score(mine, ["ratio"], by=by) for by in ("month", "age"))
    return Contest(
        verdict=found,
        close=table,
        interval=interval[interval["model"] == shown],
        log_range=score(both.log_range, metric_names("range")),
        months=months[months["model"] == shown].reset_index(drop=True),
        ages=ages[ages["model"] == shown].reset_index(drop=True),
        money=money(
            mine[mine["model"] == shown], late=_minute_prices(store, key, mine["open_time"]), trials=len(models)
        ),
    )


def _minute_prices(store: Store, key: SeriesKey, open_time: pd.Series) -> pd.Series | None:
    """Prices one minute into each candle, where the market's one-minute candles are stored."""
    minutes = read_candles(store, replace(key, interval="1m"), start=open_time.min(), end=open_time.max() + key.delta)
    return None if minutes.empty or key.interval == "1m" else minutes.set_index("open_time")["close"]


def search_before(
    store: Store, key: SeriesKey, test_from: str, n: int, *, jobs: int = 2, start: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Try `n` random settings on candles before the test, from `start` if given, and count every try.

    Returns
    -------
    DataFrame
        The tries, best first.

    Raises
    ------
    UsageError
        If `n` is below 1.
    """
    if n < 1:
        msg = f"a search needs at least one try, found {n}"
        raise UsageError(msg)
    candles = read_candles(store, key, start, pd.Timestamp(test_from, tz="UTC"))
    if candles.empty:
        msg = f"no candles of {key} before {test_from}: backfill more, or test later"
        raise NotReadyError(msg)
    tries = search(candles, key.interval, n, suspects=suspect_rows(candles, key.interval), jobs=jobs)
    rows = [{"model": "lightgbm", "parameters": json.dumps(t.params, sort_keys=True), "score": t.ratio} for t in tries]
    append_trials(store, key, f"search before {test_from}", rows, candles["close_time"].iloc[-1])
    return pd.DataFrame(rows)
