"""Actions of ``btcml db`` about models and sealed forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey
from btcml.errors import StoreError, UsageError
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["ACTIONS"]


def _key(text: str) -> SeriesKey:
    parts = text.split("/")
    if len(parts) != 3:  # noqa: PLR2004 - market, symbol, interval
        msg = f"a series is MARKET/SYMBOL/INTERVAL, such as binance/BTCUSDT/5m, found {text!r}"
        raise UsageError(msg)
    return SeriesKey(*parts)


def _models_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("series", nargs="?", help="MARKET/SYMBOL/INTERVAL (default: all)")
    parser.add_argument("--prune", action="store_true", help="delete the files of trainings that nobody needs")
    parser.add_argument("--roll-back", action="store_true", help="put the training before into service again")
    parser.add_argument("--to", help="with --roll-back: put this training into service")


def _models(args: Namespace) -> Any:
    from btcml.pipeline.train import prune
    from btcml.store.engine import open_store
    from btcml.store.models import read_models, restore_training

    settings = load_settings()
    store = open_store(settings)
    key = _key(args.series) if args.series else None
    if (args.prune or args.roll_back) and key is None:
        msg = "--prune and --roll-back need a series: btcml db models MARKET/SYMBOL/INTERVAL"
        raise UsageError(msg)
    if args.roll_back and key is not None:
        return {"in service": restore_training(store, key, args.to)}
    if args.prune and key is not None:
        return {"deleted": prune(store, settings, key)}
    names = ("artifact", "name", "role", "trained_at", "samples", "bytes")
    rows = [
        {name: getattr(record, name) for name in names} | {"series": str(record.key)}
        for record in read_models(store, key)
    ]
    if args.json:
        return {"rows": rows}
    return pd.DataFrame(rows).to_string(index=False) if rows else "no models yet: btcml train"


def _verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("series", nargs="?", help="MARKET/SYMBOL/INTERVAL (default: all)")
    parser.add_argument("--head", help="SEQ:HASH that was written down earlier: the chain must still hold it")


def _verify(args: Namespace) -> Any:
    from btcml.store.chain import chain_head, chain_keys, verify_chain
    from btcml.store.engine import open_store

    store = open_store(load_settings())
    head = _head(args.head) if args.head else None
    found = {}
    for key in [_key(args.series)] if args.series else chain_keys(store):
        broken = verify_chain(store, key, head)
        if broken is not None:
            msg = f"the chain of {key} breaks at forecast {broken.seq}: {broken.reason}: restore a backup"
            raise StoreError(msg)
        found[str(key)] = chain_head(store, key) or "no forecasts"
    return found or "no forecasts yet: btcml schedule"


def _head(text: str) -> dict[str, str]:
    seq, _, digest = text.partition(":")
    if not (seq.isdigit() and int(seq) > 0 and digest):
        msg = f"a head is SEQ:HASH, as this command prints it, found {text!r}"
        raise UsageError(msg)
    return {"seq": seq, "hash": digest}


ACTIONS: dict[str, tuple[Callable[[Namespace], Any], Callable[[ArgumentParser], None], str]] = {
    "models": (_models, _models_arguments, "list, prune or roll back models"),
    "verify-forecasts": (_verify, _verify_arguments, "recompute the chains of sealed forecasts"),
}
"""What each action does, what it takes, and one line about it."""
