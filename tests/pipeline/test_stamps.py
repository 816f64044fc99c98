"""Time stamps of a published record: what proves a forecast to be in time, and what only says so."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, product, repeat
from types import SimpleNamespace

import pandas as pd
import pytest

from btcml import record as form
from btcml.cli import main
from btcml.errors import NotReadyError, StoreError, UsageError
from btcml.files import folder_lock
from btcml.forecast.judge import CAVEAT
from btcml.pipeline import doctor, publish
from btcml.pipeline import stamps as stamping
from btcml.pipeline.audit import audit_record, open_record, witness_record
from btcml.pipeline.jobs import JobContext
from btcml.pipeline.publish import (
    _load_state,
    publish_all,
    publish_series,
    read_proof,
    signing_key,
    stamp_series,
)
from btcml.pipeline.schedule import Scheduler
from btcml.pipeline.stamps import request_stamp, stamp_checker, trusted_roots
from btcml.serve.prometheus import _proof_figures
from btcml.serve.routes import metrics
from btcml.store.candles import upsert_candles
from btcml.store.forecasts import append_forecasts

from ..authority import Authority  # noqa: TID252 - of all tests
from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand
from ..store.conftest import FIVE, RECORD, TARGET, one_candle, one_forecast  # noqa: TID252 - a short record
from ..store.conftest import record as sealed  # noqa: F401, TID252 - five forecasts with their outcomes
from .test_publish import NOW, rehashed, rewrite, tampered

FUTURE = pd.Timestamp("2099-01-01", tz="UTC")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """An authority that its readers trust."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here: these tests make their authority of it")
    with Authority(tmp_path_factory.mktemp("tsa") / "own").serving() as authority:
        yield authority


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """An authority of the same names, which nobody trusts."""
    with Authority(tmp_path_factory.mktemp("tsa") / "other").serving() as authority:
        yield authority


@pytest.fixture
def published(sealed, owner, own, tmp_path):  # noqa: F811 - the fixture
    """A stamped record: five forecasts of 2025 on a replay, whose candles have ended, and one of 2099."""
    own.mode, own.asked = "good", 0
    made = SimpleNamespace(store=sealed, home=tmp_path / "home", root=tmp_path / "records", authority=own)
    in_future(made, owner)
    made.folder = into(made, made.root)
    return made


def in_future(published, owner, step=0):
    """Seal a forecast whose candle ends long after the test, and its outcome."""
    now = FUTURE + step * FIVE
    turn_clock(owner, RECORD.market, now + pd.Timedelta("2s"))
    append_forecasts(published.store, RECORD, [one_forecast(now, 102.0)])
    turn_clock(owner, RECORD.market, now + FIVE + pd.Timedelta("2s"))
    upsert_candles(published.store, RECORD, one_candle(now, 101.0), source=RECORD.market, at=now + FIVE)


def into(published, root, authority=None):
    """Publish into a folder with stamps, and return that of the series."""
    url = (authority or published.authority).url
    (one,) = publish_all(published.store, published.home, root, NOW, url)
    return form.Path(one["folder"])


