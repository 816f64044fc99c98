from __future__ import annotations

import pandas as pd
import pytest

from btcml.errors import ReportError
from btcml.report import claims as say
from btcml.report.tables import Table, table_html


def test_a_table_has_headings_in_scope_numbers_to_the_right_and_dashes_for_nothing():
    """A screen reader knows each cell's row and column; NaN is never shown."""
    data = pd.DataFrame({"model": ["Per<sistence", "Ridge"], "p": [float("nan"), 0.5]})
    html = table_html(
        Table("t", data, say.claim("So."), {"model": ("Model", str), "p": ("p", say.probability)}, ("Ridge",))
    )
    assert '<th scope="col">Model</th><th scope="col" class="num">p</th>' in html
    assert '<tr><th scope="row">Per&lt;sistence</th><td class="num">\N{EN DASH}</td></tr>' in html
    assert '<tr class="strong"><th scope="row">Ridge</th><td class="num">0.5000</td></tr>' in html


def test_a_table_of_columns_that_its_frame_lacks_is_refused():
    """A renamed column fails the build, not the reader."""
    with pytest.raises(ReportError, match="columns b, which its frame"):
        Table("t", pd.DataFrame({"a": [1]}), say.claim("So."), {"a": ("A", str), "b": ("B", str)})
