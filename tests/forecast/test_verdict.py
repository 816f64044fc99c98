"""The verdict keeps its rule, each clause of it, and says why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast import verdict as module
from btcml.forecast.metrics import forecast_frame, loss_table
from btcml.forecast.statistics import Comparison, diebold_mariano
from btcml.forecast.verdict import decision_due, verdict

N = 24 * 365
RNG = np.random.default_rng(1)
MOVE = RNG.normal(0, 1e-3, N)
CLOSE = 100 * np.exp(np.concatenate([[0], np.cumsum(MOVE)]))
OWN = np.random.default_rng(2).normal(0, 1e-3, (6, N))


def skilled(share: float | np.ndarray, noise: int = 0, size: float = 0.02) -> dict[str, np.ndarray]:
    """Model that forecasts a share of each move, with a little noise."""
    return {"y_hat": CLOSE[:-1] * np.exp(share * MOVE + size * OWN[noise])}


def frame(**models: dict[str, np.ndarray]) -> pd.DataFrame:
    """Year of hourly forecasts."""
    return forecast_frame(CLOSE, models, interval="1h", start="2024-01-01")


def test_the_lowest_error_among_those_that_beat_persistence_is_champion() -> None:
    """Two models beat it; the better one is served, and the sentence shows the figures."""
    result = verdict(frame(good=skilled(0.1), better=skilled(0.2, 1), bad=skilled(-0.1, 2)))
    assert result.champion == "better"
    assert result.table["model"].tolist() == ["persistence", "better", "good", "bad"]
    assert result.table["beats"].tolist() == [False, True, True, False]
    assert result.reason.startswith("better is champion: it has 0.8")
    assert "p < 0.001 after Holm over 3 challengers and 1 look)" in result.reason


def test_holm_counts_the_models_of_the_other_horizons_too() -> None:
    """Three models at another horizon, none of them better, make p four times as large."""
    rows = frame(faint=skilled(0.0005))
    one, more = verdict(rows), verdict(rows, others=[pd.Series({"a": 0.9, "b": 0.8, "c": 0.7})])
    assert more.table["p"].tolist() == one.table["p"].tolist()
    assert more.table["p_once"][1] == pytest.approx(4 * one.table["p_once"][1])
    assert "1 challenger at 2 horizons" in more.reason
    ahead = verdict(rows.assign(horizon=12))
    assert ahead.table["p"][1] == diebold_mariano(*losses_of(rows), horizon=12).p_better
    assert " 12 candles ahead: " in ahead.reason


def losses_of(rows: pd.DataFrame) -> list[np.ndarray]:
    """Losses of the only challenger and of persistence."""
    table = loss_table(rows)
    return [table[name].to_numpy() for name in ("faint", "persistence")]


def test_skill_whose_trend_has_reached_nothing_is_not_served() -> None:
    """The last six months are better on the whole, their end is not; neither does it stay champion."""
    fading = frame(fading=skilled(np.linspace(0.3, -0.04, N)), steady=skilled(0.01, 1))
    for incumbent in ("persistence", "fading"):
        result = verdict(fading, incumbent=incumbent)
        row = result.table.set_index("model").loc["fading"]
        assert row["recent_ratio"] < 1
        assert row["p_holm"] < 0.01
        assert row["trend"] < 0
        assert result.champion == "steady"
    assert (
        "; but the trend of its daily skill ends at -"
        in verdict(frame(fading=skilled(np.linspace(0.3, -0.04, N)))).reason
    )


def test_skill_that_ended_half_a_year_ago_is_not_served() -> None:
    """Clause of the last six months: the whole test is won, the recent part is lost."""
    share = np.where(np.arange(N) < N // 2 - 100, 0.4, -0.02)
    result = verdict(frame(faded=skilled(share)))
    assert result.table["p_holm"].iloc[1] < 1e-6
    assert result.table["recent_ratio"].iloc[1] > 1
    assert result.champion == "persistence"
    assert "no challenger beats it; the best, faded, has 0.8" in result.reason


def test_the_sentence_names_no_months_that_a_short_test_does_not_have() -> None:
    """The reason names twenty days, or a year with its last six months."""
    whole = frame(good=skilled(0.2))
    short = whole[whole["open_time"] < whole["open_time"].min() + pd.Timedelta(days=20)]
    sentence = verdict(short).reason
    assert "in the last" not in sentence
    assert "in a test of 20 days, shorter than the 6 months of the rule" in sentence
    assert "in the last 6 months" in verdict(whole).reason


def test_persistence_is_served_when_nothing_beats_it() -> None:
    """A worse model, a copy of persistence and no model at all."""
    assert verdict(frame(worse=skilled(-0.1))).champion == "persistence"
    assert verdict(frame(twin={"y_hat": CLOSE[:-1]})).champion == "persistence"
    assert verdict(frame()).reason == "persistence is champion: there is no challenger."


def test_challengers_and_looks_raise_the_p_value() -> None:
    """A model that is significant alone is not after forty looks, or among many useless ones."""
    slight = skilled(0.0006, 3)
    alone = verdict(frame(slight=slight))
    p = float(alone.table["p"].iloc[1])
    assert 1e-4 < p < 0.009
    assert alone.champion == "slight"
    crowd = {f"useless{i}": skilled(0.0, i % 3, 0.3 + i / 100) for i in range(100)}
    assert verdict(frame(slight=slight), looks=int(0.011 / p) + 1).champion == "persistence"
    assert verdict(frame(slight=slight, **crowd)).champion == "persistence"


def test_a_champion_is_replaced_only_by_one_that_beats_it() -> None:
    """Slightly better is not enough; much better is."""
    models = {"old": skilled(0.2, 0), "hair": skilled(0.2001, 1), "much": skilled(0.3, 2)}
    kept = verdict(frame(old=models["old"], hair=models["hair"]), incumbent="old")
    assert kept.champion == "old"
    assert kept.reason.startswith("old stays champion: no challenger beats it")
    replaced = verdict(frame(**models), incumbent="old")
    assert replaced.champion == "much"
    assert replaced.reason.endswith("and beats old.")


def test_without_a_reigning_champion_the_lower_error_wins() -> None:
    """The same two models, none incumbent: the lower error wins."""
    result = verdict(frame(old=skilled(0.2, 0), hair=skilled(0.21, 1)))
    assert result.champion == "hair"


@pytest.mark.parametrize("incumbent", ["fallen", "gone"])
def test_a_champion_that_lost_to_persistence_or_is_gone_is_replaced_like_persistence(incumbent: str) -> None:
    """Then the rule of persistence applies to all."""
    result = verdict(frame(fallen=skilled(-0.1), good=skilled(0.2, 1)), incumbent=incumbent)
    assert result.champion == "good"


def test_few_candles_are_no_verdict() -> None:
    """Below 200 candles persistence is served and the sentence counts them."""
    few = frame(oracle=skilled(1.0)).groupby("model").head(199)
    result = verdict(few, incumbent="oracle")
    assert result.champion == "persistence"
    assert result.reason == "persistence is champion: a verdict needs 200 candles, found 199."


def test_equal_frames_give_equal_verdicts_in_any_order() -> None:
    """A shuffled frame is judged alike."""
    made = frame(good=skilled(0.1), better=skilled(0.2, 1))
    assert verdict(made.sample(frac=1, random_state=1)) == verdict(made)


def test_a_verdict_falls_at_most_once_a_day() -> None:
    """Never before a day has passed, also when the clock goes back."""
    last = pd.Timestamp("2025-01-01 12:00", tz="UTC")
    due = [decision_due(last, last + pd.Timedelta(hours=h)) for h in (-5, 0, 0.25, 23.9, 24, 100)]
    assert due == [False, False, False, False, True, True]
    assert decision_due(None, last)


def test_bad_calls_are_refused() -> None:
    """No persistence and no look have their sentences."""
    with pytest.raises(UsageError, match="persistence must be among the forecasts, found a"):
        verdict(frame(a=skilled(0.1)).query("model == 'a'"))
    with pytest.raises(UsageError, match="looks must be at least 1"):
        verdict(frame(a=skilled(0.1)), looks=0)


def test_a_better_model_that_a_training_does_not_fit_is_named_but_not_champion() -> None:
    """The champion is one that can be served; the sentence names the other one and says why it is not."""
    made = frame(outside=skilled(0.3), inside=skilled(0.2, 1))
    result = verdict(made, served=("inside",))
    assert (result.champion, verdict(made).champion) == ("inside", "outside")
    assert result.table[["model", "served"]].to_numpy().tolist()[1:] == [["outside", False], ["inside", True]]
    assert ". Not served, since a training does not fit it: outside (0.7" in result.reason
    assert "Not served" not in verdict(made).reason
    assert verdict(made, served=("inside",), incumbent="outside").champion == "inside"


def test_without_a_model_that_can_be_served_persistence_is_champion() -> None:
    """None of those that a training fits, or none of them good enough; no sentence denies the skill of the others."""
    none = verdict(frame(outside=skilled(0.3)), served=("inside",)).reason
    assert none.startswith(
        "persistence is champion: none of the challengers is one that a training fits; the best, outside, has 0.7"
    )
    weak = verdict(frame(outside=skilled(0.3), inside=skilled(-0.1, 1)), served=("inside",))
    assert weak.champion == "persistence"
    assert "no challenger that a training fits beats it; none has a smaller error; the nearest, inside" in weak.reason
    assert weak.reason.count("outside") == 1


def test_a_model_with_a_larger_error_is_not_called_the_best() -> None:
    """A ratio of 1.00003 is printed as such, and called the nearest."""
    sentence = verdict(frame(copy=skilled(-1e-6, 1, size=2e-5))).reason
    assert "none has a smaller error; the nearest, copy, has 1.0000" in sentence
    ratio = float(sentence.split("copy, has ")[1].split()[0])
    assert 1 < ratio < 1.0001


@pytest.mark.parametrize(("p", "shown"), [(0.0096, "p 0.0096"), (0.0099996, "p 0.0099996"), (0.0104, "p 0.0104")])
def test_a_printed_p_is_on_its_side_of_the_level(monkeypatch, p, shown) -> None:
    """0.0096 passes at 0.01, so it is not printed as 0.010; 0.0104 fails."""
    monkeypatch.setattr(module, "diebold_mariano", lambda *_, **__: Comparison(-2.3, p, 2 * p, 1, N))
    result = verdict(frame(good=skilled(0.1)))
    assert (result.champion == "good") == (p < 0.01)
    assert f"{shown} after Holm" in result.reason


def test_where_no_price_moved_the_sentence_says_so() -> None:
    """There is no error to reduce: no ratio of nothing to nothing is printed."""
    still = np.full(1001, 100.0)
    result = verdict(forecast_frame(still, {"still": {"y_hat": still[1:]}}))
    assert result.champion == "persistence"
    assert result.reason.endswith("champion: no price moved in 1,000 candles, so there is no error to reduce.")
    half = CLOSE.copy()
    half[N // 4 :] = half[N // 4]
    faded = {"y_hat": half[:-1] * np.exp(0.2 * np.diff(np.log(half)))}
    sentence = verdict(forecast_frame(half, {"faded": faded}, interval="1h")).reason
    assert "while no price moved in the last 6 months" in sentence
