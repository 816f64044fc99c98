from __future__ import annotations

import socket

import requests
from fastapi import FastAPI

from btcml.serve import patience

from .conftest import Listening


def test_a_client_that_does_not_ask_is_cut_off(monkeypatch):
    """Half a head, and then nothing: the connection ends; others are answered."""
    monkeypatch.setattr(patience, "SLOWEST_S", 0.3)
    app = FastAPI()
    app.add_api_route("/health", lambda: {"status": "ok"})
    with Listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection((host, int(port)), timeout=20) as slow:
                slow.sendall(begun)
                assert slow.recv(100) == b""
        assert requests.get(url + "/health", timeout=20).status_code == 200
