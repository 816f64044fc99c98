"""Each finding of btcml doctor, and what it says to do."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.cli import main
from btcml.errors import StoreError
from btcml.market.transport import host_of
from btcml.pipeline import doctor
from btcml.pipeline.database import require_contract
from btcml.pipeline.doctor import examine, examine_scheduler, render
from btcml.settings import Settings
from btcml.store.candles import BanLedger
from btcml.store.engine import database_lock
from btcml.store.jobs import append_job, start_job
from btcml.store.models import ModelRecord, record_training

from .seeding import KEY, fill


def found(settings, name):
    """The findings whose name begins so."""
    return [finding for finding in examine(settings) if finding.name.startswith(name)]


def test_a_fresh_installation_has_nothing_bad(settings, store):  # noqa: ARG001
    """Warnings say what is not there yet, and what to do."""
    findings = examine(settings)
    assert {finding.status for finding in findings} <= {"ok", "warn"}
    assert all(finding.cure for finding in findings if finding.status != "ok")
    assert not any(finding.cure for finding in findings if finding.status == "ok")
    assert "no candles yet" in render(findings)


def test_a_database_that_is_not_there_is_a_finding_without_its_password(tmp_path):
    """The rest is examined all the same."""
    settings = Settings(
        database_url="postgresql://u:secret@127.0.0.1:1/x", btcml_home=tmp_path, btcml_source="simulated"
    )
    page = render(examine(settings))
    assert "bad" in page
    assert "secret" not in page
    assert "disk" in page


def test_old_candles_are_a_warning_with_their_age(settings, store):
    """And the advice is the command."""
    fill(store)
    (finding,) = found(settings, f"data {KEY}")
    assert finding.status == "warn"
    assert "days ago" in finding.found
    assert "btcml ingest" in finding.cure


def test_a_changed_forecast_breaks_the_chain(settings, store, owner):
    """Rows were changed with the owner's rights and disabled triggers."""
    fill(store)
    assert found(settings, "forecasts")[0].status == "ok"
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE forecasts SET close = close + 0.1"))
    (finding,) = found(settings, "forecasts")
    assert (finding.status, "db restore" in finding.cure) == ("bad", True)


def test_a_disabled_trigger_is_bad(settings, store, owner):
    """As long as it is off, nothing holds: doctor, db check and verify-forecasts name it."""
    assert found(settings, "seal")[0].status == "ok"
    with owner.begin() as connection:
        connection.execute(text("ALTER TABLE candles DISABLE TRIGGER candles_revised"))
    try:
        (finding,) = found(settings, "seal")
        with pytest.raises(StoreError, match="the trigger candles_revised is disabled"):
            require_contract(store)
    finally:
        with owner.begin() as connection:
            connection.execute(text("ALTER TABLE candles ENABLE TRIGGER candles_revised"))
    assert (finding.status, finding.found) == ("bad", "the trigger candles_revised is disabled")


def test_a_restated_outcome_is_a_warning(settings, store, monkeypatch):
    """It is shown beside the chain, and the advice says where they are listed."""
    fill(store)
    assert len(found(settings, "forecasts")) == 1
    monkeypatch.setattr(doctor, "restated_outcomes", lambda *_: [{"open_time": 1}])
    _, finding = found(settings, "forecasts")
    assert (finding.status, "1 outcomes" in finding.found) == ("warn", True)
    assert "verify-forecasts" in finding.cure


@pytest.fixture
def without_check(owner):
    """The table without the constraint that would reject the broken row."""
    find = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'high_is_highest'"
    with owner.begin() as connection:
        definition = connection.scalar(text(find))
        connection.execute(text("ALTER TABLE candles DROP CONSTRAINT high_is_highest"))
    yield
    with owner.begin() as connection:
        connection.execute(text(f"ALTER TABLE candles ADD CONSTRAINT high_is_highest {definition}"))


@pytest.mark.usefixtures("without_check")
def test_a_broken_candle_is_found_and_the_advice_fixes_it(settings, store, owner, monkeypatch):
    """The audit reads the true candle again, and keeps the wrong one as a revision."""
    fill(store)
    with owner.begin() as connection:
        connection.execute(text("UPDATE candles SET high = low / 2 WHERE open_time = '2025-06-29 12:00Z'"))
    (finding,) = found(settings, "data contract")
    assert (finding.status, finding.found) == ("bad", "1 stored candles break a rule")
    monkeypatch.setenv("BTCML_HOME", str(settings.home))
    monkeypatch.setenv("BTCML_SOURCE", "simulated")
    cure = finding.cure.removeprefix("run btcml ").partition(",")[0]
    assert main([*cure.split(), "--since", "2025-06-29", "--until", "2025-06-30"]) == 0  # days would take long here
    assert found(settings, "data contract")[0].status == "ok"


def test_a_full_disk_is_bad(settings, store, monkeypatch):  # noqa: ARG001
    """Half a gigabyte is the least."""
    monkeypatch.setattr(doctor, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1000)))
    assert found(settings, "disk")[0].status == "bad"


def test_a_wrong_clock_is_bad(settings, store, monkeypatch):  # noqa: ARG001
    """The database seals by its clock: an hour off makes every seal wrong."""
    later = pd.Timestamp.now(tz="UTC") + pd.Timedelta(hours=1)
    monkeypatch.setattr(doctor, "utc_now", lambda: later)
    (finding,) = found(settings, "database clock")
    assert (finding.status, "NTP" in finding.cure) == ("bad", True)


