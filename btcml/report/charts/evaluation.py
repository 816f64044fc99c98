"""Exhibits of the last chapter: how good the forecasts are, beside no change, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.report import claims as say
from btcml.report import scores
from btcml.report.charts.eda import date_axis, draw_candles, thousands
from btcml.report.claims import Card
from btcml.report.experiment import TITLES
from btcml.report.figure import INK, MUTED, SERIES, Chart, canvas
from btcml.report.scores import PERSISTENCE
from btcml.report.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from btcml.report.claims import Claim, Quantity

__all__ = [
    "against_persistence",
    "by_hour",
    "by_month",
    "by_third",
    "cards",
    "coverage_by_third",
    "direction",
    "fees",
    "loss_difference",
    "newest_forecasts",
    "sealed",
    "verdict",
]

_POINTS = 500
_LEVEL = 0.9
_FEE = 10.0


def _title(model: str) -> str:
    return TITLES.get(model, model)


def _best(table: pd.DataFrame) -> pd.Series:
    """Row of the champion, or of the model that comes nearest when persistence wins."""
    name = scores.champion(table)
    return table.set_index("model", drop=False).loc[name] if name != PERSISTENCE else table.iloc[1]


def _of(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["model"] == _best(table)["model"]]


def verdict(table: pd.DataFrame, frame: pd.DataFrame) -> Claim:
    """The whole report in one sentence."""
    best = _best(table)
    wins = scores.champion(table) != PERSISTENCE
    gross = scores.fee_curve(_of(frame, table)).set_index("share").loc[0.1, "gross_bp"]
    return say.claim(
        "Yes, a little: {model} takes {skill} off the error of “no change” ({p}, {candles} forecast unseen); "
        "that is skill, not money, for a fee above {fee} a trade eats it up.",
        holds=wins and gross < _FEE,
        otherwise="Yes: {model} takes {skill} off the error of “no change” ({p}, {candles} forecast unseen), and earns "
        "{fee} a trade before fees."
        if wins
        else "No: no model beats “no change” on {candles} that it had not seen; the nearest, {model}, has a skill of "
        "{skill} ({p}). Persistence is what is served.",
        model=say.word(_title(best["model"])),
        skill=say.percent(best["skill"], 2),
        p=say.pvalue(best["p_holm"]),
        candles=say.count(frame["open_time"].nunique(), "candle"),
        fee=say.bp(max(gross, 0.0), 1),
    )


def cards(table: pd.DataFrame, frame: pd.DataFrame) -> tuple[Card, ...]:
    """Key figures: champion, skill, direction, coverage, break-even fee."""
    best, part = _best(table), _of(frame, table)
    interval = say.claim(
        "{low} to {high}, {p}",
        low=say.percent(best["skill_low"], 2),
        high=say.percent(best["skill_high"], 2),
        p=say.pvalue(best["p_holm"]),
    )
    held = scores.coverage(part, scores.thirds(frame))
    curve = scores.fee_curve(part).set_index("share")
    found = [
        Card("Champion", say.word(_title(scores.champion(table))), "beats “no change” by a test fixed beforehand"),
        Card("Skill", say.percent(best["skill"], 2), str(interval)),
        Card("Direction", say.percent(best["right"]), "of the signs are right"),
        Card("Break-even fee", say.bp(max(curve.loc[0.1, "gross_bp"], 0.0)), "a trade on the strongest tenth"),
    ]
    if len(held):
        note = say.claim("of an interval that should hold {level}", level=say.percent(_LEVEL, 0))
        found.insert(3, Card("Coverage", say.percent(held["held"].iloc[0]), str(note)))
    return tuple(found)


def against_persistence(table: pd.DataFrame) -> Table:
    """Every model beside persistence."""
    best = _best(table)
    shown = table.assign(title=[_title(name) for name in table["model"]])
    says = say.claim(
        "{model} has the smallest error: {error} where “no change” has {base}; the difference is no chance ({p}).",
        holds=scores.champion(table) != PERSISTENCE,
        otherwise="No model beats persistence; the nearest is {model} with {error} against {base} ({p}).",
        model=say.word(_title(best["model"])),
        error=say.bp(best["mae_bp"], 3),
        base=say.bp(table["mae_bp"].iloc[0], 3),
        p=say.pvalue(best["p_holm"]),
    )
    columns = {
        "title": ("Model", str),
        "mae_usd": ("Mean error, USD", say.number),
        "mae_bp": ("Mean error, bp", _fine),
        "skill": ("Skill", _skill),
        "skill_low": ("from", _skill),
        "skill_high": ("to", _skill),
        "p_holm": ("p-value", say.pvalue),
        "right": ("Right signs", say.percent),
        "wda": ("weighted", say.percent),
    }
    return Table("against-persistence", shown, says, columns, strong=(_title(scores.champion(table)),))


def _fine(value: float) -> Quantity:
    return say.number(value, 3)


def _skill(value: float) -> Quantity:
    return say.percent(value, 2, sign=True)


def loss_difference(frame: pd.DataFrame, table: pd.DataFrame) -> Chart:
    """Cumulative error saved over persistence, model by model."""
    errors = scores.errors_bp(frame)
    saved = (-errors.sub(errors[PERSISTENCE], axis="index")).cumsum() / 1e4
    shown = saved.iloc[:: max(1, len(saved) // _POINTS)]
    figure, axes = canvas(3.4)
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--", label="Persistence")
    for color, name in zip(SERIES, table["model"].iloc[1:], strict=False):
        axes.plot(shown.index, shown[name], color=color, label=_title(name))
    axes.set_ylabel("error saved so far, % of the price × 100")
    axes.legend(ncols=2)
    date_axis(axes)
    best = _best(table)
    monthly = saved[best["model"]].resample("MS").last().diff().dropna()
    says = say.claim(
        "The lead of {model} grows month by month: better than “no change” in {good} of {months}.",
        holds=scores.champion(table) != PERSISTENCE,
        otherwise="No line rises for good: {model} is better than “no change” in {good} of {months}.",
        model=say.word(_title(best["model"])),
        good=say.count(int((monthly > 0).sum())),
        months=say.count(len(monthly), "month"),
    )
    data = shown.rename_axis("open_time").reset_index()
    alt = "Lines of the error saved over persistence since the test began, one a model; rising is better."
    return Chart("loss-difference", figure, data, says, alt)


def _dots(axes: Axes, groups: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw skill with its interval, one dot a group, above a line for persistence."""
    place = np.arange(len(groups))
    axes.vlines(place, 100 * groups["low"], 100 * groups["high"], color=SERIES[0], linewidth=2)
    axes.plot(place, 100 * groups["skill"], "o", color=SERIES[0])
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--")
    axes.set_ylabel("skill, %")
    axes.set_xticks(place, labels)
    axes.grid(visible=False, axis="x")


