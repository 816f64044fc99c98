"""Maintenance of the database: contract, roles, export, models in service and the chains of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey
from btcml.errors import ContractError, NotFoundError, StoreError, UsageError
from btcml.pipeline.train import prune
from btcml.store.candles import check_contract, export_candles, read_series_keys
from btcml.store.chain import chain_head, chain_keys, restated_outcomes, seal_faults, verify_chain
from btcml.store.engine import APP_ROLE, READ_ROLE, head_revision, migrate, owner_url, set_password
from btcml.store.models import read_models, restore_training

if TYPE_CHECKING:
    from pathlib import Path

    from btcml.settings import Settings
    from btcml.store.engine import Store


_PARTS = 3
_MODEL_COLUMNS = ("artifact", "name", "role", "trained_at", "samples", "bytes")


def _key(series: str | None) -> SeriesKey:
    """Key of a series that is written MARKET/SYMBOL/INTERVAL."""
    parts = (series or "").split("/")
    if len(parts) != _PARTS:
        msg = f"expected a series MARKET/SYMBOL/INTERVAL, such as binance/BTCUSDT/5m, found {series or 'none'!r}"
        raise UsageError(msg)
    return SeriesKey(*parts)


def require_contract(store: Store) -> pd.DataFrame:
    """Run the data contract over everything that is stored, and verify what is sealed.

    Returns
    -------
    DataFrame
        ``rule``, ``description`` and ``broken``, which is 0 everywhere.

    Raises
    ------
    ContractError
        If stored candles break a rule.
    StoreError
        If a chain of forecasts or outcomes, or what they rest on, was changed.
    """
    results = check_contract(store)
    broken = results[results["broken"] > 0]
    if len(broken):
        first = broken.iloc[0]
        msg = f"{first['broken']} stored candles break the rule {first['rule']}: run btcml ingest --audit --days 5000"
        raise ContractError(msg)
    verify_chains(store, None, None)
    return results


def migrate_database(settings: Settings) -> dict[str, Any]:
    """Bring the schema up to date as the owner, and give the roles their passwords where settings name them."""
    url = owner_url(settings)
    migrate(url)
    passwords = {APP_ROLE: settings.btcml_app_password, READ_ROLE: settings.btcml_read_password}
    given = {role: secret.get_secret_value() for role, secret in passwords.items() if secret is not None}
    for role, password in given.items():
        set_password(url, role, password)
    return {"schema": head_revision(), "passwords": list(given)}


def export_series(store: Store, series: str, file: Path) -> int:
    """Write the candles of a series to a Parquet or CSV file; return their number.

    Raises
    ------
    UsageError
        If the file is of another kind.
    NotFoundError
        If the series has no candles.
    """
    if file.suffix not in {".parquet", ".csv"}:
        msg = f"candles are exported to a .parquet or .csv file, found {file.name!r}"
        raise UsageError(msg)
    key = next((known for known in read_series_keys(store) if str(known) == series), None)
    if key is None:
        known = ", ".join(map(str, read_series_keys(store))) or "none"
        msg = f"expected a series MARKET/SYMBOL/INTERVAL that has candles ({known}), found {series!r}"
        raise NotFoundError(msg)
    return export_candles(store, key, file)


def list_models(store: Store, series: str | None) -> pd.DataFrame:
    """List the models of a series, or of all: artifact, name, role, time, samples, bytes."""
    records = read_models(store, _key(series) if series else None)
    rows = [{name: getattr(found, name) for name in _MODEL_COLUMNS} | {"series": str(found.key)} for found in records]
    return pd.DataFrame(rows)


def prune_models(store: Store, settings: Settings, series: str | None) -> list[str]:
    """Delete the files of the trainings of a series, or of all, that are no longer needed; return their names."""
    keys = {_key(series)} if series else {record.key for record in read_models(store, None)}
    return [name for key in sorted(keys, key=str) for name in prune(store, settings, key)]


def roll_back(store: Store, series: str | None, artifact: str | None) -> str:
    """Put the previous training of a series, or the one that is named, into service; return its name."""
    return restore_training(store, _key(series), artifact)


def verify_chains(store: Store, series: str | None, head: str | None) -> dict[str, Any]:
    """Recompute the chains of sealed forecasts and outcomes of a series, or of all.

    Parameters
    ----------
    head
        ``SEQ:HASH`` that was written down earlier: the chain must still contain it.

    Returns
    -------
    dict
        The head of each chain of forecasts by series, with its ``restated`` outcomes where there are any.

    Raises
    ------
    StoreError
        If a chain is broken, a trigger disabled or a clock moved.
    """
    wanted, found = _head(head) if head else None, {}
    if faults := seal_faults(store):
        msg = f"{'; '.join(faults)}: restore a backup"
        raise StoreError(msg)
    for key in [_key(series)] if series else chain_keys(store):
        broken = verify_chain(store, key, wanted)
        if broken is not None:
            msg = f"the chain of {key} {broken}: restore a backup"
            raise StoreError(msg)
        restated = restated_outcomes(store, key)
        found[str(key)] = chain_head(store, key) | ({"restated": restated} if restated else {}) or "no forecasts"
    return found


def _head(text: str) -> dict[str, str]:
    seq, _, digest = text.partition(":")
    if not (seq.isdigit() and int(seq) > 0 and digest):
        msg = f"a head is SEQ:HASH, as this command prints it, found {text!r}"
        raise UsageError(msg)
    return {"seq": seq, "hash": digest}
