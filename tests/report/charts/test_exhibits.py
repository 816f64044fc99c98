"""Every chart and table, on good and on damaged data."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from btcml.candles import TIME
from btcml.contract import rule_results
from btcml.errors import ReportError
from btcml.forecast.experiment import Experiment, Gain, Result
from btcml.forecast.features import SETS, feature_frame
from btcml.forecast.metrics import forecast_frame
from btcml.forecast.models.statistical import AutoRegression
from btcml.forecast.targets import target_frame
from btcml.report import claims, exploration
from btcml.report.charts import eda, evaluation, features, ingest, training
from btcml.report.claims import Claim
from btcml.report.figures import Chart, Table, svg_text, table_html
from btcml.report.story import csv_text
from btcml.report.study import open_study


def text_of(item) -> str:
    """The text of a chart, table or claim."""
    if isinstance(item, Chart):
        assert svg_text(item).startswith("<svg")
        return str(item.conclusion)
    if isinstance(item, Table):
        assert "nan" not in table_html(item).lower()
        return str(item.conclusion)
    assert isinstance(item, Claim)
    return str(item)


def told(item) -> str:
    """Text of an exhibit with plain spaces."""
    return text_of(item).replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="session")
def damaged(snapshot):
    """The same snapshot with a hole, a refused row, a broken rule, a suspect span and a restated candle."""
    candles = snapshot.candles.drop(index=range(100, 140)).reset_index(drop=True)
    time = candles["open_time"]
    gap = {"start": time[99] + pd.Timedelta("15min"), "end": time[100], "missing": 40, "kind": "halt"}
    refused = candles.iloc[[5]].assign(rule="high_is_highest", source="test", seen_at=time.iloc[-1], released_at=pd.NaT)
    rules = snapshot.rules.copy()
    rules.loc[2, "broken"] = 1
    suspect = {"start": time[10], "end": time[20], "rule": "continuity", "rows": 10}
    old = candles.iloc[[7]].assign(close=1.0, source="test", seen_at=time.iloc[-1].as_unit("us"))
    return dataclasses.replace(
        snapshot,
        candles=candles,
        gaps=pd.DataFrame([gap]),
        quarantine=refused,
        rules=rules,
        suspects=pd.DataFrame([suspect]),
        revisions=old.astype({"seen_at": TIME}),
    )


def test_good_data_are_called_good(snapshot):
    """Nothing missing, nothing rejected: the text states it."""
    assert "complete from the first to the last" in text_of(ingest.headline(snapshot))
    assert text_of(ingest.calendar(exploration.completeness(snapshot.candles, "15m"))) == "Every week is complete."
    assert "no gap" in text_of(ingest.longest_gaps(snapshot.gaps, "15m"))
    assert text_of(ingest.rules_checked(rule_results(snapshot.candles, "15m"))).endswith("hold for every row.")
    unknown = rule_results(snapshot.candles.assign(taker_buy_quote=np.nan), "15m")
    assert text_of(ingest.rules_checked(unknown)).endswith("hold for every row in which they can be checked.")
    assert text_of(ingest.quarantined(snapshot.quarantine)) == "No row is in quarantine."
    assert "No span looks frozen" in text_of(ingest.suspect_spans(snapshot.suspects))
    assert "No stored candle" in text_of(ingest.revised(snapshot.revisions, snapshot.candles))
    assert "made by a program" in text_of(ingest.origin(snapshot))


def test_bad_data_are_called_bad(damaged):
    """The sentences follow the data."""
    assert "missing" in text_of(ingest.headline(damaged))
    assert "quarantine" in text_of(ingest.headline(damaged))
    assert "do not fit" in text_of(ingest.headline(damaged))
    assert "lacks candles" in text_of(ingest.calendar(exploration.completeness(damaged.candles, "15m")))
    assert text_of(ingest.longest_gaps(damaged.gaps, "15m")).startswith("There is 1")
    assert "was broken" in text_of(ingest.rules_checked(damaged.rules))
    assert "broke a rule" in text_of(ingest.quarantined(damaged.quarantine))
    assert "do not fit their neighbours" in text_of(ingest.suspect_spans(damaged.suspects))
    assert "old values are kept" in text_of(ingest.revised(damaged.revisions, damaged.candles))
    assert [card.label for card in ingest.cards(damaged)] == ["Candles", "Span", "Gaps"]


def test_a_headline_names_only_the_faults_that_exist(snapshot, damaged):
    """Candles that are only missing are not said to be refused."""
    holes = dataclasses.replace(damaged, quarantine=snapshot.quarantine, suspects=snapshot.suspects)
    sentence = text_of(ingest.headline(holes))
    assert "missing" in sentence
    assert "quarantine" not in sentence
    assert "do not fit" not in sentence


@pytest.mark.parametrize("which", ["snapshot", "damaged"])
def test_the_market_is_described(which, request):
    """Every exhibit of the second chapter draws, holes or not."""
    candles = request.getfixturevalue(which).candles
    returns = exploration.returns_bp(candles, "15m")
    items = [
        eda.headline(returns), eda.price_and_volume(candles, "BTCUSDT"), eda.newest_candles(candles, "BTCUSDT"),
        eda.tails(returns), eda.quantiles(returns), eda.memory(returns), eda.week(candles, "15m"),
        eda.volatility_clusters(exploration.daily_volatility(candles, "15m")),
        eda.stationarity_tests(exploration.stationarity(candles)),
        eda.flow_and_next_return(exploration.order_flow_deciles(candles, "15m")),
    ]  # fmt: skip
    assert all(text_of(item) for item in items)


def test_a_source_without_volume_has_a_second_chapter_without_volume_figures(snapshot):
    """Mark prices, indices, currencies: all volumes are zero, and the page says so."""
    candles = snapshot.candles.assign(volume=0.0, quote_volume=np.nan, taker_buy_base=np.nan)
    price, newest, week = (
        eda.price_and_volume(candles, "BTCUSDT"),
        eda.newest_candles(candles, "BTCUSDT"),
        eda.week(candles, "15m"),
    )
    assert "The volume of every candle is zero: this source does not record it." in text_of(price)
    for chart, panels in ((price, 1), (newest, 1), (week, 1)):
        assert text_of(chart)
        assert len(chart.figure.panels) == panels
        assert "volume" not in chart.alt
    assert "this source does not record which side" not in text_of(eda.price_and_volume(snapshot.candles, "BTCUSDT"))


def test_quantiles_claim_nothing_rarer_than_the_returns_show(snapshot):
    """Of 900 returns the outermost quantile has ten beyond it."""
    returns = exploration.returns_bp(snapshot.candles, "15m").dropna().iloc[:900]
    assert text_of(eda.quantiles(returns)).startswith("One move in 90 ")


def test_tests_that_disagree_about_prices_are_not_said_to_agree():
    """KPSS calls the price stationary, ADF does not."""
    rows = [
        ("log price", "ADF", 0.5),
        ("log price", "KPSS", 0.1),
        ("log return", "ADF", 0.0),
        ("log return", "KPSS", 0.1),
    ]
    tests = pd.DataFrame(rows, columns=["series", "test", "p"]).assign(statistic=1.0)
    agreed = tests.assign(stationary=[False, False, True, True])
    assert text_of(eda.stationarity_tests(agreed)).startswith("Returns are stationary and prices are not")
    assert "do not agree" in text_of(eda.stationarity_tests(tests.assign(stationary=[False, True, True, True])))


def test_forests_of_few_rows_are_neither_fitted_nor_compared(snapshot, recwarn):
    """No conclusion from two equal windows, and no warning of scikit-learn in a notebook."""
    candles = snapshot.candles.iloc[-2_000:].reset_index(drop=True)
    study = open_study(candles, Experiment.default(candles, "15m"))
    assert "too short to compare" in text_of(training.windows(study))
    assert text_of(training.learning(study))
    assert not recwarn.list


def test_no_order_flow_is_said_not_drawn(snapshot):
    """A source that does not know the taker's side gets a sentence."""
    without = snapshot.candles.assign(taker_buy_base=np.nan)
    assert "does not record" in text_of(eda.flow_and_next_return(exploration.order_flow_deciles(without, "15m")))


