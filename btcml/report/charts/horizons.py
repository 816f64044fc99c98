"""What is knowable, and how far ahead: the three answers of the first page, skill by horizon, fan and calibration."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from btcml.candles import interval_delta
from btcml.forecast.experiment import Result
from btcml.forecast.metrics import PERSISTENCE, evaluate
from btcml.forecast.verdict import ALPHA
from btcml.report import claims as say
from btcml.report import horizons as work
from btcml.report.figures import INK, MUTED, SERIES, Chart, candle_bars, canvas, panels, zero_line

_LITTLE = 0.05
_WELL, _MUCH = 0.2, 0.5
_NEAR = 0.03
_BEFORE = pd.Timedelta(days=1)
_MOST_BEFORE = 96


# ---- the three answers ----
def answers(result: Result) -> tuple[say.Card, ...]:
    """Where the next candle will go, how far, and whether that is money; each answer with its reason."""
    return _where(result), _how_far(result), _money(result)


def _where(result: Result) -> say.Card:
    best, wins = result.figures[result.leader], result.verdict.champion != PERSISTENCE
    note = say.cases(
        (wins, "{model} takes {skill} off the error of “no change”, with the right sign for {right} of the candles"),
        (
            bool(result.verdict.table["beats"].any()),
            "no model that a training fits beats “no change” by the rule; {model} has a skill of {skill}",
        ),
        (True, "no model beats “no change” by the rule; the nearest, {model}, has a skill of {skill}"),
        model=say.model(result.leader),
        skill=say.percent(best["skill"], 2, beside=0.0),
        right=say.percent(best["direction"]),
    )
    answer = ("hardly" if best["skill"] < _LITTLE else "in part") if wins else "not known"
    return say.Card("Where will it go?", say.word(answer), str(note))


def _how_far(result: Result) -> say.Card:
    found = float(evaluate(result.ranges, ["range_r2"])["range_r2"].max())
    note = say.claim(
        "{found} of the variance of the range of the next candle is forecast",
        holds=found > 0,
        otherwise="no model forecasts the range of the next candle better than its mean",
        found=say.percent(max(found, 0.0), 0),
    )
    words = (("very well", _MUCH), ("well", _WELL), ("a little", 0.0))
    answer = next((word for word, least in words if found > least), "not known")
    return say.Card("How far?", say.word(answer), str(note))


def _money(result: Result) -> say.Card:
    gain, wins = result.gain, result.verdict.champion != PERSISTENCE
    if not np.isfinite(gain.bp):
        return say.Card("Is it money?", say.word("no"), "no forecast stands out from the others: nothing is traded")
    proven = gain.proven and wins
    pays = proven and gain.bp >= say.USUAL_FEE_BP
    trip = "the strongest tenth of the forecasts earns {bp} a round trip before fees"
    note = say.cases(
        (pays, trip + ", and a trade usually costs {usual}; whether orders would be filled is not tested"),
        (proven, trip + ", and a trade usually costs {usual}"),
        (gain.bp > 0, trip + ", which may be luck, and a trade usually costs {usual}"),
        (True, trip),
        bp=say.bp(gain.bp, 1),
        usual=say.bp(say.USUAL_FEE_BP, 0),
    )
    return say.Card("Is it money?", say.word("perhaps" if pays else "no"), str(note))


# ---- skill by horizon ----
def design(longer: Result | None) -> say.Claim:
    """How the longer horizons were tested, and in what that is less than the test of the next candle."""
    if longer is None:
        return say.claim("The span is too short to test horizons beyond the next candle.")
    stride = longer.experiment.stride
    apart = " It is fitted on rows that are one horizon apart, {stride} at most: closer outcomes overlap."
    return say.claim(
        "Beyond the next candle the close is forecast {horizons} candles ahead, over the same folds, with the same "
        "features and one model, {model}; these horizons have a verdict of their own." + apart * (stride > 1),
        horizons=_listed(longer.experiment.horizons),
        model=say.model(longer.experiment.models[0]),
        stride=say.count(stride, "candle"),
    )


def _listed(horizons: tuple[int, ...]) -> say.Quantity:
    *some, last = [str(horizon) for horizon in horizons]
    return say.word(f"{', '.join(some)} and {last}" if some else last)


def skill_by_horizon(result: Result, longer: Result | None) -> Chart | say.Claim:
    """Skill at each horizon with its interval, at once and one candle late."""
    if longer is None:
        return say.claim("There is one horizon here, the next candle.")
    table = work.skill_by_horizon(result, longer)
    figure, axes = canvas(3.0)
    place = np.arange(len(table))
    lines = (
        ("skill", "low", "high", SERIES[0], -0.06, "o", "used at once"),
        ("late", "late_low", "late_high", SERIES[1], 0.06, "s", "used one candle late"),
    )
    for name, low, high, color, side, marker, label in lines:
        axes.vlines(place + side, 100 * table[low], 100 * table[high], color=color, linewidth=2)
        axes.plot(place + side, 100 * table[name], marker, color=color, label=label)
    zero_line(axes, "no change")
    axes.set_xticks(place, [f"{horizon}" for horizon in table["horizon"]])
    axes.set(xlabel="candles ahead", ylabel="skill, %", xlim=(-0.6, len(table) - 0.4))
    alt = "Skill with its interval at each horizon, used at once and one candle late; the dashed line is no change."
    return Chart("skill-by-horizon", table, _skill_by_horizon_claim, figure, alt)


def _skill_by_horizon_claim(table: pd.DataFrame) -> say.Claim:
    proven, late = table[table["beats"]], table[table["late_low"] > 0]
    skills = proven["skill"] if len(proven) else pd.Series([0.0])
    begin = "The close is forecast better than “no change” by the rule at {some} of {all}, {where} ahead: "
    begin += "the skill is {first} to {last}" if len(proven) > 1 else "the skill is {first}"
    none = "At none of {all} is the close forecast better than “no change” by the rule"
    lasts = "; used one candle late the skill is above chance, taken alone, at {late}."
    return say.cases(
        (proven.empty and late.empty, none + "."),
        (proven.empty, none + lasts),
        (late.empty, begin + "; used one candle late nothing of it is beyond chance."),
        (True, begin + lasts),
        some=say.count(len(proven)),
        all=say.count(len(table), "horizon"),
        where=_listed(tuple(proven["horizon"])) if len(proven) else say.word("none"),
        first=say.percent(skills.min(), 2, beside=0.0),
        last=say.percent(skills.max(), 2, beside=0.0),
        late=say.claim("{late} of {all}", late=say.count(len(late)), all=say.count(len(table))).as_word(),
    )


# ---- the fan ----
def fan(longer: Result | None, candles: pd.DataFrame, symbol: str) -> Chart | say.Claim:
    """The last day of candles, the newest fan whose outcomes are known, and the candles that came."""
    table = pd.DataFrame() if longer is None else work.fan(longer)
    if longer is None or table.empty:
        return say.claim("There are too few earlier forecasts for a distribution of the next closes.")
    step, made = interval_delta(longer.experiment.interval), table["made"].iloc[0]
    before = max(1, min(_MOST_BEFORE, _BEFORE // step))
    shown = candles[candles["open_time"].between(made - before * step, table["open_time"].iloc[-1])]
    shown = shown.reset_index(drop=True)
    figure, axes = canvas(3.8)
    candle_bars(axes, shown, say.currency(symbol))
    _draw_fan(axes, table, float(np.searchsorted(shown["open_time"], made)) - 1)
    alt = "Candles of the last day, then bands that should hold half and nine of ten of the closes, and what came."
    conclude = partial(_fan_claim, unit=say.currency(symbol), name=longer.experiment.models[0])
    return Chart("fan", table, conclude, figure, alt)


def _draw_fan(axes: Axes, table: pd.DataFrame, origin: float) -> None:
    """Bands between the horizons, which widen with the square root of the time."""
    steps = np.linspace(0, table["horizon"].iloc[-1], 60)
    known = np.sqrt([0, *table["horizon"]])

    def _path(name: str) -> np.ndarray:
        return np.interp(np.sqrt(steps), known, [table["base"].iloc[0], *table[name]])

    for level, alpha in (("90", 0.22), ("50", 0.34)):
        edges = _path(f"low_{level}"), _path(f"high_{level}")
        label = f"{level} % band"
        axes.fill_between(origin + steps, *edges, color=SERIES[0], alpha=alpha, linewidth=0, label=label)
    axes.plot(origin + steps, _path("median"), color=INK, linewidth=1.2, label="median")
    axes.axvline(origin + 0.5, color=MUTED, linewidth=1, linestyle="--", label="made here")


def _fan_claim(table: pd.DataFrame, unit: str, name: str) -> say.Claim:
    last = table.iloc[-1].to_dict()
    should = (
        "At {time} the close {ahead} later was forecast, with {model}, to lie between {low} and {high} nine times out "
        "of ten; it was {y}: "
    )
    inside = int(table["y"].between(table["low_90"], table["high_90"]).sum())
    return say.cases(
        (last["low_90"] <= last["y"] <= last["high_90"], should + "inside, as at {inside} of {all} of this fan."),
        (True, should + "outside; at {inside} of {all} of this fan it was inside."),
        model=say.model(name),
        time=say.minute(pd.Timestamp(last["made"])),
        ahead=say.count(last["horizon"], "candle"),
        low=say.price(last["low_90"], unit),
        high=say.price(last["high_90"], unit),
        y=say.price(last["y"], unit),
        inside=say.count(inside),
        all=say.count(len(table), "horizon"),
    )


# ---- calibration of the distributions ----
def distributions(longer: Result | None) -> Chart | say.Claim:
    """Probability integral transform and coverage of the bands, by horizon."""
    table = pd.DataFrame() if longer is None else work.calibration_by_horizon(longer)
    if table.empty:
        return say.claim("There are too few earlier forecasts to judge a distribution by.")
    figure, (left, right) = panels(1, 2, 2.6)
    left.axhline(1, color=MUTED, linewidth=1.2, linestyle="--")
    right.plot([50, 95], [50, 95], color=MUTED, linewidth=1.2, linestyle="--")
    for color, (horizon, part) in zip(SERIES, table.groupby("horizon"), strict=False):
        pit, band = (part[part["what"] == what] for what in ("pit", "band"))
        left.step(100 * pit["level"] - 5, pit["share"], where="mid", color=color, label=f"{horizon} ahead")
        right.plot(100 * band["level"], 100 * band["share"], "o", color=color, markersize=4)
    reach = max(0.2, 1.1 * float((table["share"][table["what"] == "pit"] - 1).abs().max()))
    left.set(xlabel="quantile in which the outcome fell, %", ylabel="share, over the ideal")
    left.set_ylim(1 - reach, 1 + reach)
    right.set(xlabel="what the band should hold, %", ylabel="outcomes inside, %")
    alt = "How often outcomes fell into each tenth of their distribution, and how many a band held; dashed: the ideal."
    return Chart("distributions", table, _distributions_claim, figure, alt)


def _distributions_claim(table: pd.DataFrame) -> say.Claim:
    bands, p = table[table["what"] == "band"], table.groupby("horizon")["p"].first()
    worst = bands.iloc[int((bands["share"] - bands["level"]).abs().argmax())]
    miss = abs(float(worst["share"]) - float(worst["level"]))
    even = " The quantiles are uniform as far as {tested} can tell ({p} at least)."
    uneven = " The quantiles are not uniform at {uneven} of {all} (the smallest p-value: {p})."
    end = uneven if p.min() < ALPHA else even
    begin = "Bands that should hold {low} to {high} of the outcomes "
    return say.cases(
        (miss < _NEAR, begin + "do so, within {miss} at every horizon." + end),
        (True, begin + "miss by up to {miss} ({worst} ahead)." + end),
        low=say.percent(bands["level"].min(), 0),
        high=say.percent(bands["level"].max(), 0),
        miss=say.number(100 * miss, 1, "points", ceiling=True),
        worst=say.count(int(worst["horizon"]), "candle"),
        tested=say.count(len(p), "test"),
        uneven=say.count(int((p < ALPHA).sum())),
        all=say.count(len(p), "horizon"),
        p=say.pvalue(float(p.min())),
    )
