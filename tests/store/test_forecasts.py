from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from btcml.candles import SeriesKey, as_candles, interval_floor
from btcml.errors import NotReadyError, StoreError
from btcml.store.candles import upsert_candles
from btcml.store.chain import verify_chain
from btcml.store.forecasts import (
    SCORED_COLUMNS,
    append_forecasts,
    append_imported_forecasts,
    count_missing,
    count_scored,
    live_scores,
    market_now,
    read_clock_speed,
    read_futuros,
    read_scored,
    read_seal_times,
    record_clock,
)

from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand

FIVE = pd.Timedelta("5min")
THEN = pd.Timestamp("2020-05-01", tz="UTC")
TARGET = pd.Timestamp("2025-03-01 12:00", tz="UTC")
KEY = SeriesKey("replay:seal", "BTCUSDT", "5m")


def clock(owner, now):
    """The market's clock stands still at a time."""
    turn_clock(owner, KEY.market, now)


def row(open_time=TARGET, close=101.0, **values):
    fixed = {"open_time": open_time, "role": "champion", "model": "lightgbm_mean", "artifact": "20250301T000000-aaaa"}
    prices = {
        "base": 100.0,
        "open": 100.0,
        "high": 102.0,
        "low": 99.0,
        "close": close,
        "amp": 3.0,
        "lo": 98.0,
        "hi": 103.0,
    }
    return fixed | {"cutoff": open_time - 2 * FIVE, "prob_up": 0.6} | prices | values


def candle(store, owner, open_time, close):
    clock(owner, open_time + FIVE)
    frame = pd.DataFrame(
        {"open_time": [open_time], "open": 100.0, "high": 110.0, "low": 90.0, "close": close, "volume": 1.0}
    )
    upsert_candles(store, KEY, as_candles(frame, "5m"), source="test", at=open_time + FIVE)


def test_a_forecast_made_early_in_its_candle_is_sealed_and_later_scored(store, owner):
    """A forecast before a fifth of its candle has passed is sealed; its score is a join."""
    clock(owner, TARGET + pd.Timedelta("2s"))
    assert append_forecasts(store, KEY, [row()]) == {"sealed": 1, "late": 0}
    assert count_scored(store, KEY) == 0
    candle(store, owner, TARGET, 101.0)
    scored = read_scored(store, KEY)
    assert scored["error_bp"].tolist() == [0.0]
    assert scored["persistence_error_bp"].iloc[0] == pytest.approx(99.503, abs=1e-3)
    assert count_scored(store, KEY) == 1


def test_a_forecast_after_a_fifth_of_its_candle_is_late_and_never_scored(store, owner):
    """A row written at 61 of 300 seconds is late: it stays, without a score."""
    clock(owner, TARGET + pd.Timedelta("61s"))
    assert append_forecasts(store, KEY, [row()]) == {"sealed": 0, "late": 1}
    candle(store, owner, TARGET, 101.0)
    scored = read_scored(store, KEY)
    assert scored["status"].tolist() == ["late"]
    assert scored["error_bp"].isna().all()


def test_a_forecast_of_a_closed_candle_is_refused(store, owner):
    """After the close by the market's clock there is no forecast."""
    clock(owner, TARGET + FIVE)
    with pytest.raises(NotReadyError, match="has closed"):
        append_forecasts(store, KEY, [row()])
    assert read_scored(store, KEY).empty


def test_a_forecast_of_a_candle_far_ahead_is_refused(store, owner):
    """The chain cannot be filled in advance."""
    clock(owner, TARGET - 2 * FIVE)
    with pytest.raises(NotReadyError, match="not the next one"):
        append_forecasts(store, KEY, [row()])


