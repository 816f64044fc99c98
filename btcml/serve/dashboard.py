"""The dashboard: one widget whose module draws everything; this side only asks the API for it.

`show` is all that the notebook calls. Importing this module loads neither pandas nor scikit-learn,
because every visitor has a kernel of their own.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from btcml import __version__
from btcml.serve.dashboard_assets import module_text, style_text
from btcml.serve.dashboard_client import ROUTES, Client, Outcome
from btcml.serve.dashboard_reports import find_report

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Dashboard", "show"]

_THREADS = 6
_WRONG_PASSWORD_S = 1.0
_SLEEP_S = 600


class Dashboard(anywidget.AnyWidget):
    """The whole page as one widget.

    Parameters
    ----------
    client
        Asks the API.
    environment
        Where the settings of the page come from, as variables.

    Notes
    -----
    The page sends ``{id, ask, query, etag}`` and is answered ``{id, code, status, detail, request_id}``
    with the API's JSON as a buffer. ``ask`` is a name of `ROUTES`, or ``hello``, ``unlock``, ``report``.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)

    def __init__(self, client: Client, environment: Mapping[str, str]) -> None:
        own_page = environment.get("BTCML_DASHBOARD_PAGE") == "1"  # it loads the files itself
        super().__init__(_esm="" if own_page else module_text(), _css="" if own_page else style_text())
        self._client, self._environment = client, environment
        self._password = environment.get("BTCML_DASHBOARD_PASSWORD", "")
        self.locked = environment.get("BTCML_DASHBOARD_LOCKED") == "1"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="btcml-ask")
        self._sending = threading.Lock()
        self.on_msg(lambda _, content, __: self._threads.submit(self._reply, content))

    def _reply(self, content: Any) -> None:
        """Answer one message of the page; what it sends is not trusted."""
        question = content if isinstance(content, dict) else {}
        query = question.get("query")
        name, query = str(question.get("ask", "")), query if isinstance(query, dict) else {}
        facts, body = self.answer(name, query, str(question.get("etag") or ""))
        with self._sending:
            self.send({"id": question.get("id")} | facts, [body] if body else None)

    def answer(self, name: str, query: Mapping[str, Any], etag: str = "") -> tuple[dict[str, Any], bytes]:
        """Facts and body of the answer to a question of the page."""
        own = {"hello": self._hello, "unlock": self._unlock, "report": self._report}
        if name in own:
            return {"code": "ok", "status": 200} | own[name](query), b""
        if name in ROUTES and ROUTES[name].changes and self.locked:
            return {"code": "locked", "status": 401}, b""
        try:
            outcome = self._client.ask(name, query, etag=etag)
        except Exception as error:  # noqa: BLE001 - a spinner for ever would be worse
            outcome = Outcome("problem", detail=f"unexpected {type(error).__name__} in the dashboard: {error}")
        facts = {key: value for key, value in vars(outcome).items() if key != "body"}
        return facts, outcome.body

    def _hello(self, _: Mapping[str, Any]) -> dict[str, Any]:
        environment = self._environment
        symbols = [name.strip() for name in environment.get("BTCML_SYMBOLS", "BTCUSDT").split(",") if name.strip()]
        return {
            "version": __version__,
            "symbols": symbols,
            "interval": environment.get("BTCML_INTERVAL", "5m"),
            "api": environment.get("BTCML_API_PUBLIC_URL") or self._client.url,
            "documents": environment.get("BTCML_DOCUMENTS", ""),
            "adminer": environment.get("BTCML_ADMINER_URL", ""),
            "locked": self.locked,
            "password": bool(self._password),
            "sleep_s": int(environment.get("BTCML_DASHBOARD_SLEEP") or _SLEEP_S),
        }

    def _unlock(self, query: Mapping[str, Any]) -> dict[str, Any]:
        given = str(query.get("password", ""))
        if self._password and hmac.compare_digest(given.encode(), self._password.encode()):
            self.locked = False
        elif self.locked:
            time.sleep(_WRONG_PASSWORD_S)  # guessing takes for ever
        return {"locked": self.locked}

    def _report(self, query: Mapping[str, Any]) -> dict[str, Any]:
        facts = {name: str(query.get(name, "")) for name in ("market", "symbol", "interval", "start", "end")}
        return find_report(self._environment.get("BTCML_REPORTS_DIR", ""), **facts)


def show() -> Dashboard:
    """Make the dashboard of this kernel, from ``API_BASE_URL`` and ``BTCML_API_KEY``."""
    url = os.environ.get("API_BASE_URL") or "http://127.0.0.1:8000"
    return Dashboard(Client(url, os.environ.get("BTCML_API_KEY") or None), dict(os.environ))
