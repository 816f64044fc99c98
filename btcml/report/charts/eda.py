"""Charts and tables of the second chapter: the market before any model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter
from scipy import stats

from btcml.forecast.metrics import THIRDS
from btcml.report import claims as say
from btcml.report import exploration
from btcml.report.figures import (
    MUTED,
    SERIES,
    Chart,
    Columns,
    Drawing,
    Table,
    candle_bars,
    canvas,
    date_axis,
    heat_map,
    panels,
    published,
    thousands,
)
from btcml.report.labels import PointLabel, PointLabels
from btcml.report.language import ENGLISH, in_language

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 700
_TALL = 4.4  # inches of a price whose turning points are labelled
_LAGS, _FAR = 48, 4
_ALMOST = 0.1
_OVER_MEAN = {"volume": "volume, over its mean", "volatility": "volatility, over its mean"}
_BY_LUCK = 0.1
"""Share of lags beyond a bound of one in twenty that luck alone reaches now and then."""

_SEEN = 10
"""Returns beyond the outermost quantile that is drawn."""


def _thinned(frame: pd.DataFrame, most: int = _POINTS) -> pd.DataFrame:
    return frame.iloc[:: max(1, len(frame) // most)]


def headline(returns: pd.Series) -> say.Claim:
    """The chapter's result: autocorrelation of direction and of size."""
    both = [exploration.autocorrelation(values, 1).iloc[0] for values in (returns, returns.abs())]
    (sign, size), (chance, of_size) = ([float(row[name]) for row in both] for name in ("correlation", "bound"))
    plain = (
        "The direction of a move says {little} of the direction of the next one (correlation {sign}); its size says "
    )
    return say.cases(
        (size > max(of_size, abs(sign)), plain + "more of the next size ({size})."),
        (size > of_size, plain + "less of the next size ({size})."),
        (True, plain + "nothing of the next size beyond chance ({size})."),
        little=say.word("little" if abs(sign) > chance else "nothing beyond chance"),
        sign=say.number(sign, 3),
        size=say.number(size, 3),
    )


def price_and_volume(candles: pd.DataFrame, symbol: str) -> Chart:
    """Daily close and volume over the whole span, with its turning points."""
    unit = say.currency(symbol)
    days = published(exploration.daily_candles(candles))
    turns = exploration.turning_points(days)
    figure, axes = _price_panels(days["volume"], _TALL)
    kept = _thinned(days).index.union(turns.index).union(turns.index - 1)
    shown = days[days.index.isin(kept)]
    axes[0].plot(shown["day"], shown["close"], color=SERIES[0])
    axes[0].set_ylabel(str(say.claim("close, {unit}", unit=say.word(unit))) if unit else "close")
    for lower in axes[1:]:
        lower.fill_between(shown["day"], shown["volume"], color=SERIES[6], step="mid", linewidth=0)
        lower.set_ylabel("volume")
    for part in axes:
        thousands(part)
    date_axis(axes[-1])
    if len(turns):
        _mark_turns(axes[0], days, turns)
        figure.labels = PointLabels(axes[0], _turn_labels(shown, turns))
    alt = "Line of the daily close" + " with its turning points" * bool(len(turns))
    alt += " above an area of the daily volume" * (len(axes) - 1) + "."
    return Chart("price-and-volume", days, partial(_price_and_volume_claim, unit=unit), figure, alt)


def _mark_turns(axes: Axes, days: pd.DataFrame, turns: pd.DataFrame) -> None:
    """Draw the turning points as dots, and the largest move as a line from the close before."""
    for row in turns.index[turns["kind"] == "move"]:
        axes.plot(days["day"][row - 1 : row + 1], days["close"][row - 1 : row + 1], color=SERIES[1], linewidth=2.2)
    axes.plot(turns["day"], turns["close"], color=SERIES[1], marker="o", markersize=4.5, linestyle="none")


def _turn_labels(shown: pd.DataFrame, turns: pd.DataFrame) -> list[PointLabel]:
    """One label for each day with a turning point."""
    values, labels = _turn_values(turns, ""), []
    for row, part in turns.groupby(level=0):
        kinds = list(part["kind"])
        texts = [_turn_text(kind, values[kind]) for kind in kinds]
        above = kinds[0] == "highest" if kinds[0] != "move" else None
        day = str(say.day(part["day"].iloc[0]))
        labels.append(PointLabel(list(shown.index).index(row), ((*texts, day),), above))
    return labels


def _turn_text(kind: str, value: say.Quantity) -> str:
    text = say.cases(
        (kind == "highest", "highest: {value}"),
        (kind == "lowest", "lowest: {value}"),
        (True, "largest move: {value}"),
        value=value,
    )
    return str(text)


