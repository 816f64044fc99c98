"""Hear from the database that something is new, so that nothing is asked for twice in vain."""

from __future__ import annotations

import logging
import select
import threading
from typing import TYPE_CHECKING

import psycopg2

from btcml.errors import StoreError

if TYPE_CHECKING:
    from btcml.store.engine import Store

__all__ = ["Watch"]

_log = logging.getLogger("btcml.serve")
_PAUSE_S = 1.0


class Watch:
    """A thread that listens to the database's notices and counts them by table.

    Parameters
    ----------
    store
        The database.

    Attributes
    ----------
    alive
        Whether the database is heard; while it is not, nobody may trust a cache.
    """

    def __init__(self, store: Store) -> None:
        self._store, url = store, store.engine.url
        self._where = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
        self._stop = threading.Event()
        self._changes: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="btcml-watch", daemon=True)
        self.alive = False

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and wait until it has stopped."""
        self._stop.set()
        self._thread.join(timeout=5)

    def version(self, *tables: str) -> tuple[int, ...]:
        """Return a value that differs after any of the tables has changed."""
        return (self._changes.get("", 0), *(self._changes.get(table, 0) for table in tables))

    def touch(self, table: str = "") -> None:
        """Count a change; without a table, of everything."""
        self._changes[table] = self._changes.get(table, 0) + 1

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except psycopg2.Error as error:
                _log.warning("the database is not heard: %s", str(error).strip())
            self.alive = False
            self.touch()
            if not self._stop.wait(_PAUSE_S):
                self._revive()

    def _revive(self) -> None:
        """Start a server of our own again where it has died."""
        try:
            self._store.restart_server()
        except StoreError as error:
            _log.warning("not yet: %s", error)

    def _listen(self) -> None:
        connection = psycopg2.connect(**self._where)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("LISTEN btcml")
            self.touch()  # whatever was missed before
            self.alive = True
            while not self._stop.is_set():
                if select.select([connection], [], [], 0.5)[0]:
                    connection.poll()
                    while connection.notifies:
                        self.touch(connection.notifies.pop(0).payload)
        finally:
            connection.close()
