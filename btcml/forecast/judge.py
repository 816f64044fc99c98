"""The judge: anybody's forecasts, scored and tested as ours are.

Given are forecasts of closes, each with the last candle that it used; scores, verdict and tests are those of
`btcml.forecast.experiment.Result`. Before, the forecasts are checked (`CHECKS`). What cannot be scored counts as no
change, and what may raise the skill unfairly is named and *suspected*.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from btcml.candles import LONGEST_HORIZON, interval_delta, interval_floors
from btcml.errors import UsageError
from btcml.forecast.distribution import (
    LEVELS,
    WINDOW_DAYS,
    crps,
    distribution_scores,
    probability_below,
    quantile_at,
    reference_crps,
)
from btcml.forecast.experiment import Experiment, Result
from btcml.forecast.features import Prepared
from btcml.forecast.foreign import QUANTILE
from btcml.forecast.metrics import PERSISTENCE, evaluate, loss_table
from btcml.forecast.metrics.interval import LEVEL
from btcml.forecast.statistics import diebold_mariano, holm, model_confidence_set, superior_predictive_ability
from btcml.forecast.targets import horizon_scale, next_value
from btcml.forecast.verdict import plain
from btcml.forecast.walk import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.int64]


CAVEAT = "Whether these forecasts were made in time cannot be checked from a file."
"""What no check of a file can find."""

CHAMPION, BETTER, UNPROVEN, WORSE = "champion", "better than no change", "not proven", "worse than no change"
"""Conclusions, best first; of several models that are better than no change one is champion."""

EXIT = {CHAMPION: 0, BETTER: 0, UNPROVEN: 3, WORSE: 4}
"""Exit status of the command line by conclusion."""

EXIT_SUSPECTED = 5
"""Exit status where the best forecasts are suspected."""

MOST_SKILL, MOST_CORRELATION, MOST_AFTER, CLOSE_SHARE, WIDEST = 0.10, 0.3, 0.15, 0.5, 1000.0
"""Bounds: skill, correlation until and after the target, error and width of an interval in median moves."""

CHECKS: dict[str, str] = {
    "cutoff": "The last candle used is the candle that is forecast, or a later one: such forecasts are not scored.",
    "no candle": "A candle is missing between cutoff and target, or has not come yet: such forecasts are not scored.",
    "duplicates": "A model has the same forecast of one candle more than once: it counts once.",
    "repainted": "A model has different forecasts of one candle from one cutoff: the one with the largest error is "
    "scored. Or two files are equal in most forecasts and differ in others, as two versions of one file do.",
    "missing rows": "Candles between the first and the last forecast that the model does not forecast: they are scored "
    "as no change.",
    "selective rows": "Were the missing forecasts as large as the others and all wrong, the model would not be better "
    "than no change.",
    "look-ahead": f"The skill is above {MOST_SKILL:.0%}, or the correlation of the forecast move with the return until "
    f"the target, or until a candle on the way, is above {MOST_CORRELATION} (both beyond chance).",
    "centred window": f"The correlation of the forecast move with the return after the target is above "
    f"{MOST_AFTER} (beyond chance).",
    "later close": f"The median error is below {CLOSE_SHARE} of the median move: they are the later close and noise.",
    "infinite interval": f"An interval has no finite positive ends, or is wider than {WIDEST:,.0f} median moves: it is "
    "not scored.",
    "outside knowledge": "A forecaster, run again on the same candles at another time and price, forecasts otherwise: "
    "it reads the clock or a file, or draws without a seed.",
    "failed": "A forecaster that fails, or exceeds its limits, has no forecasts.",
    "crossed interval": "An interval ends before it begins, or quantiles fall: such intervals are not scored, such "
    "quantiles are sorted.",
}
"""What is checked, and by which rule."""

VALUES: dict[str, Callable[[Array, Array], Array]] = {
    "price": lambda _, value: value,
    "return": lambda base, value: base * (1 + value),
    "log-return": lambda base, value: base * np.exp(value),
}
"""What a forecast may be: from the last close and the value given to a price."""

_REQUIRED = ("cutoff", "open_time", "y_hat")
_OPTIONAL = ("lo", "hi", "prob_up")
_KEYS = ["model", "horizon", "at"]
_SCORES = ("ratio", "skill", "skill_low", "skill_high", "mae_bp", "direction", "wda", "brier_skill", "coverage")
_MOST_ROWS, _LEAST_ROWS, _AFTER, _ERRORS = 50_000, 20, 64, 5.0
_FACTOR = math.log(2)
_MANY = 20
_PER_CENT = 0.01
_CHUNK = 8_192
_BP = 1e4


class Finding(NamedTuple):
    """What a check found.

    Attributes
    ----------
    check
        A name in `CHECKS`.
    model, horizon
        Whose forecasts, how many candles ahead; 0 is all.
    rows
        How many of them.
    suspected
        Whether it may have raised the skill unfairly.
    sentence
        What was found.
    """

    check: str
    model: str
    horizon: int
    rows: int
    suspected: bool
    sentence: str


@dataclass(frozen=True)
class Judgement:
    """What `judge` found.

    Attributes
    ----------
    results
        Scores, verdict and tests at each horizon; the models judged and persistence are in each.
    findings
        What the checks found.
    missing
        Candles that a model does not forecast, by model and horizon.
    ours
        Forecasts of our own models by horizon, for comparison.
    """

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    missing: Mapping[tuple[str, int], int]
    ours: Mapping[int, pd.DataFrame] = field(default_factory=dict, repr=False)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every model at every horizon, best first; persistence is in it for comparison.

        Returns
        -------
        DataFrame
            ``horizon, model, conclusion, rows, missing``, metrics of the close, ``z, p_holm`` (counting models,
            horizons and looks), and ``crps_bp, crps_skill, pit_p`` where there is a distribution.
        """
        table = pd.concat([_scored(result) for result in self.results], ignore_index=True)
        table["missing"] = [self.missing.get(key, 0) for key in zip(table["model"], table["horizon"], strict=True)]
        failed = [
            {"horizon": 0, "model": f.model, "conclusion": "failed"} for f in self.findings if f.check == "failed"
        ]
        return (
            pd.concat([table, pd.DataFrame(failed, columns=table.columns[:3])], ignore_index=True) if failed else table
        )

    @cached_property
    def beside(self) -> pd.DataFrame:
        """The models judged beside our own, on the candles that all of them forecast; empty without ours.

        Returns
        -------
        DataFrame
            ``horizon, model, rows, ratio, skill``; ``z, p`` of the leader against one of ours (Diebold-Mariano);
            ``in_set`` (whether it is in the model confidence set of all); ``spa`` (p of Hansen's test of all).
        """
        found = [_beside(result, self.ours[result.horizon]) for result in self.results if result.horizon in self.ours]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    @cached_property
    def leader(self) -> dict[str, Any]:
        """Row of `table` of the best model judged: the leader of a horizon, by conclusion, then by error."""
        leaders = [(result.leader, result.horizon) for result in self.results]
        own = self.table[[key in leaders for key in zip(self.table["model"], self.table["horizon"], strict=True)]]
        rank = own["conclusion"].map({name: place for place, name in enumerate(EXIT)})
        best = own.assign(rank=rank).sort_values(["rank", "ratio"], kind="stable").iloc[0]
        return {str(name): value for name, value in best.drop("rank").to_dict().items()}

    def suspicions(self, model: str) -> list[str]:
        """Names of the checks by which a model is suspected."""
        return list(dict.fromkeys(f.check for f in self.findings if f.model == model and f.suspected))

    @property
    def exit_status(self) -> int:
        """Exit status of the command line: that of the leader."""
        return EXIT_SUSPECTED if self.suspicions(self.leader["model"]) else EXIT[self.leader["conclusion"]]

    @property
    def line(self) -> str:
        """The judgement in one line."""
        found = self.suspicions(self.leader["model"])
        return f"{self.leader['model']}: {self.leader['conclusion']}" + f", suspected ({', '.join(found)})" * bool(
            found
        )

    def to_dict(self) -> dict[str, Any]:
        """All results as plain JSON values; unknown values are None."""
        facts = {
            "model": self.leader["model"],
            "conclusion": self.leader["conclusion"],
            "suspected": self.suspicions(self.leader["model"]),
            "caveat": CAVEAT,
            "models": self.table.to_dict("records"),
            "beside": self.beside.to_dict("records"),
            "findings": [finding._asdict() for finding in self.findings],
            "horizons": [_facts(result) for result in self.results],
        }
        return dict(plain(facts))

    def __str__(self) -> str:
        """Text for a terminal."""
        parts = [self.line, CAVEAT, *(result.verdict.reason for result in self.results), ""]
        parts += [f"{finding.check}: {finding.sentence}" for finding in self.findings]
        shown = self.table.drop(columns=["skill_low", "skill_high"]).dropna(axis="columns", how="all")
        parts += ["", _text(shown)]
        if len(self.beside):
            parts += ["", "beside our own models, on the same candles", _text(self.beside)]
        for result in self.results:
            costs = result.money([0.0, 2.0, 10.0])
            if len(costs):
                shown = costs[["rule", "entry", "cost_bp", "trips", "net_bp", "break_even_bp"]]
                parts += ["", f"money, {result.leader}, {result.horizon} ahead, bp a round trip", _text(shown)]
        return "\n".join(parts)


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda x: f"{x:.5g}", na_rep="-")


