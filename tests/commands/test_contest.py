"""The verbs of the contest: the span that is named is the span that is judged, and files of forecasts, too."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.cli import main
from btcml.store.models import read_trials


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """A home without a database, which the judge leaves so."""
    monkeypatch.setenv("BTCML_HOME", str(tmp_path / "nowhere"))
    return tmp_path / "nowhere"


@pytest.fixture
def holed(store, home, monkeypatch, capsys):  # noqa: ARG001 - an empty database
    """A month of the past and the last days, with more than a year missing between them."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setenv("BTCML_SOURCE", "simulated")
    monkeypatch.setenv("BTCML_INTERVAL", "1h")
    assert main(["backfill", "--since", "2025-01-01", "--until", "2025-02-01"]) == 0
    assert main(["backfill", "--days", "30"]) == 0
    capsys.readouterr()


EVALUATE = ("evaluate", "--models", "ridge", "--jobs", "1", "--json")


@pytest.mark.usefixtures("holed")
def test_only_the_days_that_are_named_are_judged(capsys):
    """Older candles of the database take no part: neither in the test nor in training."""
    assert main([*EVALUATE, "--days", "30"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["close"][0]["rows"] <= 720 / 3 + 24
    assert " candles from 20" in said.err
    assert "missing" not in said.err


@pytest.mark.usefixtures("holed")
def test_each_horizon_has_a_row_with_its_skill_volatility_and_distribution(capsys):
    """In JSON and in the tables for people; what is no horizon is refused in one sentence."""
    assert main([*EVALUATE, "--days", "90", "--horizons", "12,1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["horizon"] for row in facts["horizons"]] == [1, 12]
    known = {"ratio", "late_ratio", "z", "p", "volatility_r2", "crps_skill", "coverage_50", "coverage_95", "pit_p"}
    assert all(row[name] is not None for row in facts["horizons"] for name in known)
    assert facts["experiment"]["horizons"] == [1, 12]
    assert main([*EVALUATE[:-1], "--days", "90", "--horizons", "1,12"]) == 0
    assert "by horizon in candles" in capsys.readouterr().out
    for wrong in ("0,3", "one", "1.5", "99999999999"):
        assert main([*EVALUATE, "--days", "30", "--horizons", wrong]) == 2
        assert "numbers of candles" in capsys.readouterr().err


@pytest.mark.usefixtures("holed")
def test_each_symbol_of_a_pool_is_left_out_once(capsys, monkeypatch, store):
    """A table for people, and the same in JSON; each is a try on its candles."""
    monkeypatch.setattr("btcml.forecast.experiment.OTHERS_MODEL", "others_ridge")
    wanted = [*EVALUATE, "--days", "60", "--pool", "ETHUSDT"]
    assert main(wanted) == 0
    found = json.loads(capsys.readouterr().out)["left_out"]
    assert [row["coin"] for row in found["table"]] == ["BTCUSDT", "ETHUSDT"]
    assert found["model"] == "others_ridge"
    assert all(row["rows"] > 400 for row in found["table"])
    assert "others_ridge" in set(read_trials(store, SeriesKey("simulated", "ETHUSDT", "1h"))["model"])
    assert main(wanted[:5] + wanted[6:]) == 0
    said = capsys.readouterr().out
    assert "coins left out" in said
    assert "on coins left out" in said.splitlines()[-1]


@pytest.mark.usefixtures("holed")
def test_a_gap_in_the_judged_span_is_reported(capsys):
    """Without --days all that is stored takes part, and what is missing in it is said."""
    assert main(["backfill", "--interval", "1d", "--since", "2019-01-01", "--until", "2019-12-31"]) == 0
    assert main([*EVALUATE, "--interval", "1d"]) == 0
    said = capsys.readouterr().err
    assert " candles from 2019-01-01 to " in said
    assert "missing in between (give --days" in said


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--test-from", "yesterday", "expected a UTC time such as 2017-08-17"),
        ("--test-from", "NaT", "expected a UTC time"),
        ("--test-from", "1500-01-01", "expected a UTC time"),
        ("--test-to", "2300-01-01", "expected a UTC time"),
        ("--jobs", "0", "expected a whole number of at least 1, found '0'"),
        ("--jobs", "-3", "expected a whole number"),
        ("--jobs", "two", "expected a whole number"),
        ("--search", "0", "expected a whole number"),
        ("--days", "0", "the parameter days"),
        ("--days", "99999999999", "the parameter days"),
        ("--symbol", "", "a symbol is 2 to 20"),
        ("--interval", "7m", "interval"),
        ("--source", "/none", "/none"),
        ("--models", "", "a model is one of"),
        ("--models", "ridge,,", "a model is one of"),
        ("--models", "direction", "forecasts the close"),
        ("--models", "sklearn.cluster.KMeans", "a scikit-learn regressor"),
        ("--features", "", "a feature set is one of"),
        ("--features", ",", "features must be registered"),
        ("--window", "0", "a span is a number of candles"),
        ("--window", "99999999999999999999", "a span is a number of candles"),
        ("--window", "999999 months", "a span is a number of candles"),
        ("--refit", "0", "a span is a number of candles"),
        ("--refit", "0 days", "a span is a number of candles"),
        ("--refit", "soon", "a span is a number of candles"),
        ("--cluster", "here", "scheduler"),
    ],
)
@pytest.mark.usefixtures("holed")
def test_every_option_refuses_nonsense_in_one_sentence(capsys, option, value, expected):
    """What was expected and what was found, with status 2 and no traceback."""
    assert main([*EVALUATE, "--days", "30", option, value]) == 2
    said = capsys.readouterr()
    assert expected in json.loads(said.out)["error"]
    assert "Traceback" not in said.err


def test_a_model_named_twice_is_tried_once(holed, capsys):  # noqa: ARG001 - candles
    """And a feature named twice is one column."""
    assert main([*EVALUATE, "--days", "30", "--models", "ridge, ridge", "--features", "body,body"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"]["models"] == ["ridge"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Candles whose returns are partly reversed, and files of forecasts of them."""
    folder, rng = tmp_path_factory.mktemp("judged"), np.random.default_rng(3)
    moves = rng.normal(0, 1e-3, 3001)
    for t in range(1, len(moves)):
        moves[t] -= 0.2 * moves[t - 1]
    close = 100 * np.exp(moves.cumsum())
    times = pd.date_range("2025-01-01", periods=len(close), freq="5min", tz="UTC")
    opened = np.append(100.0, close[:-1])
    prices = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    pd.DataFrame({"open_time": times} | prices | {"volume": 1.0}).to_parquet(folder / "BTCUSDT-5m.parquet")
    said = {"good": -0.2 * moves[:-1], "naive": 0 * moves[:-1], "wild": rng.normal(0, 1e-3, 3000), "oracle": moves[1:]}
    for name, move in said.items():
        frame = pd.DataFrame({"made": times[:-1], "open_time": times[1:], "y_hat": close[:-1] * np.exp(move)})
        frame[:-1].to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("name", "status", "conclusion"),
    [
        ("good", 0, "champion"),
        ("naive", 3, "not proven"),
        ("wild", 4, "worse than no change"),
        ("oracle", 5, "champion"),
    ],
)
def test_the_judgement_is_the_exit_status(files, nowhere, capsys, name, status, conclusion):
    """As the help says; the first line says it, too, and no database is opened."""
    judge = ("judge", str(files / f"{name}.csv"), "--candles", str(files / "BTCUSDT-5m.parquet"))
    judge += ("--column", "cutoff=made")
    assert main([*judge, "--json"]) == status
    facts = json.loads(capsys.readouterr().out)
    assert (facts["status"], facts["model"], facts["conclusion"]) == ("ok", name, conclusion)
    assert main([*judge]) == status
    first, caveat = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith(f"{name}: {conclusion}")
    assert caveat == "Whether these forecasts were made in time cannot be checked from a file."
    assert not nowhere.exists()


def test_several_files_are_judged_side_by_side(files, capsys):
    """Each is a try."""
    named = [str(files / f"{name}.csv") for name in ("naive", "good", "wild")]
    assert (
        main(["judge", *named, "--candles", str(files), "--column", "cutoff=made", "--json"]) == 2
    )  # files of forecasts
    capsys.readouterr()
    candles = ("--candles", str(files / "BTCUSDT-5m.parquet"))
    assert main(["judge", *named, *candles, "--column", "cutoff=made", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {row["model"]: row["conclusion"] for row in facts["models"]} == {
        "persistence": "",
        "good": "champion",
        "naive": "not proven",
        "wild": "worse than no change",
    }
    assert "after Holm over 3 challengers" in facts["horizons"][0]["verdict"]["reason"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--column cutoff=NAME"),
        (("--column", "cutoff"), "--column takes OURS=THEIRS"),
        (("--column", "cutoff=made", "--values", "percent"), "values are one of"),
        (("--column", "cutoff=made", "--cutoff-is", "middle"), "invalid choice"),
        (("--column", "cutoff=made", "--interval", "1h"), "is no open time of a 1h candle"),
        (("--column", "cutoff=made", "--verify"), "--verify compares a page, found none"),
        (("--column", "cutoff=made", "--timezone", "Mars/Base"), "the times are not of the zone Mars/Base"),
        (("--candles", "none.csv"), "there is no file or folder of candles at none.csv"),
        (("--column", "cutoff=made", "--level", "2"), "the interval level must lie between 0 and 1"),
        (("--horizon", "0"), "expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(files, nowhere, capsys, options, said):
    """With status 2, and no database is made."""
    assert main(["judge", str(files / "good.csv"), "--candles", str(files / "BTCUSDT-5m.parquet"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not nowhere.exists()


def test_a_judgement_is_a_page_that_can_be_made_again(files, tmp_path, capsys):
    """With --verify the bytes are compared; another looks changes them, and what has changed is named."""
    judge = (
        "judge",
        str(files / "good.csv"),
        "--candles",
        str(files / "BTCUSDT-5m.parquet"),
        "--column",
        "cutoff=made",
    )
    judge += ("--page", str(tmp_path / "page"))
    assert main([*judge]) == 0
    assert (tmp_path / "page" / "badge.svg").exists()
    assert main([*judge, "--verify"]) == 0
    assert "identical: " in capsys.readouterr().err
    assert main([*judge, "--verify", "--looks", "2"]) == 1
    assert "changed since the report was built: parameter looks: 1 became 2" in capsys.readouterr().err


@pytest.fixture
def tried(files, store, home, monkeypatch, capsys):  # noqa: ARG001 - an empty database
    """Judge files where there is a database: exit status, looks that are counted, and what is said of them."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    judge = ("judge", "--candles", str(files / "BTCUSDT-5m.parquet"), "--column", "cutoff=made", "--json")

    def _tried(*names, options=()):
        status = main([*judge, *options, *(str(files / f"{name}.csv") for name in names)])
        said = capsys.readouterr()
        return status, json.loads(said.out)["horizons"][0]["verdict"]["looks"], said.err

    return _tried


def test_models_judged_before_count_as_looks(tried, store):
    """Each other one is a try, also of files in one call; the same forecasts again are not, nor other horizons."""
    assert tried("naive") == (3, 1, "")
    status, looks, said = tried("wild")
    assert (status, looks) == (4, 2)
    assert "the p-values allow for 2 looks: other models were judged on these candles" in said
    assert tried("naive")[1] == 2
    assert tried("naive", "wild")[1] == 1
    assert tried("good", "oracle")[1] == 2  # two tries before by two models
    assert tried("good")[1] == 4
    assert tried("good", options=("--looks", "1"))[1:] == (1, "")
    assert tried("good", options=("--horizon", "3"))[1] == 1
    (key,) = {SeriesKey(*row) for row in store.fetch("SELECT DISTINCT market, symbol, interval FROM trials")}
    assert key.market.startswith("file:BTCUSDT-5m")
    assert read_trials(store, key).empty  # they are no tries of ours


def test_a_page_is_verified_with_the_looks_that_it_counts(tried, tmp_path):
    """Models that are judged later do not change it."""
    page = ("--page", str(tmp_path / "page"))
    assert tried("good", options=page)[:2] == (0, 1)
    assert tried("naive")[1] == 2
    assert "identical: " in tried("good", options=(*page, "--verify"))[2]


def test_a_database_that_does_not_answer_is_no_obstacle(tried, monkeypatch):
    """The judgement is the same, and that nothing was counted is said."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    status, looks, said = tried("good")
    assert (status, looks) == (0, 1)
    assert "these models are not counted as tries: " in said


def test_a_forecaster_is_named_in_place_of_a_file(files, tmp_path, monkeypatch, capsys):
    """Its horizons and limits are options; nothing to judge is a mistake."""
    code = "import pandas as pd\nclass Last:\n    def fit(self, df):\n        self.y = df['y'].iloc[-1]\n"
    (tmp_path / "last.py").write_text(
        f"{code}    def predict(self, h):\n        return pd.DataFrame({{'y': [self.y] * h}})\n"
    )
    monkeypatch.chdir(tmp_path)
    judge = ("judge", "--candles", str(files / "BTCUSDT-5m.parquet"), "--json")
    options = ("--forecaster", "last:Last", "--cutoffs", "250", "--window", "50", "--horizons", "1,2")
    assert main([*judge, *options]) == 3
    facts = json.loads(capsys.readouterr().out)
    assert {
        (row["model"], row["horizon"], row["skill"]) for row in facts["models"] if row["model"] != "persistence"
    } == {
        ("last:Last", 1, 0.0),
        ("last:Last", 2, 0.0),
    }
    assert facts["caveat"] == "Forecasters were run here, and given no candle after the cutoff."
    beside = ("--forecaster", "last:Nobody", "--column", "cutoff=made")
    assert main(["judge", str(files / "good.csv"), *judge[1:], *beside]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {row["model"]: row["conclusion"] for row in facts["models"]} == {
        "persistence": "",
        "good": "champion",
        "last:Nobody": "failed",
    }
    for wrong in ((), (*options, "--values", "return")):
        assert main([*judge, *wrong]) == 2
