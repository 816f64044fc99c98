"""What a reader can try: the same numbers in sentence, table and script."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from btcml.forecast.metrics import PERSISTENCE
from btcml.report.charts import tryout
from btcml.report.claims import Claim

from .test_exhibits import forecasts, result_of, told


@pytest.fixture(scope="module")
def result():
    """Forecasts with skill."""
    return result_of(forecasts(0.2))


@pytest.fixture(scope="module")
def candles(result):
    """The closes of the test, and two days before it."""
    frame = result.forecasts[result.forecasts["model"] == PERSISTENCE]
    step = frame["open_time"].diff().min()
    before = pd.date_range(end=frame["open_time"].iloc[0] - step, periods=200, freq=step)
    close = np.concatenate([np.full(len(before), frame["base"].iloc[0]), frame["y"]])
    return pd.DataFrame({"open_time": [*before, *frame["open_time"]], "close": close})


def test_twenty_hidden_candles_are_guessed_against_model_and_coin(result, candles):
    """What the script counts is what the sentence says, and the past ends at the last close."""
    shown = tryout.guess(result, candles)
    facts, table = shown.facts, shown.data
    rose = np.array(facts["came"])
    hits, coin = (np.array(facts["said"]) == rose).sum(), (np.array(facts["coin"]) == rose).sum()
    assert f"is right in {hits} of them, a coin in {coin};" in told(shown)
    assert "A coin alone is right in 15 or more of 20 hidden candles in 2.1 % of all games." in told(shown)
    assert {len(past) for past in facts["past"]} == {48}
    assert [past[-1] for past in facts["past"]] == [0.0] * 20
    first = table.iloc[0]
    assert facts["moves"][0] == pytest.approx(1e4 * np.log(first["y"] / first["base"]), abs=0.05)
    assert tryout.guess(result, candles).facts == facts


def test_too_few_moves_are_no_game(result, candles):
    """Fewer moves than hidden candles, and candles without a past."""
    few = result_of(result.forecasts.groupby("model", observed=True).head(15))
    assert told(tryout.guess(few, candles)) == "No model forecasts enough moves for a guess against it."
    assert isinstance(tryout.guess(result, candles.iloc[200:].head(30)), Claim)


def test_a_fee_is_taken_from_a_round_trip_with_its_interval(result):
    """The table falls by the fee; at none it is the gain of the result."""
    shown = tryout.fee(result)
    table = shown.data
    np.testing.assert_allclose(table["net_bp"] + table["fee_bp"], result.gain.bp)
    assert shown.facts["gross"] == pytest.approx(result.gain.bp, abs=1e-6)
    assert told(shown).startswith("Choose your fee: a round trip on the strongest forecasts earns")


def test_a_gain_of_models_without_skill_is_called_chance():
    """Whatever its own interval says."""
    result = result_of(forecasts(0.0))
    shown = tryout.fee(result)
    assert shown.facts["proven"] is False
    assert "may be chance" in told(shown) or "earns nothing" in told(shown)


def test_skill_by_month_is_that_of_both_losses(result):
    """Squared errors by hand."""
    table = tryout.loss(result).data.set_index("month")
    frame = result.of_leader
    month = frame["open_time"].dt.strftime("%Y-%m")
    error, move = np.log(frame["y"] / frame["y_hat"]) ** 2, np.log(frame["y"] / frame["base"]) ** 2
    squared = 1 - error.groupby(month).sum() / move.groupby(month).sum()
    np.testing.assert_allclose(table["squared"], squared.reindex(table.index), atol=1e-9)
    np.testing.assert_allclose(table["absolute"], result.months.set_index("month")["skill"], atol=1e-9)


def test_the_facts_stand_in_the_page_as_json_that_ends_no_script(result):
    """A reader without script has the table."""
    markup = tryout.loss(result).placeholder
    found = re.search(r'data-kind="loss"><script type="application/json">(.*?)</script>', markup)
    assert set(json.loads(found[1])) == {"months", "absolute", "squared"}
