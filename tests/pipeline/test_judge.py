"""Files of forecasts: what they may be, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.errors import SourceError, UsageError
from btcml.forecast.judge import judge
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.judge import ReadOptions, find_series, gather_judged, load_forecasts, with_ours

TIMES = pd.date_range("2025-01-01", periods=6, freq="5min", tz="UTC")
FORECASTS = pd.DataFrame(
    {"cutoff": TIMES[:-1], "open_time": TIMES[1:], "y_hat": [0.1 + 0.2, 101.0, 102.0, 103.0, 1 / 3]}
)


def load(path, frame, **reading):
    """Write a file and read it back."""
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return load_forecasts([path], "5m", ReadOptions(**reading))[path.name.split(".")[0]]


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.csv.gz"])
def test_numbers_and_times_are_read_exactly(tmp_path, name):
    """To the last bit, whatever the kind of file; the model has the file's name."""
    found = load(tmp_path / name, FORECASTS)
    assert found["y_hat"].tolist() == FORECASTS["y_hat"].tolist()
    assert found["cutoff"].tolist() == FORECASTS["cutoff"].tolist()
    assert found["model"].unique().tolist() == [name.split(".")[0]]


@pytest.mark.parametrize("close", ["299.999s", "299s", "300s"])
def test_a_close_time_as_cutoff_is_converted_where_that_is_said(tmp_path, close):
    """The next open, a millisecond or a second before it; another time is refused."""
    closing = FORECASTS.assign(cutoff=FORECASTS["cutoff"] + pd.Timedelta(close))
    assert load(tmp_path / "mine.csv", closing, cutoff_is="close")["cutoff"].tolist() == FORECASTS["cutoff"].tolist()
    with pytest.raises(SourceError, match="should hold close times of 5m candles, found 2025-01-01 00:01"):
        load(
            tmp_path / "mine.csv",
            FORECASTS.assign(cutoff=FORECASTS["cutoff"] + pd.Timedelta("1min")),
            cutoff_is="close",
        )


def test_a_horizon_stands_for_the_cutoff(tmp_path):
    """Only where it is said; other times are of the zone that is named."""
    found = load(tmp_path / "mine.csv", FORECASTS.drop(columns="cutoff"), horizon=2)
    assert (found["open_time"] - found["cutoff"]).unique().tolist() == [pd.Timedelta("10min")]
    with pytest.raises(SourceError, match="--column cutoff=NAME, or say with --horizon"):
        load(tmp_path / "mine.csv", FORECASTS.drop(columns="cutoff"))
    local = FORECASTS.assign(open_time=FORECASTS["open_time"].dt.tz_convert("Asia/Tokyo").dt.tz_localize(None))
    found = load(tmp_path / "mine.csv", local.drop(columns="cutoff"), horizon=1, timezone="Asia/Tokyo")
    assert found["open_time"].tolist() == FORECASTS["open_time"].tolist()


def test_columns_are_mapped_as_named_and_others_left_out(tmp_path):
    """One column may serve twice; quantiles and models, too."""
    theirs = FORECASTS.rename(columns={"cutoff": "made", "y_hat": "0.5"}).assign(lower=1.0, who="a", extra="text")
    columns = {"cutoff": "made", "y_hat": "0.5", "q50": "0.5", "q5": "lower", "model": "who"}
    found = load(tmp_path / "mine.csv", theirs, columns=columns)
    assert set(found) == {"cutoff", "open_time", "y_hat", "q50", "q5", "model"}
    assert found["model"].unique().tolist() == ["a"]
    for wrong in ({"y_hat": "nothing"}, {"forecast": "0.5"}):
        with pytest.raises(SourceError, match=r"--column .* should name one of cutoff, open_time, y_hat"):
            load(tmp_path / "mine.csv", theirs, columns=wrong)


