"""What has been sealed in a series, as a published record needs it: new rows, scores and the newest forecasts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from btcml import record
from btcml.store.engine import IN_SERIES
from btcml.store.forecasts import FIGURES, SCORES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from btcml.candles import SeriesKey
    from btcml.store.engine import Store


class Sealed(NamedTuple):
    """What was sealed, all as it was at one moment.

    Attributes
    ----------
    heads
        Hash of the row at the given size of each log; None where there is none.
    rows
        Rows of each log after it, ascending.
    scores
        By horizon, as `btcml.record.scores` computes them.
    newest
        The newest 200 forecasts with their outcomes, newest first.
    """

    heads: dict[str, str | None]
    rows: dict[str, Sequence[Mapping[Any, Any]]]
    scores: dict[str, dict[str, float]]
    newest: Sequence[Mapping[Any, Any]]


def read_sealed(store: Store, key: SeriesKey, sizes: Mapping[str, int]) -> Sealed:
    """Read what was sealed after the given number of rows of each log."""
    with store.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:

        def _fetch(query: str, log: str = "") -> Sequence[Mapping[Any, Any]]:
            return connection.execute(text(query), asdict(key) | {"size": sizes.get(log, 0)}).mappings().all()

        heads = {log: _fetch(f"SELECT hash FROM {log} WHERE {IN_SERIES} AND seq = :size", log) for log in record.LOGS}
        after = f"WHERE {IN_SERIES} AND seq > :size ORDER BY seq"
        rows = {
            log: _fetch(f"SELECT {', '.join(names)} FROM {log} {after}", log) for log, names in record.SEALED.items()
        }
        scores, newest = _fetch(SCORES), _fetch(_NEWEST)
    return Sealed(
        {log: found[0]["hash"] if found else None for log, found in heads.items()},
        rows,
        {str(row["horizon"]): {name: row[name] for name in FIGURES if row[name] is not None} for row in scores},
        newest,
    )


_NEWEST = f"""SELECT seq, open_time, horizon, role, model, close, lo, hi, real_close, status, made_at
FROM forecasts_scored WHERE {IN_SERIES} ORDER BY seq DESC LIMIT 200"""
