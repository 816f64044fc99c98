"""Coming from ML Crypto or bitcoin-ml: valid rows are imported, others are quarantined."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from btcml.candles import SeriesKey
from btcml.errors import SourceError
from btcml.pipeline.legacy import import_legacy
from btcml.store.candles import read_candles, upsert_candles
from btcml.store.engine import owner_url
from btcml.store.forecasts import count_scored, read_futuros
from btcml.store.jobs import last_ok, read_jobs

from .seeding import candles

KEY = SeriesKey("file:imported", "BTCUSDT", "5m")
AT = pd.Timestamp("2025-07-01", tz="UTC")
VALUES = ["open", "high", "low", "close", "volume"]


def system_1(folder, days=12, frozen=100):
    """A database of bitcoin-ml: its last candles frozen a second after they opened."""
    folder.mkdir()
    frame = candles(days)[["open_time", *VALUES]].rename(columns={"open_time": "time"})
    bad = frame.index[-frozen:]
    frame.loc[bad, "volume"] *= 0.008
    for name in ("high", "low", "close"):
        frame.loc[bad, name] = frame.loc[bad, "open"] + (1 if name == "high" else 0)
    frame["time"] = frame["time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    frame.to_csv(folder / "btc_candles.csv", index=False)
    futuros = pd.DataFrame({"time": frame["time"].tail(3), "pred_close": 1.0, "real_close": [2.0, 2.0, np.nan]})
    futuros.assign(err_close=futuros["pred_close"] - futuros["real_close"]).to_csv(folder / "futuros.csv", index=False)
    (folder / "job_logs.csv").write_text(
        "id,job_name,status,message,started_at,finished_at\n"
        "1,ingest,ok,Inserted 4,2025-09-27 19:45:00.003772,2025-09-27 19:45:01\n"
        "2,train,error,no data,2025-09-27 19:46:00,\n"
        "3,coffee,ok,hot,2025-09-27 19:46:00,2025-09-27 19:47:00\n",
        encoding="utf-8",
    )
    return folder


def test_frozen_candles_are_quarantined_and_the_rest_is_taken(store, tmp_path):
    """Also the newest row, which may not be final."""
    done = import_legacy(store, str(system_1(tmp_path / "dump")), KEY, at=AT)
    stored = read_candles(store, KEY)
    assert done.inserted == len(stored)
    assert done.suspect >= 100
    assert stored["open_time"].max() < candles(1)["open_time"].iloc[-100]
    with store.engine.connect() as connection:
        held = connection.execute(text("SELECT rule, count(*) FROM quarantine GROUP BY rule ORDER BY rule")).all()
    assert held == [("suspect_span", done.suspect - 1), ("unfinished", 1)]


def test_a_true_candle_that_comes_later_releases_the_frozen_one(store, tmp_path):
    """After the import, an audit of the exchange corrects the series."""
    import_legacy(store, str(system_1(tmp_path / "dump")), KEY, at=AT)
    upsert_candles(store, KEY, candles(2), source="binance", at=AT)
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM quarantine WHERE released_at IS NULL")) == 0


def test_forecasts_of_others_are_shown_as_imported_and_never_scored(store, tmp_path):
    """They are not sealed: they are in futuros, and in no score."""
    done = import_legacy(store, str(system_1(tmp_path / "dump")), KEY, at=AT)
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT DISTINCT origin FROM futuros")).scalars().all() == ["imported"]
        assert connection.scalar(text("SELECT count(*) FROM forecasts_scored")) == 0
    assert (done.forecasts, count_scored(store, KEY)) == (3, 0)
    shown = read_futuros(store, KEY, AT - pd.Timedelta(days=30), AT, 10)
    assert shown[["status", "close"]].drop_duplicates().to_numpy().tolist() == [["imported", 1.0]]


def test_the_old_log_stands_before_everything_of_ours(store, tmp_path):
    """Kinds that are known come over with their message; negative numbers keep them old."""
    done = import_legacy(store, str(system_1(tmp_path / "dump")), KEY, at=AT)
    jobs = read_jobs(store, key=KEY)
    assert (done.jobs, [job.status for job in jobs], all(job.id < 0 for job in jobs)) == (2, ["error", "ok"], True)
    assert jobs[0].error == "no data"
    assert last_ok(store, "ingest", KEY).result["message"] == "Inserted 4"


def test_importing_twice_changes_nothing(store, tmp_path):
    """The command can be repeated after a crash."""
    folder = str(system_1(tmp_path / "dump"))
    import_legacy(store, folder, KEY, at=AT)
    again = import_legacy(store, folder, KEY, at=AT)
    assert (again.inserted, again.revised, again.forecasts, again.jobs) == (0, 0, 0, 0)
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM quarantine")) == again.suspect


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000])
def test_prices_of_system_0_come_by_symbol_with_any_epoch(store, tmp_path, unit):
    """Seconds, milliseconds and microseconds; a broken row goes to quarantine by its rule."""
    frame = candles()[["open_time", *VALUES]].assign(symbol=["BTCUSDT", "ETHUSDT"] * 144, interval="5m")
    frame["open_time"] = frame["open_time"].astype("int64") // 1_000_000 * unit
    frame.loc[4, "volume"] = -1.0
    file = tmp_path / "prices.csv"
    frame.to_csv(file, index=False)
    done = import_legacy(store, str(file), KEY, at=AT)
    assert (done.broken, done.suspect, done.inserted) == (1, 2, 285)
    eth = read_candles(store, SeriesKey(KEY.market, "ETHUSDT", "5m"))
    assert eth["open_time"].iloc[0] == candles()["open_time"].iloc[1]


def test_an_old_database_is_read_without_changing_it(settings, store, tmp_path):
    """From a PostgreSQL address: the same rows as from the dumps."""
    url = owner_url(settings)
    folder = system_1(tmp_path / "dump", days=9)
    with create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        connection.execute(text("CREATE DATABASE old_bitcoin_ml"))
        old = url.set(database="old_bitcoin_ml").difference_update_query(["options"])  # which name our own schema
        engine = create_engine(old, poolclass=NullPool)
        try:
            table = pd.read_csv(folder / "btc_candles.csv", parse_dates=["time"])
            table.to_sql("btc_candles", engine, index=False)
            address = old.set(drivername="postgresql").render_as_string(hide_password=False)
            done = import_legacy(store, address, KEY, at=AT)
        finally:
            engine.dispose()
            connection.execute(text("DROP DATABASE old_bitcoin_ml WITH (FORCE)"))
    assert done.tables == ("btc_candles",)
    assert done.inserted == len(read_candles(store, KEY)) > 2000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("other.csv", "a,b\n1,2\n", "expected one of the tables"),
        ("prices.csv", "a,b\n1,2\n", "needs a time column"),
        ("prices.csv", "time,open\nyesterday,2\n", "must hold UTC times"),
        ("futuros.csv", "time,pred_close\n2025-01-01,2\n", "needs the column real_close"),
        ("btc_candles.csv", "", "cannot be read"),
    ],
)
def test_a_dump_that_cannot_be_read_is_one_sentence(store, tmp_path, name, content, says):
    """Which table, which column, what to do."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=says):
        import_legacy(store, str(tmp_path), KEY, at=AT)


def test_a_server_that_is_not_there_is_one_sentence(store):
    """And the password is not in it."""
    with pytest.raises(SourceError, match="cannot be read") as refused:
        import_legacy(store, "postgresql://u:secret@127.0.0.1:1/x", KEY, at=AT)
    assert "secret" not in str(refused.value)


@pytest.mark.real
def test_the_real_database_of_system_1_loses_its_413_frozen_candles(store, shared_data, tmp_path):
    """Each candle that differs from the exchange's is held; at most 50 good ones with them."""
    folder = tmp_path / "seed"
    folder.mkdir()
    for name in ("btc_candles.csv", "futuros.csv", "job_logs.csv"):
        shutil.copy(shared_data / "seed" / name, folder)
    done = import_legacy(store, str(folder), KEY, at=AT)
    wrong = pd.to_datetime(
        pd.read_csv(shared_data / "seed" / "partial_candles_vs_exchange.csv")["open_time"], unit="ms"
    )
    stored = read_candles(store, KEY)["open_time"]
    assert not stored.isin(wrong.dt.tz_localize("UTC")).any()
    assert (done.forecasts, done.jobs, len(wrong)) == (378, 248, 413)
    assert done.suspect <= 413 + 50
