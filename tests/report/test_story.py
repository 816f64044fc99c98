from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest

from btcml.errors import NotFoundError, ReportError, StoreError, UsageError
from btcml.forecast.experiment import Experiment
from btcml.report import claims as say
from btcml.report.figures import Download, Table
from btcml.report.story import NONCE, csv_text, open_story


@pytest.fixture
def opened(bundle, tmp_path):
    def opening(chapter="ingest", **changed):
        given = {"symbol": "BTCUSDT", "interval": "15m", "market": "simulated", "snapshot": str(bundle)}
        return open_story(chapter, **(given | {"products": str(tmp_path / "products")} | changed))

    return opening


def table(name: str = "facts-of-life") -> Table:
    return Table(name, pd.DataFrame({"a": [1 / 3]}), lambda _: say.claim("So it is."), {"a": ("A", say.number)})


def test_a_story_shows_a_table_and_leaves_its_numbers(opened, tmp_path):
    """The page is rounded; the CSV beside it is not."""
    opened().show(table(), say.claim("And so."))
    folder = tmp_path / "products" / "ingest"
    assert (folder / "facts-of-life.csv").read_text() == "a\n0.3333333333\n"
    assert json.loads((folder / "facts-of-life.json").read_text())["says"] == "So it is."


def test_a_download_stands_on_the_page_with_its_hash_and_its_script(opened):
    """The hash is that of the file's content as it lies beside the page."""
    story = opened()
    item = Download("all", pd.DataFrame({"a": [1 / 3]}), lambda _: say.claim("So it is."), "print(1 < 2)", "7")
    markup = story._exhibit(item)
    assert hashlib.sha256(b"a\n0.3333333333\n").hexdigest() in markup
    assert 'id="ingest-all"' in markup
    assert "print(1 &lt; 2)" in markup
    assert "python recompute.py ingest-all.csv 7" in markup


def test_two_exhibits_of_one_name_are_refused(opened, monkeypatch):
    """In a report the second would overwrite the numbers of the first."""
    monkeypatch.setenv(NONCE, "word")
    story = opened()
    story.show(table())
    with pytest.raises(ReportError, match="twice"):
        story.show(table())


def test_a_cell_may_run_again_in_jupyterlab(opened, tmp_path):
    """Outside of a report the newest numbers count."""
    story = opened()
    story.show(table())
    story.show(
        Table("facts-of-life", pd.DataFrame({"a": [1.0]}), lambda _: say.claim("So it is."), {"a": ("A", say.number)})
    )
    assert (tmp_path / "products" / "ingest" / "facts-of-life.csv").read_text() == "a\n1\n"


def test_a_chapter_begins_with_empty_products(opened, tmp_path):
    """Nothing of an earlier run is taken for this one's."""
    opened().show(table())
    opened()
    assert not list((tmp_path / "products" / "ingest").iterdir())


def test_a_result_passes_from_chapter_to_chapter(opened, snapshot):
    """What one chapter keeps another recalls; what was not kept is missed by name."""
    candles = snapshot.candles
    result = Experiment.default(candles, "15m").replace(models=("drift",)).run(candles, looks=3)
    opened("training").keep(result)
    later = opened("evaluation").recall("training")
    pd.testing.assert_frame_equal(later.forecasts, result.forecasts.astype({"model": "str"}))
    assert later.verdict == result.verdict
    with pytest.raises(NotFoundError, match="needs the result of chapter features"):
        opened("evaluation").recall("features")


def test_a_chapter_without_a_headline_does_not_finish(opened):
    """The index needs one sentence of every chapter."""
    with pytest.raises(ReportError, match="should leave facts"):
        opened().finish()


def test_a_missing_figure_does_not_finish(opened, tmp_path):
    """Numbers whose figure is gone stop the chapter."""
    story = opened()
    story.show(table())
    story.headline(say.claim("All told."))
    (tmp_path / "products" / "ingest" / "facts-of-life.json").unlink()
    with pytest.raises(ReportError, match="should leave facts-of-life"):
        story.finish()


@pytest.mark.parametrize(
    ("changed", "error", "why"),
    [
        ({"symbol": "ETHUSDT"}, UsageError, "found a snapshot of simulated/BTCUSDT/15m"),
        ({"interval": "7m"}, UsageError, "interval must be one of"),
        ({"snapshot": "/nowhere"}, NotFoundError, "no snapshot in"),
    ],
)
def test_a_story_of_something_else_is_refused(opened, changed, error, why):
    """A wrong series, chapter or folder is one sentence."""
    with pytest.raises(error, match=why):
        opened(**changed)


def test_a_snapshot_that_was_changed_is_refused(opened, bundle, tmp_path):
    """One changed candle, and the content does not match its hash."""
    other = tmp_path / "bundle"
    other.mkdir()
    for file in bundle.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    candles = pd.read_parquet(other / "candles.parquet")
    candles.loc[7, "close"] += 0.01
    candles.to_parquet(other / "candles.parquet", index=False)
    with pytest.raises(StoreError, match="was changed"):
        opened(snapshot=str(other))


def test_csv_is_the_same_everywhere():
    """Ten digits, ISO times with their zone, plain line ends, nothing for NaN."""
    frame = pd.DataFrame({"time": pd.to_datetime(["2025-01-01"], utc=True), "x": [2 / 3], "y": [float("nan")]})
    assert csv_text(frame) == "time,x,y\n2025-01-01 00:00:00+00:00,0.6666666667,\n"
