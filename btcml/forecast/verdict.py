"""The verdict: which model is served, by a rule that was fixed before any result was seen.

1. Judged are absolute errors in bp on the candles that all models forecast in walk-forward, at each horizon by itself.
2. A challenger *beats persistence* if its MAE is below persistence's over the whole test and over
   the last six months, the trend of its daily skill, where the test has six months, ends above 0
   (`btcml.forecast.edge`), and the one-sided Diebold-Mariano p over the whole test, after Holm over
   all challengers at all horizons and times the looks at the data, is below alpha = 0.01.
3. Champion is the lowest MAE among those that a training can serve; if there is none, persistence.
4. An incumbent stays champion as long as rule 2 holds for it at a single look: to keep a champion
   claims nothing new. It is replaced only by a challenger that beats persistence *and* beats the
   champion by Diebold-Mariano, Holm and looks again counted.
5. A verdict falls at most once a day. Training in between refits the champion, never promotes.

Looks are counted by the new evidence in them (`count_looks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.edge import edge_age
from btcml.forecast.metrics import PERSISTENCE, horizon_of, loss_table
from btcml.forecast.statistics import Comparison, diebold_mariano, holm
from btcml.rounding import decimals_apart
from btcml.sentences import Sentence

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    Span = tuple[pd.Timestamp, pd.Timestamp]


ALPHA = 0.01
"""Level of the tests."""

LOOKS_A_SPAN = 150
"""Looks of one test span of new candles, with a verdict every day."""

_MIN = 200
RECENT_MONTHS = 6
"""Newest months of a test in which a model has to be better, too."""

_DAY = pd.Timedelta(days=1)
_TINY = 0.001


@dataclass(frozen=True)
class Verdict:
    """Outcome of `verdict`.

    Attributes
    ----------
    champion
        The model to serve.
    reason
        One sentence that says why; it keeps the values in it.
    table
        One row per model, persistence first, then by ratio: ``model``, ``ratio`` (MAE over
        persistence's), ``z`` and ``p`` (Diebold-Mariano, one-sided), ``p_once`` (after Holm),
        ``p_holm`` (Holm and looks counted), ``recent_ratio`` (last six months), ``trend`` (skill at its end, of
        those that pass the rest of rule 2 at a single look, else NaN), ``beats`` (rule 2), ``served`` (whether it
        may be champion) and ``p_champion`` (Holm p against the incumbent champion; 1 where there is none). Ratios
        are NaN where no price moved.
    looks
        Looks at the data that were counted, this one included.
    alpha
        Level of the tests.
    rows
        Candles judged.
    """

    champion: str
    reason: Sentence
    table: pd.DataFrame = field(compare=False, repr=False)
    looks: int
    alpha: float
    rows: int

    @property
    def skill(self) -> float:
        """Skill of the champion; 0 for persistence."""
        own = self.table[self.table["model"] == self.champion]
        return 0.0 if self.champion == PERSISTENCE else 1 - float(own["ratio"].iloc[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in the database and in JSON; unknown values are None."""
        rows = {row["model"]: row for row in plain(self.table.to_dict("records"))}
        own = rows.get(self.champion, {})
        names = ("champion", "reason", "looks", "rows", "alpha", "skill")
        facts = {name: getattr(self, name) for name in names}
        return facts | {"dm_z": own.get("z"), "dm_p": own.get("p_holm"), "table": list(rows.values())}


def plain(value: Any) -> Any:
    """Return a value, or lists and dictionaries of values, as JSON has them: NaN and infinity are None."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verdict(
    forecasts: pd.DataFrame,
    *,
    looks: int = 1,
    alpha: float = ALPHA,
    incumbent: str = PERSISTENCE,
    others: Sequence[pd.Series] = (),
    served: Collection[str] | None = None,
) -> Verdict:
    """Judge walk-forward forecasts by the rule of this module.

    Parameters
    ----------
    forecasts
        Forecast frame of the close at one horizon, persistence among its models.
    looks
        How many verdicts these data have seen, this one included.
    alpha
        Level of the tests.
    incumbent
        The champion so far. One that is no longer among the models is replaced like persistence.
    others
        `challenger_p` of the other horizons that were asked for with it: Holm allows for them.
    served
        Models that may be champion; None: all.

    Returns
    -------
    Verdict
        Persistence where nothing beats it, and where fewer than 200 candles can be judged.

    Raises
    ------
    UsageError
        If persistence is missing, `looks` is below 1 or a model forecasts one candle twice.

    Examples
    --------
    >>> import numpy as np
    >>> from btcml.forecast.metrics import forecast_frame
    >>> close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 1001).cumsum())
    >>> verdict(forecast_frame(close, {"wild": {"y_hat": close[:-1] * 1.01}})).champion
    'persistence'
    """
    if looks < 1:
        msg = f"looks must be at least 1, found {looks}: a verdict is a look itself"
        raise UsageError(msg)
    losses = loss_table(forecasts)
    if PERSISTENCE not in losses:
        found = ", ".join(map(str, losses)) or "none"
        msg = f"the model {PERSISTENCE} must be among the forecasts, found {found}"
        raise UsageError(msg)
    horizon = horizon_of(forecasts)
    if len(losses) < _MIN:
        few = Sentence("a verdict needs {least} candles, found {rows}", least=_MIN, rows=len(losses))
        reason = Sentence("persistence is champion: {rest}.", rest=few)
        none = _table(forecasts, losses, (), looks, alpha).head(0)
        return Verdict(PERSISTENCE, reason, none, looks, alpha, len(losses))
    table = _table(forecasts, losses, others, looks, alpha)
    table["served"] = True if served is None else table["model"].isin([PERSISTENCE, *served])
    current = incumbent if _stays(table[table["served"]], incumbent, alpha) else PERSISTENCE
    table["p_champion"] = _against(losses, current, looks, horizon).reindex(table["model"]).fillna(1.0).to_numpy()
    worthy = table["beats"] & table["served"] & ((table["p_champion"] < alpha) if current != PERSISTENCE else True)
    # The table is in the order of MAE, so the first that qualifies is the best.
    champion = str(table["model"][worthy].iloc[0]) if worthy.any() else current
    reason = _reason(table, champion, current, _Context(looks, alpha, losses.index, horizon, len(others) + 1))
    return Verdict(champion, reason, table, looks, alpha, len(losses))


def count_looks(spans: Sequence[Span], tries: int = 0, challengers: int = 1) -> int:
    """How many looks a verdict counts, by the new evidence in the verdicts so far.

    Verdicts of consecutive days are over nearly the same candles, so they count by the candles that
    are new in them: looks = min(verdicts, 1 + `LOOKS_A_SPAN` (U - 1)) + tries / challengers, rounded up,
    where U is the length of the union of all test spans in units of the longest. A verdict a day over
    a test of a year counts `LOOKS_A_SPAN` / 365 of a look. Simulated error rates stand in
    docs/decisions/13-looks.md.

    Parameters
    ----------
    spans
        Test spans (start, end) of all verdicts of the published experiment, this one included.
    tries
        Other models and settings tried on these candles.
    challengers
        Challengers of a verdict.

    Examples
    --------
    >>> day = pd.Timestamp("2025-01-01", tz="UTC")
    >>> year = pd.Timedelta(days=365)
    >>> count_looks([(day, day + year)])
    1
    >>> daily = [(day + pd.Timedelta(days=n), day + year + pd.Timedelta(days=n)) for n in range(366)]
    >>> count_looks(daily)
    151
    """
    edges = np.array(sorted({(start.value, stop.value) for start, stop in spans}), dtype="int64").reshape(-1, 2)
    covered = np.maximum.accumulate(np.concatenate([edges[:1, 0], edges[:-1, 1]]))
    union = np.maximum(edges[:, 1] - np.maximum(edges[:, 0], covered), 0).sum()
    longest = (edges[:, 1] - edges[:, 0]).max(initial=0)
    new = union / longest - 1 if longest else 0.0
    looks = 1 + math.ceil(round(LOOKS_A_SPAN * new, 6))
    return max(1, min(looks, len(edges))) + math.ceil(tries / challengers)


def overlapping(research: pd.DataFrame, test: Span) -> pd.Series:
    """Which tries of the authors were on candles of a test (start, end)."""
    return (research["start"] < test[1]) & (research["end"] > test[0])


def ledger(trials: pd.DataFrame, research: pd.DataFrame, test: Span, challengers: Sequence[str]) -> pd.DataFrame:
    """Every try on record of a series, this experiment last.

    Parameters
    ----------
    trials
        Tries that the database counted: ``model, test_start, test_end, settings``.
    research
        Tries of the authors: ``kind, what, start, end, tries``.
    test
        Test span of this experiment.
    challengers
        Its models.

    Returns
    -------
    DataFrame
        ``origin, what, start, end`` (NaT where no span is on record), ``tries`` and ``counted``: whether the
        p-values allow for them. Tries of the authors count where their candles overlap the test.
    """
    published = (trials["settings"] == "{}") & trials["test_start"].notna()
    searched = trials["test_start"].isna()
    groups = {"verdict": published, "search": searched, "experiment": ~published & ~searched}
    rows = [
        (f"{name} of this installation", ", ".join(sorted(set(part["model"]))), part["test_start"].min(),
         part["test_end"].max(), len(part), True)
        for name, part in ((name, trials[chosen]) for name, chosen in groups.items()) if len(part)
    ]  # fmt: skip
    mine = ("this report", ", ".join(challengers), *test, len(challengers), True)
    theirs = [
        (f"{row['kind']} of the authors", row["what"], row["start"], row["end"], int(row["tries"]), bool(counted))
        for row, counted in zip(research.to_dict("records"), overlapping(research, test), strict=True)
    ]
    return pd.DataFrame([*theirs, *rows, mine], columns=["origin", "what", "start", "end", "tries", "counted"])


def looks_to_break(p_once: float, alpha: float = ALPHA) -> float:
    """Most looks at which a p-value after Holm is still below the level; infinite for p = 0.

    Examples
    --------
    >>> looks_to_break(0.0004), looks_to_break(0.3)
    (24, 0)
    """
    return math.ceil(round(alpha / p_once, 9)) - 1 if p_once > 0 else math.inf


def challenger_p(losses: pd.DataFrame, horizon: int = 1) -> pd.Series:
    """One-sided Diebold-Mariano p of each challenger against persistence.

    Parameters
    ----------
    losses
        One row per candle, one column per model, persistence among them.
    horizon
        Candles ahead.
    """
    return _compare(losses, PERSISTENCE, horizon)["p"].drop(PERSISTENCE)


def decision_due(last: pd.Timestamp | None, now: pd.Timestamp) -> bool:
    """Whether a new verdict may fall: a day or more after the last one.

    Examples
    --------
    >>> noon = pd.Timestamp("2025-01-01 12:00", tz="UTC")
    >>> decision_due(None, noon), decision_due(noon, noon + pd.Timedelta("23h"))
    (True, False)
    """
    return last is None or now - last >= _DAY


def _table(
    forecasts: pd.DataFrame, losses: pd.DataFrame, others: Sequence[pd.Series], looks: int, alpha: float
) -> pd.DataFrame:
    mean, recent = losses.mean(), losses[_is_recent(losses.index)].mean()
    tests = _compare(losses, PERSISTENCE, horizon_of(forecasts))
    challengers = tests["p"].drop(PERSISTENCE)
    family = pd.concat([challengers, *others], ignore_index=True)
    table = tests.assign(
        ratio=mean / mean[PERSISTENCE],
        p_once=pd.Series(holm(family).to_numpy()[: len(challengers)], challengers.index),
        recent_ratio=recent / recent[PERSISTENCE],
    ).fillna({"p_once": 1.0})
    table["p_holm"] = np.minimum(table["p_once"] * looks, 1.0)
    table["trend"] = np.nan
    able = table.index[_passes(table, "p_once", alpha)]
    table.loc[able, "trend"] = [edge_age(forecasts[forecasts["model"] == name]).now for name in able]
    table["beats"] = _passes(table, "p_holm", alpha)
    table["reference"] = table.index != PERSISTENCE
    table = table.rename_axis("model").reset_index().sort_values(["reference", "ratio"], ignore_index=True)
    return table[["model", "ratio", "z", "p", "p_once", "p_holm", "recent_ratio", "trend", "beats"]]


def _passes(table: pd.DataFrame, p: str, alpha: float) -> pd.Series:
    """Rule 2 with the p-value of a column."""
    better = (table["ratio"] < 1) & (table["recent_ratio"] < 1) & ~(table["trend"] <= 0)
    return better & (table[p] < alpha)


def _stays(table: pd.DataFrame, incumbent: str, alpha: float) -> bool:
    """Whether the incumbent still beats persistence at a single look."""
    own = table[table["model"] == incumbent]
    return incumbent != PERSISTENCE and bool(_passes(own, "p_once", alpha).any())


def _is_recent(times: pd.Index) -> NDArray[np.bool_]:
    """Which candles lie in the last six months: all of them where the test is shorter."""
    if times.empty:
        return np.zeros(0, dtype=bool)
    return np.asarray(times > times.max() - pd.DateOffset(months=RECENT_MONTHS))


def _compare(losses: pd.DataFrame, benchmark: str, horizon: int) -> pd.DataFrame:
    none = Comparison(0.0, 1.0, 1.0, 0, 0)
    results = {
        name: diebold_mariano(losses[name], losses[benchmark], horizon=horizon) if len(losses) > 1 else none
        for name in losses
    }
    return pd.DataFrame(
        {
            "z": {name: result.statistic for name, result in results.items()},
            "p": {name: result.p_better for name, result in results.items()},
        }
    )


def _against(losses: pd.DataFrame, champion: str, looks: int, horizon: int) -> pd.Series:
    if champion == PERSISTENCE:
        return pd.Series(dtype=float)
    return holm(_compare(losses, champion, horizon)["p"].drop([PERSISTENCE, champion]), looks)


class _Context(NamedTuple):
    """What a reason says beside the table: looks, level, candles, horizon, and how many horizons were asked for."""

    looks: int
    alpha: float
    times: pd.Index
    horizon: int
    asked: int


def _reason(table: pd.DataFrame, champion: str, current: str, of: _Context) -> Sentence:
    challengers, served = table.iloc[1:], champion != PERSISTENCE
    if challengers.empty:
        return _none(of, Sentence("there is no challenger"))
    if challengers["ratio"].isna().all():
        still = "no price moved in {rows} candles, so there is no error to reduce"
        return _none(of, Sentence(still, rows=f"{len(of.times):,}"))
    able = challengers[challengers["served"]]
    named = champion if served else (able if len(able) else challengers)["model"].iloc[0]
    row = challengers[challengers["model"] == named].iloc[0].to_dict()
    stays = current == champion != PERSISTENCE
    figures = _figures(row, len(challengers), of, stays=stays)
    better = challengers[~challengers["served"] & challengers["beats"]]
    if not served:
        return _with_unserved(_none(of, _nearest(row, figures, able, better)), better if len(able) else able)
    has = Sentence("no challenger beats it; it has {figures}" if stays else "it has {figures}", figures=figures)
    if not stays and current != PERSISTENCE:
        has = Sentence("{recently}, and beats {other}", recently=has, other=current)
    ahead = " {horizon} candles ahead" * (of.horizon > 1)
    says = ("{who} stays champion" if stays else "{who} is champion") + ahead + ": {rest}."
    reason = Sentence(says, who=champion, horizon=of.horizon, rest=has)
    return _with_unserved(reason, better[better["ratio"] < row["ratio"]])


def _none(of: _Context, rest: Sentence) -> Sentence:
    """Sentence for persistence as champion."""
    ahead = " {horizon} candles ahead" * (of.horizon > 1)
    return Sentence("persistence is champion" + ahead + ": {rest}.", horizon=of.horizon, rest=rest)


def _nearest(row: dict[Any, Any], figures: Sentence, able: pd.DataFrame, better: pd.DataFrame) -> Sentence:
    """Which challenger comes next where none is served."""
    who = "no challenger beats it" if better.empty else "no challenger that a training fits beats it"
    who = who if len(able) else "none of the challengers is one that a training fits"
    place = "the best" if row["ratio"] < 1 else "none has a smaller error; the nearest"
    told = {"who": Sentence(who), "place": Sentence(place), "model": row["model"], "figures": figures}
    return Sentence("{who}; {place}, {model}, has {figures}", **told)


def _figures(row: dict[Any, Any], models: int, of: _Context, *, stays: bool) -> Sentence:
    """Figures of a challenger, each with the decimals that show on which side of the rule it is."""
    counted = Sentence("{number} challenger" + "s" * (models > 1), number=models)
    if of.asked > 1:
        counted = Sentence("{models} at {number} horizons", models=counted, number=of.asked)
    looked = "{models} as the incumbent" if stays else "{models} and {looks} look" + "s" * (of.looks > 1)
    return Sentence(
        "{ratio} of the error of no change over {rows} candles (z {z}, p {p} after Holm over {counted}) {recently}",
        ratio=_ratio(row["ratio"]),
        rows=f"{len(of.times):,}",
        z=f"{row['z']:.1f}",
        p=_p(row["p_once" if stays else "p_holm"], of.alpha),
        counted=Sentence(looked, models=counted, looks=of.looks),
        recently=_recently(row, of.times),
    )


def _recently(row: dict[Any, Any], times: pd.Index) -> Sentence:
    """Figures of a challenger in the last months of the test."""
    recently = Sentence(
        "and {ratio} in the last {months} months", ratio=_ratio(row["recent_ratio"]), months=RECENT_MONTHS
    )
    if math.isnan(row["recent_ratio"]):
        recently = Sentence("while no price moved in the last {months} months", months=RECENT_MONTHS)
    if _is_recent(times).all():
        days = max(1, round((times.max() - times.min()) / _DAY))
        length = Sentence("{number} day" + "s" * (days > 1), number=days)
        short = "in a test of {days}, shorter than the {months} months of the rule"
        recently = Sentence(short, days=length, months=RECENT_MONTHS)
    if row["trend"] <= 0:
        fades = "{recently}; but the trend of its daily skill ends at {skill} %"
        recently = Sentence(fades, recently=recently, skill=f"{100 * row['trend']:.2f}")
    return recently


def _with_unserved(reason: Sentence, better: pd.DataFrame) -> Sentence:
    """Add a sentence about better models that a training does not fit."""
    if better.empty:
        return reason
    pairs = zip(better["model"], better["ratio"], strict=True)
    named = [Sentence("{model} ({ratio})", model=name, ratio=_ratio(ratio)) for name, ratio in pairs]
    models = reduce(lambda one, other: Sentence("{one}, {other}", one=one, other=other), named)
    fits = "it: {models}" if len(named) == 1 else "them: {models}"
    unserved = Sentence("Not served, since a training does not fit " + fits + ".", models=models)
    return Sentence("{reason} {unserved}", reason=reason, unserved=unserved)


def _ratio(value: float) -> str:
    return f"{value:.{decimals_apart(value, 1.0, 4)}f}"


def _p(value: float, alpha: float) -> str:
    return f"< {_TINY}" if value < min(_TINY, alpha) else f"{value:.{decimals_apart(value, alpha, 3)}f}"
