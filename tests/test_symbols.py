from __future__ import annotations

import pytest

from btcml.errors import UsageError
from btcml.symbols import check_symbol


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("btcusdt", "write BTCUSDT"),
        ("BTC USDT", "write BTCUSDT"),
        ("€", "as the exchange does"),
        ("", "such as BTCUSDT"),
    ],
)
def test_a_symbol_that_the_exchange_would_write_otherwise_is_told_how(given, advice):
    """The cure is in the sentence, where one can be guessed."""
    assert check_symbol("1000SHIBUSDT") == "1000SHIBUSDT"
    with pytest.raises(UsageError, match=advice):
        check_symbol(given)
