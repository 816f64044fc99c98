"""Where a ban is remembered, so that nothing is called before it ends."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

__all__ = ["BanMemory", "LocalBans"]


class BanMemory(Protocol):
    """A place to remember bans in; the pipeline hands in the database's."""

    def until(self, host: str) -> pd.Timestamp | None:
        """Return the end of the ban of a host, UTC; None if there never was one."""
        ...

    def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:
        """Remember a ban until a time, with the exchange's reason."""
        ...


class LocalBans:
    """Bans remembered by this process alone.

    Examples
    --------
    >>> import pandas as pd
    >>> bans = LocalBans()
    >>> bans.remember("api.binance.com", pd.Timestamp("2026-01-01", tz="UTC"), "418")
    >>> bans.until("api.binance.com")
    Timestamp('2026-01-01 00:00:00+0000', tz='UTC')
    """

    def __init__(self) -> None:
        self._until: dict[str, pd.Timestamp] = {}

    def until(self, host: str) -> pd.Timestamp | None:
        """Return the end of the ban of a host, or None."""
        return self._until.get(host)

    def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:  # noqa: ARG002 - the protocol's
        """Remember a ban; a longer one that is known already stays."""
        self._until[host] = max(until, self._until.get(host, until))
