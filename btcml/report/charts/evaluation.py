"""Exhibits of the last chapter: how good the forecasts are, beside no change, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.forecast.metrics import THIRDS
from btcml.report import claims as say
from btcml.report.charts.drawing import date_axis, draw_candles, draw_dots, thousands
from btcml.report.claims import Card
from btcml.report.experiment import title_of
from btcml.report.figure import INK, MUTED, SERIES, Chart, canvas
from btcml.report.scores import PERSISTENCE, coverage
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btcml.report.claims import Claim, Quantity
    from btcml.report.scores import Scores

__all__ = [
    "against_persistence",
    "by_hour",
    "by_month",
    "by_third",
    "by_year",
    "cards",
    "decision",
    "loss_difference",
    "newest_forecasts",
    "verdict",
]

_POINTS = 500
_MANY = 8
_LEVEL = 0.9
_FEE = 20.0  # of a round trip: ten to enter and ten to leave are usual


def verdict(scores: Scores) -> Claim:
    """The whole report in one sentence."""
    best = scores.best
    yes = "Yes, a little: {model} takes {skill} off the error of “no change” ({p}) on {candles} that it had not seen. "
    no = (
        "No: no model beats “no change” on {candles} that it had not seen; the nearest, {model}, has a skill of "
        "{skill} ({p}). Persistence is what is served."
    )
    return say.claim(
        yes + _worth(scores),
        holds=scores.wins,
        otherwise=no,
        model=say.word(title_of(best["model"])),
        skill=say.percent(best["skill"], 2),
        p=say.pvalue(best["p_holm"]),
        candles=say.count(len(scores.losses), "candle"),
        fee=say.bp(scores.gain.bp, 1) if scores.gain.proven else say.word("none"),
    )


def _worth(scores: Scores) -> str:
    """End of the verdict: what the skill is worth, as far as that can be told from luck."""
    if not scores.gain.proven:
        return "That is skill, not money: what its strongest forecasts earn cannot be told from luck."
    if scores.gain.bp < _FEE:
        return "That is skill, not money: a fee above {fee} a round trip eats it up."
    return "Its strongest forecasts earn {fee} a round trip before fees."


def cards(scores: Scores) -> tuple[Card, ...]:
    """Key figures: champion, skill, direction, coverage, break-even fee."""
    best, held = scores.best, coverage(scores.result)
    beaten = "beats “no change” by a rule fixed beforehand"
    note = beaten if scores.wins else "no model beats it by the rule fixed beforehand"
    alone = "{low} to {high} taken alone; {p} with every model and try counted"
    whose = alone if scores.wins else "of the nearest model, {model}: " + alone
    skill = say.claim(
        whose,
        model=say.word(title_of(best["model"])),
        low=say.percent(best["skill_low"], 2),
        high=say.percent(best["skill_high"], 2),
        p=say.pvalue(best["p_holm"]),
    )
    signs = say.claim(
        "of the signs are right, {low} to {high}",
        low=say.percent(best["direction_low"]),
        high=say.percent(best["direction_high"]),
    )
    promise = say.claim("of an interval that should hold {level}", level=say.percent(_LEVEL, 0))
    shown = [Card("Coverage", say.percent(held["held"].iloc[0]), str(promise))] if len(held) else []
    return (
        Card("Champion", say.word(title_of(scores.verdict.champion)), note),
        Card("Skill", say.percent(best["skill"], 2), str(skill)),
        Card("Direction", say.percent(best["direction"]), str(signs)),
        *shown,
        _fee_card(scores),
    )


def _fee_card(scores: Scores) -> Card:
    """The fee that the strongest forecasts could pay, where they are known to earn anything."""
    gain = scores.gain
    if not np.isfinite(gain.bp):
        return Card("Break-even fee", say.word("no trade"), "no forecast stands out from the others")
    sentence = "a round trip on the strongest tenth of the forecasts, {low} to {high}"
    lucky = "their strongest tenth earns {bp} a round trip before fees, {low} to {high}: that may be luck"
    note = say.claim(
        sentence if gain.proven else lucky, bp=say.bp(gain.bp, 1), low=say.bp(gain.low, 1), high=say.bp(gain.high, 1)
    )
    return Card("Break-even fee", say.bp(gain.bp) if gain.proven else say.word("not shown"), str(note))


def decision(scores: Scores) -> Claim:
    """Who is served, and the rule that says so."""
    return say.claim(
        "{champion} is served. The rule was fixed before any result was seen: among the models that beat “no change” "
        "over the whole test and over its last half year, or all of a shorter one, with a p-value below {level}, the "
        "one with the smallest error; if there is none, persistence. The p-values count {models} and {looks} at these "
        "data; {tries} are on record, those of this report included.",
        champion=say.word(title_of(scores.verdict.champion)),
        level=say.number(scores.verdict.alpha, 2),
        models=say.count(len(scores.table) - 1, "model"),
        looks=say.count(scores.verdict.looks, "look"),
        tries=say.count(scores.trials, "try", "tries"),
    )


def against_persistence(scores: Scores) -> Table:
    """Every model beside persistence."""
    best = scores.best
    table = scores.table
    between = [_between(*ends) for ends in zip(table["skill_low"], table["skill_high"], strict=True)]
    shown = table.assign(title=[title_of(name) for name in table["model"]], interval=pd.Series(between))
    says = say.claim(
        "{model} errs by {error} where “no change” errs by {base}: chance alone would hardly do that ({p}).",
        holds=scores.wins,
        otherwise="No model beats persistence by the rule; the nearest is {model} with {error} against {base} ({p}).",
        model=say.word(title_of(best["model"])),
        error=say.bp(best["mae_bp"], 3),
        base=say.bp(scores.table["mae_bp"].iloc[0], 3),
        p=say.pvalue(best["p_holm"]),
    )
    columns: Columns = {
        "title": ("Model", str),
        "mae_usd": ("Error, USD", say.number),
        "mae_bp": ("Error, bp", _error),
        "skill": ("Skill", _skill),
        "interval": ("95 % interval", str),
        "p_holm": ("p-value, all counted", say.probability),
        "direction": ("Right signs", say.percent),
        "wda": ("by size of move", say.percent),
    }
    return Table("against-persistence", shown, says, columns, strong=(title_of(scores.verdict.champion),))


def _error(value: float) -> Quantity:
    return say.number(value, 3)


def _between(low: float, high: float) -> str | None:
    """An interval of a skill as a cell, or nothing where it is not known."""
    return f"{_share(low)} to {_share(high)}" if np.isfinite([low, high]).all() else None


def _share(value: float) -> Quantity:
    return say.number(100 * value, 2, sign=True)


def _skill(value: float) -> Quantity:
    return say.percent(value, 2, sign=True)


def loss_difference(scores: Scores) -> Chart:
    """Cumulative error saved over persistence, model by model."""
    losses = scores.losses
    saved = (-losses.sub(losses[PERSISTENCE], axis="index")).cumsum() / 100
    shown = saved.iloc[:: max(1, len(saved) // _POINTS)]
    figure, axes = canvas(3.4)
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--", label=title_of(PERSISTENCE))
    for color, name in zip(SERIES, scores.table["model"].iloc[1:], strict=False):
        axes.plot(shown.index, shown[name], color=color, label=title_of(name))
    axes.set_ylabel("error saved so far, % of the price")
    axes.legend(ncols=2)
    date_axis(axes)
    by = scores.skill_by("month")["skill"]
    part = "every one of the {months}" if (by > 0).all() else "{good} of {months}"
    lead = "The lead of {model} grows: it errs less than “no change” in " + part + "."
    unsure = "No lead is sure: {model} errs less than “no change” in {good} of {months}."
    if len(by) == 1:
        lead = "{model} errs less than “no change”, and its lead is beyond chance."
        unsure = "No lead is sure: that of {model} over “no change” may be luck."
    says = say.claim(
        lead,
        holds=scores.wins,
        otherwise=unsure,
        model=say.word(title_of(scores.best["model"])),
        good=say.count(int((by > 0).sum())),
        months=say.count(len(by), "month"),
    )
    alt = "Lines of the error saved over persistence since the test began, one a model; rising is better."
    return Chart("loss-difference", figure, shown.rename_axis("open_time").reset_index(), says, alt)


def _where(groups: pd.DataFrame, noun: str) -> Claim:
    """In how many groups a model errs less, and in how many of them chance is a poor excuse."""
    if len(groups) == 1:
        one = "The whole test lies in one {noun}: the skill there is {skill}."
        return say.claim(one, noun=say.word(noun), skill=say.percent(groups["skill"].iloc[0], 2))
    good, sure = int((groups["skill"] > 0).sum()), int((groups["skill_low"] > 0).sum())
    every = say.count(len(groups), noun)
    if not good:
        return say.claim("The errors are in none of the {all} smaller than those of “no change”.", all=every)
    some = "each" if sure == good else "{sure}"
    end = f", in {some} of them by more than chance would, taken one by one." if sure else "; none is beyond chance."
    return say.claim(
        "The errors are smaller than those of “no change” in every one of the {all}" + end,
        holds=good == len(groups),
        otherwise="The errors are smaller than those of “no change” in {good} of the {all}" + end,
        good=say.count(good),
        sure=say.count(sure),
        all=every,
    )


def _skill_chart(name: str, noun: str, groups: pd.DataFrame, labels: Sequence[str], turn: int = 0) -> Chart:
    figure, axes = canvas(2.7, bottom=0.75 if turn else 0.4)
    draw_dots(axes, groups, "skill", "skill_low", "skill_high")
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--")
    axes.set_ylabel("skill, %")
    axes.set_xticks(range(len(groups)), labels, rotation=turn)
    alt = f"Skill with its interval for each {noun}; the dashed line is persistence."
    return Chart(name, figure, groups, _where(groups, noun), alt)


def by_year(scores: Scores) -> Table | Claim:
    """Skill of the best model by calendar year, with its test; of one year the whole test has told."""
    groups = scores.skill_by("year")
    if len(groups) == 1:
        return _where(groups, "year")
    between = [_between(*ends) for ends in zip(groups["skill_low"], groups["skill_high"], strict=True)]
    columns: Columns = {
        "year": ("Year", str),
        "rows": ("Candles", say.count),
        "mae_bp": ("Error, bp", _error),
        "skill": ("Skill", _skill),
        "interval": ("95 % interval", str),
        "dm_p": ("p-value of the year alone", say.probability),
    }
    return Table("by-year", groups.assign(interval=pd.Series(between)), _where(groups, "year"), columns)


def by_month(scores: Scores) -> Chart:
    """Skill of the best model by month."""
    groups = scores.skill_by("month")
    return _skill_chart("by-month", "month", groups, list(groups["month"]), turn=60 if len(groups) > _MANY else 0)


def by_third(scores: Scores) -> Chart:
    """Skill of the best model in calm, middling and stormy times."""
    groups = scores.skill_by("third").set_index("third").reindex(list(THIRDS)).rename_axis("third").reset_index()
    groups = groups.dropna(subset="skill").reset_index(drop=True)
    return _skill_chart("by-third", "regime", groups, list(groups["third"]))


def by_hour(scores: Scores) -> Chart | Claim:
    """Skill of the best model by hour of the day."""
    groups = scores.skill_by("hour")
    if len(groups) == 1:
        return say.claim("Every candle opens at the same hour: there are no hours to compare.")
    return _skill_chart("by-hour", "hour", groups, [f"{hour:02d}" for hour in groups["hour"]])


def newest_forecasts(scores: Scores, candles: pd.DataFrame, most: int = 36) -> Chart:
    """The newest candles and what had been forecast for each."""
    newest = scores.of_best.tail(most).drop(columns=["open", "high", "low", "amp"])
    joined = newest.merge(candles, on="open_time")
    figure, axes = canvas(3.6)
    place = np.arange(len(joined))
    if joined["lo"].notna().any():
        axes.fill_between(place, joined["lo"], joined["hi"], color=SERIES[4], alpha=0.25, linewidth=0, step="mid")
    draw_candles(axes, joined)
    axes.plot(place, joined["y_hat"], "_", color=INK, markersize=7, markeredgewidth=2, label="forecast of the close")
    ticks = np.linspace(0, len(joined) - 1, 5).astype(int)
    axes.set_xticks(ticks, [joined["open_time"].iloc[tick].strftime("%d %b %H:%M") for tick in ticks])
    thousands(axes)
    axes.set_ylabel("USD")
    axes.legend()
    says = say.claim(
        "Forecasts stay close to the last price: they move it by {size} on average, and miss by {error}.",
        size=say.usd((joined["y_hat"] - joined["base"]).abs().mean()),
        error=say.usd((joined["y_hat"] - joined["y"]).abs().mean()),
    )
    alt = "The newest candles with a dash at the forecast close of each and a band that should hold it."
    return Chart("newest-forecasts", figure, joined, says, alt)