def _beside(result: Result, ours: pd.DataFrame) -> pd.DataFrame:
    """Part of `Judgement.beside` at one horizon."""
    named = ours[ours["model"] != PERSISTENCE].copy()
    named["model"] = "btcml " + named["model"].astype("str")
    both = pd.concat([result.forecasts, named[[name for name in named if name in result.forecasts]]], ignore_index=True)
    losses, table = loss_table(both), evaluate(both, ["ratio", "skill"])
    kept = model_confidence_set(losses).set_index("model")["included"]
    against = {
        str(name): diebold_mariano(losses[result.leader], losses[name], horizon=result.horizon)
        for name in named["model"].unique()
    }
    return table.assign(
        horizon=result.horizon,
        z=table["model"].map({name: found.statistic for name, found in against.items()}),
        p=table["model"].map({name: found.p_better for name, found in against.items()}),
        in_set=table["model"].map(kept),
        spa=superior_predictive_ability(losses).p_consistent,
    )


def _facts(result: Result) -> dict[str, Any]:
    """Results at one horizon for JSON."""
    return {
        "horizon": result.horizon,
        "verdict": result.verdict.to_dict(),
        "leader": result.leader,
        "interval": result.interval.to_dict("records"),
        "distribution": distribution_scores(result.of_leader, result.horizon) if "pit" in result.forecasts else None,
        "joint_tests": result.joint_tests().to_dict("records") if len(result.verdict.table) else [],
        "money": result.money().to_dict("records"),
        "test_from": result.experiment.test_from,
        "test_to": result.experiment.test_to,
    }


