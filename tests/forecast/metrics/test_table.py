"""Every registered metric satisfies the rules of a metric.

A metric that is added tomorrow is tested here without a new line but its oracle: a slow and
independent formula in plain Python or of another library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn import metrics as peers
from statsmodels.stats.proportion import proportion_confint

from btcml.errors import UsageError
from btcml.forecast.metrics import (
    FORECAST_COLUMNS,
    METRICS,
    evaluate,
    forecast_frame,
    loss_of,
    loss_table,
    metric_names,
    volatility_third,
)
from btcml.forecast.metrics.table import GROUPS, metric, metrics_named

if TYPE_CHECKING:
    from collections.abc import Callable

N = 2100


def model_frame(name: str = "model", seed: int = 1, n: int = N) -> pd.DataFrame:
    """Forecast frame of one model with some skill, an interval and a probability."""
    rng = np.random.default_rng(seed)
    signal, noise = rng.normal(0, 4e-4, n), rng.normal(0, 1e-3, n)
    close = 50_000 * np.exp(np.concatenate([[0], np.cumsum(signal + noise)]))
    said = close[:-1] * np.exp(0.8 * signal + rng.normal(0, 2e-4, n))
    columns = {
        "y_hat": said,
        "lo": close[:-1] * np.exp(-1.6e-3),
        "hi": close[:-1] * np.exp(1.7e-3),
        "prob_up": stats.norm.cdf(signal / 1.2e-3),
    }
    frame = forecast_frame(close, {"model": columns})
    return frame[frame["model"] == name].reset_index(drop=True)


FRAME = model_frame()
ROWS = list(FRAME[["y", "y_hat", "base", "lo", "hi", "prob_up"]].itertuples(index=False, name=None))
BP = [1e4 * abs(math.log(f / y)) for y, f, *_ in ROWS]
BP_NAIVE = [1e4 * abs(math.log(b / y)) for y, _, b, *_ in ROWS]
MOVES = [(math.log(y / b), math.log(f / b)) for y, f, b, *_ in ROWS]
UP = [int(y > b) for y, _, b, *_ in ROWS]
PROBABILITY = [row[5] for row in ROWS]
HITS = sum(a * f > 0 for a, f in MOVES)
TOP = sorted(MOVES, key=lambda pair: -abs(pair[1]))[: N // 10]


def hac(values: list[float]) -> float:
    """Statistic of a mean by statsmodels with 7 lags, floor(4 * 21 ** (2 / 9)), and Harvey's factor."""
    fit = sm.OLS(np.asarray(values), np.ones(len(values))).fit(cov_type="HAC", cov_kwds={"maxlags": 7})
    return float(fit.tvalues[0]) * math.sqrt((N - 1) / N)


def minus(first: list[float], second: list[float], power: int = 1) -> list[float]:
    """Differences of powers of losses."""
    return [a**power - b**power for a, b in zip(first, second, strict=True)]


def inside(rows: list[tuple[float, ...]]) -> float:
    """Share of rows within their interval."""
    return sum(lo <= y <= hi for y, _, _, lo, hi, _ in rows) / len(rows)


def third(index: int) -> float:
    """Coverage of one third by pandas' own qcut of an EWMA written as a loop."""
    weight, total, norm, volatility = 1 - 2 / 97, 0.0, 0.0, []
    previous = ROWS[0][2]
    for _, _, base, *_ in ROWS:
        total = weight * total + math.log(base / previous) ** 2
        norm = weight * norm + 1
        volatility.append(total / norm)
        previous = base
    label = pd.qcut(volatility, 3, labels=False)
    return inside([row for row, part in zip(ROWS, label, strict=True) if part == index])


def by_time(label: str) -> float:
    """Worst coverage of a day or month, parts of less than half the usual length left out."""
    parts: dict[str, list[tuple[float, ...]]] = {}
    for row, time in zip(ROWS, FRAME["open_time"], strict=True):
        parts.setdefault(time.strftime(label), []).append(row)
    usual = np.median([len(rows) for rows in parts.values()])
    return min(inside(rows) for rows in parts.values() if len(rows) >= usual / 2)


def calibration() -> float:
    """Calibration error with pandas' qcut."""
    table = pd.DataFrame({"p": PROBABILITY, "up": UP})
    groups = table.groupby(pd.qcut(table["p"], 10, labels=False))
    return float(groups.apply(lambda g: abs(g["p"].mean() - g["up"].mean()) * len(g)).sum() / N)


