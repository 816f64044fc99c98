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
    "cards",
    "loss_difference",
    "newest_forecasts",
    "verdict",
]

_POINTS = 500
_LEVEL = 0.9
_FEE = 10.0


def verdict(scores: Scores) -> Claim:
    """The whole report in one sentence."""
    best, fee = scores.best, scores.break_even_bp
    yes = "Yes, a little: {model} takes {skill} off the error of “no change” ({p}) on {candles} that it had not seen. "
    no = (
        "No: no model beats “no change” on {candles} that it had not seen; the nearest, {model}, has a skill of "
        "{skill} ({p}). Persistence is what is served."
    )
    richer = yes + "Its strongest forecasts earn {fee} a trade before fees."
    return say.claim(
        yes + "That is skill, not money: a fee above {fee} a trade eats it up.",
        holds=scores.wins and fee < _FEE,
        otherwise=richer if scores.wins else no,
        model=say.word(title_of(best["model"])),
        skill=say.percent(best["skill"], 2),
        p=say.pvalue(best["p_holm"]),
        candles=say.count(len(scores.losses), "candle"),
        fee=say.bp(fee, 1),
    )


def cards(scores: Scores) -> tuple[Card, ...]:
    """Key figures: champion, skill, direction, coverage, break-even fee."""
    best, held = scores.best, coverage(scores.of_best)
    beaten = "beats “no change” by a rule fixed beforehand"
    note = beaten if scores.wins else "no model beats it by the rule fixed beforehand"
    interval = say.claim(
        "{low} to {high}, {p}",
        low=say.percent(best["skill_low"], 2),
        high=say.percent(best["skill_high"], 2),
        p=say.pvalue(best["p_holm"]),
    )
    promise = say.claim("of an interval that should hold {level}", level=say.percent(_LEVEL, 0))
    shown = [Card("Coverage", say.percent(held["held"].iloc[0]), str(promise))] if len(held) else []
    return (
        Card("Champion", say.word(title_of(scores.verdict.champion)), note),
        Card("Skill", say.percent(best["skill"], 2), str(interval)),
        Card("Direction", say.percent(best["direction"]), "of the signs are right"),
        *shown,
        Card("Break-even fee", say.bp(scores.break_even_bp), "a trade on the strongest tenth of the forecasts"),
    )


def against_persistence(scores: Scores) -> Table:
    """Every model beside persistence."""
    best = scores.best
    table = scores.table
    between = [_between(*ends) for ends in zip(table["skill_low"], table["skill_high"], strict=True)]
    shown = table.assign(title=[title_of(name) for name in table["model"]], interval=pd.Series(between))
    says = say.claim(
        "{model} has the smallest error: {error} where “no change” has {base}. That is no chance ({p}).",
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
        "interval": ("interval, %", str),
        "p_holm": ("p-value", say.probability),
        "direction": ("Right signs", say.percent),
        "wda": ("weighted", say.percent),
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
    monthly = (losses[PERSISTENCE] - losses[scores.best["model"]]).resample("MS").sum()
    says = say.claim(
        "The lead of {model} grows month by month: it errs less than “no change” in {good} of {months}.",
        holds=scores.wins,
        otherwise="No line rises for good: {model} errs less than “no change” in {good} of {months}.",
        model=say.word(title_of(scores.best["model"])),
        good=say.count(int((monthly > 0).sum())),
        months=say.count(len(monthly), "month"),
    )
    alt = "Lines of the error saved over persistence since the test began, one a model; rising is better."
    return Chart("loss-difference", figure, shown.rename_axis("open_time").reset_index(), says, alt)


def _skill_chart(name: str, noun: str, groups: pd.DataFrame, labels: Sequence[str], turn: int = 0) -> Chart:
    figure, axes = canvas(2.7, bottom=0.75 if turn else 0.4)
    draw_dots(axes, groups, "skill", "skill_low", "skill_high")
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--")
    axes.set_ylabel("skill, %")
    axes.set_xticks(range(len(groups)), labels, rotation=turn)
    good = int((groups["skill"] > 0).sum())
    says = say.claim(
        "The skill is there in every one of the {all}.",
        holds=good == len(groups),
        otherwise="The skill is there in {good} of the {all}.",
        good=say.count(good),
        all=say.count(len(groups), noun),
    )
    return Chart(
        name, figure, groups, says, f"Skill with its interval for each {noun}; the dashed line is persistence."
    )


def by_month(scores: Scores) -> Chart:
    """Skill of the best model by month."""
    groups = scores.skill_by("month")
    groups = groups[groups["rows"] > groups["rows"].median() / 10].reset_index(drop=True)
    return _skill_chart("by-month", "month", groups, list(groups["month"]), turn=60)


def by_third(scores: Scores) -> Chart:
    """Skill of the best model in calm, middling and stormy times."""
    groups = scores.skill_by("third").set_index("third").reindex(list(THIRDS)).rename_axis("third").reset_index()
    return _skill_chart("by-third", "regime", groups.dropna(), list(THIRDS))


def by_hour(scores: Scores) -> Chart:
    """Skill of the best model by hour of the day."""
    groups = scores.skill_by("hour")
    return _skill_chart("by-hour", "hour", groups, [f"{hour:02d}" for hour in groups["hour"]])


def newest_forecasts(scores: Scores, candles: pd.DataFrame, most: int = 36) -> Chart:
    """The newest candles and what had been forecast for each."""
    joined = scores.of_best.tail(most).merge(candles, on="open_time")
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
