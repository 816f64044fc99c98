"""The longer horizons of a report and its three answers: what is said follows from the forecasts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from btcml.forecast.experiment import Experiment, Gain, Result, late_ratio
from btcml.report.charts import evaluation, horizons
from btcml.report.figures import published

from .test_exhibits import forecasts, range_frame, result_of, text_of


@pytest.fixture(scope="module")
def both(snapshot) -> tuple[Result, Result]:
    """The next candle with one model, and the longer horizons, over half a month of the simulated market."""
    experiment = Experiment.default(snapshot.candles, "15m").replace(models=("ridge",))
    result = experiment.run(snapshot.candles, jobs=1)
    longer = horizons.run_longer(experiment, snapshot.candles, snapshot.trials, snapshot.research, (1, 3, 9, 48))
    assert longer is not None
    return result, longer


def test_only_horizons_with_enough_outcomes_are_run(both, snapshot):
    """A horizon needs a hundred outcomes that do not overlap; folds and features stay those of the next candle."""
    result, longer = both
    assert longer.experiment.horizons == (3, 9)
    same = ("test_from", "features", "window", "refit", "burn_in")
    assert all(getattr(longer.experiment, name) == getattr(result.experiment, name) for name in same)
    few = snapshot.candles.tail(96 * 20)
    assert horizons.run_longer(result.experiment, few, snapshot.trials, snapshot.research, (1, 48)) is None
    assert "too short" in text_of(horizons.design(None))
    assert "one horizon" in text_of(horizons.skill_by_horizon(result, None))
    assert "too few" in text_of(horizons.fan(None, few, "BTCUSDT"))
    assert "too few" in text_of(horizons.distributions(None))


def test_the_table_of_horizons_agrees_with_the_verdicts(both):
    """Skill, p and lateness are those of the results, each computed in another way there."""
    result, longer = both
    table = horizons.skill_by_horizon(result, longer).data.set_index("horizon")
    assert table.index.tolist() == [1, 3, 9]
    rows = longer.by_horizon.set_index("horizon")
    assert (1 - table["skill"][[3, 9]]).tolist() == pytest.approx(rows["ratio"].tolist(), rel=1e-3)
    assert table["p"][[3, 9]].tolist() == pytest.approx(rows["p_holm"].tolist())
    assert 1 - table["late"][3] == pytest.approx(late_ratio(longer.of_leader), rel=1e-3)
    assert (table["low"] <= table["skill"]).all()
    assert (table["skill"] <= table["high"]).all()


@pytest.mark.parametrize(
    ("beats", "late_low", "sentence"),
    [
        ([True, True, True], [0.1, 0.1, -0.1], "at 3 of 3 horizons, 1, 3 and 12 ahead: the skill is 0.20 % to 0.40 %"),
        ([True, False, False], [-0.1, -0.1, -0.1], "nothing of it is beyond chance"),
        ([False, False, False], [-0.1, -0.1, -0.1], "At none of 3 horizons"),
        ([False, False, False], [-0.1, 0.1, -0.1], "above chance, taken alone, at 1 of 3."),
        ([False, True, False], [-0.1, 0.1, -0.1], "at 1 of 3 horizons, 3 ahead: the skill is 0.30 %; used one candle"),
    ],
)
def test_horizons_are_called_proven_where_they_are(beats, late_low, sentence):
    """By the rule, and by nothing else."""
    table = pd.DataFrame({"horizon": [1, 3, 12], "beats": beats, "late_low": late_low, "skill": [0.002, 0.003, 0.004]})
    said = str(horizons._skill_by_horizon_claim(table)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert sentence in said
    assert said.startswith("The close" if any(beats) else "At none of")


def test_a_fan_shows_what_was_known_and_what_came(both, snapshot):
    """All outcomes are known, the bands hold each other and widen, and the errors behind them are of days before."""
    _, longer = both
    chart = horizons.fan(longer, snapshot.candles, "BTCUSDT")
    table, candles = chart.data, snapshot.candles.set_index("open_time")
    assert table["y"].tolist() == pytest.approx(candles.loc[table["open_time"], "close"].tolist(), rel=1e-12)
    assert table["base"].tolist() == [candles["close"].iloc[candles.index.searchsorted(table["made"].iloc[0]) - 1]] * 2
    order = table[["low_90", "low_50", "median", "high_50", "high_90"]].to_numpy()
    assert (np.diff(order) > 0).all()
    assert np.diff(table["high_90"] - table["low_90"]).min() > 0
    where = (table["y"].iloc[-1] >= table["low_90"].iloc[-1]) & (table["y"].iloc[-1] <= table["high_90"].iloc[-1])
    assert ("inside, as at" in text_of(chart)) == where
    moved = table.assign(y=table["high_90"] * 2)
    assert "outside" in str(chart.conclude(moved))


def test_a_fan_is_the_distribution_that_the_walk_scored(both):
    """The edges of the 90 % band are the bounds of the forecast frame."""
    _, longer = both
    table = horizons._fan_table(longer)
    for one, row in zip(longer.family, table.to_dict("records"), strict=True):
        own = one.of_leader.set_index("open_time").loc[row["open_time"]]
        assert [row["low_90"], row["high_90"]] == pytest.approx([own["lo"], own["hi"]], rel=1e-9)


def test_distributions_are_judged_by_bands_and_quantiles(both):
    """Bands that hold too little, or an uneven transform, are not called good."""
    chart = horizons.distributions(both[1])
    assert text_of(chart).startswith("Bands that should hold 50")
    good = published(chart.data.assign(share=chart.data["level"].where(chart.data["what"] == "band", 1.0), p=0.5))
    assert "within 0.0" in str(chart.conclude(good)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "fall evenly into the quantiles as far as" in str(chart.conclude(good))
    assert "do not fall evenly into the quantiles at 2" in str(chart.conclude(good.assign(p=0.001)))
    assert "miss by up to" in str(chart.conclude(good.assign(share=good["share"] - 0.1)))


@pytest.mark.parametrize(
    ("skill", "sizes", "said"),
    [
        (0.2, 0.3, ["in part", "very well", "perhaps"]),
        (0.02, 0.3, ["hardly", "very well", "no"]),
        (0.0, 0.0, ["not known", "very well", "no"]),
    ],
)
def test_the_three_answers_follow_from_the_report(skill, sizes, said):
    """Where, how far, and whether it is money: on a market without skill the words differ."""
    result = dataclasses.replace(result_of(forecasts(skill)), ranges=range_frame(sizes))
    result.__dict__["gain"] = Gain(25.0, 21.0, 29.0) if skill == 0.2 else Gain(1.5, 1.0, 2.0)
    cards = evaluation.answers(result)
    assert [card.label for card in cards] == ["Where will it go?", "How far?", "Is it money?"]
    assert [str(card.value) for card in cards] == said
    assert ("may be luck" in cards[2].note) == (skill == 0.0)


def test_sizes_that_nobody_forecasts_are_not_known():
    """Ranges without memory, and forecasts worse than their mean."""
    noise = range_frame(0.3)
    noise["y"] = np.tile(np.random.default_rng(1).normal(-7, 0.4, 3000), 4)
    card = evaluation.answers(dataclasses.replace(result_of(forecasts(0.0)), ranges=noise))[1]
    assert str(card.value) == "not known"
    assert card.note.startswith("the best model forecasts the range")