def _skill_chart(name: str, what: str, groups: pd.DataFrame, labels: Sequence[str], turn: int = 0) -> Chart:
    figure, axes = canvas(2.7, bottom=0.85 if turn else 0.4)
    _dots(axes, groups, labels)
    axes.tick_params(axis="x", rotation=turn)
    good = int((groups["skill"] > 0).sum())
    says = say.claim(
        "The skill is there in every one of the {all}.",
        holds=good == len(groups),
        otherwise="The skill is there in {good} of the {all}.",
        good=say.count(good),
        all=say.count(len(groups), what),
    )
    return Chart(
        name, figure, groups, says, f"Skill with its interval for each {what}; the dashed line is persistence."
    )


def by_month(frame: pd.DataFrame, table: pd.DataFrame) -> Chart:
    """Skill of the champion by month."""
    errors = scores.errors_bp(frame)
    month = pd.Series(errors.index.strftime("%Y-%m"), index=errors.index)
    groups = scores.skill_by(errors, str(_best(table)["model"]), month)
    return _skill_chart("by-month", "month", groups, list(groups["group"]), turn=60)


def by_third(frame: pd.DataFrame, table: pd.DataFrame) -> Chart:
    """Skill of the champion in calm, usual and stormy times."""
    groups = scores.skill_by(scores.errors_bp(frame), str(_best(table)["model"]), scores.thirds(frame))
    order = groups.set_index("group").reindex(["calm", "usual", "stormy"]).dropna().reset_index()
    return _skill_chart("by-third", "kind of market", order, list(order["group"]))


def by_hour(frame: pd.DataFrame, table: pd.DataFrame) -> Chart:
    """Skill of the champion by hour of the day."""
    errors = scores.errors_bp(frame)
    hour = pd.Series(errors.index.hour, index=errors.index)
    groups = scores.skill_by(errors, str(_best(table)["model"]), hour)
    return _skill_chart("by-hour", "hour of the day (UTC)", groups, [f"{hour:02d}" for hour in groups["group"]])


def newest_forecasts(frame: pd.DataFrame, table: pd.DataFrame, candles: pd.DataFrame, most: int = 36) -> Chart:
    """The newest candles and what had been forecast for each."""
    part = _of(frame, table).tail(most)
    joined = part.merge(candles, on="open_time")
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
    error = float((joined["y_hat"] - joined["y"]).abs().mean())
    size = float((joined["y_hat"] - joined["base"]).abs().mean())
    says = say.claim(
        "Forecasts stay close to the last price: they move it by {size} on average, and miss by {error}.",
        size=say.usd(size),
        error=say.usd(error),
    )
    alt = "The newest candles with a dash at the forecast close of each and a band that should hold it."
    return Chart("newest-forecasts", figure, joined, says, alt)