def _scored(result: Result) -> pd.DataFrame:
    """Part of `Judgement.table` at one horizon."""
    judged = result.verdict.table[["model", "z", "p", "p_holm", "beats"]]
    table = result.scores(metrics=_SCORES).merge(judged, on="model", how="left")
    challengers = table["model"] != PERSISTENCE
    worse = holm((1 - table["p"])[challengers]).reindex(table.index) < result.verdict.alpha
    better = table["beats"].eq(True)  # noqa: FBT003 - unknown where there are too few candles
    conclusion = np.select([better, worse & (table["ratio"] > 1)], [BETTER, WORSE], UNPROVEN)
    table["conclusion"] = np.where(table["model"] == result.verdict.champion, CHAMPION, conclusion)
    table.loc[~challengers, "conclusion"] = ""
    if "pit" in result.forecasts:
        parts = dict(iter(result.forecasts.groupby("model")))
        found = [distribution_scores(parts[name], result.horizon) for name in table["model"]]
        table = table.join(pd.DataFrame(found).reindex(columns=["crps_bp", "crps_skill", "pit_p"]))
    table = table.assign(horizon=result.horizon, missing=0).drop(columns=["p", "beats"])
    first = ["horizon", "model", "conclusion", "rows", "missing"]
    return table[[*first, *table.columns.difference(first, sort=False)]]


def judge(
    frames: Mapping[str, pd.DataFrame],
    candles: pd.DataFrame,
    interval: str,
    *,
    values: str = "price",
    level: float = LEVEL,
    looks: int = 1,
    findings: Iterable[Finding] = (),
) -> Judgement:
    """Check, score and judge forecasts.

    Parameters
    ----------
    frames
        Forecasts by the name of their file: ``cutoff`` (open time of the last candle used) and ``open_time`` (of the
        candle whose close is forecast), both timezone-aware, ``y_hat``, and optionally ``model`` (else the name of
        the file), ``lo, hi``, ``prob_up``, and quantiles ``q5, q50, q97.5`` named in per cent.
    candles
        Candle frame; without the candle at a cutoff or at its target a forecast cannot be scored.
    interval
        Its interval.
    values
        What ``y_hat``, ``lo, hi`` and quantiles are: one of `VALUES`, returns being from the close of the cutoff.
    level
        Nominal coverage of ``lo`` to ``hi``.
    looks
        How many verdicts these candles have seen, this one included.
    findings
        What is known of the forecasts already.

    Returns
    -------
    Judgement
        Every horizon is judged by itself, on the candles from its first forecast to its last; where all forecasts
        are of every n-th candle, on every n-th.

    Raises
    ------
    UsageError
        If a column is missing, a time is on no candle, values cannot be what they are said to be, or nothing is left.

    Examples
    --------
    >>> close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 401).cumsum())
    >>> times = pd.Series(pd.date_range("2025-01-01", periods=401, freq="h", tz="UTC"))
    >>> candles = pd.DataFrame({"open_time": times, "close": close})
    >>> file = pd.DataFrame({"cutoff": times, "open_time": times.shift(-1), "y_hat": close})[:-1]
    >>> judge({"naive": file}, candles, "1h").line
    'naive: not proven'
    """
    prepared = Prepared(candles, interval)
    rows, found = _scorable(_placed(_joined(frames), prepared, interval), prepared)
    rows = _priced(rows, prepared, values)
    rows, more = _once(rows)
    asked = [
        _Question(rows[rows["horizon"] == horizon], int(horizon), prepared, level)
        for horizon in np.unique(rows["horizon"])
    ]
    results = _results(asked, candles, interval, level, looks)
    found += [*findings, *more, *_versions(rows)]
    for question, result in zip(asked, results, strict=True):
        found += question.findings() + _selective(result, question.gone)
    order = list(CHECKS)
    found.sort(key=lambda finding: (order.index(finding.check), finding.horizon, finding.model))
    missing = {(name, question.horizon): int(gone.sum()) for question in asked for name, gone in question.gone.items()}
    return Judgement(tuple(results), tuple(found), missing)


