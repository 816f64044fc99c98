"""Judgement of forecasts of any origin by the scores and the verdict of our own.

Given are forecasts of closes, each with the last candle that it used; scores, verdict and tests are those of
`btcml.forecast.experiment.Result`. The forecasts are checked first (`btcml.forecast.judge_checks.CHECKS`). What cannot
be scored counts as no change; what may raise the skill unfairly is named and *suspected*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.interpolate import make_interp_spline
from scipy.stats import norm

from btcml.candles import interval_delta
from btcml.forecast.distribution import (
    LEVELS,
    WINDOW_DAYS,
    distribution_scores,
    in_parts,
    reference_crps,
    score_quantiles,
)
from btcml.forecast.experiment import Experiment, Result
from btcml.forecast.features import Prepared
from btcml.forecast.judge_checks import CHECKS, WIDEST, Finding, count_findings, find_known_outcomes
from btcml.forecast.judge_rows import quantile_levels, scorable_rows
from btcml.forecast.metrics import PERSISTENCE, evaluate, loss_table
from btcml.forecast.metrics.interval import LEVEL
from btcml.forecast.metrics.table import BP
from btcml.forecast.statistics import diebold_mariano, holm, model_confidence_set, superior_predictive_ability
from btcml.forecast.targets import horizon_scale, next_value
from btcml.forecast.verdict import plain
from btcml.forecast.walk import DAY_US

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

_SCORES = ("ratio", "skill", "skill_low", "skill_high", "mae_bp", "direction", "wda", "brier_skill", "coverage")
_BOUNDS = ("lo", "hi", "prob_up")


@dataclass(frozen=True)
class Judgement:
    """Result of `judge`.

    Attributes
    ----------
    results
        Scores, verdict and tests at each horizon; the models judged and persistence are in each.
    findings
        Results of the checks.
    missing
        Number of candles that a model does not forecast, by model and horizon.
    ours
        Forecasts of our own models by horizon, for comparison.
    caveat
        What is known about when the forecasts were made.
    """

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    missing: Mapping[tuple[str, int], int]
    ours: Mapping[int, pd.DataFrame] = field(default_factory=dict, repr=False)
    caveat: str = CAVEAT

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every model at every horizon, best first; persistence is in it for comparison.

        Returns
        -------
        DataFrame
            ``horizon, model, conclusion, rows, missing``, metrics of the close, ``z, p_holm`` (counting models,
            horizons and looks), and ``crps_bp, crps_skill, pit_p`` where there is a distribution.
        """
        table = pd.concat([_scored(result, self.missing) for result in self.results], ignore_index=True)
        failed = [f.model for f in self.findings if f.check == "failed"]
        rows = pd.DataFrame({"horizon": 0, "model": failed, "conclusion": "failed"})
        return pd.concat([table, rows], ignore_index=True) if failed else table

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
        leaders, order = {(result.leader, result.horizon) for result in self.results}, list(EXIT)
        rows = [row for row in self.table.to_dict("records") if (row["model"], row["horizon"]) in leaders]
        best = min(rows, key=lambda row: (order.index(row["conclusion"]), math.isnan(row["ratio"]), row["ratio"]))
        return {str(name): value for name, value in best.items()}

    def suspicions(self, model: str) -> list[str]:
        """Names of the checks by which a model is suspected."""
        return list(dict.fromkeys(f.check for f in self.findings if f.model == model and f.suspected))

    @property
    def suspected(self) -> list[str]:
        """Names of the checks by which the leader is suspected."""
        return self.suspicions(self.leader["model"])

    @property
    def exit_status(self) -> int:
        """Exit status of the command line: that of the leader."""
        return EXIT_SUSPECTED if self.suspected else EXIT[self.leader["conclusion"]]

    @property
    def line(self) -> str:
        """The judgement in one line."""
        suspected = f", suspected ({', '.join(self.suspected)})" if self.suspected else ""
        return f"{self.leader['model']}: {self.leader['conclusion']}{suspected}"

    def to_dict(self) -> dict[str, Any]:
        """All results as plain JSON values; unknown values are None."""
        facts = {
            "model": self.leader["model"],
            "conclusion": self.leader["conclusion"],
            "suspected": self.suspected,
            "caveat": self.caveat,
            "models": self.table.to_dict("records"),
            "beside": self.beside.to_dict("records"),
            "findings": [finding._asdict() for finding in self.findings],
            "horizons": [_facts(result) for result in self.results],
        }
        return dict(plain(facts))

    def __str__(self) -> str:
        """Text for a terminal."""
        parts = [self.line, self.caveat, *(result.verdict.reason for result in self.results), ""]
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
    for name in named["model"].unique():
        test = diebold_mariano(losses[result.leader], losses[name], horizon=result.horizon)
        table.loc[table["model"] == name, ["z", "p"]] = test.statistic, test.p_better
    spa = superior_predictive_ability(losses).p_consistent
    return table.assign(horizon=result.horizon, in_set=table["model"].map(kept), spa=spa)


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


