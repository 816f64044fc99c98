"""Sentences bound to computed values.

A `Quantity` is a computed value with its unit and rounding; it rejects NaN and infinity. A `Claim` is a
sentence with named placeholders that only quantities and words fill; a digit typed into the sentence is rejected.
A claim may state what must hold: when it does not, the sentence becomes the other one, and where there is
no other one the build fails.
"""

from __future__ import annotations

import math
import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from btcml.errors import ReportError
from btcml.forecast.verdict import ALPHA
from btcml.report.language import counted, language, local_date, translated, unit_of
from btcml.rounding import decimals_apart, local_number, number_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from btcml.candles import SeriesKey


USUAL_FEE_BP = 20.0
"""What a round trip usually costs, in bp: ten to enter and ten to leave."""

TITLES: dict[str, str] = {
    "persistence": "Persistence",
    "drift": "Drift",
    "autoreg": "AutoReg (statsmodels)",
    "arma": "ARMA (statsmodels)",
    "ridge": "Ridge regression",
    "random_forest": "Random forest",
    "extra_trees": "Extra trees",
    "lightgbm_huber": "LightGBM (Huber loss)",
    "lightgbm_l1": "LightGBM (absolute loss)",
    "lightgbm_wide": "LightGBM (long windows)",
    "lightgbm_mean": "LightGBM",
    "ewma": "Best moving average (EWMA)",
    "har": "HAR (statsmodels)",
    "linear": "Linear regression",
    "range_boosting": "LightGBM on a linear regression",
}
"""Display names of the models; others are shown under their own name."""

_SPACE = "\N{NO-BREAK SPACE}"
_THIN = "\N{NARROW NO-BREAK SPACE}"
_TINY = 1e-4
_LEVELS = (ALPHA, 0.05)
_DOLLARS = ("USDT", "FDUSD", "USDC", "BUSD", "TUSD", "USD")
_CURRENCIES = ("EUR", "BTC", "ETH", "BNB", "TRY", "BRL", "GBP", "JPY")
_DAY, _YEAR = 1.0, 365.25


@dataclass(frozen=True)
class Quantity:
    """A computed value as a reader sees it.

    Attributes
    ----------
    text
        The formatted value with its unit.
    value
        The unrounded value, for tests and comparisons; NaN for words and times.
    """

    text: str
    value: float

    def __str__(self) -> str:
        return self.text


def _finite(value: float, what: str) -> float:
    number_ = float(value)
    if not math.isfinite(number_):
        msg = f"a claim needs a finite {what}, found {value}: compute it, or leave the claim out"
        raise ReportError(msg)
    return number_


def number(
    value: float,
    digits: int = 2,
    unit: str = "",
    *,
    sign: bool = False,
    beside: float | None = None,
    ceiling: bool = False,
) -> Quantity:
    """Return a plain number, rounded, with an optional unit.

    Parameters
    ----------
    value
        The number.
    digits
        Decimals.
    unit
        Put behind it.
    sign
        Whether a positive number has a sign.
    beside
        What it is compared with: decimals are added until both look as different as they are.
    ceiling
        Round up: for the most that something reaches.

    Raises
    ------
    ReportError
        If it is NaN or infinite.

    Examples
    --------
    >>> str(number(1234.5678, 1)), str(number(0.62, 1, ceiling=True))
    ('1,234.6', '0.7')
    """
    digits = digits if beside is None else decimals_apart(_finite(value, "number"), beside, digits)
    shown = math.ceil(round(_finite(value, "number") * 10**digits, 6)) / 10**digits if ceiling else value
    text = number_text(_finite(shown, "number"), digits, language(), sign=sign)
    return Quantity(f"{text}{_THIN}{unit_of(round(shown, digits), unit)}" if unit else text, float(value))


def digits(places: int) -> Callable[[float], Quantity]:
    """Return the format of a table column: a number of decimals."""
    return lambda value: number(value, places)


def count(value: float, noun: str = "", plural: str = "") -> Quantity:
    """Return a whole number, with an optional noun: its singular, and its plural where that is not -s.

    Raises
    ------
    ReportError
        If it is not whole.

    Examples
    --------
    >>> count(1, "gap").text.split(), count(1234, "gap").text.split()
    (['1', 'gap'], ['1,234', 'gaps'])
    """
    if _finite(value, "count") != int(value):
        msg = f"a count is a whole number, found {value}: use number()"
        raise ReportError(msg)
    return number(value, 0, counted(noun, plural or f"{noun}s", value) if noun else "")