def winkler(y: float, lo: float, hi: float) -> float:
    """Winkler's score of one row, in bp of log return."""
    miss = max(math.log(lo / y), math.log(y / hi), 0)
    return 1e4 * (math.log(hi / lo) + 20 * miss)


def pinball(quantile: float, column: int) -> float:
    """Scikit-learn's pinball loss in bp of log return."""
    said = [1e4 * math.log(row[column] / row[2]) for row in ROWS]
    return float(peers.mean_pinball_loss([1e4 * a for a, _ in MOVES], said, alpha=quantile))


Y, Y_HAT = [row[0] for row in ROWS], [row[1] for row in ROWS]
RAW = [a - b for a, b in zip(Y, Y_HAT, strict=True)]
CHI2 = stats.chi2_contingency(
    np.histogram2d([a > 0 for a, _ in MOVES], [f > 0 for _, f in MOVES], bins=2)[0], correction=False
).statistic
ADJUSTED = [a**2 - ((a - f) ** 2 - f**2) for a, f in MOVES]

ORACLES: dict[str, Callable[[], float]] = {
    "ratio": lambda: math.fsum(BP) / math.fsum(BP_NAIVE),
    "skill": lambda: 1 - math.fsum(BP) / math.fsum(BP_NAIVE),
    "dm_z": lambda: hac(minus(BP, BP_NAIVE)),
    "dm_p": lambda: float(stats.t.cdf(hac(minus(BP, BP_NAIVE)), N - 1)),
    "dm_squared_z": lambda: hac(minus(BP, BP_NAIVE, 2)),
    "dm_squared_p": lambda: float(stats.t.cdf(hac(minus(BP, BP_NAIVE, 2)), N - 1)),
    "clark_west_p": lambda: float(stats.norm.sf(hac(ADJUSTED) / math.sqrt((N - 1) / N))),
    "mae_usd": lambda: float(peers.mean_absolute_error(Y, Y_HAT)),
    "rmse_usd": lambda: float(peers.root_mean_squared_error(Y, Y_HAT)),
    "mae_bp": lambda: math.fsum(BP) / N,
    "rmse_bp": lambda: math.sqrt(math.fsum(error**2 for error in BP) / N),
    "r2": lambda: 1 - math.fsum(e**2 for e in BP) / math.fsum(e**2 for e in BP_NAIVE),
    "mape": lambda: 100 * float(peers.mean_absolute_percentage_error(Y, Y_HAT)),
    "smape": lambda: math.fsum(200 * abs(f - y) / (y + f) for y, f in zip(Y, Y_HAT, strict=True)) / N,
    "bias_bp": lambda: math.fsum(1e4 * math.log(f / y) for y, f in zip(Y, Y_HAT, strict=True)) / N,
    "direction": lambda: HITS / N,
    "direction_low": lambda: proportion_confint(HITS, N, method="wilson")[0],
    "direction_high": lambda: proportion_confint(HITS, N, method="wilson")[1],
    "wda": lambda: math.fsum(abs(a) for a, f in MOVES if a * f > 0) / math.fsum(abs(a) for a, _ in MOVES),
    "top_direction": lambda: sum(a * f > 0 for a, f in TOP) / len(TOP),
    "top_gain_bp": lambda: math.fsum(1e4 * a * math.copysign(1, f) for a, f in TOP) / len(TOP),
    "pt_z": lambda: math.sqrt(CHI2 * N / (N - 1)),
    "pt_p": lambda: float(stats.norm.sf(math.sqrt(CHI2 * N / (N - 1)))),
    "brier": lambda: float(peers.brier_score_loss(UP, PROBABILITY)),
    "brier_skill": lambda: 1 - float(peers.brier_score_loss(UP, PROBABILITY)) / float(np.var(UP)),
    "brier_z": lambda: hac([(p - u) ** 2 - (np.mean(UP) - u) ** 2 for p, u in zip(PROBABILITY, UP, strict=True)]),
    "calibration_error": calibration,
    "log_loss": lambda: float(peers.log_loss(UP, PROBABILITY)),
    "coverage": lambda: inside(ROWS),
    "coverage_calm": lambda: third(0),
    "coverage_middle": lambda: third(1),
    "coverage_storm": lambda: third(2),
    "coverage_worst_month": lambda: by_time("%Y-%m"),
    "coverage_worst_day": lambda: by_time("%Y-%m-%d"),
    "width_bp": lambda: math.fsum(1e4 * math.log(hi / lo) for _, _, _, lo, hi, _ in ROWS) / N,
    "winkler_bp": lambda: math.fsum(winkler(y, lo, hi) for y, _, _, lo, hi, _ in ROWS) / N,
    "pinball_bp": lambda: (pinball(0.05, 3) + pinball(0.95, 4)) / 2,
    "range_r2": lambda: float(peers.r2_score(Y, Y_HAT)),
    "mse_ratio": lambda: math.fsum(e**2 for e in RAW) / math.fsum((y - b) ** 2 for y, _, b, *_ in ROWS),
}
UNTESTED_HERE = {"skill_low", "skill_high", "qlike", "qlike_z"}
"""Drawn at random (held to arch in test_skill) or of log ranges only (test_span)."""


