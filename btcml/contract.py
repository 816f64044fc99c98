"""The data contract of candles: one YAML, read by table, validator, SQL checks and report.

``data_contracts/candles.odcs.yaml`` follows the Open Data Contract Standard, version 3. Each of
its quality rules counts the rows in which a predicate does not hold; the predicate between
``where not (`` and the last ``)`` is the rule. It uses only syntax that SQL and Python share, so
that the same text is a CHECK constraint, a query and an expression over a frame.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from btcml.candles import COLUMNS, INTERVALS, interval_delta, interval_origin
from btcml.errors import ContractError
from btcml.files import resource

if TYPE_CHECKING:
    from collections.abc import Callable


CONTRACT_FILE = "candles.odcs.yaml"

_PREDICATE = re.compile(r"where not \((.*)\)\s*$", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column of the contract: its name, SQL type, and what it means."""

    name: str
    sql_type: str
    required: bool
    key: bool
    description: str


@dataclass(frozen=True)
class Rule:
    """A rule for each row, as a predicate that SQL and Python both read.

    A row satisfies the rule where the predicate is true or unknown (null), as in a CHECK constraint.
    """

    name: str
    description: str
    predicate: str
    query: str


@dataclass(frozen=True)
class Contract:
    """Content of ``candles.odcs.yaml``."""

    version: str
    table: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]

    def create_table_sql(self) -> str:
        """Statement that makes the table, its key and one CHECK constraint a rule."""
        lines = [f'"{c.name}" {c.sql_type}{_collation(c)}{" NOT NULL" if c.required else ""}' for c in self.columns]
        keys = ", ".join(f'"{column.name}"' for column in self.columns if column.key)
        lines.append(f"CONSTRAINT {self.table}_key PRIMARY KEY ({keys})")
        lines += [f"CONSTRAINT {rule.name} CHECK ({rule.predicate})" for rule in self.rules]
        return f"CREATE TABLE {self.table} (\n  " + ",\n  ".join(lines) + "\n)"


def _collation(column: Column) -> str:
    return ' COLLATE "C"' if column.sql_type == "text" else ""


@cache
def load_contract() -> Contract:
    """Read the contract of candles.

    Raises
    ------
    ContractError
        If a quality rule is not of the form that all enforcers can read.
    """
    raw = yaml.safe_load(resource("data_contracts").joinpath(CONTRACT_FILE).read_text(encoding="utf-8"))
    table = raw["schema"][0]
    columns = tuple(_column(item) for item in table["properties"])
    rules = tuple(_rule(item) for item in table["quality"])
    return Contract(str(raw["version"]), table["name"], columns, rules)


def _column(item: dict[str, Any]) -> Column:
    key = bool(item.get("primaryKey", False))
    return Column(item["name"], item["physicalType"], bool(item["required"]), key, item["description"])


def _rule(item: dict[str, Any]) -> Rule:
    match = _PREDICATE.search(item["query"])
    if match is None:
        msg = f"the quality rule {item['name']} must end in 'where not (PREDICATE)', found {item['query']!r}"
        raise ContractError(msg)
    return Rule(item["name"], item["description"], match[1].strip(), item["query"])


def sql_functions() -> list[str]:
    """Statements that make the functions which predicates use beyond plain SQL."""
    steps = " ".join(f"WHEN '{name}' THEN interval '{_micro(d) // 1_000_000} s'" for name, d in INTERVALS.items())
    origins = {name: interval_origin(name) for name in INTERVALS}
    starts = " ".join(f"WHEN '{n}' THEN timestamptz '{o.isoformat()}'" for n, o in origins.items() if o.value)
    step = f"(CASE i {steps} END)"
    origin = f"(CASE i {starts} ELSE timestamptz '1970-01-01T00:00:00+00:00' END)"
    # Only immutable operators inside: PostgreSQL inlines these, a stable one would cost a call a row.
    on_grid = f"SELECT coalesce(date_bin({step}, t, {origin}) = t, false)"
    plausible_close = f"SELECT coalesce(c >= t AND c - t < {step}, false)"
    heads = {"on_grid(t timestamptz, i text)": on_grid}
    heads["plausible_close(t timestamptz, c timestamptz, i text)"] = plausible_close
    tail = "RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE"
    return [f"CREATE OR REPLACE FUNCTION {head} {tail} AS $$ {body} $$" for head, body in heads.items()]


