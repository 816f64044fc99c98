"""The verdict and the scores of a walk-forward, gathered once for the last chapter.

Nothing is judged here: the rule of the verdict, the metrics and the money are those of `btcml.forecast`,
which the service uses too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.forecast.inference import wilson_interval
from btcml.forecast.inference.many import model_confidence_set, superior_predictive_ability
from btcml.forecast.metrics import PERSISTENCE, THIRDS, evaluate, loss_table, volatility_third
from btcml.forecast.money import money
from btcml.forecast.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Hashable

    from btcml.forecast.verdict import Verdict

__all__ = ["PERSISTENCE", "Scores", "coverage", "expert_tests", "score_forecasts"]

_TABLE = ("mae_bp", "mae_usd", "skill", "skill_low", "skill_high", "direction", "wda")
_COSTS = (0.0, 1.0, 2.0, 5.0, 10.0)


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
        Models and settings tried on these data, for the tests that must know.
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
        """Skill of that model by ``year, month, hour`` or ``third``: that column, ``rows``, and the interval."""
        table = evaluate(self.with_base, ["skill", "skill_low", "skill_high"], by=group)
        return table[table["model"] != PERSISTENCE].drop(columns="model").reset_index(drop=True)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """What trading on that model's forecasts gives, by rule, entry and cost (`btcml.forecast.money`)."""
        return money(self.of_best, costs_bp=_COSTS, trials=self.trials)

    @property
    def break_even_bp(self) -> float:
        """Fee of a round trip at which the strongest forecasts, traded at once, earn nothing; not below zero."""
        chosen = (self.trades["rule"] == "top") & (self.trades["entry"] == "at once")
        return max(0.0, float(np.nan_to_num(self.trades["break_even_bp"][chosen].iloc[0])))


def score_forecasts(forecasts: pd.DataFrame, trials: int) -> Scores:
    """Judge and score a forecast frame; at least the models in it count as tried."""
    judged = verdict(forecasts)
    chances = judged.table[["model", "p_holm"]].replace({"p_holm": {np.inf: np.nan}})
    table = evaluate(forecasts, _TABLE).merge(chances, on="model", how="left", validate="one_to_one")
    table.loc[table["model"] == PERSISTENCE, ["skill_low", "skill_high", "p_holm"]] = np.nan
    tried = max(trials, len(table) - 1)
    return Scores(forecasts, judged, table, loss_table(forecasts), tried)


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
        ``test, asks, value, answer``.
    """
    ability = superior_predictive_ability(scores.losses)
    kept = model_confidence_set(scores.losses)
    trades = scores.trades
    free = trades[(trades["rule"] == "top") & (trades["cost_bp"] == 0.0)].iloc[0]
    rows = [
        ("Superior predictive ability (Hansen)", "Could the best of all models be luck?", ability.p_consistent),
        (
            "Model confidence set",
            "Share of the models that cannot be told from the best",
            float(kept["included"].mean()),
        ),
        ("Deflated Sharpe ratio", "Chance that the gain before fees is skill after all tries", float(free["deflated"])),
    ]
    return pd.DataFrame(rows, columns=["test", "asks", "value"]).dropna().reset_index(drop=True)
