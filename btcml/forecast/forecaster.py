"""What is served: models fitted on everything, and the factors and interval that they have earned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.features import SETS, features_of, tail_length
from btcml.forecast.intervals import AdaptiveInterval
from btcml.forecast.models import make_model
from btcml.forecast.multiplier import calibrated
from btcml.forecast.naming import DIRECTION, RANGE, members_of
from btcml.forecast.targets import price_of, prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from btcml.forecast.models import Model

    Array = NDArray[np.float64]

__all__ = ["Forecaster", "Prediction"]


@dataclass(frozen=True)
class Prediction:
    """One forecast of one candle, made at the close of the candle before.

    Prices are in quote units (USD) and consistent: ``high >= max(open, close)``,
    ``low <= min(open, close)``, ``amp = high - low``.

    Attributes
    ----------
    open_time
        Of the target candle.
    last_close
        Close of the candle before: persistence's forecast.
    open, high, low, close, amp
        The served forecast.
    lo, hi
        90 % interval of the close, around the last close; NaN before its warm-up.
    prob_up
        Calibrated probability that the close rises.
    model
        Name of the served model.
    closes
        Forecast close of every model, the served one and the challengers.
    """

    open_time: pd.Timestamp
    last_close: float
    open: float
    high: float
    low: float
    close: float
    amp: float
    lo: float
    hi: float
    prob_up: float
    model: str
    closes: dict[str, float]


@dataclass(frozen=True)
class Forecaster:
    """Fitted models of one series, and everything that turns candles into a `Prediction`.

    Parameters
    ----------
    interval
        Interval of the candles.
    features
        Names of the features of the close models.
    served
        Names of the close models, means among them; persistence is always known.
    champion
        The one of them (or ``persistence``) whose forecast is the forecast.
    models
        Fitted models by name: members of `served`, the classifier and the range model.
    factors
        Multiplier of each served model and of the classifier's log-odds.
    shape
        Median of the scaled high and low of a candle in units of its range forecast.
    interval_state
        State of the adaptive interval.
    metadata
        Facts about the training: JSON values only.
    holdout
        Forecast frame of the held-out span that taught factors and interval; not saved.
    """

    interval: str
    features: tuple[str, ...]
    served: tuple[str, ...]
    champion: str
    models: Mapping[str, Model]
    factors: Mapping[str, float]
    shape: tuple[float, float]
    interval_state: Mapping[str, Any]
    metadata: Mapping[str, Any]
    holdout: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.champion not in {"persistence", *self.served}:
            msg = f"the champion must be persistence or one of {', '.join(self.served)}, found {self.champion!r}"
            raise UsageError(msg)

    @property
    def tail_length(self) -> int:
        """Candles that `predict` needs to see."""
        return max(tail_length(self._features_of(model)) for model in self.models.values())

    def predict(self, tail: pd.DataFrame) -> Prediction:
        """Forecast the candle after the last one.

        Parameters
        ----------
        tail
            The newest final candles, at least `tail_length` of them for the exact value.

        Raises
        ------
        NotReadyError
            If the features of the last candle are not warm: too few candles since the last gap.
        """
        data = self.dataset(tail.iloc[-self.tail_length :])
        return self._prediction(data, self.raw_forecasts(data, 1))

    def dataset(self, candles: pd.DataFrame) -> Dataset:
        """Candles with the features of all models together."""
        sets = [self._features_of(model) for model in self.models.values()]
        return make_dataset(candles, self.interval, tuple(dict.fromkeys(name for names in sets for name in names)))

    def _features_of(self, model: Model) -> tuple[str, ...]:
        return tuple(SETS[model.features]) if model.features else self.features

    def raw_forecasts(self, data: Dataset, n: int) -> dict[str, Array]:
        """Scaled forecasts of each fitted model for the last `n` rows of `dataset`, before any factor.

        Raises
        ------
        NotReadyError
            If a row's features are not warm.
        """
        if not data.ready[-n:].all():
            need = max(item.warmup for item in features_of(data.sample.names)) + n
            msg = f"a forecast needs {need} candles without a gap, found {data.prepared.age[-1] + 1}: ingest more"
            raise NotReadyError(msg)
        newest = data.sample.at(np.arange(len(data.ready) - n, len(data.ready)))
        return {name: model.predict(newest.select(self._features_of(model))) for name, model in self.models.items()}

    def _prediction(self, data: Dataset, raw: dict[str, Array]) -> Prediction:
        last, scale = float(data.prepared.close[-1]), float(data.prepared.scale[-1])
        moves = {name: self._move(name, raw) for name in self.served}
        width = float(np.exp(raw[RANGE][-1]))
        move = moves.get(self.champion, 0.0)
        candle = prices(last, move, self.shape[0] * width, -self.shape[1] * width, scale)
        lo, hi = AdaptiveInterval.from_state(self.interval_state).bounds(width * scale)
        return Prediction(
            open_time=pd.Timestamp(int(data.target_time[-1]), unit="us", tz="UTC"),
            last_close=last,
            **{name: float(value) for name, value in candle._asdict().items()},
            lo=last * float(np.exp(lo)),
            hi=last * float(np.exp(hi)),
            prob_up=float(calibrated(raw[DIRECTION][-1:], self.factors[DIRECTION])[0]),
            model=self.champion,
            closes={"persistence": last} | {name: float(price_of(last, move, scale)) for name, move in moves.items()},
        )

    def _move(self, name: str, raw: dict[str, Array]) -> float:
        return self.factors[name] * float(np.mean([raw[member][-1] for member in members_of(name)]))


def empty_models(names: tuple[str, ...]) -> dict[str, Model]:
    """Unfitted models of the served ones, the classifier and the range model, to load into."""
    fitted = [member for name in names for member in members_of(name)]
    return {name: make_model(name) for name in dict.fromkeys([*fitted, DIRECTION, RANGE])}
