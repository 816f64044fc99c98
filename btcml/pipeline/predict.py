"""Predict: the newest final candle, the champion of each horizon, their forecasts; and the same ones sealed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from btcml.errors import ArtifactError, NotFoundError, NotReadyError
from btcml.forecast.artifacts import load_forecaster
from btcml.forecast.verdict import plain
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.progress import check_fresh
from btcml.pipeline.series import best_model
from btcml.store.candles import read_last_candles
from btcml.store.forecasts import append_forecasts, market_now, read_scored
from btcml.store.models import ModelRecord, read_champion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.candles import SeriesKey
    from btcml.forecast.forecaster import Forecaster, Prediction
    from btcml.settings import Settings
    from btcml.store.engine import Store


T = TypeVar("T")

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


SHORT = (
    *("horizon", "time", "predicted_close", "delta_bp", "predicted_high", "predicted_low", "lo", "hi", "prob_up"),
    *("levels", "quantiles", "model", "skill", "sealed"),
)
"""What an answer says of every horizon."""

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Levels of the quantiles that are answered, and sealed beyond the next candle."""


@dataclass(frozen=True)
class Forecast:
    """One forecast, with all that a client needs.

    Attributes
    ----------
    candle_time
        Open time of the newest final candle, after which the forecast is made.
    prediction
        Prices, interval and probability, of champion and challengers.
    record
        The training behind it.
    verdict
        Facts of the verdict on the champion: ``skill``, ``reason``.
    cutoff
        Open time of the last candle that the models were fitted on.
    family
        Forecasts by horizon that were made with it, itself among them, the next candle's first; the same in each.
    """

    key: SeriesKey
    candle_time: pd.Timestamp
    prediction: Prediction
    record: ModelRecord
    seal: Seal
    verdict: Mapping[str, Any]
    cutoff: pd.Timestamp
    family: dict[int, Forecast] = field(default_factory=dict, repr=False, compare=False)

    def at(self, horizon: int) -> Forecast:
        """Forecast of the same time at another horizon.

        Raises
        ------
        NotFoundError
            If the training in service has no models of it.
        """
        return at_horizon(self.family, horizon)

    @property
    def quantiles(self) -> dict[str, list[float]]:
        """Prices that the close stays below with the probabilities `LEVELS`; empty where they are not known."""
        made = self.prediction.distribution
        return {
            "levels": list(LEVELS) if made else [],
            "quantiles": [made.quantile(level) for level in LEVELS] if made else [],
        }

    def decisions(self, cost_bp: float) -> list[dict[str, Any]]:
        """Decision at each horizon at a cost of a round trip (`btcml.decide`), as plain values."""
        made = {horizon: one.prediction.decide(cost_bp) for horizon, one in self.family.items()}
        return [{"horizon": horizon} | plain(found._asdict()) for horizon, found in made.items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the service answers them; what is not known is None.

        ``horizons`` has the facts named in `SHORT` of the forecast at each horizon.
        """
        family = [one._facts() for one in self.family.values()]  # noqa: SLF001 - our own class
        return self._facts() | {"horizons": [{name: facts[name] for name in SHORT} for facts in family]}

    def _facts(self) -> dict[str, Any]:
        """Plain values of this forecast alone."""
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
                "skill": self.verdict.get("skill"),
                "verdict": self.verdict.get("reason", ""),
                "trained_at": record.trained_at.isoformat(),
                "sealed": self.seal.sealed,
                "sealed_at": None if self.seal.made_at is None else self.seal.made_at.isoformat(),
                "seal_status": self.seal.status,
                "challengers": self._others(),
                "horizon": made.horizon,
                **self.quantiles,
            }
        )

    def _others(self) -> list[dict[str, Any]]:
        """Forecasts of the models that are not served."""
        return [
            {"model": name, "role": "persistence" if name == "persistence" else "challenger", "predicted_close": close}
            for name, close in self.prediction.closes.items()
            if name != self.prediction.model and math.isfinite(close)
        ]


def at_horizon(by_horizon: Mapping[int, T], horizon: int) -> T:
    """Value of a horizon.

    Raises
    ------
    NotFoundError
        If the training in service has no models of it.
    """
    if horizon not in by_horizon:
        known = ", ".join(map(str, by_horizon))
        msg = (
            f"the training in service forecasts {known} candles ahead, found {horizon}: name one of these, or set "
            "BTCML_HORIZONS and train; a training after the first one judges and fits the longer horizons"
        )
        raise NotFoundError(msg)
    return by_horizon[horizon]


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


def horizon_figures(served: Served) -> list[dict[str, Any]]:
    """Champion, ratio and z of each horizon; of the model with the smallest error where persistence serves."""
    table, name = served.record.verdict.get("table", []), best_model(served.record)
    rows: dict[int, dict[str, Any]] = {1: {"champion": served.record.name, "model": name}}
    rows[1] |= {key: row.get(key) for row in table if row["model"] == name for key in ("ratio", "z")}
    for horizon, one in served.forecaster.horizons.items():
        rows[horizon] = {"champion": one.champion} | dict(one.facts["figures"])
    return [{"horizon": horizon} | {key: row.get(key) for key in _FIGURES} for horizon, row in rows.items()]


_FIGURES = ("champion", "model", "ratio", "z")


def predict_newest(store: Store, key: SeriesKey, served: Served) -> Forecast:
    """Forecast the candle after the newest final one, at any time, and the longer horizons beside it.

    Raises
    ------
    NotReadyError
        If there are no candles, or too few since the last gap.
    """
    tail = read_last_candles(store, key, served.forecaster.tail_length)
    if tail.empty:
        msg = f"no candles of {key} yet: POST /init/backfill, or btcml backfill"
        raise NotReadyError(msg)
    record, last = served.record, tail["open_time"].iloc[-1]
    family: dict[int, Forecast] = {}
    facts: dict[int, Mapping[str, Any]] = {1: record.verdict | {"cutoff": record.window_end}}
    facts |= {horizon: one.facts for horizon, one in served.forecaster.horizons.items()}
    for horizon, made in served.forecaster.predict_all(tail).items():
        seal_of, verdict = _seal_of(store, key, made, record.artifact), facts[horizon]
        cutoff = pd.Timestamp(verdict["cutoff"])
        family[horizon] = Forecast(key, last, made, record, seal_of, verdict, cutoff, family)
    return family[1]


def _seal_of(store: Store, key: SeriesKey, made: Prediction, artifact: str) -> Seal:
    """Seal of a forecast, found by its candle and compared: a newer training forecasts otherwise.

    The models of longer horizons are those of several trainings.
    """
    span = made.open_time, made.open_time + pd.Timedelta(microseconds=1)
    rows = read_scored(store, key, *span, role="champion", horizon=made.horizon)
    if rows.empty:
        return Seal(sealed=False)
    row = rows.iloc[0]
    newer = made.horizon == 1 and row["artifact"] != artifact
    if newer or not math.isclose(row["close"], made.close, rel_tol=0, abs_tol=_SAME_USD):
        return Seal(sealed=False, status="other")
    return Seal(row["status"] == "sealed", row["made_at"], str(row["status"]))


def predict(store: Store, settings: Settings, key: SeriesKey) -> Forecast:
    """Forecast the next candle now, and the longer horizons beside it.

    Raises
    ------
    NotReadyError
        If there are no candles, stale ones, or no training yet.
    """
    forecast = predict_newest(store, key, load_served(store, settings, key))
    check_fresh(store, key, forecast.candle_time, market_now(store, key.market))
    return forecast


def forecast_rows(forecast: Forecast) -> list[dict[str, Any]]:
    """Rows to seal: the champion with all its prices, each challenger of the next candle with its close."""
    made = forecast.prediction
    shared = {
        "open_time": made.open_time,
        "artifact": forecast.record.artifact,
        "cutoff": forecast.cutoff,
        "base": made.last_close,
    }
    names = ("open", "high", "low", "close", "amp", "lo", "hi", "prob_up")
    champion = shared | {name: getattr(made, name) for name in names} | {"role": "champion", "model": made.model}
    if made.horizon > 1:
        return [champion | {"horizon": made.horizon} | (forecast.quantiles if made.distribution else {})]
    others = [
        shared | {"role": "challenger", "model": name, "close": close}
        for name, close in made.closes.items()
        if name not in {made.model, "persistence"} and math.isfinite(close)
    ]
    return [champion, *others]


def seal(
    store: Store, settings: Settings, key: SeriesKey, known: dict[SeriesKey, Served] | None = None
) -> dict[str, Any]:
    """Forecast from the newest final candle, and seal the forecasts of all horizons, the next candle's first.

    Parameters
    ----------
    known
        Loaded trainings by series; the one in service is put into it.

    Returns
    -------
    dict
        ``open_time``, ``close``, ``model`` of the next candle, and how many rows were ``sealed`` and ``late`` now.

    Raises
    ------
    NotReadyError
        If there is nothing to forecast with, or the candle has closed already.
    """
    loaded = {} if known is None else known
    served = loaded[key] = load_served(store, settings, key, loaded.get(key))
    forecast = predict_newest(store, key, served)
    counts = Counter(append_forecasts(store, key, forecast_rows(forecast)))
    further = [row for one in forecast.family.values() if one is not forecast for row in forecast_rows(one)]
    counts.update(append_forecasts(store, key, further))
    made = forecast.prediction
    return {"open_time": made.open_time.isoformat(), "close": made.close, "model": made.model} | counts
