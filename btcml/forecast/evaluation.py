"""All figures of one model's forecasts on a span, for a page that draws them.

The forecasts may be of a walk-forward, sealed, or both: they were made before their candle, by
whatever model served. The figures are those of the metrics, of `reliability` and
of `money_curve`; this module gathers them and adds rolling ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from btcml.forecast.metrics import PERSISTENCE, evaluate, reliability
from btcml.forecast.money import decisions, money_curve
from btcml.forecast.verdict import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray


REPEAT = "repeat"
"""The baseline that forecasts the last move once more."""

SPAN_SCORES: tuple[str, ...] = (
    "mae_bp", "mae_usd", "rmse_usd", "skill",
    "direction", "direction_low", "direction_high", "wda", "coverage", "brier",
)  # fmt: skip
"""Metrics of a span."""

_BP = 1e4
_SHORTEST, _LONGEST, _PARTS = 20, 288, 4
_BINS, _MIN_IN_BIN = 10, 40
_LEVEL = 0.95


@dataclass(frozen=True)
class SpanEvaluation:
    """Figures of one model on a span.

    Attributes
    ----------
    scores
        `SPAN_SCORES` of persistence, the model and `REPEAT`, each on all of its own rows.
    right, moved
        Right signs among the rows in which forecast and candle moved.
    reliability
        Forecast probability of a rise against its frequency, in bins of at least 40 rows.
    money
        ``cost_bp, threshold_bp, trips`` (round trips) and the sums ``gross_bp, net_bp`` in bp.
    decision
        `btcml.forecast.money.decisions` at the cost; None without forecasts.
    rolling
        See `rolling_direction`.
    candles
        A row per forecast: ``open_time``, ``origin`` where it is known, ``error_bp`` and ``error_pct``
        (signed), ``move_bp`` and ``forecast_bp`` (from the base), ``right`` (1, 0 or NaN), ``inside`` (of
        the interval: 1, 0 or NaN), and the sums of `money_curve`, with ``repeat_bp`` for `REPEAT` after costs.
    """

    scores: pd.DataFrame
    right: int
    moved: int
    reliability: pd.DataFrame
    money: dict[str, float]
    decision: dict[Any, float] | None
    rolling: pd.DataFrame
    candles: pd.DataFrame

    def to_dict(self, *, curves: bool = True) -> dict[str, Any]:
        """Plain JSON values; `rolling` and `candles` as columns, and only with `curves`."""
        facts: dict[str, Any] = {
            "scores": self.scores.to_dict("records"),
            "direction": {"right": self.right, "rows": self.moved},
            "reliability": self.reliability.to_dict("records"),
            "money": self.money,
            "decision": self.decision,
        }
        if curves:
            facts |= {"rolling": _columns(self.rolling), "candles": _columns(self.candles)}
        return dict(plain(facts))


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    times = {"time": frame["open_time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ").tolist()}
    return times | {str(name): frame[name].tolist() for name in frame if name != "open_time"}


def evaluate_span(
    forecasts: pd.DataFrame, *, cost_bp: float = 2.0, threshold_bp: float = 0.0, trials: int = 1
) -> SpanEvaluation:
    """Gather the figures of one model's forecasts.

    Parameters
    ----------
    forecasts
        Forecast frame of one model with outcomes, sorted by ``open_time``, and ``before``: the close
        before the base, NaN where it is not known. It may be empty.
    cost_bp
        Cost of a round trip in bp.
    threshold_bp
        Forecast move below which nothing is traded, in bp.
    trials
        Models and settings tried, for the deflated Sharpe ratio.
    """
    frame = forecasts.dropna(subset=["y", "y_hat", "base"]).reset_index(drop=True)
    candles = _candles(frame)
    curve = money_curve(frame, cost_bp, threshold_bp=threshold_bp)
    repeated = money_curve(repeat_last(frame), cost_bp).set_index("open_time")["net_bp"]
    candles = candles.join(curve[["gross_bp", "net_bp", "hold_bp"]])
    candles["repeat_bp"] = candles["open_time"].map(repeated)
    sums = {name: float(curve[name].iloc[-1]) if len(curve) else 0.0 for name in ("gross_bp", "net_bp")}
    return SpanEvaluation(
        scores=_scores(frame),
        right=int(candles["right"].sum()),
        moved=int(candles["right"].notna().sum()),
        reliability=reliability(frame, max(1, min(_BINS, int(frame["prob_up"].notna().sum()) // _MIN_IN_BIN))),
        money={"cost_bp": cost_bp, "threshold_bp": threshold_bp, "trips": float(curve["sides"].sum()) / 2} | sums,
        decision=next(iter(decisions(frame, [cost_bp], trials=trials).to_dict("records")), None),
        rolling=rolling_direction(frame),
        candles=candles,
    )


def seal_lags(forecasts: pd.DataFrame) -> dict[str, float]:
    """Seconds of the market's clock from the close of a candle until the forecast of the next one was sealed.

    Parameters
    ----------
    forecasts
        ``open_time`` of the candle that is forecast, at which the one before closes, and ``made_at``.

    Returns
    -------
    dict
        ``p50`` and ``p99``, each a lag that occurred; empty where there is no forecast.

    Examples
    --------
    >>> noon = pd.Timestamp("2025-03-01 12:00", tz="UTC")
    >>> made = [noon + pd.Timedelta(seconds=lag) for lag in (0.5, 0.25, 3.0)]
    >>> seal_lags(pd.DataFrame({"open_time": noon, "made_at": made}))
    {'p50': 0.5, 'p99': 3.0}
    """
    if forecasts.empty:
        return {}
    lags = (forecasts["made_at"] - forecasts["open_time"]).dt.total_seconds()
    return {f"p{share}": float(np.quantile(lags, share / 100, method="higher")) for share in (50, 99)}


def repeat_last(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of the baseline that repeats the last move, on the rows on which it is known."""
    known = forecasts[forecasts["before"].notna()].reset_index(drop=True)
    nothing = {"lo": np.nan, "hi": np.nan, "prob_up": np.nan}
    return known.assign(model=REPEAT, y_hat=known["base"] ** 2 / known["before"], **nothing)


