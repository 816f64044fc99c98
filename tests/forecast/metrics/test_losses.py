"""Losses row by row: common candles, one forecast each."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast.metrics import forecast_frame, loss_of, loss_table

FRAME = forecast_frame([100, 110, 100, 105], {"a": {"y_hat": [110, np.nan, 105]}, "z": {"y_hat": [1, 2, 3]}})


def test_the_table_has_persistence_first_and_only_common_candles() -> None:
    """The candle that one model did not forecast is nobody's."""
    table = loss_table(FRAME)
    assert list(table) == ["persistence", "a", "z"]
    assert len(table) == 2
    assert table["a"].tolist() == [0.0, 0.0]
    assert table["persistence"].iloc[0] == pytest.approx(1e4 * math.log(1.1))


def test_models_may_be_categories_also_unused_ones() -> None:
    """A category that no row has is not a model; the table is that of text."""
    categories = pd.CategoricalDtype(["a", "nobody", "persistence", "z"])
    pd.testing.assert_frame_equal(loss_table(FRAME.astype({"model": categories})), loss_table(FRAME))


def test_losses_by_name() -> None:
    """Squares are squares of bp; levels and QLIKE take the columns as they are."""
    row = pd.DataFrame({"y": [2.0], "y_hat": [1.0], "base": [2.0]})
    assert loss_of(row, "squared")[0] == pytest.approx((1e4 * math.log(2)) ** 2)
    assert loss_of(row, "level")[0] == 1.0
    assert loss_of(row, "qlike")[0] == pytest.approx(math.e - 2)
    assert loss_of(row, "absolute", "base")[0] == 0.0


def test_bad_calls_are_refused() -> None:
    """Two forecasts of one candle by one model, and an unknown loss."""
    with pytest.raises(UsageError, match="found two by a for 2024-01-01"):
        loss_table(pd.concat([FRAME, FRAME]))
    with pytest.raises(UsageError, match="no loss 'huber': choose from absolute"):
        loss_of(FRAME, "huber")
