"""Charts and tables of the last chapter: skill against no change, its significance, and trading results."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from btcml.forecast.edge import LEAST_MONTHS
from btcml.forecast.evaluation import seal_lags
from btcml.forecast.experiment import Gain, Result
from btcml.forecast.metrics import PERSISTENCE, Calibration, evaluate, loss_table
from btcml.forecast.metrics.point import dm_squared_p, r2
from btcml.forecast.statistics import diebold_mariano
from btcml.forecast.verdict import ALPHA, looks_to_break
from btcml.market.simulate import attainable_r2
from btcml.report import claims as say
from btcml.report import recompute
from btcml.report.figures import (
    INK,
    MUTED,
    SERIES,
    Chart,
    Columns,
    Download,
    Table,
    candle_bars,
    canvas,
    date_axis,
    dots,
    panels,
    zero_line,
)
from btcml.report.language import ENGLISH, in_language, told

_POINTS = 500
_LABELS = 4
_NEAR = 0.03
_COIN = 0.5
_TRADED = "forecasts stronger than nine in ten of those before"  # btcml.forecast.money.RULES
_EARN = _TRADED + " earn {bp} a round trip before fees"
_EARN_NOTHING = _TRADED + " earn nothing before fees: {bp} a round trip"
_LITTLE = 0.05
_WELL, _MUCH = 0.2, 0.5
_FAR = 10
_CLOSE = 1e-4
"""What ten digits of a forecast may change in a p-value."""


def _wins(result: Result) -> bool:
    """Whether any model beats persistence by the rule."""
    return result.verdict.champion != PERSISTENCE


def _leader(result: Result) -> dict[str, Any]:
    """Scores of the leader, its p-value in the verdict, and whether it beats persistence."""
    own = result.verdict.table.set_index("model").loc[result.leader]
    return result.figures[result.leader] | {"p_holm": own["p_holm"], "beats": bool(own["beats"])}


def _place(leader: dict[str, Any]) -> say.Quantity:
    """What to call the leader where persistence is champion."""
    return say.word("best" if leader["skill"] > 0 else "nearest")


def _own(result: Result, note: say.Claim) -> str:
    """Note of a card about the leader, which names it where it is not the champion."""
    if _wins(result):
        return str(note)
    named = say.claim(
        "{note} (the {place} model, {model})",
        note=note.as_word(),
        place=_place(_leader(result)),
        model=say.model(result.leader),
    )
    return str(named)


def _challengers(result: Result) -> say.Quantity:
    """How many models were judged."""
    return say.count(len(result.verdict.table) - 1, "model")


def _none(result: Result) -> say.Quantity:
    """Which models do not beat persistence where it is champion: all, or those that a training fits."""
    return say.word("no model that a training fits" if result.verdict.table["beats"].any() else "no model")


# ---- the verdict ----
def verdict(result: Result) -> say.Claim:
    """The whole report in one sentence."""
    best = _leader(result)
    return say.claim(
        ("Yes, a little: " if best["skill"] < _LITTLE else "Yes: ")
        + "{model} takes {skill} off the error of “no change” ({p}) on {candles} that it had not seen. "
        + _worth(result.gain),
        holds=_wins(result),
        otherwise="No: {none} beats “no change” by the rule on {candles} that it had not seen; the {place}, {model}, "
        "has a skill of {skill} ({p}). The champion is persistence.",
        none=_none(result),
        place=_place(best),
        model=say.model(result.leader),
        skill=say.skill(best["skill"]),
        p=say.pvalue(best["p_holm"]),
        candles=say.count(len(result.losses), "candle"),
        fee=say.bp(result.gain.bp, 1) if result.gain.proven else say.word("none"),
    )


def _worth(gain: Gain) -> str:
    """End of the verdict: what the skill is worth, as far as that is significant."""
    if not gain.proven:
        return "That is skill, not profit: what its strongest forecasts earn may be luck."
    if gain.bp < say.USUAL_FEE_BP:
        return "That is skill, not profit: a fee above {fee} a round trip takes all of it."
    return "Its strongest forecasts earn {fee} a round trip before fees."


def cards(result: Result, candles: pd.DataFrame) -> tuple[say.Card, ...]:
    """Key figures: champion, skill, direction, coverage, break-even fee, size of the move."""
    best, held = _leader(result), result.interval
    note = say.claim(
        "beats “no change” by a rule fixed in advance",
        holds=_wins(result),
        otherwise="{none} beats it by the rule fixed in advance",
        none=_none(result),
    )
    skill = say.claim(
        "{low} to {high} at one look ({sure}); {p} with {models} and {looks} counted",
        sure=say.percent(0.95, 0),
        low=say.skill(best["skill_low"]),
        high=say.skill(best["skill_high"]),
        p=say.pvalue(best["p_holm"]),
        models=_challengers(result),
        looks=say.count(result.looks, "look"),
    )
    right = say.claim(
        "of the signs are right, {low} to {high} at one look",
        low=say.percent(best["direction_low"]),
        high=say.percent(best["direction_high"]),
    )
    level = say.claim(
        "of the closes are in an interval that should hold {level}", level=say.percent(result.experiment.level, 0)
    )
    explicit = bool(result.experiment.differences(candles))
    return (
        say.Card("Champion", say.model(result.verdict.champion), str(note)),
        say.Card("Skill", say.skill(best["skill"]), _own(result, skill)),
        say.Card("Direction", say.percent(best["direction"]), _own(result, right)),
        *[say.Card("Coverage", say.percent(share), str(level)) for share in held["held"].head(1)],
        _fee_card(result),
        _size_card(result.ranges),
        *[say.Card("Experiment", say.word("explicit"), told(result.experiment.label(candles)))] * explicit,
    )


def _fee_card(result: Result) -> say.Card:
    """The break-even fee of the strongest forecasts, where their gain is significant."""
    gain, proven = result.gain, result.gain.proven and _wins(result)
    if not np.isfinite(gain.bp):
        return say.Card("Break-even fee", say.word("no trade"), "no forecast stands out from the others")
    note = say.cases(
        (proven, "a round trip on " + _TRADED + ", {low} to {high} at one look"),
        (gain.bp > 0, _EARN + ", {low} to {high}: that may be luck"),
        (True, _EARN_NOTHING + ", {low} to {high}"),
        bp=say.bp(gain.bp, 1),
        low=say.bp(gain.low, 1),
        high=say.bp(gain.high, 1),
    )
    return say.Card("Break-even fee", say.bp(gain.bp, 1) if proven else say.word("not proven"), _own(result, note))


def _size_card(ranges: pd.DataFrame) -> say.Card:
    """How much of the size of the next move is forecast."""
    found, best = _best_range(ranges)
    note = say.cases(
        (found[best] <= 0, "no model forecasts the next range better than its mean"),
        (best == _AVERAGE, "of the variance of the next log range is forecast, by the last ranges alone"),
        (True, "of the variance of the next log range is forecast; {rule} by the last ranges alone"),
        rule=say.percent(max(found[_AVERAGE], 0.0), 0),
    )
    return say.Card("Size of the move", say.percent(max(found[best], 0.0), 0), str(note))


# ---- the three answers of the first page ----
def answers(result: Result) -> tuple[say.Card, ...]:
    """Where the next candle will go, how far, and whether that is money; each answer with its reason."""
    return _where(result), _how_far(result), _money(result)


def _where(result: Result) -> say.Card:
    best, wins = _leader(result), _wins(result)
    note = say.cases(
        (wins, "{model} takes {skill} off the error of “no change” and has the right sign for {right} of moves"),
        (True, "{none} beats “no change” by the rule; the {place}, {model}, has a skill of {skill}"),
        none=_none(result),
        place=_place(best),
        model=say.model(result.leader),
        skill=say.skill(best["skill"]),
        right=say.percent(best["direction"]),
    )
    answer = ("hardly" if best["skill"] < _LITTLE else "in part") if wins else "not known"
    return say.Card("Where will it go?", say.word(answer), str(note))


def _how_far(result: Result) -> say.Card:
    shares, best = _best_range(result.ranges)
    found = shares[best]
    note = say.claim(
        "{found} of the variance of the log range of the next candle is forecast, {simple} by the last ranges alone",
        holds=found > 0,
        otherwise="the best model forecasts the range of the next candle no better than its mean does",
        found=say.percent(max(found, 0.0), 0),
        simple=say.percent(max(shares[_AVERAGE], 0.0), 0),
    )
    some = "well" if found > _WELL else "a little" if found > 0 else "not known"
    return say.Card("How far?", say.word("very well" if found > _MUCH else some), str(note))


def _money(result: Result) -> say.Card:
    gain, wins = result.gain, _wins(result)
    if not np.isfinite(gain.bp):
        return say.Card("Is it money?", say.word("no"), "no forecast stands out from the others: nothing is traded")
    proven = gain.proven and wins
    pays = proven and gain.bp >= say.USUAL_FEE_BP
    note = say.cases(
        (pays, _EARN + ", and a trade usually costs {usual}; whether orders would be filled is not tested"),
        (proven, _EARN + ", and a trade usually costs {usual}"),
        (gain.bp > 0, _EARN + ", which may be luck, and a trade usually costs {usual}"),
        (True, _EARN_NOTHING),
        bp=say.bp(gain.bp, 1),
        usual=say.bp(say.USUAL_FEE_BP, 0),
    )
    return say.Card("Is it money?", say.word("perhaps" if pays else "no"), str(note))


# ---- the decision and its tries ----
def decision(result: Result) -> say.Claim:
    """The champion, and the rule that decides it."""
    return say.claim(
        "The champion is {champion}. The rule was fixed before any result of this report was seen: among the models "
        "that beat “no change” over the whole test and over its last six months, or all of a shorter one, whose trend "
        "of daily skill, where there is one, ends above zero, and whose p-value is below {level}, the one with the "
        "smallest error; if there is none, persistence. The p-values count {models} and {looks} at these data; {tries} "
        "are on record, those of this report included. A champion in service stays while its p-value at one look "
        "is below {level}, unless another model beats both “no change” and it.",
        champion=say.model(result.verdict.champion),
        level=say.number(result.verdict.alpha, 2),
        models=_challengers(result),
        looks=say.count(result.looks, "look"),
        tries=say.count(result.trials, "try", "tries"),
    )


_MANY = 1e9


def tries(result: Result, ledger: pd.DataFrame) -> Table:
    """Every try on record (`btcml.forecast.experiment.Experiment.ledger`)."""

    def _conclude(rows: pd.DataFrame) -> say.Claim:
        return say.claim(
            "{tries} are on record for this series, those of this report included; the p-values allow for {counted}, "
            "as {looks} at {models}.",
            tries=say.count(int(rows["tries"].sum()), "try", "tries"),
            counted=say.count(int(rows.loc[rows["counted"], "tries"].sum())),
            looks=say.count(result.looks, "look"),
            models=_challengers(result),
        )

    columns: Columns = {
        "origin": "Whose",
        "what": "What",
        "start": ("Candles from", say.day),
        "end": ("to", lambda time: say.day(time - pd.Timedelta(microseconds=1))),
        "tries": "Tries",
        "counts": "In the p-values",
    }
    return Table("tries", ledger.assign(counts=np.where(ledger["counted"], "yes", "no")), _conclude, columns)


def looks_allowed(result: Result) -> say.Claim:
    """With how many looks counted the verdict would stay as it is."""
    own = result.verdict.table.set_index("model").loc[result.leader].to_dict()
    most, models = looks_to_break(own["p_once"], result.verdict.alpha), len(result.verdict.table) - 1
    holds = bool(own["beats"])
    stays = "{model} stays significant with up to {most} at these data counted, that is {tries}; {looks} {are} counted."
    return say.cases(
        (
            holds and most > _MANY,
            "More than a billion looks at these data would have to be counted before the verdict changed.",
        ),
        (holds, stays),
        (most >= result.looks, "Tries do not decide here: the p-value holds, but the error is not smaller throughout."),
        (most >= 1, "With {looks} counted {model} is not significant; it would be with {most} at most."),
        (True, "No number of tries decides here: {model} is not significant at a single look either ({p})."),
        model=say.model(result.leader),
        most=say.count(min(most, _MANY), "look"),
        tries=say.count(min(most, _MANY) * models, "try", "tries"),
        looks=say.count(result.looks, "look"),
        are=say.verb(result.looks, "is", "are"),
        p=say.pvalue(own["p_once"]),
    )


def limits(ledger: pd.DataFrame) -> say.Claim:
    """Tries that no p-value counts."""
    theirs = ledger[ledger["origin"].str.endswith("of the authors")]
    counted = theirs[theirs["counted"]]
    begin = "The authors found features, settings and intervals by trying"
    end = (
        " A report over another number of days, or with another end, is one more look at much the same candles. "
        "Neither reports built before are counted nor what this one varies beside its test: seeds, windows, horizons. "
        "Only the sealed forecasts are free of all that."
    )
    return say.cases(
        (theirs.empty, begin + " on candles of another series, which no p-value here counts." + end),
        (counted.empty, begin + ": {all} on earlier candles of this series, which no p-value here counts." + end),
        (
            True,
            begin + ": {all} on candles of this series; the p-values count the {some} on candles of this test." + end,
        ),
        all=say.count(int(theirs["tries"].sum()), "try", "tries"),
        some=say.count(int(counted["tries"].sum())),
    )


# ---- against no change ----
def against_persistence(result: Result, symbol: str) -> Table:
    """Every model beside persistence."""
    table = result.scores().merge(result.verdict.table[["model", "p_holm"]], on="model")
    table.loc[table["model"] == PERSISTENCE, ["skill_low", "skill_high", "p_holm"]] = np.nan
    error = say.claim("Error, {unit}", unit=say.word(say.currency(symbol) or "price"))
    columns: Columns = {
        "title": "Model",
        "mae_usd": (str(error), lambda error: say.price(error, significant=5)),
        "mae_bp": ("Error, bp", say.digits(3)),
        "skill": ("Skill", say.signed_skill),
        "interval": "95 % interval",
        "p_holm": ("p-value, all counted", say.probability),
        "direction": ("Right signs", say.percent),
        "wda": ("Weighted by size", say.percent),
    }
    with in_language(ENGLISH):  # frames are the same in every language
        shown = table.assign(title=table["model"].map(say.title), interval=_intervals(table))
    strong = (say.title(result.verdict.champion),)
    return Table("against-persistence", shown, partial(_against_persistence_claim, result), columns, strong=strong)


def _against_persistence_claim(result: Result, table: pd.DataFrame) -> say.Claim:
    rows: dict[Any, Any] = table.set_index("model").to_dict("index")
    best, base = rows[result.leader], rows[PERSISTENCE]["mae_bp"]
    return say.claim(
        "The error of {model} is {error}, that of “no change” {base}: the difference is significant ({p}).",
        holds=_wins(result),
        otherwise="{none} beats persistence by the rule; the {place} is {model} with {error} against {base} ({p}).",
        none=say.word(str(_none(result)).capitalize()),
        place=_place(best),
        model=say.model(result.leader),
        error=say.bp(best["mae_bp"], 3, beside=base),
        base=say.bp(base, 3, beside=best["mae_bp"]),
        p=say.pvalue(best["p_holm"]),
    )


def _intervals(table: pd.DataFrame) -> pd.Series:
    """Intervals of skills as cells; None where one is not known."""
    ends = zip(table["skill_low"], table["skill_high"], strict=True)
    shown = [
        [str(say.number(100 * end, 2, sign=True, beside=0.0)) for end in pair if np.isfinite(end)] for pair in ends
    ]
    return pd.Series([" to ".join(pair) or None for pair in shown], table.index)


def truth(result: Result, market: str) -> say.Claim:
    """Share of the variance that was forecast, beside the predictable one where that is known."""
    found, p = r2(result.of_leader), dm_squared_p(result.of_leader)
    sure = _wins(result) and p < result.verdict.alpha
    values = {"model": say.model(result.leader), "found": say.percent(found, 2, beside=0.0), "p": say.pvalue(p)}
    if market != "simulated":
        judged = "Judged by squared errors, which weigh large moves more, "
        typical = ": the typical candle is predictable to a small degree, the largest moves are not."
        nothing = "{model} forecasts nothing ({found} of the variance)"
        share = "{model} forecasts {found} of the variance of the next return"
        return say.cases(
            (found > 0 and sure, judged + share + "; how much more could have been is not known."),
            (found > 0, judged + share + ", which may be luck ({p})."),
            (True, judged + nothing + (typical if _wins(result) else ".")),
            **values,
        )
    known = attainable_r2(result.experiment.interval)
    begin = (
        "This market was made by a program, so the true share is known: {known} of the variance of the next return can "
        "be forecast from the candles"
    )
    return say.cases(
        (found <= 0, begin + ". {model} found none of it ({found})."),
        (found > known, begin + ", and {model} found {found}: more than there is to find, so part of it is luck."),
        (sure, begin + ", and {model} found {found}."),
        (True, begin + ", and {model} found {found}, which may be luck ({p})."),
        known=say.percent(known, 2, beside=found),
        **values,
    )


def loss_difference(result: Result) -> Chart:
    """Cumulative error saved over persistence, model by model: some points, and the last one of each month."""
    losses = result.losses
    saved = (-losses.sub(losses[PERSISTENCE], axis="index")).cumsum() / 100
    month = _months(pd.Series(saved.index))
    kept = np.arange(len(saved)) % max(1, len(saved) // _POINTS) == 0
    shown = saved[kept | ~month.duplicated(keep="last").to_numpy()].rename_axis("open_time").reset_index()
    figure, axes = canvas(3.4)
    others = [name for name in result.verdict.table["model"].iloc[1:] if name != result.leader]
    for color, name in zip(SERIES, [result.leader, *others], strict=False):
        width = 2.0 if name == result.leader else 1.0
        axes.plot(shown["open_time"], shown[name], color=color, label=str(say.model(name)), linewidth=width)
    zero_line(axes, "no change")
    axes.set_xlim(shown["open_time"].iloc[0], shown["open_time"].iloc[-1])
    axes.set_ylabel("error saved so far, % of the price")
    date_axis(axes)
    whole = set(_large(result.months)["month"].astype(str))
    alt = "Lines of the error saved over no change since the test began, summed, one per model; rising "
    alt += "is better, and no profit."
    return Chart("loss-difference", shown, partial(_loss_difference_claim, result, whole), figure, alt)


def _months(times: pd.Series) -> pd.Series:
    return times.dt.strftime("%Y-%m")


def _loss_difference_claim(result: Result, whole: set[str], saved: pd.DataFrame) -> say.Claim:
    """In how many of the months that are judged the line of the leader rises."""
    ends = saved.set_index(_months(saved["open_time"]))[result.leader].groupby(level=0).last()
    by = ends.diff().fillna(ends.iloc[0])[ends.index.isin(list(whole))]
    some = "every one of the {months}" if (by > 0).all() else "{good} of {months}"
    lead = "{model} has a smaller error than “no change” in " + some
    return say.cases(
        (_leader(result)["beats"] and len(by) > 1, lead + ", and the difference over the whole test is significant."),
        (_leader(result)["beats"], "{model} has a smaller error than “no change”, and the difference is significant."),
        (len(by) > 1, "No advantage is significant: " + lead + ", which may be luck."),
        (by.iloc[0] > 0, "No advantage is significant: that of {model} over “no change” may be luck."),
        (True, "No model shows an advantage: {model}, the nearest, has a larger error than “no change”."),
        model=say.model(result.leader),
        good=say.count(int((by > 0).sum())),
        months=say.count(len(by), "month"),
    )


NOUNS = {"month": "month", "third": "regime", "hour": "hour", "year": "year"}
_PANELS = {"month": "by month", "third": "by regime", "hour": "by hour of the day, UTC", "year": "by year"}


def _skill_by(result: Result, by: str) -> pd.DataFrame:
    """Skill of the leader by group (``name``), without those of few candles."""
    table = result.scores(by, ("skill", "skill_low", "skill_high", "mae_bp", "dm_p"))
    table = _large(table[table["model"] != PERSISTENCE])
    names = [f"{name:02d}" if by == "hour" else str(name) for name in table[by]]
    return table.drop(columns=["model", by]).assign(by=by, name=names).reset_index(drop=True)


def _large(groups: pd.DataFrame) -> pd.DataFrame:
    """Groups of more than a tenth of the candles of the median one."""
    return groups[groups["rows"] > groups["rows"].median() / 10]


def skill_by(result: Result) -> Chart:
    """Skill of the leader by month, third of volatility, hour of the day and year, as small multiples."""
    parts = {by: _skill_by(result, by) for by in NOUNS}
    figure, axes = panels(2, 2, 4.8, sharey=True)
    for panel, (by, part) in zip(axes, parts.items(), strict=True):
        dots(panel, part, "skill", "skill_low", "skill_high")
        zero_line(panel)
        ticks = range(0, len(part), -(-len(part) // _LABELS))
        panel.set_xticks(ticks, [part["name"][tick] for tick in ticks])
        panel.set_title(_PANELS[by])
    for panel in axes[::2]:
        panel.set_ylabel("skill, %")
    _draw_trend(axes[0], result, len(parts["month"]))
    alt = "Skill with its interval by month, volatility regime, hour and year; the dashed line is no change."
    table = pd.concat(parts.values(), ignore_index=True)
    conclude = partial(_skill_by_claim, name=result.leader, beats=_leader(result)["beats"], rows=len(result.losses))
    return Chart("skill-by", table, conclude, figure, alt)


def _draw_trend(axes: Axes, result: Result, months: int) -> None:
    """Draw the trend of a proven skill over its months."""
    age, place = result.edge, np.arange(months)
    if _wins(result) and np.isfinite(age.slope_per_year):
        axes.plot(place, 100 * (age.now + age.slope_per_year * (place - place[-1]) / 12), color=SERIES[1], linewidth=1)
        axes.set_title("by month, with its trend")


def _skill_by_claim(groups: pd.DataFrame, name: str, *, beats: bool, rows: int = 0) -> say.Claim:
    """In how many months, regimes, hours and years a model has the smaller error, and in how many beyond chance."""
    by = groups.groupby("by", sort=False)
    several = groups[by["name"].transform("size") > 1]
    above = int((several["skill_low"] > 0).sum())
    below = int((several["skill_high"] < 0).sum())
    one = next((part for key, part in by if key in {"month", "year"} and len(part) == 1), groups.head(0))
    alone = "{part} test lies in one {one}. "
    begin = "The errors of {model} are smaller than those of “no change” in {parts}; the interval lies above zero in "
    begin += "{above} of these parts and below zero in {below}"
    doubt = "; over the whole test the difference is not significant." if not beats and above else "."
    return say.cases(
        (several.empty, alone + "The skill of {model} there is {skill}."),
        (True, alone * len(one) + begin + doubt),
        part=say.word("Nearly the whole" if one["rows"].sum() < rows else "The whole"),
        one=say.word(", ".join(one["by"]) or "span"),
        model=say.model(name),
        skill=say.skill(groups["skill"].iloc[0]),
        parts=say.word(_better(several) or "none"),
        above=say.count(above),
        below=say.count(below),
    )


def _better(several: pd.DataFrame) -> str:
    """In how many groups of each kind the error is smaller."""
    found = {NOUNS[str(by)]: part["skill"] > 0 for by, part in several.groupby("by", sort=False)}
    return ", ".join(
        str(say.claim("{some} of {all}", some=say.count(int(won.sum())), all=say.count(len(won), noun)))
        for noun, won in found.items()
    )


def edge(result: Result) -> say.Claim:
    """Whether the skill of the leader lasts: its trend over the days of the test."""
    age, times = result.edge, result.of_leader["open_time"]
    known = np.isfinite(age.slope_per_year)
    slope, low, high = (value if known else 0.0 for value in (age.slope_per_year, age.low, age.high))
    trend = "over {days} the skill of {model} changed by {slope} of the error of “no change” a year ({low} to {high})"
    stays = ", and at the lower end of its interval the trend stays above zero for a year."
    falls = ", and at the lower end of its interval the trend does not stay above zero for a year."
    return say.cases(
        (not _wins(result), "Whether an edge lasts is not asked: none is proven."),
        (not known, "Whether the edge lasts is not known: a trend needs {least}, and this test has fewer."),
        (age.lasts and high < 0, "The edge shrinks but lasts: " + trend + stays),
        (high < 0, "The edge shrinks: " + trend + falls),
        (age.lasts, "The edge lasts: " + trend + stays),
        (True, "It is not shown that the edge lasts: " + trend + falls),
        days=say.count((times.iloc[-1] - times.iloc[0]).days + 1, "day"),
        least=say.count(LEAST_MONTHS, "month"),
        model=say.model(result.leader),
        slope=say.signed_skill(slope),
        low=say.signed_skill(low),
        high=say.signed_skill(high),
    )


def newest_forecasts(result: Result, candles: pd.DataFrame, symbol: str, most: int = 36) -> Chart:
    """The newest candles and the forecast of each."""
    forecasts = result.of_leader.tail(most)[["open_time", "base", "y", "y_hat", "lo", "hi"]]
    joined = forecasts.merge(candles, on="open_time")
    figure, axes = canvas(3.6)
    place = np.arange(len(joined))
    if joined["lo"].notna().any():
        axes.fill_between(place, joined["lo"], joined["hi"], color=SERIES[4], alpha=0.25, linewidth=0, step="mid")
    unit = say.currency(symbol)
    candle_bars(axes, joined, unit)
    axes.plot(place, joined["y_hat"], "_", color=INK, markersize=7, markeredgewidth=2)

    def _conclude(shown: pd.DataFrame) -> say.Claim:
        size, error = ((shown["y_hat"] - shown[name]).abs().mean() for name in ("base", "y"))
        move = "move it by {size} on average, and miss by {error}."
        return say.cases(
            (size < error / 2, "In this chart the forecasts of {model} stay close to the last price: they " + move),
            (True, "In this chart the forecasts of {model} go far from the last price: they " + move),
            model=say.model(result.leader),
            size=say.price(size, unit, 3),
            error=say.price(error, unit, 3),
        )

    alt = "The newest candles with a dash at the forecast close of each"
    alt += " and a band that should hold the close." if joined["lo"].notna().any() else "."
    return Chart("newest-forecasts", joined, _conclude, figure, alt)


# ---- direction ----
def signs(result: Result) -> say.Claim:
    """Share of right signs: of all forecasts, of the strongest ones, and by size of move."""
    best = _leader(result)
    right = "The sign that {model} forecasts is right for {all} of the candles that moved ({low} to {high}), "
    rest = (
        "for {top} of the strongest tenth in the whole test. Weighted by the size of the move it is {weighted}, the "
        "figure that matters for trading."
    )
    return say.cases(
        (best["direction_low"] > _COIN, right + "more than a coin gets at one look, and " + rest),
        (best["direction_high"] < _COIN, right + "less than a coin gets at one look, and " + rest),
        (True, right + "which a coin could get, and " + rest),
        model=say.model(result.leader),
        all=say.percent(best["direction"]),
        low=say.percent(best["direction_low"]),
        high=say.percent(best["direction_high"]),
        top=say.percent(best["top_direction"]),
        weighted=say.percent(best["wda"]),
    )


def direction(result: Result) -> Chart | say.Claim:
    """Whether the forecast probability of a rise is calibrated."""
    bins, whole = result.reliability(), result.calibration
    if whole is None:
        return say.claim("No model gives probabilities of a rise here that differ from candle to candle.")
    figure, axes = canvas(3.0)
    said, seen = 100 * bins["probability"], 100 * bins["frequency"]
    ends = [said.min(), said.max()]
    axes.plot(ends, ends, color=MUTED, linestyle="--", label="as forecast")
    axes.vlines(said, 100 * bins["low"], 100 * bins["high"], color=SERIES[0], linewidth=2)
    axes.plot(said, seen, "o", color=SERIES[0])
    axes.set(xlabel="forecast probability of a rise, %", ylabel="candles that rose, %")
    alt = "Share of rises against the forecast probability, with intervals, beside a diagonal line."
    return Chart(
        "direction-calibration", bins, partial(_direction_calibration_claim, whole, result.verdict.alpha), figure, alt
    )


def _direction_calibration_claim(whole: Calibration, alpha: float, bins: pd.DataFrame) -> say.Claim:
    """Whether the probabilities say more than the base rate (Brier), and whether they are too bold (slope)."""
    informs = whole.brier < whole.base and whole.p < alpha
    judgement = say.cases(
        (whole.high < 0, "point the wrong way"),
        (informs and whole.low <= 1 <= whole.high, "are informative and calibrated"),
        (informs and whole.high < 1, "are informative, but too far from the base rate"),
        (informs, "are informative, but too close to the base rate"),
        (whole.brier < whole.base, "may say no more than the base rate"),
        (True, "say no more than the base rate"),
    )
    return say.claim(
        "Forecast probabilities of a rise, {low} to {high} in the means of {bins}, {judgement}: their Brier score is "
        "{brier}, that of the base rate {base} ({p}, one test); the slope of outcomes over probabilities is {slope} "
        "({least} to {most}), where one is calibrated; {inside} of {bins} lie on the line within chance.",
        judgement=judgement.as_word(),
        low=say.percent(bins["probability"].min(), 0),
        high=say.percent(bins["probability"].max(), 0),
        brier=say.number(whole.brier, 4, beside=whole.base),
        base=say.number(whole.base, 4, beside=whole.brier),
        p=say.pvalue(whole.p),
        slope=say.number(whole.slope, 2),
        inside=say.count(int(bins["probability"].between(bins["low"], bins["high"]).sum())),
        bins=say.count(len(bins), "group"),
        least=say.number(whole.low, 2, beside=1.0),
        most=say.number(whole.high, 2, beside=1.0),
    )


# ---- how large the next move will be ----
_AVERAGE = "ewma"
_GROUPS = 20
_TICKS = [round(step * 10.0**power, 1) for power in range(-1, 5) for step in (1, 2, 5)]


def _scored(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """One row per model: R², QLIKE and the p-value of its QLIKE against the best moving average."""
    losses = loss_table(frame, "qlike")
    table = evaluate(frame, ["range_r2", "qlike"]).sort_values("qlike", ignore_index=True)
    p = [diebold_mariano(losses[name], losses[_AVERAGE]).p_better for name in table["model"]]
    return table.assign(what=what, p=np.where(table["model"].isin([_AVERAGE, PERSISTENCE]), np.nan, p))


def _best_range(ranges: pd.DataFrame) -> tuple[dict[str, float], str]:
    """R² by model, and the model with the smallest QLIKE."""
    table = _scored(ranges, "range")
    return dict(zip(table["model"], table["range_r2"], strict=True)), str(table["model"].iloc[0])


def size_models(result: Result, volatility: pd.DataFrame) -> Table:
    """Every model of the range and of the volatility, beside the last candle's and moving averages."""
    both = pd.concat([_scored(result.ranges, "range"), _scored(volatility, "volatility")], ignore_index=True)
    columns: Columns = {
        "what": "Of the",
        "title": "Model",
        "range_r2": ("Variance forecast (R²)", say.percent),
        "qlike": ("Loss (QLIKE)", say.digits(4)),
        "p": ("p-value against the best moving average", say.probability),
    }
    titles = [say.title(name) if name != PERSISTENCE else "As the last candle" for name in both["model"]]
    conclude = partial(_size_models_claim, r2(result.of_leader), result.verdict.alpha)
    return Table("size-models", both.assign(title=titles), conclude, columns)


