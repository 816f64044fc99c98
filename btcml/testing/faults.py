"""Faults that the replay exchange injects on demand, request by request.

A file of faults is YAML or JSON: a list (or ``{"faults": [...]}``) of objects such as::

    - {kind: rate_limit, after: 2, retry_after: 3}
    - {kind: bad_row, rule: high_is_highest, row: 5, times: 2}
    - {kind: restated, start: 2025-06-01T00:00Z, end: 2025-06-01T02:00Z, after: 4, times: 0}

``kind`` is one of `KINDS`. ``after`` requests of the fault's route pass without it (default 0), then
``times`` requests have it (default 1; 0: all that follow). ``route`` is ``klines``, ``time``,
``archive``, ``checksum`` or ``any`` and has a default by kind. The rest depends on the kind:

=================== =========================================================================
rate_limit          429 with ``retry_after`` seconds (1)
ban                 418 with ``retry_after`` seconds (120); everything is 418 until it ends
location            451
server_error        503 with a page of HTML
reset               half of the body, then a TCP reset
truncated           half of the body, as if it were whole
not_json            200 with a page of HTML
drip                the body in ten pieces over ``seconds`` (30)
duplicated          every row of the page twice
repeated            the answer of the request before, once more
overlapping         the page begins ``rows`` (10) candles too early
unordered           the rows of the page in a scrambled order
bad_row             row ``row`` (0) breaks ``rule``, one of `RULES`
hole                ``rows`` (3) rows from ``row`` (1) on are missing
partial             the last two candles of the page are served unfinished
restated            candles with open time in [start, end) have other values; route ``any``: in files too
clock               the exchange's clock is off by ``seconds`` (positive: ahead)
wrong_checksum      the archive's checksum is another file's
truncated_zip       half of a zip of the archive
missing             404 for a file of the archive
=================== =========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from btcml.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


Row = list[Any]
"""One kline as it is served: twelve fields."""

_ROUTES = {
    "wrong_checksum": "checksum",
    "truncated_zip": "archive",
    "missing": "archive",
    "clock": "any",
}

KINDS: tuple[str, ...] = (
    *("rate_limit", "ban", "location", "server_error", "reset", "truncated", "not_json", "drip"),
    *("duplicated", "repeated", "overlapping", "unordered", "bad_row", "hole", "partial", "restated", "clock"),
    *("wrong_checksum", "truncated_zip", "missing"),
)
"""Every kind of fault."""

RULES: dict[str, dict[int, Any]] = {
    "text_price": {4: "n/a"},
    "short_row": {},
    "null_time": {0: None},
    "positive_prices": {1: "-1.0", 3: "-1.0"},
    "plausible_prices": {2: "1e16"},
    "high_is_highest": {2: "0.00000001"},
    "low_is_lowest": {3: "99999999.0"},
    "volume_not_negative": {5: "-1.0"},
    "amounts_not_negative": {7: "-1.0"},
    "taker_within_volume": {9: "99999999999.0"},
    "taker_within_quote_volume": {10: "9999999999999.0"},
    "open_time_on_grid": {0: 7001},
    "close_time_plausible": {6: -864_000_000},
}
"""Rules of the contract that `bad_row` can break: the fields that it writes (times: added ms)."""


_TIMES = {0, 6}
_MICROSECONDS = 10**14


class Fault(BaseModel):
    """One fault; see the module's table.

    Examples
    --------
    >>> Fault(kind="ban", retry_after=300).on
    'klines'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal[KINDS]  # type: ignore[valid-type]
    route: Literal["klines", "time", "archive", "checksum", "any"] | None = None
    after: int = Field(0, ge=0)
    times: int = Field(1, ge=0)
    retry_after: float | None = Field(None, ge=0)
    seconds: float = 30.0
    row: int = Field(1, ge=0)
    rows: int = Field(3, ge=1)
    rule: Literal[tuple(RULES)] = "high_is_highest"  # type: ignore[valid-type]
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None

    @property
    def on(self) -> str:
        """Route whose requests it counts."""
        return self.route or _ROUTES.get(self.kind, "klines")