def test_a_second_forecast_of_the_same_candle_and_role_changes_nothing(store, owner):
    """One champion a candle: the second one finds the first."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row(close=101.0)])
    assert append_forecasts(store, KEY, [row(close=99.5, model="autoreg")]) == {"sealed": 0, "late": 0}
    assert read_scored(store, KEY)["close"].tolist() == [101.0]


def test_challengers_stand_beside_the_champion_marked_as_such(store, owner):
    """Each challenger has its own row in the chain, and none is shown as the forecast."""
    clock(owner, TARGET)
    others = [
        {"open_time": TARGET, "role": "challenger", "model": name, "artifact": "20250301T000000-aaaa",
         "cutoff": TARGET - FIVE, "base": 100.0, "close": 100.5}
        for name in ("autoreg", "random_forest")
    ]  # fmt: skip
    assert append_forecasts(store, KEY, [row(), *others])["sealed"] == 3
    assert read_scored(store, KEY)["seq"].tolist() == [1, 2, 3]
    assert read_futuros(store, KEY, TARGET, TARGET + FIVE, 10)["model"].tolist() == ["lightgbm_mean"]


def test_a_page_never_splits_the_forecasts_of_one_time(store, owner):
    """Sealed by us and imported from another system: the page before ends where this one begins."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row()])
    theirs = pd.DataFrame({"open_time": [TARGET - FIVE, TARGET], "pred_close": 100.7})
    theirs = theirs.assign(real_close=101.0, err_close=-0.3)
    append_imported_forecasts(store, KEY, theirs, source="futuros", at=TARGET)
    page = read_futuros(store, KEY, TARGET - FIVE, TARGET + FIVE, 1)
    before = read_futuros(store, KEY, TARGET - FIVE, page["open_time"].iloc[0], 1)
    assert page["status"].tolist() == ["imported", "sealed"]
    assert before["open_time"].tolist() == [TARGET - FIVE]


def ahead(horizon, made=TARGET, **values):
    """Forecast of a later candle, made when the candle of `made` opened."""
    distribution = {"levels": [0.05, 0.5, 0.95], "quantiles": [98.0, 100.5, 103.0]}
    return row(made + (horizon - 1) * FIVE, cutoff=made - FIVE, horizon=horizon, **distribution | values)


def test_horizons_are_sealed_at_one_close_and_one_candle_has_one_forecast_of_each(store, owner):
    """Two candles later the same candle is forecast from nearer, which is another row; twice is once."""
    for made in (TARGET, TARGET + 2 * FIVE):
        clock(owner, made + pd.Timedelta("2s"))
        assert append_forecasts(store, KEY, [row(made), ahead(3, made)]) == {"sealed": 2, "late": 0}
        assert append_forecasts(store, KEY, [row(made), ahead(3, made, close=99.5)]) == {"sealed": 0, "late": 0}
    assert read_scored(store, KEY)["open_time"].tolist() == [TARGET, TARGET + 2 * FIVE]
    far = read_scored(store, KEY, horizon=3)
    assert far["open_time"].tolist() == [TARGET + 2 * FIVE, TARGET + 4 * FIVE]
    assert far["close"].tolist() == [101.0, 101.0]
    assert verify_chain(store, KEY) is None


def test_a_forecast_further_ahead_has_to_come_as_early_as_that_of_the_next_candle(store, owner):
    """Late after a fifth of the open candle, refused after its close, though its own candle is far."""
    clock(owner, TARGET + pd.Timedelta("61s"))
    assert append_forecasts(store, KEY, [ahead(3)]) == {"sealed": 0, "late": 1}
    clock(owner, TARGET + FIVE)
    with pytest.raises(NotReadyError, match="has closed"):
        append_forecasts(store, KEY, [ahead(12)])
    with pytest.raises(NotReadyError, match="not the next one"):
        append_forecasts(store, KEY, [ahead(3, TARGET + 3 * FIVE)])


@pytest.mark.parametrize("wrong", [{"horizon": 0}, {"horizon": 1001}, {"cutoff": TARGET}])
def test_an_impossible_horizon_or_cutoff_is_refused(store, owner, wrong):
    """From 1 to 1,000 candles; nothing was fitted on the candle that is open."""
    clock(owner, TARGET)
    given = ahead(3) | wrong
    given["open_time"] = TARGET + (given["horizon"] - 1) * FIVE
    with pytest.raises(StoreError, match="candles_ahead"):
        append_forecasts(store, KEY, [given])


