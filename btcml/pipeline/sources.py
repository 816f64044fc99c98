"""The market from which a run reads its candles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from btcml.errors import SourceError, UsageError
from btcml.market.archive import ArchiveMarket
from btcml.market.binance import BinanceMarket
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import BanLedger
from btcml.store.market_choice import read_choice, record_choice

if TYPE_CHECKING:
    import pandas as pd

    from btcml.market import Source
    from btcml.settings import Settings
    from btcml.store.engine import Store


def make_source(
    settings: Settings,
    name: str,
    store: Store,
    *,
    as_of: pd.Timestamp | None = None,
    timezone: str | None = None,
    symbol: str | None = None,
) -> Source:
    """Find the market that a source names.

    Parameters
    ----------
    settings
        Where Binance and its archive are.
    name
        ``binance``, ``simulated``, ``auto`` (Binance where it answers within seconds, else the
        simulated market), or a file or folder of candles.
    store
        Stores bans of the exchange.
    as_of, timezone, symbol
        When a file was written, the zone of its local times, and whose candles it holds: see `FileMarket`.

    Raises
    ------
    SourceError
        If `name` is none of these.
    UsageError
        If what is said of a file is said of a market.
    """
    if (as_of or timezone) and name in {"simulated", "binance", "auto"}:
        msg = f"--as-of and --timezone are about a file of candles, found --source {name}: leave them out"
        raise UsageError(msg)
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
    return FileMarket(path, as_of=as_of, timezone=timezone, symbol=symbol)


def shared_source(settings: Settings, store: Store, *, anew: bool = False) -> Source:
    """Find the market of a service; with the source ``auto`` all processes on the database use the same.

    Parameters
    ----------
    anew
        Look again whether Binance answers, as the scheduler does when it starts; the others follow.
    """
    if settings.btcml_source != "auto":
        return make_source(settings, settings.btcml_source, store)
    known = None if anew else read_choice(store)
    if known is None:
        source = make_source(settings, "auto", store)
        found = "simulated" if source.market == "simulated" else "binance"
        known = record_choice(store, found, replace=anew)
        if known == found:
            return source
    return make_source(settings, known, store)
