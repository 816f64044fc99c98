"""Exhibits of the fourth chapter: how the models learn and what they lean on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btcml.forecast.experiment import MODELS
from btcml.report import claims as say
from btcml.report import study as work
from btcml.report.charts.drawing import date_axis
from btcml.report.experiment import title_of
from btcml.report.figure import MUTED, SERIES, Chart, canvas
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    import pandas as pd

    from btcml.report.claims import Claim
    from btcml.report.study import Study

__all__ = [
    "coefficients",
    "convergence",
    "headline",
    "importance",
    "learning",
    "order_by_aic",
    "plan",
    "residuals",
    "seeds",
    "sizes",
    "windows",
]


def headline(frame: pd.DataFrame) -> Claim:
    """How much was forecast, and by how many models."""
    return say.claim(
        "{models} and “no change” forecast {candles} that none of them had seen, each model fitted on the past alone.",
        models=say.count(frame["model"].nunique() - 1, "model"),
        candles=say.count(frame["open_time"].nunique(), "candle"),
    )


def plan(candles: pd.DataFrame, interval: str) -> Chart:
    """The folds of the walk-forward on a time line."""
    table = work.folds(candles, interval)
    figure, axes = canvas(0.8 + 0.34 * len(table))
    for place, fold in enumerate(table.to_dict("records")):
        axes.barh(place, fold["cutoff"] - fold["train_start"], left=fold["train_start"], height=0.5, color=SERIES[6])
        color = SERIES[0] if fold["part"] == "test" else SERIES[5]
        axes.barh(place, fold["test_end"] - fold["test_start"], left=fold["test_start"], height=0.5, color=color)
    axes.set_yticks(table.index, [f"fold {place + 1}" for place in table.index])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    date_axis(axes)
    gap = table["test_start"].iloc[-1] - table["cutoff"].iloc[-1]
    rehearsed = " The light blue stretch is the burn-in from which intervals learn, and is not judged."
    says = say.claim(
        "The past is learned (grey), the next stretch is forecast (blue), then the line moves on; {gap} between them "
        "belong to neither." + rehearsed * bool((table["part"] == "burn-in").any()),
        gap=say.span(gap),
    )
    alt = "A bar for each fold on a time line: a long grey part of training, then a blue part of testing or burn-in."
    return Chart("plan", figure, table, says, alt)


def order_by_aic(study: Study) -> Chart:
    """How many past returns the autoregression may use."""
    aic, _ = work.autoregression(study)
    gain = aic.assign(above_best=aic["aic"] - aic["aic"].min())
    figure, axes = canvas(2.6)
    axes.bar(gain["order"], gain["above_best"], width=0.6)
    axes.set(xlabel="number of past returns in the model", ylabel="AIC above the best")
    axes.set_xticks(gain["order"])
    best = int(aic["order"].iloc[int(aic["aic"].argmin())])
    says = say.claim(
        "Akaike's criterion weighs fit against the number of coefficients; on the training span it picks {order}.",
        order=say.count(best, "past return"),
    )
    return Chart("order", figure, gain, says, "Bars of AIC above the best for each number of lags.")


def coefficients(study: Study) -> Table:
    """The autoregression's weights on past returns."""
    _, table = work.autoregression(study)
    first, largest = table.iloc[0], table.iloc[int(table["coefficient"].abs().argmax())]
    says = say.claim(
        "The last return counts most, with weight {weight}: a rise is followed by a slight fall more often than not.",
        holds=bool(first["coefficient"] < 0 and table["coefficient"].abs().idxmax() == 0),
        otherwise="The largest weight is {largest}, on the return {lag} back: the past of the price alone says little.",
        weight=say.number(first["coefficient"], 4),
        largest=say.number(largest["coefficient"], 4),
        lag=say.count(largest["lag"], "candle"),
    )
    columns: Columns = {
        "lag": ("Candles back", say.count),
        "coefficient": ("Weight", _fine),
        "error": ("Standard error", _fine),
        "p": ("p-value", say.probability),
    }
    return Table("coefficients", table, says, columns)


def _fine(value: float) -> say.Quantity:
    return say.number(value, 4)


def residuals(study: Study) -> Table:
    """What the autoregression leaves unexplained."""
    table = work.residual_tests(study)
    table["answer"] = np.where(table["clean"], "no", "yes")
    says = say.claim(
        "The size of what is left still remembers: the autoregression knows nothing of calm and storm, so intervals "
        "need a forecast of their own.",
        holds=not bool(table["clean"].iloc[1]),
        otherwise="Nothing is left in the size of the residuals at one per cent.",
    )
    columns: Columns = {
        "test": ("Test", str),
        "statistic": ("Statistic", say.number),
        "p": ("p-value", say.probability),
    }
    return Table("residuals", table, says, {**columns, "answer": ("Answer", str)})


def convergence(study: Study) -> Claim:
    """Whether the fit can be trusted as a fit: equations, solution, stability."""
    weights, condition, root = work.least_squares(study)
    return say.claim(
        "Least squares finds its {weights} in one step, so that no search can fail to converge; the equations are well "
        "posed (condition number {condition}), and shocks die out (the smallest root, {root}, lies outside the unit "
        "circle).",
        holds=condition < _ILL_POSED and root > 1,
        otherwise="Least squares finds its {weights} in one step, but beware of them: the condition number is "
        "{condition} and the smallest root {root}.",
        weights=say.count(weights, "coefficient"),
        condition=say.number(condition, 1),
        root=say.number(root, 2),
    )