def _turn_values(turns: pd.DataFrame, unit: str) -> dict[str, say.Quantity]:
    """Values of the turning points by their kind: highest and lowest close look as different as they are."""
    values = dict(zip(turns["kind"], turns["value"], strict=True))
    beside = {"highest": values.get("lowest"), "lowest": values.get("highest")}
    shown = {kind: say.price(values[kind], unit, beside=beside[kind]) for kind in beside if kind in values}
    if "move" in values:
        shown["move"] = say.percent(values["move"], 1, sign=True, beside=0.0)
    return shown


def _price_and_volume_claim(days: pd.DataFrame, unit: str) -> say.Claim:
    turns = exploration.turning_points(days)
    values = _turn_values(turns, unit)
    times = {f"{kind}_day": say.day(day) for kind, day in zip(turns["kind"], turns["day"], strict=True)}
    whole = "In this span the price went from {first} to {last}"
    closes = whole + ", with daily closes between {lowest} and {highest}"
    low, high = days["low"].min(), days["high"].max()
    price = say.cases(
        (low == high, "The price was {last} in all of this span."),
        (not values, whole + ", between {low} and {high}."),
        ("move" in values, closes + "; the largest move of one day was {move}, on {move_day}."),
        (True, closes + "."),
        first=say.price(days["open"].iloc[0], unit),
        last=say.price(days["close"].iloc[-1], unit),
        low=say.price(low, unit, beside=high),
        high=say.price(high, unit, beside=low),
        **values,
        **times,
    )
    if days["volume"].any():
        return price
    none = "{price} The volume of every candle is zero: this source does not record it."
    return say.claim(none, price=price.as_word())


def _price_panels(volume: pd.Series, height: float = 3.9) -> tuple[Drawing, list[Axes]]:
    """Axes of the price and, where there is any volume, of the volume below it."""
    rows = 2 if volume.any() else 1
    return panels(rows, 1, height, sharex=True, height_ratios=[3, 1][:rows])


def newest_candles(candles: pd.DataFrame, symbol: str, most: int = 72) -> Chart:
    """The newest candles with their volume."""
    newest = candles.tail(most).reset_index(drop=True)
    figure, axes = _price_panels(candles["volume"])
    candle_bars(axes[0], newest, say.currency(symbol))
    for lower in axes[1:]:
        lower.bar(newest.index, newest["volume"], width=0.64, color=SERIES[6])
        lower.set_ylabel("volume")
    below = " above bars of their volume" * (len(axes) - 1)
    alt = f"Candles of the newest hours{below}; rising candles are hollow, falling ones filled."
    return Chart("newest-candles", newest, _newest_candles_claim, figure, alt)


def _newest_candles_claim(newest: pd.DataFrame) -> say.Claim:
    size = float(np.median(np.log(newest["high"] / newest["low"]))) * 1e4
    return say.claim(
        "The median of the newest {rows} spans {size} from its lowest to its highest price.",
        rows=say.count(len(newest), "candle"),
        size=say.bp(size, 1),
    )


def tails(returns: pd.Series) -> Chart:
    """How much more often large moves come than under a normal distribution."""
    table = exploration.tail_shares(returns)
    shown = table[table["share"] > 0]
    figure, axes = canvas(3.0)
    axes.plot(shown["k"], shown["share"], marker="o", label="observed")
    bell = table[table["normal"] > shown["share"].min() / 100]
    axes.plot(bell["k"], bell["normal"], marker="s", linestyle="--", label="normal distribution")
    axes.set(yscale="log", xlabel="size of the move, in standard deviations", ylabel="share of moves beyond")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    alt = (
        "Share of moves beyond one to eight standard deviations on a log scale, observed and of a normal distribution."
    )
    return Chart("tails", table, _tails_claim, figure, alt)


def _tails_claim(table: pd.DataFrame) -> say.Claim:
    at = table[table["k"] == _FAR].iloc[0].to_dict()
    times = at["share"] / at["normal"]
    often = "Moves beyond {k} come {times} as often as a normal distribution allows"
    return say.cases(
        (times >= 2, often + ": tails are fat."),  # noqa: PLR2004 - twice
        (times > 1, often + "."),
        (True, "Moves beyond {k} are no more frequent than a normal distribution allows."),
        k=say.count(_FAR, "standard deviation"),
        times=say.number(times, 0 if times > 10 else 1, "times"),  # noqa: PLR2004 - two digits
    )


