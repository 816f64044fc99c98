"""Sentences on hostile data: no skill, anti-calibrated, one month, another coin, persistence as champion."""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from btcml.candles import as_candles
from btcml.forecast.edge import EdgeAge
from btcml.forecast.experiment import Experiment, Gain, Result
from btcml.forecast.metrics import calibration
from btcml.forecast.models.statistical import AutoRegression
from btcml.forecast.verdict import looks_to_break
from btcml.forecast.walk import DAY_US
from btcml.report import claims as say
from btcml.report import exploration
from btcml.report import study as study_module
from btcml.report.charts import eda, evaluation, horizons, training
from btcml.report.story import csv_text
from btcml.report.study import open_study

from .test_exhibits import cards_of, forecasts, range_frame, result_of, told
from tools.claims import MODULES, claims


def with_probability(steepness: float, skill: float = 0.2, noise: float = 0.0) -> pd.DataFrame:
    """Forecasts of a rise whose true probability, seen through noise, is stretched from the base rate."""
    frame, random = forecasts(skill), np.random.default_rng(5)
    rows = len(frame) // 3
    true = random.uniform(0.4, 0.6, rows)
    up = random.uniform(size=rows) < true
    said = 0.5 + steepness * (true - 0.5) + noise * random.normal(size=rows)
    base = frame["base"].to_numpy()[:rows]
    y = base * np.exp(np.where(up, 1e-3, -1e-3))
    return frame.assign(y=np.tile(y, 3), prob_up=np.tile(said.clip(0.01, 0.99), 3))


@pytest.mark.parametrize(
    ("steepness", "sentence"),
    [
        (1.0, "are informative and calibrated"),
        (-1.0, "point the wrong way"),
        (0.3, "are informative, but too close to the base rate"),
        (1.7, "are informative, but too far from the base rate"),
        (4.0, "say no more than the base rate"),
    ],
)
def test_probabilities_are_judged_by_brier_and_slope(steepness, sentence):
    """Groups that lie on the line within chance do not make a calibrated forecast; the Brier score is on the page."""
    frame = with_probability(steepness)
    frame = pd.concat([frame.assign(open_time=frame["open_time"] + pd.Timedelta(days=70 * part)) for part in range(3)])
    chart = evaluation.direction(result_of(frame))
    assert sentence in told(chart)
    assert "their Brier score is 0.2" in told(chart)
    assert "that of the base rate 0.2" in told(chart)


def test_few_noisy_probabilities_are_not_called_calibrated():
    """Ten wide intervals hold the line, and still nothing was shown: 37 % said, 56 % came."""
    frame = with_probability(0.0, noise=0.06).groupby("model", sort=False).head(400)
    said = told(evaluation.direction(result_of(frame)))
    assert "no more than the base rate" in said
    assert "calibrated:" not in said


def test_the_slope_is_that_of_least_squares_with_its_error():
    """Oracle: statsmodels' OLS; the base rate itself has neither slope nor test."""
    frame = with_probability(1.0)
    part = frame[frame["model"] == "ridge"]
    whole = calibration(part)
    up = (part["y"] > part["base"]).to_numpy(dtype=float)
    assert whole.slope == pytest.approx(np.polyfit(part["prob_up"], up, 1)[0])
    assert whole.low < 1 < whole.high
    assert whole.base == pytest.approx(up.var())
    assert calibration(part.assign(prob_up=0.5)) is None


NO_SKILL = forecasts(0.0)
"""Two models that forecast noise on a random walk."""


def test_without_skill_nothing_is_called_forecast_or_sure():
    """“No” is followed by no sentence that claims skill, and each figure names whose it is."""
    result = result_of(NO_SKILL)
    said = [
        evaluation.verdict(result), evaluation.truth(result, "binance"), evaluation.truth(result, "simulated"),
        evaluation.loss_difference(result), evaluation.fees(result), evaluation.signs(result),
        evaluation.skill_by(result),
    ]  # fmt: skip
    text = " ".join(told(item) for item in said)
    assert "Yes" not in text
    assert "predictable to a small degree" not in text
    assert "Skill is not profit" not in text
    assert "difference is significant" not in text.replace("No advantage", "")
    assert "is served" not in text
    assert all(str(say.model(result.leader)) in told(item) for item in said[3:])