def by_script(folder, authority, *more):
    """Output of `verify.py`, run as an outsider does, and its exit status."""
    command = [
        sys.executable,
        "-I",
        "-S",
        folder / "verify.py",
        "--stamps",
        "all",
        "--authority",
        authority.root,
        *more,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout, done.returncode


def by_library(folder, authority, since=()):
    """What the audit finds."""
    read = open_record(str(folder))
    return audit_record(read, since, None, stamp_checker(read, authority.root))


def assert_found(folder, authority, fault):
    """The script, the audit and a witness name the same place."""
    said, status = by_script(folder, authority)
    assert status == 1
    assert fault in said
    assert any(fault in one for one in by_library(folder, authority).faults)
    with pytest.raises(StoreError, match=re.escape(fault)):
        witness_record(open_record(str(folder)), folder.parent / "witness", "w", NOW, authority.root)


def stamps(folder, log="forecasts"):
    return (folder / log / "stamps" / "000000.csv").read_text(encoding="utf-8").splitlines()[1:]


def test_a_stamp_before_the_end_of_the_candle_proves_a_forecast(published):
    """The five whose candles had ended are claimed; script, library, page, file and state agree."""
    said, status = by_script(published.folder, published.authority)
    assert status == 0, said
    assert "proven in time: 1 of 6 forecasts (16.7%); claimed: rows 1 to 5\n" in said
    assert "time stamps: 2, the authority of 2 of them checked\n" in said
    found = by_library(published.folder, published.authority)
    assert (found.faults, found.proven, found.claimed, found.checked) == ([], 1, [[1, 5]], 2)
    assert read_proof(published.root, RECORD) == {"forecasts": 6, "proven": 1, "claimed": [[1, 5]], "waiting": 0}
    page = (published.folder / "index.html").read_text(encoding="utf-8")
    assert "1 of 6 forecasts (16.6 %) are proven in time" in page
    assert page.count("<td class=proven>proven</td>") == 1
    assert page.count("<td>claimed</td>") == 5


def test_a_record_is_judged_with_what_its_stamps_prove(published, tmp_path, monkeypatch, capsys):
    """Its forecasts are 1 % too high; a record that was changed, or whose authority nobody trusts, is not judged."""
    monkeypatch.setenv("BTCML_HOME", str(tmp_path / "nowhere"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    closes = [one_candle(TARGET + step * FIVE, 101.0 + step) for step in range(-1, 6)]
    pd.concat(closes).to_csv(tmp_path / "BTCUSDT-5m.csv", index=False)
    judge = ["judge", str(published.folder), "--candles", str(tmp_path / "BTCUSDT-5m.csv"), "--json"]
    trusted = [*judge, "--authority", str(published.authority.root)]
    assert main(trusted) == 3
    facts = json.loads(capsys.readouterr().out)
    proof = "1 of 6 forecasts of the published record are proven in time"
    assert facts["caveat"] == f"{proof}; whether the others were made in time cannot be checked."
    row = next(row for row in facts["models"] if row["model"] == "replay:record/BTCUSDT/5m")
    assert (row["rows"], row["horizon"], row["mae_bp"]) == (5, 1, pytest.approx(1e4 * math.log(1.01)))
    (tmp_path / "late.csv").write_text("cutoff,open_time,y_hat\n2025-03-01 12:00,2025-03-01 12:05,101\n")
    assert main([judge[0], str(tmp_path / "late.csv"), *trusted[1:]]) == 3
    assert json.loads(capsys.readouterr().out)["caveat"].startswith(f"{CAVEAT} {proof}")
    assert main([*trusted, "--values", "return"]) == 2
    assert main(judge) == 1
    rewrite(published.folder / "forecasts" / "000000.csv", "102.01", "102.02")
    assert main(trusted) == 1
    assert "the record is not consistent: " in capsys.readouterr().err


def test_stamps_are_short_and_the_certificates_stand_once(published, owner):
    """At most 2 KB each; the authority is asked for certificates at the first stamp only."""
    assert published.authority.asked == 3
    in_future(published, owner, 1)
    into(published, published.root)
    assert published.authority.asked == 5
    assert max(map(len, stamps(published.folder) + stamps(published.folder, "outcomes"))) <= 2048
    assert (published.folder / "certificates.pem").read_text(encoding="utf-8").count("BEGIN CERTIFICATE") == 2


def test_a_stamp_is_on_the_checkpoint_as_it_stands(published, tmp_path):
    """Anybody can check it by hand: the stamped bytes are those of the file."""
    response = tmp_path / "stamp.tsr"
    response.write_bytes(base64.b64decode(stamps(published.folder)[0].split(",")[1]))
    command = ["openssl", "ts", "-verify", "-data", "forecasts/checkpoint", "-in", response, "-untrusted",
               "certificates.pem", "-CAfile", published.authority.root]  # fmt: skip
    done = subprocess.run(command, cwd=published.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("down", "answered with status 503: checkpoints wait"),
        ("garbage", "was refused, or cannot be read"),
        ("refusing", "was refused, or cannot be read"),
        ("again", "does not hold: Nonce mismatch"),
    ],
)
def test_an_answer_that_is_no_stamp_is_one_sentence(own, mode, words):
    """An authority that fails, another protocol, a refusal, and an answer to an earlier question."""
    own.mode = "good"
    _, known = request_stamp(own.url, 1, "note", [])
    assert request_stamp(own.url, 1, "note", known)[1] == known
    own.mode = mode
    with pytest.raises(NotReadyError, match=words):
        request_stamp(own.url, 1, "note", known)


def test_what_the_authority_does_not_stamp_waits(published, owner, settings, caplog):
    """It is told, it survives a restart, and the next turn stamps each checkpoint."""
    published.authority.mode = "down"
    for step in (1, 2, 3):
        in_future(published, owner, step)
        turn(published, settings)
    assert "stamping failed" in caplog.text
    told = {"forecasts": 9, "proven": 1, "claimed": [[1, 5], [7, 9]], "waiting": 6}
    assert read_proof(published.root, RECORD) == told
    said, status = by_script(published.folder, published.authority)
    assert (status, "proven in time: 1 of 9" in said) == (0, True)
    ours = scheduler_of(published, settings).context.settings
    (finding,) = doctor._record(ours, published.store)
    assert (finding.status, "1 of 9 published forecasts" in finding.found) == ("warn", True)
    assert "6 checkpoints wait for their stamp" in finding.found
    assert _proof_figures(published.root, RECORD) == {"proven_in_time": 1 / 9, "stamps_waiting": 6}
    answer = metrics(SimpleNamespace(settings=ours, store=published.store), RECORD, 20)
    assert answer == {"status": "empty", "items": [], "published": told}
    published.authority.mode = "good"
    turn(published, settings)
    assert read_proof(published.root, RECORD)["waiting"] == 0
    assert sorted(line.split(",")[0] for line in stamps(published.folder)) == ["6", "7", "8", "9"]
    assert stamps(published.folder)[1].startswith("9,")  # the newest proves most
    assert by_library(published.folder, published.authority).claimed == [[1, 5]]


def scheduler_of(published, settings):
    """A new scheduler that publishes into the folder of the record."""
    hosts = {"btcml_publish_dir": published.root, "btcml_tsa_url": published.authority.url}
    ours = settings.model_copy(update=hosts | {"btcml_home": published.home})
    scheduler = Scheduler(JobContext(ours, published.store, SimpleNamespace(market=RECORD.market)))
    scheduler.keys = [RECORD]
    return scheduler


def turn(published, settings):
    """One turn of a new scheduler, and of the stamping that it starts."""
    scheduler = scheduler_of(published, settings)
    scheduler._notify_all()
    scheduler._stamping.result(600)
    scheduler._end()


def test_neither_sealing_nor_publishing_waits_for_the_authority(published, owner, settings):
    """While it is asked and does not answer, the next forecast is sealed and published."""
    scheduler = scheduler_of(published, settings)
    published.authority.gate.clear()
    try:
        in_future(published, owner, 1)
        scheduler._notify_all()
        in_future(published, owner, 2)
        scheduler._notify_all()
        assert not scheduler._stamping.done()
        assert read_proof(published.root, RECORD)["forecasts"] == 8
    finally:
        published.authority.gate.set()
    scheduler._stamping.result(600)
    assert read_proof(published.root, RECORD)["proven"] == 2
    scheduler._notify_all()
    scheduler._stamping.result(600)
    assert read_proof(published.root, RECORD)["proven"] == 3
    scheduler._end()


def test_a_stamp_of_another_checkpoint_is_found(published, owner):
    """An old stamp, moved to a newer checkpoint."""
    in_future(published, owner, 1)
    into(published, published.root)
    old = stamps(published.folder)[0]
    rewrite(published.folder / "forecasts/stamps/000000.csv", stamps(published.folder)[1], old.replace("6,", "7,", 1))
    assert_found(published.folder, published.authority, "forecasts: stamp 2, on 7 rows, is of another checkpoint")


def test_a_stamp_after_the_close_proves_nothing(published):
    """The publisher says that all are proven; the stamps say which are not."""
    proof = published.folder / "proof.json"
    proof.write_text(json.dumps({"forecasts": 6, "proven": 6, "claimed": []}), encoding="utf-8")
    reason = "no stamp comes before the end of the first candle ahead"
    fault = f"forecasts: row 1 and 4 more said to be proven in time: {reason}"
    assert_found(published.folder, published.authority, fault)
    proof.write_text(json.dumps({"forecasts": 6, "proven": 6, "claimed": [[1, 5]]}), encoding="utf-8")
    fault = "proof.json counts 6 of 6 forecasts as proven, and lists 5 more"
    assert_found(published.folder, published.authority, fault)
    proof.write_text(json.dumps({"forecasts": 10**12, "proven": 10**12 - 5, "claimed": [[1, 5]]}), encoding="utf-8")
    assert_found(published.folder, published.authority, "proof.json counts 1000000000000 forecasts, the log has 6")


def test_a_rewritten_record_does_not_match_its_stamps(published, owner):
    """All hashes fit and the true key signs: the old stamps are of other checkpoints, and new ones come too late."""
    kept = published.folder / "forecasts"
    tampered(owner, "UPDATE forecasts SET close = base WHERE seq = 3")
    rehashed(owner)
    anew = form.Path(publish_series(published.store, published.home, published.root / "new", RECORD, NOW)["folder"])
    for name in ("certificates.pem", "proof.json", "forecasts/stamps/000000.csv"):
        (anew / name).parent.mkdir(exist_ok=True)
        shutil.copy(published.folder / name, anew / name)
    assert_found(anew, published.authority, "forecasts: stamp 1, on 6 rows, is of another checkpoint")
    note = (kept / "checkpoint").read_text(encoding="utf-8")
    fork = "forecasts: two checkpoints of 6 rows have different roots: a fork"
    assert fork in by_library(anew, published.authority, [note]).faults


def test_a_stamp_on_future_rows_proves_nothing(published):
    """A checkpoint of more rows than there are, with any root: stamped now, it would cover all later ones."""
    note = form.Checkpoint(f"btcml/{RECORD}/forecasts", 9, b"x" * 32)
    signer = signing_key(published.home / "record.key")
    raw = form.key_hash(note.origin, 1, signer.public_key().public_bytes_raw()) + signer.sign(note.body.encode())
    cells = ("9", base64.b64encode(note.root).decode(), NOW.isoformat(), base64.b64encode(raw).decode())
    with (published.folder / "forecasts/checkpoints/000000.csv").open("a", encoding="utf-8") as file:
        file.write(",".join(cells) + "\n")
    assert_found(published.folder, published.authority, "forecasts: 3 rows of a checkpoint in the list were cut off")


def test_a_stamp_of_an_unknown_authority_is_found(published, other):
    """Whoever publishes can run an authority with the names of the true one, and its root is in the record."""
    other.mode = "good"
    folder = into(published, published.root / "forged", other)
    assert read_proof(published.root / "forged", RECORD)["proven"] == 1
    fault = "forecasts: stamp 1, on 6 rows, is of an authority that is not trusted here"
    assert_found(folder, published.authority, fault)
    assert "proven in time: 0 of 6 forecasts" in by_script(folder, published.authority)[0]
    assert by_script(folder, other)[1] == 0
    assert by_library(folder, other).faults == []


def test_a_stamp_with_a_changed_time_or_certificates_of_its_own_is_found(published):
    """A later or earlier time breaks the signature; certificates in a stamp would be trusted by the library."""
    path = published.folder / "forecasts/stamps/000000.csv"
    size, response = stamps(published.folder)[0].split(",")
    raw = base64.b64decode(response)
    year = re.search(rb"\x18\x0f(20\d\d)", raw)[1]
    changed = base64.b64encode(raw.replace(b"\x18\x0f" + year, b"\x18\x0f2024", 1)).decode()
    rewrite(path, response, changed)
    assert_found(published.folder, published.authority, f"forecasts: stamp 1, on {size} rows, does not hold")
    rewrite(path, changed, base64.b64encode(raw[:-1]).decode())
    assert_found(published.folder, published.authority, f"forecasts: stamp 1, on {size} rows, cannot be read")
    note = (published.folder / "forecasts/checkpoint").read_bytes()
    with_own = asked_with_certificates(published.authority, note)
    rewrite(path, stamps(published.folder)[0], f"{size},{base64.b64encode(with_own).decode()}")
    fault, _ = by_library(published.folder, published.authority).faults
    assert fault == f"forecasts: stamp 1, on {size} rows, does not hold: it brings certificates of its own"


def test_a_lost_key_is_told_and_another_one_signs_both_logs(published):
    """A new one is made, but not used before its publisher says so; the stamps under the old one still hold."""
    (published.home / "record.key").unlink()
    with pytest.raises(
        UsageError, match=r"expected the key of \S+/key in \S+/record.key, found another one: restore it"
    ):
        into(published, published.root)
    assert by_library(published.folder, published.authority).faults == []
    (published.folder / "key").unlink()
    into(published, published.root)
    said, status = by_script(published.folder, published.authority)
    assert (status, "proven in time: 1 of 6" in said, "time stamps: 4, " in said) == (0, True, True)


_ECDSA = bytes.fromhex("06082a8648ce3d040302")
"""The name of the algorithm of the signature."""


@pytest.mark.filterwarnings("ignore:Attribute")
def test_a_stamp_with_any_byte_changed_is_named_or_proves_the_same(published):
    """The library parses some parts late, with errors of several kinds: none of them hides which stamp it was."""
    path, (line, *_) = published.folder / "forecasts/stamps/000000.csv", stamps(published.folder)
    raw = base64.b64decode(line.partition(",")[2])
    check = stamp_checker(form.in_folder(published.folder), published.authority.root)
    time = form.parse_stamp(6, raw).time
    for at, other in product(range(len(raw)), (0x01, 0x40, 0x80, 0xFF)):
        changed = raw[:at] + bytes([raw[at] ^ other]) + raw[at + 1 :]
        with contextlib.suppress(ValueError, IndexError):
            stamp = form.parse_stamp(6, changed)
            reason = check(stamp)
            assert reason or stamp.time == time
            assert not re.search(r"\{|: \d+$", reason)
    late = raw.replace(_ECDSA, b"\x1c" + _ECDSA[1:])
    rewrite(path, line, f"6,{base64.b64encode(late).decode()}")
    assert_found(published.folder, published.authority, "forecasts: stamp 1, on 6 rows, does not hold")


def test_two_stamps_on_one_checkpoint_are_checked_apart(tmp_path, monkeypatch):
    """They are checked at the same time: a valid answer must not stand in for a forged one."""
    at = NOW.to_pydatetime()
    checked = []
    monkeypatch.setattr(form, "_failure", lambda command: checked.append(form.Path(command[6])) or "")
    check = form.by_openssl("openssl", tmp_path, tmp_path)
    for response in (b"forged", b"valid"):
        check(form.Stamp(1, at, b"digest", response))
    assert [path.read_bytes() for path in checked] == [b"forged", b"valid"]


def asked_with_certificates(authority, note):
    """An answer that brings the authority's certificates."""
    (authority.folder / "note").write_bytes(note)
    authority._run("ts", "-query", "-data", "note", "-sha256", "-cert", "-out", "asked")
    return authority.answer((authority.folder / "asked").read_bytes())[1]


@pytest.mark.parametrize("name", ["proof.json", "scores.json", "forecasts/stamps/000000.csv"])
def test_a_file_that_is_damaged_proves_nothing(published, name):
    """One sentence, and nothing counts as proven by it."""
    (published.folder / name).write_text("{]", encoding="utf-8")
    said, status = by_script(published.folder, published.authority)
    assert (status, "scores.json or proof.json is missing or cannot be read" in said) == (1, True)
    assert ("proven in time: 0 of 6" in said) == name.endswith("csv")


@pytest.mark.parametrize("option", ["--since", "--authority"])
def test_a_file_that_is_not_there_is_one_sentence(published, option):
    """The script says which it expected."""
    command = [sys.executable, "-I", "-S", published.folder / "verify.py", option, "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sentence = f"verify.py: error: argument {option}: expected a file, found none at 'nowhere'"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, sentence)


def test_without_openssl_the_script_says_that_it_did_not_check(published, tmp_path):
    """The hashes, and which checkpoint a stamp is on, are checked all the same."""
    command = [sys.executable, "-I", "-S", published.folder / "verify.py", "--stamps", "all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
    assert done.returncode == 0, done.stdout
    assert "proven in time, if the time stamps hold: 1 of 6 forecasts" in done.stdout
    assert "time stamps: 2, the authority of 0 of them checked: openssl is not here\n" in done.stdout
    done = subprocess.run(command[:-2], capture_output=True, text=True, check=False)
    assert "the authority of 0 of them checked: --stamps all checks them\n" in done.stdout


@pytest.mark.parametrize("newest", [1, 2])
def test_the_newest_stamps_of_each_log_can_be_checked_alone(published, owner, newest):
    """As many as asked for."""
    in_future(published, owner, 1)
    into(published, published.root)
    said, status = by_script(published.folder, published.authority, "--stamps", str(newest))
    assert (status, f"time stamps: 4, the authority of {2 * newest} of them checked\n" in said) == (0, True)


def test_the_verbs_take_the_authority_of_the_settings(published, home, tmp_path, monkeypatch, capsys):
    """`publish` stamps, `audit` and `witness` check; a file without certificates is one sentence."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setenv("BTCML_TSA_URL", published.authority.url)
    shutil.rmtree(home / "witness", ignore_errors=True)  # of the record of another test
    assert main(["publish", str(tmp_path / "public"), "--json"]) == 0
    ((one,),) = [json.loads(capsys.readouterr().out)["records"]]
    assert (one["proven"], one["stamps"]) == (1, {"stamped": 2, "waiting": 0, "error": ""})
    assert main(["audit", one["folder"], "--authority", str(published.authority.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["in_time"] == {"proven": 1, "of": 6, "claimed": [[1, 5]]}
    assert main(["audit", one["folder"]]) == 1
    assert "give its root certificate by --authority" in capsys.readouterr().err
    assert main(["witness", one["folder"], "--authority", str(published.authority.root)]) == 0
    assert main(["audit", one["folder"], "--stamps", "0"]) == 2
    with pytest.raises(UsageError, match="expected certificates in PEM"):
        trusted_roots(published.folder / "key")
    assert signing_key(home / "record.key")


def test_a_record_without_an_authority_stays_claimed_until_it_has_one(sealed, owner, own, tmp_path):  # noqa: F811
    """The first stamp covers what was published before; nothing waits where no authority is set."""
    made = SimpleNamespace(store=sealed, home=tmp_path / "home", authority=own)
    own.mode = "good"
    in_future(made, owner)
    folder = form.Path(publish_series(sealed, made.home, tmp_path, RECORD, NOW)["folder"])
    assert read_proof(tmp_path, RECORD) == {"forecasts": 6, "proven": 0, "claimed": [[1, 6]], "waiting": 0}
    assert "None of the 6 forecasts is proven in time" in (folder / "index.html").read_text(encoding="utf-8")
    assert stamp_series(tmp_path, RECORD, own.url) == {"stamped": 2, "waiting": 0, "error": ""}
    assert read_proof(tmp_path, RECORD)["claimed"] == [[1, 5]]


@pytest.mark.parametrize("state", ["gone", "cut off", "of another time", "of one log"])
def test_a_folder_whose_state_was_lost_goes_on(published, owner, state):
    """The next call would write over its stamps, and what they prove could never be proven again."""
    in_future(published, owner, 1)
    into(published, published.root)
    path, before = published.folder / ".state.json", read_proof(published.root, RECORD)
    kept = {log: stamps(published.folder, log) for log in form.LOGS}
    said = json.loads(path.read_text(encoding="utf-8"))
    if state == "gone":
        path.unlink()
    else:
        older = {log: one | {"stamps": 1, "unstamped": [1], "covered": 6} for log, one in said.items()}
        one = {"outcomes": said["outcomes"]}
        found = {"cut off": "{", "of another time": json.dumps(older), "of one log": json.dumps(one)}
        path.write_text(found[state], encoding="utf-8")
    assert read_proof(published.root, RECORD) == before
    in_future(published, owner, 2)
    into(published, published.root)
    assert read_proof(published.root, RECORD) == {"forecasts": 8, "proven": 3, "claimed": [[1, 5]], "waiting": 0}
    assert all(stamps(published.folder, log)[:2] == kept[log] for log in form.LOGS)
    assert by_script(published.folder, published.authority)[1] == 0


def test_the_state_of_a_record_is_that_of_its_files(published, owner):
    """Whatever is derived from the files is what the calls before had counted."""
    in_future(published, owner, 1)
    into(published, published.root)
    path = published.folder / ".state.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    assert {log: one | {"shown": 2} for log, one in _load_state(published.folder).items()} == said


def test_damaged_files_of_a_record_are_one_sentence(published, settings, caplog):
    """In publishing and stamping, and in the log of the scheduler."""
    (published.folder / ".state.json").unlink()
    (published.folder / "forecasts/000000.csv").write_text("", encoding="utf-8")
    with pytest.raises(
        StoreError, match=r"found a damaged file \(forecasts/000000.csv does not begin with its columns\)"
    ):
        into(published, published.root)
    with pytest.raises(StoreError, match="restore it, or use an empty folder"):
        stamp_series(published.root, RECORD, published.authority.url)
    scheduler_of(published, settings)._notify_all()
    assert "publishing failed" in caplog.text


def test_a_stamp_is_kept_although_the_folder_is_being_published(published, owner, monkeypatch):
    """It waits for the lock: another stamp of the next turn could come after the end of the candle."""
    in_future(published, owner, 1)
    publish_series(published.store, published.home, published.root, RECORD, NOW, stamped=True)
    tried = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with folder_lock(published.folder):
            one = publish.folder_lock
            monkeypatch.setattr(publish, "folder_lock", lambda *args, **options: tried.set() or one(*args, **options))
            done = pool.submit(stamp_series, published.root, RECORD, published.authority.url)
            assert tried.wait(600)
            wait([done], timeout=0.5)  # long enough for a call that does not wait
        assert done.result(600)["stamped"] == 2


@contextlib.contextmanager
def in_pieces(authority, *, endless):
    """Address of a server that passes an authority's answers on in pieces, or never to the end."""

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            query = self.rfile.read(int(self.headers["Content-Length"]))
            body = b"" if endless else authority.answer(query)[1]
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            pieces = repeat(b"0") if endless else (body[at : at + 50] for at in range(0, len(body), 50))
            with contextlib.suppress(OSError):
                for piece in chain(pieces, [b""]):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    time.sleep(0.01)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_answer_may_come_in_pieces_but_not_without_end(own, monkeypatch):
    """A proxy may cut an answer as it likes; one that never ends is not waited for."""
    own.mode = "good"
    with in_pieces(own, endless=False) as url:
        assert request_stamp(url, 1, "note", [])[0].size == 1
    monkeypatch.setattr(stamping, "_TIMEOUT_S", 0.5)
    late = "did not (complete its response in 0.5 s|answer in time): checkpoints wait"
    with in_pieces(own, endless=True) as url, pytest.raises(NotReadyError, match=late):
        request_stamp(url, 1, "note", [])