@pytest.mark.parametrize("name", [name for name in METRICS if name not in UNTESTED_HERE])
def test_every_metric_equals_a_slow_independent_formula(name: str) -> None:
    """To 1e-10, by plain sums, scipy, scikit-learn or statsmodels."""
    assert name in ORACLES, "a metric needs a second formula: add it to ORACLES"
    assert METRICS[name](FRAME) == pytest.approx(ORACLES[name](), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_described(name: str) -> None:
    """Title, unit, sense of better and a docstring are there for a page to show."""
    entry = METRICS[name]
    assert entry.title
    assert entry.function.__doc__
    assert entry.unit in {"", "USD", "bp", "%", "share", "z", "p"}
    assert entry.better in {"less", "more", "level"}
    assert name in metric_names(entry.family)


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_falls_over_when_there_is_nothing_to_score(name: str) -> None:
    """NaN or a p of 1, without a warning, for no rows, one row and rows of NaN."""
    nothing = FRAME.assign(y_hat=np.nan, lo=np.nan, hi=np.nan, prob_up=np.nan)
    for frame in (FRAME.iloc[:0], nothing):
        score = METRICS[name](frame)
        assert math.isnan(score) or score == 1.0
    assert isinstance(METRICS[name](FRAME.iloc[:1]), float)


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_writes_into_the_frame_or_needs_other_rows(name: str) -> None:
    """The frame stays as it was; its index does not matter."""
    before = FRAME.copy()
    shifted = FRAME.set_index(np.arange(N) + 77)
    assert METRICS[name](shifted) == pytest.approx(METRICS[name](FRAME), nan_ok=True)
    pd.testing.assert_frame_equal(FRAME, before)


@pytest.mark.parametrize("name", metric_names("point", "direction"))
def test_no_error_metric_depends_on_the_price_level(name: str) -> None:
    """Ten times the price is ten times the USD and the same of everything else."""
    scaled = FRAME.assign(**{column: FRAME[column] * 10 for column in ("y", "y_hat", "base")})
    factor = 10 if METRICS[name].unit == "USD" else 1
    assert METRICS[name](scaled) == pytest.approx(factor * METRICS[name](FRAME), rel=1e-6, abs=1e-12)


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    """The sentence lists what there is."""
    with pytest.raises(UsageError, match=r"no metric accuracy: choose from .*ratio"):
        metrics_named(["ratio", "accuracy"])


def test_the_frame_has_the_documented_columns_order_and_types() -> None:
    """Sorted by model and time; UTC times of microseconds; NaN where a model has none."""
    frame = forecast_frame([1, 2, 3], {"z": {"y_hat": [2, 3], "lo": [1, 2]}, "a": {"y_hat": [2, 3]}}, interval="1h")
    assert tuple(frame) == FORECAST_COLUMNS
    assert frame["model"].tolist() == ["a", "a", "persistence", "persistence", "z", "z"]
    assert frame["open_time"].dtype == frame["cutoff"].dtype == "datetime64[us, UTC]"
    assert frame["cutoff"].iloc[0] == frame["open_time"].iloc[0] - pd.Timedelta(hours=1)
    assert frame["lo"].isna().tolist() == [True] * 4 + [False] * 2
    assert (frame["y_hat"][2:4].to_numpy() == np.array([1, 2])).all()


CLUSTERED_MOVES = np.random.default_rng(1).normal(0, 1e-3, 900) * np.repeat([1, 3, 2], 300)
CLUSTERED_CLOSE = 100 * np.exp(np.concatenate([[0], np.cumsum(CLUSTERED_MOVES)]))
CLUSTERED_FRAME = forecast_frame(CLUSTERED_CLOSE, {})


def test_thirds_hold_equally_many_rows() -> None:
    """300 each, and the wild middle of the series is the storm."""
    third = volatility_third(CLUSTERED_FRAME)
    assert third.value_counts().tolist() == [300, 300, 300]
    assert (third[400:600] == "storm").mean() > 0.95


def test_a_candle_cannot_place_itself() -> None:
    """The outcome of a row changes later rows only."""
    changed = CLUSTERED_CLOSE.copy()
    changed[801:] *= 1.5
    ranks = [volatility_third(forecast_frame(close, {})[:801]) for close in (CLUSTERED_CLOSE, changed)]
    assert ranks[0].equals(ranks[1])


def test_log_ranges_are_cut_by_their_own_average() -> None:
    """Negative bases are log ranges: the high ones are the storm."""
    level = np.repeat([-8.0, -6.0, -7.0], 300)
    third = volatility_third(forecast_frame(np.append(level, -7.0), {}))
    assert (third[450:600] == "storm").all()


def test_an_empty_frame_has_no_thirds() -> None:
    """Nothing in, nothing out."""
    assert volatility_third(CLUSTERED_FRAME.iloc[:0]).empty


def test_the_age_counts_whole_months_since_the_last_outcome_fitted_on() -> None:
    """29 days are month 0, 30 days are month 1."""
    frame = CLUSTERED_FRAME.iloc[:2].assign(
        cutoff=CLUSTERED_FRAME["open_time"].iloc[:2] - pd.to_timedelta([29, 30], unit="D")
    )
    assert GROUPS["age"](frame).tolist() == [0, 1]


SMALL_FRAME = forecast_frame([100, 110, 100, 105], {"a": {"y_hat": [110, np.nan, 105]}, "z": {"y_hat": [1, 2, 3]}})


def test_the_table_has_persistence_first_and_only_common_candles() -> None:
    """A candle that one model did not forecast is not scored."""
    table = loss_table(SMALL_FRAME)
    assert list(table) == ["persistence", "a", "z"]
    assert len(table) == 2
    assert table["a"].tolist() == [0.0, 0.0]
    assert table["persistence"].iloc[0] == pytest.approx(1e4 * math.log(1.1))


def test_models_may_be_categories_also_unused_ones() -> None:
    """A category that no row has is not a model; the table is that of text."""
    categories = pd.CategoricalDtype(["a", "nobody", "persistence", "z"])
    pd.testing.assert_frame_equal(loss_table(SMALL_FRAME.astype({"model": categories})), loss_table(SMALL_FRAME))


def test_losses_by_name() -> None:
    """Squares are squares of bp; levels and QLIKE take the columns as they are."""
    row = pd.DataFrame({"y": [2.0], "y_hat": [1.0], "base": [2.0]})
    assert loss_of(row, "squared")[0] == pytest.approx((1e4 * math.log(2)) ** 2)
    assert loss_of(row, "level")[0] == 1.0
    assert loss_of(row, "qlike")[0] == pytest.approx(math.e - 2)
    assert loss_of(row, "absolute", "base")[0] == 0.0


def test_bad_calls_are_refused() -> None:
    """Two forecasts of one candle by one model, and an unknown loss."""
    with pytest.raises(UsageError, match="found two by a for 2024-01-01"):
        loss_table(pd.concat([SMALL_FRAME, SMALL_FRAME]))
    with pytest.raises(UsageError, match="no loss 'huber': choose from absolute"):
        loss_of(SMALL_FRAME, "huber")


LONG_N = 3000
LONG_CLOSE = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-3, LONG_N + 1)))
LONG_MOVE = np.diff(np.log(LONG_CLOSE))


