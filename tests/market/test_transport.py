"""One GET: whole or refused, within its time, and tried again a bounded number of times."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from btcml.market.transport import Reply, TransientError, fetch_reply, host_of, new_session, with_retries


@contextmanager
def server(*pieces: bytes, pause: float = 0.0) -> Iterator[str]:
    """Serve raw bytes to one connection, then close it."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    stop.wait(pause)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stop.set()
        thread.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"


def test_a_complete_response_is_returned() -> None:
    """Status, headers in any case, and every byte."""
    with server(HEAD + b"0123456789") as url:
        reply = fetch_reply(new_session(), url)
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"0123456789", "10")


@pytest.mark.parametrize(
    ("pieces", "pause", "timeout", "words"),
    [
        ((HEAD + b"012",), 0.0, 600, "closed the connection early"),
        ((), 0.0, 600, "closed the connection early"),
        ((HEAD, *(bytes([c]) for c in b"0123456789")), 1.0, 3, "did not complete its response in 3 s"),
        ((b"HTTP/1.1 200 OK\r\n",), 600, 0.5, "did not answer in time"),
    ],
)
def test_an_incomplete_or_late_response_is_transient(
    pieces: tuple[bytes, ...], pause: float, timeout: float, words: str
) -> None:
    """Cut off, empty, dripping, silent: each is named, each may be tried again."""
    with server(*pieces, pause=pause) as url, pytest.raises(TransientError, match=words):
        fetch_reply(new_session(), url, timeout=timeout)


def test_a_host_that_is_not_there_is_named() -> None:
    """No server listens there."""
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9 refused the connection"):
        fetch_reply(new_session(), "http://127.0.0.1:9/", timeout=2)


def test_retries_are_bounded_jittered_and_never_shorter_than_requested() -> None:
    """Four tries, three pauses, each at least as long as the server asked for."""
    slept: list[float] = []
    tried: list[int] = []

    def work() -> Reply:
        tried.append(1)
        raise TransientError("no", wait=2.0)  # noqa: EM101 - a test's

    with pytest.raises(TransientError, match="no"):
        with_retries(work, 4, slept.append)
    assert len(tried) == 4
    assert len(slept) == 3
    assert min(slept) >= 2


def test_any_other_error_is_not_tried_again() -> None:
    """A mistake stays a mistake."""
    tried: list[int] = []

    def work() -> Reply:
        tried.append(1)
        raise KeyError

    with pytest.raises(KeyError):
        with_retries(work, 4, lambda _: None)
    assert len(tried) == 1


def test_seconds_of_a_header_are_a_number_or_nothing() -> None:
    """Retry-After may be absent or a date."""
    reply = Reply(429, {"Retry-After": "7", "Other": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"")
    assert (reply.seconds("Retry-After"), reply.seconds("Other"), reply.seconds("None")) == (7.0, None, None)
    assert host_of("http://127.0.0.1:8090/api") == "127.0.0.1:8090"
