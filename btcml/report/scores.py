"""The result of the experiment as the last chapter tells it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from btcml.forecast.metrics import PERSISTENCE
from btcml.report.experiment import title_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from btcml.forecast.experiment import Gain, Result
    from btcml.forecast.verdict import Verdict

__all__ = ["PERSISTENCE", "Scores", "coverage", "expert_tests"]

_TABLE = (
    "mae_bp", "mae_usd", "skill", "skill_low", "skill_high",
    "direction", "direction_low", "direction_high", "top_direction", "wda",
)  # fmt: skip
_BY = ("skill", "skill_low", "skill_high", "mae_bp", "dm_p")
_CHANCE = 0.05


@dataclass(frozen=True)
class Scores:
    """Views of a result for the charts of the last chapter."""

    result: Result

    @property
    def forecasts(self) -> pd.DataFrame:
        """The forecast frame."""
        return self.result.forecasts

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.result.verdict

    @property
    def losses(self) -> pd.DataFrame:
        """Losses."""
        return self.result.losses

    @property
    def trials(self) -> int:
        """Tries."""
        return self.result.trials

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a model, persistence first: the metrics of `_TABLE` and ``p_holm``."""
        chances = self.verdict.table[["model", "p_holm", "beats"]].replace({"p_holm": {np.inf: np.nan}})
        table = self.result.scores(metrics=_TABLE).merge(chances, on="model", how="left", validate="one_to_one")
        table.loc[table["model"] == PERSISTENCE, ["skill_low", "skill_high", "p_holm"]] = np.nan
        return table

    @property
    def wins(self) -> bool:
        """Whether any model beats persistence by the rule."""
        return self.verdict.champion != PERSISTENCE

    @property
    def best(self) -> dict[Hashable, Any]:
        """Row of the leader."""
        return self.table[self.table["model"] == self.result.leader].to_dict("records")[0]

    @property
    def of_best(self) -> pd.DataFrame:
        """Forecasts of that model."""
        return self.result.of_leader

    def skill_by(self, group: str) -> pd.DataFrame:
        """Skill of that model by group."""
        table = self.result.scores(group, _BY)
        table = table[(table["model"] != PERSISTENCE) & (table["rows"] > table["rows"].median() / 10)]
        return table.drop(columns="model").reset_index(drop=True)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """What trading on that model's forecasts gives, by rule, entry and cost."""
        return self.result.money()

    @property
    def gain(self) -> Gain:
        """What the strongest forecasts earn."""
        return self.result.gain


def coverage(result: Result) -> pd.DataFrame:
    """How often the leader's interval held the outcome."""
    return result.interval


def expert_tests(scores: Scores) -> pd.DataFrame:
    """Tests that allow for many models at once: SPA, confidence set, deflated Sharpe ratio, in words."""
    found = {row["test"]: row for row in scores.result.joint_tests().to_dict("records")}
    luck, skilled = (float(found[name]["value"]) for name in ("spa", "deflated_sharpe"))
    members = ", ".join(title_of(name) for name in found["confidence_set"]["models"].split(", "))
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
            float(found["confidence_set"]["value"]),
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