def test_a_gain_under_no_is_luck_even_if_its_own_interval_is_above_zero():
    """Of a model without skill no fee is called bearable, in no place."""
    result = result_of(NO_SKILL)
    result.__dict__["gain"] = Gain(20.6, 2.6, 38.5)
    card = cards_of(result)["Break-even fee"]
    assert str(card.value) == "not proven"
    assert "may be luck" in card.note
    assert "may be luck" in str(evaluation.fees(result))
    sure = result_of(forecasts(0.2))
    sure.__dict__["gain"] = Gain(20.6, 2.6, 38.5)
    assert "only at a fee" in str(evaluation.fees(sure))


def test_cards_without_a_champion_name_the_model_that_they_are_about():
    """Direction, skill and fee are of the model nearest to persistence, and say so; the interval is of none."""
    cards = cards_of(result_of(NO_SKILL))
    assert str(cards["Champion"].value) == "Persistence"
    for label in ("Skill", "Direction", "Break-even fee"):
        assert "model, " in cards[label].note, label
    assert "model, " not in cards["Coverage"].note
    assert "model, " not in cards_of(result_of(forecasts(0.2)))["Direction"].note


LEDGER = pd.DataFrame(
    {
        "origin": ["search of the authors", "search of the authors", "this report"],
        "what": ["features", "losses", "ridge"],
        "start": pd.Timestamp("2021-01-01", tz="UTC"),
        "end": pd.Timestamp("2023-01-01", tz="UTC"),
        "tries": [220, 60, 2],
        "counted": [False, True, True],
    }
)


def test_every_claim_names_the_tries_that_it_counts():
    """The ledger, the verdict, the card and the expert's tests: each its own number."""
    result = dataclasses.replace(result_of(forecasts(0.2), 31), tries=282)
    assert told(evaluation.tries(result, LEDGER)).startswith("282 tries are on record")
    assert "allow for 62, as 31 looks at 2 models" in told(evaluation.tries(result, LEDGER))
    assert "2 models and 31 looks counted" in cards_of(result)["Skill"].note.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "282 tries are on record" in told(evaluation.decision(result))
    assert "the deflated Sharpe ratio counts 282 tries, the others the 2 models" in told(evaluation.experts(result))


def test_the_page_says_how_many_tries_would_break_the_verdict():
    """Exactly at that number the model is still champion, and at one more no longer."""
    frame = forecasts(0.0006)
    once = float(result_of(frame).verdict.table.set_index("model")["p_once"]["ridge"])
    most = looks_to_break(once)
    assert 1 < most < 1e9
    assert result_of(frame, int(most)).verdict.champion == "ridge"
    assert result_of(frame, int(most) + 1).verdict.champion == "persistence"
    assert f"stays significant with up to {most:,} looks" in told(evaluation.looks_allowed(result_of(frame)))
    assert f"it would be with {most:,} looks at most" in told(evaluation.looks_allowed(result_of(frame, int(most) + 1)))
    assert "More than a billion looks" in told(evaluation.looks_allowed(result_of(forecasts(0.2))))
    assert "not significant at a single look either" in told(evaluation.looks_allowed(result_of(NO_SKILL)))


def test_the_limits_name_the_span_of_the_authors_tries():
    """On the candles of the test, on earlier ones, or on another market: three sentences."""
    assert "280 tries on candles of this series; the p-values count the 60" in told(evaluation.limits(LEDGER))
    assert "220 tries on earlier candles" in told(evaluation.limits(LEDGER.iloc[[0, 2]]))
    assert "of another series" in told(evaluation.limits(LEDGER.iloc[[2]]))


def test_a_large_skill_is_not_called_little():
    """A fifth of the error is not a little."""
    assert told(evaluation.verdict(result_of(forecasts(0.2)))).startswith("Yes: Ridge")
    assert told(evaluation.verdict(result_of(forecasts(0.04)))).startswith("Yes, a little: Ridge")


def test_groups_that_lead_under_no_are_not_called_sure():
    """Single months beyond chance do not add up to a champion; those that are worse are counted too."""
    groups = pd.DataFrame(
        {"skill": [0.1, 0.1, -0.1], "skill_low": [0.05, -0.1, -0.2], "skill_high": [0.2, 0.2, -0.05], "rows": 9}
    )
    groups = groups.assign(by="month", name=[*"abc"])
    said = str(evaluation._skill_by_claim(groups, "ridge", beats=False))
    assert "the interval lies above zero in 1 of these parts and below zero in 1; over the whole test" in said
    one = evaluation._skill_by_claim(groups.head(1), "ridge", beats=True, rows=10)
    assert str(one).startswith("Nearly the whole test lies in one month")


