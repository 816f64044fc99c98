"""How the models learn: small experiments on the newest fold, for the fourth chapter.

Every ratio here is the mean absolute error of the next return over that of no change, both in the price's
own volatility, on candles that the model was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.diagnostic import het_arch
from statsmodels.tsa.stattools import acf, q_stat

from btcml.candles import interval_delta
from btcml.continuity import suspect_rows
from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.features import features_of
from btcml.forecast.models import make_model, members_of
from btcml.forecast.statistics import NORMAL_95
from btcml.forecast.walk import DAY_US
from btcml.report.exploration import sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btcml.forecast.experiment import Experiment
    from btcml.forecast.models import Model, Sample
    from btcml.forecast.models.statistical import AutoRegression

    Rows = NDArray[np.int64]


FOREST = "random_forest"
_MAX_TEST = 40_000
_PERMUTED = 12_000
_WINDOWS_DAYS = (30, 90, 365)
_STEPS = (64, 16, 4, 1)
_FEWEST = 500
"""Rows below which a forest is not fitted for a comparison: its trees would see a handful of them."""
_HALF_YEAR = 50_000
_TESTED_LAGS = 24


@dataclass(frozen=True)
class Study:
    """The last fold of an experiment: the data when the newest model was fitted, and the data after it.

    Attributes
    ----------
    experiment
        The experiment.
    data
        All candles as arrays, with the features of all models of the experiment.
    train, test
        Positions of the training and test rows; of the test at most forty thousand, drawn at random.
    forests
        Forests fitted so far, by first row, number of rows and seed.
    models
        Models fitted on the newest half year so far, by name.
    """

    experiment: Experiment
    data: Dataset
    train: Rows
    test: Rows
    forests: dict[tuple[int, int, int], Any] = field(default_factory=dict, compare=False, repr=False)
    models: dict[str, list[Model]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def training(self) -> Sample:
        """The training rows."""
        return self.data.sample.at(self.train)

    def own(self, model: Model, sample: Sample) -> Sample:
        """Rows with the features that a model requires, or else with those of the experiment."""
        return sample.select(tuple(item.name for item in features_of(model.features or self.experiment.features)))

    def ratio(self, fitted: Model | list[Model], test: Rows | None = None) -> float:
        """Error of a model, or of the mean of several, over that of no change on the test rows."""
        rows = self.test if test is None else test
        sample, scale = self.data.sample.at(rows), self.data.prepared.scale[rows]
        forecast = self._mean(fitted if isinstance(fitted, list) else [fitted], sample)
        return float((scale * np.abs(sample.y - forecast)).sum() / (scale * np.abs(sample.y)).sum())

    @property
    def newest(self) -> Rows:
        """Training rows of the newest half year."""
        return self.train[-_HALF_YEAR:]

    def fitted(self, name: str) -> list[Model]:
        """Members of a model, fitted on the newest half year; cached."""
        if name not in self.models:
            part = self.data.sample.at(self.newest)
            self.models[name] = (
                [self.forest(self.newest)]
                if name == FOREST
                else [model.fit(self.own(model, part)) for model in map(make_model, members_of(name))]
            )
        return self.models[name]

    def forecast(self, name: str, sample: Sample) -> NDArray[np.float64]:
        """Scaled forecasts of a model that was fitted on the newest half year."""
        return self._mean(self.fitted(name), sample)

    def _mean(self, members: list[Model], sample: Sample) -> NDArray[np.float64]:
        """Mean of the scaled forecasts of models."""
        return np.asarray(np.mean([one.predict(self.own(one, sample)) * one.multiplier for one in members], axis=0))

    def forest(self, rows: Rows, seed: int = 0) -> Any:
        """Forest fitted on rows; cached."""
        key = (int(rows[0]), len(rows), seed)
        if key not in self.forests:
            model: Any = make_model(FOREST)
            model.settings = model.settings | {"random_state": seed}
            self.forests[key] = model.fit(self.own(model, self.data.sample.at(rows)))
        return self.forests[key]


def open_study(candles: pd.DataFrame, experiment: Experiment) -> Study:
    """Split the candles as the newest fold of an experiment does."""
    fold = experiment.plan.folds(candles["open_time"], experiment.interval)[-1]
    suspects = suspect_rows(candles, experiment.interval)
    data = make_dataset(candles, experiment.interval, experiment.features_used(experiment.models), suspects=suspects)
    test = np.flatnonzero(data.ready & data.known & data.between(fold.test_start, fold.test_end))
    train = data.training_rows(fold.train_start, fold.cutoff)
    return Study(experiment, data, train, test[sampled(len(test), _MAX_TEST)])


def residual_tests(autoregression: AutoRegression, study: Study) -> pd.DataFrame:
    """Residuals of an autoregression on its training rows: Ljung-Box for memory, ARCH-LM for memory in size.

    The size is that of the residuals as returns: the scaled ones have memory from the scale, even on a random walk.

    Returns
    -------
    DataFrame
        ``test, statistic, p, clean`` (nothing found at one per cent).
    """
    residuals = autoregression.residuals(study.training)
    last = study.train[-1] + 1
    scale = np.nan_to_num(study.data.prepared.scale[last - len(residuals) : last])
    # The result of acorr_ljungbox, whose time grows with the square of the rows.
    ljung = float(q_stat(acf(residuals, nlags=_TESTED_LAGS, fft=True)[1:], len(residuals))[0][-1])
    free = _TESTED_LAGS - len(autoregression.weights)
    arch = het_arch(residuals * scale, nlags=_TESTED_LAGS, result_object=False)
    rows = [
        ("Ljung-Box: is there memory left?", ljung, float(stats.chi2.sf(ljung, free))),
        ("ARCH-LM: does the size have memory?", float(arch[0]), float(arch[1])),
    ]
    table = pd.DataFrame(rows, columns=["test", "statistic", "p"])
    return table.assign(clean=table["p"] >= 0.01)  # noqa: PLR2004 - one per cent


def learning_curve(study: Study) -> pd.DataFrame:
    """Ratio of the forest against the number of rows, drawn at random from the whole training span.

    Returns
    -------
    DataFrame
        ``rows, ratio, fitted``: on the test, and on the rows that it was fitted on.
    """
    found = []
    for size in sorted({len(study.train) // step for step in _STEPS}):
        if size < min(_FEWEST, len(study.train)):
            continue
        rows = study.train[sampled(len(study.train), size)]
        fitted = study.forest(rows)
        seen = rows[sampled(len(rows), _PERMUTED)]
        found.append((len(rows), study.ratio(fitted), study.ratio(fitted, seen)))
    return pd.DataFrame(found, columns=["rows", "ratio", "fitted"])


def window_curve(study: Study) -> pd.DataFrame:
    """Ratio of the forest against the length of its training window.

    Returns
    -------
    DataFrame
        ``days, rows, ratio``: the windows of at most two thirds of the past, then the whole of it.
    """
    day = int(pd.Timedelta(days=1) / interval_delta(study.experiment.interval))
    longest = len(study.train) / day
    parts = {
        days: study.train[-days * day :] for days in _WINDOWS_DAYS if 1.5 * days <= longest and days * day >= _FEWEST
    }
    parts[round(longest)] = study.train
    found = [(days, len(part), study.ratio(study.forest(part))) for days, part in parts.items()]
    return pd.DataFrame(found, columns=["days", "rows", "ratio"])


def seed_spread(study: Study, seeds: int = 3) -> pd.DataFrame:
    """Ratio of the forest for several seeds on at most half a year: ``seed, ratio``."""
    rows = study.newest
    ratios = [study.ratio(study.forest(rows, seed)) for seed in range(seeds)]
    return pd.DataFrame({"seed": range(seeds), "ratio": ratios})


def permutation_importance(study: Study, name: str) -> pd.DataFrame:
    """How much worse a model's ratio gets out of sample when one feature is shuffled.

    The model is fitted on the newest half year. The interval of ninety-five per cent is that of a ratio of sums over
    the days of the test, each day being one independent draw.

    Returns
    -------
    DataFrame
        ``feature, loss, low, high``, largest first, in hundredths of persistence's error; no interval from one day.
    """
    rows = study.test[sampled(len(study.test), _PERMUTED)]
    sample, random = study.data.sample.at(rows), np.random.default_rng(0)
    scale = study.data.prepared.scale[rows]
    day = np.unique(study.data.target_time[rows] // DAY_US, return_inverse=True)[1]
    whole, none = scale * np.abs(sample.y - study.forecast(name, sample)), np.bincount(day, scale * np.abs(sample.y))
    used = {feature for one in study.fitted(name) for feature in study.own(one, sample).names}
    found = []
    for column, feature in enumerate(sample.names):
        if feature not in used:
            continue
        kept = sample.x[:, column].copy()
        sample.x[:, column] = random.permutation(kept)
        lost = np.bincount(day, scale * np.abs(sample.y - study.forecast(name, sample)) - whole)
        sample.x[:, column] = kept
        loss = lost.sum() / none.sum()
        error = np.std(lost - loss * none, ddof=1) * np.sqrt(len(lost)) / none.sum() if len(lost) > 1 else np.nan
        found.append((feature, *(100 * (loss + width * error) for width in (0, -NORMAL_95, NORMAL_95))))
    table = pd.DataFrame(found, columns=["feature", "loss", "low", "high"])
    return table.sort_values("loss", ascending=False, kind="stable").reset_index(drop=True)


def model_sizes(study: Study) -> pd.DataFrame:
    """Each model fitted once on the newest half year: ``model, rows, kilobytes, ratio``."""
    rows = []
    for name in study.experiment.models:
        fitted = study.fitted(name)
        size = sum(len(content) for model in fitted for content in model.dump().values()) / 1000
        rows.append((name, len(study.newest), size, study.ratio(fitted)))
    return pd.DataFrame(rows, columns=["model", "rows", "kilobytes", "ratio"])
