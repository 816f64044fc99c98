"""How the models learn: small experiments on the training side, for the fourth chapter.

Every ratio here is the mean absolute error of the next return over that of no change, both in the price's
own volatility, on candles that the model was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from statsmodels.stats.diagnostic import acorr_ljungbox, het_arch
from statsmodels.tsa.ar_model import AutoReg

from btcml.candles import interval_delta
from btcml.continuity import suspect_rows
from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.experiment import MODELS, Experiment
from btcml.forecast.models import make_model, members_of
from btcml.report.experiment import FEATURES
from btcml.report.exploration import sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btcml.forecast.models import Model

    Rows = NDArray[np.int64]

__all__ = [
    "Study",
    "autoregression",
    "folds",
    "learning_curve",
    "least_squares",
    "model_sizes",
    "open_study",
    "permutation_importance",
    "residual_tests",
    "seed_spread",
    "window_curve",
]

FOREST = "random_forest"
_MOST_TEST = 40_000
_PERMUTED = 12_000
_CLIP = 3.0
_ORDERS = 12
_PATH = 60_000
_WINDOWS_DAYS = (30, 90, 365)
_STEPS = (64, 16, 4, 1)
_HALF_YEAR = 50_000


@dataclass(frozen=True)
class Study:
    """The last fold of the plan: what was known when the newest model was fitted, and what came after.

    Attributes
    ----------
    data
        All candles as arrays.
    train, test
        Positions of the training and test rows; of the test at most forty thousand, drawn by chance.
    forests
        Forests fitted so far, by first row, number of rows and seed.
    """

    data: Dataset
    train: Rows
    test: Rows
    forests: dict[tuple[int, int, int], Any] = field(default_factory=dict, compare=False, repr=False)

    def ratio(self, fitted: Model | list[Model], test: Rows | None = None) -> float:
        """Error of a model, or of the mean of several, over that of no change on the test rows."""
        rows = self.test if test is None else test
        sample = self.data.sample.at(rows)
        members = fitted if isinstance(fitted, list) else [fitted]
        return self.ratio_of(np.mean([one.predict(sample) * one.multiplier for one in members], axis=0), rows)

    def ratio_of(self, forecast: NDArray[np.float64], rows: Rows) -> float:
        """Error of scaled forecasts over that of no change."""
        y, scale = self.data.sample.y[rows], self.data.prepared.scale[rows]
        return float((scale * np.abs(y - forecast)).sum() / (scale * np.abs(y)).sum())


def open_study(candles: pd.DataFrame, interval: str) -> Study:
    """Split the candles as the newest fold of the plan does."""
    fold = Experiment.default(candles, interval).plan.folds(candles["open_time"], interval)[-1]
    data = make_dataset(candles, interval, FEATURES, suspects=suspect_rows(candles, interval))
    test = np.flatnonzero(data.ready & data.known & data.between(fold.test_start, fold.test_end))
    return Study(data, data.training_rows(fold.train_start, fold.cutoff), test[sampled(len(test), _MOST_TEST)])


def folds(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Folds of the published experiment (`btcml.forecast.experiment.Experiment.folds`)."""
    return Experiment.default(candles, interval).folds(candles)


def _path(study: Study) -> NDArray[np.float64]:
    """Clipped scaled returns of the training span, the newest at most."""
    path = study.data.sample.path[study.train[0] : study.train[-1] + 2]
    return np.clip(path, -_CLIP, _CLIP)[-_PATH:]


