"""The chains of sealed forecasts and outcomes: every hash is recomputed in Python from the rows alone."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.record import broken_links, broken_rows
from btcml.store.engine import IN_SERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from btcml.store.engine import Store

    Row = Mapping[Any, Any]


@dataclass(frozen=True)
class ChainBreak:
    """Where a chain is not what it should be.

    Attributes
    ----------
    seq
        Sequence number of the row, or of the row that is missing.
    reason
        What is wrong there.
    of
        ``forecast`` or ``outcome``.
    """

    seq: int
    reason: str
    of: str = "forecast"

    def __str__(self) -> str:
        """Place and reason."""
        return f"breaks at {self.of} {self.seq}: {self.reason}"


def verify_chain(store: Store, key: SeriesKey, head: dict[str, str] | None = None) -> ChainBreak | None:
    """Recompute the chains of a series from their rows and return the first place where one breaks.

    The heads in the log of jobs must all be in it; forecasts and outcomes name each other's hashes; every final
    candle since the first forecast has an outcome, whose values are the candle's, or those of a revision.

    Parameters
    ----------
    head
        A head that was recorded earlier (``seq`` and ``hash``): the chain must still hold it,
        so that a truncated chain is detected.

    Returns
    -------
    ChainBreak or None
        None where both chains are intact.
    """
    queries = (_FORECASTS, _OUTCOMES, _LOST_HEADS, _UNSEALED)
    with store.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        found = [connection.execute(text(query), asdict(key)).mappings().all() for query in queries]
    forecasts, outcomes, lost, unsealed = found
    wanted = [("the recorded head is not in the chain", head)] if head else []
    wanted += [("a job recorded this head, and it is not in the chain", dict(row)) for row in lost]
    breaks = chain(
        _broken_rows("forecast", key, forecasts),
        (ChainBreak(int(row["seq"]), reason) for reason, row in wanted if not _holds(forecasts, row)),
        _broken_rows("outcome", key, outcomes),
        _broken_forecasts(key, forecasts, outcomes),
        _broken_outcomes(forecasts, outcomes),
        (
            ChainBreak(len(outcomes) + 1, f"the candle of {row['open_time']} has no outcome", "outcome")
            for row in unsealed
        ),
    )
    return next(breaks, None)


_CANDLE = ", ".join(f"{{0}}.{name}" for name in ("open", "high", "low", "close"))
_FORECASTS = f"""SELECT *, CASE WHEN market <> 'binance' THEN seal_time(market, written_at) END AS seal_time
FROM forecasts WHERE {IN_SERIES} ORDER BY seq"""
_REVISED = """EXISTS (
  SELECT FROM candle_revisions r WHERE r.market = o.market AND r.symbol = o.symbol AND r.interval = o.interval
  AND r.open_time = o.open_time{})"""
_OUTCOMES = f"""SELECT o.*, c.open_time IS NULL AS gone, {_REVISED.format("")} AS revised,
({_CANDLE.format("o")}) IS DISTINCT FROM ({_CANDLE.format("c")})
AND NOT {_REVISED.format(f" AND ({_CANDLE.format('r')}) = ({_CANDLE.format('o')})")} AS changed
FROM outcomes o LEFT JOIN candles c USING (market, symbol, interval, open_time) WHERE {IN_SERIES} ORDER BY seq"""
_LOST_HEADS = f"""SELECT (result -> 'heads' ->> 'seq')::bigint AS seq, result -> 'heads' ->> 'hash' AS hash
FROM jobs WHERE {IN_SERIES} AND result -> 'heads' ->> 'seq' IS NOT NULL AND NOT EXISTS (
  SELECT FROM forecasts f WHERE f.market = jobs.market AND f.symbol = jobs.symbol AND f.interval = jobs.interval
  AND f.seq = (result -> 'heads' ->> 'seq')::bigint AND f.hash = result -> 'heads' ->> 'hash')
ORDER BY 1 LIMIT 1"""
_UNSEALED = f"""SELECT open_time FROM candles c WHERE {IN_SERIES}
AND open_time >= (SELECT min(open_time) FROM forecasts WHERE {IN_SERIES})
AND (open_time < (SELECT max(open_time) FROM outcomes WHERE {IN_SERIES})
  OR open_time <= (SELECT market_now(:market) - 2 * interval_length(:interval)))
AND NOT EXISTS (SELECT FROM outcomes o WHERE o.market = c.market AND o.symbol = c.symbol
  AND o.interval = c.interval AND o.open_time = c.open_time) ORDER BY 1 LIMIT 1"""


def _broken_rows(of: str, key: SeriesKey, rows: Sequence[Row]) -> Iterator[ChainBreak]:
    return (ChainBreak(number, f"the row {reason}", of) for number, reason in broken_rows(f"{of}s", astuple(key), rows))


def _holds(rows: Sequence[Row], head: Row) -> bool:
    """Whether a chain without a hole has a row of this number and hash."""
    return 0 < int(head["seq"]) <= len(rows) and bool(rows[int(head["seq"]) - 1]["hash"] == head["hash"])


_AHEAD = timedelta(minutes=1)


def _broken_forecasts(key: SeriesKey, forecasts: Sequence[Row], outcomes: Sequence[Row]) -> Iterator[ChainBreak]:
    """Compare what was sealed since version 2 with the market's clock and the outcomes."""
    for number, reason in broken_links(forecasts, outcomes):
        yield ChainBreak(number, f"it {reason}")
    closes = {row["open_time"]: row["close"] for row in outcomes if not row["revised"]}
    for row in (row for row in forecasts if row["hash_version"] > 1):
        made, written = row["made_at"], row["written_at"]
        if made != row["seal_time"] if key.market != "binance" else not written <= made <= written + _AHEAD:
            yield ChainBreak(row["seq"], "its time is not that of the market's recorded clock")
        if row["base"] != closes.get(row["open_time"] - row["horizon"] * key.delta, row["base"]):
            yield ChainBreak(row["seq"], "its base is not the close of the candle before it")


