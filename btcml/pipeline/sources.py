"""Which market a run draws its candles from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from btcml.errors import SourceError
from btcml.market.archive import ArchiveMarket
from btcml.market.binance import BinanceMarket
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import BanLedger

if TYPE_CHECKING:
    from btcml.market import Source
    from btcml.settings import Settings
    from btcml.store.engine import Store

__all__ = ["make_source"]


def make_source(settings: Settings, name: str, store: Store) -> Source:
    """Find the market that a source names.

    Parameters
    ----------
    settings
        Where Binance and its archive are.
    name
        ``binance``, ``simulated``, ``auto`` (Binance where it answers within seconds, else the
        simulated market), or a file or folder of candles.
    store
        Remembers bans of the exchange.

    Raises
    ------
    SourceError
        If `name` is none of these.
    """
    if name == "simulated":
        return SimulatedMarket()
    if name in {"binance", "auto"}:
        bans = BanLedger(store)
        binance = BinanceMarket(settings.btcml_binance_urls, bans=bans)
        if name == "auto" and not binance.reachable():
            return SimulatedMarket()
        return ArchiveMarket(binance, settings.btcml_archive_url, settings.home / "archive", bans=bans)
    path = Path(name).expanduser()
    if not path.exists():
        msg = f"expected binance, simulated, auto or a file or folder of candles, found {name!r}, which does not exist"
        raise SourceError(msg)
    return FileMarket(path)
