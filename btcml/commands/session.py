"""What every verb begins with: parameters, settings, the database, a source, and progress."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from btcml.settings import RunParameters, Settings, load_settings, run_parameters

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from btcml.candles import SeriesKey
    from btcml.market import Source
    from btcml.store.engine import Store

__all__ = ["Session", "declare_series", "open_session", "progress", "say"]

_LOG_EVERY_S = 5.0


@dataclass(frozen=True)
class Session:
    """Settings, database, source and parameters of one call."""

    settings: Settings
    store: Store
    source: Source
    run: RunParameters

    @property
    def key(self) -> SeriesKey:
        """Key of the series in the source's own market."""
        return self.run.key(self.source.market)


def declare_series(parser: ArgumentParser, days: int | None = None, *, several: bool = False) -> None:
    """Declare the options that say which series a verb is about."""
    more = ", or several with commas between" if several else ""
    parser.add_argument("--symbol", default="BTCUSDT", help=f"the exchange's symbol{more} (default BTCUSDT)")
    parser.add_argument("--interval", help="length of a candle, 1m to 1w (default: BTCML_INTERVAL)")
    parser.add_argument("--source", help="binance, simulated, auto, or a file or folder (default: BTCML_SOURCE)")
    parser.add_argument("--days", type=int, default=days, help="span of candles, in days")


def _parameters(args: Namespace, settings: Settings) -> RunParameters:
    given: dict[str, Any] = {name: getattr(args, name, None) for name in ("symbol", "days", "end")}
    given |= {"interval": args.interval or settings.btcml_interval, "source": args.source or settings.btcml_source}
    return run_parameters(**{name: value for name, value in given.items() if value is not None})


def open_session(args: Namespace) -> Session:
    """Check the parameters, open the database and find the source."""
    from btcml.pipeline.sources import make_source
    from btcml.store.engine import open_store

    settings = load_settings()
    run = _parameters(args, settings)
    store = open_store(settings)
    source = make_source(settings, run.source, store)
    if run.source == "auto":
        why = " (Binance did not answer)" if source.market == "simulated" else ""
        say(f"source auto: {source.market}{why}")
    _note_whose(source, run.symbol)
    return Session(settings, store, source, run)


def _note_whose(source: Source, symbol: str) -> None:
    """Say it where a file does not tell whose candles it holds: nothing else could find a mistake."""
    from btcml.market.files import FileMarket

    if isinstance(source, FileMarket) and not source.symbols:
        named = f"{symbol}-5m.csv"
        say(f"NOTE: {source.path.name} does not say its symbol, taken as {symbol} (a name like {named} would say it)")


def say(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def progress(label: str) -> Callable[[int, int], None]:
    """Progress of a fetch: a bar with rate and time left on a terminal, plain lines in a log."""
    return _bar(label) if sys.stderr.isatty() else _log(label)


def _bar(label: str) -> Callable[[int, int], None]:
    from tqdm import tqdm

    bar = tqdm(desc=label, unit=" candles", leave=False)

    def _show(done: int, expected: int) -> None:
        bar.total, bar.n = expected, done
        bar.refresh()

    return _show


def _log(label: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def _say(done: int, expected: int) -> None:
        nonlocal last
        if time.monotonic() - last > _LOG_EVERY_S:
            last = time.monotonic()
            say(f"{label}: {done:,} of {expected:,} candles")

    return _say
