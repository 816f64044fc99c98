"""Turning points of the price, and where their labels stand."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from btcml.report.charts import eda
from btcml.report.figures import svg_text
from btcml.report.language import LANGUAGES, in_language

from .test_exhibits import told

CROWDED = [100.0, 180.0, 200.0, 150.0, 100.0, 95.0, *[100.0] * 1000]
"""Highest close, lowest close and largest move in the first week of three years: there is no room for three labels."""


def candles(close, *, step: str = "D", drop=()) -> pd.DataFrame:
    """Candles with these closes, the same in every row."""
    time = pd.date_range("2024-02-28", periods=len(close), freq=step, tz="UTC")
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return pd.DataFrame({"open_time": time, **prices, "volume": 1.0}).drop(index=list(drop)).reset_index(drop=True)


def walk(days: int, seed: int) -> list[float]:
    return list(100 * np.exp(0.03 * np.random.default_rng(seed).normal(size=days).cumsum()))


def texts(chart) -> list[str]:
    return [text.get_text().replace("\N{NARROW NO-BREAK SPACE}", " ") for text in chart.figure.panels[0].texts]


def check_labels(chart) -> None:
    """No text touches another one, a line with its dots, or what leads to another text, or leaves the panel."""
    axes = chart.figure.panels[0]
    chart.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines if line.get_marker() == "None"]
    frame = axes.get_window_extent()
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    for box in boxes:
        assert not [line for line in lines if line.intersects_bbox(box, filled=False)]
        assert not lines[0].intersects_bbox(box.padded(3), filled=False)  # a dot is three pixels above its centre
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1


HOSTILE = {
    "two days": [100.0, 90.0],
    "highest first, lowest last": list(np.linspace(200, 100, 40)),
    "lowest first, highest last": list(np.linspace(100, 200, 40)),
    "all on one day": [100.0, 101.0, 150.0, 149.0, 148.0, 99.0, 98.0],
    "tiny": [1e-5, 1.1e-5, 1.05e-5, 0.9e-5, 1.0e-5],
    "large": [100_000.0, 100_000.4, 100_000.1, 99_999.8],
    "a millionfold": [0.1, 100_000.0, 90_000.0, 0.05, 0.2],
    "crowded at the start": CROWDED,
    "crowded at the end": CROWDED[::-1],
    "crowded in the middle": [*[100.0] * 500, *CROWDED[:500]],
    "thousands of days": walk(3000, 1),
    **{f"walk {days}": walk(days, days) for days in (5, 17, 90, 365, 900)},
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("close", HOSTILE.values(), ids=HOSTILE)
def test_labels_cover_nothing_in_either_drawing(close, language):
    """Measured with the font itself: in either language, on wide and on narrow screens, one after the other."""
    with in_language(language):
        chart = eda.price_and_volume(candles(close), "BTCUSDT")
        for drawing in ("narrow", "wide", "narrow"):
            chart.figure.lay_out(drawing)
            assert len(texts(chart)) >= 2
            check_labels(chart)


def test_turning_points_are_labelled_with_date_and_value_as_the_sentence_has_them():
    """Chart and sentence have the same three days; on a narrow screen a label has two lines."""
    chart = eda.price_and_volume(candles([100.0, 90.0, 95.0, 110.0, 105.0]), "BTCUSDT")
    chart.figure.lay_out("wide")
    assert set(texts(chart)) == {
        "highest: 110.00, largest move: +15.8 %, 2024-03-02",
        "lowest: 90.000, 2024-02-29",
    }
    assert told(chart) == (
        "In this span the price went from 100.00 USD to 105.00 USD, with daily closes between 90.000 USD and 110.00 "
        "USD; the largest move of one day was +15.8 %, on 2024-03-02."
    )
    chart.figure.lay_out("narrow")
    assert {"highest: 110.00", "largest move: +15.8 %", "2024-03-02", "2024-02-29"} < set(texts(chart))


def test_where_three_labels_have_no_room_two_of_them_are_one():
    """Nothing is left out."""
    chart = eda.price_and_volume(candles(CROWDED), "BTCUSDT")
    chart.figure.lay_out("wide")
    places = {text.get_text()[:7]: round(text.get_position()[0], 3) for text in chart.figure.panels[0].texts}
    assert set(places) == {"highest", "lowest:", "largest"}
    assert places["largest"] in {places["highest"], places["lowest:"]}
    assert places["highest"] != places["lowest:"]


def test_in_portuguese_labels_have_portuguese_words_numbers_and_dates():
    """What stands in the drawing is not translated twice."""
    with in_language("pt-BR"):
        text = svg_text(eda.price_and_volume(candles(walk(400, 3)), "BTCUSDT"))
    found = re.findall(r"<text[^>]*>([^<]*(?:máximo|mínimo|variação|/20\d\d)[^<]*)", text)
    assert len(found) == 3 + 6
    assert all(re.search(r"\d,\d", part) or re.fullmatch(r"\d\d/\d\d/\d{4}", part) for part in found)
    assert not re.search("highest|lowest|move", text.split("<text", 1)[1])


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (candles([100.0] * 50), "The price was 100.00 USD in all of this span."),
        (
            candles([100.0, 103.0, 101.0], step="h"),
            "In this span the price went from 100.00 USD to 101.00 USD, between",
        ),
        (candles([100.0]), "The price was 100.00 USD in all of this span."),
        (candles([100.0, 103.0] * 2, step="12h"), "In this span the price went from 100.00 USD to 103.00 USD, between"),
    ],
    ids=["all equal", "one day", "one candle", "equal closes"],
)
def test_without_a_turning_point_nothing_is_labelled(frame, sentence):
    """One day, or days that close alike, have neither a highest close nor a move."""
    chart = eda.price_and_volume(frame, "BTCUSDT")
    assert told(chart).startswith(sentence)
    assert not texts(chart)
    assert "turning" not in chart.alt
    assert len(chart.figure.panels[0].lines) == 1


def test_nothing_moves_across_a_missing_day():
    """The price doubles while candles are missing: that is no move of one day."""
    chart = eda.price_and_volume(candles([100.0, 101.0, 150.0, 200.0, 199.0], drop=[2]), "BTCUSDT")
    assert "the largest move of one day was +1.0 %, on 2024-02-29" in told(chart)
    only = eda.price_and_volume(candles([100.0, 150.0, 200.0], drop=[1]), "BTCUSDT")
    assert told(only).endswith("with daily closes between 100.00 USD and 200.00 USD.")
    assert not [text for text in texts(only) if "move" in text]


def test_values_that_differ_look_different():
    """No two equal prices as highest and lowest, and no move of zero."""
    chart = eda.price_and_volume(candles([100_000.2, 100_000.1, 100_000.1]), "BTCUSDT")
    assert "daily closes between 100,000.1 USD and 100,000.2 USD" in told(chart)
    assert "one day was \N{MINUS SIGN}0.0001 %" in told(chart)


def test_turning_points_lie_on_the_line_that_is_drawn():
    """A line of three thousand days is thinned, but not at its turning points; no tick is below its lowest price."""
    chart = eda.price_and_volume(candles(walk(3000, 1)), "BTCUSDT")
    chart.figure.lay_out("wide")
    axes = chart.figure.panels[0]
    line, move, dots = (part.get_xydata().tolist() for part in axes.lines[:3])
    assert len(line) < 1000
    assert all(point in line for point in (*move, *dots))
    days = chart.data["close"]
    assert {y for _, y in dots} >= {days.max(), days.min()}
    assert all(days.min() <= tick <= days.max() for tick in axes.get_yticks())
    assert len(axes.get_yticks()) >= 2


def test_a_chart_that_is_drawn_again_is_the_same():
    """Labels of one drawing leave nothing behind for the next one."""
    chart = eda.price_and_volume(candles(CROWDED), "BTCUSDT")
    first = svg_text(chart)
    assert svg_text(chart) == first
    assert svg_text(eda.price_and_volume(candles(CROWDED), "BTCUSDT")) == first
