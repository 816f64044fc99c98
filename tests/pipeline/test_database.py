"""Maintenance of the database, by the verbs that call it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey, as_candles
from btcml.cli import main
from btcml.store.candles import upsert_candles
from btcml.store.forecasts import append_forecasts, record_clock
from btcml.store.models import ModelRecord, read_champion, record_training

from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand

AT = pd.Timestamp("2025-03-01 12:00", tz="UTC")
KEY = SeriesKey("replay:cli", "BTCUSDT", "5m")


@pytest.fixture
def sealed(store, home, monkeypatch):
    """One sealed forecast in the home that the command line finds."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    record_clock(store, KEY.market, AT, speed=0.0)
    row = {
        "open_time": AT,
        "role": "champion",
        "model": "m",
        "artifact": "20250301T000000-aaaa",
        "base": 1.0,
        "close": 1.0,
    }
    append_forecasts(store, KEY, [row | {"cutoff": AT - pd.Timedelta("5min")}])
    return store


@pytest.mark.usefixtures("sealed")
def test_a_whole_chain_is_confirmed_with_its_head(capsys):
    """Exit status 0 and the head, to be written down."""
    assert main(["db", "verify-forecasts", "--json"]) == 0
    head = json.loads(capsys.readouterr().out)[str(KEY)]
    assert head["seq"] == "1"
    assert main(["db", "verify-forecasts", "--head", f"1:{head['hash']}"]) == 0
    assert main(["db", "verify-forecasts", "--head", f"2:{head['hash']}"]) == 1


@pytest.mark.usefixtures("sealed")
def test_a_broken_chain_is_a_failure_that_names_the_place(owner, capsys):
    """Exit status 1 and one sentence."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE forecasts SET close = 2"))
    assert main(["db", "verify-forecasts"]) == 1
    assert "breaks at forecast 1" in capsys.readouterr().err


def test_restated_outcomes_are_listed_with_both_closes(sealed, owner, monkeypatch, capsys):
    """Beside the head, where there are any; that the test turned the clock is another finding."""
    turn_clock(owner, KEY.market, AT + KEY.delta)
    assert main(["db", "check"]) == 1
    assert f"the clock of {KEY.market} moved against now()" in capsys.readouterr().err
    monkeypatch.setattr("btcml.pipeline.database.seal_faults", lambda _: [])
    prices = {"open": 1.0, "high": 3.0, "low": 0.5, "volume": 1.0, "open_time": AT}
    for close in (1.0, 2.0):
        frame = as_candles(pd.DataFrame([prices | {"close": close}]), KEY.interval)
        upsert_candles(sealed, KEY, frame, source=KEY.market, at=AT + KEY.delta)
    capsys.readouterr()
    assert main(["db", "verify-forecasts", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)[str(KEY)]["restated"]
    assert (row["scored"], row["now"], row["source"]) == (1.0, 2.0, KEY.market)
    assert row["open_time"] == "2025-03-01T12:00:00+00:00"


def test_models_are_listed_and_rolled_back_by_one_command(sealed, capsys):
    """The training before serves again."""
    for hour, name in ((1, "autoreg"), (2, "persistence")):
        at = AT + pd.Timedelta(hours=hour)
        fixed = {
            "trained_at": at,
            "snapshot": "0" * 64,
            "window_start": AT,
            "window_end": at,
            "samples": 1,
            "metrics": {},
        }
        fixed |= {"verdict": {"champion": name}, "judged_at": at, "bytes": 1, "kept": True}
        record_training(sealed, [ModelRecord(f"2025030{hour}T000000-test", name, KEY, "champion", **fixed)])
    assert main(["db", "models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["role"] for row in rows] == ["champion", "retired"]
    assert main(["db", "models", str(KEY), "--roll-back"]) == 0
    assert read_champion(sealed, KEY).name == "autoreg"
    assert main(["db", "models", "--roll-back"]) == 2
