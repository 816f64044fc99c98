"""Exhibits of the last chapter, second part: how sure the forecasts are and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btcml.forecast.metrics import reliability
from btcml.forecast.metrics.point import r2
from btcml.market.simulate import attainable_r2
from btcml.report import claims as say
from btcml.report.charts.drawing import draw_dots
from btcml.report.figure import MUTED, SERIES, Chart, canvas
from btcml.report.scores import coverage, expert_tests
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    import pandas as pd

    from btcml.report.claims import Claim, Quantity
    from btcml.report.scores import Scores

__all__ = ["coverage_by_third", "direction", "experts", "fees", "sealed", "truth"]

_LEVEL, _NEAR = 0.9, 0.03
_FEE = 10.0
_ONCE, _STRONGEST, _EVERY = "at once", "top", "sign"


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
        holds=2 * inside >= len(bins),
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
    held = coverage(scores.of_best)
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


def fees(scores: Scores) -> Chart:
    """What is left of a trade at each fee, by what is traded and when."""
    trades = scores.trades.dropna(subset=["net_bp"])
    late = next((entry for entry in trades["entry"].unique() if entry != _ONCE), _ONCE)
    figure, axes = canvas(2.9)
    lines = {
        (_STRONGEST, _ONCE): "strongest tenth, at once",
        (_STRONGEST, late): f"strongest tenth, {late}",
        (_EVERY, _ONCE): "every forecast, at once",
    }
    for color, ((rule, entry), label) in zip(SERIES, lines.items(), strict=False):
        part = trades[(trades["rule"] == rule) & (trades["entry"] == entry)]
        axes.plot(part["cost_bp"], part["net_bp"], marker="o", color=color, label=label)
    axes.axhline(0, color=MUTED, linewidth=1.2, linestyle="--")
    axes.set(xlabel="fee of a round trip, bp", ylabel="left of a trade, bp")
    axes.legend()
    fee = scores.break_even_bp
    says = say.claim(
        "Skill is not money: at a fee of {fee} a trade on the strongest forecasts has nothing left, and a usual fee is "
        "{usual}.",
        holds=fee < _FEE,
        otherwise="Nothing is left of a trade only at a fee of {fee}, above the usual {usual}; whether orders would be "
        "filled at these prices is not known.",
        fee=say.bp(fee, 1),
        usual=say.bp(_FEE, 0),
    )
    return Chart("fees", figure, trades, says, "Lines of what is left of a trade as the fee grows, crossing zero.")


def experts(scores: Scores) -> Table:
    """Tests that allow for many models at once, for those who ask."""
    says = say.claim(
        "{tries} counted; these tests allow for the chance that one of many looks good by luck.",
        tries=say.count(scores.trials, "trial"),
    )
    columns: Columns = {"test": ("Test", str), "asks": ("It asks", str), "value": ("Answer", _fine)}
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
    return say.claim(
        "This market was made by a program, so the truth is known: {known} of the variance of the next return can be "
        "forecast from the candles, and {found} was found.",
        holds=found > 0,
        otherwise="This market was made by a program, so the truth is known: {known} of the variance of the next "
        "return can be forecast from the candles. None of it was found in a past this short.",
        known=say.percent(known, 2),
        found=say.percent(found, 2),
    )


def sealed(forecasts: pd.DataFrame) -> Claim:
    """The champion's forecasts that were stored before their candles closed, beside no change."""
    needed = ["error_bp", "persistence_error_bp"]
    known = forecasts.dropna(subset=needed) if set(needed) <= set(forecasts) else forecasts.head(0)
    known = known[known["role"] == "champion"] if "role" in known else known
    if known.empty:
        return say.claim(
            "No forecast has been sealed in this span yet: everything above was forecast in the walk-forward. Sealed "
            "forecasts come from the running service."
        )
    ours, theirs = (float(known[name].mean()) for name in needed)
    return say.claim(
        "{rows} were sealed before their candles closed; they missed by {ours} on average, less than the {theirs} of "
        "“no change”.",
        holds=ours < theirs,
        otherwise="{rows} were sealed before their candles closed; they missed by {ours} on average, no better than "
        "the {theirs} of “no change”.",
        rows=say.count(len(known), "forecast"),
        ours=say.bp(ours, 3),
        theirs=say.bp(theirs, 3),
    )


def _fine(value: float) -> Quantity:
    return say.number(value, 3)