def test_features_are_described_and_the_proof_runs(snapshot):
    """Every exhibit of the third chapter draws."""
    names = features.every(snapshot.candles, "15m")
    assert {*SETS["core"], *SETS["wide"], *SETS["range"]} == {*names}
    candles, proof = snapshot.candles, features.scrambled(snapshot.candles, "15m", names)
    table, target = feature_frame(candles, "15m", "core"), target_frame(candles, "15m", ["close"])["close"]
    items = [
        features.headline(proof), features.catalogue(names), features.look_ahead(proof),
        features.distributions(table), features.drift(table, candles["open_time"]), features.correlations(table),
        features.information(table, target),
    ]  # fmt: skip
    assert all(text_of(item) for item in items)


def test_a_feature_with_a_rhythm_is_compared_in_all_its_values():
    """Of every third candle of five minutes none but one minute of the quarter would be seen."""
    rows = 3 * 8_000
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 2)), columns=["one", "other"])
    table = noise.assign(quarter_minute=np.arange(rows) % 3.0)
    table["other"] += table["one"] * 9
    assert "of 3\N{NARROW NO-BREAK SPACE}pairs" in text_of(features.correlations(table))
    assert "the closest: one and other" in text_of(features.correlations(table))
    constant = features.correlations(table.assign(quarter_minute=1.0))
    assert "the closest: one and other" in text_of(constant)


