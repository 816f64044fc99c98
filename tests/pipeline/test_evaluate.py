from __future__ import annotations

import pandas as pd
import pytest

from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.evaluate import evaluate, judge, load_walk, plan_of
from btcml.store.models import read_champion

END = pd.Timestamp("2025-03-01", tz="UTC")


@pytest.mark.soak
def test_evaluating_judges_but_puts_nobody_into_service(store, settings, series):
    """The verb answers figures beside persistence's, and leaves the registry alone."""
    facts = evaluate(store, settings, series, jobs=1)
    assert facts["figures"]["persistence"]["ratio"] == 1.0
    assert facts["champion"] in {"persistence", "autoreg", "random_forest", "lightgbm_mean"}
    assert read_champion(store, series) is None
    assert set(load_walk(settings, series)["model"]) == {"persistence", "autoreg", "random_forest", "lightgbm_mean"}


def test_predicted_highs_and_lows_of_the_walk_use_no_later_candle(series):
    """Another future leaves every forecast candle before it bit for bit."""
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "5m", END - pd.Timedelta(days=9), END)
    cut = len(candles) - 100
    other = candles.copy()
    other.loc[cut:, ["open", "high", "low", "close"]] *= 1.5
    both = [judge(frame, series, models=("autoreg",), jobs=1).walk for frame in (candles, other)]
    known = [walk[walk["open_time"] < candles["open_time"][cut]].reset_index(drop=True) for walk in both]
    columns = ["open_time", "model", "y_hat", "open", "high", "low", "amp"]
    pd.testing.assert_frame_equal(known[0][columns], known[1][columns], check_exact=True)


@pytest.mark.parametrize("end", ["2025-03-01 00:00", "2025-03-01 00:05", "2025-03-01 12:35", "2024-03-01 23:55"])
@pytest.mark.parametrize("days", [1095, 2000])
def test_a_year_is_judged_by_two_fits_and_no_third_for_its_last_minutes(days, end):
    """Every fold costs as much as the next, however few candles it tests; and the last candle is tested."""
    stop = pd.Timestamp(end, tz="UTC")
    times = pd.date_range(stop - pd.Timedelta(days=days), stop, freq="5min", inclusive="left")
    folds = plan_of(pd.DataFrame({"open_time": times}), "5m").folds(pd.Series(times), "5m")
    assert len(folds) == 3  # the first teaches the factors
    assert folds[-1].test_start < times[-1] < folds[-1].test_end
    assert times[-1] - folds[1].test_start > pd.Timedelta(days=364)