def _scored(result: Result, missing: Mapping[tuple[str, int], int]) -> pd.DataFrame:
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
    table["horizon"] = result.horizon
    table["missing"] = [missing.get((model, result.horizon), 0) for model in table["model"]]
    first = ["horizon", "model", "conclusion", "rows", "missing"]
    return table[[*first, *table.columns.difference([*first, "p", "beats"], sort=False)]]


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
        What ``y_hat``, ``lo, hi`` and quantiles are: one of `btcml.forecast.judge_rows.VALUES`, returns being from the
        close of the cutoff.
    level
        Nominal coverage of ``lo`` to ``hi``.
    looks
        How many verdicts these candles have seen, this one included.
    findings
        Findings to add to those of the checks.

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
    rows, found = scorable_rows(frames, prepared, interval, values)
    horizons = [_Horizon(rows[rows["horizon"] == h], int(h), prepared, level) for h in np.unique(rows["horizon"])]
    results = _results(horizons, candles, interval, looks)
    found += findings
    for own, result in zip(horizons, results, strict=True):
        found += own.findings() + _selective(result, own.missing)
    order = list(CHECKS)
    found.sort(key=lambda finding: (order.index(finding.check), finding.horizon, finding.model))
    missing = {(model, own.horizon): int(absent.sum()) for own in horizons for model, absent in own.missing.items()}
    return Judgement(tuple(results), tuple(found), missing)


# ---- one horizon ----


class _Horizon:
    """Forecasts at one horizon, and the candles on which they are judged.

    Parameters
    ----------
    rows
        Rows of all models, one for each model and candle (`scorable_rows`).
    horizon, prepared, level
        Candles ahead, the candles, and the level of intervals.
    """

    def __init__(self, rows: pd.DataFrame, horizon: int, prepared: Prepared, level: float) -> None:
        self.horizon, self.prepared, self.level = horizon, prepared, level
        self.targets, self.step = self._targets(rows["at"].to_numpy())
        self.base, self.y = prepared.close[self.targets - horizon], prepared.close[self.targets]
        self._found: list[Finding] = []
        self.parts = {str(model): self._bounded(part) for model, part in rows.groupby("model")}
        self.missing = {model: ~np.isin(self.targets, part["at"].to_numpy()) for model, part in self.parts.items()}

    def _targets(self, at: Rows) -> tuple[Rows, int]:
        """Positions of the candles that are judged, and the step between them in candles."""
        units = self.prepared.ticks // self.prepared.step_us
        step = max(1, int(np.gcd.reduce(np.diff(units[np.unique(at)]), initial=0)))
        between = np.arange(at.min(), at.max() + 1)
        fits = (units[between] - units[at.min()]) % step == 0
        return between[fits & (self.prepared.age[between] >= self.horizon)], step

    def _bounded(self, part: pd.DataFrame) -> pd.DataFrame:
        """Forecasts of one model with ``lo, hi, prob_up`` and scores of its quantiles; unusable ends are NaN."""
        levels = {name: level for name, level in quantile_levels(part).items() if part[name].notna().any()}
        if len(levels) > 1:
            part = self._distribution(part, levels)
        part = part.assign(**{name: np.nan for name in _BOUNDS if name not in part})
        widest = WIDEST * float(np.median(np.abs(np.log(self.y / self.base)))) or np.finfo(float).max
        with np.errstate(invalid="ignore", divide="ignore"):
            width = pd.Series(np.log(part["hi"] / part["lo"]))
        crossed, usable = width < 0, (part["lo"] > 0) & width.between(0, widest)
        infinite = part[["lo", "hi"]].notna().any(axis=1) & ~crossed & ~usable
        self._found += count_findings(part[crossed], "crossed interval", "have an interval that ends before it begins")
        words = f"have an interval without finite ends, or wider than {WIDEST:,.0f} median moves, which does not count"
        self._found += count_findings(part[infinite], "infinite interval", words)
        return part.assign(lo=part["lo"].where(usable), hi=part["hi"].where(usable))

    def _distribution(self, part: pd.DataFrame, levels: Mapping[str, float]) -> pd.DataFrame:
        """Scores of the quantiles of one model; interval and probability of a rise where it gives none.

        Between the levels given, and beyond them, quantiles are linear in those of a normal distribution.
        """
        names, base = [*levels], part["base"].to_numpy()
        usable = part[names].gt(0) & np.isfinite(part[names])
        words = "have quantiles that are not finite and positive, which do not count"
        self._found += count_findings(part[(part[names].notna() & ~usable).any(axis=1)], "infinite interval", words)
        given = np.log(part[names].where(usable).to_numpy(dtype=float) / base[:, None])
        falling = (np.diff(given) < 0).any(axis=1)
        self._found += count_findings(part[falling], "crossed interval", "have quantiles that fall, which are sorted")
        known, wanted = (np.asarray(norm.ppf(at)) for at in ([*levels.values()], LEVELS))
        weights = make_interp_spline(known, np.eye(len(known)), k=1)(wanted).T
        outcome = np.log(part["y"].to_numpy() / base)
        parts = ((rows, np.sort(given[rows], axis=1) @ weights) for rows in in_parts(len(given)))
        made = score_quantiles(parts, outcome, self.level)
        made |= {side: base * np.exp(made[side]) for side in ("lo", "hi")}
        kept = {name: part[name].fillna(pd.Series(made[name], part.index)) for name in _BOUNDS if name in part}
        return part.drop(columns=names).assign(**(made | kept))

    def findings(self) -> list[Finding]:
        """Findings about each model."""
        found = list(self._found)
        for model, part in self.parts.items():
            if absent := int(self.missing[model].sum()):
                of = f"{absent:,} of {len(self.targets):,} candles"
                words = f"{model} has no forecast of {of}: they count as no change."
                found.append(Finding("missing rows", model, self.horizon, absent, suspected=False, sentence=words))
            found += find_known_outcomes(model, part, self.prepared, self.horizon, self.step)
        return found

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
        names = ["y_hat", *_BOUNDS, *(("pit", "crps_bp") if scored else ())]
        none = pd.DataFrame({"at": self.targets[:0], "y_hat": self.base[:0]})
        frames = []
        for model, part in {PERSISTENCE: none, **self.parts}.items():
            columns = part.set_index("at").reindex(index=self.targets, columns=names).reset_index(drop=True)
            columns["y_hat"] = columns["y_hat"].fillna(shared["base"])
            frames.append(pd.concat([shared.assign(model=model), columns], axis=1))
        frame = pd.concat(frames, ignore_index=True)
        return frame.assign(crps_reference_bp=np.tile(self._reference(), len(frames))) if scored else frame

    def _reference(self) -> Array:
        """CRPS of the reference distribution on each candle judged (`btcml.forecast.distribution`)."""
        p, h = self.prepared, self.horizon
        first = np.searchsorted(p.ticks, p.ticks[self.targets[0]] - (WINDOW_DAYS + 1) * DAY_US)
        rows = np.arange(max(0, first - h), self.targets[-1] - h + 1)
        outcome = (next_value(p.log_close, p.age, h) - p.log_close)[rows]
        day, made = (p.ticks[rows] + h * p.step_us) // DAY_US, (p.ticks[rows] + p.step_us) // DAY_US
        return reference_crps(outcome, horizon_scale(p, h)[rows], day, made)[self.targets - h - rows[0]]