def quantiles(returns: pd.Series) -> Chart:
    """Quantiles of the returns against those of a normal distribution."""
    rarest = float(np.clip(_SEEN / max(returns.count(), 1), 1e-4, 0.04))  # what few returns cannot show is left out
    ends = np.geomspace(rarest, 0.05, 40)
    share = np.concatenate([ends, np.linspace(0.06, 0.94, 60), 1 - ends[::-1]])
    table = returns.dropna().quantile(share).rename("observed_bp").rename_axis("share").reset_index()
    table["normal_bp"] = returns.mean() + returns.std() * stats.norm.ppf(table["share"])
    figure, axes = canvas(3.2)
    line = [table["normal_bp"].min(), table["normal_bp"].max()]
    axes.plot(line, line, color=MUTED, linestyle="--", linewidth=1, label="normal distribution")
    dots: dict[str, Any] = {"marker": "o", "markersize": 2.6, "linestyle": "none"}
    axes.plot(table["normal_bp"], table["observed_bp"], **dots)
    axes.set(xlabel="normal quantile, bp", ylabel="observed quantile, bp")
    alt = (
        "Quantile plot: observed quantiles against those of a normal distribution, with the line where both are equal."
    )
    return Chart("quantiles", table, _quantiles_claim, figure, alt)


def _quantiles_claim(table: pd.DataFrame) -> say.Claim:
    worst = table.iloc[0]
    return say.claim(
        "One move in {one_in} falls below {observed}, where a normal distribution would give {normal}.",
        one_in=say.count(round(1 / worst["share"])),
        observed=say.bp(worst["observed_bp"], 0, beside=worst["normal_bp"]),
        normal=say.bp(worst["normal_bp"], 0, beside=worst["observed_bp"]),
    )


def memory(returns: pd.Series) -> Chart:
    """Autocorrelation of returns and of their size."""
    both = exploration.autocorrelation(returns, _LAGS)
    both["of_size"] = exploration.autocorrelation(returns.abs(), _LAGS)["correlation"]
    figure, (left, right) = panels(1, 2, 2.9, sharey=False)
    for axes, column, title in ((left, "correlation", "of returns"), (right, "of_size", "of their size")):
        axes.bar(both["lag"], both[column], width=0.7, color=SERIES[0])
        axes.fill_between(both["lag"], -both["bound"], both["bound"], color=SERIES[4], alpha=0.35, linewidth=0)
        axes.set(title=title, xlabel="candles between the two", xlim=(0, _LAGS + 1))
    left.set_ylabel("correlation")
    alt = "Two bar charts of autocorrelation by lag, of returns and of their size, with a band of chance."
    return Chart("memory", both, _memory_claim, figure, alt)


def _memory_claim(both: pd.DataFrame) -> say.Claim:
    largest = float(both["correlation"].iloc[int(both["correlation"].abs().argmax())])
    surprises, outside = ((both[name].abs() > both["bound"]).sum() for name in ("correlation", "of_size"))
    lasting = int((both["of_size"] > both["bound"]).sum())
    returns = say.cases(
        (surprises <= _BY_LUCK * len(both), "Returns have hardly any memory"),
        (abs(largest) < _ALMOST, "Returns are almost uncorrelated"),
        (True, "Returns are correlated"),
    )
    sizes = say.cases(
        (
            lasting > len(both) / 2,
            "a large move is followed by large ones (size correlated beyond chance at {outside})",
        ),
        (lasting > _BY_LUCK * len(both), "sizes are correlated beyond chance at {outside}"),
        (True, "their size has no more memory than chance gives (beyond it at {outside})"),
        outside=_of(int(outside), len(both)),
    )
    return say.claim(
        "{returns} (largest correlation {sign}, beyond chance at {surprises}); {sizes}.",
        returns=returns.as_word(),
        sign=say.number(largest, 3),
        surprises=_of(int(surprises), len(both)),
        sizes=sizes.as_word(),
    )


def _of(some: int, lags: int) -> say.Quantity:
    return say.claim("{some} of {all}", some=say.count(some), all=say.count(lags, "lag")).as_word()


def volatility_clusters(days: pd.DataFrame) -> say.Claim:
    """Whether volatile days follow each other, and how far its thirds (`daily_volatility`) lie apart."""
    if days["third"].nunique() < len(THIRDS):
        return say.claim("The span has too few days to divide them into thirds of volatility.")
    middle = days.groupby("third")["volatility_bp"].median()
    following = exploration.autocorrelation(np.log(days["volatility_bp"].clip(lower=1e-9)), 1).iloc[0]
    ends = " The median day of the most volatile third moves {times} as much as that of the calmest."
    return say.claim(
        "Volatility comes in clusters: a day's resembles that of the day before (correlation of their logarithms {r})."
        + ends,
        holds=bool(following["correlation"] > following["bound"]),
        otherwise="Volatile days do not come in clusters beyond chance (correlation of the logarithms of one day and "
        "the next: {r})." + ends,
        r=say.number(following["correlation"], 2),
        times=say.number(middle["storm"] / max(middle["calm"], 1e-9), 1, "times"),
    )