def direction(frame: pd.DataFrame, table: pd.DataFrame) -> Chart | Claim:
    """Whether “sixty per cent up” comes true six times in ten."""
    bins = scores.calibration(_of(frame, table))
    if bins.empty:
        return say.claim("No model gives a probability of a rise here.")
    figure, axes = canvas(3.0)
    ends = [bins[["said", "low"]].min().min(), bins[["said", "high"]].max().max()]
    axes.plot(ends, ends, color=MUTED, linestyle="--", linewidth=1.2, label="what is said comes true")
    axes.vlines(bins["said"], bins["low"], bins["high"], color=SERIES[0], linewidth=2)
    axes.plot(bins["said"], bins["seen"], "o", color=SERIES[0], label="seen")
    axes.set(xlabel="said probability of a rise", ylabel="share that rose")
    axes.legend()
    inside = int(((bins["said"] >= bins["low"]) & (bins["said"] <= bins["high"])).sum())
    says = say.claim(
        "When the model says {low} to {high} for a rise, the market agrees: {inside} of {bins} lie on the line within "
        "chance.",
        holds=2 * inside >= len(bins),
        otherwise="The said probabilities, {low} to {high}, do not come true well: only {inside} of {bins} lie on the "
        "line within chance.",
        low=say.percent(bins["said"].min(), 0),
        high=say.percent(bins["said"].max(), 0),
        inside=say.count(inside),
        bins=say.count(len(bins), "tenth"),
    )
    alt = "Share of rises against the said probability, with intervals, along a diagonal line."
    return Chart("direction-calibration", figure, bins, says, alt)


def coverage_by_third(frame: pd.DataFrame, table: pd.DataFrame) -> Chart | Claim:
    """Whether intervals keep their promise in calm and in storm."""
    held = scores.coverage(_of(frame, table), scores.thirds(frame))
    if held.empty:
        return say.claim("No intervals are given here.")
    figure, axes = canvas(2.6, bottom=0.4)
    place = np.arange(len(held))
    axes.vlines(place, 100 * held["low"], 100 * held["high"], color=SERIES[0], linewidth=2)
    axes.plot(place, 100 * held["held"], "o", color=SERIES[0])
    axes.axhline(100 * _LEVEL, color=SERIES[1], linewidth=1.2, linestyle="--", label="promised")
    axes.set_xticks(place, list(held["group"]))
    axes.set_ylabel("outcomes inside, %")
    axes.legend()
    worst = held.iloc[(held["held"] - _LEVEL).abs().argmax()]
    says = say.claim(
        "Intervals that promise {level} hold {all}, and nowhere miss the promise by more than {miss}.",
        holds=abs(worst["held"] - _LEVEL) < 0.03,  # noqa: PLR2004 - three points
        otherwise="Intervals that promise {level} hold {all}; in {kind} times the promise is missed by {miss}.",
        level=say.percent(_LEVEL, 0),
        all=say.percent(held["held"].iloc[0]),
        kind=say.word("all" if worst["group"] == "all" else str(worst["group"])),
        miss=say.number(100 * abs(worst["held"] - _LEVEL), 1, "points"),
    )
    alt = "Share of outcomes inside the interval, for all candles and by third of volatility, beside the promise."
    return Chart("coverage", figure, held, says, alt)


def fees(frame: pd.DataFrame, table: pd.DataFrame) -> Chart:
    """What a trade on the forecasts earns, by how strong they must be."""
    curve = scores.fee_curve(_of(frame, table))
    figure, axes = canvas(2.9)
    place = np.arange(len(curve))
    axes.bar(place, curve["gross_bp"], width=0.6, color=SERIES[0], label="gain before fees")
    for fee, color in ((2.0, SERIES[4]), (_FEE, SERIES[1])):
        axes.axhline(fee, color=color, linestyle="--", linewidth=1.4, label=f"a fee of {fee:g} bp")
    axes.set_xticks(place, [f"{100 * share:g} %" for share in curve["share"]])
    axes.set(xlabel="strongest share of the forecasts that is traded", ylabel="bp a trade")
    axes.legend()
    most = float(curve["gross_bp"].max())
    says = say.claim(
        "Not money: even the strongest forecasts earn {most} a trade before fees, and a usual fee is {fee}.",
        holds=most < _FEE,
        otherwise="The strongest forecasts earn {most} a trade, more than a usual fee of {fee}; whether orders would be "
        "filled at these prices is not known.",
        most=say.bp(most, 1),
        fee=say.bp(_FEE, 0),
    )
    return Chart(
        "fees", figure, curve, says, "Bars of the mean gain a trade by share of forecasts traded, with lines for fees."
    )


def sealed(forecasts: pd.DataFrame) -> Claim:
    """The forecasts that were stored before their candles closed."""
    known = (
        forecasts.dropna(subset=["y", "y_hat", "base"])
        if {"y", "y_hat", "base"} <= set(forecasts)
        else forecasts.head(0)
    )
    if known.empty:
        return say.claim(
            "No forecast has been sealed in this span yet: everything above was forecast in the walk-forward. Sealed "
            "forecasts come from the running service."
        )
    ours, theirs = (np.abs(np.log(known[name] / known["y"])).mean() for name in ("y_hat", "base"))
    return say.claim(
        "{rows} were sealed before their candles closed; their error is {ratio} of that of “no change”.",
        rows=say.count(len(known), "forecast"),
        ratio=say.percent(ours / theirs, 2),
    )