def percent(fraction: float, digits: int = 1, *, sign: bool = False, beside: float | None = None) -> Quantity:
    r"""Return a fraction as a percentage, beside another fraction as in `number`.

    Examples
    --------
    >>> percent(0.12345).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    '12.3 %'
    """
    other = None if beside is None else 100 * beside
    shown = number(100 * _finite(fraction, "fraction"), digits, "%", sign=sign, beside=other)
    return Quantity(shown.text, float(fraction))


def skill(value: float, *, sign: bool = False) -> Quantity:
    """Return a skill as a percentage that is not printed as zero unless it is."""
    return percent(value, 2, sign=sign, beside=0.0)


def signed_skill(value: float) -> Quantity:
    """Return a skill with its sign, the format of a table column."""
    return skill(value, sign=True)


def currency(symbol: str) -> str:
    """Return the currency in which a symbol is priced; empty where its name does not tell.

    Examples
    --------
    >>> currency("BTCUSDT"), currency("ETHBTC"), currency("X")
    ('USD', 'BTC', '')
    """
    if symbol.endswith(_DOLLARS):
        return "USD"
    return next((quote for quote in _CURRENCIES if symbol.endswith(quote)), "")


def price(value: float, unit: str = "", significant: int = 5, *, beside: float | None = None) -> Quantity:
    """Return an amount of quote currency with so many significant digits, or all before the point.

    Beside another amount it has more where they would look equal, as in `number`.

    Examples
    --------
    >>> [price(value).text for value in (107_146.2, 0.0714123, 0.0)]
    ['107,146', '0.071412', '0']
    """
    size = abs(_finite(value, "price"))
    places = significant - 1 - math.floor(math.log10(size)) if size > 0 else 0
    return number(value, max(places, 0), unit, beside=beside)


def bp(value: float, digits: int = 2, *, sign: bool = False, beside: float | None = None) -> Quantity:
    """Return basis points, ten-thousandths of a price, beside others as in `number`."""
    return number(value, digits, "bp", sign=sign, beside=beside)


def pvalue(value: float) -> Quantity:
    """Return a probability as papers print it: ``p < 0.0001`` when it is tiny, else ``p = …``.

    Raises
    ------
    ReportError
        If it is not between zero and one.
    """
    shown = probability(value)
    sign = "" if shown.text.startswith("<") else f"={_SPACE}"
    return Quantity(f"p{_SPACE}{sign}{shown.text}", shown.value)


def probability(value: float) -> Quantity:
    """Return a p-value as a table shows it: ``< 0.0001`` when it is tiny, on its own side of each usual level.

    Raises
    ------
    ReportError
        If it is not between zero and one.
    """
    if not 0.0 <= _finite(value, "p-value") <= 1.0:
        msg = f"a p-value lies between 0 and 1, found {value}: check the test behind it"
        raise ReportError(msg)
    places = max(decimals_apart(value, level, 4) for level in _LEVELS)
    text = f"<{_SPACE}{_TINY:.4f}" if value < _TINY else f"{value:.{places}f}"
    return Quantity(local_number(text, language()), float(value))


def day(time: datetime | pd.Timestamp) -> Quantity:
    """Return a date in UTC, as the language writes it: ISO form in English."""
    return Quantity(local_date(_time(time)), math.nan)


def minute(time: datetime | pd.Timestamp) -> Quantity:
    """Return a time in UTC to the minute."""
    return Quantity(f"{local_date(_time(time))} {_time(time):%H:%M} UTC", math.nan)


def _time(time: datetime | pd.Timestamp) -> pd.Timestamp:
    stamp = pd.Timestamp(time)
    if pd.isna(stamp) or stamp.tzinfo is None:
        msg = f"a claim needs a time with a zone, found {time}: compute it, or leave the claim out"
        raise ReportError(msg)
    return stamp.tz_convert("UTC")


def span(length: pd.Timedelta) -> Quantity:
    r"""Return a length of time in the unit that reads best.

    Examples
    --------
    >>> span(pd.Timedelta(days=1096)).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    '3.0 years'
    """
    days = _finite(length / pd.Timedelta(days=1), "span")
    if days >= _YEAR:
        return number(days / _YEAR, 1, "years")
    if days >= 2 * _DAY:
        return number(days, 0, "days")
    hours = days * 24
    whole = hours == round(hours)
    return number(hours, 0 if whole else 1, "hours") if hours >= 1 else number(hours * 60, 0, "minutes")


