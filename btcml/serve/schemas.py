"""What the service answers, typed; field names are those of the two systems that it replaces."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Backfilled",
    "Candle",
    "Count",
    "Future",
    "Futures",
    "Health",
    "Ingested",
    "JobAnswer",
    "Jobs",
    "Metrics",
    "ModelInfo",
    "Point",
    "Prediction",
    "Prices",
    "Ready",
    "Root",
    "Series",
    "Trained",
    "Training",
]

Figure = Annotated[float | None, Field(description="null where it is not known")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Root(_Answer):
    """Who answers."""

    status: Literal["ok"] = "ok"
    name: str = "btcml"
    version: str
    docs: str = "/docs"


class Health(_Answer):
    """The process lives; nothing else is asked."""

    status: Literal["ok"] = "ok"


class Ready(_Answer):
    """Whether forecasts can be served, and what is missing."""

    status: Literal["ready", "not ready"]
    market: str | None
    missing: list[str] = Field(description="What is missing, each with what to do; empty when ready.")
    candles_until: datetime | None = Field(None, description="Close of the newest final candle.")
    champion: str | None = None


class Candle(_Answer):
    """A final candle."""

    time: datetime = Field(description="Open time, UTC.")
    open: float
    high: float
    low: float
    close: float
    volume: float


class Prices(_Answer):
    """The newest final candles, oldest first."""

    symbol: str
    interval: str
    market: str
    count: int
    items: list[Candle]


class Ingested(_Answer):
    """What an ingest did, in candles."""

    status: Literal["ok"] = "ok"
    fetched: int
    inserted: int
    revised: int
    quarantined: int
    futures_updated: int = Field(description="Sealed forecasts whose outcome came in.")


class Backfilled(_Answer):
    """What a backfill did, in candles."""

    status: Literal["ok"] = "ok"
    fetched: int
    inserted: int
    calls: int
    days: int


class Count(_Answer):
    """How many points there are."""

    status: Literal["ok"] = "ok"
    count: int


class Trained(_Answer):
    """What a training did; errors of the held-out span, each beside persistence's."""

    status: Literal["ok"] = "ok"
    samples: int
    champion: str = Field(description="The served model; persistence where none has proven skill.")
    mae: Figure = None
    mape: Figure = None
    smape: Figure = None
    rmse: Figure = None
    r2: Figure = None
    persistence_mae: Figure = None
    skill: Figure = Field(None, description="1 - MAE in bp over persistence's, in walk-forward.")
    dm_p: Figure = Field(None, description="p-value of the walk-forward's Diebold-Mariano test, corrected.")


class Training(_Answer):
    """One training of the log, flat."""

    status: str
    mae: Figure = None
    mape: Figure = None
    smape: Figure = None
    rmse: Figure = None
    r2: Figure = None
    persistence_mae: Figure = None
    persistence_mape: Figure = None
    persistence_smape: Figure = None
    persistence_rmse: Figure = None
    skill: Figure = None
    dm_p: Figure = None
    champion: str | None = None
    samples: int | None = None
    split_train: int | None = None
    split_total: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    validation_start: datetime | None = None


class Metrics(Training):
    """The newest training flat, and the last ones as items; status ``empty`` before the first."""

    items: list[Training] = []


class JobAnswer(_Answer):
    """A job of the log."""

    id: int
    kind: str
    status: Literal["queued", "running", "ok", "error", "missed", "abandoned"]
    market: str
    symbol: str
    interval: str
    asked_by: str
    request_id: str | None = None
    due_at: datetime | None = None
    missed: int = 0
    attempt: int = 1
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: str | None = None


class Jobs(_Answer):
    """The newest jobs, newest first."""

    items: list[JobAnswer]
    next_before: int | None = Field(None, description="Give it as before= for the next page.")


class Alternative(_Answer):
    """What another model says: beside the forecast, never instead of it."""

    model: str
    role: Literal["challenger", "persistence"]
    predicted_close: float


class Prediction(_Answer):
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
    sealed: bool
    sealed_at: datetime | None = None
    seal_status: Literal["sealed", "late"] | None = None
    challengers: list[Alternative] = []


class Future(_Answer):
    """A sealed forecast against reality."""

    time: datetime
    pred_close: float
    real_close: Figure = None
    err_close: Figure = Field(None, description="pred_close - real_close; null for late forecasts.")
    base: float = Field(description="Close of the candle before: persistence's forecast.")
    err_base: Figure = None
    lo: Figure = None
    hi: Figure = None
    prob_up: Figure = None
    model: str
    status: Literal["sealed", "late", "imported"]
    made_at: datetime | None = None


class Futures(_Answer):
    """Sealed forecasts, oldest first."""

    points: list[Future]


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


class Series(_Answer):
    """Out-of-sample forecasts against reality, oldest first."""

    market: str
    symbol: str
    interval: str
    model: str | None
    points: list[Point]
    next_start: datetime | None = Field(None, description="Give it as start= for the next page.")


class ModelItem(_Answer):
    """A model of a training."""

    id: str
    name: str
    role: Literal["champion", "challenger", "retired"]
    champion: bool
    target: str = "close"
    trained_at: datetime
    snapshot: str
    window: list[datetime]
    samples: int
    skill: Figure = None
    mae: Figure = None
    persistence_mae: Figure = None
    coverage: Figure = None


class ModelInfo(_Answer):
    """Where the models are, and what they are."""

    models_dir: str
    exists: bool
    files: list[str]
    models: list[ModelItem]
