from __future__ import annotations

import math

import pandas as pd
import pytest

from btcml.errors import ReportError
from btcml.report import claims as say


def plain(quantity) -> str:
    return str(quantity).replace("\N{NARROW NO-BREAK SPACE}", " ").replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (say.number(1234.567, 1), "1,234.6"),
        (say.number(-0.0004, 2), "0.00"),
        (say.number(-1.5, 1), "\N{MINUS SIGN}1.5"),
        (say.percent(0.0123, 2, sign=True), "+1.23 %"),
        (say.price(107146.2, "USD"), "107,146 USD"),
        (say.price(0.0712345, "USD", 3), "0.0712 USD"),
        (say.number(0.62, 1, "points", ceiling=True), "0.7 points"),
        (say.number(0.6, 1, ceiling=True), "0.6"),
        (say.bp(6.829, 3), "6.829 bp"),
        (say.count(1, "gap"), "1 gap"),
        (say.count(2, "gap"), "2 gaps"),
        (say.pvalue(0.2271), "p = 0.2271"),
        (say.pvalue(1e-9), "p < 0.0001"),
        (say.probability(1e-9), "< 0.0001"),
        (say.day(pd.Timestamp("2025-06-30 23:00-03:00")), "2025-07-01"),
        (say.minute(pd.Timestamp("2025-06-30", tz="UTC")), "2025-06-30 00:00 UTC"),
        (say.span(pd.Timedelta(hours=36)), "36 hours"),
        (say.span(pd.Timedelta(minutes=90)), "1.5 hours"),
        (say.span(pd.Timedelta(minutes=5)), "5 minutes"),
        (say.span(pd.Timedelta(days=90)), "90 days"),
        (say.word("Ridge"), "Ridge"),
    ],
)
def test_a_quantity_has_its_unit_and_rounding(quantity, text):
    """A value is formatted in one place, the same everywhere."""
    assert plain(quantity) == text


@pytest.mark.parametrize("make", [say.number, say.count, say.percent, say.price, say.bp, say.pvalue])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_quantity_is_made_of_nan_or_infinity(make, value):
    """A page never shows nan."""
    with pytest.raises(ReportError, match="finite"):
        make(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: say.day(pd.NaT),
        lambda: say.day(pd.Timestamp("2025-01-01")),
        lambda: say.word(" "),
        lambda: say.pvalue(1.2),
        lambda: say.count(1.5),
    ],
)
def test_a_quantity_that_makes_no_sense_is_refused(make):
    """No time, no zone, no name, no probability, no whole number: no claim."""
    with pytest.raises(ReportError):
        make()


def test_a_claim_that_does_not_hold_shows_the_other_sentence():
    """The sentence follows the value."""
    spoken = say.claim("It beats it by {gain}.", holds=False, otherwise="It loses by {gain}.", gain=say.bp(1))
    assert (plain(spoken), spoken.holds) == ("It loses by 1.00 bp.", False)


def test_a_claim_that_does_not_hold_and_has_no_other_sentence_fails_the_build():
    """A condition that must hold stops the build."""
    with pytest.raises(ReportError, match="does not hold"):
        say.claim("It is complete.", holds=False)


def test_the_first_sentence_that_holds_is_said_and_none_fails_the_build():
    """Each sentence has its condition; where no condition holds there is nothing true to say."""
    cases = ((False, "It rises by {gain}."), (True, "It falls by {gain}."), (True, "It stays."))
    assert plain(say.cases(*cases, gain=say.bp(1))) == "It falls by 1.00 bp."
    with pytest.raises(ReportError, match="does not hold"):
        say.cases(*cases[:1], gain=say.bp(1))


def test_a_digit_typed_into_a_claim_is_refused():
    """Numbers are computed."""
    with pytest.raises(ReportError, match="digits are computed"):
        say.claim("It beats it by 3 %.")


def test_a_gap_without_a_value_is_refused():
    """A template's hole never reaches a page."""
    with pytest.raises(ReportError, match="no value for gain"):
        say.claim("It beats it by {gain}.")
