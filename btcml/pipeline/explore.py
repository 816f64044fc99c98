"""Names for exploration in Jupyter: plain arguments in, frames and readable results out.

`btcml` itself offers them, lazily: ``import btcml`` loads neither pandas nor scikit-learn.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from btcml.candles import infer_interval
from btcml.errors import NotReadyError
from btcml.forecast import features
from btcml.pipeline.ingest import backfill
from btcml.pipeline.predict import predict
from btcml.pipeline.sources import make_source
from btcml.settings import Settings, load_settings, run_parameters
from btcml.store import candles as stored
from btcml.store.engine import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btcml.candles import SeriesKey
    from btcml.forecast.forecaster import Prediction
    from btcml.market import Source
    from btcml.store.engine import Store


@contextmanager
def _opened(
    symbol: str, interval: str | None, source: str | None, days: int
) -> Iterator[tuple[Settings, Store, Source, SeriesKey]]:
    settings = load_settings()
    run = run_parameters(
        symbol=symbol,
        interval=interval or settings.btcml_interval,
        source=source or settings.btcml_source,
        days=days,
    )
    store = open_store(settings)
    try:
        market = make_source(settings, run.source, store)
        yield settings, store, market, run.key(market.market)
    finally:
        store.close()


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
    with _opened(symbol, interval, source, days) as (_, store, market, key):
        end = market.now()
        start = end - pd.Timedelta(days=days)
        backfill(store, market, key, (start, end))
        frame = stored.read_candles(store, key, start, end)
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
        Inferred from the candles where omitted.

    Returns
    -------
    DataFrame
        Null in the warm-up at the start and after each gap.
    """
    values = features.feature_frame(candles, interval or infer_interval(candles["open_time"]), names)
    return values.set_index(pd.Index(candles["open_time"], name="open_time"))


@dataclass(frozen=True)
class NextForecast:
    """The forecast of the next candle, as the service returns it.

    Attributes
    ----------
    series
        Market, symbol and interval.
    prediction
        Prices, interval and probability.
    reason
        Why this model is in service.
    """

    series: str
    prediction: Prediction
    reason: str

    def _repr_html_(self) -> str:
        """A small table with the verdict below."""
        made = self.prediction
        rows = {
            "candle": f"{self.series}, {made.open_time:%Y-%m-%d %H:%M} UTC",
            "last close": f"{made.last_close:,.2f}",
            "predicted close": f"{made.close:,.2f} ({made.close - made.last_close:+,.2f})",
            "90 % interval": f"{made.lo:,.2f} to {made.hi:,.2f}",
            "probability up": f"{made.prob_up:.3f}",
            "model": f"{made.model}: {self.reason}",
        }
        cells = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"


def predict_next(symbol: str = "BTCUSDT", interval: str | None = None, *, source: str | None = None) -> NextForecast:
    """Forecast the next candle by the model in service.

    Raises
    ------
    NotReadyError
        If there are no candles, stale ones, or no training yet.
    """
    with _opened(symbol, interval, source, 1) as (settings, store, _, key):
        forecast = predict(store, settings, key)
    return NextForecast(str(key), forecast.prediction, str(forecast.record.verdict.get("reason", "")))