def _size_models_claim(close: float, alpha: float, table: pd.DataFrame) -> say.Claim:
    """Whether the size is forecast better than by a moving average, and better than the direction."""
    ranges = table[table["what"] == "range"].set_index("model")
    best, p, found = str(ranges.index[0]), ranges["p"].iloc[0], ranges["range_r2"]
    shares = (
        "{model} forecasts {found} of the variance of its log range, the best moving average {rule}, the last "
        "candle alone {last}"
    )
    size = "How large the next candle will be "
    better = best != _AVERAGE and p < alpha and found[best] > max(found[_AVERAGE], found[PERSISTENCE], 0.0)
    return say.cases(
        (
            better and found[best] > _FAR * max(close, 0.0),
            size + "is known far better than where it goes: " + shares + ".",
        ),
        (better, size + "can be forecast: " + shares + "."),
        (
            found[_AVERAGE] > 0,
            size
            + "is forecast no better, beyond chance, than by a moving average of the last ranges ({rule} of the "
            + "variance).",
        ),
        (
            True,
            "How large the next candle will be is not forecast: no model is better than the mean, by R².",
        ),
        model=say.model(best),
        found=say.percent(found[best], beside=found[_AVERAGE]),
        rule=say.percent(found[_AVERAGE], beside=found[best]),
        last=say.percent(found[PERSISTENCE], beside=found[best]),
    )