def test_scores_never_mix_horizons(store, owner):
    """Every reader and view is about the next candle unless another horizon is asked for."""
    for n in range(5):
        clock(owner, TARGET + n * FIVE + pd.Timedelta("2s"))
        append_forecasts(store, KEY, [row(TARGET + n * FIVE), ahead(3, TARGET + n * FIVE, close=90.0, low=80.0)])
        candle(store, owner, TARGET + n * FIVE, 100.0)
    span = (TARGET, TARGET + 10 * FIVE)
    assert count_scored(store, KEY) == live_scores(store, KEY)["rows"] == 5
    assert live_scores(store, KEY)["mae_bp"] == pytest.approx(99.503, abs=1e-3)
    assert len(read_scored(store, KEY)) == len(read_seal_times(store, KEY, *span)) == 5
    assert read_futuros(store, KEY, *span, 100)["close"].tolist() == [101.0] * 5
    assert read_futuros(store, KEY, *span, 100, 3)["close"].tolist() == [90.0] * 5
    assert store.fetch("SELECT pred_close FROM futuros") == [(101.0,)] * 5
    far = read_scored(store, KEY, horizon=3)
    assert far["real_close"].notna().tolist() == [True] * 3 + [False] * 2
    assert far["error_bp"].dropna().tolist() == pytest.approx([1053.605] * 3, abs=1e-3)


def test_a_candle_that_only_a_longer_horizon_forecast_counts_as_missed(store, owner):
    """The second candle has no forecast of its own close before."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row(), ahead(3)])
    for n in range(3):
        candle(store, owner, TARGET + n * FIVE, 100.0)
    assert count_missing(store, KEY) == 2


@pytest.mark.parametrize("statement", ["UPDATE forecasts SET close = 1", "DELETE FROM forecasts", "TRUNCATE forecasts"])
def test_the_application_can_neither_change_nor_delete_a_forecast(store, owner, statement):
    """UPDATE, DELETE and TRUNCATE are refused by grants."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row()])
    with pytest.raises(DBAPIError, match="permission denied"), store.engine.begin() as connection:
        connection.execute(text(statement))
    assert read_scored(store, KEY)["close"].tolist() == [101.0]


@pytest.mark.parametrize("statement", ["UPDATE forecasts SET close = 1", "DELETE FROM forecasts", "TRUNCATE forecasts"])
def test_even_the_owner_is_refused_by_a_trigger(store, owner, statement):
    """A role with every grant is still refused."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row()])
    with pytest.raises(DBAPIError, match="forecasts are sealed"), owner.begin() as connection:
        connection.execute(text(statement))


def test_time_status_and_hash_are_set_by_the_database(store, owner):
    """Even the owner's own sequence, time and hash are overwritten; the application may not name them."""
    clock(owner, TARGET + pd.Timedelta("100s"))
    columns = (
        "market, symbol, interval, seq, open_time, role, model, artifact, cutoff, base, close, "
        "made_at, status, previous, hash"
    )
    values = (
        "'replay:seal', 'BTCUSDT', '5m', 99, :t, 'champion', 'm', '20250301T000000-aaaa', :c, 1, 1, "
        ":c, 'sealed', 'x', :h"
    )
    given = {"t": TARGET, "c": TARGET - FIVE, "h": "0" * 64}
    insert = text(f"INSERT INTO forecasts ({columns}) VALUES ({values})")
    with pytest.raises(DBAPIError, match="permission denied"), store.engine.begin() as connection:
        connection.execute(insert, given)
    with owner.begin() as connection:
        connection.execute(insert, given)
    found = read_scored(store, KEY).iloc[0]
    assert (found["seq"], found["status"], found["previous"]) == (1, "late", "")
    assert found["made_at"] == TARGET + pd.Timedelta("100s")
    assert found["hash"] != "0" * 64


def test_an_inconsistent_forecast_is_refused(store, owner):
    """A high below the close cannot be sealed."""
    clock(owner, TARGET)
    with pytest.raises(StoreError, match="rejected the forecast"):
        append_forecasts(store, KEY, [row(high=100.5)])