def _micro(delta: pd.Timedelta) -> int:
    return delta // pd.Timedelta(microseconds=1)


def _on_grid(open_time: pd.Series, interval: str) -> np.ndarray[Any, Any]:
    step = _micro(interval_delta(interval))
    origin = interval_origin(interval).value // 1000
    return np.asarray((open_time.astype("int64") - origin) % step == 0)


def _plausible_close(open_time: pd.Series, close_time: pd.Series, interval: str) -> np.ndarray[Any, Any]:
    return np.asarray((close_time >= open_time) & (close_time < open_time + interval_delta(interval)))


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *columns: np.asarray(function.reduce([np.asarray(c, "float64") for c in columns]))  # type: ignore[attr-defined]


_FUNCTIONS: dict[str, Any] = {
    "greatest": _fold(np.fmax),
    "least": _fold(np.fmin),
    "on_grid": _on_grid,
    "plausible_close": _plausible_close,
}


def broken_rules(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Which row breaks which rule.

    Parameters
    ----------
    frame
        A candle frame.
    interval
        Interval that the candles claim to be of.

    Returns
    -------
    DataFrame of bool, shape (n_rows, n_rules)
        True where a rule is broken; the first columns, ``required`` and ``unique_open_time``,
        stand for the NOT NULL constraints and the key. Of equal rows the first keeps the key, of different
        rows of one time none: which of them is true is not known.
    """
    contract = load_contract()
    required = [c.name for c in contract.columns if c.required and c.name in COLUMNS]
    result = {"required": frame[required].isna().any(axis=1).to_numpy()}
    result["unique_open_time"] = _repeated(frame)
    for rule in contract.rules:
        result[rule.name] = ~_kept(rule, frame, interval)
    return pd.DataFrame(result, index=frame.index)


def _repeated(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Which rows have the time of another one, but the first of equal ones."""
    if frame["open_time"].is_unique:
        return np.zeros(len(frame), dtype=bool)
    equal = frame.duplicated()
    times = frame["open_time"].mask(equal)
    return np.asarray(equal | (times.duplicated(keep=False) & times.notna()))


def _names(rule: Rule) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(rule.predicate, mode="eval")) if isinstance(node, ast.Name)}


def _kept(rule: Rule, frame: pd.DataFrame, interval: str) -> np.ndarray[Any, Any]:
    tree, names = ast.parse(rule.predicate, mode="eval"), _names(rule)
    scope = {name: frame[name] for name in names & set(frame.columns)}
    code = compile(tree, CONTRACT_FILE, "eval")
    holds = np.asarray(eval(code, {"__builtins__": {}}, _FUNCTIONS | scope | {"interval": interval}))  # noqa: S307 - the predicate is ours, from the contract in the package
    return holds | _unknown(names, frame)


def _unknown(names: set[str], frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Rows in which a rule over these names cannot be checked, since a value is missing."""
    folded = {"least", "greatest"} & names
    unknown = np.logical_and.reduce if folded else np.logical_or.reduce
    return np.asarray(unknown([np.asarray(frame[name].isna()) for name in sorted(names & set(frame.columns))]))


def rule_results(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Contract results of a frame, rule by rule.

    Returns
    -------
    DataFrame
        ``rule``, ``description``, ``checked`` (rows whose values are known) and ``broken`` (rows).
    """
    broken = broken_rules(frame, interval)
    checked = {rule.name: int((~_unknown(_names(rule), frame)).sum()) for rule in load_contract().rules}
    words = {rule.name: rule.description for rule in load_contract().rules}
    words |= {"required": "No required value is missing.", "unique_open_time": "No open time comes twice."}
    return pd.DataFrame(
        {
            "rule": list(broken.columns),
            "description": [words[name] for name in broken.columns],
            "checked": [checked.get(name, len(frame)) for name in broken.columns],
            "broken": broken.sum().to_numpy(dtype="int64"),
        }
    )


def enforce_contract(frame: pd.DataFrame, interval: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the rows into those that satisfy every rule and those that break one.

    Returns
    -------
    good : DataFrame
        Rows that may be stored.
    bad : DataFrame
        The others, with ``rule``, the first rule that each breaks.
    """
    broken = broken_rules(frame, interval)
    is_bad = broken.any(axis=1)
    bad = frame[is_bad].assign(rule=broken[is_bad].idxmax(axis=1).astype(str))
    return frame[~is_bad].reset_index(drop=True), bad.reset_index(drop=True)