class FaultBook:
    """The faults of one exchange and how often each was passed.

    Parameters
    ----------
    faults
        In order: of several that are due, the first is injected and the others wait, except
        ``restated`` and ``clock``, which combine with any other.
    """

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        """Add faults while the exchange runs; their requests count from now."""
        self._faults += faults
        self._seen += [0] * len(faults)

    def due(self, route: str) -> list[Fault]:
        """Count a request of a route and return the faults that apply to it."""
        due: list[Fault] = []
        alone = False
        for i, fault in enumerate(self._faults):
            if fault.on not in {route, "any"}:
                continue
            together = fault.kind in {"restated", "clock"}
            past = self._seen[i] - fault.after
            active = past >= 0 and (fault.times == 0 or past < fault.times)
            if active and alone and not together:
                continue
            self._seen[i] += 1
            if active:
                due.append(fault)
                alone = alone or not together
        return due


def parse_faults(data: Any) -> tuple[Fault, ...]:
    """Check the content of a file of faults.

    Raises
    ------
    UsageError
        If it is of another form; the sentence names the place.
    """
    entries = data.get("faults", data) if isinstance(data, dict) else data
    try:
        return tuple(TypeAdapter(list[Fault]).validate_python(entries))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        msg = f"the file of faults has an error at {place}: {first['msg']}"
        raise UsageError(msg) from error


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Faults of a YAML or JSON file (YAML reads both).

    Raises
    ------
    UsageError
        If the file is missing or of another form.
    """
    try:
        return parse_faults(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"the file of faults {path} cannot be read: {str(error).splitlines()[0]}"
        raise UsageError(msg) from error


def spoil_rows(rows: list[Row], fault: Fault) -> list[Row]:
    """Apply a fault of content to the rows of a page; other kinds leave them as they are.

    Examples
    --------
    >>> spoil_rows([[1], [2], [3], [4], [5]], Fault(kind="hole", row=1, rows=2))
    [[1], [4], [5]]
    """
    i, j = fault.row, fault.row + fault.rows
    changes: dict[str, Callable[[], list[Row]]] = {
        "duplicated": lambda: [row for row in rows for _ in range(2)],
        "unordered": lambda: rows[1::2] + rows[::2][::-1],
        "hole": lambda: rows[:i] + rows[j:],
        "bad_row": lambda: rows[:i] + [_break(row, fault.rule) for row in rows[i : i + 1]] + rows[i + 1 :],
        "partial": lambda: rows[:-2] + [_unfinished(row) for row in rows[-2:]],
        "restated": lambda: [_restate(row) if _within(row, fault) else row for row in rows],
    }
    return changes.get(fault.kind, lambda: rows)()


def _break(row: Row, rule: str) -> Row:
    if rule == "short_row":
        return row[:6]
    broken = list(row)
    for i, value in RULES[rule].items():
        broken[i] = row[i] + value if i in _TIMES and value is not None else value
    return broken


def _within(row: Row, fault: Fault) -> bool:
    opened = row[0] / (1000 if row[0] < _MICROSECONDS else 10**6)
    return (fault.start is None or opened >= fault.start.timestamp()) and (
        fault.end is None or opened < fault.end.timestamp()
    )


def _restate(row: Row) -> Row:
    """More volume and a lower low, as in the exchange's restatement of April 2021."""
    low, volume = repr(float(row[3]) * 0.999), repr(float(row[5]) * 1.01)
    return [*row[:3], low, row[4], volume, *row[6:]]


def _unfinished(row: Row) -> Row:
    """Its first trades only, as in a candle in progress."""
    small = {i: repr(round(float(row[i]) * 0.01, 5)) for i in (5, 7, 9, 10)}
    return [small.get(i, row[1] if i in {2, 3, 4} else value) for i, value in enumerate(row)]
