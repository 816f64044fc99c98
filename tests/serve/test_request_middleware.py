from __future__ import annotations

import gzip
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import requests
from fastapi import FastAPI, Response

from btcml.serve import request_middleware
from btcml.serve.request_middleware import MAX_BODY_BYTES, RequestMiddleware, ResponseCache, RootPath

from ..processes import WAIT_S, until  # noqa: TID252 - of all tests
from .conftest import Listening


class Changes:
    """What a listener of the database knows."""

    alive, number = True, 0

    def version(self, *_tables):
        return (self.number,)


@pytest.fixture(params=["", "/below"])
def kept(request):
    """A service with one kept route, which counts its computations and waits where it is told to."""
    app, changes = FastAPI(), Changes()
    state = SimpleNamespace(count=0, status=200, go=threading.Event(), begun=threading.Event())
    state.go.set()

    @app.get("/kept")
    def compute():
        state.count += 1
        state.begun.set()
        assert state.go.wait(WAIT_S)
        body = b"a long response " * 200
        return Response(body, state.status, media_type="text/plain", headers={"ETag": f'"{changes.number}"'})

    app.state.service = SimpleNamespace(changes=changes)
    app.add_middleware(ResponseCache, paths={"/kept"})
    if request.param:
        app.add_middleware(RootPath, path=request.param)
    app.add_middleware(RequestMiddleware)
    with Listening(app) as url:
        yield SimpleNamespace(url=url + request.param, state=state, changes=changes)


def test_a_response_is_computed_once_until_a_table_changes(kept):
    """And anew for another query, after a change, and while changes cannot be heard."""
    for query, count in (("", 1), ("", 1), ("?n=1", 2), ("", 2)):
        assert requests.get(f"{kept.url}/kept{query}", timeout=WAIT_S).text == "a long response " * 200
        assert kept.state.count == count
    kept.changes.number += 1
    requests.get(f"{kept.url}/kept", timeout=WAIT_S)
    assert kept.state.count == 3
    kept.changes.alive = False
    for count in (4, 5):
        requests.get(f"{kept.url}/kept", timeout=WAIT_S)
        assert kept.state.count == count


def test_a_change_during_the_computation_is_not_missed(kept):
    """What was read before the change is answered, and not kept."""
    kept.state.go.clear()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(requests.get, f"{kept.url}/kept", timeout=WAIT_S)
        assert kept.state.begun.wait(WAIT_S)
        kept.changes.number += 1
        kept.state.go.set()
        assert first.result().status_code == 200
    requests.get(f"{kept.url}/kept", timeout=WAIT_S)
    assert kept.state.count == 2


def test_clients_that_ask_at_once_share_one_computation(kept):
    """The dashboards of several visitors ask for the same right after a candle."""
    kept.state.go.clear()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(requests.get, f"{kept.url}/kept", timeout=WAIT_S) for _ in range(4)]
        assert kept.state.begun.wait(WAIT_S)
        kept.state.go.set()
        assert [answer.result().status_code for answer in waiting] == [200] * 4
    assert kept.state.count == 1


def test_an_error_is_not_kept(kept):
    """It may be over a moment later."""
    for status, count in ((409, 1), (200, 2), (200, 2)):
        kept.state.status = status
        assert requests.get(f"{kept.url}/kept", timeout=WAIT_S).status_code == status
        assert kept.state.count == count


def test_a_kept_response_is_compressed_once_for_those_who_want_it(kept):
    """304 to its ETag, whichever of the two the client has."""
    plain = requests.get(f"{kept.url}/kept", headers={"Accept-Encoding": "identity"}, timeout=WAIT_S)
    packed = requests.get(f"{kept.url}/kept", headers={"Accept-Encoding": "gzip"}, stream=True, timeout=WAIT_S)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.raw.read(decode_content=False)) == plain.content
    for encoding in ("identity", "gzip"):
        headers = {"Accept-Encoding": encoding, "If-None-Match": '"x", W/"0"'}
        again = requests.get(f"{kept.url}/kept", headers=headers, timeout=WAIT_S)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"0"')
        assert "content-length" not in again.headers


def test_the_oldest_responses_make_room(kept, monkeypatch):
    """Whatever queries come, the memory has a bound."""
    monkeypatch.setattr(request_middleware, "_MAX_KEPT_BYTES", 7000)
    for query in ("?n=1", "?n=2", "?n=3", "?n=3", "?n=1"):
        requests.get(f"{kept.url}/kept{query}", headers={"Accept-Encoding": "identity"}, timeout=WAIT_S)
    assert kept.state.count == 4


def test_head_answers_what_get_does_without_the_body(service):
    """On every reading route."""
    described = service.get("/openapi.json").json()["paths"]
    paths = [path for path, operations in described.items() if "get" in operations and "{" not in path]
    assert len(paths) > 12
    for path in [*paths, "/docs", "/openapi.json", "/jobs/999999", "/nowhere"]:
        head = requests.head(service.url + path, headers={"Accept-Encoding": "identity"}, timeout=WAIT_S)
        get = service.get(path, headers={"Accept-Encoding": "identity"})
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
    assert requests.head(service.url + "/predict", timeout=WAIT_S).status_code == 405


def chunks(size, count):
    """A body whose length is not announced."""
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("path", ["/predict", "/health"])
def test_a_body_of_unknown_length_has_the_same_limit(service, path):
    """413 with a problem document above it; below it the request is answered."""
    method = requests.post if path == "/predict" else requests.get
    answer = method(service.url + path, data=chunks(1000, MAX_BODY_BYTES // 1000 + 1), timeout=WAIT_S)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
    assert str(MAX_BODY_BYTES) in answer.json()["detail"]
    assert method(service.url + path, data=chunks(1000, 60), timeout=WAIT_S).status_code == 200


def test_a_body_of_unknown_length_that_does_not_come_is_refused(service, monkeypatch):
    """408 after ten seconds; here after a tenth."""
    monkeypatch.setattr(request_middleware, "BODY_TIMEOUT_S", 0.1)
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_was_read_is_given_to_the_application():
    """Byte for byte, then what comes after it."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: request_middleware.Request):
        return Response(await request.body())

    app.add_middleware(RequestMiddleware)
    with Listening(app) as url:
        assert requests.post(url + "/echo", data=chunks(1000, 60), timeout=WAIT_S).content == b"x" * 60_000


def test_a_scheduler_at_work_is_reported_by_health(service):
    """Health itself asks nothing: the listener does, every few seconds."""
    assert service.get("/health").json() == {"status": "ok", "scheduler": False}
    query = (
        "INSERT INTO jobs (kind, market, symbol, interval, asked_by, status, started_at, finished_at) "
        "VALUES ('ingest', 'simulated', 'BTCUSDT', '5m', 'scheduler', 'ok', now(), now()) RETURNING id"
    )
    with service.store.engine.begin() as connection:
        connection.exec_driver_sql(query)
    until(lambda: service.get("/health").json()["scheduler"])
