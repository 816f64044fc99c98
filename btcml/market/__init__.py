"""Where candles come from: the exchange, its archive, a simulated market, files.

Every market offers a name, a clock and final candles. A market is an argument, never a global: the commands
read from a `Source`, which is the exchange, its archive, a simulation or a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pandas as pd

__all__ = ["MARKET_HEADER", "SPEED_HEADER", "Clock", "OnPage", "Source", "utc_now"]

MARKET_HEADER = "X-Btcml-Market"
"""Header with the name of a replay exchange: clients tell it from the real exchange by it."""

SPEED_HEADER = "X-Btcml-Clock-Speed"
"""Header with the speed of a replay's clock, in seconds of the market in a second: measuring it takes time."""

Clock = Callable[[], pd.Timestamp]
"""Returns the time, timezone-aware, in UTC."""

OnPage = Callable[[int, int], None]
"""Progress: called with the rows fetched so far and the rows expected."""


@runtime_checkable
class Source(Protocol):
    """A market that candles can be fetched from.

    Attributes
    ----------
    market
        Name of the market, part of every key: ``binance``, ``simulated``, ``replay:NAME`` or
        ``file:NAME``.
    """

    @property
    def market(self) -> str:
        """Name of the market."""
        ...

    def now(self) -> pd.Timestamp:
        """Return the market's own time, UTC: it alone decides what is final."""
        ...

    def default_end(self, symbol: str) -> pd.Timestamp:
        """Return the end of a report whose END is empty, exclusive, UTC."""
        ...

    def fetch_candles(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
    ) -> pd.DataFrame:
        """Fetch final candles whose open time is in [start, end).

        Parameters
        ----------
        symbol, interval
            Which series, such as ``BTCUSDT`` and ``5m``.
        start, end
            Timezone-aware bounds of the open time.
        on_page
            Called after each page with the progress.

        Returns
        -------
        DataFrame
            A candle frame (`btcml.candles`), sorted and unique; holes stay holes.

        Raises
        ------
        UsageError
            If the symbol or the interval does not exist there.
        MarketError
            If the market cannot be reached or rejects the request.
        """
        ...


def utc_now() -> pd.Timestamp:
    """Real time in UTC: the default clock, replaced in tests."""
    return pd.Timestamp.now(tz="UTC").as_unit("us")
