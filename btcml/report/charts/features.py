"""Exhibits of the third chapter: what the model may know, and the proof that it knows no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.feature_selection import mutual_info_regression

from btcml.forecast.features import feature_frame, features_of
from btcml.forecast.targets import target_frame
from btcml.report import claims as say
from btcml.report.charts.drawing import plain_scale
from btcml.report.experiment import FEATURES
from btcml.report.exploration import sampled
from btcml.report.figure import DIVERGING, MESH, MUTED, SERIES, Chart, canvas
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    from btcml.report.claims import Claim

__all__ = [
    "catalogue",
    "correlations",
    "distributions",
    "drift",
    "headline",
    "information",
    "look_ahead",
    "story_features",
]

_PARTS = 6
_SAMPLE = 8_000
_CUTS = (0.35, 0.65, 0.9)
_STRONG = 0.9
_FAR = 5.0


def story_features(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Features of every candle, with the column ``open_time`` before them and unknown ones left out."""
    frame = feature_frame(candles, interval, FEATURES)
    known = [name for name in frame if frame[name].notna().any()]
    return pd.concat([candles["open_time"], frame[known]], axis="columns")


def _values(features: pd.DataFrame) -> pd.DataFrame:
    return features.drop(columns="open_time").dropna()


def headline(candles: pd.DataFrame, interval: str) -> Claim:
    """Whether the features are free of look-ahead."""
    proof = _scrambled(candles, interval)
    return say.claim(
        "{features} describe each candle, and none of them changes by one bit when the future is scrambled.",
        holds=not proof["changed"].any(),
        otherwise=None,
        features=say.count(len(features_of(FEATURES)), "feature"),
    )


def catalogue() -> Table:
    """Every feature: formula, warm-up and where it comes from."""
    items = features_of(FEATURES)
    data = pd.DataFrame(
        {
            "name": [item.name for item in items],
            "formula": [item.formula for item in items],
            "warmup": [item.warmup for item in items],
            "memory": [item.memory for item in items],
        }
    )
    says = say.claim(
        "{features}, most of them divided by the current volatility s, so that they mean the same in calm and storm.",
        features=say.count(len(items), "feature"),
    )
    columns: Columns = {
        "name": ("Feature", str),
        "formula": ("Formula", str),
        "warmup": ("Candles to warm up", say.count),
        "memory": ("Candles that count", say.count),
    }
    return Table("catalogue", data, says, columns)


