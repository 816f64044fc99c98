from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.pipeline.ingest import ingest
from btcml.pipeline.predict import seal
from btcml.pipeline.series import point_list, read_points, read_series

STEP, LATER = pd.Timedelta("5min"), pd.Timestamp("2026", tz="UTC")


@pytest.fixture
def sealed(store, settings, trained, market):
    """Eight candles: the forecasts of the third and the fourth were missed, that of the next one is open."""
    begin = market.time.floor("5min")
    for number in range(9):
        if number not in {2, 3}:
            seal(store, settings, trained)
        if number < 8:
            market.turn(market.time + STEP)
            ingest(store, market, trained)
    return begin


@pytest.fixture
def points(store, settings, trained, sealed):
    """Read the points from half an hour before the first sealed forecast on."""

    def _points(end=LATER):
        span = sealed - pd.Timedelta("30min"), end
        return point_list(read_series(store, settings, trained, span, "persistence"))

    return _points


def facts(points, begin):
    """Of each point: number of the candle, and whether it has a forecast, and an error."""
    times = [(pd.Timestamp(point["real"]["time"]) - begin) // STEP for point in points]
    return [
        (time, point["pred"] is not None, point["err"] is not None) for time, point in zip(times, points, strict=True)
    ]


def test_a_point_has_the_forecast_of_the_next_candle(store, settings, trained, sealed, points):
    """Also around missed forecasts; the newest one has no error yet."""
    known, closing, newest = (True, True), (False, False), (True, False)
    found = points()
    expected = [(-1, *known), (0, *known), (1, *closing), (3, *known), (4, *known), (5, *known), (6, *known)]
    assert facts(found, sealed) == [*expected, (7, *newest)]
    library = read_points(store, settings, trained, (sealed, LATER), "persistence").set_index("open_time")
    pairs = [(before, after) for before, after in pairwise(found) if before["pred"]]
    assert len(pairs) == len(library) == 6
    for before, after in pairs:
        row = library.loc[pd.Timestamp(after["real"]["time"])]
        shown = before["pred"]["close_next"] - after["real"]["close"]
        assert shown == pytest.approx(row["close"] - row["real_close"], abs=1e-5)
        assert before["err"]["close_signed"] == pytest.approx(shown, abs=1e-9)
        assert before["err"]["persistence_abs"] == pytest.approx(abs(before["real"]["close"] - after["real"]["close"]))


def test_a_forecast_of_a_candle_that_never_came_is_no_point(owner, sealed, points):
    """The exchange had no such candle: the point before the gap has no forecast, and pairs with nothing."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM candles WHERE open_time = :time"), {"time": sealed + 5 * STEP})
    expected = [(-1, True), (0, True), (1, False), (3, True), (4, False), (6, True), (7, True)]
    assert [(time, pred) for time, pred, _ in facts(points(), sealed)] == expected


def test_a_span_is_of_the_candles_of_the_points(sealed, points):
    """Its end is exclusive, and the outcome of its last forecast is known although it lies behind it."""
    assert facts(points(end=sealed + STEP), sealed) == [(-1, True, True), (0, True, True)]


def test_prices_have_ten_digits_and_errors_are_those_of_the_prices(points):
    """More digits do not compress, and no one can read them."""
    for point in points():
        for part in ("pred", "err"):
            for name, value in (point[part] or {}).items():
                assert value == round(value, 5), (part, name)
        assert point["cls"] is None or point["cls"]["prob_up"] == round(point["cls"]["prob_up"], 6)
