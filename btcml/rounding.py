"""Numbers as texts: decimals that support a comparison, signs, and separators of a language; names of months."""

MONTHS = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "pt-BR": ("jan", "fev", "mar", "abr", "mai", "jun", "jul", "ago", "set", "out", "nov", "dez"),
}
"""Short names of the months, of reports and dashboard."""

_MINUS = "\N{MINUS SIGN}"
_SEPARATORS = {"pt-BR": str.maketrans(",.", ".,")}  # without Babel: a page of the dashboard starts without it


def local_number(text: str, language: str) -> str:
    """Return the text of a number, such as ``1,234.5``, with the separators of a language.

    Examples
    --------
    >>> local_number("1,234.5", "pt-BR"), local_number("1,234.5", "en")
    ('1.234,5', '1,234.5')
    """
    return text.translate(_SEPARATORS.get(language, {}))


def number_text(value: float, digits: int, language: str, *, sign: bool = False) -> str:
    """Return a rounded number with separated thousands; what is rounded to zero has no sign.

    Examples
    --------
    >>> number_text(0.26, 1, "en", sign=True), number_text(-0.004, 2, "en"), number_text(1234.5, 1, "pt-BR")
    ('+0.3', '0.00', '1.234,5')
    """
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.lstrip("+-")
    return local_number(text.replace("-", _MINUS), language)


def decimals_apart(value: float, bound: float, least: int, most: int = 12) -> int:
    """Fewest decimals, `least` or more, at which a rounded value is on its own side of a bound.

    Examples
    --------
    >>> decimals_apart(0.0096, 0.01, 3), decimals_apart(1.00002, 1.0, 4), decimals_apart(0.5, 1.0, 4)
    (4, 5, 4)
    """
    shown = ((places, round(value, places), round(bound, places)) for places in range(least, most))
    apart = (places for places, v, b in shown if ((v > b), (v < b)) == ((value > bound), (value < bound)))
    return next(apart, most)