def test_a_span_of_two_days_has_no_thirds(snapshot):
    """Said, not drawn: two days are not calm, middle and storm."""
    assert "too few days" in text_of(
        eda.volatility_clusters(exploration.daily_volatility(snapshot.candles.tail(2 * 96), "15m"))
    )


def test_a_feature_that_looks_ahead_fails_the_build(snapshot, monkeypatch):
    """Planted: a feature that uses the next close. The chapter fails."""
    original = features.feature_frame

    def leaking(candles, interval, *names):
        return original(candles, interval, *names).assign(leak=candles["close"].shift(-1).to_numpy())

    monkeypatch.setattr(features, "feature_frame", leaking)
    with pytest.raises(ReportError, match="does not hold"):
        features.look_ahead(features.scrambled(snapshot.candles, "15m", "core"))


def forecasts(skill: float) -> pd.DataFrame:
    """Two models on a random walk; one forecasts a share of the next move."""
    random = np.random.default_rng(11)
    close = 50_000 * np.exp(np.concatenate([[0], random.normal(0, 1e-3, 6000)]).cumsum())
    move = np.log(close[1:] / close[:-1])
    said = skill * move + 1e-5 * random.normal(size=len(move))
    wide = {
        "lo": close[:-1] * np.exp(-1.645e-3),
        "hi": close[:-1] * np.exp(1.645e-3),
        "prob_up": 0.5 + np.sign(said) / 20,
    }
    models = {
        "ridge": {"y_hat": close[:-1] * np.exp(said), **wide},
        "random_forest": {"y_hat": close[:-1] * np.exp(1e-4 * random.normal(size=len(move))), **wide},
    }
    return forecast_frame(close, models, interval="15m")


def result_of(frame: pd.DataFrame, looks: int = 1) -> Result:
    """The result of an experiment that gave these forecasts."""
    models = tuple(frame["model"].unique()[1:])
    experiment = Experiment("15m", frame["open_time"].min().isoformat(), models=models)
    return Result(experiment, frame, range_frame(0.3), looks)


def test_a_better_model_that_a_training_does_not_fit_is_not_denied():
    """Persistence is served, and no sentence says that no model beats it."""
    frame = forecasts(0.2).replace({"model": {"ridge": "extra_trees", "random_forest": "lad"}})
    result = result_of(frame)
    said = [text_of(evaluation.verdict(result)), text_of(evaluation.against_persistence(result, "BTCUSDT"))]
    assert result.verdict.champion == "persistence"
    assert said[0].startswith("No: no model that a training fits beats “no change”")
    assert said[1].startswith("No model that a training fits beats persistence by the rule; the best is Extra trees")
    assert "No advantage is significant" not in text_of(evaluation.loss_difference(result))