def autoregression(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Statsmodels' AutoReg on the scaled returns of the training span.

    Returns
    -------
    tuple of DataFrame
        ``order, aic`` for orders 1 to 12, and for the best order ``lag, coefficient, error, p``.
    """
    path = _path(study)
    fits = [AutoReg(path, lags=order, hold_back=_ORDERS).fit() for order in range(1, _ORDERS + 1)]
    aic = pd.DataFrame({"order": range(1, _ORDERS + 1), "aic": [fit.aic for fit in fits]})
    best = fits[int(aic["aic"].argmin())]
    lags = np.arange(len(best.params))
    table = pd.DataFrame({"lag": lags, "coefficient": best.params, "error": best.bse, "p": best.pvalues})
    return aic, table[table["lag"] > 0].reset_index(drop=True)


def least_squares(study: Study) -> tuple[int, float, float]:
    """How the autoregression was solved: coefficients, condition of the equations, smallest root.

    Least squares has one solution in closed form, so that there is no search that could fail to
    converge; the equations must not be near-singular (condition number), and shocks die out where
    all roots of the lag polynomial lie outside the unit circle.
    """
    aic, _ = autoregression(study)
    path, order = _path(study), int(aic["order"].iloc[int(aic["aic"].argmin())])
    fit = AutoReg(path, lags=order).fit()
    past = np.column_stack([np.ones(len(path) - order), *(path[order - lag : -lag] for lag in range(1, order + 1))])
    return len(fit.params), float(np.linalg.cond(past)), float(np.abs(fit.roots).min())


def residual_tests(study: Study) -> pd.DataFrame:
    """What the autoregression leaves: Ljung-Box for memory, ARCH-LM for memory in size.

    Returns
    -------
    DataFrame
        ``test, statistic, p, clean`` (nothing found at one per cent).
    """
    aic, _ = autoregression(study)
    order = int(aic["order"].iloc[int(aic["aic"].argmin())])
    residuals = AutoReg(_path(study), lags=order).fit().resid
    ljung = acorr_ljungbox(residuals, lags=[24], model_df=order).iloc[0]
    arch = het_arch(residuals, nlags=24)
    rows = [
        ("Ljung-Box: is there memory left?", float(ljung["lb_stat"]), float(ljung["lb_pvalue"])),
        ("ARCH-LM: does the size remember?", float(arch[0]), float(arch[1])),
    ]
    table = pd.DataFrame(rows, columns=["test", "statistic", "p"])
    return table.assign(clean=table["p"] >= 0.01)  # noqa: PLR2004 - one per cent


def _forest(study: Study, rows: Rows, seed: int = 0) -> Any:
    """Forest fitted on rows; the same question is answered once."""
    key = (int(rows[0]), len(rows), seed)
    if key not in study.forests:
        model: Any = make_model(FOREST)
        model.settings = model.settings | {"random_state": seed}
        study.forests[key] = model.fit(study.data.sample.at(rows))
    return study.forests[key]


def learning_curve(study: Study) -> pd.DataFrame:
    """Ratio of the forest against the number of rows, drawn by chance from the whole training span.

    Returns
    -------
    DataFrame
        ``rows, ratio, fitted``: on the test, and on the rows that it was fitted on.
    """
    found = []
    for step in _STEPS:
        rows = study.train[sampled(len(study.train), len(study.train) // step)]
        fitted = _forest(study, rows)
        seen = rows[sampled(len(rows), _PERMUTED)]
        found.append((len(rows), study.ratio(fitted), study.ratio(fitted, seen)))
    return pd.DataFrame(found, columns=["rows", "ratio", "fitted"])


def window_curve(study: Study, interval: str) -> pd.DataFrame:
    """Ratio of the forest against the length of its training window.

    Returns
    -------
    DataFrame
        ``days, rows, ratio``, one row a window that the candles can fill.
    """
    day = int(pd.Timedelta(days=1) / interval_delta(interval))
    longest = len(study.train) / day
    parts = {days: study.train[-days * day :] for days in _WINDOWS_DAYS if days < longest} | {
        round(longest): study.train
    }
    found = [(days, len(part), study.ratio(_forest(study, part))) for days, part in parts.items()]
    return pd.DataFrame(found, columns=["days", "rows", "ratio"])


def seed_spread(study: Study, seeds: int = 3) -> pd.DataFrame:
    """Ratio of the forest for several seeds on at most half a year: ``seed, ratio``."""
    rows = study.train[-_HALF_YEAR:]
    ratios = [study.ratio(_forest(study, rows, seed)) for seed in range(seeds)]
    return pd.DataFrame({"seed": range(seeds), "ratio": ratios})


def permutation_importance(study: Study) -> pd.DataFrame:
    """How much worse the forest's ratio gets out of sample when one feature is shuffled.

    Returns
    -------
    DataFrame
        ``feature, loss``, largest first, in hundredths of persistence's error.
    """
    fitted = _forest(study, study.train)
    rows = study.test[sampled(len(study.test), _PERMUTED)]
    sample, random = study.data.sample.at(rows), np.random.default_rng(0)
    whole = study.ratio_of(fitted.predict(sample) * fitted.multiplier, rows)
    losses = []
    for column, _ in enumerate(sample.names):
        kept = sample.x[:, column].copy()
        sample.x[:, column] = random.permutation(kept)
        losses.append(study.ratio_of(fitted.predict(sample) * fitted.multiplier, rows) - whole)
        sample.x[:, column] = kept
    table = pd.DataFrame({"feature": sample.names, "loss": np.array(losses) * 100})
    return table.sort_values("loss", ascending=False, kind="stable").reset_index(drop=True)


def model_sizes(study: Study) -> pd.DataFrame:
    """Each model fitted once on the newest half year: ``model, rows, kilobytes, ratio``."""
    part = study.data.sample.at(study.train[-_HALF_YEAR:])
    rows = []
    for name in MODELS:
        fitted = [make_model(member).fit(part) for member in members_of(name)]
        size = sum(len(content) for model in fitted for content in model.dump().values()) / 1000
        rows.append((name, len(part.rows), size, study.ratio(fitted)))
    return pd.DataFrame(rows, columns=["model", "rows", "kilobytes", "ratio"])
