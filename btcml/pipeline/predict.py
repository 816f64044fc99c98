"""Predict: the newest final candle, the champion, one forecast; and the same one sealed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.errors import ArtifactError, NotReadyError
from btcml.forecast.artifacts import load_forecaster
from btcml.forecast.verdict import plain
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.progress import check_fresh
from btcml.store.candles import read_last_candles
from btcml.store.forecasts import append_forecasts, market_now, read_scored
from btcml.store.models import ModelRecord, read_champion

if TYPE_CHECKING:
    from btcml.candles import SeriesKey
    from btcml.forecast.forecaster import Forecaster, Prediction
    from btcml.settings import Settings
    from btcml.store.engine import Store


_SAME_USD = 1e-6


@dataclass(frozen=True)
class Served:
    """The training in service: its record and its models, loaded and checked."""

    record: ModelRecord
    forecaster: Forecaster


@dataclass(frozen=True)
class Seal:
    """Whether this forecast is sealed, when it was written, and its status.

    Of a candle that was sealed before a newer training came into service, the sealed forecast is
    another one: then this one is not sealed, and the status is ``other``.
    """

    sealed: bool
    made_at: pd.Timestamp | None = None
    status: str | None = None


@dataclass(frozen=True)
class Forecast:
    """One forecast, with all that a client needs.

    Attributes
    ----------
    candle_time
        Open time of the newest final candle; the forecast is for the next one.
    prediction
        Prices, interval and probability, of champion and challengers.
    record
        The training behind it.
    """

    key: SeriesKey
    candle_time: pd.Timestamp
    prediction: Prediction
    record: ModelRecord
    seal: Seal

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the service answers them; what is not known is None."""
        made, record = self.prediction, self.record
        up = made.prob_up
        return plain(
            {
                "market": self.key.market,
                "symbol": self.key.symbol,
                "interval": self.key.interval,
                "time": made.open_time.isoformat(),
                "last_time": self.candle_time.isoformat(),
                "last_close": made.last_close,
                "predicted_close": made.close,
                "delta": made.close - made.last_close,
                "delta_pct": made.close / made.last_close - 1,
                "delta_bp": 1e4 * (made.close / made.last_close - 1),
                **{f"predicted_{name}": getattr(made, name) for name in ("open", "high", "low", "amp")},
                "lo": made.lo,
                "hi": made.hi,
                "interval_level": 0.9,
                "prob_up": up,
                "prob_down": 1 - up,
                "model": made.model,
                "artifact": record.artifact,
                "skill": record.verdict.get("skill"),
                "verdict": record.verdict.get("reason", ""),
                "trained_at": record.trained_at.isoformat(),
                "sealed": self.seal.sealed,
                "sealed_at": None if self.seal.made_at is None else self.seal.made_at.isoformat(),
                "seal_status": self.seal.status,
                "challengers": self._others(),
            }
        )

    def _others(self) -> list[dict[str, Any]]:
        """Forecasts of the models that are not served."""
        return [
            {"model": name, "role": "persistence" if name == "persistence" else "challenger", "predicted_close": close}
            for name, close in self.prediction.closes.items()
            if name != self.prediction.model and math.isfinite(close)
        ]


def load_served(store: Store, settings: Settings, key: SeriesKey, known: Served | None = None) -> Served:
    """Load the training in service; one that is loaded already is kept.

    Raises
    ------
    NotReadyError
        If nothing has been trained yet.
    ArtifactError
        If its files are missing, changed, damaged or another training's.
    """
    record = read_champion(store, key)
    if record is None:
        msg = f"no model of {key} has been trained yet: POST /train, or btcml train"
        raise NotReadyError(msg)
    if known is not None and known.record.artifact == record.artifact:
        return Served(record, known.forecaster)
    forecaster = load_forecaster(series_folder(settings, key) / record.artifact, record.manifest)
    _check_record(record, forecaster)
    return Served(record, forecaster)


