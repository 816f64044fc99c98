"""The experiment: does a model beat "next close = this close", defined and answered in one place.

`Experiment` describes how a frame of candles is tested, `Experiment.run` answers it with a
`Result`. Report, command line, service, dashboard and notebooks show that answer and compute none of their
own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from btcml.candles import LONGEST_HORIZON, interval_delta
from btcml.continuity import suspect_rows
from btcml.errors import NotReadyError, UsageError
from btcml.forecast.dataset import make_dataset
from btcml.forecast.distribution import distribution_scores
from btcml.forecast.edge import EdgeAge, edge_age
from btcml.forecast.features import features_of
from btcml.forecast.metrics import (
    PERSISTENCE,
    THIRDS,
    Calibration,
    calibration,
    evaluate,
    horizon_of,
    loss_table,
    metric_names,
    reliability,
    volatility_third,
)
from btcml.forecast.metrics.interval import LEVEL
from btcml.forecast.models import DIRECTION, OTHERS, POOLED, RANGE, make_model, members_of, pool_of
from btcml.forecast.money import COSTS_BP, decisions, money, positions
from btcml.forecast.splits import WalkForward
from btcml.forecast.statistics import (
    NORMAL_95,
    long_run_variance,
    model_confidence_set,
    newey_west_lags,
    superior_predictive_ability,
    wilson_interval,
)
from btcml.forecast.verdict import Verdict, challenger_p, count_looks, ledger, overlapping, plain, verdict
from btcml.forecast.walk import RawForecasts, close_frame, level_frame, walk, walk_horizons
from btcml.rounding import decimals_apart
from btcml.sentences import Sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from btcml.forecast.dataset import Dataset


MODELS: tuple[str, ...] = ("lightgbm_mean", "random_forest", "autoreg", "ridge")
"""Challengers of persistence in the published experiment, and the served models."""

POOL_MODEL = f"{POOLED}lightgbm_mean"
"""Challenger that the published experiment has as well where other symbols are given."""

SERVED = (*MODELS, POOL_MODEL)
"""Models that a training can serve."""

OTHERS_MODEL = f"{OTHERS}lightgbm_mean"
"""Model of a coin without a past of its own (`btcml.forecast.left_out`)."""

RANGE_MODELS: tuple[str, ...] = (RANGE, "ewma", "har", "linear")
"""Models of the size of the next move."""

SCORES: tuple[str, ...] = (
    "ratio", "skill", "skill_low", "skill_high", "dm_z", "dm_p", "mae_bp", "mae_usd", "rmse_bp", "rmse_usd", "r2",
    "mape", "smape", "direction", "direction_low", "direction_high", "top_direction", "wda",
    "brier_skill", "brier_z", "calibration_error", "coverage",
)  # fmt: skip
"""Metrics of the close in a table of scores."""

INTERVAL_SCORES: tuple[str, ...] = (
    "coverage", "coverage_calm", "coverage_middle", "coverage_storm", "winkler_bp", "coverage_worst_day",
)  # fmt: skip
"""Metrics of the prediction interval."""

_DAY = pd.Timedelta(days=1)
_LONGEST_TEST = 365


@dataclass(frozen=True)
class Experiment:
    """An experiment: data, models, and the plan by which models are fitted and candles are forecast.

    Parameters
    ----------
    interval
        Interval of the candles.
    test_from, test_to
        First target candle of the test and its end (exclusive), UTC; no end is that of the candles.
    features
        A set of features, or names of features.
    models
        Challengers of persistence.
    window
        Training window: candles, ``"N days"``, ``"N months"`` or None for everything before.
    refit
        How long a model is used; ``"half"``: half of the test, so that models are fitted twice.
    purge
        Candles left out between the last training outcome and the first that is forecast; at least the
        longest horizon.
    burn_in
        Span before the test that is forecast but not scored, from which factors and intervals learn.
    level
        Nominal coverage of the prediction interval.
    horizons
        Candles ahead, ascending: each is forecast and judged by itself, with the same features and folds.
    stride
        Models are fitted on every n-th row: of the close, n is at most the horizon, since outcomes that overlap say
        little more than one of them.
    pool
        Other symbols, on whose candles models are fitted whose names begin with ``pooled_`` (and on their own
        ones) or ``others_`` (and on no others).

    Raises
    ------
    UsageError
        If a model, feature, span, level, horizon or stride is not known or impossible, or a model needs a pool.

    Examples
    --------
    >>> experiment = Experiment("1h", "2025-01-01", models=("ridge",), purge=24)
    >>> experiment.replace(window="12 months").window
    '12 months'
    """

    interval: str
    test_from: str
    test_to: str | None = None
    features: str | tuple[str, ...] = "core"
    models: tuple[str, ...] = MODELS
    window: int | str | None = "48 months"
    refit: int | str = "half"
    purge: int = 288
    burn_in: int | str | None = "60 days"
    level: float = LEVEL
    horizons: tuple[int, ...] = (1,)
    stride: int = 1
    pool: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        interval_delta(self.interval)
        features_of(self.features)
        _check_models(self.models, self.pool)
        _check_horizons(self.horizons)
        _ = self.plan
        if not 0 < self.level < 1:
            msg = f"the interval level must lie between 0 and 1, found {self.level}: write 0.9"
            raise UsageError(msg)
        if self.stride < 1:
            msg = f"a stride is at least 1 row, found {self.stride}: write 1 to fit on all"
            raise UsageError(msg)

    @classmethod
    def default(
        cls, candles: pd.DataFrame, interval: str, horizons: tuple[int, ...] = (1,), pool: tuple[str, ...] = ()
    ) -> Experiment:
        """Return the published experiment on a frame of candles.

        The newest third is tested, at most 365 days, from 00:00 UTC on; the purge is the larger of one
        day and the longest horizon. With other symbols it has one challenger more, which is fitted on all of them.

        Raises
        ------
        NotReadyError
            If the candles span less than three days.
        """
        if candles.empty:
            msg = "an experiment needs candles of three days, found none: backfill more days"
            raise NotReadyError(msg)
        first, last = candles["open_time"].iloc[0], candles["open_time"].iloc[-1]
        end = last + interval_delta(interval)
        if end - first < 3 * _DAY:
            span = f"{len(candles):,} from {first:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
            msg = f"an experiment needs candles of three days, found {span}: backfill more days"
            raise NotReadyError(msg)
        test = min(_LONGEST_TEST, (last - first) // _DAY // 3)
        start = (last - test * _DAY).floor("D")
        purge = max(*horizons, 1, math.ceil(_DAY / interval_delta(interval)))
        models = (*MODELS, POOL_MODEL) if pool else MODELS
        return cls(interval, start.isoformat(), models=models, purge=purge, horizons=horizons, pool=pool)

    def replace(self, **changes: Any) -> Experiment:
        """Return the experiment with some fields changed: an explicit experiment, and labelled so."""
        unknown = sorted(set(changes) - set(asdict(self)))
        if unknown:
            msg = f"an experiment has the fields {', '.join(asdict(self))}, found {', '.join(unknown)}"
            raise UsageError(msg)
        return replace(self, **changes)

    @property
    def left_out(self) -> bool:
        """Whether all models are fitted on other symbols alone: then those of direction and range are, too."""
        return all(pool_of(name) == OTHERS for name in self.models if name != PERSISTENCE)

    @property
    def plan(self) -> WalkForward:
        """The walk-forward plan."""
        given = (self.test_from, self.test_to, self.window, self.refit, self.purge, self.burn_in)
        return WalkForward(*given, horizon=self.horizons[-1])

    def features_used(self, models: Sequence[str]) -> tuple[str, ...]:
        """Names of its features, and of those that models require of their own, each once.

        Examples
        --------
        >>> experiment = Experiment("1h", "2025-01-01")
        >>> len(experiment.features_used(["ridge"])), len(experiment.features_used(["lightgbm_mean"]))
        (24, 46)
        """
        own = [make_model(member).features for name in models for member in members_of(name)]
        sets = [self.features, *filter(None, own)]
        return tuple(dict.fromkeys(item.name for features in sets for item in features_of(features)))

    def test_span(self, candles: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
        """First target candle of the test, and its end (exclusive), on a frame of candles."""
        end = candles["open_time"].iloc[-1] + interval_delta(self.interval)
        plan = self.plan
        return plan.first_test, end if plan.last_test is None else min(end, plan.last_test)

    def differences(self, candles: pd.DataFrame) -> dict[str, Any]:
        """Fields in which this experiment differs from the published one, with its values; empty: it is that one."""
        standard, own = asdict(Experiment.default(candles, self.interval, pool=self.pool)), asdict(self)
        standard["test_from"] = pd.Timestamp(standard["test_from"])
        return {
            name: value
            for name, value in own.items()
            if (self.plan.first_test if name == "test_from" else value) != standard[name]
        }

    def label(self, candles: pd.DataFrame) -> Sentence:
        """Say in one line whether this is the published experiment, or in what it differs.

        Examples
        --------
        >>> times = pd.Series(pd.date_range("2025-01-01", periods=2000, freq="h", tz="UTC"))
        >>> candles = pd.DataFrame({"open_time": times})
        >>> Experiment.default(candles, "1h").label(candles)
        'the published experiment'
        >>> Experiment.default(candles, "1h").replace(models=("ridge",)).label(candles)
        'an explicit experiment: models = ridge'
        """
        named = {
            name: ", ".join(map(str, value)) if isinstance(value, tuple) else value
            for name, value in self.differences(candles).items()
        }
        fields = "; ".join(f"{name} = {value}" for name, value in named.items())
        return Sentence("an explicit experiment: {fields}" if named else "the published experiment", fields=fields)

    def ledger(self, candles: pd.DataFrame, trials: pd.DataFrame, research: pd.DataFrame) -> pd.DataFrame:
        """Every try on record at its horizons, this one last (`btcml.forecast.verdict.ledger`).

        Earlier runs of the published experiment over the same test are this one.
        """
        tried, (start, end) = self._tried(trials), self.test_span(candles)
        if not self.differences(candles):
            same = (tried["settings"] == "{}") & (tried["test_start"] == start) & (tried["test_end"] == end)
            tried = tried[~same]
        return ledger(tried, research, (start, end), self.models)

    def looks(self, candles: pd.DataFrame, trials: pd.DataFrame, research: pd.DataFrame) -> int:
        """How many looks a run on these candles counts, itself included.

        Tries at other horizons are no looks at the outcomes of this experiment; nor are those of models that are
        fitted on other symbols alone, which cannot serve this one, unless its own are such. Runs of the published one
        count by the new evidence in them; so do those that the service repeats: without the next candle, or of such
        models, with whatever pool.

        Parameters
        ----------
        candles
            Candle frame.
        trials
            Earlier tries on the series: ``model, test_start, test_end, settings`` as the database and a
            snapshot keep them.
        research
            Tries of the authors on the series: ``kind, what, start, end, tries``; those whose candles overlap
            the test count like other tries.
        """
        start, end = self.test_span(candles)
        trials = self._tried(trials)
        routine = {} if 1 in self.horizons and not self.left_out else _setting(json.dumps(self.differences(candles)))
        repeated = np.array([_setting(given) == routine for given in trials["settings"]], dtype=bool)
        published = repeated & trials["test_start"].notna()
        theirs = research["tries"][overlapping(research, (start, end))]
        tried = int((~published).sum()) + int(theirs.sum())
        spans = trials.loc[published, ["test_start", "test_end"]].drop_duplicates()
        past = list(spans.itertuples(index=False, name=None))
        return count_looks([*past, (start, end)], tried, len(self.models))

    def _tried(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Tries at a horizon of this experiment, of models fitted on other symbols alone or not, as its own are."""
        horizons = [json.loads(given).get("horizons", [1]) for given in trials["settings"]]
        same = [not set(found).isdisjoint(self.horizons) for found in horizons]
        kind = [str(name).startswith(OTHERS) == self.left_out for name in trials["model"]]
        return trials[np.array(same, dtype=bool) & np.array(kind, dtype=bool)]

    def folds(self, candles: pd.DataFrame) -> pd.DataFrame:
        """Folds on a frame of candles.

        Returns
        -------
        DataFrame
            ``train_start, cutoff, test_start, test_end, train_candles, test_candles, part`` (``burn-in``
            or ``test``).
        """
        times, plan = candles["open_time"], self.plan
        table = pd.DataFrame([asdict(fold) for fold in plan.folds(times, self.interval)])
        table["train_candles"] = [
            int(times.between(*ends).sum()) for ends in zip(table["train_start"], table["cutoff"], strict=True)
        ]
        table["test_candles"] = [
            int(times.between(*ends, inclusive="left").sum())
            for ends in zip(table["test_start"], table["test_end"], strict=True)
        ]
        return table.assign(part=np.where(table["test_start"] < plan.first_test, "burn-in", "test"))

    def run(  # noqa: PLR0913 - the options of a run
        self,
        candles: pd.DataFrame,
        *,
        others: Mapping[str, pd.DataFrame] | None = None,
        looks: int = 1,
        tries: int = 0,
        incumbent: str | Mapping[int, str] = PERSISTENCE,
        range_models: tuple[str, ...] = RANGE_MODELS,
        jobs: int = 2,
        backend: str = "loky",
    ) -> Result:
        """Forecast the test in walk-forward and judge the forecasts.

        Parameters
        ----------
        candles
            Candle frame. Suspect spans are forecast but not fitted on.
        others
            Candle frames by symbol of the pool, of whatever length.
        looks
            Looks at these candles, this one included (`btcml.forecast.verdict.count_looks`).
        tries
            Models and settings on record, those of this run included (`ledger`).
        incumbent
            The champion so far of the first horizon, or of each by horizon.
        range_models
            Models of the range and volatility; `btcml.forecast.models.RANGE` scales the distributions.
        jobs, backend
            Parallel fits, and the name of the joblib backend; the result does not depend on either.

        Raises
        ------
        NotReadyError
            If no candle lies before the test, or none in it; if all models are registered ones that fail.
        UsageError
            If candles of the pool are missing.
        """
        data = self.dataset(candles, others)
        folds = self.plan.folds(data.history, self.interval)
        raws = walk_horizons(data, folds, self.horizons, self.models, range_models, jobs, backend)
        failed = {name: why for raw in raws.values() for name, why in raw.close.failed.items()}
        models = tuple(name for name in self.models if name not in failed)
        if not set(models) - {PERSISTENCE}:
            raise NotReadyError(next(iter(failed.values())))
        family: list[Result] = []
        champions = {self.horizons[0]: incumbent} if isinstance(incumbent, str) else incumbent
        for horizon, raw in raws.items():
            forecasts = self._tested(close_frame(raw, models, self.level))
            ranges = self._tested(level_frame(raw.ranges, range_models))
            volatility = self._tested(level_frame(raw.volatility, range_models)) if raw.volatility else None
            current = champions.get(horizon, PERSISTENCE)
            found = Result(self, forecasts, ranges, looks, current, raw, volatility, family, int(tries), failed=failed)
            family.append(found)
        return family[0]

    def dataset(self, candles: pd.DataFrame, others: Mapping[str, pd.DataFrame] | None = None) -> Dataset:
        """Features and outcomes of the close, with those of the pool where a model is fitted on it.

        Raises
        ------
        UsageError
            If candles of the pool are missing.
        """
        pool = self.pool if any(pool_of(name) for name in self.models) else ()
        if missing := [symbol for symbol in pool if symbol not in (others or {})]:
            msg = f"the experiment needs candles of {', '.join(missing)} for its pool, found none: give them as others"
            raise UsageError(msg)
        frames = (candles, *((others or {})[symbol] for symbol in pool))
        suspects = (suspect_rows(frame, self.interval) for frame in frames)
        own, *rest = (
            replace(make_dataset(frame, self.interval, self.features, "close", found), stride=self.stride)
            for frame, found in zip(frames, suspects, strict=True)
        )
        return replace(own, others=tuple(rest), left_out=self.left_out)

    def forecast(
        self, candles: pd.DataFrame, target: str, models: Sequence[str], *, features: str = "range", jobs: int = 1
    ) -> pd.DataFrame:
        """Forecast another target over the same folds.

        Parameters
        ----------
        candles
            Candle frame.
        target
            A name in `btcml.forecast.targets.TARGETS`, such as ``realized_volatility``.
        models
            Names of models; persistence is added.
        features
            Set or names of features.
        jobs
            Processes; the result does not depend on their number. Linear models are fitted sooner than
            processes start.

        Returns
        -------
        DataFrame
            Long forecast frame of the test; ``lo``, ``hi`` and ``prob_up`` are NaN.
        """
        data = make_dataset(candles, self.interval, features, target, suspect_rows(candles, self.interval))
        folds = self.plan.folds(candles["open_time"], self.interval)
        members = list(dict.fromkeys(member for name in models for member in members_of(name)))
        return self._tested(level_frame(walk([(data, members)], folds, jobs)[0], models))

    def _tested(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows of the test, without the burn-in."""
        return frame[frame["open_time"] >= self.plan.first_test].reset_index(drop=True)


def _setting(given: str) -> dict[str, Any]:
    """Fields of a try that differ from the published experiment; the span of coins left out is not one of them."""
    found: dict[str, Any] = json.loads(given)
    if all(pool_of(name) == OTHERS for name in found.get("models", [""])):
        found.pop("test_from", None)
    return found


def _check_models(models: tuple[str, ...], pool: tuple[str, ...]) -> None:
    for name in models:
        if any(make_model(member).features == "range" for member in members_of(name)) or name == DIRECTION:
            msg = f"a model of an experiment forecasts the close, found {name!r}: name {', '.join(MODELS)} or another"
            raise UsageError(msg)
    if (pooled := [name for name in models if pool_of(name)]) and not pool:
        msg = f"{pooled[0]} is fitted on other symbols, found none: name at least one as pool"
        raise UsageError(msg)
    if not set(models) - {PERSISTENCE}:
        msg = f"an experiment needs at least one model beside {PERSISTENCE}, found none"
        raise UsageError(msg)


def _check_horizons(horizons: tuple[int, ...]) -> None:
    rising = horizons and list(horizons) == sorted(set(horizons))
    if not rising or not 1 <= horizons[0] <= horizons[-1] <= LONGEST_HORIZON:
        found = ", ".join(map(str, horizons)) or "none"
        msg = (
            f"horizons are numbers of candles from 1 to {LONGEST_HORIZON}, ascending, found {found}: "
            "write for example 1, 3, 12"
        )
        raise UsageError(msg)


class Gain(NamedTuple):
    """What a trade on the strongest forecasts earns before fees, in bp, and its 95 % interval."""

    bp: float
    low: float
    high: float

    @property
    def proven(self) -> bool:
        """Whether it is significant; if so, it is also the break-even fee."""
        return self.low > 0


@dataclass(frozen=True)
class Result:
    """The answer of an experiment; everything in it follows from the forecasts.

    Parameters
    ----------
    experiment
        The question.
    forecasts
        Long forecast frame of the close with ``open, high, low, amp`` beside ``y_hat``.
    ranges
        Long forecast frame of the log range.
    looks, incumbent, tries
        What `Experiment.run` was given.
    raw
        Forecasts from which the frames were made; not saved.
    volatility
        Long forecast frame of the log realized volatility; None where only the next candle is forecast.
    family
        Results at all horizons of the experiment, this one among them; the same list in each.
    served
        Models that may be champion; None: all.
    failed
        Why a registered model failed, by its name; not saved.
    """

    experiment: Experiment
    forecasts: pd.DataFrame = field(repr=False)
    ranges: pd.DataFrame = field(repr=False)
    looks: int = 1
    incumbent: str = PERSISTENCE
    raw: RawForecasts | None = field(default=None, repr=False, compare=False)
    volatility: pd.DataFrame | None = field(default=None, repr=False)
    family: list[Result] = field(default_factory=list, repr=False, compare=False)
    tries: int = 0
    served: tuple[str, ...] | None = SERVED
    failed: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def horizon(self) -> int:
        """Candles ahead."""
        return horizon_of(self.forecasts)

    def at(self, horizon: int) -> Result:
        """Result at one of the experiment's horizons.

        Raises
        ------
        UsageError
            If it is none of them.
        """
        known = {result.horizon: result for result in [self, *self.family]}
        if horizon not in known:
            msg = f"the horizons of the experiment are {', '.join(map(str, sorted(known)))}, found {horizon}"
            raise UsageError(msg)
        return known[horizon]

    @cached_property
    def verdict(self) -> Verdict:
        """Which model is served, by the rule fixed in advance."""
        others = [result.challenger_p for result in self.family if result is not self]
        return verdict(self.forecasts, looks=self.looks, incumbent=self.incumbent, others=others, served=self.served)

    @cached_property
    def challenger_p(self) -> pd.Series:
        """One-sided p of each challenger against persistence."""
        return challenger_p(self.losses, self.horizon)

    @cached_property
    def leader(self) -> str:
        """The champion; where that is persistence, the model with the smallest error, a served one if there is any."""
        if self.verdict.champion != PERSISTENCE:
            return self.verdict.champion
        others = [str(name) for name in evaluate(self.forecasts, ["mae_bp"])["model"] if name != PERSISTENCE]
        return next((name for name in others if name in (self.served or others)), (*others, PERSISTENCE)[0])

    @property
    def of_leader(self) -> pd.DataFrame:
        """Forecasts of the leader."""
        return self.forecasts[self.forecasts["model"] == self.leader].reset_index(drop=True)

    @property
    def trials(self) -> int:
        """Models and settings tried: those on record, at least the challengers of every look."""
        return max(self.tries, self.looks * max(1, self.forecasts["model"].nunique() - 1))

    @property
    def tests(self) -> int:
        """Number of tests that the p-values of the verdict allow for: challengers, horizons and looks multiplied."""
        return (len(self.verdict.table) - 1) * max(1, len(self.family)) * self.looks

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Absolute log error in bp: one row per candle, one column per model."""
        return loss_table(self.forecasts)

    def scores(self, by: str | None = None, metrics: Sequence[str] = SCORES) -> pd.DataFrame:
        """Scores of the close.

        Parameters
        ----------
        by
            ``year, month, hour, third`` or ``age`` (of the model): the leader beside persistence in each
            group; None: all models on the whole test.
        metrics
            Names of metrics.

        Returns
        -------
        DataFrame
            ``model``, the group, ``rows``, then one column per metric; persistence first.
        """
        if by is None:
            return evaluate(self.forecasts, metrics)
        both = self.forecasts[self.forecasts["model"].isin([self.leader, PERSISTENCE])]
        return evaluate(both, metrics, by)

    @cached_property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Scores by model as plain JSON values, persistence first."""
        table = self.scores().drop(columns="rows").set_index("model")
        return {str(model): plain(row) for model, row in table.to_dict("index").items()}

    def range_scores(self) -> pd.DataFrame:
        """Scores of the log range: models by metrics, persistence first."""
        return evaluate(self.ranges, metric_names("range"))

    def volatility_scores(self) -> pd.DataFrame:
        """Scores of the log realized volatility; empty where only the next candle is forecast."""
        return evaluate(self.volatility, metric_names("range")) if self.volatility is not None else pd.DataFrame()

    @cached_property
    def by_horizon(self) -> pd.DataFrame:
        """One row for each horizon.

        Returns
        -------
        DataFrame
            ``horizon, champion, model`` (the leader), its ``ratio, late_ratio`` (used one candle late), ``z, p,
            p_holm`` (after Holm over models and horizons, and looks), ``range_r2, volatility_r2`` with those of
            the references EWMA and HAR, and `btcml.forecast.distribution.distribution_scores`.
        """
        return pd.DataFrame([horizon_row(result) for result in self.family or [self]])

    @cached_property
    def interval(self) -> pd.DataFrame:
        """Coverage of the interval, overall and by volatility third.

        ``group, held, low, high`` (95 % Wilson interval), ``width_bp``, ``candles``.
        """
        part = self.of_leader
        known = part[part["lo"].notna() & part["hi"].notna()]
        third = volatility_third(part).reindex(known.index)
        groups = {"all": known} | {name: known[third == name] for name in THIRDS}
        rows = [(name, *_held(inside)) for name, inside in groups.items() if len(inside)]
        return pd.DataFrame(rows, columns=["group", "held", "low", "high", "width_bp", "candles"])

    @cached_property
    def months(self) -> pd.DataFrame:
        """Score of the leader in each month: ``month, rows, ratio, skill``."""
        return _only(self.scores("month", ["ratio", "skill"]), self.leader)

    @cached_property
    def edge(self) -> EdgeAge:
        """Trend of the leader's skill, and whether its edge lasts."""
        return edge_age(self.of_leader)

    def reliability(self) -> pd.DataFrame:
        """Forecast probability of a rise against its frequency (`btcml.forecast.metrics.reliability`)."""
        return reliability(self.of_leader)

    @cached_property
    def calibration(self) -> Calibration | None:
        """Brier score and slope of that probability on the whole test; None where there is none, or all are equal."""
        return calibration(self.of_leader)

    def money(self, costs_bp: float | Sequence[float] = COSTS_BP, *, late: pd.Series | None = None) -> pd.DataFrame:
        """Results of trading on the leader's forecasts, by rule, entry and cost of a round trip.

        Parameters
        ----------
        costs_bp
            One or several costs of a round trip, in bp.
        late
            Prices a minute after the open, as `btcml.forecast.money.money` takes them.
        """
        costs = (costs_bp,) if isinstance(costs_bp, int | float) else costs_bp
        return money(self.of_leader, costs_bp=costs, late=late, trials=self.trials)

    def decisions(self, costs_bp: Sequence[float] = COSTS_BP) -> pd.DataFrame:
        """Results of trading only where the champion's forecast pays its cost (`btcml.forecast.money.decisions`).

        Where persistence is champion it is silent always.
        """
        own = self.forecasts[self.forecasts["model"] == self.verdict.champion]
        return decisions(own, costs_bp, trials=self.trials)

    @cached_property
    def gain(self) -> Gain:
        """What the strongest forecasts, traded at once, earn a round trip; NaN where nothing is traded."""
        table = self.money(0.0)
        chosen = table[(table["rule"] == "top") & (table["entry"] == "at once")]
        if chosen.empty or not chosen["trips"].iloc[0] > 0:
            return Gain(math.nan, math.nan, math.nan)
        frame = self.of_leader.dropna(subset=["y", "y_hat", "base"])
        earned = (positions(frame, "top") * (frame["y"] / frame["base"] - 1)).to_numpy()
        error = math.sqrt(len(earned) * long_run_variance(earned, newey_west_lags(len(earned))))
        middle, width = float(chosen["gross_bp"].iloc[0]), NORMAL_95 * 1e4 * error / float(chosen["trips"].iloc[0])
        return Gain(middle, middle - width, middle + width)

    def joint_tests(self) -> pd.DataFrame:
        """Tests that allow for many models at once.

        Returns
        -------
        DataFrame
            ``test, value, models``: Hansen's SPA (p-value), the model confidence set (its share of the
            models, and their names) and the deflated Sharpe ratio before costs (a probability).
        """
        kept = model_confidence_set(self.losses)
        names = ", ".join(kept["model"][kept["included"]].astype(str))
        free = self.money(0.0)
        rows = [
            ("spa", superior_predictive_ability(self.losses).p_consistent, ""),
            ("confidence_set", float(kept["included"].mean()), names),
            ("deflated_sharpe", float(free[free["rule"] == "top"]["deflated"].iloc[0]) if len(free) else math.nan, ""),
        ]
        return pd.DataFrame(rows, columns=["test", "value", "models"])

    @property
    def _failures(self) -> pd.DataFrame:
        return pd.DataFrame(self.failed.items(), columns=["model", "why"])

    def to_dict(self, *, late: pd.Series | None = None) -> dict[str, Any]:
        """All results as plain JSON values; unknown values are None."""
        both = self.forecasts[self.forecasts["model"].isin([self.leader, PERSISTENCE])]
        spread = evaluate(both, INTERVAL_SCORES)
        tables = {
            "close": self.scores(),
            "interval": spread[spread["model"] == self.leader],
            "log_range": self.range_scores(),
            "months": self.months,
            "ages": _only(self.scores("age", ["ratio"]), self.leader),
            "money": self.money(late=late),
        }
        if self.experiment.horizons != (1,):
            tables["horizons"] = self.by_horizon
        if self.failed:
            tables["failed"] = self._failures
        return self.verdict.to_dict() | {
            "experiment": asdict(self.experiment),
            "edge": plain(asdict(self.edge)),
            **{name: plain(table.to_dict("records")) for name, table in tables.items()},
        }

    def __str__(self) -> str:
        """Tables for a terminal."""
        metrics = ("ratio", "dm_z", "dm_p", "mae_bp", "mae_usd", "direction", "top_direction", "brier_skill")
        worth = self.money(0.0)[["rule", "entry", "trips", "turnover", "gross_bp", "break_even_bp", "drawdown"]]
        tables = {
            "next close": self.scores(metrics=metrics),
            f"{self.experiment.level:.0%} interval": self.interval,
            "log range": self.range_scores(),
            "by age of the model in months of 30 days": _only(self.scores("age", ["ratio"]), self.leader),
            "money before costs, bp a round trip": worth,
        }
        if self.experiment.horizons != (1,):
            tables["by horizon in candles"] = self.by_horizon
        if self.failed:
            tables["failed"] = self._failures
        parts: list[str] = [result.verdict.reason for result in self.family or [self]]
        for title, table in tables.items():
            cells: dict[str, Any] = {"ratio": lambda x: f"{x:.{decimals_apart(x, 1.0, 5)}f}"}
            shown = table.to_string(index=False, formatters=cells, float_format=lambda x: f"{x:.5g}")
            parts += ["", title, "none, since too few candles are forecast" if table.empty else shown]
        below = int((self.months["ratio"] < 1).sum())
        counted = f"months with a smaller error than persistence: {below} of {len(self.months)}"
        return "\n".join([*parts, "", counted, self.edge.sentence])

    def _repr_html_(self) -> str:
        """The verdict and the table of scores."""
        table = self.scores(metrics=("skill", "mae_usd", "mae_bp", "dm_z", "dm_p", "direction", "coverage"))
        return f"<p><b>{escape(self.verdict.reason)}</b></p>{table.round(5).to_html(index=False, border=0)}"


def horizon_row(result: Result) -> dict[str, Any]:
    """Figures of the leader at one horizon: a row of `Result.by_horizon`."""
    table = result.verdict.table.set_index("model").reindex([result.leader]).iloc[0]
    row = {"horizon": result.horizon, "champion": result.verdict.champion, "model": result.leader}
    row |= {"ratio": table["ratio"], "late_ratio": late_ratio(result.of_leader)}
    row |= {name: table[name] for name in ("z", "p", "p_holm")}
    for name, frame in {"range": result.ranges, "volatility": result.volatility}.items():
        if frame is not None and len(frame):
            r2 = evaluate(frame, ["range_r2"]).set_index("model")["range_r2"]
            row |= {f"{name}_r2": r2.get(RANGE, math.nan)}
            row |= {f"{name}_r2_{reference}": r2[reference] for reference in ("ewma", "har") if reference in r2}
    return row | distribution_scores(result.of_leader, result.horizon)


def late_ratio(forecasts: pd.DataFrame) -> float:
    """Mean absolute error over persistence's where each forecast move is used one candle late.

    Parameters
    ----------
    forecasts
        Forecast frame of one model, sorted by ``open_time``.
    """
    y, y_hat, base = (forecasts[name].to_numpy(dtype=float) for name in ("y", "y_hat", "base"))
    move, said = np.log(y / base), np.log(y_hat / base)
    error, nothing = np.abs(move[1:] - said[:-1]), np.abs(move[1:])
    return float(error.sum() / nothing.sum()) if nothing.sum() > 0 else math.nan


def _held(inside: pd.DataFrame) -> tuple[float, float, float, float, int]:
    hits = int(inside["y"].between(inside["lo"], inside["hi"]).sum())
    width = float(1e4 * np.log(inside["hi"] / inside["lo"]).mean())
    return hits / len(inside), *wilson_interval(hits, len(inside)), width, len(inside)


def _only(table: pd.DataFrame, model: str) -> pd.DataFrame:
    return table[table["model"] == model].reset_index(drop=True)
