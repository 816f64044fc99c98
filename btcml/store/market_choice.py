"""The market that processes with the source ``auto`` share: found by one of them, the same for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from btcml.store.engine import Store


def read_choice(store: Store) -> str | None:
    """Source that was found last, ``binance`` or ``simulated``, or None where none has been yet."""
    found = store.scalar("SELECT market FROM market_choice")
    return None if found is None else str(found)


def record_choice(store: Store, market: str, *, replace: bool) -> str:
    """Record the source that was found, and return the one that holds.

    Parameters
    ----------
    replace
        Whether it holds also where another process was first.
    """
    store.execute(_RECORD + (_UPDATE if replace else "NOTHING"), {"market": market})
    return read_choice(store) or market


_UPDATE = "UPDATE SET market = excluded.market, found_at = excluded.found_at"
_RECORD = "INSERT INTO market_choice (market) VALUES (:market) ON CONFLICT (one) DO "