def week(candles: pd.DataFrame, interval: str) -> Chart:
    """Volume and size of moves by hour of the week."""
    table = exploration.weekly_rhythm(candles, interval)
    columns = ["volume", "volatility"] if candles["volume"].any() else ["volatility"]
    figure, axes = panels(1, len(columns), 2.7, left=0.95, sharey=True)
    highest = max(table[column].max() for column in columns)
    days = list(dict.fromkeys(table["weekday"]))
    grids = [table.pivot_table(index="weekday", columns="hour", values=column).loc[days] for column in columns]
    heat_map(figure, axes, grids, 0, highest)
    for part, column in zip(axes, columns, strict=True):
        part.set(title=_OVER_MEAN[column], xlabel="hour, UTC")
    maps = "Two heat maps of weekday by hour: volume and" if len(columns) > 1 else "Heat map of weekday by hour:"
    alt = f"{maps} size of moves, brighter where there is more."
    return Chart("week", table, _week_claim, figure, alt)


def _week_claim(table: pd.DataFrame) -> say.Claim:
    top = table.iloc[int(table["volatility"].argmax())]
    return say.claim(
        "Moves were largest on {weekday} around {hour}, {times} the average hour, in part by chance, as the largest of "
        "{all} of the week.",
        weekday=say.word(f"{top['weekday']}s"),
        hour=say.word(f"{top['hour']:02d}:00 UTC"),
        times=say.number(top["volatility"], 1, "times"),
        all=say.count(len(table), "hour"),
    )


def stationarity_tests(tests: pd.DataFrame) -> Table:
    """Unit-root and stationarity tests (`btcml.report.exploration.stationarity`) and what they mean."""
    meaning = np.where(tests["stationary"], "is stationary", "is not stationary")
    ends = {0.01: "≤ ", 0.1: "≥ "}  # the p-values of KPSS are tabulated from one to ten per cent
    signs = [ends.get(p, "") if test == "KPSS" else "" for test, p in zip(tests["test"], tests["p"], strict=True)]
    with in_language(ENGLISH):  # frames are the same in every language
        shown = [f"{sign}{say.probability(p)}" for sign, p in zip(signs, tests["p"], strict=True)]
    columns: Columns = {
        "series": "Series",
        "test": "Test",
        "statistic": "Statistic",
        "shown": "p-value",
        "meaning": "Result: the series",
    }
    return Table("stationarity", tests.assign(meaning=meaning, shown=shown), _stationarity_claim, columns)


def _stationarity_claim(tests: pd.DataFrame) -> say.Claim:
    stays = tests.groupby("series")["stationary"].agg(["all", "any"])
    return say.claim(
        "Returns are stationary and prices are not: models are fitted on returns.",
        holds=bool(stays.at["log return", "all"] and not stays.at["log price", "any"]),
        otherwise="The tests do not agree that returns are stationary and prices are not in this span; models are "
        "fitted on returns all the same.",
    )


def flow_and_next_return(deciles: pd.DataFrame) -> Chart | say.Claim:
    """Order flow of a candle and the return of the next one (`btcml.report.exploration.order_flow_deciles`)."""
    if deciles.empty:
        return say.claim("This source does not record which side took the trades: there is no order flow to look at.")
    figure, axes = canvas(2.9)
    axes.errorbar(deciles["decile"], deciles["next_return_bp"], yerr=deciles["error_bp"], fmt="o", capsize=3)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set(xlabel="order flow, from most selling to most buying (tenths)", ylabel="mean next return, bp")
    axes.set_xticks(deciles["decile"])
    alt = "Mean next return with its error bar for each tenth of order flow."
    return Chart("order-flow", deciles, _order_flow_claim, figure, alt)


def _order_flow_claim(deciles: pd.DataFrame) -> say.Claim:
    ends = deciles.iloc[[0, -1]]
    gap = float(ends["next_return_bp"].diff().iloc[-1])
    below = ", and below the usual fee of {usual} a round trip."
    difference = "After the strongest buying the next return differs by {gap} from that after the strongest selling: "
    return say.claim(
        difference + "beyond chance" + (below if abs(gap) < say.USUAL_FEE_BP / 2 else "."),
        holds=abs(gap) > float((ends["error_bp"] ** 2).sum() ** 0.5),
        otherwise=difference + "that may be chance.",
        gap=say.bp(gap, 2, sign=True),
        usual=say.bp(say.USUAL_FEE_BP, 0),
    )
