"""The verdict and the scores of a walk-forward, gathered once for the last chapter.

Nothing is judged here: the rule of the verdict, the metrics and the money are those of `btcml.forecast`,
which the service uses too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from btcml.forecast.inference import wilson_interval
from btcml.forecast.inference.comparison import long_run_variance, newey_west_lags
from btcml.forecast.inference.many import model_confidence_set, superior_predictive_ability
from btcml.forecast.metrics import PERSISTENCE, THIRDS, evaluate, loss_table, volatility_third
from btcml.forecast.money import money, positions
from btcml.forecast.verdict import verdict
from btcml.report.experiment import title_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from btcml.forecast.verdict import Verdict

__all__ = ["PERSISTENCE", "Gain", "Scores", "coverage", "expert_tests", "score_forecasts"]

_TABLE = (
    "mae_bp", "mae_usd", "skill", "skill_low", "skill_high",
    "direction", "direction_low", "direction_high", "top_direction", "wda",
)  # fmt: skip
_BY = ("skill", "skill_low", "skill_high", "mae_bp", "dm_p")
_COSTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)
_NORMAL_95 = 1.96
_CHANCE = 0.05


class Gain(NamedTuple):
    """What a trade on the strongest forecasts earns before fees, in bp, and its 95 % interval."""

    bp: float
    low: float
    high: float

    @property
    def proven(self) -> bool:
        """Whether luck alone would hardly earn it; then it is also the fee at which nothing is left."""
        return self.low > 0


@dataclass(frozen=True)
class Scores:
    """What the last chapter tells of.

    Attributes
    ----------
    forecasts
        The forecast frame.
    verdict
        Which model is served, by the rule fixed beforehand.
    table
        One row a model, persistence first: the metrics of `_TABLE` and ``p_holm``.
    losses
        Absolute log error in bp: one row a candle, one column a model.
    trials
        Models and settings tried on these data, those shown here included.
    """

    forecasts: pd.DataFrame
    verdict: Verdict
    table: pd.DataFrame
    losses: pd.DataFrame
    trials: int

    @property
    def wins(self) -> bool:
        """Whether any model beats persistence by the rule."""
        return self.verdict.champion != PERSISTENCE

    @property
    def best(self) -> dict[Hashable, Any]:
        """Row of the champion, or of the model that comes nearest where persistence wins."""
        name = self.verdict.champion if self.wins else self.table["model"].iloc[1]
        return self.table[self.table["model"] == name].to_dict("records")[0]

    @property
    def of_best(self) -> pd.DataFrame:
        """Forecasts of that model."""
        return self.forecasts[self.forecasts["model"] == self.best["model"]].reset_index(drop=True)

    @property
    def with_base(self) -> pd.DataFrame:
        """Forecasts of that model and of persistence."""
        return self.forecasts[self.forecasts["model"].isin([self.best["model"], PERSISTENCE])]

    def skill_by(self, group: str) -> pd.DataFrame:
        """Skill of that model by ``year, month, hour`` or ``third``.

        That column, ``rows``, ``mae_bp``, ``skill`` with its interval, ``dm_p`` (one-sided).
        Months and years with less than a tenth of the rows of the others are left out.
        """
        table = evaluate(self.with_base, _BY, by=group)
        table = table[(table["model"] != PERSISTENCE) & (table["rows"] > table["rows"].median() / 10)]
        return table.drop(columns="model").reset_index(drop=True)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """What trading on that model's forecasts gives, by rule, entry and cost (`btcml.forecast.money`)."""
        return money(self.of_best, costs_bp=_COSTS, trials=self.trials)

    @cached_property
    def gain(self) -> Gain:
        """What the strongest forecasts, traded at once, earn a round trip; NaN where nothing is traded."""
        chosen = self.trades[(self.trades["rule"] == "top") & (self.trades["entry"] == "at once")].iloc[0]
        if not chosen["trips"] > 0:
            return Gain(math.nan, math.nan, math.nan)
        frame = self.of_best.dropna(subset=["y", "y_hat", "base"])
        earned = (positions(frame, "top") * (frame["y"] / frame["base"] - 1)).to_numpy()
        error = math.sqrt(len(earned) * long_run_variance(earned, newey_west_lags(len(earned))))
        middle, width = float(chosen["gross_bp"]), _NORMAL_95 * 1e4 * error / float(chosen["trips"])
        return Gain(middle, middle - width, middle + width)


def score_forecasts(forecasts: pd.DataFrame, trials: int) -> Scores:
    """Judge and score a forecast frame, every earlier try counted.

    Parameters
    ----------
    forecasts
        The forecast frame.
    trials
        Tries of models that the snapshot records; they count as looks at these data, as many models
        a look as are judged here.
    """
    challengers = max(1, forecasts["model"].nunique() - 1)
    judged = verdict(forecasts, looks=1 + math.ceil(trials / challengers))
    chances = judged.table[["model", "p_holm", "beats"]].replace({"p_holm": {np.inf: np.nan}})
    table = evaluate(forecasts, _TABLE).merge(chances, on="model", how="left", validate="one_to_one")
    table.loc[table["model"] == PERSISTENCE, ["skill_low", "skill_high", "p_holm"]] = np.nan
    return Scores(forecasts, judged, table, loss_table(forecasts), trials + challengers)


def coverage(part: pd.DataFrame) -> pd.DataFrame:
    """How often one model's interval held the outcome, overall and by volatility third.

    Returns
    -------
    DataFrame
        ``group, held, low, high, width_bp, candles``; empty where there are no intervals.
    """
    known = part[part["lo"].notna() & part["hi"].notna()]
    third = volatility_third(part).reindex(known.index)
    rows = []
    for name in ("all", *THIRDS):
        inside = known if name == "all" else known[third == name]
        if len(inside):
            hits = int(inside["y"].between(inside["lo"], inside["hi"]).sum())
            width = float(1e4 * np.log(inside["hi"] / inside["lo"]).mean())
            rows.append((name, hits / len(inside), *wilson_interval(hits, len(inside)), width, len(inside)))
    return pd.DataFrame(rows, columns=["group", "held", "low", "high", "width_bp", "candles"])


def expert_tests(scores: Scores) -> pd.DataFrame:
    """Tests that allow for many models at once: SPA, confidence set, deflated Sharpe ratio.

    Returns
    -------
    DataFrame
        ``test, asks, value, answer`` in words.
    """
    ability = superior_predictive_ability(scores.losses)
    kept = model_confidence_set(scores.losses)
    trades = scores.trades
    free = trades[(trades["rule"] == "top") & (trades["cost_bp"] == 0.0)].iloc[0]
    luck, skilled = ability.p_consistent, float(free["deflated"])
    members = ", ".join(title_of(name) for name in kept["model"][kept["included"]])
    rows = [
        (
            "Superior predictive ability (Hansen): p-value",
            "Could the best of all models be luck?",
            luck,
            "hardly" if luck < _CHANCE else "yes",
        ),
        (
            "Model confidence set: share of the models",
            "Which cannot be told from the best?",
            float(kept["included"].mean()),
            members,
        ),
        (
            "Deflated Sharpe ratio: probability",
            "Is the gain before fees skill, after all tries?",
            skilled,
            "most likely" if skilled > 1 - _CHANCE else "not shown",
        ),
    ]
    return pd.DataFrame(rows, columns=["test", "asks", "value", "answer"]).dropna().reset_index(drop=True)
