"""Every metric of the register, whatever it is, keeps the laws of a metric.

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
from btcml.forecast.metrics import METRICS, forecast_frame, metric_names
from btcml.forecast.metrics.table import metrics_named

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
    assert METRICS[name](FRAME) == pytest.approx(ORACLES[name](), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
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