# ---- rows of files into rows that can be scored ----


def _joined(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All rows with the columns that are known; unknown models are named by their file."""
    parts = []
    for file, frame in frames.items():
        absent = [name for name in _REQUIRED if name not in frame]
        if absent:
            msg = (
                f"{file}: forecasts need the columns {', '.join(_REQUIRED)}, missing: {', '.join(absent)}, found: "
                f"{', '.join(map(str, frame.columns))}: name them with --column {absent[0]}=NAME"
            )
            raise UsageError(msg)
        kept = [*_REQUIRED, *(name for name in frame if name in _OPTIONAL or QUANTILE.fullmatch(str(name)))]
        model = frame["model"].astype("str").where(frame["model"].notna()) if "model" in frame else file
        parts.append(frame[kept].copy().assign(model=model, file=file, row=np.arange(1, len(frame) + 1)))
    rows = (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=[*_REQUIRED, "model", "file"], dtype="str")
    )
    if (rows["model"].isna() | (rows["model"].str.strip() == "")).any():
        msg = "the column model should name a model in each row, found rows without a name: name them, or leave it out"
        raise UsageError(msg)
    rows = rows[rows["y_hat"].notna()]
    if rows.empty:
        msg = "forecasts to judge were expected, found none: give a file with rows"
        raise UsageError(msg)
    _check_levels(rows)
    return rows.assign(model=rows["model"].mask(rows["model"] == PERSISTENCE, f"{PERSISTENCE} of " + rows["file"]))


def _levels(columns: Iterable[object]) -> dict[str, float]:
    """Names of the quantile columns, ascending, and their levels between 0 and 1."""
    found = {str(name): QUANTILE.fullmatch(str(name)) for name in columns}
    levels = {name: float(match[1]) / 100 for name, match in found.items() if match}
    return dict(sorted(levels.items(), key=lambda item: item[1]))


def _check_levels(rows: pd.DataFrame) -> None:
    levels = _levels(rows.columns)
    found = sorted(set(levels.values()))
    if levels and (not 0 < found[0] <= found[-1] < 1 or found[-1] <= _PER_CENT or len(found) < len(levels)):
        msg = f"quantiles are named in per cent, such as q5, q50 and q95, found {', '.join(levels)}: name each so, once"
        raise UsageError(msg)
    if "prob_up" in rows and not rows["prob_up"].dropna().between(0, 1).all():
        msg = "prob_up is a probability between 0 and 1, found other values: give shares, not per cent"
        raise UsageError(msg)


def _placed(rows: pd.DataFrame, prepared: Prepared, interval: str) -> pd.DataFrame:
    """Rows with the positions of cutoff (``made``) and target (``at``), -1 where there is no such candle."""
    positions = {}
    for name, column in (("made", "cutoff"), ("at", "open_time")):
        times = rows[column]
        if not isinstance(times.dtype, pd.DatetimeTZDtype) or times.isna().any():
            msg = f"{column} must hold timezone-aware times without gaps, found {times.dtype}: parse them first"
            raise UsageError(msg)
        times = times.dt.tz_convert("UTC").dt.as_unit("us")
        odd = (times != interval_floors(times, interval)).to_numpy()
        if odd.any():
            row = rows[odd].iloc[0]
            msg = (
                f"{row['file']}, row {row['row']}: {column} {times[odd].iloc[0]} is no open time of a {interval} "
                "candle: for close times give --cutoff-is close, for another interval --interval"
            )
            raise UsageError(msg)
        positions[name] = times.astype("int64").to_numpy()
    horizon = (positions["at"] - positions["made"]) // prepared.step_us
    places = {name: _position(times, prepared.ticks) for name, times in positions.items()}
    return rows.assign(horizon=horizon, **places)


def _position(times: Rows, ticks: Rows) -> Rows:
    place = np.minimum(np.searchsorted(ticks, times), len(ticks) - 1)
    return np.where(ticks[place] == times, place, -1)


def _scorable(rows: pd.DataFrame, prepared: Prepared) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows with a forecast from before its candle, whose candles are there; and what was found of the others."""
    late = rows["horizon"] < 1
    if late.all():
        msg = (
            "no cutoff is before the candle that is forecast: it is the open time of the last candle used; "
            "for close times give --cutoff-is close"
        )
        raise UsageError(msg)
    if (rows["horizon"] > LONGEST_HORIZON).any():
        msg = f"a horizon is at most {LONGEST_HORIZON} candles, found {rows['horizon'].max()}: leave longer ones out"
        raise UsageError(msg)
    there = (rows["made"] >= 0) & (rows["at"] - rows["made"] == rows["horizon"])
    if not (there & ~late).any():
        first, last = (pd.Timestamp(prepared.ticks[place] * 1000, tz="UTC") for place in (0, -1))
        msg = (
            f"no forecast is of a candle: the candles are from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, the "
            f"forecasts from {rows['open_time'].min()} to {rows['open_time'].max()}: give the candles of that time"
        )
        raise UsageError(msg)
    findings = _counted(
        rows[late], "cutoff", "used the candle forecast, or a later one, and do not count", suspected=True
    )
    findings += _counted(rows[~late & ~there], "no candle", "cannot be scored: a candle is missing")
    return rows[~late & there], findings


def _counted(rows: pd.DataFrame, check: str, words: str, *, suspected: bool = False) -> list[Finding]:
    """One finding for each model and horizon."""
    sizes: dict[Any, int] = rows.groupby(["model", "horizon"]).size().to_dict()
    return [
        Finding(check, str(model), int(horizon), n, suspected, f"{_forecasts(n, str(model), int(horizon))} {words}.")
        for (model, horizon), n in sizes.items()
    ]


def _forecasts(count: int, model: str, horizon: int) -> str:
    return f"{count:,} forecast{'s' * (count > 1)} of {model}" + f" {horizon} candles ahead" * (horizon > 1)


def _priced(rows: pd.DataFrame, prepared: Prepared, values: str) -> pd.DataFrame:
    """Rows with ``base`` and ``y``, and all forecasts as prices."""
    if values not in VALUES:
        msg = f"values are one of {', '.join(VALUES)}, found {values!r}"
        raise UsageError(msg)
    base, y = prepared.close[rows["made"]], prepared.close[rows["at"]]
    names = [str(name) for name in rows if name in {"y_hat", "lo", "hi"} or QUANTILE.fullmatch(str(name))]
    with np.errstate(over="ignore"):
        prices = {name: VALUES[values](base, rows[name].to_numpy(dtype=float)) for name in names}
    sane = np.isfinite(prices["y_hat"]) & (prices["y_hat"] > 0)
    sane[sane] = np.abs(np.log(prices["y_hat"][sane] / base[sane])) < 10 * _FACTOR
    if not sane.all() or np.median(np.abs(np.log(prices["y_hat"] / base))) > _FACTOR:
        bad = int(np.argmin(sane)) if not sane.all() else 0
        row = rows.iloc[bad]
        msg = (
            f"{row['file']}, row {row['row']}: y_hat {row['y_hat']:g} read as a {values} is not near the last close, "
            f"{base[bad]:g}: say what the values are with --values {', '.join(VALUES)}"
        )
        raise UsageError(msg)
    return rows.assign(base=base, y=y, **prices)


def _once(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """One row for each model, horizon and candle: of different ones that with the largest error."""
    twice = rows[rows.duplicated(_KEYS, keep=False)]
    differs = twice.groupby(_KEYS)["y_hat"].transform("nunique") > 1
    again, changed = (part.drop_duplicates(_KEYS) for part in (twice[~differs], twice[differs]))
    findings = _counted(again, "duplicates", "are there more than once, and count once")
    words = "have other versions with the same cutoff: the one with the largest error counts"
    findings += _counted(changed, "repainted", words, suspected=True)
    error = np.abs(np.log(rows["y_hat"].to_numpy() / rows["y"].to_numpy()))
    return rows.iloc[np.argsort(-error, kind="stable")].drop_duplicates(_KEYS).sort_values(
        _KEYS, ignore_index=True
    ), findings


def _versions(rows: pd.DataFrame) -> list[Finding]:
    """Pairs of models of different files that are equal in most forecasts of a move, and differ in others."""
    of_file = rows.drop_duplicates("model").set_index("model")["file"]
    moving = rows[rows["y_hat"] != rows["base"]]
    if not 1 < len(of_file) <= _MANY:
        return []
    table = moving.pivot_table(index=["horizon", "at"], columns="model", values="y_hat")
    findings = []
    for one, two in itertools.combinations(table.columns.astype(str), 2):
        both = table[[one, two]].dropna()
        equal = int((both[one] == both[two]).sum())
        if of_file[one] != of_file[two] and len(both) > equal > len(both) / 2:
            words = (
                f"{one} and {two} are equal in {equal:,} of {len(both):,} forecasts: they are versions of one model."
            )
            findings += [
                Finding("repainted", name, 0, len(both) - equal, suspected=True, sentence=words) for name in (one, two)
            ]
    return findings


# ---- one horizon ----


class _Question:
    """Forecasts at one horizon, and the candles on which they are judged.

    Parameters
    ----------
    rows
        Rows of all models, one for each model and candle.
    horizon, prepared, level
        Candles ahead, the candles, and the level of intervals.
    """

    def __init__(self, rows: pd.DataFrame, horizon: int, prepared: Prepared, level: float) -> None:
        self.horizon, self.prepared, self.level = horizon, prepared, level
        self.targets, self.step = self._targets(rows["at"].to_numpy())
        self.base, self.y = prepared.close[self.targets - horizon], prepared.close[self.targets]
        self.move = float(np.median(np.abs(np.log(self.y / self.base))))
        self._found: list[Finding] = []
        self.parts = {str(model): self._bounded(part) for model, part in rows.groupby("model")}
        self.gone = {name: ~np.isin(self.targets, part["at"].to_numpy()) for name, part in self.parts.items()}

    def _targets(self, at: Rows) -> tuple[Rows, int]:
        """Positions of the candles that are judged, and the step between them in candles."""
        units = self.prepared.ticks // self.prepared.step_us
        step = max(1, int(np.gcd.reduce(np.diff(units[np.unique(at)]), initial=0)))
        between = np.arange(at.min(), at.max() + 1)
        fits = (units[between] - units[at.min()]) % step == 0
        return between[fits & (self.prepared.age[between] >= self.horizon)], step

    def _bounded(self, part: pd.DataFrame) -> pd.DataFrame:
        """Forecasts of one model with ``lo, hi, prob_up`` and scores of its quantiles; unusable ends are NaN."""
        levels = [name for name in _levels(part.columns) if part[name].notna().any()]
        if len(levels) > 1:
            part = self._distribution(part, levels)
        part = part.assign(**{name: np.nan for name in _OPTIONAL if name not in part})
        given = part["lo"].notna() | part["hi"].notna()
        with np.errstate(invalid="ignore", divide="ignore"):
            width = np.log(part["hi"] / part["lo"])
        crossed = given & (width < 0)
        finite = (part["lo"] > 0) & np.isfinite(width) & (width <= WIDEST * self.move if self.move else True)
        endless = given & ~crossed & ~finite
        self._found += _counted(part[crossed], "crossed interval", "have an interval that ends before it begins")
        words = "have an interval without an end, or as good as, which does not count"
        self._found += _counted(part[endless], "infinite interval", words)
        return part.assign(**{name: part[name].where(given & ~crossed & ~endless) for name in ("lo", "hi")})

    def _distribution(self, part: pd.DataFrame, names: list[str]) -> pd.DataFrame:
        """Scores of the quantiles of one model; interval and probability of a rise where it gives none.

        Between the levels given, and beyond them, quantiles are linear in those of a normal distribution.
        """
        given = np.log(part[names].where(part[names] > 0).to_numpy(dtype=float) / part[["base"]].to_numpy())
        fallen = (np.diff(given) < 0).any(axis=1)
        self._found += _counted(part[fallen], "crossed interval", "have quantiles that fall, which are sorted")
        weights = _spread_weights(np.array([*_levels(names).values()]))
        columns = {name: np.full(len(part), np.nan) for name in ("lo", "hi", "prob_up", "pit", "crps_bp")}
        outcome = np.log(part["y"].to_numpy(dtype=float) / part["base"].to_numpy(dtype=float))
        for start in range(0, len(part), _CHUNK):
            rows = slice(start, start + _CHUNK)
            own, y = np.sort(given[rows], axis=1) @ weights, outcome[rows]
            columns["lo"][rows], columns["hi"][rows] = (
                quantile_at(own, (1 + side * self.level) / 2) for side in (-1, 1)
            )
            columns["prob_up"][rows] = 1 - probability_below(own, np.zeros(len(y)))
            columns["pit"][rows] = probability_below(own, y)
            columns["crps_bp"][rows] = _BP * crps(own, y)
        for side in ("lo", "hi"):
            columns[side] = part["base"].to_numpy() * np.exp(columns[side])
        made = pd.DataFrame(columns, part.index)
        kept = {str(name): part[name].fillna(made[name]) if name in part else made[name] for name in made}
        return part.drop(columns=names).assign(**kept)

    def findings(self) -> list[Finding]:
        """What is found of each model."""
        found = list(self._found)
        for name, part in self.parts.items():
            if gone := int(self.gone[name].sum()):
                words = f"{name} has no forecast of {gone:,} of {len(self.targets):,} candles: they count as no change."
                found.append(Finding("missing rows", name, self.horizon, gone, suspected=False, sentence=words))
            found += self._too_good(name, part)
        return found

    def _too_good(self, name: str, part: pd.DataFrame) -> list[Finding]:
        """Signs that the outcome was known."""
        moving = (part["y_hat"] != part["base"]).to_numpy()
        if moving.sum() < _LEAST_ROWS:
            return []
        made = part["made"].to_numpy()[moving]
        said, came = (
            np.log(part[name].to_numpy(dtype=float) / part["base"].to_numpy(dtype=float))[moving]
            for name in ("y_hat", "y")
        )
        error, nothing = np.abs(came - said), np.abs(came)
        reasons: dict[str, str] = {}
        skill = 1 - error.sum() / nothing.sum() if nothing.sum() > 0 else 0.0
        if skill > MOST_SKILL and diebold_mariano(error, nothing, horizon=self.horizon).p_better < 0.01:  # noqa: PLR2004
            reasons["look-ahead"] = f"the skill of {name} is {skill:.1%} on its own forecasts"
        for check, bound, begin, ends in self._spans():
            found = [(abs(c), end) for end in ends for c in [self._correlation(made, said, begin, end)] if c > 0]
            most, end = max(found, default=(0.0, 0))
            if most > bound:
                where = f"from {begin} to {end} candles after the cutoff"
                also = f"{reasons[check]}, and its" if check in reasons else "the"
                whose = "" if check in reasons else f" of {name}"
                reasons[check] = f"{also} forecast move{whose} correlates {most:.2f} with the return {where}"
        if self.move > 0 and np.median(error) < CLOSE_SHARE * np.median(nothing):
            share = np.median(error) / np.median(nothing)
            reasons["later close"] = f"the median error of {name} is {share:.2f} of the median move"
        of = (name, self.horizon, int(moving.sum()))
        return [Finding(check, *of, suspected=True, sentence=f"{words}.") for check, words in reasons.items()]

    def _spans(self) -> list[tuple[str, float, int, list[int]]]:
        """Check, its bound, and candles after the cutoff where returns begin and end that a forecast must not know."""
        way = [1 << n for n in range(self.horizon.bit_length()) if 1 << n < self.horizon]
        after = [self.horizon + (1 << n) for n in range(_AFTER.bit_length())]
        return [
            ("look-ahead", MOST_CORRELATION, 0, [*way, self.horizon]),
            ("centred window", MOST_AFTER, self.horizon, after),
        ]

    def _correlation(self, made: Rows, said: Array, begin: int, end: int) -> float:
        """Rank correlation of forecast moves with later returns; 0 where chance could make it as large."""
        reached = made + end < len(self.prepared.ticks)
        kept = np.flatnonzero(reached)[:: max(1, len(made) // _MOST_ROWS)]
        later = made[kept] + end
        kept, later = kept[self.prepared.age[later] >= end], later[self.prepared.age[later] >= end]
        came = self.prepared.log_close[later] - self.prepared.log_close[made[kept] + begin]
        apart = len(kept) * min(1.0, self.step / (end - begin))  # so many do not overlap
        if apart < _LEAST_ROWS or not np.ptp(came) > 0 or not np.ptp(said[kept]) > 0:
            return 0.0
        found = float(np.corrcoef(rankdata(said[kept]), rankdata(came))[0, 1])
        return found if found * math.sqrt(apart) > _ERRORS else 0.0

    def frame(self, times: pd.Series) -> pd.DataFrame:
        """Long forecast frame of all models and persistence on the candles judged; what is missing is no change.

        Parameters
        ----------
        times
            Open times of the candles.
        """
        places = {"cutoff": self.targets - self.horizon, "open_time": self.targets}
        shared = pd.DataFrame({name: times.iloc[place].reset_index(drop=True) for name, place in places.items()})
        shared = shared.assign(y=self.y, base=self.base, horizon=self.horizon)
        if self.level != LEVEL:
            shared["level"] = self.level
        scored = any("pit" in part for part in self.parts.values())
        names = ("lo", "hi", "prob_up", *(("pit", "crps_bp") if scored else ()))
        none = shared.assign(model=PERSISTENCE, y_hat=self.base, **dict.fromkeys(names, np.nan))
        parts = [none, *(self._filled(none, name, part, names) for name, part in self.parts.items())]
        frame = pd.concat(parts, ignore_index=True)
        return frame.assign(crps_reference_bp=np.tile(self._reference(), len(parts))) if scored else frame

    def _filled(self, none: pd.DataFrame, model: str, part: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
        place = np.searchsorted(self.targets, part["at"].to_numpy())
        columns = {name: none[name].to_numpy(dtype=float, copy=True) for name in ("y_hat", *names)}
        for name, column in columns.items():
            column[place] = part.get(name, np.nan)
        return none.assign(model=model, **columns)

    def _reference(self) -> Array:
        """CRPS of the reference distribution on each candle judged (`btcml.forecast.distribution`)."""
        p, h = self.prepared, self.horizon
        first = np.searchsorted(p.ticks, p.ticks[self.targets[0]] - (WINDOW_DAYS + 1) * DAY_US)
        rows = np.arange(max(0, first - h), self.targets[-1] - h + 1)
        outcome = (next_value(p.log_close, p.age, h) - p.log_close)[rows]
        day, made = (p.ticks[rows] + h * p.step_us) // DAY_US, (p.ticks[rows] + p.step_us) // DAY_US
        return reference_crps(outcome, horizon_scale(p, h)[rows], day, made)[self.targets - h - rows[0]]


def _spread_weights(levels: Array) -> Array:
    """Matrix that makes quantiles at `LEVELS` of those at some levels, shape (k, 99).

    Examples
    --------
    >>> values = norm.ppf([0.1, 0.5, 0.9])
    >>> np.abs(values @ _spread_weights(np.array([0.1, 0.5, 0.9])) - norm.ppf(LEVELS)).max() < 1e-12
    np.True_
    """
    known, wanted = norm.ppf(levels), norm.ppf(LEVELS)
    left = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, len(known) - 2)
    share = (wanted - known[left]) / (known[left + 1] - known[left])
    weights = np.zeros((len(known), len(wanted)))
    column = np.arange(len(wanted))
    weights[left, column] += 1 - share
    weights[left + 1, column] += share
    return weights


# ---- the verdict ----


def _results(asked: list[_Question], candles: pd.DataFrame, interval: str, level: float, looks: int) -> list[Result]:
    """Results at all horizons, as those of an experiment."""
    horizons = tuple(question.horizon for question in asked)
    times = [candles["open_time"].iloc[place] for q in asked for place in (q.targets[0], q.targets[-1])]
    span = min(times).isoformat(), (max(times) + interval_delta(interval)).isoformat()
    experiment = Experiment(interval, *span, level=level, horizons=horizons, purge=max(horizons))
    family: list[Result] = []
    for question in asked:
        frame = question.frame(candles["open_time"])
        family.append(Result(experiment, frame, frame.head(0), looks, family=family, served=None))
    return family


def _selective(result: Result, gone: Mapping[str, NDArray[np.bool_]]) -> list[Finding]:
    """Models that would not be better than no change, were their missing forecasts wrong."""
    findings, table = [], result.verdict.table
    counted = (len(table) - 1) * len(result.family) * result.looks
    for name in table.loc[table["beats"], "model"]:
        lacking, own = gone[name], result.forecasts[result.forecasts["model"] == name]
        size = _BP * np.abs(np.log(own["y_hat"].to_numpy() / own["base"].to_numpy()))[~lacking].mean()
        loss, nothing = (result.losses[column].to_numpy() for column in (name, PERSISTENCE))
        worst = diebold_mariano(np.where(lacking, nothing + size, loss), nothing, horizon=result.horizon)
        if lacking.any() and worst.p_better * counted >= result.verdict.alpha:
            words = f"{name} is better than no change only if its {lacking.sum():,} missing forecasts are not wrong."
            of = (name, result.horizon, int(lacking.sum()))
            findings.append(Finding("selective rows", *of, suspected=True, sentence=words))
    return findings