@pytest.mark.parametrize(("skill", "word", "champion"), [(0.2, "Yes", "ridge"), (0.0, "No", "persistence")])
def test_the_verdict_follows_the_forecasts(skill, word, champion):
    """An oracle's share is found, noise is not, and the sentence agrees with the table."""
    result = result_of(forecasts(skill), 2)
    assert result.verdict.champion == champion
    assert text_of(evaluation.verdict(result)).startswith(word)
    table = evaluation.against_persistence(result, "BTCUSDT")
    assert table.data["model"].iloc[0] == "persistence"
    assert table.data["skill"].iloc[0] == 0.0
    assert table.strong == ({"ridge": "Ridge regression", "persistence": "Persistence"}[champion],)
    assert f"{len(table.data) - 1}\N{NARROW NO-BREAK SPACE}models and 2" in text_of(evaluation.decision(result))
    items = [
        table, evaluation.loss_difference(result), evaluation.signs(result), evaluation.direction(result),
        evaluation.coverage(result), evaluation.fees(result), evaluation.experts(result),
        evaluation.truth(result, "binance"), evaluation.truth(result, "simulated"), evaluation.skill_by(result),
    ]  # fmt: skip
    assert all(text_of(item) for item in items)
    assert ("part of it is luck" in text_of(evaluation.truth(result, "simulated"))) == (skill > 0)


@pytest.mark.filterwarnings("ignore:Using the fractional value")  # of so few rows
def test_the_training_is_described(snapshot):
    """Every exhibit of the fourth chapter draws; one order selection serves them all."""
    candles = snapshot.candles
    experiment = Experiment.default(candles, "15m").replace(models=("ridge",))
    study = open_study(candles, experiment)
    fitted = AutoRegression().fit(study.training)
    items = [
        training.plan(experiment.folds(candles), experiment), training.order_by_aic(fitted),
        training.coefficients(fitted), training.convergence(fitted, study.training),
        training.residuals(fitted, study), training.learning(study), training.windows(study),
        training.importance(study, result_of(forecasts(0.2))), training.seeds(study),
        training.sizes(study),
    ]  # fmt: skip
    assert all(text_of(item) for item in items)
    assert training.sizes(study).data["model"].tolist() == ["ridge"]


def test_an_explicit_experiment_is_called_one(snapshot):
    """Label and key figures say what differs from the published plan; the published one has no such card."""
    candles = snapshot.candles
    published = Experiment.default(candles, "15m")
    explicit = published.replace(models=("ridge",))
    assert text_of(training.question(published, candles)) == "This is the published experiment."
    assert "explicit experiment: models = ridge" in text_of(training.question(explicit, candles))
    frame = forecasts(0.0)
    labels = [
        [card.label for card in evaluation.cards(Result(experiment, frame, range_frame(0.3)), candles)]
        for experiment in (published, explicit)
    ]
    assert labels[0] == ["Champion", "Skill", "Direction", "Coverage", "Break-even fee", "Size of the move"]
    assert labels[1] == [*labels[0], "Experiment"]


def test_sealed_forecasts_are_scored_where_there_are_any():
    """No sealed forecast is said; those that there are are compared with no change."""
    noon = pd.Timestamp("2025-03-01 12:00", tz="UTC")
    assert "No forecast has been sealed" in text_of(evaluation.sealed(pd.DataFrame()))
    frame = pd.DataFrame(
        {
            "role": ["champion", "champion", "challenger", "champion"],
            "model": ["ridge", "ridge", "random_forest", "ridge"],
            "error_bp": [1.0, 2.0, 9.0, np.nan],
            "persistence_error_bp": [2.0, 3.0, 1.0, np.nan],
            "real_close": [1.0, 3.0, 1.0, np.nan],
            "lo": 0.5,
            "hi": 2.0,
            "open_time": noon,
            "made_at": [noon + pd.Timedelta(seconds=lag) for lag in (0.5, 1.5, 0.5, 99)],
        }
    )
    table = evaluation.sealed(frame)
    assert table.data[["p50", "p99"]].to_numpy().tolist() == [[0.5, 0.5], [1.5, 1.5]]
    assert text_of(table).startswith("2")
    assert "less than the 2.500" in text_of(table).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "too few" in text_of(table)
    assert table.data["coverage"].tolist() == [1.0, 0.5]
    assert "no better" in text_of(evaluation.sealed(frame.assign(error_bp=5.0)))
    assert "only forecasts of challengers" in text_of(evaluation.sealed(frame.iloc[[2]]))