def test_an_interval_that_begins_just_below_zero_is_not_printed_as_zero():
    """A year just below zero is on its own side of zero in every column."""
    shown = evaluation._intervals(pd.DataFrame({"skill_low": [-0.00001], "skill_high": [0.001]}))
    assert shown.iloc[0].startswith("\N{MINUS SIGN}0.001")


def test_experts_and_verdict_use_one_level():
    """What the rule at one per cent does not grant, no table at five per cent does."""
    result = result_of(forecasts(0.2))
    tests = pd.DataFrame({"test": ["spa", "deflated_sharpe"], "value": [0.03, 0.97], "models": ["", ""]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(result), "joint_tests", lambda _: tests)
        assert evaluation.experts(result).data["answer"].tolist() == ["yes", "not proven"]


def test_nothing_is_called_served_in_a_report():
    """A report of a file runs no service: it has a champion."""
    for skill in (0.0, 0.2):
        result = result_of(forecasts(skill))
        assert "served" not in told(evaluation.decision(result)) + told(evaluation.verdict(result))


@pytest.mark.parametrize(
    ("ratios", "sentence"),
    [
        (
            [0.998, 0.997, 0.996],
            "With one random seed, the skill of the forest rises with the past, from 0.20 % with 30 days to 0.40 %",
        ),
        ([0.998, 0.994, 0.996], "is largest with 90 days: 0.60 %, after 0.20 % with 30 days; 365 days give 0.40 %."),
        ([0.998, 0.999, 0.996], "the longest past gives the forest the most skill"),
        ([0.996, 0.997, 0.998], "the shortest past gives the forest the most skill"),
        ([1.002, 1.001, 1.003], "the forest has no skill with any past"),
    ],
)
def test_a_longer_past_helps_only_where_the_curve_rises_to_its_end(ratios, sentence):
    """A peak before the end is told as one."""
    table = pd.DataFrame({"days": [30, 90, 365], "ratio": ratios})
    assert sentence in str(training._windows_claim(table)).replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("lows", "losses", "sentence"),
    [
        (
            [0.2, 0.1, -0.1],
            [0.4, 0.2, 0.0],
            "loses skill when a or b is shuffled; the interval is above zero for 2 of 3",
        ),
        (
            [-0.2, 0.1, 0.05],
            [0.4, 0.2, 0.1],
            "loses skill when b or c is shuffled; the interval is above zero for 2 of",
        ),
        ([-0.2, -0.1, 0.05], [0.4, 0.2, 0.1], "loses skill when c is shuffled, the only one of 3 features whose"),
        ([-0.2, -0.1, -0.1], [0.4, 0.2, 0.0], "loses nothing beyond its interval when one of 3 features is shuffled"),
        ([np.nan] * 3, [0.4, 0.2, 0.1], "loses nothing beyond its interval"),
        ([0.0] * 3, [0.0] * 3, "forecasts the same whichever of 3 features is shuffled"),
    ],
)
@pytest.mark.parametrize(
    ("skill", "who"), [(0.2, "Ridge regression, the champion, "), (0.0, "The champion, persistence, uses no feature; ")]
)
def test_importance_names_whose_it_is_and_only_losses_beyond_their_interval(lows, losses, sentence, skill, who):
    """The champion's; where that is persistence, of the model that comes nearest."""
    table = pd.DataFrame({"feature": ["a", "b", "c"], "loss": losses, "low": lows})
    said = str(training._importance_claim(table, result_of(forecasts(skill)), 500)).replace(
        "\N{NARROW NO-BREAK SPACE}", " "
    )
    assert said.startswith(who)
    assert sentence in said.replace("\N{NO-BREAK SPACE}", " ")