def test_files_of_one_name_are_versions_of_one_model(tmp_path):
    """In two folders; or under any name where the model is named."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        FORECASTS.to_csv(tmp_path / folder / "mine.csv", index=False)
    paths = [tmp_path / folder / "mine.csv" for folder in ("old", "new")]
    found = load_forecasts(paths, "5m", ReadOptions())
    assert len(found) == 2
    assert {frame["model"].iloc[0] for frame in found.values()} == {"mine"}
    FORECASTS.to_csv(tmp_path / "other.csv", index=False)
    named = load_forecasts([paths[0], tmp_path / "other.csv"], "5m", ReadOptions(model="m"))
    assert {frame["model"].iloc[0] for frame in named.values()} == {"m"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.txt", b"x", "a CSV or Parquet file of forecasts was expected"),
        ("mine.parquet", b"PAR1", "cannot be read as parquet"),
        ("mine.csv", b"cutoff,open_time,y_hat\n2025-01-01,2025-01-02,many\n", "row 1, column y_hat: expected a number"),
        ("mine.csv", b"cutoff,open_time,q5,q5\n2025-01-01,2025-01-02,1,2\n", "the column q5 is there more than once"),
        ("mine.csv", b"cutoff,open_time,y_hat,model\n2025-01-01,2025-01-02,1,\xe9\n", "cannot be read as csv: 'utf-8'"),
        ("mine.csv", b"cutoff,open_time,y_hat\nsoon,2025-01-02,1\n", "row 1, column cutoff: expected a time"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, said):
    """In one sentence."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=said):
        load_forecasts([tmp_path / name], "5m", ReadOptions())


def test_the_series_is_the_only_one_of_the_file_or_the_one_named(tmp_path):
    """A file of two intervals asks which."""
    rng = np.random.default_rng(0)
    for interval, freq in (("5m", "5min"), ("1h", "h")):
        price = 100 + rng.normal(size=50)
        times = pd.date_range("2025-01-01", periods=50, freq=freq, tz="UTC")
        frame = pd.DataFrame(
            {"open_time": times} | dict.fromkeys(("open", "high", "low", "close"), price) | {"volume": 1.0}
        )
        frame.to_csv(tmp_path / f"ETHUSDT-{interval}.csv", index=False)
    source = FileMarket(tmp_path)
    with pytest.raises(UsageError, match="has 1h, 5m: say which with --interval"):
        find_series(source, None, None)
    assert find_series(source, None, "5m") == ("ETHUSDT", "5m")
    one = FileMarket(tmp_path / "ETHUSDT-5m.csv")
    assert find_series(one, None, None) == ("ETHUSDT", "5m")
    assert len(gather_judged(one, "ETHUSDT", "5m", {})) == 49  # the last may have been open


def test_our_own_models_are_shown_on_the_same_candles():
    """The leader against each of ours, the confidence set of all, and the same verdict as without them."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    candles = SimulatedMarket().fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta(days=10))
    times, close = candles["open_time"], candles["close"]
    naive = pd.DataFrame({"cutoff": times, "open_time": times.shift(-1), "y_hat": close})[-800:-1]
    alone = judge({"naive": naive}, candles, "5m")
    found = with_ours(alone, candles, ("ridge",), jobs=1)
    table = found.beside.set_index("model")
    assert list(table.index) == [
        "persistence",
        *sorted(["naive", "btcml ridge"], key=lambda name: table["ratio"][name]),
    ]
    assert table["rows"].unique().tolist() == [799]
    own = found.ours[1].set_index("model").loc["ridge"]
    error = np.abs(np.log(own["y_hat"] / own["y"])).sum() / np.abs(np.log(own["base"] / own["y"])).sum()
    assert table["ratio"]["btcml ridge"] == pytest.approx(error)
    assert table["z"].notna().tolist() == [name == "btcml ridge" for name in table.index]
    assert found.line == alone.line
    assert "btcml ridge" in str(found)
    assert len(found.to_dict()["beside"]) == 3


def test_times_are_of_the_zone_that_is_named_or_of_their_own(tmp_path):
    """A mixture is refused with its first row: some of them would be read as what they are not."""
    options = ReadOptions(timezone="America/New_York")
    for times, hour in (("2025-01-01T00:00", 5), ("2025-01-01T00:00+01:00", 23)):
        (tmp_path / "a.csv").write_text(f"cutoff,open_time,y_hat\n{times},2025-01-02,1\n", encoding="utf-8")
        assert load_forecasts([tmp_path / "a.csv"], "5m", options)["a"]["cutoff"].iloc[0].hour == hour
    (tmp_path / "a.csv").write_text(
        "cutoff,open_time,y_hat\n2025-01-01T00:00Z,2025-01-02,1\n2025-01-01,2025-01-03,1\n", encoding="utf-8"
    )
    with pytest.raises(SourceError, match="row 2, column cutoff: expected a time with a zone, as in other rows"):
        load_forecasts([tmp_path / "a.csv"], "5m", options)
