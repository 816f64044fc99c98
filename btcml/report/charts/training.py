"""Charts and tables of the fourth chapter: how the models learn and which features they use."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from btcml.candles import interval_delta
from btcml.forecast.experiment import Experiment, Result
from btcml.forecast.models import Sample
from btcml.forecast.models.statistical import AutoRegression
from btcml.forecast.verdict import ALPHA
from btcml.report import claims as say
from btcml.report import study as work
from btcml.report.figures import INK, SERIES, Chart, Columns, Drawing, Table, canvas, date_axis, named_rows, zero_line
from btcml.report.language import told
from btcml.report.study import Study

_ILL_POSED = 1e6

_DRAWN = 24
"""Features at most in the chart of importance; its CSV has all."""


def headline(result: Result) -> say.Claim:
    """How much was forecast, and by how many models."""
    return say.claim(
        "{models} and “no change” forecast {candles} that none of them had seen, each model fitted on the past alone.",
        models=say.count(result.forecasts["model"].nunique() - 1, "model"),
        candles=say.count(result.forecasts["open_time"].nunique(), "candle"),
    )


def question(experiment: Experiment, candles: pd.DataFrame) -> say.Claim:
    """Whether this is the published experiment, or in what it differs."""
    return say.claim("This is {label}.", label=say.word(told(experiment.label(candles))))


def reason(result: Result) -> say.Claim:
    """Which model is served, and why."""
    return say.Claim(told(result.verdict.reason))


def plan(folds: pd.DataFrame, experiment: Experiment) -> Chart:
    """The folds of the walk-forward (`btcml.forecast.experiment.Experiment.folds`) on a time line."""
    figure, axes = canvas(0.8 + 0.34 * len(folds))
    for place, fold in enumerate(folds.to_dict("records")):
        axes.barh(place, fold["cutoff"] - fold["train_start"], left=fold["train_start"], height=0.5, color=SERIES[6])
        color = SERIES[0] if fold["part"] == "test" else SERIES[5]
        axes.barh(place, fold["test_end"] - fold["test_start"], left=fold["test_start"], height=0.5, color=color)
    axes.set_yticks(folds.index, [str(say.claim("fold {place}", place=say.count(place + 1))) for place in folds.index])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    date_axis(axes)
    later = "testing or burn-in" if (folds["part"] != "test").any() else "testing"
    alt = f"A bar for each fold on a time line: a grey part of training, then a blue part of {later}."
    return Chart("plan", folds, partial(_plan_claim, step=interval_delta(experiment.interval)), figure, alt)


def _plan_claim(folds: pd.DataFrame, step: pd.Timedelta) -> say.Claim:
    burn_in = " The light blue stretch is the burn-in from which intervals learn, and is not judged."
    gap = folds["test_start"].iloc[-1] - folds["cutoff"].iloc[-1] - step  # the cutoff is itself a candle of the past
    return say.claim(
        "Models are fitted on the past (grey) and forecast what comes next (blue), fold after fold; {candles} ({gap}) "
        "between the two {belong} to neither." + burn_in * bool((folds["part"] == "burn-in").any()),
        candles=say.count(gap // step, "candle"),
        gap=say.span(gap),
        belong=say.verb(gap // step, "belongs", "belong"),
    )


def order_by_aic(autoregression: AutoRegression) -> say.Claim:
    """How many past returns the autoregression uses."""
    aic, order = autoregression.aic, len(autoregression.weights)
    rows = int(autoregression.summary["observations"])
    return say.claim(
        "Akaike's criterion weighs fit against the number of coefficients; on the newest {rows} of the last fold's "
        "training it picks {order}.",
        holds=order == int(aic.index[int(aic.argmin())]),
        otherwise="Akaike's criterion prefers no past return at all on the newest {rows} of the last fold's training; "
        "the model keeps {order}.",
        rows=say.count(rows, "return"),
        order=say.count(order, "past return"),
    )


def coefficients(autoregression: AutoRegression) -> Table:
    """The coefficients of the autoregression."""
    table = autoregression.coefficients.query("lag > 0").reset_index(drop=True)
    columns: Columns = {
        "lag": "Candles back",
        "coefficient": ("Weight", say.digits(4)),
        "error": ("Standard error", say.digits(4)),
        "p": ("p-value", say.probability),
    }
    return Table("coefficients", table, _coefficients_claim, columns, folded=True)


def _coefficients_claim(table: pd.DataFrame) -> say.Claim:
    largest = table.iloc[int(table["coefficient"].abs().argmax())]
    sure, newest, falls = largest["p"] < ALPHA, largest["lag"] == 1, largest["coefficient"] < 0
    last = (
        "The last return " + ("alone counts" if len(table) == 1 else "counts most") + ", with weight {weight}: a rise "
    )
    return say.cases(
        (sure and newest and falls, last + "lowers the next forecast."),
        (sure and newest, last + "raises the next forecast."),
        (sure, "The largest weight is {weight}, on the return {lag} back."),
        (True, "No weight is large by more than chance: the largest is {weight}, on the return {lag} back ({p})."),
        weight=say.number(largest["coefficient"], 4),
        lag=say.count(largest["lag"], "candle"),
        p=say.pvalue(largest["p"]),
    )


def convergence(autoregression: AutoRegression, training: Sample) -> say.Claim:
    """Numerical quality of the fit: conditioning, solution, stability.

    Least squares has one solution in closed form, so that there is no search that could fail to
    converge; the equations must not be near-singular (condition number), and shocks die out where
    all roots of the lag polynomial lie outside the unit circle.
    """
    condition = float(np.linalg.cond(autoregression.regressors(training)))
    root = float(np.abs(autoregression.roots).min())
    return say.claim(
        "Least squares finds its {weights} in one step, so that no search can fail to converge; the equations are well "
        "conditioned (condition number {condition}), and shocks die out (the smallest root, {root}, lies outside the "
        "unit circle).",
        holds=condition < _ILL_POSED and root > 1,
        otherwise="Least squares finds its {weights} in one step, but they are not reliable: the condition number is "
        "{condition} and the smallest root {root}.",
        weights=say.count(len(autoregression.coefficients), "coefficient"),
        condition=say.number(condition, 1),
        root=say.number(root, 2),
    )


def residuals(autoregression: AutoRegression, study: Study) -> Table:
    """Residuals of the autoregression."""
    table = work.residual_tests(autoregression, study)

    def _conclude(found: pd.DataFrame) -> say.Claim:
        signed = not found["clean"].iloc[0]
        return say.claim(
            "The test of their size finds memory ({p}, one test): the autoregression does not model volatility, so "
            "intervals have a forecast of their own." + " Their values have memory too." * signed,
            holds=not bool(found["clean"].iloc[1]),
            otherwise="The size of the residuals has no memory beyond chance." + " Their values have memory." * signed,
            p=say.pvalue(found["p"].iloc[1]),
        )

    columns: Columns = {
        "test": "Test",
        "statistic": "Statistic",
        "p": ("p-value", say.probability),
        "answer": "Answer, at one per cent",
    }
    return Table("residuals", table.assign(answer=np.where(table["clean"], "no", "yes")), _conclude, columns)


def _skill_line(table: pd.DataFrame, over: str, lines: dict[str, str]) -> tuple[Drawing, Axes]:
    """Lines of skill, by column of ratios, over a logarithmic axis."""
    figure, axes = canvas(2.8)
    for (column, label), style in zip(lines.items(), ("o-", "s--"), strict=False):
        axes.plot(table[over], 100 * (1 - table[column]), style, label=label)
    zero_line(axes, "no change")
    axes.set(ylabel="skill, %", xscale="log")
    axes.set_xticks(table[over], [f"{value:,}" for value in table[over]])
    axes.minorticks_off()
    return figure, axes


def learning(study: Study) -> Chart | say.Claim:
    """What more rows of the same past would give: seen and unseen rows."""
    table = work.learning_curve(study)
    if len(table) == 1:
        return _learning_claim(table)
    lines = {"ratio": "on rows it had not seen", "fitted": "on rows it learned from"}
    figure, axes = _skill_line(table, "rows", lines)
    axes.set_xlabel("rows of training, drawn at random from the same span")
    alt = "Two lines of skill against the number of training rows: on seen rows and on unseen ones."
    return Chart("learning", table, _learning_claim, figure, alt)


def _learning_claim(table: pd.DataFrame) -> say.Claim:
    last = table.iloc[-1]
    skills = "With all {rows} the skill is {seen} on what was learned and {unseen} on what was not: "
    return say.claim(
        skills + "the gap is what the forest memorized, what may have changed since, and chance.",
        holds=bool(last["fitted"] < last["ratio"]),
        otherwise=skills + "the forest does not memorize.",
        rows=say.count(last["rows"], "row"),
        seen=say.percent(1 - last["fitted"], 2, beside=1 - last["ratio"]),
        unseen=say.percent(1 - last["ratio"], 2, beside=1 - last["fitted"]),
    )


def windows(study: Study) -> Chart | say.Claim:
    """Length of the past that the forest needs."""
    table = work.window_curve(study)
    if len(table) == 1:
        days = say.count(table["days"].iloc[0], "day")
        return say.claim("{days} of training are too short to compare with a shorter past.", days=days)
    figure, axes = _skill_line(table, "days", {"ratio": "random forest"})
    axes.set_xlabel("days of training")
    alt = "Line of the forest's skill against the length of its training window."
    return Chart("windows", table, _windows_claim, figure, alt)


def _windows_claim(table: pd.DataFrame) -> say.Claim:
    first, best, last = (table.iloc[place] for place in (0, int(table["ratio"].argmin()), -1))
    rising = table["ratio"].is_monotonic_decreasing
    one = "With one random seed, "
    return say.cases(
        (best["ratio"] >= 1, one + "the forest has no skill with any past: at most {top}, with {best}."),
        (rising, one + "the skill of the forest rises with the past, from {short} with {first} to {long} with {last}."),
        (
            best["days"] == last["days"],
            one + "the longest past gives the forest the most skill: {long} with {last}, and {short} with {first}.",
        ),
        (
            best["days"] == first["days"],
            one + "the shortest past gives the forest the most skill: {short} with {first} and {long} with {last}.",
        ),
        (
            True,
            one + "the forest's skill is largest with {best}: {top}, after {short} with {first}; {last} give {long}.",
        ),
        short=say.percent(1 - first["ratio"], 2, beside=1 - last["ratio"]),
        top=say.percent(1 - best["ratio"], 2, beside=1 - last["ratio"]),
        long=say.percent(1 - last["ratio"], 2, beside=1 - best["ratio"]),
        first=say.count(first["days"], "day"),
        best=say.count(best["days"], "day"),
        last=say.count(last["days"], "day"),
    )


def importance(study: Study, result: Result) -> Chart:
    """Which features the champion uses, out of sample; where that is persistence, the model that comes nearest."""
    table = work.permutation_importance(study, result.leader)
    conclude = partial(_importance_claim, result=result, rows=len(study.newest))
    drawn = table.head(_DRAWN)
    figure, axes = named_rows(list(drawn["feature"]))
    axes.barh(drawn.index, drawn["loss"], height=0.62)
    axes.hlines(drawn.index, drawn["low"], drawn["high"], color=INK, linewidth=1.4)
    axes.set_xlabel("skill lost when the feature is shuffled, percentage points")
    alt = (
        "Bars of the skill lost out of sample by shuffling a feature, for the features that cost most; the thin line "
        "on each is an interval of ninety-five per cent for that loss, from how it differs between the days of the "
        "test."
    )
    return Chart("importance", table, conclude, figure, alt)


def _importance_claim(table: pd.DataFrame, result: Result, rows: int) -> say.Claim:
    above = table.loc[table["low"] > 0, "feature"].tolist()
    lead = (
        "{model}, the champion, fitted here on the newest {rows}, "
        if result.verdict.champion == result.leader
        else "The champion, persistence, uses no feature; {model}, the best of the others, fitted here on the newest "
        "{rows}, "
    )
    return say.cases(
        (not table["loss"].any(), lead + "forecasts the same whichever of {all} is shuffled."),
        (
            len(above) > 1,
            lead + "loses skill when {first} or {second} is shuffled; the interval is above zero for {above} of {all}.",
        ),
        (
            len(above) == 1,
            lead + "loses skill when {first} is shuffled, the only one of {all} whose interval is above zero.",
        ),
        (True, lead + "loses nothing beyond its interval when one of {all} is shuffled."),
        model=say.model(result.leader),
        rows=say.count(rows, "row"),
        first=say.word(above[0] if above else "none"),
        second=say.word(above[1] if len(above) > 1 else "none"),
        above=say.count(len(above)),
        all=say.count(len(table), "feature"),
    )


def seeds(study: Study) -> Table:
    """Effect of the random seed of the forest."""
    table = work.seed_spread(study)
    table["skill"] = 1 - table["ratio"]
    columns: Columns = {"seed": "Seed", "skill": ("Skill", lambda value: say.percent(value, 3))}
    return Table("seeds", table, partial(_seeds_claim, rows=len(study.newest)), columns)


def _seeds_claim(table: pd.DataFrame, rows: int) -> say.Claim:
    return say.claim(
        "With {seeds}, a forest fitted on the newest {rows} has a skill between {low} and {high}: a difference of that "
        "size can come from the seed alone.",
        seeds=say.count(len(table), "different seed"),
        rows=say.count(rows, "row"),
        low=say.percent(table["skill"].min(), 2),
        high=say.percent(table["skill"].max(), 2),
    )


def sizes(study: Study) -> Table:
    """Each model's size on disk and skill when fitted on the newest half year."""
    table = work.model_sizes(study)
    columns: Columns = {
        "title": "Model",
        "rows": "Rows fitted on",
        "kilobytes": ("Size, kB", say.digits(1)),
        "skill": ("Skill on the rows after", lambda value: say.percent(value, 2)),
    }
    shown = table.assign(title=table["model"].map(say.title), skill=1 - table["ratio"])
    return Table("sizes", shown, _sizes_claim, columns)


def _sizes_claim(table: pd.DataFrame) -> say.Claim:
    return say.claim(
        "Of the {models} the largest takes {size}; none is stored in a format that could run code.",
        models=say.count(len(table), "model"),
        size=say.number(table["kilobytes"].max(), 0, "kB"),
    )
