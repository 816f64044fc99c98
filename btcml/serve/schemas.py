"""What the service answers, typed; field names are those of the two systems that it replaces."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Answered",
    "Backfilled",
    "Candle",
    "Count",
    "Figure",
    "Health",
    "Ingested",
    "JobAnswer",
    "Jobs",
    "Metrics",
    "ModelInfo",
    "Prices",
    "Ready",
    "Root",
    "Trained",
    "Training",
]

Figure = Annotated[float | None, Field(description="null where it is not known")]


class Answered(BaseModel):
    """An answer: what is named is there, and more may be."""

    model_config = ConfigDict(extra="allow")


class Root(Answered):
    """Who answers."""

    status: Literal["ok"] = "ok"
    name: str = "btcml"
    version: str
    docs: str = "/docs"


class Health(Answered):
    """The process lives; nothing else is asked."""

    status: Literal["ok"] = "ok"


class Ready(Answered):
    """Whether forecasts can be served, and what is missing."""

    status: Literal["ready", "not ready"]
    market: str | None
    missing: list[str] = Field(description="What is missing, each with what to do; empty when ready.")
    candles_until: datetime | None = Field(None, description="Close of the newest final candle.")
    champion: str | None = None


class Candle(Answered):
    """A final candle."""

    time: datetime = Field(description="Open time, UTC.")
    open: float
    high: float
    low: float
    close: float
    volume: float


class Prices(Answered):
    """The newest final candles, oldest first."""

    symbol: str
    interval: str
    market: str
    count: int
    items: list[Candle]


class Ingested(Answered):
    """What an ingest did, in candles."""

    status: Literal["ok"] = "ok"
    fetched: int
    inserted: int
    revised: int
    quarantined: int
    futures_updated: int = Field(description="Sealed forecasts whose outcome came in.")


class Backfilled(Answered):
    """What a backfill did, in candles."""

    status: Literal["ok"] = "ok"
    fetched: int
    inserted: int
    calls: int = Field(description="Parts that were asked for: a range by REST, or a file of the archive.")
    days: int


class Count(Answered):
    """How many points there are."""

    status: Literal["ok"] = "ok"
    count: int


_JUDGED = "Whether that walk-forward was run for this training; at most one is, each day."


class Trained(Answered):
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
    skill: Figure = Field(None, description="1 - MAE in bp over persistence's, in the newest walk-forward.")
    dm_p: Figure = Field(None, description="p-value of that walk-forward's Diebold-Mariano test, corrected.")
    judged: bool | None = Field(None, description=_JUDGED)


class Training(Answered):
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
    judged: bool | None = Field(None, description=_JUDGED)
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


class JobAnswer(Answered):
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


class Jobs(Answered):
    """The newest jobs, newest first."""

    items: list[JobAnswer]
    next_before: int | None = Field(None, description="Give it as before= for the next page.")


class ModelItem(Answered):
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


class ModelInfo(Answered):
    """Where the models are, and what they are."""

    models_dir: str
    exists: bool
    files: list[str]
    models: list[ModelItem]