def size_forecasts(ranges: pd.DataFrame) -> Chart:
    """Forecast and real range, in groups of equally many candles."""
    part = ranges[ranges["model"] == _best_range(ranges)[1]].dropna(subset=["y", "y_hat"])
    group = (part["y_hat"].rank(method="first", pct=True) * _GROUPS).apply(np.ceil).astype("int64").rename("group")
    real = part["y"].groupby(group)
    columns = {"said_bp": part["y_hat"].groupby(group).median(), "real_bp": real.median()}
    columns |= {"low_bp": real.quantile(0.1), "high_bp": real.quantile(0.9)}
    table = pd.DataFrame(columns).apply(np.exp).mul(1e4).reset_index()
    figure, axes = canvas(3.2)
    ends = [table["said_bp"].min(), table["said_bp"].max()]
    axes.plot(ends, ends, color=MUTED, linestyle="--", linewidth=1.2, label="as forecast")
    axes.vlines(table["said_bp"], table["low_bp"], table["high_bp"], color=SERIES[0], linewidth=1.6, alpha=0.5)
    axes.plot(table["said_bp"], table["real_bp"], "o", color=SERIES[0])
    axes.set(xscale="log", yscale="log", xlabel="forecast range of the next candle, bp", ylabel="real range, bp")
    for axis, low, high in ((axes.xaxis, "said_bp", "said_bp"), (axes.yaxis, "low_bp", "high_bp")):
        axis.set_ticks([tick for tick in _TICKS if table[low].min() / 1.2 < tick < table[high].max() * 1.2])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    alt = "Median real range of each group against the forecast one, with lines that hold eight of ten, and a diagonal."
    return Chart("size-forecasts", table, _size_forecasts_claim, figure, alt)


