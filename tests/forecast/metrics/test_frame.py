"""The maker of forecast frames keeps the vocabulary of the frame."""

from __future__ import annotations

import numpy as np
import pandas as pd

from btcml.forecast.metrics import FORECAST_COLUMNS, forecast_frame


def test_the_frame_has_the_columns_order_and_types_that_all_rooms_agreed_on() -> None:
    """Sorted by model and time; UTC times of microseconds; NaN where a model has none."""
    frame = forecast_frame([1, 2, 3], {"z": {"y_hat": [2, 3], "lo": [1, 2]}, "a": {"y_hat": [2, 3]}}, interval="1h")
    assert tuple(frame) == FORECAST_COLUMNS
    assert frame["model"].tolist() == ["a", "a", "persistence", "persistence", "z", "z"]
    assert frame["open_time"].dtype == frame["cutoff"].dtype == "datetime64[us, UTC]"
    assert frame["cutoff"].iloc[0] == frame["open_time"].iloc[0] - pd.Timedelta(hours=1)
    assert frame["lo"].isna().tolist() == [True] * 4 + [False] * 2
    assert (frame["y_hat"][2:4].to_numpy() == np.array([1, 2])).all()
