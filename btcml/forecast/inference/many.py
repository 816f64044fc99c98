"""Bootstraps by `arch`: superior ability of many models, and their confidence set.

Imported where it is needed, not by the package: `arch` takes a second to load, which a service
that only compares two models should not pay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from arch.bootstrap import MCS, SPA

from btcml.errors import UsageError

__all__ = [
    "SuperiorAbility",
    "model_confidence_set",
    "superior_predictive_ability",
]

_MAX_ROWS = 4000
_BLOCK_EXPONENT = 1 / 3


@dataclass(frozen=True)
class SuperiorAbility:
    """Hansen's (2005) test that no model beats the benchmark.

    Attributes
    ----------
    p_lower, p_consistent, p_upper
        P-values of the liberal, consistent and conservative recentring; the consistent one leads.
    models
        Number of models compared with the benchmark.
    """

    p_lower: float
    p_consistent: float
    p_upper: float
    models: int


def superior_predictive_ability(
    losses: pd.DataFrame, benchmark: str = "persistence", *, reps: int = 1000, seed: int = 0
) -> SuperiorAbility:
    """Hansen's SPA test by `arch`: can the best of all models be luck.

    Parameters
    ----------
    losses
        One row a candle in order of time, one column a model, without NaN.
    benchmark
        Column that the others must beat.
    reps, seed
        Replications of the stationary bootstrap, and its seed.

    Returns
    -------
    SuperiorAbility
        p = 1 where no column differs from the benchmark.

    Raises
    ------
    UsageError
        If the benchmark is no column.

    Notes
    -----
    More than 4,000 rows are averaged over spans of equal length first: means and long-run
    variances stay, and the bootstrap of a quarter of a million candles takes a second.
    """
    table = _thin(losses)
    if benchmark not in table:
        msg = f"the benchmark {benchmark!r} is not among the models {', '.join(map(str, table))}"
        raise UsageError(msg)
    reference = table[benchmark].to_numpy()
    models = table.drop(columns=benchmark).to_numpy()
    models = models[:, (models != reference[:, None]).any(axis=0)]
    if not models.shape[1]:
        return SuperiorAbility(1.0, 1.0, 1.0, 0)
    test = SPA(reference, models, block_size=_block(len(table)), reps=reps, seed=seed)
    test.compute()
    p = test.pvalues
    return SuperiorAbility(float(p["lower"]), float(p["consistent"]), float(p["upper"]), models.shape[1])


def model_confidence_set(losses: pd.DataFrame, *, size: float = 0.1, reps: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Models that cannot be told from the best one: Hansen, Lunde & Nason (2011), by `arch`.

    Parameters
    ----------
    losses
        One row a candle in order of time, one column a model, without NaN; thinned as in
        `superior_predictive_ability`.
    size
        Size of the test: the set holds the best model with probability 1 - size.
    reps, seed
        Replications of the stationary bootstrap, and its seed.

    Returns
    -------
    DataFrame
        Columns ``model``, ``p``, ``included``, best p first.
    """
    table = _thin(losses)
    # Of columns that are equal to the bit one stands for all: their differences have no variance.
    twins = table.T.duplicated()
    distinct = table.loc[:, ~twins]
    p = pd.Series(1.0, distinct.columns)
    if distinct.shape[1] > 1:
        test = MCS(distinct, size=size, reps=reps, block_size=_block(len(table)), seed=seed)
        test.compute()
        p = test.pvalues["Pvalue"].astype(float)
    for twin in table.columns[twins].astype(str):
        original = (distinct.to_numpy() == table[[twin]].to_numpy()).all(axis=0)
        p[twin] = float(p[distinct.columns[original]].iloc[0])
    result = p.rename("p").rename_axis("model").reset_index()
    result["included"] = result["p"] > size
    return result.sort_values(["p", "model"], ascending=[False, True], ignore_index=True)


def _thin(losses: pd.DataFrame) -> pd.DataFrame:
    span = math.ceil(len(losses) / _MAX_ROWS)
    if span == 1:
        return losses.reset_index(drop=True)
    whole = losses.iloc[len(losses) % span :]
    return whole.groupby(np.arange(len(whole)) // span).mean()


def _block(rows: int) -> int:
    return max(2, math.ceil(math.pow(rows, _BLOCK_EXPONENT)))
