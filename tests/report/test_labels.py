"""Where labels of points and ends of lines stand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcml.report.figures import MUTED, SERIES, canvas
from btcml.report.labels import LINE, PointLabel, PointLabels, apart
from btcml.report.language import LANGUAGES, in_language, translated


def drawn(values, *labels: PointLabel, drawing: str = "wide"):
    """The axes of a line with its labels."""
    figure, axes = canvas(3.0)
    axes.plot(np.arange(len(values)), values)
    figure.labels = PointLabels(axes, labels)
    figure.lay_out(drawing)
    figure.draw_without_rendering()
    return axes


@pytest.mark.parametrize("drawing", ["wide", "narrow"])
def test_the_axis_has_room_for_the_label_with_most_lines(drawing):
    """A label that may stand on either side needs it on both: one of four lines stays within its panel."""
    rows = tuple((f"row {number}",) for number in range(4))
    for point in (1, 3):
        axes = drawn([5.0, 6.0, 5.0, 4.0, 5.0], PointLabel(point, rows), drawing=drawing)
        frame, boxes = axes.get_window_extent(), [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 4
        assert frame.y0 <= min(box.y0 for box in boxes)
        assert max(box.y1 for box in boxes) <= frame.y1


def test_a_label_stands_on_its_side_and_as_near_as_it_can():
    """Above a peak, below a trough, and beside a slope where the room is."""
    axes = drawn([1.0, 2.0, 1.0], PointLabel(1, (("top",),), above=True), PointLabel(0, (("end",),), above=False))
    peak, trough = (axes.transData.transform(point)[1] for point in ((1, 2.0), (0, 1.0)))
    top, end = (text.get_window_extent() for text in axes.texts)
    assert 0 < top.y0 - peak < 20
    assert 0 < trough - end.y1 < 20
    (free,) = drawn([3.0, 3.0, 1.0, 3.0, 3.0], PointLabel(2, (("here",),))).texts
    assert free.get_position()[1] < 0.2


def test_a_label_far_from_its_point_is_led_to_from_there():
    """Between two peaks that are nearer than its text is wide, and above another label: a line leads to it."""
    values = [3.0, *[5.0, 1.0] * 40, 3.0]
    axes = drawn(values, PointLabel(40, (("a long text, " * 3,),), above=True))
    stem = axes.lines[1]
    assert stem.get_xdata()[0] == stem.get_xdata()[1]
    assert len(drawn(values, PointLabel(1, (("top",),), above=True)).lines) == 1


def test_texts_of_a_row_stand_below_each_other_where_there_is_no_room():
    """The wide drawing has one line, the narrow one two."""
    label = PointLabel(1, (("a text of some length", "2025-01-01"),))
    assert [text.get_text() for text in drawn([1.0, 2.0], label).texts] == ["a text of some length, 2025-01-01"]
    narrow = drawn([1.0, 2.0], label, drawing="narrow").texts
    assert {text.get_text() for text in narrow} == {"a text of some length", "2025-01-01"}


@given(st.lists(st.floats(0, 3), min_size=1, max_size=8))
def test_names_at_the_ends_of_lines_stand_apart_in_their_order(places):
    """No two are nearer than a line of text; those that meet nothing stay; the mean does not move."""
    given_places = np.array(places)
    found = apart(given_places, LINE)
    order = np.argsort(given_places, kind="stable")
    assert (np.diff(found[order]) >= LINE - 1e-9).all()
    assert found.mean() == pytest.approx(given_places.mean())
    if (np.diff(np.sort(given_places)) >= LINE).all():
        np.testing.assert_allclose(found, given_places)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_drawn_is_named_at_its_end_where_there_is_room_and_above_where_there_is_not(language):
    """From the top as lines, dots and bands end, within the drawing, in their colours; the same when drawn again."""
    with in_language(language):
        figure, axes = canvas()
        axes.plot([0, 1], [0, 3.0], color=SERIES[0], label="Ridge regression")
        axes.plot([0, 0.9], [0, 3.01], "o", color=SERIES[1], label="Random forest")
        axes.fill_between([0, 1], [0, 1], [0, 2], color=SERIES[2], alpha=0.3, label="calm")
        axes.axhline(0, color=MUTED, label="no change")
        for _ in range(2):
            figure.lay_out("wide")
            figure.canvas.draw()
            texts = sorted(axes.texts, key=lambda text: -text.get_position()[1])
            names = ["Random forest", "Ridge regression", "calm", "no change"]
            assert [text.get_text() for text in texts] == list(map(translated, names))
            boxes = [text.get_window_extent() for text in texts]
            assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))
            assert all(axes.bbox.x1 < box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
            stems = {text.get_position()[1]: line for text in texts for line in axes.lines if _ends_at(line, text)}
            assert [stems[text.get_position()[1]].get_color() for text in texts] == [
                SERIES[1],
                SERIES[0],
                SERIES[2],
                MUTED,
            ]
            assert axes.get_legend() is None
            figure.lay_out("narrow")
            assert not axes.texts
            assert len(axes.get_legend().get_texts()) == 4


def _ends_at(line, text):
    """Whether a stem leads to a text, both in shares of the panel."""
    return line.get_transform() == text.get_transform() and line.get_ydata()[-1] == text.get_position()[1]
