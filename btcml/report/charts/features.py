"""Charts and tables of the third chapter: the features, and the proof that they do not look ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.feature_selection import mutual_info_regression

from btcml.forecast.experiment import Experiment
from btcml.forecast.features import feature_frame, features_of
from btcml.forecast.models import RANGE
from btcml.report import claims as say
from btcml.report.exploration import sampled
from btcml.report.figures import MUTED, SERIES, Chart, Columns, Table, canvas, heat_map, named_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

_PARTS = 6
_SAMPLE = 8_000
_CUTS = (0.35, 0.65, 0.9)
_STRONG = 0.9
_FAR = 5.0
_SMALL_DRIFT = 0.5
_SHARED = "Of {features} with values that the models of the close share, "


def _known(features: pd.DataFrame) -> pd.DataFrame:
    """Rows on which all features are known; a feature that never is (no order flow) is left out."""
    return features.dropna(axis="columns", how="all").dropna()


def headline(proof: pd.DataFrame) -> say.Claim:
    """Whether the features are free of look-ahead."""
    return say.claim(
        "{features} describe each candle, and none of them changes by one bit when the future is scrambled.",
        holds=not proof["changed"].any(),
        features=say.count(proof["features"].iloc[0], "feature"),
    )


def every(candles: pd.DataFrame, interval: str) -> tuple[str, ...]:
    """Names of the features of all models of the published experiment, those of the range among them."""
    experiment = Experiment.default(candles, interval)
    return experiment.features_used([*experiment.models, RANGE])


def catalogue(names: Sequence[str]) -> Table:
    """Features by name: formula, warm-up and the candles that give a value."""
    columns: Columns = {
        "name": "Feature",
        "formula": "Formula",
        "warmup": "Candles to warm up",
        "memory": "Candles needed",
    }
    items = features_of(names)
    data = pd.DataFrame([{column: getattr(item, column) for column in columns} for item in items])
    return Table("catalogue", data, _catalogue_claim, columns, folded=True)


def _catalogue_claim(table: pd.DataFrame) -> say.Claim:
    return say.claim(
        "The list has {features}; {scaled} of the formulas are relative to the current volatility s, so that they mean "
        "the same at any level of it.",
        features=say.count(len(table), "feature"),
        scaled=say.count(int(table["formula"].str.contains(r"/ \(?s\b|- log s").sum())),
    )


def scrambled(candles: pd.DataFrame, interval: str, names: Sequence[str]) -> pd.DataFrame:
    """Compare features before a cut with those over a scrambled future, bit for bit.

    Returns
    -------
    DataFrame
        ``cut`` (time from which candles were shuffled and stretched), ``features``, ``values`` (compared before
        it) and ``changed``.
    """
    window = candles.tail(20_000).reset_index(drop=True)
    whole = feature_frame(window, interval, names)
    rows = []
    for share in _CUTS:
        cut = int(len(window) * share)
        other = feature_frame(_with_other_future(window, cut), interval, names)
        same = whole.iloc[:cut].to_numpy().tobytes() == other.iloc[:cut].to_numpy().tobytes()
        values = int(whole.iloc[:cut].count().sum())
        rows.append((window["open_time"].iloc[cut], int(whole.notna().any().sum()), values, not same))
    return pd.DataFrame(rows, columns=["cut", "features", "values", "changed"])


def _with_other_future(candles: pd.DataFrame, cut: int) -> pd.DataFrame:
    """Return the same candles with the rows from `cut` on shuffled and stretched, times kept."""
    random = np.random.default_rng(cut)
    rest = candles.iloc[cut:].sample(frac=1.0, random_state=random)
    numbers = candles.columns.difference(["open_time", "close_time"], sort=False)
    other = candles.copy()
    other.loc[cut:, numbers] = rest[numbers].to_numpy() * random.uniform(0.5, 2.0, (len(rest), 1))
    return other


def look_ahead(proof: pd.DataFrame) -> Table:
    """The proof that no feature uses the future, from `scrambled`."""
    columns: Columns = {
        "cut": "Everything scrambled from",
        "values": "Values compared before it",
        "result": "They are",
    }
    data = proof.assign(result=np.where(proof["changed"], "changed", "identical")).drop(columns="features")
    return Table("look-ahead", data, _look_ahead_claim, columns)


def _look_ahead_claim(proof: pd.DataFrame) -> say.Claim:
    return say.claim(
        "The future after each cut was shuffled and stretched; {values} before the cuts stayed the same bit for bit.",
        holds=not proof["changed"].any(),
        values=say.count(int(proof["values"].sum()), "value"),
    )


def distributions(features: pd.DataFrame) -> Chart:
    """Spread of each feature: the middle half, ninety and ninety-eight of a hundred values."""
    values = _known(features)
    scaled = (values - values.median()) / values.std().replace(0, 1)
    table = scaled.quantile([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]).T
    table.columns = ["q01", "q05", "q25", "q50", "q75", "q95", "q99"]
    figure, axes = named_rows(list(table.index))
    place = np.arange(len(table))
    for low, high, width in (("q01", "q99", 1.0), ("q05", "q95", 2.6), ("q25", "q75", 6.0)):
        axes.hlines(place, table[low], table[high], color=SERIES[0], linewidth=width)
    axes.plot(table["q50"], place, "|", color=SERIES[1], markersize=8, markeredgewidth=1.6)
    axes.set_xlabel("standard deviations from the median")
    alt = "For each feature a bar: thick for the middle half of its values, thin for ninety-eight of a hundred."
    return Chart("distributions", table.rename_axis("feature").reset_index(), _distributions_claim, figure, alt)


def _distributions_claim(table: pd.DataFrame) -> say.Claim:
    reach = pd.concat([table["q99"], -table["q01"]], axis="columns").max(axis="columns").set_axis(table["feature"])
    return say.claim(
        _SHARED
        + "{widest} reaches furthest: ninety-eight of a hundred of its values lie within {reach} of the median.",
        holds=bool(reach.max() < _FAR),
        otherwise=_SHARED
        + "{widest} has the longest tails: ninety-eight of a hundred of its values reach as far as {reach} "
        "from the median.",
        features=say.count(len(table), "feature"),
        reach=say.number(reach.max(), 1, "standard deviations", ceiling=True),
        widest=say.word(str(reach.idxmax())),
    )


def drift(features: pd.DataFrame, times: pd.Series) -> Chart:
    """How far each feature's mean moves over the span."""
    values = _known(features)
    part = pd.Series(np.arange(len(values)) * _PARTS // len(values), index=values.index, name="part")
    grid = ((values.groupby(part).mean() - values.mean()) / values.std().replace(0, 1)).T
    starts = times.loc[values.index].groupby(part).min()
    figure, axes = canvas(0.7 + 0.19 * len(grid), left=1.75)
    bound = max(0.25, float(grid.abs().to_numpy().max()))
    heat_map(figure, [axes], [grid], -bound, bound)
    axes.set_xticks(starts.index, [start.strftime("%b %Y") for start in starts])
    data = grid.rename_axis("feature").reset_index()
    data.columns = ["feature", *(start.strftime("%Y-%m-%d") for start in starts)]
    alt = "Heat map of features by sixth of the span; colour is the shift of the mean."
    return Chart("drift", data, _drift_claim, figure, alt)


def _drift_claim(grid: pd.DataFrame) -> say.Claim:
    most = grid.set_index("feature").astype(float).abs().max(axis="columns")
    return say.claim(
        _SHARED + "none drifts in its mean by more than {most} in any sixth of the span.",
        holds=bool(most.max() < _SMALL_DRIFT),
        otherwise=_SHARED
        + "{worst} drifts furthest: its mean moves by up to {most}, so that what was learned early may "
        "not hold late.",
        features=say.count(len(grid), "feature"),
        most=say.number(most.max(), 2, "standard deviations", ceiling=bool(most.max() < _SMALL_DRIFT)),
        worst=say.word(str(most.idxmax())),
    )


def correlations(features: pd.DataFrame) -> say.Claim:
    """How many pairs of features have nearly the same ranks, and the closest."""
    values = _known(features)
    table = values.iloc[sampled(len(values), _SAMPLE)].corr(method="spearman")
    first, second = np.triu_indices(len(table), 1)
    upper = np.nan_to_num(np.abs(table.to_numpy()[first, second]))  # a feature that never changes is like no other
    closest, close = int(upper.argmax()), int((upper > _STRONG).sum())
    return say.claim(
        "{close} of {pairs} of features {say} nearly the same (the closest: {first} and {second}); trees do not mind, "
        "linear models are regularised by a penalty.",
        close=say.count(close),
        pairs=say.count(len(upper), "pair"),
        say=say.verb(close, "says", "say"),
        first=say.word(str(table.index[first[closest]])),
        second=say.word(str(table.index[second[closest]])),
    )


def information(features: pd.DataFrame, target: pd.Series) -> Chart:
    """Mutual information of each feature with the models' target, beside that of a shuffled target."""
    known = features.dropna(axis="columns", how="all").assign(target=target).dropna()
    frame = known.iloc[sampled(len(known), _SAMPLE)]
    after = frame.pop("target").rank(pct=True)
    options = {"n_neighbors": 10, "random_state": 0}
    found = mutual_info_regression(frame, after, **options)
    chance = mutual_info_regression(frame, np.random.default_rng(0).permutation(after), **options)
    table = pd.DataFrame({"feature": frame.columns, "information": found, "shuffled": chance})
    table = table.sort_values("information", ascending=False, kind="stable").reset_index(drop=True)
    figure, axes = named_rows(list(table["feature"]))
    axes.barh(table.index, table["information"], height=0.62, color=SERIES[0])
    level = float(table["shuffled"].max())
    axes.axvline(level, color=SERIES[1], linewidth=1.2, linestyle="--")
    axes.set_xlabel("mutual information with the next return over its volatility, nats")
    axes.tick_params(axis="y", colors=MUTED)
    alt = "Bars of mutual information by feature; the dashed line is the most that shuffled targets give."
    return Chart("information", table, _information_claim, figure, alt)


def _information_claim(table: pd.DataFrame) -> say.Claim:
    level = float(table["shuffled"].max())
    beyond = int((table["information"] > level).sum())
    return say.claim(
        "{beyond} of {features} {have} more information about the next return, its size or its sign, than chance "
        "gives: at most {most}, where chance reaches {chance}.",
        holds=beyond > 0,
        otherwise="No feature of {features} has more information about the next return by itself than chance gives.",
        beyond=say.count(beyond),
        have=say.verb(beyond, "has", "have"),
        features=say.count(len(table)),
        most=say.number(table["information"].max(), 3, "nats", beside=level),
        chance=say.number(level, 3, beside=table["information"].max()),
    )