def test_the_interval_of_an_importance_is_that_of_drawing_days_again(snapshot):
    """An oracle: the loss of a planted feature over days drawn with replacement."""
    study = open_study(snapshot.candles, Experiment.default(snapshot.candles, "15m").replace(models=("ridge",)))
    table = study_module.permutation_importance(study, "ridge")
    first, sample = table.iloc[0], study.data.sample.at(study.test)
    column, random = sample.names.index(first["feature"]), np.random.default_rng(0)
    for place in range(column + 1):
        drawn = random.permutation(sample.x[:, place])
    scale, days = study.data.prepared.scale[study.test], study.data.target_time[study.test] // DAY_US
    whole = scale * np.abs(sample.y - study.forecast("ridge", sample))
    sample.x[:, column] = drawn
    frame = pd.DataFrame({"lost": scale * np.abs(sample.y - study.forecast("ridge", sample)) - whole})
    sums = frame.assign(none=scale * np.abs(sample.y)).groupby(days).sum().to_numpy()
    again = sums[random.integers(0, len(sums), (4000, len(sums)))].sum(axis=1)
    assert first["loss"] == pytest.approx(100 * np.divide(*sums.sum(axis=0)))
    assert first["high"] - first["loss"] == pytest.approx(196 * np.std(again[:, 0] / again[:, 1]), rel=0.15)


