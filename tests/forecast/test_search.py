"""The search tries, counts and keeps time's order."""

from __future__ import annotations

import pytest

from btcml.errors import UsageError
from btcml.forecast import search as module
from btcml.forecast.search import search


def test_every_try_is_a_record_and_survivors_are_tried_with_more_trees(candles, monkeypatch):
    """Four candidates, one halving: six tries or fewer, best first, repeatable."""
    monkeypatch.setattr(module, "MIN_ROUNDS", 3)
    monkeypatch.setattr(module, "MAX_ROUNDS", 9)
    trials = search(candles, "5m", 4, jobs=1)
    assert 4 < len(trials) <= 6
    assert {trial.rung for trial in trials} == {0, 1}
    assert [trial.ratio for trial in trials] == sorted(trial.ratio for trial in trials)
    assert {trial.params["n_estimators"] for trial in trials} == {3, 9}
    assert search(candles, "5m", 4, jobs=1) == trials


def test_validation_comes_after_training_with_a_day_between(candles):
    """scikit-learn's own splitter, with the gap."""
    for train, test in module._folds().split(candles):
        assert test.min() - train.max() > 288


def test_a_search_of_nothing_is_refused(candles):
    """The caller's mistake."""
    with pytest.raises(UsageError, match="at least 1 candidate"):
        search(candles, "5m", 0)
