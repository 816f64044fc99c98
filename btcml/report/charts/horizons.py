"""Horizons beyond the next candle: the same test with one model, its skill by horizon, fan and calibration."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from btcml.candles import interval_delta
from btcml.forecast.dataset import ticks
from btcml.forecast.distribution import COVERAGES, distribution_scores
from btcml.forecast.experiment import Experiment, Result
from btcml.forecast.metrics import losses
from btcml.forecast.models import RANGE
from btcml.forecast.statistics import skill_interval
from btcml.forecast.verdict import ALPHA
from btcml.forecast.walk import distribution_of
from btcml.report import claims as say
from btcml.report.figures import INK, MUTED, SERIES, Chart, candle_bars, canvas, panels, zero_line

HORIZONS = (1, 3, 12, 48)
"""Candles ahead."""

_MODEL, _STRIDE, _FEW_ROWS = "lightgbm_mean", 12, 100_000
_FEWEST = 100  # outcomes that do not overlap, without which the span is too short for a horizon
_NEAR = 0.03
_BEFORE = pd.Timedelta(days=1)
_MOST_BEFORE = 96
_BANDS, _BINS = (0.5, 0.9), 10


def run_longer(
    experiment: Experiment,
    candles: pd.DataFrame,
    trials: pd.DataFrame,
    research: pd.DataFrame,
    horizons: tuple[int, ...] = HORIZONS,
) -> Result | None:
    """Run an experiment at the horizons beyond the next candle that its test suffices for; None: for none.

    Parameters
    ----------
    experiment
        That of the next candle: test, features and folds are its own.
    candles
        Candle frame.
    trials, research
        Earlier tries, as `Experiment.looks` takes them.
    horizons
        Candles ahead that are wanted.
    """
    start, end = experiment.test_span(candles)
    longest = (end - start) // interval_delta(experiment.interval) // _FEWEST
    fit = tuple(horizon for horizon in sorted(set(horizons)) if 1 < horizon <= longest)
    if not fit:
        return None
    stride = _STRIDE if len(candles) > _FEW_ROWS else 1
    purge = max(experiment.purge, fit[-1])
    longer = experiment.replace(horizons=fit, models=(_MODEL,), stride=stride, purge=purge)
    looks = longer.looks(candles, trials, research)
    return longer.run(candles, looks=looks, range_models=(RANGE,), backend="threading")


# ---- skill by horizon ----
def design(longer: Result | None) -> say.Claim:
    """How the longer horizons were tested, and in what that is less than the test of the next candle."""
    if longer is None:
        return say.claim("The span is too short to test horizons beyond the next candle.")
    stride = longer.experiment.stride
    apart = " To save time it is fitted on rows one horizon apart, {stride} at most; the service fits on all rows."
    return say.claim(
        "Beyond the next candle the close is forecast {horizons} candles ahead, over the same folds, with the same "
        "features and one model, {model}; each horizon has a verdict of its own." + apart * (stride > 1),
        horizons=_listed(longer.experiment.horizons),
        model=say.model(longer.experiment.models[0]),
        stride=say.count(stride, "candle"),
    )


def _listed(horizons: tuple[int, ...]) -> say.Quantity:
    *some, last = [str(horizon) for horizon in horizons]
    if not some:
        return say.word(last)
    return say.claim("{some} and {last}", some=say.word(", ".join(some)), last=say.word(last)).as_word()


def skill_by_horizon(result: Result, longer: Result | None) -> Chart | say.Claim:
    """Skill at each horizon with its interval, at once and one candle late."""
    if longer is None:
        return say.claim("There is one horizon here, the next candle.")
    table = pd.DataFrame([_horizon_row(one) for one in (result, *longer.family)])
    figure, axes = canvas(3.0)
    place = np.arange(len(table))
    for name, low, high, color, side, marker, label in (
        ("skill", "low", "high", SERIES[0], -0.06, "o", "used at once"),
        ("late", "late_low", "late_high", SERIES[1], 0.06, "s", "used one candle late"),
    ):
        axes.vlines(place + side, 100 * table[low], 100 * table[high], color=color, linewidth=2)
        axes.plot(place + side, 100 * table[name], marker, color=color, label=label)
    zero_line(axes, "no change")
    axes.set_xticks(place, [f"{horizon}" for horizon in table["horizon"]])
    axes.set(xlabel="candles ahead", ylabel="skill, %", xlim=(-0.6, len(table) - 0.4))
    alt = "Skill with its interval at each horizon, used at once and one candle late; the dashed line is no change."
    return Chart("skill-by-horizon", table, _skill_by_horizon_claim, figure, alt)


def _horizon_row(result: Result) -> dict[str, Any]:
    """Skill of the leader at one horizon, its forecasts used at once and one candle late."""
    own, at_once = result.verdict.table.set_index("model").loc[result.leader], result.of_leader
    row = {"horizon": result.horizon, "model": result.leader, "beats": bool(own["beats"]), "p": own["p_holm"]}
    move = (at_once["y_hat"] / at_once["base"]).shift(1).fillna(1.0)
    late = at_once.assign(y_hat=at_once["base"] * move)
    for names, frame in ((("skill", "low", "high"), at_once), (("late", "late_low", "late_high"), late)):
        ours, theirs = losses(frame)
        row |= dict(zip(names, (1 - ours.mean() / theirs.mean(), *skill_interval(ours, theirs)), strict=True))
    return row


def _skill_by_horizon_claim(table: pd.DataFrame) -> say.Claim:
    proven, late = table[table["beats"]], table[table["late_low"] > 0]
    skills = proven["skill"] if len(proven) else pd.Series([0.0])
    begin = "The close is forecast better than “no change” by the rule at {some} of {all}, {where} ahead: "
    begin += "the skill is {first} to {last}" if len(proven) > 1 else "the skill is {first}"
    none = "At none of {all} is the close forecast better than “no change” by the rule"
    lasts = "; used one candle late the skill is above chance, taken alone, at {late} of {tested}."
    return say.cases(
        (proven.empty and late.empty, none + "."),
        (proven.empty, none + lasts),
        (late.empty, begin + "; used one candle late nothing of it is beyond chance."),
        (True, begin + lasts),
        some=say.count(len(proven)),
        all=say.count(len(table), "horizon"),
        where=_listed(tuple(proven["horizon"])) if len(proven) else say.word("none"),
        first=say.skill(skills.min()),
        last=say.skill(skills.max()),
        late=say.count(len(late)),
        tested=say.count(len(table)),
    )


# ---- the fan ----
def fan(longer: Result | None, candles: pd.DataFrame, symbol: str) -> Chart | say.Claim:
    """The last day of candles, the newest fan whose outcomes are known, and the candles that came."""
    table = pd.DataFrame() if longer is None else _fan_table(longer)
    if longer is None or table.empty:
        return say.claim("There are too few earlier forecasts for a distribution of the next closes.")
    step, made = interval_delta(longer.experiment.interval), table["made"].iloc[0]
    before = max(1, min(_MOST_BEFORE, _BEFORE // step))
    shown = candles[candles["open_time"].between(made - before * step, table["open_time"].iloc[-1])]
    shown = shown.reset_index(drop=True)
    figure, axes = canvas(3.8)
    candle_bars(axes, shown, say.currency(symbol))
    _draw_fan(axes, table, float(np.searchsorted(shown["open_time"], made)) - 1)
    alt = "Candles of the last day, then, from the dashed line on, bands that should hold half and nine of ten of the "
    alt += "closes, and what came."
    conclude = partial(_fan_claim, unit=say.currency(symbol), name=longer.experiment.models[0])
    return Chart("fan", table, conclude, figure, alt)


def _fan_table(longer: Result) -> pd.DataFrame:
    """The newest distributions whose outcomes are all known, and what came; empty without enough earlier errors."""
    last, step = longer.family[-1], interval_delta(longer.experiment.interval)
    made = last.of_leader["open_time"].iloc[-1] - (last.horizon - 1) * step
    rows = [_fan_row(one, made, made + (one.horizon - 1) * step) for one in longer.family]
    return pd.DataFrame([row for row in rows if row])


def _fan_row(result: Result, made: pd.Timestamp, wanted: pd.Timestamp) -> dict[str, Any]:
    """Bands of the close of one candle; empty where it or its distribution is not known."""
    raw = result.raw
    if raw is None or raw.volatility is None:
        return {}
    close = raw.close
    found = np.flatnonzero(close.data.target_time[close.rows] == ticks(wanted))
    if not len(found):
        return {}
    spread = distribution_of(raw, raw.volatility, result.experiment.models[0], int(found[0]))
    if spread is None:
        return {}
    row = {"horizon": result.horizon, "made": made, "open_time": wanted, "base": spread.base}
    row |= {"y": float(close.data.level[close.rows[found[0]]]), "median": spread.quantile(0.5)}
    for level in _BANDS:
        names = f"low_{100 * level:.0f}", f"high_{100 * level:.0f}"
        row |= dict(zip(names, spread.interval(level), strict=True))
    return row


def _draw_fan(axes: Axes, table: pd.DataFrame, origin: float) -> None:
    """Bands between the horizons, which widen with the square root of the time."""
    steps = np.linspace(0, table["horizon"].iloc[-1], 60)
    known = np.sqrt([0, *table["horizon"]])

    def _path(name: str) -> np.ndarray:
        return np.interp(np.sqrt(steps), known, [table["base"].iloc[0], *table[name]])

    for level, alpha in (("90", 0.22), ("50", 0.34)):
        edges = _path(f"low_{level}"), _path(f"high_{level}")
        label = str(say.claim("{level} % band", level=say.count(int(level))))
        axes.fill_between(origin + steps, *edges, color=SERIES[0], alpha=alpha, linewidth=0, label=label)
    axes.plot(origin + steps, _path("median"), color=INK, linewidth=1.2, label="median")
    axes.axvline(origin + 0.5, color=MUTED, linewidth=1, linestyle="--")


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
    parts = [part for one in (longer.family if longer else []) for part in _calibration(one)]
    if not parts:
        return say.claim("There are too few earlier forecasts to judge a distribution by.")
    table = pd.concat(parts, ignore_index=True)
    figure, (left, right) = panels(1, 2, 2.6)
    left.axhline(1, color=MUTED, linewidth=1.2, linestyle="--")
    right.plot([50, 95], [50, 95], color=MUTED, linewidth=1.2, linestyle="--")
    for color, (horizon, part) in zip(SERIES, table.groupby("horizon"), strict=False):
        pit, band = (part[part["what"] == what] for what in ("pit", "band"))
        ahead = say.claim("{horizon} ahead", horizon=say.count(int(str(horizon))))
        left.step(100 * pit["level"] - 5, pit["share"], where="mid", color=color)
        right.plot(100 * band["level"], 100 * band["share"], "o", color=color, markersize=4, label=str(ahead))
    reach = max(0.2, 1.1 * float((table["share"][table["what"] == "pit"] - 1).abs().max()))
    left.set(xlabel="quantile in which the outcome fell, %", ylabel="share, over the ideal")
    left.set_ylim(1 - reach, 1 + reach)
    right.set(xlabel="what the band should hold, %", ylabel="outcomes inside, %")
    alt = "How often outcomes fell into each tenth of their distribution, and how many a band held; dashed: the ideal."
    return Chart("distributions", table, _distributions_claim, figure, alt)


def _calibration(result: Result) -> list[pd.DataFrame]:
    """Share of the outcomes in each tenth of their distribution, over the ideal, and in its central bands."""
    scores = distribution_scores(result.of_leader, result.horizon)
    if not scores:
        return []
    pit = result.of_leader["pit"].dropna().to_numpy()
    shares = np.histogram(pit, _BINS, (0, 1))[0] / len(pit) * _BINS
    bins = {"what": "pit", "level": np.arange(1, _BINS + 1) / _BINS, "share": shares}
    bands = {"what": "band", "level": COVERAGES, "share": [scores[f"coverage_{100 * c:.0f}"] for c in COVERAGES]}
    return [pd.DataFrame(part).assign(horizon=result.horizon, p=scores["pit_p"]) for part in (bins, bands)]


def _distributions_claim(table: pd.DataFrame) -> say.Claim:
    bands, p = table[table["what"] == "band"], table.groupby("horizon")["p"].first()
    worst = bands.iloc[int((bands["share"] - bands["level"]).abs().argmax())]
    miss = abs(float(worst["share"]) - float(worst["level"]))
    even = " Outcomes fall evenly into the quantiles as far as {tested} can tell (smallest p-value: {p})."
    uneven = " Outcomes do not fall evenly into the quantiles at {uneven} of {all} (smallest p-value: {p})."
    end = uneven if p.min() < ALPHA else even
    begin = "Bands that should hold {low} to {high} of the outcomes "
    return say.cases(
        (miss < _NEAR, begin + "do so, within {miss} at every horizon." + end),
        (True, begin + "miss by up to {miss} ({worst} ahead)." + end),
        low=say.percent(bands["level"].min(), 0),
        high=say.percent(bands["level"].max(), 0),
        miss=say.number(100 * miss, 1, "percentage points", ceiling=miss < _NEAR),
        worst=say.count(int(worst["horizon"]), "candle"),
        tested=say.count(len(p), "test"),
        uneven=say.count(int((p < ALPHA).sum())),
        all=say.count(len(p), "horizon"),
        p=say.probability(float(p.min())),
    )
