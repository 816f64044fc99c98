"""Search for parameters by successive halving on time-ordered training data; every try is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from btcml.errors import UsageError
from btcml.forecast.dataset import make_dataset
from btcml.forecast.models.boosting import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray


SPACE: dict[str, list[Any]] = {
    "objective": ["huber", "l1"],
    "num_leaves": [16, 32, 64, 128],
    "min_child_samples": [300, 1000, 3000],
    "reg_lambda": [1.0, 10.0, 50.0, 200.0],
    "colsample_bytree": [0.2, 0.3, 0.5, 0.8],
    "learning_rate": [0.02, 0.03, 0.05],
}
"""Search space of LightGBM, in scikit-learn's parameter names."""

FOLDS = 3
MIN_ROUNDS, MAX_ROUNDS = 40, 360
FACTOR = 3
PURGE = 288


@dataclass(frozen=True)
class Trial:
    """One fit-and-score of a candidate.

    Attributes
    ----------
    number
        Order in which it was made.
    rung
        Round of the halving: survivors are tried again with more trees.
    params
        The candidate, ``n_estimators`` among them.
    ratio
        Mean absolute error over persistence's on the same validation rows, in scaled units.
    """

    number: int
    rung: int
    params: dict[str, Any]
    ratio: float


def search(
    candles: pd.DataFrame,
    interval: str,
    n: int,
    *,
    features: str | Iterable[str] = "core",
    suspects: NDArray[np.bool_] | None = None,
    seed: int = 0,
    jobs: int = 2,
) -> list[Trial]:
    """Try `n` random candidates by successive halving (scikit-learn's `HalvingRandomSearchCV`).

    Validation folds come after their training rows, with a purge of a day of 5-minute candles.
    Pass training candles only: the test span must not influence the choice.

    Parameters
    ----------
    candles
        Candle frame that ends before the test.
    interval
        Its interval.
    n
        Candidates of the first rung.
    features
        Set or names of features.
    suspects
        One boolean per candle: rows neither to fit nor to score on.
    seed
        Of the candidates and of the models.
    jobs
        Processes.

    Returns
    -------
    list of Trial
        Every try, best first: their number is the number of looks that a verdict must count.

    Raises
    ------
    UsageError
        If `n` is below 1.
    """
    if n < 1:
        msg = f"a search tries at least 1 candidate, found {n}: give --search 20"
        raise UsageError(msg)
    data = make_dataset(candles, interval, features, "close", suspects)
    sample = data.sample.at(np.flatnonzero(data.ready & data.known & ~data.suspect))
    halving = _halving(n, seed, jobs).fit(sample.x, sample.y)
    return _trials(halving.cv_results_, _persistence(sample.y))


def _halving(n: int, seed: int, jobs: int) -> Any:
    from lightgbm import LGBMRegressor  # noqa: PLC0415 - searching is rare
    from sklearn.experimental import enable_halving_search_cv  # noqa: PLC0415, F401 - its switch
    from sklearn.model_selection import HalvingRandomSearchCV  # noqa: PLC0415

    fixed = {"subsample": SETTINGS["bagging_fraction"], "subsample_freq": SETTINGS["bagging_freq"]}
    threads = {name: SETTINGS[name] for name in ("deterministic", "force_col_wise", "verbose")}
    return HalvingRandomSearchCV(
        LGBMRegressor(random_state=seed, n_jobs=1, **fixed, **threads),
        SPACE,
        n_candidates=n,
        factor=FACTOR,
        resource="n_estimators",
        min_resources=MIN_ROUNDS,
        max_resources=MAX_ROUNDS,
        cv=_folds(),
        scoring="neg_mean_absolute_error",
        error_score="raise",
        refit=False,
        random_state=seed,
        n_jobs=jobs,
    )


def _folds() -> Any:
    from sklearn.model_selection import TimeSeriesSplit  # noqa: PLC0415

    return TimeSeriesSplit(FOLDS, gap=PURGE)


def _persistence(y: NDArray[np.float64]) -> float:
    """Mean absolute error of no change over the validation folds."""
    return float(np.mean([np.abs(y[test]).mean() for _, test in _folds().split(y)]))


def _trials(results: dict[str, Any], persistence: float) -> list[Trial]:
    rows = zip(results["iter"], results["params"], results["n_resources"], results["mean_test_score"], strict=True)
    trials = [
        Trial(number, int(rung), {**params, "n_estimators": int(rounds)}, float(-score / persistence))
        for number, (rung, params, rounds, score) in enumerate(rows, start=1)
    ]
    return sorted(trials, key=lambda trial: trial.ratio)