def shrunk(share: float) -> dict[str, np.ndarray]:
    """Forecast with a share of every move."""
    return {"y_hat": LONG_CLOSE[:-1] * np.exp(share * LONG_MOVE)}


LONG_FRAME = forecast_frame(LONG_CLOSE, {"a": shrunk(0.1), "b": shrunk(0.5), "c": shrunk(-0.2)}, interval="1h")


def test_persistence_is_first_and_the_best_model_second() -> None:
    """Others follow from the lowest ratio to the highest, whatever their names."""
    table = evaluate(LONG_FRAME)
    assert table["model"].tolist() == ["persistence", "b", "a", "c"]
    assert table["ratio"].tolist() == pytest.approx([1.0, 0.5, 0.9, 1.2])
    assert list(table.columns[2:]) == metric_names("point", "direction", "probability", "interval")


def test_order_follows_the_first_metric_and_its_sense() -> None:
    """Skill is better when more: the same order as by ratio."""
    assert evaluate(LONG_FRAME, ["skill"])["model"].tolist() == ["persistence", "b", "a", "c"]


@pytest.mark.parametrize(("by", "groups"), [("year", 1), ("month", 5), ("hour", 24), ("third", 3)])
def test_groups_add_up_to_the_whole(by: str, groups: int) -> None:
    """Each model has a row per group; rows add up to the span; persistence has ratio 1 in each."""
    table = evaluate(LONG_FRAME, ["ratio", "mae_usd"], by=by)
    assert table.groupby("model").size().tolist() == [groups] * 4
    assert table.groupby("model")["rows"].sum().tolist() == [LONG_N] * 4
    assert (table["ratio"][table["model"] == "persistence"] == 1).all()
    weighted = (table["mae_usd"] * table["rows"]).groupby(table["model"]).sum() / LONG_N
    assert weighted["b"] == pytest.approx(evaluate(LONG_FRAME, ["mae_usd"]).set_index("model")["mae_usd"]["b"])