def test_a_gap_of_288_candles_is_a_day():
    """The candle of the cutoff belongs to the past: it is not left out."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    folds = pd.DataFrame({"cutoff": [start], "test_start": [start + 289 * pd.Timedelta("5min")], "part": ["test"]})
    said = str(training._plan_claim(folds, pd.Timedelta("5min"))).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "288 candles (24 hours) between the two belong to neither" in said


def test_an_upper_bound_is_rounded_up():
    """0.62 points are not “at most 0.6”."""
    held = pd.DataFrame({"group": ["all", "calm"], "held": [0.9, 0.8938], "candles": [3_000, 1_000]})
    said = str(evaluation._coverage_claim(0.9, held)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "hold 90.0 % of 3,000 closes, and miss by at most 0.7" in said


def test_the_weights_name_the_rows_that_they_were_fitted_on():
    """The order is chosen on the newest returns of the last fold, not on “the training span”."""
    random = np.random.default_rng(0)
    model = AutoRegression(window=500)
    model._estimate(random.normal(size=800))
    said = told(training.order_by_aic(model))
    assert f"the newest {model.summary['observations']} returns of the last fold's training" in said
    table = pd.DataFrame({"lag": [1, 2], "coefficient": [-0.03, 0.01], "error": 0.05, "p": [0.55, 0.8]})
    assert str(training._coefficients_claim(table)).startswith("No weight is large by more than chance")
    rising = table.assign(p=0.001, coefficient=[0.03, 0.01])
    assert "counts most, with weight 0.0300: a rise raises the next" in str(training._coefficients_claim(rising))
    assert "alone counts, with weight 0.0300: a rise raises the next" in str(
        training._coefficients_claim(rising.head(1))
    )


def walk(rows: int, size: float = 1e-3, seed: int = 0) -> pd.DataFrame:
    """Candles of a random walk at the price of a cheap coin, without any rhythm or memory."""
    close = 0.0712 * np.exp(np.random.default_rng(seed).normal(0, size, rows).cumsum())
    times = pd.Series(pd.date_range("2025-01-01", periods=rows, freq="15min", tz="UTC"))
    edges = {"open": close, "high": close * 1.0002, "low": close * 0.9998, "close": close}
    frame = pd.DataFrame({"open_time": times, "close_time": times + pd.Timedelta("14min 59s"), **edges})
    return frame.assign(volume=1.0)


def test_a_walk_has_no_memory_clusters_or_tails():
    """What is true for bitcoin is not said of a normal random walk."""
    candles = walk(96 * 60)
    returns = exploration.returns_bp(candles, "15m")
    assert "nothing of the next size beyond chance" in told(eda.headline(returns))
    assert "size has no more memory than chance" in told(eda.memory(returns))
    assert "do not come in clusters" in told(eda.volatility_clusters(exploration.daily_volatility(candles, "15m")))
    assert "dominated" not in told(eda.tails(returns))


def test_residuals_of_a_walk_have_no_memory_in_their_size():
    """Over a running volatility even independent returns have some: the median p of nine walks was 0.01."""
    found = []
    for seed in range(9):
        candles = as_candles(walk(9_000, seed=seed).drop(columns="close_time"), "15m")
        experiment = Experiment.default(candles, "15m").replace(models=("ridge",), features=("return_1",))
        study = open_study(candles, experiment)
        found.append(study_module.residual_tests(AutoRegression().fit(study.training), study)["p"].iloc[1])
    assert np.median(found) > 0.2


def test_a_cheap_coin_is_not_priced_at_zero():
    """Prices, errors and axes keep their significant digits, in the currency of the symbol."""
    candles = walk(3000)
    said = told(eda.price_and_volume(candles, "DOGEBTC"))
    assert "from 0.07" in said
    assert " BTC " in said
    frame = NO_SKILL.copy()
    frame[["y", "y_hat", "base", "lo", "hi"]] *= 1e-6
    result = result_of(frame)
    table = evaluation.against_persistence(result, "DOGEEUR")
    assert table.columns["mae_usd"][0] == "Error, EUR"
    assert str(table.columns["mae_usd"][1](4.1234567e-05)) == "0.000041235"
    newest = frame[frame["model"] == "ridge"].tail(40)
    bars = pd.DataFrame(
        {"open_time": newest["open_time"], **dict.fromkeys(("open", "high", "low", "close"), newest["y"])}
    )
    assert "miss by 0.0000" in told(evaluation.newest_forecasts(result, bars, "DOGEEUR"))


def test_sizes_that_no_model_forecasts_better_are_not_called_known():
    """By luck, or no better than the direction: neither is “known far better”."""
    result = result_of(forecasts(0.0))
    noise = range_frame(0.0)
    noise["y"] = np.tile(np.random.default_rng(1).normal(-7, 0.4, 3000), 4)
    said = told(evaluation.size_models(dataclasses.replace(result, ranges=noise), noise))
    assert "known far better" not in said


def test_a_span_of_one_month_is_one_month():
    """No plural, no share of months, no “each”."""
    frame = forecasts(0.2)
    frame["open_time"] = pd.Timestamp("2025-06-01", tz="UTC") + (frame["open_time"] - frame["open_time"].min()) / 4
    result = result_of(frame)
    assert "month" not in told(evaluation.loss_difference(result))
    assert told(evaluation.skill_by(result)).startswith("The whole test lies in one month")


def test_the_line_and_the_months_of_a_test_tell_one_number():
    """The picture counts the months of the table from its own line."""
    result = result_of(forecasts(0.02))
    line, table = evaluation.loss_difference(result), evaluation.skill_by(result).data
    months = table[table["by"] == "month"]
    good, every = int((months["skill"] > 0).sum()), len(months)
    assert every > 1
    some = f"every one of the {every} months" if good == every else f"{good} of {every} months"
    assert some in told(line)


def test_every_caption_is_a_function_of_its_numbers():
    """From the CSV alone, whose numbers have ten digits, the same sentence comes out."""
    result = result_of(forecasts(0.02))
    items = [
        evaluation.loss_difference(result), evaluation.coverage(result), evaluation.size_forecasts(result.ranges),
        evaluation.skill_by(result),
    ]  # fmt: skip
    for item in items:
        read = pd.read_csv(io.StringIO(csv_text(item.data)))
        times = {name: pd.to_datetime(read[name], utc=True) for name in read if name == "open_time"}
        assert str(item.conclude(read.assign(**times))) == str(item.conclusion)


# ---- the family: every claim over every hostile report ----
def _month(frame: pd.DataFrame) -> pd.DataFrame:
    """The same forecasts within one month."""
    first = pd.Timestamp("2025-06-01", tz="UTC")
    return frame.assign(open_time=first + (frame["open_time"] - frame["open_time"].min()) / 4)


def _as_a_coin(frame: pd.DataFrame) -> pd.DataFrame:
    """The same forecasts of a coin of seven cents."""
    prices = ["y", "y_hat", "base", "lo", "hi"]
    return frame.assign(**(frame[prices] * 1.5e-6))


@dataclasses.dataclass(frozen=True)
class Hostile:
    """A report to be read: its forecasts, market and symbol, and whether they have skill."""

    frame: pd.DataFrame
    market: str = "binance"
    symbol: str = "BTCUSDT"
    wins: bool = False
    sizes: float = 0.3


FAMILY = {
    "one month": Hostile(_month(forecasts(0.2)), wins=True),
    "one month without skill": Hostile(_month(NO_SKILL)),
    "anti-calibrated": Hostile(with_probability(-1.0)),
    "a champion that is persistence": Hostile(forecasts(0.2).replace({"model": {"ridge": "lad"}})),
    "another coin": Hostile(_as_a_coin(forecasts(0.02)), symbol="DOGEEUR", wins=True),
    "simulated": Hostile(forecasts(0.02), market="simulated", wins=True),
    "simulated without skill": Hostile(NO_SKILL, market="simulated", sizes=0.0),
    "no skill": Hostile(NO_SKILL, sizes=0.0),
}


def _sealed(worse: float) -> pd.DataFrame:
    """Sealed forecasts of a champion whose errors are so many times those of no change."""
    time = pd.Series(pd.date_range("2025-06-01", periods=150, freq="15min", tz="UTC"))
    base = np.random.default_rng(2).exponential(2.0, 150)
    columns = {"role": "champion", "model": "ridge", "error_bp": worse * base, "persistence_error_bp": base}
    edges = {"real_close": 1.0, "lo": 0.9, "hi": 1.1, "open_time": time, "made_at": time}
    return pd.DataFrame(columns | edges)


def _longer(result: Result, *, narrow: bool) -> Result:
    """The same forecasts, used for closes 3 and 12 candles ahead; their distributions are right or too narrow."""
    family: list[Result] = []
    experiment = result.experiment.replace(horizons=(3, 12))
    draw = np.random.default_rng(4).normal(size=len(result.losses))
    for horizon in (3, 12):
        later = result.forecasts.groupby("model", observed=True)[["open_time", "y"]].shift(1 - horizon)
        pit = stats.norm.cdf(2.0 * draw if narrow else draw)
        known = {"pit": np.tile(pit, 3), "crps_bp": 1.0, "crps_reference_bp": 1.0}
        frame = result.forecasts.assign(horizon=horizon, **later, **known).dropna(subset="open_time")
        family.append(Result(experiment, frame.reset_index(drop=True), result.ranges, family=family))
    return family[0]


def _fan(result: Result) -> pd.DataFrame:
    """Two forecasts of the fan: the close came inside of the first band, and above the second."""
    last = result.of_leader.tail(2).reset_index(drop=True)
    edges = {"low_90": 0.99 * last["y"], "high_90": last["y"] * [1.01, 0.995]}
    return last.assign(horizon=[3, 12], made=last["open_time"].iloc[0], **edges)


LEFT_OUT = {
    "table": [
        {"coin": "ETHUSDT", "rows": 900, "ratio": 0.99, "recent_ratio": 0.98, "p_holm": 0.001, "proven": True},
        {"coin": "SOLUSDT", "rows": 900, "ratio": 1.01, "recent_ratio": 1.0, "p_holm": 0.9, "proven": False},
    ]
}


def test_models_of_other_coins_are_said_to_serve_only_where_each_is_proven():
    """Without such a test there is no table."""
    assert evaluation.left_out({}) == []
    said = words(evaluation.left_out(LEFT_OUT))
    assert "do not serve it: 1 of 2 other coins is not proven to be forecast better" in said
    proven = [row | {"proven": True} for row in LEFT_OUT["table"]]
    assert "Each of 2 other coins is forecast better" in words(evaluation.left_out({"table": proven}))


@pytest.fixture(scope="module", params=FAMILY)
def read(request) -> tuple[Hostile, Result, dict[str, str]]:
    """A hostile report, and all that the last chapter says of it, by function: whatever the module exports."""
    case = FAMILY[request.param]
    result = dataclasses.replace(result_of(case.frame), ranges=range_frame(case.sizes))
    candles = pd.DataFrame({"open_time": result.of_leader["open_time"]})
    prices = dict.fromkeys(("open", "high", "low", "close"), result.of_leader["y"])
    given = {
        "result": result, "candles": candles.assign(**prices), "symbol": case.symbol, "market": case.market,
        "ledger": LEDGER, "ranges": result.ranges, "volatility": result.ranges, "forecasts": _sealed(1.0), "proof": {},
        "found": LEFT_OUT,
        "longer": _longer(result, narrow=case is FAMILY["anti-calibrated"]),
    }  # fmt: skip
    said = {}
    for name, function in (vars(evaluation) | vars(horizons)).items():
        ours = getattr(function, "__module__", "") in {evaluation.__name__, horizons.__name__}
        wanted = ours and not name.startswith("_") and function is not horizons.run_longer
        names = list(inspect.signature(function).parameters) if wanted else []
        if names:
            said[name] = words(function(**{key: given[key] for key in names if key in given}))
    said["fan"] = words(horizons._fan_claim(_fan(result), say.currency(case.symbol), result.leader))
    return case, result, said


def words(item) -> str:
    """What a reader reads: the sentence of an exhibit, or labels, values and notes of cards; with plain spaces."""
    if isinstance(item, list):
        return " ".join(map(words, item))
    cards = item if isinstance(item, tuple) else ()
    text = " ".join(f"{card.label}: {card.value} {card.note}." for card in cards) or str(
        getattr(item, "conclusion", item)
    )
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{NO-BREAK SPACE}", " ")


def test_every_function_of_the_last_chapter_is_read(read):
    """A claim function that is added is read over the whole family the day it is exported."""
    shown = {row[0] for chapter in ("evaluation", "horizons") for row in claims(MODULES[chapter])}
    assert shown <= read[2].keys()


def test_no_sentence_contradicts_the_verdict(read):
    """“Yes” and “No” are told once, and every other sentence follows."""
    case, result, said = read
    text = " ".join(said.values())
    assert said["verdict"].startswith("Yes" if case.wins else "No:")
    if case.wins:
        assert result.verdict.champion == result.leader
        assert not [word for word in ("No advantage", "No model has", "beats persistence by the rule") if word in text]
        assert "the difference is significant" in said["against_persistence"]
        assert "Where will it go?: not known" not in said["answers"]
    else:
        assert "The champion is persistence" in said["verdict"]
        assert "Champion: Persistence" in said["cards"]
        assert said["answers"].startswith("Where will it go?: not known")
        assert "Is it money?: no " in said["answers"]
        wrong = ("Yes", "Skill is not profit", "is served", "predictable to a small degree", "at a fee of")
        assert not [word for word in wrong if word in text]
        assert str(say.model(result.leader)) in said["cards"]
        beats = result.verdict.table.set_index("model").loc[result.leader, "beats"]
        assert beats or said["loss_difference"].startswith(("No advantage is significant", "No model has an advantage"))


def test_of_each_horizon_is_said_what_its_verdict_says(read):
    """Horizons are called proven by the rule alone; a trend of the skill is told of a proven one alone."""
    case, result, said = read
    found = [result, *_longer(result, narrow=False).family]
    proven = sum(bool(one.verdict.table.set_index("model").loc[one.leader, "beats"]) for one in found)
    begin = f"by the rule at {proven} of 3 horizons" if proven else "At none of 3 horizons"
    assert begin in said["skill_by_horizon"]
    assert said["edge"].startswith(
        "Whether the edge lasts is not known: a trend needs 6 months" if case.wins else "Whether an edge lasts is not"
    )
    assert "outside; at 1 of 2 horizons" in said["fan"]


def test_distributions_that_are_too_narrow_are_not_called_right(read):
    """Only where bands hold what they should, and quantiles are uniform, do the sentences say so."""
    case, _, said = read
    narrow = case is FAMILY["anti-calibrated"]
    assert ("do not fall evenly into the quantiles at 2 of 2 horizons" in said["distributions"]) == narrow
    assert ("outcomes do so, within" in said["distributions"]) != narrow


@pytest.mark.parametrize(
    ("age", "sentence"),
    [
        (EdgeAge(-0.002, -0.003, -0.001, 0.004, lasts=True, sentence=""), "The edge shrinks but lasts: over 63 days"),
        (EdgeAge(-0.002, -0.003, -0.001, 0.001, lasts=False, sentence=""), "The edge shrinks: over 63 days"),
        (EdgeAge(0.001, -0.001, 0.003, 0.004, lasts=True, sentence=""), "The edge lasts: over 63 days"),
        (EdgeAge(0.001, -0.009, 0.009, 0.004, lasts=False, sentence=""), "It is not shown that the edge lasts: over"),
    ],
)
def test_an_edge_is_called_lasting_where_its_trend_stays_above_zero(age, sentence):
    """Of a model without skill nothing is said to last, whatever its trend; the line in the picture is the trend."""
    proven, noise = result_of(forecasts(0.2)), result_of(NO_SKILL)
    proven.__dict__["edge"] = noise.__dict__["edge"] = age
    said = told(evaluation.edge(proven))
    assert said.startswith(sentence)
    assert ("does not stay above zero" in said) != age.lasts
    assert told(evaluation.edge(noise)) == "Whether an edge lasts is not asked: none is proven."
    titles = [evaluation.skill_by(result).figure.panels[0].get_title(loc="left") for result in (proven, noise)]
    assert titles == ["by month, with its trend", "by month"]


def test_one_p_value_is_told_of_one_comparison(read):
    """Verdict, card, table and recomputed headline print the same skill and the same p."""
    _, result, said = read
    p = str(say.pvalue(result.verdict.table.set_index("model").loc[result.leader, "p_holm"])).replace("\xa0", " ")
    assert all(p in said[name] for name in ("verdict", "cards", "against_persistence", "forecasts"))
    skill = str(say.percent(result.figures[result.leader]["skill"], 2, beside=0.0)).replace("\u202f", " ")
    assert all(skill in said[name] for name in ("verdict", "cards", "forecasts"))


def test_months_and_direction_are_told_alike(read):
    """The line and the table count the same months; a coin that is beaten, or not, is so in card and sentence."""
    case, result, said = read
    if len(set(case.frame["open_time"].dt.month)) == 1:
        assert "months" not in said["loss_difference"] + said["skill_by"]
        assert "lies in one month" in said["skill_by"]
    low, high = (result.figures[result.leader][f"direction_{end}"] for end in ("low", "high"))
    word = "more than a coin" if low > 0.5 else "less than a coin" if high < 0.5 else "a coin could get"
    assert word in said["signs"]
    by = evaluation.skill_by(result).data
    several = by[by.groupby("by")["name"].transform("size") > 1]
    above, below = (several["skill_low"] > 0).sum(), (several["skill_high"] < 0).sum()
    assert several.empty or f"above zero in {above} of these parts and below zero in {below}" in said["skill_by"]
    whole = result.calibration
    assert ("calibrated:" in said["direction"]) == bool(
        whole and whole.brier < whole.base and whole.p < 0.01 and whole.low <= 1 <= whole.high
    )
    if case is FAMILY["anti-calibrated"]:
        assert "point the wrong way" in said["direction"]


def test_no_report_speaks_of_another_market(read):
    """Neither bitcoin nor dollars in that of another coin; a program's market is named as one, and no other is."""
    case, _, said = read
    text = " ".join(said.values())
    if case.symbol == "DOGEEUR":
        assert not re.search(r"bitcoin|BTC|USD|\$", text)
        assert "EUR" in said["newest_forecasts"]
        assert not re.search(r"\b0\.0+ EUR", text)
    assert ("made by a program" in said["truth"]) == (case.market == "simulated")
    assert "nan" not in text


