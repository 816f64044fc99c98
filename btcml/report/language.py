"""The language of a report: English as it is written in the code, and translations of it.

A translation is a catalogue of GNU gettext, ``reports/template/LANGUAGE.po``, whose keys are the English sentences with
their placeholders. A sentence is looked up where it is completed, so that its numbers are those of the English one;
`btcml.report.figures` does the same for tables and drawings. Code, the frames that it prints and CSV files are the same
in every language. `tools/messages.py` lists what a catalogue must have.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from typing import TYPE_CHECKING

from btcml.errors import UsageError
from btcml.files import resource
from btcml.rounding import MONTHS, local_number
from btcml.sentences import Sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from babel.messages.catalog import Catalog


LANGUAGES = ("en", "pt-BR")
"""Languages of reports, the default first."""

ENGLISH = LANGUAGES[0]

VARIABLE = "BTCML_REPORT_LANGUAGE"
"""Variable with the language of a kernel."""

COUNTS = "count"
"""Context of the catalogue for nouns that are counted."""

BELOW_TWO = "below two"
"""Context of the catalogue for units of a number below two, which are in the singular in some languages."""

_chosen: ContextVar[str] = ContextVar("language", default="")

_VALUE = re.compile(r"(?=.*\d)[<≤≥+\N{MINUS SIGN}\d.,%\s-]+(?: to [+\N{MINUS SIGN}\d.,%\s]+)?")
_DATE = re.compile(r"(\d{4})-(\d\d|[A-Z][a-z]{2})(?:-(\d\d))?( \d\d:\d\d|)")
_NEGATIVE = re.compile(r"^-(?=\d)")
_MONTH = re.compile(r"(\d\d |)([A-Z][a-z]{2})( \d{4}|)")


def check_language(language: str) -> str:
    """Return a language that a report can have.

    Raises
    ------
    UsageError
        If there is no translation into it.

    Examples
    --------
    >>> check_language("pt-BR")
    'pt-BR'
    """
    if language not in LANGUAGES:
        msg = f"the language of a report is {' or '.join(LANGUAGES)}, found {language!r}"
        raise UsageError(msg)
    return language


@contextmanager
def in_language(language: str) -> Iterator[None]:
    """Complete sentences in a language within this block; in a kernel it is that of its report.

    Examples
    --------
    >>> with in_language("pt-BR"):
    ...     translated("Candle")
    'Candle'
    """
    token = _chosen.set(check_language(language))
    try:
        yield
    finally:
        _chosen.reset(token)


def language() -> str:
    """Return the language in which sentences are completed.

    Examples
    --------
    >>> language()
    'en'
    """
    return _chosen.get() or os.environ.get(VARIABLE, ENGLISH)


@cache
def read_catalogue(name: str) -> Catalog:
    """Read the catalogue of a language."""
    from babel.messages.pofile import read_po  # noqa: PLC0415 - English needs no catalogue

    with (resource("reports/template") / f"{name}.po").open("rb") as file:
        return read_po(file, abort_invalid=True)


@cache
def _translations(name: str) -> NullTranslations:
    if name == ENGLISH:
        return NullTranslations()
    from babel.messages.mofile import write_mo  # noqa: PLC0415 - as above

    compiled = BytesIO()
    write_mo(compiled, read_catalogue(name))
    compiled.seek(0)
    return GNUTranslations(compiled)


def translated(text: str) -> str:
    """Return a sentence, with its placeholders, in the language of the report; itself where it has no translation."""
    return _translations(language()).gettext(text) if text else text


def counted(one: str, many: str, number: float) -> str:
    """Return the form of a noun that goes with a number.

    Examples
    --------
    >>> counted("gap", "gaps", 1), counted("gap", "gaps", 0)
    ('gap', 'gaps')
    """
    return _translations(language()).npgettext(COUNTS, one, many, int(number))


def unit_of(number: float, unit: str) -> str:
    """Return a unit in the form that goes with a number.

    Examples
    --------
    >>> with in_language("pt-BR"):
    ...     unit_of(1.8, "times"), unit_of(2.0, "times")
    ('vez', 'vezes')
    """
    if abs(number) < 2:  # noqa: PLR2004 - CLDR's rule for Portuguese; English has no such texts
        found = _translations(language()).pgettext(BELOW_TWO, unit)
        return found if found != unit else translated(unit)
    return translated(unit)


def local_date(time: pd.Timestamp) -> str:
    """Return the date of a time as the language writes it; in English in ISO form."""
    if language() == ENGLISH:
        return time.strftime("%Y-%m-%d")
    from babel.dates import format_date  # noqa: PLC0415 - as above

    return format_date(time.date(), "short", language().replace("-", "_"))


def local_text(text: str) -> str:
    """Return what a table or a drawing holds as text in the language: words, numbers, dates, and lists of words.

    Examples
    --------
    >>> with in_language("pt-BR"):
    ...     [local_text(text) for text in ("1,234.5", "2025-03", "05 Feb", "-0.1 to 0.2", "range_ratio")]
    ['1.234,5', '03/2025', '05 fev', '-0,1 a 0,2', 'range_ratio']
    """
    if language() == ENGLISH:
        return text
    if (found := translated(text)) != text:
        return found
    if date := _DATE.fullmatch(text):
        parts = [_month(part) for part in (date[3], date[2], date[1]) if part]
        return ("/" if date[2].isdecimal() else " ").join(parts) + date[4]
    if month := _MONTH.fullmatch(text):
        return f"{month[1]}{_month(month[2])}{month[3]}"
    if _VALUE.fullmatch(text):
        return local_number(text, language()).replace(" to ", f" {translated('to')} ")
    return ", ".join(translated(part) for part in text.split(", "))


def _month(text: str) -> str:
    """Return the short name of a month in the language; another text as it is."""
    return dict(zip(MONTHS[ENGLISH], MONTHS[language()], strict=True)).get(text, text)


def told(text: str) -> str:
    """Return what another package says: a sentence is completed in the language, with the minus sign of the pages.

    Examples
    --------
    >>> with in_language("pt-BR"):
    ...     told(Sentence("an explicit experiment: {fields}", fields="window = 48 months"))
    'um experimento explícito: window = 48 months'
    """
    if isinstance(text, Sentence):
        return translated(text.template).format(**{name: told(value) for name, value in text.given.items()})
    return local_text(_NEGATIVE.sub("\N{MINUS SIGN}", text))