def test_thirds_ascend_from_calm_to_storm() -> None:
    """Groups are in their own order, not by name."""
    assert evaluate(LONG_FRAME, ["ratio"], by="third")[:3]["third"].tolist() == ["calm", "middle", "storm"]


def test_no_model_is_scored_on_easier_rows() -> None:
    """A model without forecasts on the hardest candles takes them from all."""
    hard = (LONG_FRAME["model"] == "a") & (np.abs(np.log(LONG_FRAME["y"] / LONG_FRAME["base"])) > 1e-3)
    table = evaluate(LONG_FRAME.assign(y_hat=LONG_FRAME["y_hat"].mask(hard)))
    assert table["rows"].tolist() == [LONG_N - hard.sum()] * 4
    assert table.set_index("model")["ratio"]["a"] == pytest.approx(0.9)


def test_the_table_does_not_depend_on_the_order_of_rows_or_models() -> None:
    """A shuffled frame gives the same scores."""
    shuffled = LONG_FRAME.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(evaluate(shuffled), evaluate(LONG_FRAME))


def test_scores_of_models_that_are_categories_are_those_of_text() -> None:
    """The same table as for text."""
    categories = pd.CategoricalDtype(["a", "b", "c", "nobody", "persistence"])
    pd.testing.assert_frame_equal(evaluate(LONG_FRAME.astype({"model": categories})), evaluate(LONG_FRAME))


def test_bad_frames_are_refused() -> None:
    """A missing column, no persistence, no common candle and an unknown cut have their sentences."""
    with pytest.raises(UsageError, match="missing: base"):
        evaluate(LONG_FRAME.drop(columns="base"))
    with pytest.raises(UsageError, match="persistence must be among the forecasts, found a, b, c"):
        evaluate(LONG_FRAME[LONG_FRAME["model"] != "persistence"])
    late = LONG_FRAME["open_time"] > LONG_FRAME["open_time"].median()
    with pytest.raises(UsageError, match="no candle is forecast by all"):
        evaluate(LONG_FRAME[late == (LONG_FRAME["model"] == "a")])
    with pytest.raises(UsageError, match="by must be one of year, month, hour, third, age, found 'week'"):
        evaluate(LONG_FRAME, by="week")
    assert "ratio" in METRICS


def test_a_metric_does_not_replace_another_of_its_name():
    """As with features."""

    def skill(_forecasts):
        return 0.0

    before = METRICS["skill"]
    with pytest.raises(UsageError, match="'skill' is registered already"):
        metric("point", "Skill", "", "higher")(skill)
    assert METRICS["skill"] is before
