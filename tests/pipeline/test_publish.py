"""A published record: what an outsider can check, and the ways in which its owner could cheat."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from sqlalchemy import text

from btcml import files
from btcml import record as form
from btcml.candles import SeriesKey, as_candles
from btcml.cli import main
from btcml.errors import MarketError, NotReadyError, StoreError, UsageError
from btcml.pipeline import doctor
from btcml.pipeline.audit import audit_record, open_record, witness_record
from btcml.pipeline.jobs import JobContext
from btcml.pipeline.publish import _extend, _load_state, public_key, publish_all, publish_series, signing_key
from btcml.pipeline.schedule import Scheduler
from btcml.store.candles import upsert_candles
from btcml.store.forecasts import append_forecasts

from ..replayed import turn_clock  # noqa: TID252 - a clock that is turned by hand
from ..store.conftest import FIVE, RECORD, TARGET, one_candle, one_forecast  # noqa: TID252 - a short record
from ..store.conftest import record as sealed  # noqa: F401, TID252 - five forecasts with their outcomes

NOW = pd.Timestamp("2025-03-01 12:30", tz="UTC")


@pytest.fixture
def published(sealed, tmp_path):  # noqa: F811 - the fixture
    """The record of five forecasts and its home."""
    made = SimpleNamespace(store=sealed, home=tmp_path / "home", root=tmp_path / "records")
    made.folder = into(made, made.root)
    return made


def into(published, root):
    """Publish into a folder, and return that of the series."""
    return Path(publish_series(published.store, published.home, root, RECORD, NOW)["folder"])


def again(published):
    """Publish into the same folder."""
    return publish_series(published.store, published.home, published.root, RECORD, NOW)


def one_more(store, owner, step=5):
    """Seal another forecast and its outcome."""
    now = TARGET + step * FIVE
    turn_clock(owner, RECORD.market, now + pd.Timedelta("2s"))
    append_forecasts(store, RECORD, [one_forecast(now, 107.0, 100.0 + step)])
    turn_clock(owner, RECORD.market, now + FIVE + pd.Timedelta("2s"))
    upsert_candles(store, RECORD, one_candle(now, 101.0 + step), source=RECORD.market, at=now + FIVE)


def faults(folder, *since):
    return form.verify_record(form.in_folder(folder), since).faults


def found_by_all(folder, fault, *since, home=None):
    """The script, the audit and a witness, who may have seen the record before, name the same place."""
    assert any(fault in one for one in faults(folder, *since))
    assert any(fault in one for one in audit_record(open_record(str(folder)), since).faults)
    with pytest.raises(StoreError, match="not cosigned"):
        witness_record(open_record(str(folder)), home or folder.parent / "witness", "w", NOW)


def forged(published, change=None, names=form.LOGS):
    """Folder of a record whose rows were changed, hashed and signed again with the true key; all its files agree."""
    found = form.verify_record(form.in_folder(published.folder))
    rows = {"forecasts": found.forecasts, "outcomes": found.outcomes}
    if change:
        change(**rows)
    last = dict.fromkeys(rows, "")

    def _seal(log, row):
        row["previous"] = last[log]
        last[log] = row["hash"] = form.row_hash(log, astuple(RECORD), row)

    for number, forecast in enumerate(rows["forecasts"], 1):
        _seal("forecasts", forecast | {"seq": number, "outcome": last["outcomes"]})
        forecast.update(seq=number, outcome=last["outcomes"], hash=last["forecasts"])
        for outcome in (row for row in rows["outcomes"] if row["forecast_seq"] == number):
            outcome.update(seq=rows["outcomes"].index(outcome) + 1, forecast_hash=last["forecasts"])
            _seal("outcomes", outcome)
    folder, signer = published.root / "forged", signing_key(published.home / "record.key")
    state = _load_state(folder)
    for log, name in zip(form.LOGS, names, strict=True):
        _extend(folder, f"btcml/{RECORD}/{name}", state[log], rows[log], signer, NOW.isoformat())
    keys = [form.key_line(f"btcml/{RECORD}/{name}", public_key(signer)) for name in names]
    size = len(rows["forecasts"])
    proof = {"forecasts": size, "proven": 0, "claimed": [[1, size]]}
    (folder / "key").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    (folder / "scores.json").write_text(json.dumps(form.scores(*rows.values())), encoding="utf-8")
    (folder / "proof.json").write_text(json.dumps(proof), encoding="utf-8")
    return folder


def witnessed(published):
    """Folder of a witness who has cosigned the record as it stands, and a checkpoint that a reader kept."""
    home = published.root / "seen"
    witness_record(open_record(str(published.folder)), home, "w", NOW)
    return home, (published.folder / "forecasts" / "checkpoint").read_text(encoding="utf-8")


def rewrite(path, old, new):
    """Change a file as its owner could."""
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new, 1), encoding="utf-8")


def tampered(owner, *statements):
    """Run statements as a superuser with the triggers disabled."""
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement))


def rehashed(owner):
    """Make all hashes of the forecasts fit again, as whoever owns the database can."""
    tampered(
        owner,
        """DO $$ DECLARE f forecasts; o outcomes; last_f text := ''; last_o text := ''; BEGIN
        FOR f IN SELECT * FROM forecasts ORDER BY seq LOOP
          f.previous := last_f; f.outcome := last_o; f.hash := forecast_digest(f); last_f := f.hash;
          UPDATE forecasts SET previous = f.previous, outcome = f.outcome, hash = f.hash WHERE seq = f.seq;
          SELECT * INTO o FROM outcomes WHERE seq = f.seq;
          o.previous := last_o; o.forecast_hash := f.hash; o.hash := outcome_digest(o); last_o := o.hash;
          UPDATE outcomes SET previous = o.previous, forecast_hash = f.hash, hash = o.hash WHERE seq = o.seq;
        END LOOP; END $$""",
    )


def test_an_honest_record_is_consistent_and_its_scores_are_those_of_the_rows(published):
    """Python without btcml agrees; the error of a forecast that is 1 % too high is 99.5 bp."""
    assert faults(published.folder) == []
    command = [sys.executable, "-I", "-S", published.folder / "verify.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first = "forecasts: 5 rows, the newest sealed 2025-03-01T12:20:02Z, its checkpoint signed 2025-03-01T12:30:00+00:00"
    assert done.stdout.splitlines()[0] == first
    assert "proven in time: 0 of 5 forecasts (0.0%); claimed: rows 1 to 5\n" in done.stdout
    assert "mae_bp 99.5033" in done.stdout
    assert done.stdout.endswith("consistent\n")
    page = (published.folder / "index.html").read_text(encoding="utf-8")
    assert "://" not in page
    assert "larger than that of the forecast" in page
    assert (published.home / "record.key").stat().st_mode & 0o077 == 0


def test_an_older_python_is_one_sentence(published):
    """Not an import that fails: the system of an outsider may have Python 3.10."""
    code = "import runpy, sys; sys.version_info = (3, 10, 12); runpy.run_path(sys.argv[1], run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", code, published.folder / "verify.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("expected Python 3.11 or newer, found ")


def test_publishing_after_one_candle_writes_only_what_changed(published, owner):
    """Nothing new: no file of a log is touched. One more: the logs grow, and the old checkpoint still holds."""
    files = sorted(path for path in published.folder.rglob("*") if path.parent != published.folder)
    before = {path: path.stat().st_mtime_ns for path in files}
    kept = (published.folder / "forecasts" / "checkpoint").read_text(encoding="utf-8")
    assert again(published)["new"] == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before
    one_more(published.store, owner)
    done = again(published)
    assert (done["forecasts"], done["outcomes"], done["new"]) == (6, 6, 2)
    assert faults(published.folder, kept) == []
    lines = (published.folder / "forecasts/checkpoints/000000.csv").read_text(encoding="utf-8").splitlines()
    sizes = [line.split(",")[0] for line in lines]
    assert sizes == ["size", "5", "6"]


def test_files_that_are_full_stay_as_they_are(published, owner, monkeypatch):
    """With four lines a file, the sixth row goes into the second file."""
    monkeypatch.setattr(form, "TILE", 4)
    folder = into(published, published.root / "small")
    full = (folder / "forecasts" / "000000.csv").stat().st_mtime_ns
    one_more(published.store, owner)
    into(published, published.root / "small")
    assert (folder / "forecasts" / "000000.csv").stat().st_mtime_ns == full
    assert len((folder / "forecasts" / "000001.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert faults(folder) == []


@pytest.mark.parametrize("lost", ["forecasts/000000.csv", "forecasts/checkpoint", "scores.json", ".state.json"])
def test_the_next_call_completes_an_interrupted_one(published, owner, lost):
    """Whatever was written last: with the state of before, the next call writes the rest again."""
    state = (published.folder / ".state.json").read_text(encoding="utf-8")
    one_more(published.store, owner)
    again(published)
    if lost == ".state.json":
        (published.folder / lost).write_text(state, encoding="utf-8")
    else:
        copied = published.folder / lost
        (published.folder / ".state.json").write_text(state, encoding="utf-8")
        copied.write_text(copied.read_text(encoding="utf-8"), encoding="utf-8")
    assert again(published)["new"] == 2
    assert faults(published.folder) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_call_that_is_interrupted_at_any_file_is_completed_by_the_next(published, owner, monkeypatch, first):
    """A kill or a full disk: after each number of files, of a first call and of a later one."""
    old = published.root / "old"
    if not first:
        shutil.copytree(published.folder, old)
        one_more(published.store, owner)
    replace, written = files.replaced_file, iter(())

    def _replaced(path):
        if next(written, None) is None:
            raise InterruptedError
        return replace(path)

    for done in count():
        root = published.root / str(done)
        folder = root.joinpath(*astuple(RECORD))
        if not first:
            shutil.copytree(old, folder)
        with monkeypatch.context() as patched, suppress(InterruptedError):
            written = iter(range(done))
            patched.setattr(files, "replaced_file", _replaced)
            into(published, root)
            break
        found = form.verify_record(form.in_folder(folder))
        assert ("copy the record again" in form.summary(found)) == bool(found.faults)
        into(published, root)
        assert faults(folder) == []
        assert {path.name for path in folder.iterdir()} == {path.name for path in published.folder.iterdir()}
    assert done > 8


def test_temporary_files_of_a_killed_call_go_with_the_next_and_others_stay(published, owner):
    """Version control would publish them."""
    names = ("key", ".state.json", "forecasts/checkpoint", "outcomes/000000.csv")
    killed = [files.replaced_file(published.folder / name) for name in names]
    left = [one.__enter__() for one in killed]
    others = [published.folder / name for name in (".nojekyll", ".htaccess.disabled", "forecasts/.checkpoint.old")]
    for path in others:
        path.touch()
    one_more(published.store, owner)
    again(published)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)
    assert faults(published.folder) == []


def test_a_key_that_other_users_can_read_is_told(published, settings):
    """Whoever copies it can sign another record."""
    ours, key = settings.model_copy(update={"btcml_home": published.home}), published.home / "record.key"
    assert doctor._record(ours, published.store) == []
    key.chmod(0o640)
    (finding,) = doctor._record(ours, published.store)
    assert (finding.status, str(key) in finding.found) == ("warn", True)
    assert finding.cure.startswith(f"chmod 600 {key}")


ATTACKS = {
    "a price": (lambda row: row | {"close": row["close"] + 0.01}, "row 3 does not match its hash"),
    "a time": (lambda row: row | {"made_at": row["made_at"] - FIVE}, "row 3 does not match its hash"),
    "a number": (lambda row: row | {"seq": 9}, "row 3 is missing"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_changed_row_is_found_and_located(published, name):
    """In the file, under the signed checkpoint."""
    change, sentence = ATTACKS[name]
    path = published.folder / "forecasts" / "000000.csv"
    line = path.read_text(encoding="utf-8").splitlines()[3]
    row = form.from_line("forecasts", line)
    assert form.to_line("forecasts", row) == line
    rewrite(path, line, form.to_line("forecasts", change(row)))
    found_by_all(published.folder, f"forecasts: {sentence}")
    found_by_all(published.folder, "forecasts: the first 5 rows are not those of the checkpoint of that size")


def test_a_removed_row_a_cut_tail_and_a_later_row_are_found(published):
    """One losing forecast less, the last two less, one more at the end of the outcomes."""
    path = published.folder / "forecasts" / "000000.csv"
    honest = path.read_text(encoding="utf-8")
    lines = honest.splitlines()
    path.write_text("\n".join(lines[:2] + lines[3:]) + "\n", encoding="utf-8")
    found_by_all(published.folder, "forecasts: row 2 is missing")
    path.write_text("\n".join(lines[:-2]) + "\n", encoding="utf-8")
    found_by_all(published.folder, "forecasts: row 4 is missing of 5 in the checkpoint")
    path.write_text("\n".join([*lines[:3], lines[3].replace("champion", "challenger"), *lines[3:]]), encoding="utf-8")
    found_by_all(published.folder, "forecasts: row 3 does not match its hash")
    path.write_text(honest + lines[-1].replace("5,", "6,", 1) + "\n", encoding="utf-8")
    found_by_all(published.folder, "forecasts: row 6 is not in the checkpoint: it was added later")
    path.write_text(honest, encoding="utf-8")
    assert faults(published.folder) == []


def second_outcome(forecasts, outcomes):  # noqa: ARG001 - the rows of a record
    outcomes.append(outcomes[2] | {"close": 104.0, "forecast_seq": 5})


def second_forecast(forecasts, outcomes):
    forecasts.insert(4, dict(forecasts[4]) | {"close": 105.0, "model": "other"})
    outcomes[4]["forecast_seq"] = 6


def test_only_a_newline_ends_a_row(published):
    """What Python alone takes for the end of a line would hide a row from other readers of the file."""
    path = published.folder / "forecasts/000000.csv"
    honest = path.read_bytes()
    path.write_bytes(honest.replace(b"\n", b"\r\n"))
    assert faults(published.folder) == []
    head, one, two = honest.split(b"\n", 2)
    path.write_bytes(head + b"\n" + one + "\N{LINE SEPARATOR}".encode() + two)
    found_by_all(published.folder, "forecasts: a file is missing or cannot be read: a line has 47 cells")


def made_after_the_end(forecasts, outcomes):  # noqa: ARG001 - the rows of a record
    forecasts[2]["made_at"] += FIVE


CONTRADICTIONS = {
    second_outcome: "outcomes: row 6 is the second of its candle",
    second_forecast: "forecasts: row 6 is the second of its candle",
    made_after_the_end: "forecasts: row 3 was made after the end of its candle, and is not marked late",
}


@pytest.mark.parametrize("change", CONTRADICTIONS)
def test_rows_that_the_database_would_refuse_are_found(published, change):
    """All hashes and signatures are right: a candle that is scored twice, and a forecast of the past."""
    folder = forged(published)
    assert faults(folder) == []
    shutil.rmtree(folder)
    found_by_all(forged(published, change), CONTRADICTIONS[change])


def test_another_name_of_a_log_is_found(published):
    """The hashes of its rows would be the same, and a witness would have no older checkpoint of it."""
    home, _ = witnessed(published)
    folder = forged(published, names=("copy/forecasts", "outcomes"))
    fault = "forecasts: the checkpoint is of another log, btcml/replay:record/BTCUSDT/5m/copy/forecasts"
    found_by_all(folder, fault, home=home)


def test_the_length_of_a_candle_is_that_of_the_signed_name(published):
    """Not that of the first line of keys, which nobody signs: a longer candle would prove more."""
    key = form.key_line("btcml/replay:record/BTCUSDT/15m/forecasts", bytes(32))
    path = published.folder / "key"
    path.write_text(f"{key}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    assert faults(published.folder) == []


def test_every_checkpoint_that_was_kept_or_listed_is_compared(published, owner):
    """Two of one log, the first of them of a fork; and two of one size in the list."""
    honest = (published.folder / "forecasts/checkpoint").read_text(encoding="utf-8")
    tampered(owner, "UPDATE forecasts SET close = base WHERE seq = 3")
    rehashed(owner)
    fork = into(published, published.root / "fork")
    other = (fork / "forecasts/checkpoint").read_text(encoding="utf-8")
    fault = "forecasts: two checkpoints of 5 rows have different roots: a fork"
    assert faults(published.folder, other, honest) == [fault]
    lines = (fork / "forecasts/checkpoints/000000.csv").read_text(encoding="utf-8").splitlines()
    with (published.folder / "forecasts/checkpoints/000000.csv").open("a", encoding="utf-8") as file:
        file.write(f"{lines[1]}\n")
    found_by_all(published.folder, fault)


def test_a_witness_cosigns_what_it_verified(published, owner):
    """Not the checkpoint of a fork that the server shows at the first request only."""
    honest = (published.folder / "forecasts/checkpoint").read_text(encoding="utf-8")
    tampered(owner, "UPDATE forecasts SET close = base WHERE seq = 3")
    rehashed(owner)
    shown = [(into(published, published.root / "fork") / "forecasts/checkpoint").read_bytes()]
    read = form.in_folder(published.folder)

    def _read(name):
        return shown.pop() if shown and name == "forecasts/checkpoint" else read(name)

    done = witness_record(_read, published.root / "seen", "w", NOW)
    assert shown == []
    assert done["checkpoints"][0].startswith(honest)
    (published.folder / "forecasts/checkpoint").write_text("nothing", encoding="utf-8")
    with pytest.raises(StoreError, match="not cosigned: forecasts: a file is missing or cannot be read"):
        witness_record(read, published.root / "seen", "w", NOW)


def test_a_record_that_grows_while_it_is_read_is_consistent(published, owner):
    """The script may run for seconds, and the publisher does not wait for it."""
    read, later = form.in_folder(published.folder), [lambda: (one_more(published.store, owner), again(published))]

    def _read(name):
        if later and name == "outcomes/000000.csv":
            later.pop()()
        return read(name)

    found = form.verify_record(_read)
    assert (found.faults, found.sizes) == ([], {"forecasts": 6, "outcomes": 6})


def test_a_key_or_row_that_cannot_be_read_is_a_finding(published):
    """Whatever stands there."""
    key = published.folder / "key"
    keys = key.read_text(encoding="utf-8")
    key.write_text(f"name+{form.key_hash('name', 1, b'').hex()}+\n", encoding="utf-8")
    found_by_all(published.folder, "no public key")
    key.write_text(keys, encoding="utf-8")
    proof = published.folder / "proof.json"
    said = proof.read_text(encoding="utf-8")
    proof.write_text("[" * 100_000, encoding="utf-8")
    found_by_all(published.folder, "scores.json or proof.json is missing or cannot be read")
    proof.write_text(said, encoding="utf-8")
    note = published.folder / "outcomes/checkpoint"
    signed = note.read_text(encoding="utf-8")
    note.write_text("", encoding="utf-8")
    found_by_all(published.folder, "outcomes: a file is missing or cannot be read: not a checkpoint")
    note.write_text(signed, encoding="utf-8")
    rewrite(published.folder / "outcomes/000000.csv", "2025-03-01T12:00:00Z", "0001-01-01T00:00:00+23:00")
    found_by_all(published.folder, "outcomes: a file is missing or cannot be read")


def test_a_rewritten_database_is_refused_and_found_with_an_older_checkpoint(published, owner):
    """All hashes fit, and the true key signs: only an older checkpoint tells."""
    home, kept = witnessed(published)
    tampered(owner, "UPDATE forecasts SET close = base WHERE seq = 3")
    rehashed(owner)
    with pytest.raises(StoreError, match="row 5 of the forecasts"):
        again(published)
    new = into(published, published.root / "new")
    assert faults(new) == []
    found_by_all(new, "forecasts: two checkpoints of 5 rows have different roots: a fork", kept, home=home)
    one_more(published.store, owner)
    into(published, published.root / "new")
    assert any("two checkpoints" in fault or "first 5 rows" in fault for fault in faults(new, kept))


def test_candles_that_are_said_to_be_longer_are_found(published):
    """The end of a candle would come later, and a late stamp before it; the name of a log has the interval."""
    read = form.in_folder(published.folder)
    found = form.verify_record(read)
    form._verify_claims(read, found, "15m", None, None)
    assert found.faults[:2] == [f"forecasts: row {number} is not of a candle of 15m" for number in (2, 3)]
    assert "outcomes: row 5 is not of a candle of 15m" in found.faults


def test_the_last_rows_cut_off_are_found_with_an_older_checkpoint(published, owner):
    """A shorter record is consistent in itself."""
    home, kept = witnessed(published)
    tampered(
        owner,
        "DELETE FROM forecasts WHERE seq > 3", "DELETE FROM outcomes WHERE seq > 3",
        "DELETE FROM candles WHERE open_time > (SELECT max(open_time) FROM outcomes)",
    )  # fmt: skip
    new = into(published, published.root / "new")
    assert faults(new) == []
    found_by_all(new, "forecasts: 2 rows of the kept checkpoint were cut off", kept, home=home)


def test_a_row_that_breaks_the_chain_is_not_published(published, owner):
    """The row is named, and the folder stays as it was."""
    one_more(published.store, owner)
    tampered(owner, "UPDATE forecasts SET close = close + 1 WHERE seq = 6")
    with pytest.raises(StoreError, match="row 6 of the forecasts of replay:record"):
        again(published)
    assert faults(published.folder) == []


def test_other_scores_and_another_signature_are_found(published):
    """A better mean error, and a checkpoint that another key has signed."""
    path = published.folder / "scores.json"
    scores = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"1": scores["1"] | {"mae_bp": 1.0}}), encoding="utf-8")
    assert ["has mae_bp 1.0 of horizon 1" in fault for fault in faults(published.folder)] == [True]
    found_by_all(published.folder, "has mae_bp 1.0 of horizon 1")
    path.write_text(json.dumps(scores), encoding="utf-8")
    note = published.folder / "outcomes" / "checkpoint"
    found, ((_, raw),) = form.parse_note(note.read_text(encoding="utf-8"))
    other = signing_key(published.home / "other.key").sign(found.body.encode())
    rewrite(note, base64.b64encode(raw).decode(), base64.b64encode(raw[:4] + other).decode())
    assert faults(published.folder) == ["outcomes: the newest checkpoint is not signed by the key of the record"]
    found_by_all(published.folder, "outcomes: the newest checkpoint is not signed by the key of the record")


class Others:
    """Candles of another source."""

    market = "file:others"

    def __init__(self, close):
        rows = [{"open_time": TARGET + step * FIVE, "open": 100.0, "high": 110.0, "low": 90.0,
                 "close": 101.0 + step, "volume": 1.0} for step in range(5)]  # fmt: skip
        self.candles = as_candles(pd.DataFrame(rows), "5m")
        self.candles.loc[2, "close"] = close

    def fetch_candles(self, symbol, interval, start, end, on_page=None):  # noqa: ARG002 - the protocol's
        return self.candles[self.candles["open_time"].between(start, end, inclusive="left")]


def test_an_outcome_that_differs_from_another_source_is_named(published):
    """The owner can seal a false outcome; whoever has the candles finds it."""
    read = open_record(str(published.folder))
    honest = audit_record(read, (), Others(103.0))
    assert (honest.faults, honest.compared) == ([], 5)
    (fault,) = audit_record(read, (), Others(103.5)).faults
    assert fault == "outcomes: row 3 of 2025-03-01T12:10Z has close 103.0, file:others has 103.5"


def test_an_audit_that_compares_no_outcome_says_so(published, home, tmp_path, monkeypatch, capsys):
    """The candles of another day, or a record whose first candle is not final yet, are no comparison."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    candles = Others(103.0).candles[["open_time", "open", "high", "low", "close", "volume"]]
    later = candles.assign(open_time=candles["open_time"] + pd.Timedelta("1D"))
    (tmp_path / "same.csv").write_text(candles.to_csv(index=False), encoding="utf-8")
    (tmp_path / "later.csv").write_text(later.to_csv(index=False), encoding="utf-8")
    young = forged(published, lambda forecasts, outcomes: outcomes.clear())  # noqa: ARG005 - the rows of a record
    for folder, name, said in (
        (published.folder, "later", "has none of their candles: give another --source"),
        (young, "same", "it has none yet: audit it again when its first candle is final"),
    ):
        assert main(["audit", str(folder), "--source", str(tmp_path / f"{name}.csv")]) == 1
        told = capsys.readouterr().err
        assert "no outcome was compared, although the record itself is consistent: " in told
        assert said in told
    assert main(["audit", str(published.folder), "--source", str(tmp_path / "same.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"]["outcomes"] == 4  # the last line of a file may not be final


def test_a_false_base_and_an_outcome_that_is_left_out_are_named(published):
    """A worse "no change" makes a forecast look better, and so does a loss that is not scored."""

    def _change(forecasts, outcomes):
        forecasts[2]["base"] = 90.0
        del outcomes[3]

    read = open_record(str(forged(published, _change)))
    assert form.verify_record(read).faults == []
    assert audit_record(read, (), Others(103.0)).faults == [
        "forecasts: row 3 of 2025-03-01T12:10Z has the base 90.0, file:others has the close 102.0",
        "forecasts: row 4 of 2025-03-01T12:15Z has no outcome, file:others has its candle",
    ]


def test_a_witness_cosigns_a_continuation_and_reports_a_fork(published, owner, tmp_path):
    """Two logs that are shown to two readers cannot both be cosigned."""
    read, home = open_record(str(published.folder)), tmp_path / "witness"
    first = witness_record(read, home, "example.org/witness", NOW)
    note, signatures = form.parse_note(first["checkpoints"][0])
    name, raw = signatures[-1]
    public = form.parse_key(first["key"])[1]
    signed = f"cosignature/v1\ntime {int.from_bytes(raw[4:12], 'big')}\n{note.body}".encode()
    assert name == "example.org/witness"
    assert form.is_signed(public, raw[12:], signed)
    one_more(published.store, owner)
    again(published)
    assert "\n6\n" in witness_record(read, home, name, NOW)["checkpoints"][0]
    tampered(owner, "UPDATE forecasts SET close = base WHERE seq = 3")
    rehashed(owner)
    fork = into(published, published.root / "fork")
    with pytest.raises(StoreError, match="not cosigned: forecasts: two checkpoints"):
        witness_record(open_record(str(fork)), home, name, NOW)


@pytest.mark.usefixtures("published")
def test_the_verbs_publish_audit_and_witness(home, tmp_path, monkeypatch, capsys):
    """From the command line: exit status 0, and 1 with one sentence once a price was changed."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    shutil.rmtree(home / "witness", ignore_errors=True)  # of the record of another test
    assert main(["publish", str(tmp_path), "--json"]) == 0
    ((one,),) = [json.loads(capsys.readouterr().out)["records"]]
    assert (one["forecasts"], one["outcomes"]) == (5, 5)
    assert one["folder"] == str(tmp_path / "replay:record" / "BTCUSDT" / "5m")
    kept = tmp_path / "kept"
    kept.write_bytes((Path(one["folder"]) / "forecasts" / "checkpoint").read_bytes())
    assert main(["audit", one["folder"], "--since", str(kept)]) == 0
    assert main(["witness", one["folder"]]) == 0
    assert capsys.readouterr().out.startswith("found: consistent\n")
    rewrite(Path(one["folder"]) / "outcomes" / "000000.csv", "103.0", "103.5")
    assert main(["audit", one["folder"]]) == 1
    assert "the record is not consistent: outcomes: row 3 does not match its hash" in capsys.readouterr().err


def test_a_record_at_a_url_is_read_like_a_folder(published):
    """Any web server can carry it; a file that is not there is no record."""
    handler = partial(SimpleHTTPRequestHandler, directory=published.folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert audit_record(open_record(f"{address}/")).faults == []
        with pytest.raises(UsageError, match="a published record"):
            open_record(f"{address}/forecasts")
        server.shutdown()
    with pytest.raises(MarketError, match="refused the connection: correct the address, or try again later"):
        open_record(address)


def test_a_server_that_is_overloaded_is_no_missing_file():
    """A fault of the server is not one of the record."""

    class _Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(MarketError, match="answered with status 503: try again later"):
            open_record(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


def test_the_scheduler_publishes_and_a_full_disk_stops_nothing_else(published, settings, caplog):
    """Only series with sealed forecasts; a failure is a line of the log."""
    ours = settings.model_copy(update={"btcml_publish_dir": published.root / "all", "btcml_home": published.home})
    scheduler = Scheduler(JobContext(ours, published.store, SimpleNamespace(market=RECORD.market)))
    scheduler.keys = [RECORD, SeriesKey("simulated", "ETHUSDT", "5m")]
    scheduler._notify_all()
    folder = published.root / "all" / "replay:record" / "BTCUSDT" / "5m"
    assert faults(folder) == []
    assert not (published.root / "all" / "simulated").exists()
    (folder / ".state.json").unlink()
    (folder / "forecasts" / "000000.csv").unlink()
    (folder / "forecasts" / "000000.csv").mkdir()  # what cannot be written, also for root
    caplog.set_level("WARNING")
    scheduler._notify_all()
    assert "publishing failed" in caplog.text


def test_what_is_no_record_no_key_or_empty_is_one_sentence(store, tmp_path):
    """Each says what to do."""
    with pytest.raises(UsageError, match="give the folder of one series"):
        open_record(str(tmp_path))
    with pytest.raises(NotReadyError, match="run btcml schedule"):
        publish_all(store, tmp_path, tmp_path / "record", NOW)
    with pytest.raises(NotReadyError, match="run btcml schedule"):
        publish_series(store, tmp_path, tmp_path / "record", RECORD, NOW)
    (tmp_path / "record.key").write_text("no key", encoding="utf-8")
    with pytest.raises(UsageError, match="expected an Ed25519 key"):
        signing_key(tmp_path / "record.key")
