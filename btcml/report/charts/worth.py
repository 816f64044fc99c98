"""Exhibits of the last chapter, second part: how sure the forecasts are and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.metrics import reliability
from btcml.forecast.metrics.point import r2
from btcml.market.simulate import attainable_r2
from btcml.report import claims as say
from btcml.report.charts.drawing import draw_dots
from btcml.report.figure import MUTED, SERIES, Chart, canvas
from btcml.report.scores import coverage, expert_tests
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    from btcml.report.claims import Claim, Quantity
    from btcml.report.scores import Scores

__all__ = ["coverage_by_third", "direction", "experts", "fees", "signs", "truth"]

_LEVEL, _NEAR = 0.9, 0.03
_FEE = 20.0  # of a round trip: ten to enter and ten to leave are usual
_MOST = 0.8
_ONCE, _STRONGEST, _EVERY = "at once", "top", "sign"


def signs(scores: Scores) -> Claim:
    """How often the sign of the move was right: of all, of the boldest forecasts, and by size of move."""
    best = scores.best
    return say.claim(
        "The sign is right for {all} of the candles ({low} to {high}), and for {top} of the tenth with the boldest "
        "forecasts. Counted by the size of the move it is {weighted}: that is the figure that could be worth money.",
        all=say.percent(best["direction"]),
        low=say.percent(best["direction_low"]),
        high=say.percent(best["direction_high"]),
        top=say.percent(best["top_direction"]),
        weighted=say.percent(best["wda"]),
    )


def direction(scores: Scores) -> Chart | Claim:
    """Whether “sixty per cent up” comes true six times in ten."""
    bins = reliability(scores.of_best)
    if bins.empty:
        return say.claim("No model gives a probability of a rise here.")
    figure, axes = canvas(3.0)
    said, seen = 100 * bins["probability"], 100 * bins["frequency"]
    axes.plot([said.min(), said.max()], [said.min(), said.max()], color=MUTED, linestyle="--", label="what is said")
    axes.vlines(said, 100 * bins["low"], 100 * bins["high"], color=SERIES[0], linewidth=2)
    axes.plot(said, seen, "o", color=SERIES[0], label="what came")
    axes.set(xlabel="said probability of a rise, %", ylabel="candles that rose, %")
    axes.legend()
    inside = int(bins["probability"].between(bins["low"], bins["high"]).sum())
    says = say.claim(
        "When {low} to {high} is said for a rise, the market agrees: {inside} of {bins} lie on the line within chance.",
        holds=inside >= _MOST * len(bins),
        otherwise="The said probabilities, {low} to {high}, do not come true well: only {inside} of {bins} lie on the "
        "line within chance.",
        low=say.percent(bins["probability"].min(), 0),
        high=say.percent(bins["probability"].max(), 0),
        inside=say.count(inside),
        bins=say.count(len(bins), "group"),
    )
    alt = "Share of rises against the said probability, with intervals, along a diagonal line."
    return Chart("direction-calibration", figure, bins, says, alt)


def coverage_by_third(scores: Scores) -> Chart | Claim:
    """Whether intervals keep their promise in calm and in storm."""
    held = coverage(scores.result)
    if held.empty:
        return say.claim("No intervals are given here.")
    figure, axes = canvas(2.6, bottom=0.4)
    draw_dots(axes, held, "held", "low", "high")
    axes.axhline(100 * _LEVEL, color=SERIES[1], linewidth=1.2, linestyle="--", label="promised")
    axes.set_xticks(range(len(held)), list(held["group"]))
    axes.set_ylabel("outcomes inside, %")
    axes.legend(loc="upper center")
    worst = held.iloc[int((held["held"] - _LEVEL).abs().argmax())]
    miss = abs(float(worst["held"]) - _LEVEL)
    says = say.claim(
        "Intervals that promise {level} hold {all}, and nowhere miss the promise by more than {miss}.",
        holds=miss < _NEAR,
        otherwise="Intervals that promise {level} hold {all}; where they are worst ({where}) they miss by {miss}.",
        level=say.percent(_LEVEL, 0),
        all=say.percent(held["held"].iloc[0]),
        where=say.word(str(worst["group"])),
        miss=say.number(100 * miss, 1, "points"),
    )
    alt = "Share of outcomes inside the interval, for all candles and by third of volatility, beside the promise."
    return Chart("coverage", figure, held, says, alt)


def fees(scores: Scores) -> Chart | Claim:
    """What is left of a trade at each fee, by what is traded and when."""
    trades = scores.trades.dropna(subset=["net_bp"])
    if not np.isfinite(scores.gain.bp):
        return say.claim("No forecast stands out from the others, so that nothing would be traded.")
    late = next((entry for entry in trades["entry"].unique() if entry != _ONCE), _ONCE)
    figure, axes = canvas(2.9)
    lines = {
        (_STRONGEST, _ONCE): "strongest tenth, at once",
        (_STRONGEST, late): f"strongest tenth, {late}",
        (_EVERY, _ONCE): "every forecast, at once",
    }
    styles = zip(SERIES, ("o", "v", "s"), ("-", "-", ":"), lines.items(), strict=False)
    for color, marker, line, ((rule, entry), label) in styles:
        part = trades[(trades["rule"] == rule) & (trades["entry"] == entry)]
        axes.plot(part["cost_bp"], part["net_bp"], marker=marker, linestyle=line, color=color, label=label)
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--")
    axes.set(xlabel="fee of a round trip, bp", ylabel="left of a round trip, bp")
    axes.legend()
    alt = "Lines of what is left of a round trip as the fee grows, falling from left to right."
    return Chart("fees", figure, trades, _left(scores), alt)


def _left(scores: Scores) -> Claim:
    """What a trade leaves, where that can be told from luck at all."""
    gain = scores.gain
    if not gain.proven:
        return say.claim(
            "What a round trip on the strongest forecasts earns before fees, {fee}, cannot be told from luck ({low} to "
            "{high}).",
            fee=say.bp(gain.bp, 1),
            low=say.bp(gain.low, 1),
            high=say.bp(gain.high, 1),
        )
    return say.claim(
        "Skill is not money: at a fee of {fee} a round trip on the strongest forecasts has nothing left, and to enter "
        "and to leave usually costs {usual}.",
        holds=gain.bp < _FEE,
        otherwise="Nothing is left of a round trip only at a fee of {fee}, above the usual {usual}; whether orders "
        "would be filled at these prices is not known.",
        fee=say.bp(gain.bp, 1),
        usual=say.bp(_FEE, 0),
    )


def experts(scores: Scores) -> Table:
    """Tests that allow for many models at once, for those who ask."""
    says = say.claim(
        "These tests allow for the chance that one of many looks good by luck; {tries} counted.",
        tries=say.count(scores.trials, "try", "tries"),
    )
    columns: Columns = {
        "test": ("Test", str),
        "asks": ("It asks", str),
        "value": ("Value", _fine),
        "answer": ("Answer", str),
    }
    return Table("experts", expert_tests(scores), says, columns)


def truth(scores: Scores, market: str, interval: str) -> Claim:
    """How much of what could be found was found, where that is known."""
    found = r2(scores.of_best)
    if market != "simulated":
        return say.claim(
            "Judged by squared errors, which the wildest candles rule, {found} of the variance of the next return is "
            "forecast; how much could have been nobody knows.",
            holds=found > 0,
            otherwise="Judged by squared errors, which the wildest candles rule, nothing is forecast ({found} of the "
            "variance): the typical candle can be foretold a little, the wild ones cannot.",
            found=say.percent(found, 2),
        )
    known = attainable_r2(interval)
    more = ": more than there is to find, so that luck is in it." if found > known else "."
    return say.claim(
        "This market was made by a program, so the truth is known: {known} of the variance of the next return can be "
        "forecast from the candles, and {found} was found" + more,
        holds=found > 0,
        otherwise="This market was made by a program, so the truth is known: {known} of the variance of the next "
        "return can be forecast from the candles. None of it was found in a past this short.",
        known=say.percent(known, 2),
        found=say.percent(found, 2),
    )


def _fine(value: float) -> Quantity:
    return say.number(value, 3)
