"""Bootstraps across models: arch's figures, thinned spans, twins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import MCS, SPA

from btcml.errors import UsageError
from btcml.forecast.statistics import (
    model_confidence_set,
    superior_predictive_ability,
)


def losses(rows: int = 600, seed: int = 1) -> pd.DataFrame:
    """Losses of persistence, a better, an equal and a worse model."""
    common, *own = np.abs(np.random.default_rng(seed).normal(size=(5, rows)))
    shift = {"persistence": 0.0, "better": -0.3, "equal": 0.0, "worse": 0.3}
    return pd.DataFrame({name: common + part + shift[name] for name, part in zip(shift, own, strict=True)})


def test_superior_ability_is_archs_figure_on_short_spans() -> None:
    """With the same seed and block the p-values are those of arch's SPA."""
    table = losses()
    peer = SPA(
        table["persistence"].to_numpy(),
        table.drop(columns="persistence").to_numpy(),
        block_size=9,
        reps=300,
        seed=3,
    )
    peer.compute()
    ours = superior_predictive_ability(table, reps=300, seed=3)
    assert (ours.p_lower, ours.p_consistent, ours.p_upper) == tuple(peer.pvalues)
    assert ours.p_consistent < 0.01


def test_no_superior_ability_without_a_better_model() -> None:
    """Equal and worse models leave p high; persistence alone or its twin leaves p = 1."""
    table = losses().drop(columns="better")
    assert superior_predictive_ability(table, reps=300).p_consistent > 0.1
    alone = table[["persistence"]].assign(twin=table["persistence"])
    assert superior_predictive_ability(alone).p_consistent == 1.0


def test_thinning_keeps_the_answer() -> None:
    """40,000 rows averaged to 4,000 find the same better model."""
    assert superior_predictive_ability(losses(40_000), reps=200).p_consistent < 0.01


def test_the_confidence_set_is_archs_and_holds_the_best() -> None:
    """P-values equal arch's MCS; only the better model is included."""
    table = losses()
    peer = MCS(table, size=0.1, reps=300, block_size=9, seed=3)
    peer.compute()
    ours = model_confidence_set(table, reps=300, seed=3).set_index("model")
    pd.testing.assert_series_equal(ours["p"].sort_index(), peer.pvalues["Pvalue"].sort_index(), check_names=False)
    assert ours.index[ours["included"]].tolist() == ["better"]


def test_twins_share_their_place_in_the_confidence_set() -> None:
    """Two columns equal to the bit have no variance between them and get one p."""
    table = losses().assign(twin=lambda frame: frame["better"])
    ours = model_confidence_set(table, reps=300).set_index("model")
    assert ours["p"][["twin", "better"]].tolist() == [1.0, 1.0]
    assert model_confidence_set(table[["twin", "better"]])["included"].all()


def test_a_benchmark_that_is_not_there_is_refused() -> None:
    """The sentence names the models that are."""
    with pytest.raises(UsageError, match="'drift' is not among the models persistence, better"):
        superior_predictive_ability(losses(), "drift")