# ---- the verdict ----


def _results(horizons: list[_Horizon], candles: pd.DataFrame, interval: str, looks: int) -> list[Result]:
    """Results at all horizons, as those of an experiment."""
    names = tuple(own.horizon for own in horizons)
    times = candles["open_time"]
    first, last = min(own.targets[0] for own in horizons), max(own.targets[-1] for own in horizons)
    span = times.iloc[first].isoformat(), (times.iloc[last] + interval_delta(interval)).isoformat()
    experiment = Experiment(interval, *span, level=horizons[0].level, horizons=names, purge=max(names))
    family: list[Result] = []
    for own in horizons:
        frame = own.frame(times)
        family.append(Result(experiment, frame, frame.head(0), looks, family=family, served=None))
    return family


def _selective(result: Result, missing: Mapping[str, NDArray[np.bool_]]) -> list[Finding]:
    """Models that would not be better than no change, were their missing forecasts wrong."""
    findings, table = [], result.verdict.table
    for model in table.loc[table["beats"], "model"]:
        absent, own = missing[model], result.forecasts[result.forecasts["model"] == model]
        size = BP * np.abs(np.log(own["y_hat"].to_numpy() / own["base"].to_numpy()))[~absent].mean()
        loss, move = (result.losses[column].to_numpy() for column in (model, PERSISTENCE))
        worst = diebold_mariano(np.where(absent, move + size, loss), move, horizon=result.horizon)
        if absent.any() and worst.p_better * result.tests >= result.verdict.alpha:
            words = f"{model} is better than no change only if its {absent.sum():,} missing forecasts are not wrong."
            of = (model, result.horizon, int(absent.sum()))
            findings.append(Finding("selective rows", *of, suspected=True, sentence=words))
    return findings
