"""A handful of names for exploration in Jupyter: plain arguments in, frames and readable results out.

They are offered by `btcml` itself, lazily: ``import btcml`` loads neither pandas nor scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import infer_interval
from btcml.errors import NotReadyError
from btcml.forecast import features
from btcml.forecast.backtest import run_backtest as walk_forward
from btcml.forecast.metrics import evaluate
from btcml.forecast.splits import WalkForward
from btcml.pipeline.ingest import backfill
from btcml.pipeline.predict import predict
from btcml.pipeline.sources import make_source
from btcml.settings import Settings, load_settings, run_parameters
from btcml.store import candles as stored
from btcml.store.engine import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btcml.candles import SeriesKey
    from btcml.market import Source
    from btcml.store.engine import Store

__all__ = ["BacktestResult", "NextCandle", "feature_frame", "predict_next", "read_candles", "run_backtest"]

_TRAIN_SHARE = 0.7
_COLUMNS = ("skill", "mae_usd", "mae_bp", "direction", "coverage")


def _opened(
    symbol: str, interval: str | None, source: str | None, days: int
) -> tuple[Settings, Store, Source, SeriesKey]:
    settings = load_settings()
    run = run_parameters(
        symbol=symbol,
        interval=interval or settings.btcml_interval,
        source=source or settings.btcml_source,
        days=days,
    )
    store = open_store(settings)
    found = make_source(settings, run.source, store)
    return settings, store, found, run.key(found.market)


def read_candles(
    symbol: str = "BTCUSDT", interval: str | None = None, *, days: int = 90, source: str | None = None
) -> pd.DataFrame:
    """Final candles of the last days, from the database; what is missing there is fetched first.

    Parameters
    ----------
    symbol, interval
        Which series; an omitted interval is ``BTCML_INTERVAL``.
    days
        Span before the source's present.
    source
        ``binance``, ``simulated``, ``auto``, or a file or folder; omitted: ``BTCML_SOURCE``.

    Returns
    -------
    DataFrame
        A candle frame: see `btcml.candles`.

    Raises
    ------
    NotReadyError
        If the market has no candles in the span.
    """
    _, store, market, key = _opened(symbol, interval, source, days)
    try:
        end = market.now()
        start = end - pd.Timedelta(days=days)
        backfill(store, market, key, (start, end))
        frame = stored.read_candles(store, key, start, end)
    finally:
        store.close()
    if frame.empty:
        msg = f"{key} has no candles in the last {days} days: choose another symbol, or more days"
        raise NotReadyError(msg)
    return frame


def feature_frame(
    candles: pd.DataFrame, names: str | Iterable[str] = "core", *, interval: str | None = None
) -> pd.DataFrame:
    """Features of each candle, from it and earlier ones only, with ``open_time`` as the index.

    Parameters
    ----------
    candles
        A candle frame.
    names
        A set (``core``, ``ohlcv``, ``range``, ``all``) or names of features.
    interval
        Told from the candles where omitted.

    Returns
    -------
    DataFrame
        Null in the warm-up at the start and after each gap.
    """
    values = features.feature_frame(candles, interval or infer_interval(candles["open_time"]), names)
    return values.set_index(pd.Index(candles["open_time"], name="open_time"))


@dataclass(frozen=True)
class BacktestResult:
    """A walk-forward: its forecasts and their scores, persistence in the first row.

    Attributes
    ----------
    forecasts
        Long forecast frame: a row for each model and test candle.
    interval
        Interval of the candles.
    """

    forecasts: pd.DataFrame
    interval: str

    @property
    def scores(self) -> pd.DataFrame:
        """One row a model; ``skill`` is 1 minus the ratio of its error to that of "no change"."""
        return evaluate(self.forecasts, [name for name in _COLUMNS if name in _known()])

    def _repr_html_(self) -> str:
        """Table of scores, and the sentence that a reader needs first."""
        table = self.scores
        best = table.iloc[1:].sort_values("skill", ascending=False).head(1)
        skill = float(best["skill"].iloc[0]) if len(best) else 0.0
        name = escape(str(best["model"].iloc[0])) if len(best) else "no model"
        verdict = f"{name} errs {100 * skill:.2f} % less than" if skill > 0 else f"{name} does not beat"
        first, last = self.forecasts["open_time"].min(), self.forecasts["open_time"].max()
        span = f"{table['rows'].iloc[0]:,} candles of {self.interval}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        html = table.round(5).to_html(index=False, border=0)
        sentence = f"<b>{verdict} “next close = this close”</b> on {span}."
        return f"<p>{sentence} One span proves nothing yet: see btcml report.</p>{html}"


def _known() -> set[str]:
    from btcml.forecast.metrics import METRICS  # noqa: PLC0415 - the register is filled by its package

    return set(METRICS)


def run_backtest(
    candles: pd.DataFrame,
    models: Sequence[str] = ("ridge",),
    *,
    test_from: str | None = None,
    interval: str | None = None,
    names: str | Iterable[str] = "core",
    jobs: int = 1,
) -> BacktestResult:
    """Forecast the last part of a span by models fitted on what was before.

    Parameters
    ----------
    candles
        A candle frame.
    models
        Names of `btcml.forecast.models.MODELS`, or of scikit-learn regressors.
    test_from
        First test candle; omitted, after 70 % of the span.
    interval
        Told from the candles where omitted.
    names
        Features, as for `feature_frame`.
    jobs
        Processes; no bit of the result depends on them.
    """
    interval = interval or infer_interval(candles["open_time"])
    first, last = candles["open_time"].iloc[0], candles["open_time"].iloc[-1]
    begin = pd.Timestamp(test_from) if test_from else (first + _TRAIN_SHARE * (last - first)).floor("D")
    plan = WalkForward(begin.to_pydatetime(), window=None, burn_in="7 days")
    return BacktestResult(walk_forward(candles, interval, models, plan, features=names, jobs=jobs), interval)


@dataclass(frozen=True)
class NextCandle:
    """The forecast of the next candle, as the service would answer it.

    Attributes
    ----------
    time
        Open time of the candle that is forecast.
    close, lo, hi
        Predicted close and its 90 % interval.
    prob_up
        Probability that it closes above the last close.
    """

    series: str
    time: pd.Timestamp
    last_close: float
    close: float
    lo: float
    hi: float
    prob_up: float
    model: str
    reason: str

    def _repr_html_(self) -> str:
        """A small table with the verdict below."""
        rows = {
            "candle": f"{self.series}, {self.time:%Y-%m-%d %H:%M} UTC",
            "last close": f"{self.last_close:,.2f}",
            "predicted close": f"{self.close:,.2f} ({self.close - self.last_close:+,.2f})",
            "90 % interval": f"{self.lo:,.2f} to {self.hi:,.2f}",
            "probability up": f"{self.prob_up:.3f}",
            "model": f"{self.model}: {self.reason}",
        }
        cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"


def predict_next(symbol: str = "BTCUSDT", interval: str | None = None, *, source: str | None = None) -> NextCandle:
    """Forecast the next candle by the model in service.

    Raises
    ------
    NotReadyError
        If there are no candles, stale ones, or no training yet.
    """
    settings, store, _, key = _opened(symbol, interval, source, 1)
    try:
        forecast = predict(store, settings, key)
    finally:
        store.close()
    made = forecast.prediction
    values = (made.open_time, made.last_close, made.close, made.lo, made.hi, made.prob_up, made.model)
    return NextCandle(str(key), *values, str(forecast.record.verdict.get("reason", "")))
