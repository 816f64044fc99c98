"""All errors of btcml, each with its exit status and HTTP status.

The tree::

    BtcmlError                      exit 1, HTTP 500
    ├── UsageError                  exit 2, HTTP 422   the caller's mistake
    │   └── SourceError             exit 2, HTTP 422   a file of candles that cannot be read
    ├── NotFoundError               exit 2, HTTP 404   no such job, model or snapshot
    ├── NotReadyError               exit 1, HTTP 409   no candles, stale candles, no training yet
    ├── ContractError               exit 1, HTTP 422   rows that break the data contract
    ├── MarketError                 exit 1, HTTP 502   the exchange failed
    │   ├── BannedError             exit 1, HTTP 503   banned until a known time
    │   └── LocationError           exit 1, HTTP 502   location not served (451)
    ├── BusyError                   exit 1, HTTP 409   another process holds the lock
    │   └── QueueFullError          exit 1, HTTP 503   too many jobs wait
    ├── StoreError                  exit 1, HTTP 503   the database failed
    ├── ArtifactError               exit 1, HTTP 500   a model file that is damaged or foreign
    └── ReportError                 exit 1, HTTP 500   a notebook or page that failed a check

Every message is one sentence: what was expected, what was found, what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class BtcmlError(Exception):
    """Base of all errors that btcml raises on purpose.

    Attributes
    ----------
    exit_code
        Exit status of the command line: 2 for the user's mistake, 1 for a failure.
    status
        HTTP status of the service.

    Examples
    --------
    >>> UsageError("days must be at least 1, found 0: give --days 90").exit_code
    2
    """

    exit_code = 1
    status = 500


class UsageError(BtcmlError):
    """A parameter that the caller can correct."""

    exit_code = 2
    status = 422


class SourceError(UsageError):
    """A file or folder of candles that is missing or cannot be read."""


class NotFoundError(BtcmlError):
    """A job, model, snapshot or page that does not exist."""

    exit_code = 2
    status = 404


class NotReadyError(BtcmlError):
    """A precondition is missing: no candles, stale candles or no training yet."""

    status = 409


class ContractError(BtcmlError):
    """Rows that break the data contract where none may."""

    status = 422


class MarketError(BtcmlError):
    """The exchange, its archive or the network failed."""

    status = 502


class BannedError(MarketError):
    """The exchange bans this address until a known time.

    Parameters
    ----------
    message
        The sentence for the user.
    until
        Timezone-aware end of the ban.
    """

    status = 503

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class LocationError(MarketError):
    """The exchange does not serve this location (HTTP 451)."""


class BusyError(BtcmlError):
    """Another process is doing the same work."""

    status = 409


class QueueFullError(BusyError):
    """Too many jobs of a kind wait.

    Parameters
    ----------
    message
        The sentence for the user.
    seconds
        When to try again.
    """

    status = 503

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class StoreError(BtcmlError):
    """The database cannot be reached, is of another version, or rejected a statement."""

    status = 503


class ArtifactError(BtcmlError):
    """A model file that is damaged, foreign, too old, or fails its self-check."""


class ReportError(BtcmlError):
    """A notebook that did not finish, a claim that does not hold, a page that cannot be built."""