@pytest.mark.parametrize(("source", "status"), [("binance", "bad"), ("auto", "warn"), ("simulated", "ok")])
def test_an_unreachable_exchange_is_bad_only_where_it_is_needed(settings, store, source, status):  # noqa: ARG001
    """With the simulated market it is not even asked."""
    changed = settings.model_copy(update={"btcml_source": source, "btcml_binance_urls": ("http://127.0.0.1:9",)})
    assert found(changed, "exchange")[0].status == status


def test_the_exit_status_and_the_json_tell_a_program(home, store, monkeypatch, capsys):  # noqa: ARG001
    """0 where nothing is bad, 1 where something is; the findings are printed in both cases."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setenv("BTCML_SOURCE", "simulated")
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"
    monkeypatch.setenv("BTCML_SOURCE", "binance")
    monkeypatch.setenv("BTCML_BINANCE_URLS", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    captured = capsys.readouterr()
    assert ended.value.code == 1
    assert json.loads(captured.out)["status"] == "bad"
    assert captured.err.startswith("btcml: ")


@pytest.mark.parametrize(
    ("job", "status", "says"),
    [
        (None, "bad", "never run"),
        ("'ok', now() - interval '1 minute'", "ok", "ago"),
        ("'ok', now() - interval '2 hours'", "bad", "2 hours ago"),
        ("'running', NULL", "bad", "2 hours ago"),
    ],
)
def test_a_scheduler_is_alive_while_it_works(settings, store, owner, job, status, says):  # noqa: ARG001 - empty
    """Its health check reads the log of jobs: within three pauses; a job that a killed one left running is none."""
    if job:
        columns = "kind, market, symbol, interval, asked_by, created_at, status, finished_at"
        values = "'ingest', 'simulated', 'BTCUSDT', '5m', 'scheduler', now() - interval '2 hours'"
        with owner.begin() as connection:
            connection.execute(text(f"INSERT INTO jobs ({columns}) VALUES ({values}, {job})"))
    finding = examine_scheduler(settings)
    assert (finding.status, says in finding.found) == (status, True)


def test_a_scheduler_that_works_for_long_is_alive(settings, store):
    """Its job runs, and its lock is held."""
    start_job(store, append_job(store, "backfill", KEY, asked_by="scheduler"))
    with database_lock(store, f"backfill of {KEY}"):
        assert examine_scheduler(settings).found == "running"


def test_a_failed_job_is_a_warning_with_its_message(settings, store, owner):  # noqa: ARG001 - an empty database
    """And that the scheduler tries again."""
    columns = "kind, market, symbol, interval, asked_by, status, finished_at, error"
    values = "'train', 'simulated', 'BTCUSDT', '5m', 'cli', 'error', now(), 'too few candles'"
    with owner.begin() as connection:
        connection.execute(text(f"INSERT INTO jobs ({columns}) VALUES ({values})"))
    (finding,) = found(settings, "jobs")
    assert (finding.status, "too few candles" in finding.found) == ("warn", True)
    assert "tries again" in finding.cure


def test_a_model_whose_files_are_gone_is_bad_and_an_old_one_is_a_warning(settings, store, monkeypatch):
    """The first serves nothing: train, or bring the folder back; the second serves, but look."""
    fill(store)
    trained = pd.Timestamp.now(tz="UTC") - pd.Timedelta(days=5)
    record = ModelRecord(
        artifact="20250630T000000-test",
        name="ridge",
        key=KEY,
        role="champion",
        trained_at=trained,
        snapshot="0" * 64,
        window_start=trained,
        window_end=trained,
        samples=1,
        metrics={},
        verdict={"reason": "a test"},
        judged_at=trained,
        bytes=1,
        kept=True,
    )
    record_training(store, [record])
    (finding,) = found(settings, f"model {KEY}")
    assert (finding.status, "btcml train, or restore" in finding.cure) == ("bad", True)
    monkeypatch.setattr(doctor, "load_served", lambda *_: None)
    (finding,) = found(settings, f"model {KEY}")
    assert (finding.status, "trained 5 days ago" in finding.found) == ("warn", True)
    assert "btcml train" in finding.cure


def test_a_large_log_of_the_embedded_server_is_a_warning(settings, store, monkeypatch):  # noqa: ARG001
    """The advice says how to remove it."""
    assert found(settings, "database log") == []
    monkeypatch.setattr(doctor, "_LOG_BYTES", 0)
    (finding,) = found(settings, "database log")
    assert (finding.status, "delete" in finding.cure) == ("warn", True)


def test_a_ban_is_a_finding_and_no_request_is_sent_before_its_end(settings, store):
    """Asking would make it longer."""
    host = "http://127.0.0.1:9"
    BanLedger(store).remember(host_of(host), pd.Timestamp.now(tz="UTC") + pd.Timedelta(hours=1), "418")
    changed = settings.model_copy(update={"btcml_source": "binance", "btcml_binance_urls": (host,)})
    (finding,) = found(changed, "exchange")
    assert (finding.status, "wait for the end of the ban" in finding.cure) == ("bad", True)


def test_no_finding_shows_a_secret_of_an_address(settings, store):  # noqa: ARG001
    """A proxy before the exchange may want a user and a password."""
    url = "http://me:secret@127.0.0.1:9/api?apiKey=secret"
    changed = settings.model_copy(update={"btcml_source": "binance", "btcml_binance_urls": (url,)})
    assert "secret" not in render(examine(changed))