def range_frame(skill: float) -> pd.DataFrame:
    """Autocorrelated log ranges; one model forecasts a share of each innovation."""
    random = np.random.default_rng(3)
    new = random.normal(0, 0.4, 3000)
    level = np.zeros(3000)
    for place in range(1, 3000):
        level[place] = 0.8 * level[place - 1] + new[place]
    last = np.concatenate([[0.0], level[:-1]])
    said = {"persistence": last, "ewma": 0.7 * last, "har": 0.75 * last, "linear": 0.8 * last + skill * new}
    time = pd.date_range("2024-01-01", periods=3000, freq="15min", tz="UTC")
    parts = [pd.DataFrame({"open_time": time, "model": name, "y": level - 7, "y_hat": values - 7, "base": last - 7})
             for name, values in said.items()]  # fmt: skip
    return pd.concat(parts, ignore_index=True).assign(cutoff=time[0], lo=np.nan, hi=np.nan, prob_up=np.nan)


def test_the_size_of_the_next_move_is_shown_beside_moving_averages_and_the_last_candle():
    """What is known beyond the average is found; what is not is not claimed."""
    result = result_of(forecasts(0.0))
    table = evaluation.size_models(result, range_frame(0.3))
    assert text_of(table).startswith("How large the next candle will be is known far better")
    assert table.data.groupby("what")["model"].first().tolist() == ["linear", "linear"]
    assert table.data.groupby("what")["p"].min().max() < 0.01
    assert "persistence" not in table.data["title"].tolist()
    assert text_of(evaluation.size_forecasts(range_frame(0.3)))
    wrong = range_frame(0.0)
    wrong.loc[wrong["model"].isin(["har", "linear"]), "y_hat"] += 2.0
    assert "no better, beyond chance" in text_of(
        evaluation.size_models(dataclasses.replace(result, ranges=wrong), wrong)
    )


def test_a_stranger_recomputes_the_headline_from_the_downloaded_forecasts(tmp_path):
    """The script as the page shows it, run on the file alone, prints skill and p of the verdict, looks counted."""
    for skill, looks in ((0.0, 3), (0.02, 1)):
        result = result_of(forecasts(skill), looks)
        item = evaluation.forecasts(result)
        (tmp_path / "forecasts.csv").write_text(csv_text(item.data))
        (tmp_path / "recompute.py").write_text(item.script)
        command = [sys.executable, "-I", "recompute.py", "forecasts.csv", item.command]
        printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        best, p = result.figures[result.leader], result.verdict.table.set_index("model")["p_holm"]
        assert f"{result.leader}: skill {100 * best['skill']:.4f} %, p {p[result.leader]:.4g}\n" in printed
    assert len(item.script.splitlines()) < 45


def test_a_headline_that_the_forecasts_do_not_give_fails_the_build():
    """The figures of the page and those of the file are one, or there is no page."""
    result = result_of(forecasts(0.02))
    result.figures["ridge"]["skill"] += 0.001
    with pytest.raises(ReportError, match="does not hold"):
        evaluation.forecasts(result)


def cards_of(result: Result) -> dict[str, Any]:
    """Key figures by label, over candles of the same span."""
    times = pd.DataFrame({"open_time": result.of_leader["open_time"]})
    return {card.label: card for card in evaluation.cards(result, times)}


def test_what_is_earned_is_not_called_more_than_luck_unless_it_is():
    """A gain whose interval holds zero is no break-even fee."""
    cards = cards_of(result_of(forecasts(0.0)))
    assert str(cards["Break-even fee"].value) == "not proven"
    assert "earn nothing before fees" in cards["Break-even fee"].note
    assert "best model" in cards["Skill"].note
    sure = cards_of(result_of(forecasts(0.5)))
    assert str(sure["Break-even fee"].value).endswith("bp")
    assert "nearest" not in sure["Skill"].note


