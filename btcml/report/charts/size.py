"""Exhibits of the last chapter, third part: how large the next move will be, whatever its direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from btcml.forecast.metrics import evaluate, loss_table
from btcml.forecast.statistics import diebold_mariano
from btcml.report import claims as say
from btcml.report.claims import Card
from btcml.report.experiment import title_of
from btcml.report.figure import MUTED, SERIES, Chart, canvas
from btcml.report.scores import PERSISTENCE
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    from btcml.report.claims import Claim, Quantity

__all__ = ["cards", "come_true", "models"]

_RULE = "ewma"
_WHAT = {"log_range": "range", "volatility": "volatility"}
_GROUPS = 20
_TICKS = [round(step * 10.0**power, 1) for power in range(-1, 5) for step in (1, 2, 5)]


def _scored(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """One row a model: R², QLIKE and the p-value of its QLIKE against the best moving average."""
    losses = loss_table(frame, "qlike")
    table = evaluate(frame, ["range_r2", "qlike"]).sort_values("qlike", ignore_index=True)
    p = [diebold_mariano(losses[name], losses[_RULE]).p_better for name in table["model"]]
    return table.assign(what=_WHAT[what], p=np.where(table["model"].isin([_RULE, PERSISTENCE]), np.nan, p))


def _best(frame: pd.DataFrame) -> tuple[dict[str, float], str]:
    """R² by model, and the model with the smallest QLIKE."""
    table = _scored(frame, "log_range")
    return dict(zip(table["model"], table["range_r2"], strict=True)), str(table["model"].iloc[0])


def cards(ranges: pd.DataFrame) -> tuple[Card, ...]:
    """Key figure: how much of the size of the next move is known beforehand."""
    r2, best = _best(ranges)
    note = say.claim(
        "of the variance of the next range is forecast; {rule} by the last ranges alone",
        rule=say.percent(max(r2[_RULE], 0.0), 0),
    )
    return (Card("Size of the move", say.percent(r2[best], 0), str(note)),)


def models(ranges: pd.DataFrame, volatility: pd.DataFrame) -> Table:
    """Every model of the range and of the volatility, beside the last candle's and moving averages."""
    both = pd.concat([_scored(ranges, "log_range"), _scored(volatility, "volatility")], ignore_index=True)
    r2, best = _best(ranges)
    says = say.claim(
        "How large the next candle will be is known far better than where it goes: {model} forecasts {found} of the "
        "variance of its range, the best moving average {rule}, the last candle alone {last}.",
        holds=r2[best] > max(r2[_RULE], r2[PERSISTENCE], 0.0),
        otherwise="How large the next candle will be is forecast no better by any model than by a moving average of "
        "the last ranges ({rule} of the variance).",
        model=say.word(title_of(best)),
        found=say.percent(r2[best]),
        rule=say.percent(r2[_RULE]),
        last=say.percent(r2[PERSISTENCE]),
    )
    columns: Columns = {
        "what": ("Of the", str),
        "title": ("Model", str),
        "range_r2": ("Variance forecast (R²)", say.percent),
        "qlike": ("Loss (QLIKE)", _fine),
        "p": ("p-value against the best moving average", say.probability),
    }
    titles = [title_of(name) if name != PERSISTENCE else "As the last candle" for name in both["model"]]
    return Table("size-models", both.assign(title=titles), says, columns, strong=())


def come_true(ranges: pd.DataFrame) -> Chart:
    """Said and real range, in groups of equally many candles."""
    _, best = _best(ranges)
    part = ranges[(ranges["model"] == best)].dropna(subset=["y", "y_hat"])
    place = (part["y_hat"].rank(method="first", pct=True) * _GROUPS).apply(np.ceil).astype("int64").rename("group")
    by = part.groupby(place)
    table = pd.DataFrame({"said_bp": by["y_hat"].median(), "real_bp": by["y"].median()})
    for name, share in (("low_bp", 0.1), ("high_bp", 0.9)):
        table[name] = by["y"].quantile(share)
    table = table.apply(np.exp).mul(1e4).reset_index()
    figure, axes = canvas(3.2)
    ends = [table["said_bp"].min(), table["said_bp"].max()]
    axes.plot(ends, ends, color=MUTED, linestyle="--", linewidth=1.2, label="as forecast")
    axes.vlines(table["said_bp"], table["low_bp"], table["high_bp"], color=SERIES[0], linewidth=1.6, alpha=0.5)
    axes.plot(table["said_bp"], table["real_bp"], "o", color=SERIES[0], label="middle of what came; line: eight of ten")
    axes.set(xscale="log", yscale="log", xlabel="forecast range of the next candle, bp", ylabel="real range, bp")
    for axis, low, high in ((axes.xaxis, "said_bp", "said_bp"), (axes.yaxis, "low_bp", "high_bp")):
        axis.set_ticks([tick for tick in _TICKS if table[low].min() / 1.2 < tick < table[high].max() * 1.2])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend()
    return Chart("size-forecasts", figure, table, _truth(table), "Groups of real ranges along a rising diagonal line.")


def _truth(table: pd.DataFrame) -> Claim:
    first, last = table.iloc[0], table.iloc[-1]
    return say.claim(
        "Where a calm candle is forecast ({calm} from lowest to highest price) the middle one has {calm_real}, where "
        "a wild one is ({wild}) it has {wild_real}.",
        calm=say.bp(first["said_bp"], 1),
        calm_real=say.bp(first["real_bp"], 1),
        wild=say.bp(last["said_bp"], 1),
        wild_real=say.bp(last["real_bp"], 1),
    )


def _fine(value: float) -> Quantity:
    return say.number(value, 4)
