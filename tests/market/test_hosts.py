"""What the exchange's refusals mean: its real error bodies, each to its own error."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pytest

from btcml.errors import BannedError, BtcmlError, LocationError, MarketError
from btcml.market.bans import LocalBans
from btcml.market.hosts import Hosts, RejectedError

NOW = pd.Timestamp("2026-01-01", tz="UTC")


def asked(status: int, body: str, headers: dict[str, str] | None = None, bans: LocalBans | None = None) -> Any:
    """Ask a server that always answers this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            """Keep silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        hosts = Hosts(
            [f"http://127.0.0.1:{server.server_port}"], bans, clock=lambda: NOW, sleep=lambda _: None, attempts=2
        )
        return hosts.ask("/api/v3/klines")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


REFUSALS = [
    (400, '{"code":-1121,"msg":"Invalid symbol."}', RejectedError, "Invalid symbol .code -1121."),
    (404, "<html>no</html>", MarketError, "refuses .HTTP 404."),
    (403, "", MarketError, "refuses .HTTP 403."),
    (418, '{"code":-1003,"msg":"IP banned until 1767226800000."}', BannedError, "until 2026-01-01 00:20:00 UTC"),
    (418, "", BannedError, "until 2026-01-01 00:10:00 UTC"),
    (451, "{}", LocationError, "data-api"),
    (500, '{"code":-1000,"msg":"unknown"}', MarketError, "out of order .HTTP 500."),
    (200, "[[1,", MarketError, "no JSON"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), REFUSALS)
def test_each_refusal_has_its_own_error(status: int, body: str, kind: type[BtcmlError], words: str) -> None:
    """One sentence, and the kind that decides the exit status."""
    if "1767226800000" in body:
        body = body.replace("1767226800000", str((NOW + pd.Timedelta("20min")).value // 10**6))
    with pytest.raises(kind, match=words) as caught:
        asked(status, body)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_ban_is_remembered_with_its_end_and_its_reason() -> None:
    """The longer of Retry-After and the body's own words."""
    told: list[tuple[Any, ...]] = []

    class Memory(LocalBans):
        def remember(self, host: str, until: pd.Timestamp, reason: str) -> None:
            """Remember, and tell the test."""
            told.append((until, reason.split(" from ", maxsplit=1)[0]))
            super().remember(host, until, reason)

    with pytest.raises(BannedError):
        asked(418, "{}", {"Retry-After": "3600"}, Memory())
    assert told == [(NOW + pd.Timedelta("1h"), "HTTP 418")]


def test_an_answer_is_its_json_and_tells_the_market() -> None:
    """Whoever does not say that he is a replay is the exchange."""
    assert asked(200, '{"serverTime": 5}') == {"serverTime": 5}
    with pytest.raises(MarketError, match="expected replay:NAME"):
        asked(200, "{}", {"X-Btcml-Market": "simulated"})


@pytest.mark.real
def test_the_real_error_bodies_are_understood(shared_data: Path) -> None:
    """Every body that users have reported ends in the right kind of error."""
    kinds = {400: RejectedError, 418: BannedError, 429: MarketError, 451: LocationError}
    for sample in json.loads((shared_data / "raw" / "errors" / "binance_error_bodies.json").read_text()):
        body = sample.get("body") or json.dumps({"code": sample["code"], "msg": sample["msg"]})
        if sample["http"] == 200:
            assert asked(200, body)["serverTime"] == 1669675351630
            continue
        with pytest.raises(kinds[sample["http"]]) as caught:
            asked(sample["http"], body)
        assert type(caught.value) is kinds[sample["http"]]
