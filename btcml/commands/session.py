"""What all verbs share: options, settings, database, source, progress, and results as text."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from btcml.errors import UsageError
from btcml.settings import RunParameters, Settings, load_settings, run_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from btcml.candles import SeriesKey
    from btcml.market import Source
    from btcml.store.engine import Store


Verbs = dict[str, "tuple[Callable[[argparse.ArgumentParser], None], str]"]
"""Name of a verb to the function that declares its options, and one line about it."""

_EXTRAS = {"report": "papermill", "serve": "fastapi", "dashboard": "voila", "lab": "jupyterlab"}
_LOG_EVERY_S = 5.0
_FIRST_YEAR, _LAST_YEAR = 2000, 2199
_DIGITS = 7


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


def require_extra(verb: str, extra: str) -> None:
    """Check that the packages of an extra are installed.

    Raises
    ------
    UsageError
        If they are not.

    Examples
    --------
    >>> require_extra("report", "report")
    """
    if find_spec(_EXTRAS[extra]) is None:
        msg = f"btcml {verb} needs btcml[{extra}]: pip install 'btcml[{extra}]'"
        raise UsageError(msg)


def declare_series(
    parser: argparse.ArgumentParser, days: int | None = None, *, several: bool = False, default: str = ""
) -> None:
    """Declare the options that say which series a verb is about; `default` says which span it is without one."""
    more = ", or several, comma-separated" if several else ""
    parser.add_argument("--symbol", help=f"the exchange's symbol{more} (default BTCUSDT)")
    parser.add_argument("--interval", help="length of a candle, 1m to 1w (default: BTCML_INTERVAL)")
    parser.add_argument("--source", help="binance, simulated, auto, or a file or folder (default: BTCML_SOURCE)")
    parser.add_argument("--days", type=int, default=days, help=f"span of candles, in days{default}")


def utc_time(text: str) -> pd.Timestamp:
    """Type of an option that holds a UTC time."""
    import pandas as pd

    try:
        time = pd.Timestamp(datetime.fromisoformat(text))  # nothing else: 05/04 is May here and April there
        time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
        if _FIRST_YEAR <= time.year <= _LAST_YEAR:  # false for NaT, too
            return time
    except ValueError:
        pass
    msg = f"expected a UTC time such as 2017-08-17 or 2025-06-30T12:00, found {text!r}"
    raise argparse.ArgumentTypeError(msg)


def positive(text: str) -> int:
    """Type of an option that holds a count.

    Examples
    --------
    >>> positive("2")
    2
    """
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    msg = f"expected a whole number of at least 1, found {text!r}"
    raise argparse.ArgumentTypeError(msg)


def open_settings(args: argparse.Namespace) -> Settings:
    """Settings of this process, where options of the command line replace some."""
    given = {"symbols": (args.symbol,) if args.symbol else None, "interval": args.interval, "source": args.source}
    settings = load_settings()
    _parameters(args, settings)  # checks them
    return settings.model_copy(update={f"btcml_{name}": value for name, value in given.items() if value})


def _parameters(args: argparse.Namespace, settings: Settings) -> RunParameters:
    given: dict[str, Any] = {name: getattr(args, name, None) for name in ("symbol", "days", "end")}
    given |= {"interval": args.interval or settings.btcml_interval, "source": args.source or settings.btcml_source}
    return run_parameters(**{name: value for name, value in given.items() if value is not None})


def open_session(args: argparse.Namespace) -> Session:
    """Check the parameters, open the database and find the source."""
    from btcml.pipeline.sources import make_source
    from btcml.store.engine import open_store

    settings = load_settings()
    run = _parameters(args, settings)
    store = open_store(settings)
    about = {name: getattr(args, name, None) for name in ("as_of", "timezone", "symbol")}
    source = make_source(settings, run.source, store, **about)
    if run.source == "auto":
        why = " (Binance did not answer)" if source.market == "simulated" else ""
        say(f"source auto: {source.market}{why}")
    _note_symbol(source, run.symbol)
    return Session(settings, store, source, run)


def _note_symbol(source: Source, symbol: str) -> None:
    """Print a note where a file does not name its symbol: nothing else could find a mistake."""
    from btcml.market.files import FileMarket

    if isinstance(source, FileMarket) and not source.symbols:
        say(f"NOTE: {source.path.name} does not name its symbol: stored as {symbol} (or put its own into the name)")
    for note in getattr(source, "notes", ()):
        say(f"NOTE: {note}")


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


def render(result: Any) -> str:
    """Lines of a result: one a name; nested values below it, indented.

    Seven significant digits are a price to the cent and more than any error is known to; ``--json``
    has them all.

    Examples
    --------
    >>> print(render({"close": 39029.67619808888, "model": "ridge", "seen": None, "span": ["a", "b"]}))
    close: 39029.68
    model: ridge
    seen: -
    span: a, b
    >>> print(render({"models": {"ridge": {"ratio": 0.99531234567, "skill": 0.0}}, "rows": [{"n": 1}, {"n": 2}]}))
    models:
      ridge: ratio 0.9953123, skill 0
    rows:
      n 1
      n 2
    """
    return "\n".join(_lines(_plain(result)))


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _lines(values: dict[str, Any]) -> list[str]:
    found = []
    for name, value in values.items():
        items = value.values() if isinstance(value, dict) else value
        if isinstance(value, (dict, list, tuple)) and any(_is_nested(item) for item in items):
            below = _lines(value) if isinstance(value, dict) else [_flat(item) for item in value]
            found += [f"{name}:", *(f"  {line}" for line in below)]
        else:
            found.append(f"{name}: {_flat(value)}")
    return found


def _is_nested(value: object) -> bool:
    return isinstance(value, (dict, list, tuple)) or is_dataclass(value)


def _flat(value: Any) -> str:
    """One value, or a few, on one line."""
    value = _plain(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(item)}" for name, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_flat(item) for item in value) or "-"
    if value is None:
        return "-"
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