def _size_forecasts_claim(table: pd.DataFrame) -> say.Claim:
    smallest, largest = table.iloc[0], table.iloc[-1]
    return say.claim(
        "Where the smallest ranges are forecast ({low} from lowest to highest price) the median one is {low_real}; "
        "where the largest are ({high}) it is {high_real}.",
        low=say.bp(smallest["said_bp"], 1),
        low_real=say.bp(smallest["real_bp"], 1),
        high=say.bp(largest["said_bp"], 1),
        high_real=say.bp(largest["real_bp"], 1),
    )


# ---- prediction intervals, and results of trading ----
def coverage(result: Result) -> Chart | say.Claim:
    """Coverage of the intervals, overall and by volatility third."""
    held, level = result.interval, result.experiment.level
    if held.empty:
        return say.claim(
            "No intervals of the next close are given here: too few forecasts have an outcome for them to learn from."
        )
    figure, axes = canvas(2.6, bottom=0.4)
    dots(axes, held, "held", "low", "high")
    axes.axhline(100 * level, color=SERIES[1], linewidth=1.2, linestyle="--", label="nominal")
    axes.set_xticks(range(len(held)), list(held["group"]))
    axes.set_ylabel("outcomes inside, %")
    alt = "Share of outcomes inside the interval, overall and by third of volatility, beside the nominal one."
    return Chart("coverage", held, partial(_coverage_claim, level), figure, alt)


