"""One experiment, one verdict: the published plan, its result, and the looks that it counts."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from btcml.errors import ArtifactError, NotReadyError, UsageError
from btcml.forecast import artifacts
from btcml.forecast.artifacts import load_forecasts, load_result, save_result
from btcml.forecast.experiment import MODELS, Experiment, Result
from btcml.forecast.metrics import forecast_frame
from btcml.forecast.models import MEANS
from btcml.forecast.models import MODELS as ALL_MODELS
from btcml.forecast.money import decisions
from btcml.market.simulate import SimulatedMarket

NO_TRIALS = pd.DataFrame({"model": [], "test_start": [], "test_end": [], "settings": []})


def research(start, end, tries=60):
    """Tries of the authors on candles of a span."""
    return pd.DataFrame({"kind": "search", "what": "losses", "start": [start], "end": [end], "tries": [tries]})


NO_RESEARCH = research(pd.Timestamp(0, tz="UTC"), pd.Timestamp(0, tz="UTC")).head(0)


@pytest.fixture(scope="module")
def result(candles):
    """A quick run of the published plan with two models."""
    return Experiment.default(candles, "5m").replace(models=("ridge", "autoreg")).run(candles, jobs=1)


def times(days, interval="5min", end="2025-03-01 12:35"):
    stop = pd.Timestamp(end, tz="UTC")
    return pd.DataFrame({"open_time": pd.date_range(stop - pd.Timedelta(days=days), stop, freq=interval)})


@pytest.mark.parametrize(
    ("days", "interval", "purge", "start"),
    [
        (1095, "5m", 288, "2024-03-01"),
        (1095, "1h", 24, "2024-03-01"),
        (1095, "1d", 1, "2024-03-01"),
        (60, "15m", 96, "2025-02-09"),
        (4, "5m", 288, "2025-02-28"),
    ],
)
def test_the_published_plan_tests_the_newest_third_from_midnight(days, interval, purge, start):
    """At most a year; the purge is a day; two fits after the burn-in."""
    candles = times(days, interval.replace("m", "min").replace("d", "D"))
    found = Experiment.default(candles, interval)
    assert (found.purge, pd.Timestamp(found.test_from)) == (purge, pd.Timestamp(start, tz="UTC"))
    folds = found.folds(candles)
    assert (folds["part"] == "test").sum() in {1, 2}
    assert folds["test_end"].iloc[-1] > candles["open_time"].iloc[-1] >= folds["test_start"].iloc[-1]


@pytest.mark.parametrize("end", ["2025-03-01 00:00", "2025-03-01 00:05", "2025-03-01 12:35", "2024-03-01 23:55"])
@pytest.mark.parametrize("days", [1095, 2000])
def test_a_year_is_judged_by_two_fits_and_no_third_for_its_last_minutes(days, end):
    """Every fold costs as much as the next, however few candles it tests; and the last candle is tested."""
    candles = times(days, end=end)
    folds = Experiment.default(candles, "5m").folds(candles)
    assert folds["part"].tolist() == ["burn-in", "test", "test"]
    assert folds["test_end"].iloc[-1] - folds["test_start"].iloc[1] > pd.Timedelta(days=365)


def test_a_changed_field_makes_an_explicit_experiment_that_says_so(candles):
    """The label names every difference and nothing else."""
    standard = Experiment.default(candles, "5m")
    assert standard.differences(candles) == {}
    assert standard.replace(test_from="2025-01-13").differences(candles) == {}  # another way to write the same
    other = standard.replace(models=("ridge",), window="10 days")
    assert other.label(candles) == "an explicit experiment: models = ridge; window = 10 days"


def test_impossible_experiments_are_refused_in_one_sentence(candles):
    """Unknown model, feature, field or level; too short a purge; too few candles."""
    standard = Experiment.default(candles, "5m")
    with pytest.raises(UsageError, match=r"lightgbm_mean.* found 'oracle'"):
        standard.replace(models=("oracle",))
    with pytest.raises(UsageError, match="at least one model beside persistence"):
        standard.replace(models=("persistence",))
    with pytest.raises(UsageError, match="a feature set is one of"):
        standard.replace(features="everything")
    with pytest.raises(UsageError, match=r"has the fields interval, .* found steps"):
        standard.replace(steps=3)
    with pytest.raises(UsageError, match="level must lie between 0 and 1"):
        standard.replace(level=90)
    with pytest.raises(UsageError, match="purge must be at least the horizon"):
        standard.replace(purge=0)
    with pytest.raises(UsageError, match=r"purge must be at least the horizon \(12\), found 3"):
        standard.replace(purge=3, horizons=(1, 12))
    for wrong in ((), (0, 3), (3, 1), (1, 1), (1, 10**9)):
        with pytest.raises(UsageError, match="numbers of candles from 1 to 1000, ascending, found"):
            standard.replace(horizons=wrong)
    with pytest.raises(NotReadyError, match="candles of three days"):
        Experiment.default(candles.head(500), "5m")


@pytest.mark.parametrize("model", ["lightgbm_huber", "ridge", "autoreg"])
def test_a_span_whose_training_rows_are_all_warm_up_is_named(model):
    """Three days of 1m candles from 23:50 on: a day of purge before the test leaves ten minutes to train on."""
    start = pd.Timestamp("2025-01-01 23:50", tz="UTC")
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "1m", start, start + pd.Timedelta(days=3, minutes=2))
    experiment = Experiment.default(candles, "1m").replace(models=(model,))
    with pytest.raises(NotReadyError, match="needs candles at which all features are known, found none"):
        experiment.run(candles, jobs=1)


def test_everything_in_a_result_follows_from_its_forecasts(result, tmp_path):
    """A result that was saved and loaded says the same, to the bit."""
    again = load_result(save_result(result, tmp_path / "result.parquet"))
    assert again.experiment == result.experiment
    assert json.dumps(again.to_dict(), allow_nan=False) == json.dumps(result.to_dict(), allow_nan=False)
    pd.testing.assert_frame_equal(again.joint_tests(), result.joint_tests())
    assert again.gain == result.gain


def test_every_horizon_of_a_result_is_saved_and_loaded(candles, tmp_path):
    """Verdicts, scores and distributions are the same to the bit; the service reads the next candle only."""
    plan = Experiment.default(candles, "5m", (1, 12)).replace(models=("ridge",))
    result = plan.run(candles, jobs=1)
    file = save_result(result, tmp_path / "result.parquet")
    again = load_result(file)
    assert again.experiment == plan
    assert json.dumps(again.to_dict(), allow_nan=False) == json.dumps(result.to_dict(), allow_nan=False)
    assert again.at(12).verdict.to_dict() == result.at(12).verdict.to_dict()
    with pytest.raises(UsageError, match="horizons of the experiment are 1, 12, found 3"):
        again.at(3)
    assert set(load_forecasts(file, "ridge", plan.test_span(candles))["horizon"]) == {1}
    wrong = result.at(12).forecasts.assign(horizon=1)
    assert Result(plan, wrong, wrong.head(0)).verdict.table["z"].iloc[1] != result.at(12).verdict.table["z"].iloc[1]


def test_a_file_of_version_0_1_keeps_its_forecasts_and_a_damaged_one_is_told(result, tmp_path):
    """Version 0.1 kept forecasts of the close without their experiment; no file is no result."""
    assert load_result(tmp_path / "none.parquet") is None
    result.forecasts.astype({"model": "str"}).to_parquet(tmp_path / "old.parquet")
    old = load_result(tmp_path / "old.parquet")
    assert old.verdict.to_dict() == result.verdict.to_dict()
    assert (old.experiment.interval, old.experiment.models) == ("5m", ("autoreg", "ridge"))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="delete it and train again"):
        load_result(tmp_path / "torn.parquet")


def test_a_result_shows_every_model_beside_persistence(result):
    """Persistence is the first row with ratio 1; months, interval, range and money are there."""
    facts = result.to_dict()
    assert next(row["model"] for row in facts["close"]) == "persistence"
    assert facts["close"][0]["ratio"] == 1
    assert {row["model"] for row in facts["close"]} == {"persistence", "ridge", "autoreg"}
    assert facts["edge"]["lasts"] is False
    assert 0.8 < facts["interval"][0]["coverage"] < 0.97
    assert result.interval["group"].tolist() == ["all", "calm", "middle", "storm"]
    parts = ("next close", "90% interval", "log range", "by age", "money before costs", "months with a smaller")
    for part in (*parts, "a trend needs 6 months"):
        assert part in str(result)
    assert result.verdict.reason.split(" is ", maxsplit=1)[0] in result._repr_html_()


def test_where_nothing_is_proven_every_decision_is_silent(result):
    """Persistence is champion of the simulated market: nothing is traded, also without cost."""
    assert result.verdict.champion == "persistence"
    table = result.decisions([0.0, 10.0])
    assert table[["silent", "trips", "total"]].to_numpy().tolist() == [[1, 0, 0], [1, 0, 0]]
    best = result.forecasts["model"] == result.leader
    assert decisions(result.forecasts[best], [0.0])["silent"].iloc[0] < 0.5


def test_the_cost_of_money_is_that_of_a_round_trip(result):
    """Net is gross less the cost, a round trip."""
    table = result.money([0.0, 2.0])
    apart = table[table["cost_bp"] == 0]["net_bp"].to_numpy() - table[table["cost_bp"] == 2]["net_bp"].to_numpy()
    np.testing.assert_allclose(apart, 2.0)
    assert (result.money(2.0)["cost_bp"] == 2).all()


def test_persistence_has_no_skill_and_an_oracle_has_all():
    """The evaluation itself is tested on known answers."""
    close = 100 * np.exp(np.random.default_rng(3).normal(0, 0.01, 601).cumsum())
    frame = forecast_frame(close, {"ridge": {"y_hat": close[1:]}})
    found = Result(Experiment("5m", "2024-01-01"), frame, frame.head(0))
    assert found.verdict.champion == found.leader == "ridge"
    assert found.scores(metrics=["skill"]).set_index("model")["skill"].to_dict() == {"persistence": 0.0, "ridge": 1.0}


def test_three_days_of_short_candles_are_three_days():
    """To the close of the last; what is missing is said as a span, not as a number of candles."""
    times = pd.DataFrame({"open_time": pd.date_range("2025-06-28", periods=4_320, freq="min", tz="UTC")})
    assert Experiment.default(times, "1m").test_from == "2025-06-30T00:00:00+00:00"
    with pytest.raises(
        NotReadyError, match="of three days, found 4,319 from 2025-06-28 00:00 to 2025-06-30 23:59: back"
    ):
        Experiment.default(times.iloc[:-1], "1m")
    with pytest.raises(NotReadyError, match="of three days, found none"):
        Experiment.default(times.iloc[:0], "1m")


def test_a_table_without_rows_is_none():
    """An interval needs 500 outcomes first, more than a year of daily candles."""
    span = pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2025-01-01", tz="UTC")
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "1d", *span)
    said = str(Experiment.default(candles, "1d").replace(models=("ridge",)).run(candles, jobs=1))
    assert "90% interval\nnone, since too few candles are forecast" in said
    assert "Empty DataFrame" not in said


def test_the_first_look_is_one_and_the_next_day_adds_a_part_of_one(candles):
    """Overlapping verdicts count by what is new in them; other models and settings count whole."""
    standard = Experiment.default(candles, "5m")
    assert standard.looks(candles, NO_TRIALS, NO_RESEARCH) == 1
    start, end = standard.test_span(candles)
    own = pd.DataFrame({"model": standard.models, "test_start": start, "test_end": end, "settings": "{}"})
    assert standard.looks(candles, own, NO_RESEARCH) == 1
    day = pd.Timedelta(days=1)
    before = own.assign(test_start=start - day, test_end=end - day)
    assert standard.looks(candles, before, NO_RESEARCH) == 2
    other = own.assign(settings='{"window": "12 months"}')
    assert standard.looks(candles, pd.concat([own, other]), NO_RESEARCH) == 2


def test_tries_of_the_authors_count_where_their_candles_overlap_the_test(candles):
    """A search on the span of the test makes it harder; one on earlier candles is on record only."""
    standard = Experiment.default(candles, "5m")
    start, _ = standard.test_span(candles)
    day = pd.Timedelta(days=1)
    within, before = research(start - day, start + day), research(start - 9 * day, start)
    models = len(standard.models)
    assert standard.looks(candles, NO_TRIALS, within) == 1 + 60 // models
    assert standard.looks(candles, NO_TRIALS, before) == 1
    ledger = standard.ledger(candles, NO_TRIALS, pd.concat([within, before]))
    assert ledger["tries"].tolist() == [60, 60, models]
    assert ledger["counted"].tolist() == [True, False, True]
    assert ledger["origin"].tolist() == ["search of the authors", "search of the authors", "this report"]


def test_the_ledger_has_every_try_once(candles):
    """Verdicts, searches and experiments of the database, each with its span where one is on record."""
    standard = Experiment.default(candles, "5m")
    start, end = standard.test_span(candles)
    day = pd.Timedelta(days=1)
    rows = [
        ("ridge", start - day, end - day, "{}"),
        ("ridge", start, end, "{}"),
        ("ridge", start, end, '{"window": 9}'),
        ("lightgbm", pd.NaT, pd.NaT, '{"a": 1}'),
    ]
    trials = pd.DataFrame(rows, columns=["model", "test_start", "test_end", "settings"])
    ledger = standard.ledger(candles, trials, NO_RESEARCH)
    kinds = ["verdict of this installation", "search of this installation", "experiment of this installation"]
    assert ledger["origin"].tolist() == [*kinds, "this report"]
    assert ledger["tries"].sum() == len(trials) - 1 + len(standard.models)  # the same verdict again is no try


def test_every_try_on_record_deflates_the_sharpe_ratio(result):
    """The tries that a result was given count, and at least those of its own looks."""
    assert dataclasses.replace(result, tries=265).trials == 265
    assert result.trials == result.looks * (result.forecasts["model"].nunique() - 1)
    deflated = [dataclasses.replace(result, tries=tries).money(0.0)["deflated"].iloc[-1] for tries in (0, 265)]
    assert deflated[1] < deflated[0]


def test_other_horizons_are_no_look_at_the_next_candle(candles):
    """Nor the other way round; a repeated verdict at the same horizons counts by what is new in it."""
    standard, far = Experiment.default(candles, "5m"), Experiment.default(candles, "5m", (3, 12))
    start, end = far.test_span(candles)
    day = pd.Timedelta(days=1)
    tries = pd.DataFrame({"model": far.models, "test_start": start - day, "test_end": end - day})
    weekly, own = tries.assign(settings='{"horizons": [3, 12]}'), tries.assign(settings="{}")
    assert standard.looks(candles, weekly, NO_RESEARCH) == 1
    assert far.looks(candles, own, NO_RESEARCH) == 1
    assert far.looks(candles, weekly, NO_RESEARCH) == standard.looks(candles, own, NO_RESEARCH) == 2
    assert far.looks(candles, tries.assign(settings='{"horizons": [1, 3]}'), NO_RESEARCH) == 2
    assert standard.looks(candles, tries.assign(settings='{"horizons": [1, 3]}'), NO_RESEARCH) == 2
    assert standard.ledger(candles, weekly, NO_RESEARCH)["origin"].tolist() == ["this report"]


def test_one_models_forecasts_of_a_span_are_read_without_the_rest(result, tmp_path):
    """As the whole result has them, also from a file of 0.1; row groups are small enough to skip most of the file."""
    new, old = save_result(result, tmp_path / "result.parquet"), tmp_path / "old.parquet"
    result.forecasts.astype({"model": "str"}).to_parquet(old)
    times = result.forecasts["open_time"]
    span = times.min() + pd.Timedelta(hours=3), times.min() + pd.Timedelta(hours=9)
    expected = result.forecasts[(result.forecasts["model"] == "ridge") & times.ge(span[0]) & times.lt(span[1])]
    assert len(expected) == 72
    for file in (new, old):
        found = load_forecasts(file, "ridge", span)[list(expected.columns)]
        pd.testing.assert_frame_equal(found, expected.astype({"model": "str"}).reset_index(drop=True))
    assert load_forecasts(new, "nobody", span).empty
    assert load_forecasts(tmp_path / "none.parquet", "ridge", span).empty
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="delete it and train again"):
        load_forecasts(tmp_path / "torn.parquet", "ridge", span)


def test_a_file_of_a_result_has_small_row_groups(result, tmp_path, monkeypatch):
    """Each knows its models and times: a reader skips the others."""
    monkeypatch.setattr(artifacts, "_ROWS_IN_GROUP", 500)
    metadata = pq.ParquetFile(save_result(result, tmp_path / "result.parquet")).metadata
    assert metadata.num_row_groups == -(-metadata.num_rows // 500) > 3
    assert all(metadata.row_group(n).column(1).statistics.has_min_max for n in range(metadata.num_row_groups))


def test_a_market_that_does_not_move_is_judged_without_a_warning(candles):
    """All prices equal: persistence is served, nothing is divided by nothing, and JSON has no NaN."""
    still = candles.assign(open=100.0, high=100.0, low=100.0, close=100.0)
    names = ("lightgbm_mean", "random_forest", "autoreg", "ridge", "arma")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Experiment.default(still, "5m").replace(models=names).run(still, jobs=1)
        said = str(found)
        json.dumps(found.to_dict(), allow_nan=False)
        assert found.verdict.champion == "persistence"
    assert said.startswith("persistence is champion: no price moved in ")
    assert "nan of" not in said


def test_after_a_price_step_of_ten_no_forecast_is_bold(candles):
    """Like a redenomination: one return of 230 % must not make the forecasts of the next day ten times as large."""
    step = candles.index >= len(candles) - 500
    prices = ["open", "high", "low", "close"]
    jumped = candles.assign(**candles[prices].mul(np.where(step, 10.0, 1.0), axis=0))
    frame = Experiment("5m", "2025-01-14", models=("ridge", "lightgbm_mean"), purge=12).run(jumped, jobs=1).forecasts
    moves = frame.assign(move=np.log(frame["y_hat"] / frame["base"]).abs())
    after = moves["open_time"] > candles["open_time"].iloc[-500]
    near = after & (moves["open_time"] <= candles["open_time"].iloc[-400])
    for name in ("ridge", "lightgbm_mean"):
        own = moves["model"] == name
        assert moves[own & near]["move"].mean() < 5 * moves[own & ~after]["move"].mean()


def test_the_table_shows_on_which_side_of_one_a_ratio_is(result):
    """1.00002 is not printed as 1."""
    frame = result.forecasts
    worse = frame.assign(y_hat=np.where(frame["model"] == "ridge", frame["base"] * (1 + 1e-9), frame["y_hat"]))
    said = str(dataclasses.replace(result, family=(), forecasts=worse))
    ratio = next(line.split()[2] for line in said.splitlines() if line.split()[:1] == ["ridge"])
    exact = dataclasses.replace(result, family=(), forecasts=worse).figures["ridge"]["ratio"]
    assert (float(ratio) > 1, float(ratio) < 1) == (exact > 1, exact < 1)
    assert exact != 1


@pytest.mark.parametrize("name", sorted({*ALL_MODELS, *MEANS} - {"persistence"}))
def test_only_a_model_that_a_training_fits_is_named_champion(result, name):
    """Over all registered models: whichever is best, a default training can serve the champion."""
    ours = result.forecasts[result.forecasts["model"] != "ridge"].astype({"model": "str"})
    rows = ours[ours["model"] == "persistence"]
    oracle = rows.assign(model=name, y_hat=rows["base"] * (rows["y"] / rows["base"]) ** 0.5)
    best = dataclasses.replace(
        result, family=(), forecasts=pd.concat([ours[ours["model"] != name], oracle], ignore_index=True)
    )
    assert best.verdict.table.set_index("model")["beats"][name]
    assert best.verdict.champion == (name if name in MODELS else "persistence")
    assert best.to_dict()["champion"] in {"persistence", *MODELS}
    assert (name in MODELS) == ("a training" not in best.verdict.reason)
    assert str(best).startswith(best.verdict.reason)


@pytest.mark.parametrize("name", ["direction", "ewma", "har", "range_boosting"])
def test_a_model_of_another_target_is_refused(candles, name):
    """A range or a probability is no forecast of the close."""
    with pytest.raises(UsageError, match=f"forecasts the close, found '{name}'"):
        Experiment.default(candles, "5m").replace(models=(name,))