def _check_record(record: ModelRecord, forecaster: Forecaster) -> None:
    """Reject a complete folder of another training than the one in service."""
    found = forecaster.metadata.get("series"), forecaster.interval, forecaster.champion
    if found != (str(record.key), record.key.interval, record.name):
        msg = (
            f"the files of {record.artifact} must be of {record.key} with {record.name} in service, "
            f"found those of {found[0]} with {found[2]}: train again"
        )
        raise ArtifactError(msg)


def predict_newest(store: Store, key: SeriesKey, served: Served) -> Forecast:
    """Forecast the candle after the newest final one, at any time.

    Raises
    ------
    NotReadyError
        If there are no candles, or too few since the last gap.
    """
    tail = read_last_candles(store, key, served.forecaster.tail_length)
    if tail.empty:
        msg = f"no candles of {key} yet: POST /init/backfill, or btcml backfill"
        raise NotReadyError(msg)
    prediction = served.forecaster.predict(tail)
    seal_of = _seal_of(store, key, prediction, served.record.artifact)
    return Forecast(key, tail["open_time"].iloc[-1], prediction, served.record, seal_of)


def _seal_of(store: Store, key: SeriesKey, made: Prediction, artifact: str) -> Seal:
    """Seal of a forecast, found by its candle and compared: a newer training forecasts otherwise."""
    rows = read_scored(store, key, made.open_time, made.open_time + pd.Timedelta(microseconds=1), role="champion")
    if rows.empty:
        return Seal(sealed=False)
    row = rows.iloc[0]
    if row["artifact"] != artifact or not math.isclose(row["close"], made.close, rel_tol=0, abs_tol=_SAME_USD):
        return Seal(sealed=False, status="other")
    return Seal(row["status"] == "sealed", row["made_at"], str(row["status"]))


def predict(store: Store, settings: Settings, key: SeriesKey) -> Forecast:
    """Forecast the next candle now.

    Raises
    ------
    NotReadyError
        If there are no candles, stale ones, or no training yet.
    """
    forecast = predict_newest(store, key, load_served(store, settings, key))
    if not key.market.startswith("file:"):
        check_fresh(store, key, forecast.candle_time, market_now(store, key.market))
    return forecast


def forecast_rows(forecast: Forecast, cutoff: pd.Timestamp) -> list[dict[str, Any]]:
    """Rows to seal: the champion with all its prices, each challenger with its close.

    Parameters
    ----------
    cutoff
        Open time of the last candle that the models were fitted on.
    """
    made = forecast.prediction
    shared = {
        "open_time": made.open_time,
        "artifact": forecast.record.artifact,
        "cutoff": cutoff,
        "base": made.last_close,
    }
    names = ("open", "high", "low", "close", "amp", "lo", "hi", "prob_up")
    champion = shared | {name: getattr(made, name) for name in names} | {"role": "champion", "model": made.model}
    others = [
        shared | {"role": "challenger", "model": name, "close": close}
        for name, close in made.closes.items()
        if name not in {made.model, "persistence"} and math.isfinite(close)
    ]
    return [champion, *others]


def seal(
    store: Store, settings: Settings, key: SeriesKey, known: dict[SeriesKey, Served] | None = None
) -> dict[str, Any]:
    """Forecast the candle after the newest final one, and seal it.

    Parameters
    ----------
    known
        Loaded trainings by series; the one in service is put into it.

    Returns
    -------
    dict
        ``open_time``, ``close``, ``model``, and how many rows were ``sealed`` and ``late`` now.

    Raises
    ------
    NotReadyError
        If there is nothing to forecast with, or the candle has closed already.
    """
    loaded = {} if known is None else known
    served = loaded[key] = load_served(store, settings, key, loaded.get(key))
    forecast = predict_newest(store, key, served)
    counts = append_forecasts(store, key, forecast_rows(forecast, served.record.window_end))
    made = forecast.prediction
    return {"open_time": made.open_time.isoformat(), "close": made.close, "model": made.model} | counts
