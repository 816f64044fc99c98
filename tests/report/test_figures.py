from __future__ import annotations

import re

import matplotlib as mpl
import pandas as pd
import pytest

from btcml.errors import ReportError
from btcml.report import claims as say
from btcml.report.claims import claim
from btcml.report.figures import INK, SERIES, Chart, Table, canvas, panels, svg_text, table_html


def draw(name: str = "a-line") -> Chart:
    data = pd.DataFrame({"x": range(50), "y": [value**0.5 for value in range(50)]})
    figure, axes = canvas()
    axes.plot(data["x"], data["y"], marker="o")
    axes.fill_between(data["x"], data["y"], color=SERIES[1])
    axes.set_title("Größe $5 & <more>")
    return Chart(name, data, lambda _: claim("It rises."), figure, 'A "rising" <line> & more.')


def test_the_same_chart_is_the_same_text():
    """Ids, dates and fonts do not change from drawing to drawing."""
    assert svg_text(draw()) == svg_text(draw())


def test_a_chart_does_not_depend_on_the_settings_of_the_user():
    """A matplotlibrc of the user's own takes no part."""
    first = svg_text(draw())
    mpl.rcParams.update({"font.size": 30, "svg.fonttype": "path", "axes.grid": False})
    assert svg_text(draw()) == first


def test_a_chart_takes_its_colours_from_the_page():
    """Light and dark are the page's choice; where there is no page, as in JupyterLab, they are the light ones."""
    text = svg_text(draw())
    assert f"var(--s1,{SERIES[0]})" in text
    alone = re.sub(r"var\(--\w+,#\w+\)", "", text)
    assert not [color for color in (*SERIES, INK) if color in alone]


def test_a_chart_has_a_text_alternative_and_text_that_is_text():
    """A screen reader gets the content of the figure; its text can be searched."""
    text = svg_text(draw())
    assert 'role="img" aria-label="A &quot;rising&quot; &lt;line> &amp; more."' in text
    assert "Größe $5 &amp; &lt;more&gt;" in text


def test_two_charts_on_a_page_share_no_id():
    """Ids carry the chart's name, and those that nothing refers to are gone."""
    ids = [set(re.findall(r' id="([^"]+)"', svg_text(draw(name)))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert all(f'"#{name}"' in svg_text(draw("one")) or f"url(#{name})" in svg_text(draw("one")) for name in ids[0])


def test_a_chart_is_drawn_for_wide_and_for_narrow_screens():
    """Letters have one size on both, so that the small one can be read; without a page the wide one is shown."""
    wide, narrow = svg_text(draw()).split("<svg ")[1:]
    assert 'class="wide"' in wide
    assert "display:none" not in wide
    assert 'class="narrow"' in narrow
    assert "display:none" in narrow
    widths = [float(re.search(r'viewBox="0 0 ([\d.]+) ', text)[1]) for text in (wide, narrow)]
    assert widths[0] > 1.8 * widths[1]
    assert set(re.findall(r"font-size: (\S+)px", narrow)) <= {"9", "9.5"}
    assert 9 * 358 / widths[1] >= 11


def test_a_narrow_drawing_stacks_its_panels_and_has_room_for_its_labels():
    """Panels stand below each other, each with its numbers; a long label is wrapped, some ticks are left out."""
    figure, axes = panels(1, 2, 3.0, sharey=True)
    for part in axes:
        part.set_xlabel("a label that is much longer than a narrow screen of this kind is wide")
        part.set_xticks(range(9), [f"label {number}" for number in range(9)])
    figure.lay_out("wide")
    assert len({round(part.get_position().y0, 3) for part in axes}) == 1
    figure.lay_out("narrow")
    first, second = (part.get_position() for part in axes)
    assert first.y0 > second.y1
    assert first.x0 == second.x0
    assert "\n" in axes[0].get_xlabel()
    assert len(axes[0].get_xticks()) < 9


def test_names_stand_above_what_is_drawn():
    """Where they have no room at its right, a legend lies above the panel, never over data, in the columns that fit."""
    heights = []
    for name, columns, letters in (("wide", 2, "long "), ("narrow", 1, "long "), ("narrow", 1, "")):
        figure, (axes, *_) = panels(1, columns, 3.0)
        for place in range(4):
            axes.plot([0, 1], [place, place], label=f"{letters * 4}{place}")
        figure.lay_out(name)
        figure.draw_without_rendering()
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.get_window_extent().y1
        assert legend.y1 <= figure.bbox.y1
        assert legend.x1 <= figure.bbox.x1
        heights.append(legend.height)
    assert heights[2] < heights[1]


def test_a_chart_is_light():
    """Coordinates have one decimal: fifty points with markers weigh a few kilobytes."""
    assert all(len(drawing) < 20_000 for drawing in svg_text(draw()).split("<svg "))


def test_a_chart_without_rows_is_refused():
    """An empty figure is a missing figure."""
    figure, _ = canvas()
    with pytest.raises(ReportError, match="needs rows"):
        Chart("empty", pd.DataFrame({"x": []}), lambda _: claim("Nothing."), figure, "Nothing.")


def test_a_caption_is_a_claim_over_the_published_numbers_and_a_contradiction_fails():
    """It gets the figures as the CSV has them; where they contradict it, there is no page."""

    def rises(data):
        return claim(
            "It rises to {end}.", holds=data["x"].is_monotonic_increasing, end=say.number(data["x"].iloc[-1], 12)
        )

    chart = Chart("c", pd.DataFrame({"x": [0.0, 2 / 3]}), rises, canvas()[0], "A line.")
    assert str(chart.conclusion) == "It rises to 0.666666666700."
    with pytest.raises(ReportError, match="does not hold"):
        Chart("c", pd.DataFrame({"x": [0.0, -1.0]}), rises, canvas()[0], "A line.")


def test_panels_come_row_by_row():
    """Several axes are in reading order."""
    figure, axes = panels(2, 1, 4.0)
    assert [part.get_position().y0 for part in axes] == sorted((part.get_position().y0 for part in axes), reverse=True)
    assert len(figure.axes) == 2


def test_a_table_has_headings_in_scope_numbers_to_the_right_and_dashes_for_nothing():
    """Each cell has a row and a column heading; NaN is never shown."""
    data = pd.DataFrame({"model": ["Per<sistence", "Ridge"], "p": [float("nan"), 0.5]})
    html = table_html(
        Table("t", data, lambda _: say.claim("So."), {"model": ("Model", str), "p": ("p", say.probability)}, ("Ridge",))
    )
    assert '<th scope="col">Model</th><th scope="col" class="num">p</th>' in html
    assert '<tr><th scope="row">Per&lt;sistence</th><td class="num">\N{EN DASH}</td></tr>' in html
    assert '<tr class="strong"><th scope="row">Ridge</th><td class="num">0.5000</td></tr>' in html


def test_a_table_of_columns_that_its_frame_lacks_is_refused():
    """A renamed column fails the build, not the reader."""
    with pytest.raises(ReportError, match="columns b, which its frame"):
        Table("t", pd.DataFrame({"a": [1]}), lambda _: say.claim("So."), {"a": ("A", str), "b": ("B", str)})
