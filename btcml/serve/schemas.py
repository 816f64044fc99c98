"""Types of the responses; field names are those of the two systems that it replaces."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Figure = Annotated[float | None, Field(description="null where it is not known")]


class ResponseModel(BaseModel):
    """A response: the named fields are there, and others may be."""

    model_config = ConfigDict(extra="allow")


class RootResponse(ResponseModel):
    """The service and its version."""

    status: Literal["ok"] = "ok"
    name: str = "btcml"
    version: str
    docs: str = "/docs"


class HealthResponse(ResponseModel):
    """The process runs; nothing is checked for it."""

    status: Literal["ok"] = "ok"
    scheduler: bool = Field(description="Whether a scheduler was at work when the database was last asked.")


class ReadyResponse(ResponseModel):
    """Whether forecasts can be served, and what is missing."""

    status: Literal["ready", "not ready"]
    market: str | None
    missing: list[str] = Field(description="What is missing, each with what to do; empty when ready.")
    warnings: list[str] = Field([], description="What does not move on though forecasts can be served, and why.")
    candles_until: datetime | None = Field(
        None, description="Close of the newest final candle; the oldest of several series."
    )
    champion: str | None = None


class _OfSeries(ResponseModel):
    """About one series."""

    market: str
    symbol: str
    interval: str


class CandleItem(ResponseModel):
    """A final candle."""

    time: datetime = Field(description="Open time, UTC.")
    open: float
    high: float
    low: float
    close: float
    volume: float


class CloseItem(ResponseModel):
    """Open time and close of a candle."""

    ts: datetime
    close: float


class PricesResponse(_OfSeries):
    """The newest final candles, oldest first."""

    count: int
    items: list[CandleItem]
    data: list[CloseItem] = Field(description="The same candles as ML Crypto named them.")


class _Fetched(ResponseModel):
    """What came in, in candles."""

    status: Literal["ok"] = "ok"
    fetched: int
    inserted: int


class IngestResponse(_Fetched):
    """What an ingest did, in candles."""

    symbol: str
    interval: str
    limit: int = Field(description="As given.")
    revised: int
    quarantined: int
    futures_updated: int = Field(description="Sealed forecasts whose outcome came in.")


_WAITED = "Seconds until it began, after others of its kind."


class BackfillResponse(_Fetched):
    """What a backfill did, in candles."""

    calls: int = Field(description="Parts that were requested: a range by REST, or a file of the archive.")
    days: int
    waited_seconds: float = Field(description=_WAITED)


class CountResponse(ResponseModel):
    """How many points there are."""

    status: Literal["ok"] = "ok"
    count: int
    materialized: int | None = Field(None, description="The points that /series answers.")
    updated: int | None = Field(None, description="Forecasts that were sealed just now.")


class ExportResponse(ResponseModel):
    """Where candles were written, or why none were."""

    ok: bool
    path: str | None = None
    rows: int | None = None
    message: str | None = None


_JUDGED = "Whether that walk-forward was run for this training; at most one is, each day."


class EdgeMonth(ResponseModel):
    """Skill in a month of the walk-forward."""

    month: str
    rows: int
    skill: Figure


class EdgeItem(ResponseModel):
    """Age of the edge: the trend of the skill over the months of the walk-forward."""

    slope_per_year: Figure = Field(description="Change of the skill in a year; null for fewer than six months.")
    low: Figure = Field(description="Lower end of its 95 % interval.")
    high: Figure
    now: Figure = Field(description="Skill at the end of the trend.")
    lasts: bool = Field(description="Whether the trend stays above 0 for a year, at the lower end of its interval.")
    sentence: str
    months: list[EdgeMonth]


class TrainingFigures(ResponseModel):
    """Figures of a training, each beside persistence's; errors of the newest experiment's walk-forward."""

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
    ratio: Figure = Field(None, description="MAE in bp over persistence's, in the newest walk-forward.")
    skill: Figure = Field(None, description="1 - MAE in bp over persistence's, in the newest walk-forward.")
    dm_p: Figure = Field(None, description="p-value of that walk-forward's Diebold-Mariano test, corrected.")
    judged: bool | None = Field(None, description=_JUDGED)
    edge: EdgeItem | None = Field(None, description="Of the champion, or of the model with the smallest error.")
    champion: str | None = None
    samples: int | None = None
    split_train: int | None = None
    split_total: int | None = None


class TrainingItem(TrainingFigures):
    """One training of the log."""

    started_at: datetime | None = None
    finished_at: datetime | None = None
    validation_start: datetime | None = None
    model_version: str | None = None
    train_end_ts: datetime | None = Field(None, description="Open time of the last candle that was trained on.")
    created_at: datetime | None = None


class TrainResponse(TrainingFigures):
    """What a training did."""

    status: str = "ok"
    samples: int
    champion: str = Field(description="The served model; persistence where none has proven skill.")
    version: str
    model_path: str
    n_rows: int
    n_features: int
    waited_seconds: float = Field(description=_WAITED)


class PublishedProof(ResponseModel):
    """What time stamps prove of the published record."""

    forecasts: int
    proven: int = Field(description="Forecasts that an authority's stamp proves to be older than their candle's end.")
    waiting: int = Field(description="Checkpoints that wait for their stamp.")


class MetricsResponse(TrainingItem):
    """The newest training flat, and the last ones as items; status ``empty`` before the first."""

    items: list[TrainingItem] = []
    published: PublishedProof | None = Field(None, description="The published record, where BTCML_PUBLISH_DIR is set.")


class JobResponse(_OfSeries):
    """A job of the log."""

    id: int
    kind: str
    status: Literal["queued", "running", "ok", "error", "missed", "abandoned"]
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
    place: int | None = Field(None, description="Jobs before it, the scheduler's included; 0: it runs.")


class JobListResponse(ResponseModel):
    """The newest jobs, newest first."""

    items: list[JobResponse]
    next_before: int | None = Field(None, description="Give it as before= for the next page.")


class ModelItem(ResponseModel):
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


class HorizonFigures(ResponseModel):
    """Verdict at a horizon, in the newest walk-forward at it."""

    horizon: int = Field(description="Candles ahead.")
    champion: str = Field(description="The served model; persistence where none has proven skill.")
    model: str = Field(description="Whose figures these are: the champion, or the model with the smallest error.")
    ratio: Figure = Field(description="Its MAE in bp over persistence's.")
    z: Figure = Field(description="Its Diebold-Mariano statistic; negative is better than persistence.")


class LeftOutCoin(ResponseModel):
    """Test of models of other coins on a coin that they never saw."""

    coin: str
    rows: int
    ratio: Figure = Field(description="MAE in bp over persistence's.")
    z: Figure
    p: Figure
    p_holm: Figure = Field(description="p after Holm over the coins, times the looks.")
    recent_ratio: Figure = Field(description="The ratio in the last six months.")
    looks: int
    proven: bool


class LeftOutProof(ResponseModel):
    """Whether models of other coins are proven, each of which is left out in turn."""

    model: str
    proven: bool
    served: bool = Field(description="Whether the forecasts in service are made by models of the pool.")
    reason: str
    pool: list[str]
    table: list[LeftOutCoin]


class ModelInfoResponse(ResponseModel):
    """Where the models are, and what they are."""

    models_dir: str
    model_path: str = Field(description="Folder of the training in service.")
    exists: bool = Field(description="Whether that folder is there.")
    listing: list[str] = Field(description="What is in the folder of the series.")
    files: list[str]
    models: list[ModelItem]
    horizons: list[HorizonFigures] = Field(description="Horizons of the training in service; empty before the first.")
    left_out: LeftOutProof | None = Field(None, description="Where the symbol is too young for a verdict of its own.")


class ChallengerItem(ResponseModel):
    """Forecast of a challenger, shown beside the served one."""

    model: str
    role: Literal["challenger", "persistence"]
    predicted_close: float


class HorizonItem(ResponseModel):
    """The forecast at a horizon in short."""

    horizon: int = Field(description="Candles ahead of the newest final one.")
    time: datetime = Field(description="Open time of the candle whose close is forecast, UTC.")
    predicted_close: float
    delta_bp: float = Field(description="Against the last close, in basis points.")
    predicted_high: float = Field(description="Of all candles until then.")
    predicted_low: float
    lo: Figure = Field(None, description="Lower end of the 90 % interval of the close.")
    hi: Figure = Field(None, description="Upper end.")
    prob_up: Figure = None
    levels: list[float] = Field(
        description="Probabilities of a close below the quantiles; empty where they are not known."
    )
    quantiles: list[float] = Field(description="Prices.")
    model: str
    skill: Figure = Field(None, description="Of the served model in walk-forward; 0 for persistence.")
    sealed: bool = Field(description="Whether this forecast is sealed.")


class DecisionItem(ResponseModel):
    """Whether a round trip until a horizon pays its cost."""

    horizon: int
    action: Literal["long", "short", "no trade"]
    expected_bp: Figure = Field(description="Forecast move.")
    needed_bp: float = Field(description="Smallest forecast move that pays.")
    probability: Figure = Field(description="Of a move beyond the cost, up or down.")
    proven: bool = Field(description="Whether the model is proven to beat no change; without proof there is no trade.")
    reason: str


class ForecastResponse(HorizonItem, _OfSeries):
    """The forecast of the next candle, or of the close at the horizon that was asked for."""

    last_time: datetime = Field(description="Open time of the newest final candle.")
    last_close: float
    predicted_next_close: float = Field(description="predicted_close, as ML Crypto named it.")
    delta: float
    delta_pct: float = Field(description="delta as a fraction of last_close.")
    predicted_open: float
    predicted_amp: float
    interval_level: float = 0.9
    prob_down: Figure = None
    artifact: str
    verdict: str = Field(description="Why this model is served, in one sentence.")
    model_version: str = Field(description="The artifact.")
    last_ts: datetime = Field(description="last_time.")
    predicted_at: datetime = Field(description="When this forecast was computed, by the market's clock.")
    trained_at: datetime
    model_age_seconds: float
    sealed_at: datetime | None = None
    seal_status: Literal["sealed", "late", "other"] | None = Field(
        None, description="other: an earlier training's forecast of this candle is sealed, see /futuros."
    )
    challengers: list[ChallengerItem] = Field(default_factory=list, description="Beside it, never instead.")
    horizons: list[HorizonItem] = Field([], description="All horizons that are forecast, this one among them.")
    decisions: list[DecisionItem] = Field([], description="With cost_bp: one for each horizon.")


class FutureItem(ResponseModel):
    """A sealed forecast against reality."""

    time: datetime
    pred_close: float
    real_close: Figure = None
    err_close: Figure = Field(None, description="pred_close - real_close; null for late forecasts.")
    base: Figure = Field(None, description="Last close when it was made: persistence's forecast; null if imported.")
    err_base: Figure = None
    lo: Figure = None
    hi: Figure = None
    prob_up: Figure = None
    model: str
    status: Literal["sealed", "late", "imported"]
    made_at: datetime | None = None


class FuturesResponse(ResponseModel):
    """Sealed forecasts, oldest first."""

    points: list[FutureItem]
    next_end: datetime | None = Field(None, description="Give it as end= for the page before this one.")


class ForecastItem(BaseModel):
    """The forecast."""

    open_next: float | None
    high_next: float | None
    low_next: float | None
    close_next: float
    amp_next: float | None


class DirectionItem(BaseModel):
    """The forecast direction: 1 up, 0 down."""

    dir_next: Literal[0, 1] | None
    prob_up: float | None
    prob_down: float | None


class ErrorItem(BaseModel):
    """Error of the forecast, and of persistence."""

    close_abs: float
    close_signed: float
    amp_abs: float | None
    persistence_abs: float


class PointItem(BaseModel):
    """A candle and the out-of-sample forecast of the next one; null where there is none."""

    real: CandleItem
    pred: ForecastItem | None = Field(description="Of the next candle.")
    cls: DirectionItem | None = Field(description="Of the next candle.")
    err: ErrorItem | None = Field(description="Of the next candle; null until it has closed.")
    lo: float | None
    hi: float | None
    origin: Literal["walk-forward", "sealed"] | None


class SeriesResponse(_OfSeries):
    """Out-of-sample forecasts against reality, oldest first."""

    model: str | None
    points: list[PointItem]
    next_start: datetime | None = Field(None, description="Give it as start= for the next page.")


class ScoreItem(ResponseModel):
    """Scores of one model on a span; ``repeat`` forecasts the last move once more."""

    model: str
    rows: int
    mae_bp: Figure
    mae_usd: Figure
    rmse_usd: Figure
    skill: Figure
    direction: Figure = Field(description="Share of right signs.")
    direction_low: Figure = Field(description="Lower end of its 95 % Wilson interval.")
    direction_high: Figure = Field(description="Upper end.")
    wda: Figure = Field(description="Right signs weighted by the size of the move.")
    coverage: Figure = Field(description="Share of outcomes inside the 90 % interval.")
    brier: Figure


class ReliabilityItem(ResponseModel):
    """A bin of forecast probabilities."""

    probability: float = Field(description="Mean probability of a rise that was forecast.")
    frequency: float = Field(description="Share of rises that happened.")
    low: float
    high: float
    rows: int


class MoneyItem(ResponseModel):
    """Result of trading the sign of every forecast, entered at once."""

    cost_bp: float = Field(description="Cost of a round trip.")
    threshold_bp: float
    trips: float = Field(description="Round trips.")
    gross_bp: float = Field(description="Sum before costs, in bp of the stake.")
    net_bp: float = Field(description="Sum after costs.")


class RuleItem(ResponseModel):
    """Result of trading only where the forecast move pays the cost."""

    cost_bp: float = Field(description="Cost of a round trip.")
    silent: float = Field(description="Share of the forecasts without a trade.")
    trips: float = Field(description="Round trips.")
    gross_bp: Figure = Field(description="Of a round trip before costs.")
    net_bp: Figure = Field(description="After costs.")
    total: float = Field(description="Sum after costs, in units of the stake.")
    deflated: Figure = Field(description="Probability that it is skill after all tries on record.")


class EvaluationResponse(_OfSeries):
    """Figures of out-of-sample forecasts; with curves also ``rolling`` and ``candles``, as columns."""

    model: str | None
    champion: str | None
    best: str | None = Field(description="The champion, or the best challenger where persistence serves.")
    origin: Literal["walk-forward", "sealed"] | None
    seal_lag: dict[str, float] = Field(
        description="Seconds from a close until the next forecast was sealed: p50 and p99; empty where none was."
    )
    scores: list[ScoreItem]
    direction: dict[str, int] = Field(description="Right signs among the rows that moved.")
    reliability: list[ReliabilityItem]
    money: MoneyItem
    decision: RuleItem | None = Field(None, description="Of the same forecasts; null where there are none.")
    rolling: dict[str, list[Any]] | None = None
    candles: dict[str, list[Any]] | None = None