def test_of_sizes_without_skill_nothing_is_claimed(read):
    """What the models know of the range beyond an average is said where it is so, and only there."""
    case, result, said = read
    best = evaluation._scored(result.ranges, "range").iloc[0]
    sure = bool(best["p"] < 0.01 and best["model"] != "ewma")
    assert sure or case.sizes == 0
    assert ("no better, beyond chance" in said["size_models"]) != sure


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEBTC"])
def test_the_market_chapter_says_of_a_walk_what_a_walk_is(symbol):
    """All of the second chapter over one month of a random walk: no memory, no tails, no clusters, no other coin."""
    candles = walk(96 * 30).assign(taker_buy_base=np.nan)
    returns = exploration.returns_bp(candles, "15m")
    said = " ".join(
        words(item) for item in (
            eda.headline(returns), eda.price_and_volume(candles, symbol), eda.newest_candles(candles, symbol),
            eda.tails(returns), eda.quantiles(returns), eda.memory(returns), eda.week(candles, "15m"),
            eda.volatility_clusters(exploration.daily_volatility(candles, "15m")),
            eda.stationarity_tests(exploration.stationarity(candles)),
            eda.flow_and_next_return(exploration.order_flow_deciles(candles, "15m")),
        )
    )  # fmt: skip
    wrong = (
        "tails are fat",
        "a large move is followed",
        "Volatility comes in clusters",
        "beyond chance, and",
        "bitcoin",
    )
    assert not [word for word in wrong if word in said]
    assert ("USD" in said) == (symbol == "BTCUSDT")


def test_no_sentence_is_made_outside_of_the_list():
    """The modules that the generated list is read from are all that make claims."""
    report = Path(evaluation.__file__).parents[1]
    makers = {path for path in report.rglob("*.py") if re.search(r"say\.(claim|cases)\(", path.read_text())}
    assert makers == set(MODULES.values())