def word(text: str) -> Quantity:
    """Return a word or name that was computed: a model, a weekday, a regime; words are translated.

    Raises
    ------
    ReportError
        If it is empty.
    """
    if not text.strip():
        msg = "a claim needs a name, found an empty text: compute it, or leave the claim out"
        raise ReportError(msg)
    return Quantity(translated(text), math.nan)


def title(name: str) -> str:
    """Return the display name of a model in English, for frames, which are the same in every language."""
    return TITLES.get(name, name)


def model(name: str) -> Quantity:
    """Return the display name of a model.

    Examples
    --------
    >>> model("random_forest").text, model("sklearn.linear_model.Lars").text
    ('Random forest', 'sklearn.linear_model.Lars')
    """
    return word(title(name))


def series(key: SeriesKey) -> Quantity:
    """Return symbol, interval and source of a series.

    Examples
    --------
    >>> from btcml.candles import SeriesKey
    >>> series(SeriesKey("simulated", "BTCUSDT", "5m")).text
    'BTCUSDT 5m, simulated market'
    """
    kind, _, name = key.market.partition(":")
    source = {"binance": "Binance", "simulated": "simulated market"}.get(kind, kind)
    return word(f"{key.symbol} {key.interval}, {word(source)}" + f" “{name}”" * bool(name))


def verb(value: float, one: str, many: str) -> Quantity:
    """Return the form of a verb that goes with a count; translations are worded without it."""
    return Quantity(one if value == 1 else many, math.nan)


@dataclass(frozen=True)
class Claim:
    """A sentence in which every number was computed.

    Attributes
    ----------
    text
        The sentence that is true.
    holds
        Whether the first sentence held.
    """

    text: str
    holds: bool = True

    def __str__(self) -> str:
        return self.text

    def as_word(self) -> Quantity:
        """The sentence as a part of another one."""
        return word(self.text)


def claim(sentence: str, *, holds: bool | None = None, otherwise: str | None = None, **values: Quantity) -> Claim:
    """Fill a sentence, or the other one when what it states does not hold.

    Parameters
    ----------
    sentence
        Text with named placeholders such as ``{error}``; no digits.
    holds
        Whether the sentence holds, as a computed boolean; None when it states no more than its values.
    otherwise
        The sentence to show when it does not hold.

    Raises
    ------
    ReportError
        If the statement does not hold and there is no other sentence, a digit is typed into the
        sentence, or a placeholder has no value.

    Examples
    --------
    >>> str(claim("It beats it by {gain}.", holds=False, otherwise="It does not beat it.", gain=bp(-1)))
    'It does not beat it.'
    """
    chosen = sentence if holds is None or holds else otherwise
    if chosen is None:
        filled = {name: str(value) for name, value in values.items()}
        msg = f"the page claims {sentence!r} of {filled}, and it does not hold: correct the claim or the data"
        raise ReportError(msg)
    gaps = {name for _, name, _, _ in string.Formatter().parse(chosen) if name is not None}
    if missing := sorted(gaps - values.keys()):
        msg = f"the claim {chosen!r} has no value for {', '.join(missing)}: compute it"
        raise ReportError(msg)
    if re.search(r"\d", re.sub(r"\{\w+\}", "", chosen)):
        msg = f"a claim's digits are computed, found one typed in {chosen!r}: make it a quantity"
        raise ReportError(msg)
    text = translated(chosen).format(**{name: str(value) for name, value in values.items()})
    return Claim(text, holds is None or bool(holds))


def cases(*sentences: tuple[bool, str], **values: Quantity) -> Claim:
    """Fill the first sentence whose condition holds.

    Parameters
    ----------
    sentences
        Conditions and sentences as in `claim`, in order.

    Raises
    ------
    ReportError
        If no condition holds: the page would have to say something that is not true.

    Examples
    --------
    >>> str(cases((False, "It rises by {gain}."), (True, "It falls by {gain}."), gain=bp(1))).split()[:3]
    ['It', 'falls', 'by']
    """
    sentence = next((text for holds, text in sentences if holds), None)
    if sentence is None:
        return claim(sentences[0][1], holds=False, otherwise=None, **values)
    return Claim(claim(sentence, holds=None, otherwise=None, **values).text, sentence == sentences[0][1])


@dataclass(frozen=True)
class Card:
    """One key figure for the index: a label, a value, and what it means in half a sentence."""

    label: str
    value: Quantity
    note: str
