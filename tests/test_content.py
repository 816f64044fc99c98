"""The hash of a frame's content: files, indexes and copies do not count, values do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.content import content_hash


def frame():
    """Return a frame with a column of each kind."""
    times = pd.date_range("2025-01-01", periods=20, freq="1min", tz="UTC").as_unit("us")
    return pd.DataFrame(
        {
            "open_time": times,
            "close": np.arange(20) / 7,
            "trades": range(20),
            "odd": [True, False] * 10,
            "rule": "volume",
        }
    )


def test_the_hash_depends_on_content_alone():
    """Another index, a copy or a file between changes nothing."""
    same = content_hash([("candles", frame())])
    assert content_hash([("candles", frame().set_index(frame().index + 7))]) == same


@pytest.mark.parametrize(
    "change",
    [
        {"close": lambda f: np.nextafter(f["close"], 9)},
        {"open_time": lambda f: f["open_time"] + pd.Timedelta("1us")},
        {"trades": lambda f: f["trades"] + 1},
        {"odd": lambda f: ~f["odd"]},
        {"rule": "volumes"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_least_change_of_any_value_is_another_hash(change):
    """One bit of a float, a microsecond, a letter."""
    assert content_hash([("candles", frame().assign(**change))]) != content_hash([("candles", frame())])


def test_names_and_order_count_and_every_nan_is_the_same():
    """Content is also what it is called; how a NaN is spelt in bits is not content."""
    one = content_hash([("candles", frame())])
    assert content_hash([("other", frame())]) != one
    assert content_hash([("candles", frame().rename(columns={"close": "open"}))]) != one
    odd = -np.array([np.nan])
    assert content_hash([("x", pd.DataFrame({"a": odd}))]) == content_hash([("x", pd.DataFrame({"a": [np.nan]}))])
