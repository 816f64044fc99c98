"""Shapes of forecasts: the next one, the sealed ones, and the series against reality."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from btcml.serve.schemas import Answered, Figure

__all__ = ["Future", "Futures", "Point", "Prediction", "Series"]


class Alternative(Answered):
    """What another model says: beside the forecast, never instead of it."""

    model: str
    role: Literal["challenger", "persistence"]
    predicted_close: float


class Prediction(Answered):
    """The forecast of the next candle."""

    market: str
    symbol: str
    interval: str
    time: datetime = Field(description="Open time of the candle that is forecast, UTC.")
    last_time: datetime = Field(description="Open time of the newest final candle.")
    last_close: float
    predicted_close: float
    delta: float
    delta_pct: float
    predicted_open: float
    predicted_high: float
    predicted_low: float
    predicted_amp: float
    lo: Figure = Field(None, description="Lower end of the 90 % interval of the close.")
    hi: Figure = Field(None, description="Upper end.")
    interval_level: float = 0.9
    prob_up: Figure = None
    prob_down: Figure = None
    model: str
    artifact: str
    skill: Figure = Field(None, description="Of the served model in walk-forward; 0 for persistence.")
    verdict: str = Field(description="Why this model serves, in one sentence.")
    trained_at: datetime
    model_age_seconds: float
    sealed: bool = Field(description="Whether this very forecast is sealed.")
    sealed_at: datetime | None = None
    seal_status: Literal["sealed", "late", "other"] | None = Field(
        None, description="other: an earlier training's forecast of this candle is sealed, see /futuros."
    )
    challengers: list[Alternative] = Field(default_factory=list, description="Beside it, never instead.")


class Future(Answered):
    """A sealed forecast against reality."""

    time: datetime
    pred_close: float
    real_close: Figure = None
    err_close: Figure = Field(None, description="pred_close - real_close; null for late forecasts.")
    base: Figure = Field(None, description="Close of the candle before: persistence's forecast; null if imported.")
    err_base: Figure = None
    lo: Figure = None
    hi: Figure = None
    prob_up: Figure = None
    model: str
    status: Literal["sealed", "late", "imported"]
    made_at: datetime | None = None


class Futures(Answered):
    """Sealed forecasts, oldest first."""

    points: list[Future]
    next_end: datetime | None = Field(None, description="Give it as end= for the page before this one.")


class RealCandle(BaseModel):
    """What happened."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class NextCandle(BaseModel):
    """What had been forecast."""

    open_next: float | None
    high_next: float | None
    low_next: float | None
    close_next: float
    amp_next: float | None


class Direction(BaseModel):
    """The direction that had been forecast: 1 up, 0 down."""

    dir_next: Literal[0, 1] | None
    prob_up: float | None
    prob_down: float | None


class PointError(BaseModel):
    """How far off the forecast was, and how far off no change would have been."""

    close_abs: float
    close_signed: float
    amp_abs: float | None
    persistence_abs: float


class Point(BaseModel):
    """One out-of-sample forecast against reality; ``time`` of ``real`` is the forecast candle's."""

    real: RealCandle
    pred: NextCandle
    cls: Direction
    err: PointError
    lo: float | None
    hi: float | None
    origin: Literal["walk-forward", "sealed"]


class Series(Answered):
    """Out-of-sample forecasts against reality, oldest first."""

    market: str
    symbol: str
    interval: str
    model: str | None
    points: list[Point]
    next_start: datetime | None = Field(None, description="Give it as start= for the next page.")