def _scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores of persistence and the model on one set of rows, and of the repeating baseline on its own."""
    tables = [_beside_persistence(part) for part in (frame, repeat_last(frame)) if len(part)]
    if not tables:
        return pd.DataFrame(columns=["model", "rows", *SPAN_SCORES])
    return pd.concat(tables, ignore_index=True).drop_duplicates("model", ignore_index=True)


def _beside_persistence(part: pd.DataFrame) -> pd.DataFrame:
    if part["model"].iloc[0] != PERSISTENCE:
        none = part.assign(model=PERSISTENCE, y_hat=part["base"], lo=np.nan, hi=np.nan, prob_up=np.nan)
        part = pd.concat([part, none], ignore_index=True)
    return evaluate(part, SPAN_SCORES)


def _signs(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sign of the candle and of the forecast."""
    y, y_hat, base = (frame[name].to_numpy(dtype=float) for name in ("y", "y_hat", "base"))
    return np.sign(y - base), np.sign(y_hat - base)


def _candles(frame: pd.DataFrame) -> pd.DataFrame:
    went, said = _signs(frame)
    bounded = frame["lo"].notna() & frame["hi"].notna()
    return pd.DataFrame(
        {name: frame[name] for name in ("open_time", "origin") if name in frame}
        | {
            "error_bp": _BP * np.log(frame["y_hat"] / frame["y"]),
            "error_pct": 100 * (frame["y_hat"] / frame["y"] - 1),
            "move_bp": _BP * np.log(frame["y"] / frame["base"]),
            "forecast_bp": _BP * np.log(frame["y_hat"] / frame["base"]),
            "right": np.where((went == 0) | (said == 0), np.nan, went == said),
            "inside": frame["y"].between(frame["lo"], frame["hi"]).astype(float).where(bounded),
        }
    )


def rolling_direction(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Right signs over the last candles, beside the baseline and what a coin would give.

    Parameters
    ----------
    forecasts
        As `evaluate_span` takes them. Only rows count in which forecast and candle moved and the move
        before is known; the window is a quarter of them, 20 to 288.

    Returns
    -------
    DataFrame
        A row per full window: ``open_time``, ``window``, ``direction`` (share of right signs), ``wda``
        (weighted by the size of the move), ``repeat`` (`REPEAT`'s share), and ``low`` and ``high``: the
        95 % binomial range of a coin over a window.
    """
    went, said = _signs(forecasts)
    moved = forecasts[(went != 0) & (said != 0) & forecasts["before"].notna().to_numpy()].reset_index(drop=True)
    went, said = _signs(moved)
    size = pd.Series(np.abs(np.log(moved["y"] / moved["base"])), dtype=float)
    right = pd.Series(went == said, dtype=float)
    repeat = pd.Series(np.sign(moved["base"] - moved["before"]) == went, dtype=float)
    window = max(_SHORTEST, min(_LONGEST, len(moved) // _PARTS))
    low, high = binom.interval(_LEVEL, window, 0.5)
    table = pd.DataFrame(
        {
            "open_time": moved["open_time"],
            "window": window,
            "direction": right.rolling(window).mean(),
            "wda": (right * size).rolling(window).sum() / size.rolling(window).sum(),
            "repeat": repeat.rolling(window).mean(),
            "low": low / window,
            "high": high / window,
        }
    )
    return table.iloc[window - 1 :].reset_index(drop=True)