_ILL_POSED = 1e6


def learning(study: Study) -> Chart:
    """What more rows of the same past would give: seen and unseen rows."""
    table = work.learning_curve(study)
    figure, axes = canvas(2.8)
    axes.plot(table["rows"], 100 * (1 - table["fitted"]), marker="s", linestyle="--", label="on rows it learned from")
    axes.plot(table["rows"], 100 * (1 - table["ratio"]), marker="o", label="on rows it had not seen")
    axes.axhline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel="rows of training, drawn by chance from the same span", ylabel="skill, %", xscale="log")
    axes.set_xticks(table["rows"], [f"{rows:,}" for rows in table["rows"]])
    axes.minorticks_off()
    axes.legend()
    last = table.iloc[-1]
    says = say.claim(
        "With all {rows} the skill is {seen} on what was learned and {unseen} on what was not: the gap is what the "
        "forest merely remembers, and what has changed since.",
        holds=bool(last["fitted"] < last["ratio"]),
        otherwise="With all {rows} the skill is {seen} on what was learned and {unseen} on what was not: the forest "
        "does not learn by heart.",
        rows=say.count(last["rows"], "row"),
        seen=say.percent(1 - last["fitted"], 2),
        unseen=say.percent(1 - last["ratio"], 2),
    )
    alt = "Two lines of skill against the number of training rows: on seen rows and on unseen ones."
    return Chart("learning", figure, table, says, alt)


def windows(study: Study, interval: str) -> Chart:
    """How long a past the forest wants."""
    table = work.window_curve(study, interval)
    figure, axes = canvas(2.8)
    axes.plot(table["days"], 100 * (1 - table["ratio"]), marker="o")
    axes.axhline(0, color=MUTED, linewidth=1, linestyle="--", label="persistence")
    axes.set(xlabel="days of training", ylabel="skill, %", xscale="log")
    axes.set_xticks(table["days"], [f"{days:,}" for days in table["days"]])
    axes.minorticks_off()
    axes.legend()
    first, last = table.iloc[0], table.iloc[-1]
    says = say.claim(
        "A longer past helps: the skill of the forest goes from {short} with {first} to {long} with {last}.",
        holds=bool(last["ratio"] < first["ratio"]),
        otherwise="A longer past does not help here: the skill of the forest is {short} with {first} and {long} with "
        "{last}.",
        short=say.percent(1 - first["ratio"], 2),
        long=say.percent(1 - last["ratio"], 2),
        first=say.count(first["days"], "day"),
        last=say.count(last["days"], "day"),
    )
    return Chart(
        "windows", figure, table, says, "Line of the forest's skill against the length of its training window."
    )


def importance(study: Study) -> Chart:
    """What the forest leans on, out of sample."""
    table = work.permutation_importance(study)
    figure, axes = canvas(0.7 + 0.19 * len(table), left=1.75)
    axes.barh(table.index, table["loss"], height=0.62)
    axes.set(xlabel="skill lost when the feature is shuffled, percentage points", ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(table.index, list(table["feature"]))
    harmless = int((table["loss"] <= 0).sum())
    rest = "; {harmless} could be shuffled at no loss." if harmless else "."
    says = say.claim(
        "The forest leans most on {first} and {second}" + rest,
        holds=harmless < len(table),
        otherwise="The forest leans on nothing: each of its {harmless} could be shuffled at no loss.",
        first=say.word(table["feature"].iloc[0]),
        second=say.word(table["feature"].iloc[1]),
        harmless=say.count(harmless, "feature"),
    )
    return Chart("importance", figure, table, says, "Bars of the skill lost out of sample by shuffling each feature.")


def seeds(study: Study) -> Table:
    """Whether luck in growing the forest matters."""
    table = work.seed_spread(study)
    table["skill"] = 1 - table["ratio"]
    says = say.claim(
        "Grown from {seeds}, the same forest has a skill between {low} and {high}: a smaller difference between "
        "models says nothing.",
        seeds=say.count(len(table), "different seed"),
        low=say.percent(table["skill"].min(), 2),
        high=say.percent(table["skill"].max(), 2),
    )
    columns: Columns = {"seed": ("Seed", say.count), "skill": ("Skill", lambda value: say.percent(value, 3))}
    return Table("seeds", table, says, columns)


def sizes(study: Study) -> Table:
    """Each model's size on disk and skill when fitted on the newest half year."""
    table = work.model_sizes(study)
    table["title"] = [title_of(name) for name in table["model"]]
    table["skill"] = 1 - table["ratio"]
    says = say.claim(
        "Of the {models} the largest takes {size}; none is stored in a format that could run code.",
        models=say.count(len(MODELS), "model"),
        size=say.number(table["kilobytes"].max(), 0, "kB"),
    )
    columns: Columns = {
        "title": ("Model", str),
        "rows": ("Rows fitted on", say.count),
        "kilobytes": ("Size, kB", lambda value: say.number(value, 1)),
        "skill": ("Skill on the rows after", lambda value: say.percent(value, 2)),
    }
    return Table("sizes", table, says, columns)