def _broken_outcomes(forecasts: Sequence[Row], outcomes: Sequence[Row]) -> Iterator[ChainBreak]:
    for row in outcomes:
        scored = {"seq": row["forecast_seq"], "hash": row["forecast_hash"]}
        if scored["seq"] is not None and not _holds(forecasts, scored):
            yield ChainBreak(row["seq"], "the forecast that it scored is not in the chain", "outcome")
        if row["gone"]:
            yield ChainBreak(row["seq"], "its candle was deleted", "outcome")
        if row["changed"]:
            yield ChainBreak(row["seq"], "its candle was changed without a revision", "outcome")


def restated_outcomes(store: Store, key: SeriesKey) -> list[dict[str, Any]]:
    """List outcomes whose candle was restated since: the first final value scores, the newest is the candle's.

    Returns
    -------
    list of dict
        ``open_time``, ``scored`` and ``now`` (closes), and the newest revision's ``source`` and ``seen_at``; times
        in the form of ISO 8601.
    """
    rows = [row._asdict() for row in store.fetch(_RESTATED, asdict(key))]
    return [row | {name: row[name].isoformat() for name in ("open_time", "seen_at")} for row in rows]


_RESTATED = f"""SELECT o.open_time, o.close AS scored, c.close AS now, r.source, r.seen_at
FROM outcomes o JOIN candles c USING (market, symbol, interval, open_time) CROSS JOIN LATERAL (
  SELECT source, seen_at FROM candle_revisions r WHERE r.market = o.market AND r.symbol = o.symbol
  AND r.interval = o.interval AND r.open_time = o.open_time ORDER BY id DESC LIMIT 1) r
WHERE {IN_SERIES} AND ({_CANDLE.format("o")}) IS DISTINCT FROM ({_CANDLE.format("c")}) ORDER BY o.open_time"""


def chain_head(store: Store, key: SeriesKey) -> dict[str, str]:
    """Sequence number and hash of the newest sealed forecast; empty where there is none."""
    query = f"SELECT seq, hash FROM forecasts WHERE {IN_SERIES} ORDER BY seq DESC LIMIT 1"
    found = store.fetch(query, asdict(key))
    return {"seq": str(found[0].seq), "hash": str(found[0].hash)} if found else {}


def chain_keys(store: Store) -> list[SeriesKey]:
    """Keys of all series that have sealed forecasts or outcomes, or had some by the log of jobs."""
    return [SeriesKey(*row) for row in store.fetch(_CHAINS)]


_CHAINS = """SELECT market, symbol, interval FROM forecasts UNION SELECT market, symbol, interval FROM outcomes
UNION SELECT market, symbol, interval FROM jobs WHERE result -> 'heads' ->> 'seq' IS NOT NULL ORDER BY 1, 2, 3"""


def seal_faults(store: Store) -> list[str]:
    """Find what the seal rests on and is not as it should be: triggers, functions, and clocks that jumped."""
    ((digest, disabled),) = store.fetch(_GUARDS)
    faults = [f"the trigger {name} is disabled" for name in disabled or ()]
    if digest != GUARDS and not faults:
        faults = ["the triggers or functions of the schema btcml are not those of this version"]
    return faults + [
        f"the clock of {row.market} moved against now() at {row.origin_real}" for row in store.fetch(_JUMPS)
    ]


GUARDS = "6d929249d916f96beffdd0d57cf3bfb041bf59d83d5ca0b6838b5a0168c9b67e"
"""SHA-256 of all triggers and functions of the newest schema, but those of the data contract."""

_GUARDS = """SELECT
encode(sha256(convert_to(string_agg(part, E'\\n' ORDER BY part COLLATE "C"), 'UTF8')), 'hex') AS digest,
array_agg(DISTINCT disabled ORDER BY disabled) FILTER (WHERE disabled IS NOT NULL) AS disabled FROM (
  SELECT concat_ws(' ', c.relname, t.tgname, t.tgtype, t.tgenabled, p.proname) AS part,
    CASE t.tgenabled WHEN 'D' THEN t.tgname::text END AS disabled
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
  WHERE NOT t.tgisinternal AND c.relnamespace = 'btcml'::regnamespace
  UNION ALL
  SELECT concat_ws(' ', proname, prosecdef, proconfig, prosrc), NULL FROM pg_proc
  WHERE pronamespace = 'btcml'::regnamespace AND proname NOT IN ('on_grid', 'plausible_close')) parts"""
_JUMPS = "SELECT market, origin_real FROM market_clocks c WHERE clock_jumps(c) ORDER BY id"