def _scrambled(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Compare features before a cut with those over a scrambled future, bit for bit."""
    window = candles.tail(20_000).reset_index(drop=True)
    whole = feature_frame(window, interval, FEATURES)
    rows = []
    for share in _CUTS:
        cut = int(len(window) * share)
        other = feature_frame(_with_other_future(window, cut), interval, FEATURES)
        same = whole.iloc[:cut].to_numpy().tobytes() == other.iloc[:cut].to_numpy().tobytes()
        rows.append((window["open_time"].iloc[cut], cut * whole.shape[1], not same))
    return pd.DataFrame(rows, columns=["cut", "values", "changed"])


def _with_other_future(candles: pd.DataFrame, cut: int) -> pd.DataFrame:
    """Return the same candles with the rows from `cut` on shuffled and stretched, times kept."""
    random = np.random.default_rng(cut)
    rest = candles.iloc[cut:].sample(frac=1.0, random_state=random)
    numbers = candles.columns.difference(["open_time", "close_time"], sort=False)
    other = candles.copy()
    other.loc[cut:, numbers] = rest[numbers].to_numpy() * random.uniform(0.5, 2.0, (len(rest), 1))
    return other


def look_ahead(candles: pd.DataFrame, interval: str) -> Table:
    """Run the proof that no feature knows the future, now, on these candles."""
    proof = _scrambled(candles, interval)
    proof["result"] = np.where(proof["changed"], "changed", "identical")
    says = say.claim(
        "The future after each cut was shuffled and stretched; {values} before the cuts stayed the same bit for bit.",
        holds=not proof["changed"].any(),
        values=say.count(int(proof["values"].sum()), "value"),
    )
    columns: Columns = {
        "cut": ("Everything scrambled from", say.minute),
        "values": ("Values compared before it", say.count),
        "result": ("They are", str),
    }
    return Table("look-ahead", proof, says, columns)


def distributions(features: pd.DataFrame) -> Chart:
    """Spread of each feature: the middle half, ninety and ninety-eight of a hundred values."""
    values = _values(features)
    scaled = (values - values.median()) / values.std().replace(0, 1)
    table = scaled.quantile([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]).T
    table.columns = ["q01", "q05", "q25", "q50", "q75", "q95", "q99"]
    figure, axes = canvas(0.7 + 0.19 * len(table), left=1.75)
    place = np.arange(len(table))
    for low, high, width in (("q01", "q99", 1.0), ("q05", "q95", 2.6), ("q25", "q75", 6.0)):
        axes.hlines(place, table[low], table[high], color=SERIES[0], linewidth=width)
    axes.plot(table["q50"], place, "|", color=SERIES[1], markersize=8, markeredgewidth=1.6)
    axes.set(xlabel="standard deviations from the median", ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(place, list(table.index))
    reach = pd.Series(np.maximum(table["q99"], -table["q01"]), table.index)
    says = say.claim(
        "Ninety-eight of a hundred values lie within {reach} of the median, even of {widest}: no outlier rules a fit.",
        holds=bool(reach.max() < _FAR),
        otherwise="{widest} has long tails: ninety-eight of a hundred of its values reach as far as {reach} from the "
        "median.",
        reach=say.number(reach.max(), 1, "standard deviations"),
        widest=say.word(str(reach.idxmax())),
    )
    data = table.rename_axis("feature").reset_index()
    alt = "For each feature a bar: thick for the middle half of its values, thin for ninety-eight of a hundred."
    return Chart("distributions", figure, data, says, alt)


def drift(features: pd.DataFrame) -> Chart:
    """How far each feature's mean moves over the span."""
    known = features.dropna()
    part = pd.Series(np.arange(len(known)) * _PARTS // len(known), index=known.index, name="part")
    values = known.drop(columns="open_time")
    table = (values.groupby(part).mean() - values.mean()) / values.std().replace(0, 1)
    grid = table.T
    starts = known["open_time"].groupby(part).min()
    figure, axes = canvas(0.7 + 0.19 * len(grid), left=1.75)
    bound = max(0.25, float(grid.abs().to_numpy().max()))
    colors: dict[str, Any] = {"cmap": DIVERGING, "vmin": -bound, "vmax": bound}
    mesh = axes.pcolormesh(starts.index, np.arange(len(grid)), grid, **colors, **MESH)
    plain_scale(figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.02, aspect=30))
    axes.set_xticks(starts.index, [start.strftime("%b %Y") for start in starts])
    axes.set_yticks(np.arange(len(grid)), list(grid.index))
    axes.invert_yaxis()
    axes.grid(visible=False)
    most = grid.abs().max(axis="columns")
    says = say.claim(
        "No feature's mean drifts by more than {most} in any sixth of the span: yesterday's relations can hold today.",
        holds=bool(most.max() < 0.5),  # noqa: PLR2004 - half a standard deviation
        otherwise="The mean of {worst} moves by up to {most}: what was learned early may not hold late.",
        most=say.number(most.max(), 2, "standard deviations"),
        worst=say.word(str(most.idxmax())),
    )
    data = grid.rename_axis("feature").reset_index()
    data.columns = ["feature", *(start.strftime("%Y-%m-%d") for start in starts)]
    return Chart(
        "drift", figure, data, says, "Heat map of features by sixth of the span; colour is the shift of the mean."
    )


def correlations(features: pd.DataFrame) -> Chart:
    """Rank correlation between the features."""
    values = _values(features)
    table = values.iloc[sampled(len(values), _SAMPLE)].corr(method="spearman")
    size = len(table)
    figure, axes = canvas(5.9, left=1.75, bottom=1.75)
    mesh = axes.pcolormesh(np.arange(size), np.arange(size), table, cmap=DIVERGING, vmin=-1, vmax=1, **MESH)
    plain_scale(figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.02, aspect=30))
    axes.set_xticks(np.arange(size), list(table.columns), rotation=90)
    axes.set_yticks(np.arange(size), list(table.index))
    axes.invert_yaxis()
    axes.grid(visible=False)
    first, second = np.triu_indices(size, 1)
    upper = np.nan_to_num(np.abs(table.to_numpy()[first, second]))  # a feature that never changes is like no other
    closest = int(upper.argmax())
    says = say.claim(
        "{close} of {pairs} of features {say} nearly the same (the closest: {first} and {second}); trees do not mind, "
        "linear models are held by a penalty.",
        close=say.count(int((upper > _STRONG).sum())),
        pairs=say.count(len(upper), "pair"),
        say=say.verb(int((upper > _STRONG).sum()), "says", "say"),
        first=say.word(str(table.index[first[closest]])),
        second=say.word(str(table.index[second[closest]])),
    )
    data = table.rename_axis("feature").reset_index()
    return Chart("correlations", figure, data, says, "Heat map of the rank correlation between each two features.")


def information(features: pd.DataFrame, candles: pd.DataFrame, interval: str) -> Chart:
    """Mutual information of each feature with the models' target, beside that of a shuffled target."""
    after = target_frame(candles, interval, ["close"])["close"].rename("after")
    frame = pd.concat([features.drop(columns="open_time"), after], axis="columns").dropna()
    frame = frame.iloc[sampled(len(frame), _SAMPLE)]
    after = frame.pop("after").rank(pct=True)
    random = np.random.default_rng(0)
    options = {"n_neighbors": 10, "random_state": 0}
    found = mutual_info_regression(frame, after, **options)
    chance = mutual_info_regression(frame, random.permutation(after), **options)
    table = pd.DataFrame({"feature": frame.columns, "information": found, "shuffled": chance})
    table = table.sort_values("information", ascending=False, kind="stable").reset_index(drop=True)
    figure, axes = canvas(0.7 + 0.19 * len(table), left=1.75)
    axes.barh(table.index, table["information"], height=0.62, color=SERIES[0])
    level = float(table["shuffled"].max())
    axes.axvline(level, color=SERIES[1], linewidth=1.2, linestyle="--", label="most that shuffled targets give")
    axes.set(xlabel="mutual information with the next return over its volatility, nats", ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(table.index, list(table["feature"]))
    axes.legend(loc="lower right")
    axes.tick_params(axis="y", colors=MUTED)
    beyond = int((table["information"] > level).sum())
    says = say.claim(
        "{beyond} of {features} tell more about the next return, its size or its sign, than chance would; by itself "
        "none tells much (at most {most}, where chance reaches {chance}).",
        holds=beyond > 0,
        otherwise="No feature of {features} tells more about the next return by itself than chance could.",
        beyond=say.count(beyond),
        features=say.count(len(table)),
        most=say.number(table["information"].max(), 3, "nats"),
        chance=say.number(level, 3),
    )
    return Chart("information", figure, table, says, "Bars of mutual information by feature, with a line for chance.")