def _coverage_claim(level: float, held: pd.DataFrame) -> say.Claim:
    worst = held.iloc[int((held["held"] - level).abs().argmax())]
    miss = abs(float(worst["held"]) - level)
    begin = "Intervals around the last close, the same for every model, that should hold {level} of the closes "
    begin += "hold {all} of {closes}"
    return say.claim(
        begin + ", and miss by at most {miss} in any third.",
        holds=miss < _NEAR,
        otherwise=begin + "; where they are worst ({where}) they miss by {miss}.",
        level=say.percent(level, 0),
        all=say.percent(held["held"].iloc[0]),
        closes=say.count(held["candles"].iloc[0], "close"),
        where=say.word(str(worst["group"])),
        miss=say.number(100 * miss, 1, "percentage points", ceiling=miss < _NEAR),
    )


def fees(result: Result) -> say.Claim:
    """What a trade earns after fees, where it is significant."""
    gain, trip = result.gain, "a round trip on the strongest forecasts of {model}"
    if not np.isfinite(gain.bp):
        return say.claim("No forecast stands out from the others, so that nothing would be traded.")
    filled = "whether orders would be filled at these prices is not known."
    nothing = f"at a fee of {{fee}}, {trip} earns nothing, and entering and leaving usually costs {{usual}}."
    return say.cases(
        (gain.bp <= 0, f"Before fees {trip} earned nothing ({{fee}}, {{low}} to {{high}})."),
        (
            not (gain.proven and _wins(result)),
            f"What {trip} earns before fees, {{fee}}, may be luck ({{low}} to {{high}}).",
        ),
        (gain.bp < say.USUAL_FEE_BP, "Skill is not profit: " + nothing),
        (True, f"Nothing is left of {trip} only at a fee of {{fee}}, above the usual {{usual}}; " + filled),
        model=say.model(result.leader),
        usual=say.bp(say.USUAL_FEE_BP, 0),
        fee=say.bp(gain.bp, 1),
        low=say.bp(gain.low, 1),
        high=say.bp(gain.high, 1),
    )


