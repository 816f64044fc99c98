"""How the exchange writes a symbol."""

from __future__ import annotations

import re

from btcml.errors import UsageError

__all__ = ["check_symbol"]

_SYMBOL = r"[A-Z0-9]{2,20}"


def check_symbol(text: str) -> str:
    """Return a symbol as it is.

    Raises
    ------
    UsageError
        If the exchange would write it otherwise; the sentence says how.

    Examples
    --------
    >>> check_symbol("btc/usdt")
    Traceback (most recent call last):
    ...
    btcml.errors.UsageError: a symbol is 2 to 20 capital letters and digits, found 'btc/usdt': write BTCUSDT
    """
    if re.fullmatch(_SYMBOL, text):
        return text
    near = re.sub(r"[^A-Z0-9]", "", text.upper())
    advice = f"write {near}" if re.fullmatch(_SYMBOL, near) else "write it as the exchange does, such as BTCUSDT"
    msg = f"a symbol is 2 to 20 capital letters and digits, found {text!r}: {advice}"
    raise UsageError(msg)
