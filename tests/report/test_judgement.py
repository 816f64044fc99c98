"""The page of a judgement: what it says, and that the same inputs give the same bytes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError, ReportError, UsageError
from btcml.forecast.judge import CAVEAT, judge
from btcml.forecast.judge_checks import CHECKS
from btcml.report.judgement import PageInputs, badge, hash_inputs, verify_judgement, write_judgement

N, SIZE = 3000, 1e-3
KEY = SeriesKey("file:mine", "BTCUSDT", "5m")


def judged(share, rows=N, horizon=1, noise=0.1):
    """Judgement of forecasts that know a share of the move, and of a copy of no change; with three quantiles."""
    rng = np.random.default_rng(5)
    close = 100 * np.exp(rng.normal(0, SIZE, N + 1).cumsum())
    times = pd.Series(pd.date_range("2025-01-01", periods=N + 1, freq="5min", tz="UTC"))
    candles = pd.DataFrame({"open_time": times, "close": close})
    said = share * np.append(np.diff(np.log(close)), 0.0) + noise * SIZE * rng.normal(size=N + 1)
    frame = pd.DataFrame({"cutoff": times, "open_time": times.shift(-horizon), "y_hat": close * np.exp(said)})
    spread = {f"q{level}": close * np.exp(SIZE * norm.ppf(level / 100)) for level in (5, 50, 95)}
    frames = {"mine": frame.assign(**spread)[:rows], "naive": frame.assign(y_hat=close)[:rows]}
    frames = {name: part[:-horizon] if len(part) > N else part for name, part in frames.items()}
    return PageInputs(judge(frames, candles, "5m"), KEY, hash_inputs(frames, candles, level=0.9))


@pytest.fixture(scope="module")
def skilled():
    """A model with a small skill, not suspected; beside it one of our own."""
    found = judged(0.04, noise=0.2)
    ours = found.judgement.results[0].forecasts.replace({"model": {"mine": "ridge", "naive": "drift"}})
    return replace(found, judgement=replace(found.judgement, ours={1: ours}))


@pytest.fixture(scope="module")
def folder(skilled, tmp_path_factory):
    """Its page."""
    return write_judgement(skilled, tmp_path_factory.mktemp("judged") / "page").parent


def test_the_page_has_verdict_tables_charts_and_what_cannot_be_checked(folder):
    """Every figure has its numbers beside the page; the model is champion, and what would change that is said."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "mine is better than “no change”: it has a skill of" in page
    assert CAVEAT in page
    assert "mine stays significant with up to" in page
    assert "The distribution of mine has a CRPS of" in page
    assert all(f"<dt>{name.capitalize()}</dt>" in page for name in CHECKS)
    assert "Of the models judged and our own" in page
    figures = set(re.findall(r'<figure id="([^"]+)"', page))
    assert {"judgement-against-persistence", "judgement-loss-difference", "judgement-coverage"} <= figures
    assert {path.stem for path in (folder / "data").iterdir()} == figures


def test_the_same_inputs_give_the_same_bytes(skilled, folder):
    """Byte for byte; a change is found, and where there is no page that is said."""
    assert "identical: " in str(verify_judgement(skilled, folder))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["forecasts"]) == {"mine", "naive"}
    assert {"index.html", "badge.svg"} < set(manifest["outputs"])
    kept = (folder / "badge.svg").read_text(encoding="utf-8")
    (folder / "badge.svg").write_text(kept.replace("champion", "champ"), encoding="utf-8")
    with pytest.raises(ReportError, match=r"badge.svg: was changed after the report was built"):
        verify_judgement(skilled, folder)
    (folder / "badge.svg").write_text(kept, encoding="utf-8")
    with pytest.raises(NotFoundError):
        verify_judgement(skilled, folder / "data")


def test_the_badge_says_the_conclusion_and_the_skill(skilled):
    """In another colour where the model is suspected."""
    assert re.search(r">champion, skill \+\d\.\d+\W?%<", badge(skilled.judgement))
    suspected = badge(judged(1.0).judgement)
    assert ">suspected, skill" in suspected
    assert "#9a5b00" in suspected


@pytest.mark.parametrize(
    ("share", "noise", "said"),
    [
        (1.0, 0.1, "mine has a skill of 89"),
        (0.0, 0.01, "It is not proven that"),
        (-0.2, 1.0, "naive"),
    ],
)
def test_the_headline_is_that_of_the_judgement(tmp_path, share, noise, said):
    """Suspected, not proven, and worse than no change beside a copy of it."""
    page = write_judgement(judged(share, noise=noise), tmp_path / "page").read_text(encoding="utf-8")
    assert ('<span class="value">champion, suspected</span>' in page) == (share == 1.0)
    assert said in re.search(r'<p class="headline">(.*?)</p>', page)[1]


def test_a_page_without_a_verdict_is_refused(tmp_path):
    """A hundred candles."""
    with pytest.raises(UsageError, match="a page needs a verdict, found: persistence is champion: a verdict needs 200"):
        write_judgement(judged(0.1, rows=100), tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_folder_with_other_files_is_not_replaced(skilled, tmp_path):
    """A page takes the place of a page only."""
    (tmp_path / "mine.csv").write_text("kept", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other files: give a new folder"):
        write_judgement(skilled, tmp_path)
    assert (tmp_path / "mine.csv").read_text(encoding="utf-8") == "kept"