JOINT = {
    "spa": ("Superior predictive ability (Hansen): p-value", "Could the best of all models be luck?"),
    "confidence_set": ("Model confidence set: share of the models", "Which cannot be told from the best?"),
    "deflated_sharpe": ("Deflated Sharpe ratio: probability", "Is the gain before fees skill, after all tries?"),
}


def experts(result: Result) -> Table:
    """Tests that allow for many models at once, for experts."""
    table, alpha = result.joint_tests().dropna(subset="value").reset_index(drop=True), result.verdict.alpha
    answers: dict[str, Callable[[Mapping[Any, Any]], str]] = {
        "spa": lambda row: "unlikely at one look" if row["value"] < alpha else "yes",
        "confidence_set": lambda row: ", ".join(map(say.title, row["models"].split(", "))),
        "deflated_sharpe": lambda row: "most likely" if row["value"] > 1 - alpha else "not proven",
    }
    table["answer"] = [answers[row["test"]](row) for row in table.to_dict("records")]
    table["asks"] = [JOINT[test][1] for test in table["test"]]
    table["test"] = [JOINT[test][0] for test in table["test"]]

    def _conclude(_table: pd.DataFrame) -> say.Claim:
        return say.claim(
            "These tests allow for the chance that the best of many models seems good by luck: the deflated Sharpe "
            "ratio counts {tries}, the others the {models} of this report and persistence.",
            tries=say.count(result.trials, "try", "tries"),
            models=_challengers(result),
        )

    columns: Columns = {"test": "Test", "asks": "Question", "value": ("Value", say.digits(3)), "answer": "Answer"}
    return Table("experts", table[list(columns)], _conclude, columns)


