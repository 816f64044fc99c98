"""A record whose files were written to deceive or to break its reader: script, audit and witness say what is wrong."""

from __future__ import annotations

import base64
import gzip
import os
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from btcml import record as form
from btcml.cli import main
from btcml.errors import BusyError, MarketError, StoreError, UsageError
from btcml.files import folder_lock
from btcml.market import transport
from btcml.pipeline.audit import audit_record, open_record, witness_record
from btcml.pipeline.publish import signing_key

from ..store.conftest import FIVE, TARGET  # noqa: TID252 - a short record
from .test_publish import (  # noqa: F401 - fixtures
    NOW,
    Others,
    faults,
    forged,
    found_by_all,
    published,
    rewrite,
    sealed,
    witnessed,
)

ROWS, NOTE = "forecasts/000000.csv", "forecasts/checkpoint"
LIST = "forecasts/checkpoints/000000.csv"
ROOT = base64.b64encode(b"x" * 32).decode()
TWO_KEYS = form.key_line("btcml/replay:record/BTCUSDT/5m/forecasts", bytes(32))
IN_ITS_FORM = "forecasts: a file is missing or cannot be read: not a checkpoint in the form that is signed"

FILES = {
    "another spelling of the size": (NOTE, "\n5\n", "\n05\n", IN_ITS_FORM),
    "digits of another script": (NOTE, "\n5\n", "\n\N{ARABIC-INDIC DIGIT FIVE}\n", IN_ITS_FORM),
    "a line that is not signed": (NOTE, "\n\n", "\nscore 1.0\n\n", IN_ITS_FORM),
    "a name that clears the screen": (NOTE, "btcml/", "\x1b[2Jbtcml/", IN_ITS_FORM),
    "a negative size in the list": (LIST, "\n5,", f"\n-5,{ROOT},2025-03-01T12:30:00+00:00,\n5,", "has the size -5"),
    "an empty log with a root": (LIST, "\n5,", f"\n0,{ROOT},2025-03-01T12:30:00+00:00,\n5,", "the first 0 rows are"),
    "a time that clears the screen": (LIST, "2025-03-01T12:30:00+00:00", "\x1b[2J", r"\x1b[2J"),
    "a time of no zone": (LIST, "12:30:00+00:00", "12:30:00", "at 2025-03-01T12:30:00"),
    "no newest checkpoint in the list": (LIST, "\n5,", "\n4,", "the newest checkpoint is not in the list"),
    "a second key": ("key", "", f"{TWO_KEYS}\n", "the file key has two keys of one log"),
    "a negative number": ("proof.json", '"forecasts": 5, "proven": 0', '"forecasts": -5, "proven": -5', "counts -5"),
    "a score of nobody": ("scores.json", '"rows"', '"sharpe": 9.0, "rows"', "has sharpe of horizon 1, the rows do not"),
    "a horizon that clears the screen": ("scores.json", '"1"', '"\\u001b[2J"', r"horizons \x1b[2J, the rows of 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_another_form_is_found_and_shown_as_text(published, name):  # noqa: F811 - the fixture
    """What two readers could read in two ways is no record, and nothing of it reaches a terminal as it is."""
    file, old, new, fault = FILES[name]
    rewrite(published.folder / file, old, new)
    found_by_all(published.folder, fault)
    assert all(one.isprintable() for one in faults(published.folder))


SPELLINGS = {
    "another zone": ("2025-03-01T12:10:00Z", "2025-03-01T14:10:00+02:00"),
    "no zone": ("2025-03-01T12:10:02Z", "2025-03-01T12:10:02"),
    "digits apart": (",104.03,", ",1_04.03,"),
    "spaces": (",104.03,", ", 104.03,"),
    "an exponent": (",104.03,", ",10403e-2,"),
    "a sign": ("\n3,", "\n+3,"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_row_has_one_spelling(published, monkeypatch, name):  # noqa: F811 - the fixture
    """The hash is of the values, the root of the line: in another spelling the page and other readers show another."""
    old, new = SPELLINGS[name]
    write = form.to_line
    monkeypatch.setattr(form, "to_line", lambda log, row: f"\n{write(log, row)}".replace(old, new).removeprefix("\n"))
    folder = forged(published)
    monkeypatch.undo()
    found_by_all(folder, "forecasts: row 3 is not written as a record writes it")


def test_a_file_has_no_more_lines_than_a_file_holds(published, monkeypatch):  # noqa: F811 - the fixture
    """Those after the last would be in no root."""
    monkeypatch.setattr(form, "TILE", 5)
    path = published.folder / ROWS
    path.write_text(f"{path.read_text(encoding='utf-8')}6\n", encoding="utf-8")
    found_by_all(published.folder, "forecasts/000000.csv has 6 lines, a file at most 5")


IMPOSSIBLE = {
    "an outcome without a close": ("outcomes", {"close": None}),
    "an outcome without an end": ("outcomes", {"close": float("inf")}),
    "another role": ("forecasts", {"role": "Champion"}),
    "another state": ("forecasts", {"status": "Sealed"}),
    "another version": ("forecasts", {"hash_version": 3}),
    "a candle behind": ("forecasts", {"horizon": -3}),
    "no last candle": ("forecasts", {"cutoff": None}),
    "a last candle after it": ("forecasts", {"cutoff": datetime.fromisoformat("2025-03-01T12:10Z")}),
    "a candle further ahead": ("forecasts", {"horizon": 12}),
    "a base below zero": ("forecasts", {"base": -1.0}),
    "a year before all exchanges": ("outcomes", {"open_time": datetime.fromisoformat("1600-01-01T00:00Z")}),
    "the end of all years": ("forecasts", {"open_time": datetime.fromisoformat("9999-12-31T23:55Z")}),
    "half an interval": ("forecasts", {"lo": 1.0}),
    "no number": ("forecasts", {"lo": float("nan"), "hi": float("nan")}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_value_that_the_database_refuses_is_found(published, monkeypatch, name):  # noqa: F811 - the fixture
    """Hashed and signed with the true key: such a row would count as no loss, or as a forecast further ahead."""
    log, values = IMPOSSIBLE[name]
    monkeypatch.setattr(form, "scores", lambda *_: {})
    folder = forged(published, lambda **rows: rows[log][2].update(values))
    monkeypatch.undo()
    found_by_all(folder, f"{log}: row 3 has values that no sealed row has")
    assert audit_record(open_record(str(folder)), (), Others(103.0)).faults == faults(folder)


def test_the_candles_of_the_other_source_are_those_that_are_compared(published):  # noqa: F811 - the fixture
    """Not all since a time that somebody has written into a row: the audit would not end."""
    asked = []

    class _Asked(Others):
        def fetch_candles(self, symbol, interval, start, end, on_page=None):
            asked.append((start, end))
            return super().fetch_candles(symbol, interval, start, end, on_page)

    def _change(forecasts, outcomes):  # noqa: ARG001 - the rows of a record
        forecasts[2]["cutoff"] = datetime.fromisoformat("2001-01-01T00:00Z")

    found = audit_record(open_record(str(forged(published, _change))), (), _Asked(103.0))
    assert (found.faults, found.compared) == ([], 5)
    assert asked == [(TARGET - FIVE, TARGET + 5 * FIVE)]


def test_a_forecast_that_is_made_later_than_its_horizon_is_found(published):  # noqa: F811 - the fixture
    """Three candles ahead, but made in the last of them: it knows two of the three."""

    def _change(forecasts, outcomes):  # noqa: ARG001 - the rows of a record
        for row in forecasts:
            row["horizon"], row["cutoff"] = 3, row["cutoff"] - (row["open_time"] - row["cutoff"]) * 2

    folder = forged(published, _change)
    found_by_all(folder, "forecasts: row 1 was made after the end of its candle, and is not marked late")
    row = form.verify_record(form.in_folder(published.folder)).forecasts[0]
    end = row["open_time"] + (row["open_time"] - row["cutoff"])
    early, late = [(1, row["made_at"])], [(1, end)]
    assert list(form.unproven([row], "5m", early)) == []
    assert list(form.unproven([row], "5m", late)) == [1]
    assert list(form.unproven([row | {"horizon": 2}], "5m", early)) == [1]


@pytest.mark.parametrize("what", ["a pipe", "a file without end"])
def test_what_is_no_file_or_too_large_is_not_read(published, what):  # noqa: F811 - the fixture
    """The reader would wait, or its memory be filled."""
    path = published.folder / ROWS
    path.unlink()
    os.mkfifo(path) if what == "a pipe" else path.write_bytes(b"")
    if path.is_file():
        os.truncate(path, form.LARGEST + 1)
    found_by_all(published.folder, "forecasts/000000.csv is no file, or has more than 268435456 bytes")


def test_a_record_that_a_version_control_has_written_is_consistent(published):  # noqa: F811 - the fixture
    """Other line ends in all files; not in the checkpoint that a witness keeps."""
    for path in (path for path in published.folder.rglob("*") if path.is_file() and path.suffix != ".py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert faults(published.folder) == []
    assert "\r" not in witness_record(open_record(str(published.folder)), published.home, "w", NOW)["checkpoints"][0]


def test_a_key_that_was_changed_is_found_with_an_older_checkpoint(published):  # noqa: F811 - the fixture
    """Whoever serves the folder can sign the same rows, and others after them, with a key of his own."""
    home, kept = witnessed(published)
    (published.home / "record.key").unlink()
    fault = (
        "the checkpoint of 5 rows of btcml/replay:record/BTCUSDT/5m/forecasts that was kept is not signed by the key "
        "of the record: ask the publisher whether the key is new"
    )
    found_by_all(forged(published), fault, kept, home=home)


@pytest.mark.parametrize("name", ["a b", "a+b", "", "a\nb", "a\N{NO-BREAK SPACE}b", "\x1b[2J"])
def test_a_witness_has_a_name_that_can_stand_in_a_signature(published, name):  # noqa: F811 - the fixture
    """Another one would make what it keeps unreadable."""
    with pytest.raises(UsageError, match="expected a name without spaces"):
        witness_record(open_record(str(published.folder)), published.home, name, NOW)
    assert not (published.home / "witness").exists()


def test_what_a_witness_has_kept_and_is_damaged_is_no_fault_of_the_record(published):  # noqa: F811 - the fixture
    """Its own file is named, and nothing replaces it; two processes do not write it at once."""
    home, _ = witnessed(published)
    read = open_record(str(published.folder))
    one, other = sorted((home / "witness").glob("*.txt"))
    honest = one.read_bytes()
    for damaged in (b"", honest[:50], b"\xff\xfe", bytes(100), other.read_bytes()):
        one.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"expected the kept checkpoint of a log in {one}"):
            witness_record(read, home, "w", NOW)
        assert one.read_bytes() == damaged
    one.write_bytes(honest)
    with folder_lock(home / "witness"), pytest.raises(BusyError, match="another process"):
        witness_record(read, home, "w", NOW)


def test_a_file_that_is_no_checkpoint_is_the_mistake_of_its_reader(published, tmp_path, capsys):  # noqa: F811
    """Not a fault of the record: exit status 2, and the file is named."""
    path = tmp_path / "kept"
    for content in (b"", b"\xff\xfe\0", b"# a page"):
        path.write_bytes(content)
        assert main(["audit", str(published.folder), "--since", str(path)]) == 2
        assert f"argument --since: expected a checkpoint, found something else in '{path}'" in capsys.readouterr().err
    assert main(["audit", str(published.folder), "--since", str(tmp_path)]) == 2


def test_a_signing_key_that_is_encrypted_is_one_sentence(tmp_path):
    """It cannot be used, and is not replaced."""
    from cryptography.hazmat.primitives import serialization as to  # noqa: PLC0415 - of an extra

    path = tmp_path / "record.key"
    key, secret = signing_key(path), to.BestAvailableEncryption(b"password")
    path.write_bytes(key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, secret))
    with pytest.raises(UsageError, match="expected an Ed25519 key in PEM"):
        signing_key(path)


class Server:
    """A web server that answers each request in one way."""

    def __init__(self, status, headers, chunks):
        class _Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for chunk in chunks:
                    self.wfile.write(chunk)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://user:secret@127.0.0.1:{self.server.server_address[1]}/record"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


ANSWERS = {
    "a bomb": (200, {"Content-Encoding": "gzip"}, "exceeds 0 MiB"),
    "another place": (
        302,
        {"Location": "http://10.0.0.1/\x1b[2J/key"},
        r"the record is at http://10.0.0.1/\\x1b\[2J: give",
    ),
    "overload": (429, {}, "answered with status 429: try again later"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_no_file_is_one_sentence(monkeypatch, name):
    """No other address is asked, memory is bounded, and a password in the address is not shown."""
    status, headers, sentence = ANSWERS[name]
    monkeypatch.setattr(transport, "_MAX_BYTES", 1000)
    with (
        Server(status, headers, [gzip.compress(bytes(100_000))]) as address,
        pytest.raises((MarketError, UsageError), match=sentence) as found,
    ):
        open_record(address)
    assert "secret" not in str(found.value)
    assert "\x1b" not in str(found.value)