@pytest.mark.parametrize(
    ("skill", "low", "sentence"),
    [
        ([0.1], [-0.2], "The whole test lies in one month. The skill of Ridge regression there is 10.00 %."),
        (
            [0.1, 0.1],
            [0.05, 0.05],
            "in 2 of 2 months; the interval lies above zero in 2 of these parts and below zero in 0.",
        ),
        (
            [0.1, 0.1],
            [-0.1, 0.05],
            "in 2 of 2 months; the interval lies above zero in 1 of these parts and below zero in 0.",
        ),
        (
            [-0.1, -0.1],
            [-0.2, -0.2],
            "in 0 of 2 months; the interval lies above zero in 0 of these parts and below zero in 0.",
        ),
    ],
)
def test_groups_are_counted_with_their_intervals(skill, low, sentence):
    """Grammar follows the number; one month is not counted."""
    groups = pd.DataFrame({"by": "month", "name": [*"ab"][: len(skill)], "skill": skill, "skill_low": low})
    groups = groups.assign(skill_high=0.3, rows=9)
    said = str(evaluation._skill_by_claim(groups, "ridge", beats=True))
    assert sentence in said.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_a_p_value_states_what_it_counts():
    """The tile tells the corrected one as such."""
    result = result_of(forecasts(0.2))
    assert dict(evaluation.against_persistence(result, "BTCUSDT").columns)["p_holm"][0] == "p-value, all counted"
    card = cards_of(result)["Skill"]
    assert "at one look (95\N{NARROW NO-BREAK SPACE}%)" in card.note
    assert "with 2\N{NARROW NO-BREAK SPACE}models and 1\N{NARROW NO-BREAK SPACE}look counted" in card.note


def test_every_fee_is_that_of_a_round_trip():
    """Verdict, card and sentence speak of one fee."""
    result = result_of(forecasts(0.01))
    result.__dict__["gain"] = gain = Gain(5.0, 4.0, 6.0)
    assert "a fee above {fee} a round trip takes all of it" in evaluation._worth(gain)
    assert evaluation._fee_card(result).note.startswith("a round trip")
    said = text_of(evaluation.fees(result)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "at a fee of 5.0 bp, a round trip" in said
    assert said.endswith("entering and leaving usually costs 20 bp.")


def test_the_plan_names_the_stretch_that_is_not_judged(snapshot):
    """What is drawn in light blue has a word in the sentence, and only where it is drawn."""
    experiment = Experiment.default(snapshot.candles, "15m")
    folds = experiment.folds(snapshot.candles)
    assert set(folds["part"]) == {"test"}
    assert "light blue" not in text_of(training.plan(folds, experiment))
    folds.loc[0, "part"] = "burn-in"
    assert "light blue stretch is the burn-in" in text_of(training.plan(folds, experiment))


@pytest.mark.parametrize(("skill", "sentence"), [(0.2, "the difference is significant."), (0.0, "may be luck.")])
def test_a_lead_within_one_month_is_not_counted_in_months(skill, sentence):
    """“In one of one month” is no sentence."""
    frame = forecasts(skill)
    frame["open_time"] = pd.Timestamp("2025-06-01", tz="UTC") + (frame["open_time"] - frame["open_time"].min()) / 4
    assert text_of(evaluation.loss_difference(result_of(frame))).endswith(sentence)


def test_candles_of_a_day_have_no_hours_to_compare():
    """One hour of the day is no comparison."""
    frame = forecasts(0.2)
    day = frame.groupby("model").cumcount()
    frame["open_time"] = day.map(lambda day: pd.Timestamp("2009-01-01", tz="UTC") + day * pd.Timedelta(days=1))
    said = text_of(evaluation.skill_by(result_of(frame)))
    assert "months" in said
    assert "hour" not in said


def test_a_printed_error_is_on_its_side_of_the_one_beside_it():
    """Errors that differ in the fifth decimal are printed with five; a skill of 0.001 % is not 0.00 %."""
    assert [str(claims.bp(5.12301, 3, beside=5.12302)), str(claims.bp(5.12302, 3, beside=5.12301))] == [
        "5.12301\N{NARROW NO-BREAK SPACE}bp", "5.12302\N{NARROW NO-BREAK SPACE}bp",
    ]  # fmt: skip
    assert str(claims.percent(1e-5, 2, beside=0.0)).startswith("0.001")
    assert [claims.probability(p).text for p in (0.009999, 0.05, 0.3)] == ["0.009999", "0.0500", "0.3000"]