def forecasts(result: Result) -> Download:
    """Every forecast of the test, candle by candle, and the script that recomputes the headline from them."""
    columns = result.forecasts.assign(model=result.forecasts["model"].astype(str))
    table = columns.pivot_table(index="open_time", columns="model", values="y_hat").loc[result.losses.index]
    one = columns[columns["model"] == PERSISTENCE].set_index("open_time")[["base", "y"]]
    known = one.rename(columns={"y": "close"}).join(table.drop(columns=PERSISTENCE), how="inner").reset_index()
    script = Path(recompute.__file__).read_text(encoding="utf-8")
    short = re.sub(r"  # noqa: [^\n]*", "", script)
    return Download("forecasts", known, partial(_forecasts_claim, result), short, str(result.looks))


def _forecasts_claim(result: Result, rows: pd.DataFrame) -> say.Claim:
    """The headline, computed from the published file by the script beside it; else there is no page."""
    best = _leader(result)
    skill, p = recompute.recompute(rows.to_dict("records"), result.looks)[result.leader]
    return say.claim(
        "From this file alone, of {candles}, the script computes for {model} a skill of {skill} and {p}, as in the "
        "headline.",
        holds=abs(skill - best["skill"]) < _CLOSE / 100 and abs(p - best["p_holm"]) < _CLOSE,
        candles=say.count(len(rows), "candle"),
        model=say.model(result.leader),
        skill=say.skill(best["skill"]),
        p=say.pvalue(best["p_holm"]),
    )


