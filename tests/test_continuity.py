"""Spans of candles that were stored before they were final."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.candles import as_candles
from btcml.continuity import suspect_rows, suspect_spans


def walk(n=4000, seed=1):
    """Return a random walk of five-minute candles, each opening a cent or so from the close before."""
    random = np.random.default_rng(seed)
    close = 100_000 * np.exp(np.cumsum(random.normal(0, 1e-3, n)))
    opens = np.concatenate([[100_000], close[:-1]]) + random.choice([-0.01, 0, 0.01], n)
    frame = pd.DataFrame({"open_time": pd.date_range("2025-01-01", periods=n, freq="5min", tz="UTC")})
    frame = frame.assign(open=opens, close=close, volume=random.lognormal(3, 0.5, n))
    frame["high"] = frame[["open", "close"]].max(axis=1) + 5
    frame["low"] = frame[["open", "close"]].min(axis=1) - 5
    return as_candles(frame, "5m")


def frozen(frame, rows):
    """Freeze rows as system 1 did: a few seconds after they opened."""
    bad = frame.copy()
    bad.loc[rows, "close"] = bad.loc[rows, "open"] + 1
    bad.loc[rows, "volume"] *= 0.008
    return bad


def test_good_candles_are_not_suspect():
    """A random walk with cent jumps has no suspect span."""
    assert suspect_spans(walk(), "5m").empty


def test_a_frozen_span_is_found_with_its_bounds():
    """Rows 3000 to 3399 are frozen: the span covers them and little more."""
    rows = suspect_rows(frozen(walk(), slice(3000, 3399)), "5m")
    assert rows[3000:3400].all()
    assert rows.sum() < 400 + 2 * 48


def test_a_single_odd_candle_is_not_suspect():
    """One jump proves nothing."""
    assert not suspect_rows(frozen(walk(), slice(3000, 3000)), "5m").any()


def test_a_bad_span_does_not_become_normal():
    """Bounds are learned from accepted rows only: the twelfth bad day is as suspect as the first."""
    rows = suspect_rows(frozen(walk(9000), slice(4000, 8999)), "5m")
    assert rows[4000:].all()


def test_no_candles_have_no_suspects():
    """An empty series has the same columns."""
    assert list(suspect_spans(walk(1)[:0], "5m").columns) == ["start", "end", "rule", "rows"]


@pytest.mark.real
def test_system_ones_frozen_tail_is_found_by_the_contract_alone(shared_data):
    """At least 95 % of the 413 frozen candles, and less than 1 % of its good ones."""
    seed = as_candles(pd.read_parquet(shared_data / "seed/BTCUSDT-5m.parquet"), "5m")
    truth = pd.read_csv(shared_data / "seed/partial_candles_vs_exchange.csv")
    is_frozen = seed["open_time"].isin(pd.to_datetime(truth["open_time"], unit="ms", utc=True)).to_numpy()
    rows = suspect_rows(seed, "5m")
    assert rows[is_frozen].mean() >= 0.95
    assert rows[~is_frozen].mean() < 0.01


@pytest.mark.real
def test_real_candles_of_every_year_are_not_suspect(shared_data):
    """Less than 1 % a year from 2019 to 2025."""
    frame = as_candles(pd.read_parquet(shared_data / "BTCUSDT-5m.parquet"), "5m")
    share = pd.Series(suspect_rows(frame, "5m")).groupby(frame["open_time"].dt.year).mean()
    assert (share < 0.01).all()
