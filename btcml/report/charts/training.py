"""Charts and tables of the fourth chapter: how the models learn and which features they use."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from btcml.forecast.experiment import Experiment, Result
from btcml.forecast.models import Sample
from btcml.forecast.models.statistical import AutoRegression
from btcml.report import claims as say
from btcml.report import study as work
from btcml.report.figures import MUTED, SERIES, Chart, Columns, Table, canvas, date_axis, named_rows
from btcml.report.study import Study

_ILL_POSED = 1e6


def headline(result: Result) -> say.Claim:
    """How much was forecast, and by how many models."""
    return say.claim(
        "{models} and “no change” forecast {candles} that none of them had seen, each model fitted on the past alone.",
        models=say.count(result.forecasts["model"].nunique() - 1, "model"),
        candles=say.count(result.forecasts["open_time"].nunique(), "candle"),
    )


def question(experiment: Experiment, candles: pd.DataFrame) -> say.Claim:
    """Whether this is the published experiment, or in what it differs."""
    return say.claim("This is {label}.", label=say.word(experiment.label(candles)))


def plan(folds: pd.DataFrame) -> Chart:
    """The folds of the walk-forward (`btcml.forecast.experiment.Experiment.folds`) on a time line."""
    figure, axes = canvas(0.8 + 0.34 * len(folds))
    for place, fold in enumerate(folds.to_dict("records")):
        axes.barh(place, fold["cutoff"] - fold["train_start"], left=fold["train_start"], height=0.5, color=SERIES[6])
        color = SERIES[0] if fold["part"] == "test" else SERIES[5]
        axes.barh(place, fold["test_end"] - fold["test_start"], left=fold["test_start"], height=0.5, color=color)
    axes.set_yticks(folds.index, [f"fold {place + 1}" for place in folds.index])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    date_axis(axes)
    burn_in = " The light blue stretch is the burn-in from which intervals learn, and is not judged."
    conclusion = say.claim(
        "Models are fitted on the past (grey) and forecast what comes next (blue), fold after fold; {gap} between the "
        "two belong to neither." + burn_in * bool((folds["part"] == "burn-in").any()),
        gap=say.span(folds["test_start"].iloc[-1] - folds["cutoff"].iloc[-1]),
    )
    alt = "A bar for each fold on a time line: a long grey part of training, then a blue part of testing or burn-in."
    return Chart("plan", figure, folds, conclusion, alt)


def order_by_aic(autoregression: AutoRegression) -> Chart:
    """How many past returns the autoregression uses."""
    gain = autoregression.aic.rename_axis("order").reset_index()
    gain["above_best"] = gain["aic"] - gain["aic"].min()
    figure, axes = canvas(2.6)
    axes.bar(gain["order"], gain["above_best"], width=0.6)
    axes.set(xlabel="number of past returns in the model", ylabel="AIC above the best")
    axes.set_xticks(gain["order"])
    order = len(autoregression.weights)
    conclusion = say.claim(
        "Akaike's criterion weighs fit against the number of coefficients; on the training span it picks {order}.",
        holds=order == int(gain["order"].iloc[int(gain["aic"].argmin())]),
        otherwise="Akaike's criterion prefers no past return at all on the training span; the model keeps {order}.",
        order=say.count(order, "past return"),
    )
    return Chart("order", figure, gain, conclusion, "Bars of AIC above the best for each number of lags.")


def coefficients(autoregression: AutoRegression) -> Table:
    """The coefficients of the autoregression."""
    table = autoregression.coefficients.query("lag > 0").reset_index(drop=True)
    first, largest = table.iloc[0], table.iloc[int(table["coefficient"].abs().argmax())]
    conclusion = say.claim(
        "The last return counts most, with weight {weight}: a rise is followed by a slight fall more often than not.",
        holds=bool(first["coefficient"] < 0 and first["lag"] == largest["lag"]),
        otherwise="The largest weight is {largest}, on the return {lag} back: past prices alone predict little.",
        weight=say.number(first["coefficient"], 4),
        largest=say.number(largest["coefficient"], 4),
        lag=say.count(largest["lag"], "candle"),
    )
    columns: Columns = {
        "lag": "Candles back",
        "coefficient": ("Weight", say.digits(4)),
        "error": ("Standard error", say.digits(4)),
        "p": ("p-value", say.probability),
    }
    return Table("coefficients", table, conclusion, columns)


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


def residuals(autoregression: AutoRegression, training: Sample) -> Table:
    """Residuals of the autoregression."""
    table = work.residual_tests(autoregression, training)
    conclusion = say.claim(
        "The size of the residuals still has memory: the autoregression does not model volatility, so intervals "
        "need a forecast of their own.",
        holds=not bool(table["clean"].iloc[1]),
        otherwise="The size of the residuals has no memory at one per cent.",
    )
    columns: Columns = {"test": "Test", "statistic": "Statistic", "p": ("p-value", say.probability), "answer": "Answer"}
    return Table("residuals", table.assign(answer=np.where(table["clean"], "no", "yes")), conclusion, columns)


def _skill_line(table: pd.DataFrame, over: str, lines: dict[str, str]) -> tuple[Figure, Axes]:
    """Lines of skill, by column of ratios, over a logarithmic axis."""
    figure, axes = canvas(2.8)
    for (column, label), style in zip(lines.items(), ("o-", "s--"), strict=False):
        axes.plot(table[over], 100 * (1 - table[column]), style, label=label)
    axes.axhline(0, color=MUTED, linewidth=1, linestyle="--", label="persistence")
    axes.set(ylabel="skill, %", xscale="log")
    axes.set_xticks(table[over], [f"{value:,}" for value in table[over]])
    axes.minorticks_off()
    axes.legend()
    return figure, axes


def learning(study: Study) -> Chart:
    """What more rows of the same past would give: seen and unseen rows."""
    table = work.learning_curve(study)
    lines = {"ratio": "on rows it had not seen", "fitted": "on rows it learned from"}
    figure, axes = _skill_line(table, "rows", lines)
    axes.set_xlabel("rows of training, drawn at random from the same span")
    last = table.iloc[-1]
    skills = "With all {rows} the skill is {seen} on what was learned and {unseen} on what was not: "
    conclusion = say.claim(
        skills + "the gap is what the forest memorized, and what has changed since.",
        holds=bool(last["fitted"] < last["ratio"]),
        otherwise=skills + "the forest does not memorize.",
        rows=say.count(last["rows"], "row"),
        seen=say.percent(1 - last["fitted"], 2),
        unseen=say.percent(1 - last["ratio"], 2),
    )
    alt = "Two lines of skill against the number of training rows: on seen rows and on unseen ones."
    return Chart("learning", figure, table, conclusion, alt)


def windows(study: Study) -> Chart | say.Claim:
    """Length of the past that the forest needs."""
    table = work.window_curve(study)
    if len(table) == 1:
        days = say.count(table["days"].iloc[0], "day")
        return say.claim("With {days} of training there is no shorter past to compare with.", days=days)
    figure, axes = _skill_line(table, "days", {"ratio": "random forest"})
    axes.set_xlabel("days of training")
    first, last = table.iloc[0], table.iloc[-1]
    conclusion = say.claim(
        "A longer past helps: the skill of the forest goes from {short} with {first} to {long} with {last}.",
        holds=bool(last["ratio"] < first["ratio"]),
        otherwise="A longer past does not help here: the skill of the forest is {short} with {first} and {long} with "
        "{last}.",
        short=say.percent(1 - first["ratio"], 2),
        long=say.percent(1 - last["ratio"], 2),
        first=say.count(first["days"], "day"),
        last=say.count(last["days"], "day"),
    )
    alt = "Line of the forest's skill against the length of its training window."
    return Chart("windows", figure, table, conclusion, alt)


def importance(study: Study) -> Chart:
    """Which features the forest uses, out of sample."""
    table = work.permutation_importance(study)
    figure, axes = named_rows(list(table["feature"]))
    axes.barh(table.index, table["loss"], height=0.62)
    axes.set_xlabel("skill lost when the feature is shuffled, percentage points")
    harmless = int((table["loss"] <= 0).sum())
    conclusion = say.claim(
        "The forest uses {first} and {second} most"
        + ("; {harmless} could be shuffled at no loss." if harmless else "."),
        holds=harmless < len(table),
        otherwise="The forest uses no feature: each of its {harmless} could be shuffled at no loss.",
        first=say.word(table["feature"].iloc[0]),
        second=say.word(table["feature"].iloc[1]),
        harmless=say.count(harmless, "feature"),
    )
    return Chart(
        "importance", figure, table, conclusion, "Bars of the skill lost out of sample by shuffling each feature."
    )


def seeds(study: Study) -> Table:
    """Effect of the random seed of the forest."""
    table = work.seed_spread(study)
    table["skill"] = 1 - table["ratio"]
    conclusion = say.claim(
        "With {seeds}, the same forest has a skill between {low} and {high}: a smaller difference between models means "
        "nothing.",
        seeds=say.count(len(table), "different seed"),
        low=say.percent(table["skill"].min(), 2),
        high=say.percent(table["skill"].max(), 2),
    )
    columns: Columns = {"seed": "Seed", "skill": ("Skill", lambda value: say.percent(value, 3))}
    return Table("seeds", table, conclusion, columns)


def sizes(study: Study) -> Table:
    """Each model's size on disk and skill when fitted on the newest half year."""
    table = work.model_sizes(study)
    conclusion = say.claim(
        "Of the {models} the largest takes {size}; none is stored in a format that could run code.",
        models=say.count(len(table), "model"),
        size=say.number(table["kilobytes"].max(), 0, "kB"),
    )
    columns: Columns = {
        "title": "Model",
        "rows": "Rows fitted on",
        "kilobytes": ("Size, kB", say.digits(1)),
        "skill": ("Skill on the rows after", lambda value: say.percent(value, 2)),
    }
    shown = table.assign(title=[str(say.model(name)) for name in table["model"]], skill=1 - table["ratio"])
    return Table("sizes", shown, conclusion, columns)