# ---- sealed forecasts ----
_ERRORS = ["error_bp", "persistence_error_bp"]
_FEW = 100


def left_out(found: Mapping[str, Any]) -> list[Table]:
    """Test of models of other coins, where these are asked to serve the series (`btcml.forecast.left_out`)."""
    if not found:
        return []
    columns: Columns = {
        "coin": "Coin left out",
        "rows": "Candles",
        "ratio": ("Error over that of “no change”", say.digits(4)),
        "recent_ratio": ("In the last six months", say.digits(4)),
        "p_holm": ("p-value, all counted", say.probability),
        "answer": "Proven",
    }
    table = pd.DataFrame(found["table"])
    table["answer"] = np.where(table["proven"], "yes", "no")
    return [Table("left-out", table[list(columns)], _left_out_claim, columns)]


def _left_out_claim(table: pd.DataFrame) -> say.Claim:
    history = "The service has too few candles of this series for a verdict of its own. "
    every = (
        "Each of {coins} is forecast better than “no change” by models that never saw it, so that these may serve it."
    )
    failed = (table["answer"] == "no").sum()
    return say.claim(
        history + every,
        holds=failed == 0,
        otherwise=history
        + "Models of other coins do not serve it: {failed} of {coins} {are} not proven to be forecast better than “no "
        "change” by models that never saw {them}.",
        coins=say.count(len(table), "other coin"),
        failed=say.count(int(failed)),
        are=say.verb(int(failed), "is", "are"),
        them=say.verb(int(failed), "it", "them"),
    )


def sealed(forecasts: pd.DataFrame) -> Table | say.Claim:
    """Sealed forecasts by role and model, beside no change."""
    known = forecasts.dropna(subset=_ERRORS) if set(_ERRORS) <= set(forecasts) else forecasts.head(0)
    if known.empty:
        return say.claim(
            "No forecast has been sealed in this span yet: everything above was forecast in the walk-forward. Sealed "
            "forecasts come from the running service."
        )
    rows = [
        {"role": str(role), "model": say.title(str(model))} | _live(part)
        for (role, model), part in known.groupby(["role", "model"], sort=True)
    ]
    columns: Columns = {
        "model": "Model",
        "role": "Role",
        "rows": "Forecasts",
        "mae_bp": ("Error, bp", say.digits(3)),
        "base_bp": ("“No change”, bp", say.digits(3)),
        "skill": ("Skill", say.signed_skill),
        "p": ("p-value", say.probability),
        "coverage": ("Closes inside the interval", say.percent),
        "p50": ("Sealed after the close, s: median", say.digits(1)),
        "p99": ("99 of 100 within, s", say.digits(1)),
    }
    return Table("sealed", pd.DataFrame(rows), _sealed_claim, columns)


def proven(proof: Mapping[str, int]) -> say.Claim:
    """Which part of the published forecasts a time stamp proves to precede the end of the first candle ahead."""
    whole = proof.get("forecasts", 0)
    none = "None of the {whole} published so far is proven in time: no stamp came before the first candle ahead ended."
    some = "Of the {whole} published so far {proven} are proven in time: stamped before the first candle ahead ended."
    return say.cases(
        (not whole, "No sealed forecast is published, so that no time stamp proves when one was sealed."),
        (not proof.get("proven"), none),
        (True, some),
        whole=say.count(whole, "forecast"),
        proven=say.count(proof.get("proven", 0)),
    )


def _live(part: pd.DataFrame) -> dict[str, float]:
    """Scores of sealed forecasts of one model."""
    ours, theirs = (part[name].astype(float) for name in _ERRORS)
    base = float(theirs.mean())
    return {
        "rows": len(part),
        "mae_bp": float(ours.mean()),
        "base_bp": base,
        "skill": 1 - float(ours.mean()) / base if base > 0 else 0.0,
        "p": diebold_mariano(ours, theirs).p_better if len(part) > 1 else 1.0,
        "coverage": float(part["real_close"].between(part["lo"], part["hi"])[part["lo"].notna()].mean()),
    } | seal_lags(part)


def _sealed_claim(table: pd.DataFrame) -> say.Claim:
    """Result of the champion's sealed forecasts, of the model with most of them, as far as their number allows."""
    served = table[table["role"] == "champion"]
    if served.empty:
        return say.claim("So far only forecasts of challengers have been sealed.")
    live: dict[Any, Any] = served.sort_values("rows", kind="stable").iloc[-1].to_dict()
    sure = live["rows"] >= _FEW and live["p"] < ALPHA
    begin = (
        "{rows} of the champion {model} {were} sealed before the outcome was known; they missed by {ours} on average, "
    )
    end = "." if sure else "; they are too few, or too close, to say more."
    return say.claim(
        begin + "less than the {theirs} of “no change”" + end,
        model=say.word(str(live["model"])),
        holds=live["mae_bp"] < live["base_bp"],
        otherwise=begin + "no better than the {theirs} of “no change”.",
        rows=say.count(live["rows"], "forecast"),
        were=say.verb(live["rows"], "was", "were"),
        ours=say.bp(live["mae_bp"], 3, beside=live["base_bp"]),
        theirs=say.bp(live["base_bp"], 3, beside=live["mae_bp"]),
    )