def test_candles_whose_close_found_no_forecast_are_counted(store, owner):
    """Between two forecasts two candles were missed."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row()])
    clock(owner, TARGET + 3 * FIVE)
    append_forecasts(store, KEY, [row(TARGET + 3 * FIVE)])
    for i in range(4):
        candle(store, owner, TARGET + i * FIVE, 100.0)
    assert count_missing(store, KEY) == 2


def test_frames_of_forecasts_have_the_same_types_with_and_without_rows(store, owner):
    """A snapshot hashes the same whether it was empty by type or by content."""
    empty = read_scored(store, KEY)
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row()])
    full = read_scored(store, KEY)
    assert tuple(empty.columns) == SCORED_COLUMNS
    assert empty.dtypes.astype(str).to_dict() == full.dtypes.astype(str).to_dict()


def test_the_views_of_system_1_show_its_columns(store, owner):
    """Adminer's user finds futuros and job_logs as before, and may only read."""
    clock(owner, TARGET)
    append_forecasts(store, KEY, [row()])
    candle(store, owner, TARGET, 100.0)
    with owner.connect() as connection:
        connection.execute(text("SET ROLE btcml_read"))
        found = connection.execute(text("SELECT time, pred_close, real_close, err_close FROM futuros")).one()
        assert (found.pred_close, found.real_close, found.err_close) == (101.0, 100.0, 1.0)
        assert str(found.time) == "2025-03-01 12:00:00"
        connection.execute(text("SELECT id, job_name, status, message, started_at, finished_at FROM job_logs"))
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(
                text("INSERT INTO jobs (kind, market, symbol, interval, asked_by) VALUES ('a','b','c','d','e')")
            )


def test_the_simulated_market_is_sealed_by_real_time(store):
    """Without a clock of its own a market uses the database's."""
    now = pd.Timestamp.now(tz="UTC")
    key = SeriesKey("simulated", "BTCUSDT", "1d")
    target = interval_floor(now, "1d")
    late = (now - target) / pd.Timedelta(days=1) > 0.2
    counts = append_forecasts(store, key, [row(target) | {"cutoff": target - pd.Timedelta(days=2)}])
    assert counts == {"sealed": int(not late), "late": int(late)}


def test_a_replays_clock_is_set_once(store, owner):
    """A second origin is ignored, and nobody can change the row."""
    record_clock(store, "replay:once", THEN, speed=0.0)
    record_clock(store, "replay:once", THEN + pd.Timedelta("1h"), speed=5.0)
    assert market_now(store, "replay:once") == THEN
    assert read_clock_speed(store, "replay:once") == 0.0
    for engine, words in ((store.engine, "permission denied"), (owner, "market_clocks are sealed")):
        with pytest.raises(DBAPIError, match=words), engine.begin() as connection:
            connection.execute(text("UPDATE market_clocks SET speed = 2"))


def test_a_replays_clock_runs_at_its_speed(store):
    """A thousand market seconds pass in a real one."""
    record_clock(store, "replay:fast", THEN, speed=1000.0)
    first, second = market_now(store, "replay:fast"), market_now(store, "replay:fast")
    assert THEN < first < second < THEN + pd.Timedelta(days=1)


def test_binances_offset_is_measured_again_but_never_beyond_a_minute(store):
    """A clock two minutes off is a fault of the machine, not an offset."""
    now = pd.Timestamp.now(tz="UTC")
    record_clock(store, "binance", now + pd.Timedelta("20s"))
    record_clock(store, "binance", now + pd.Timedelta("3s"))
    assert abs(market_now(store, "binance") - pd.Timestamp.now(tz="UTC")) < pd.Timedelta("15s")
    with pytest.raises(StoreError, match="more than a minute"):
        record_clock(store, "binance", now + pd.Timedelta("2min"))


def test_other_markets_use_real_time(store):
    """A simulated market has no clock in the database."""
    record_clock(store, "simulated", THEN)
    assert read_clock_speed(store, "simulated") is None
    assert abs(market_now(store, "simulated") - pd.Timestamp.now(tz="UTC")) < pd.Timedelta("1min")
