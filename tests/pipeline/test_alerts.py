from __future__ import annotations

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr, ValidationError

from btcml.pipeline import alerts
from btcml.pipeline.alerts import SIGNATURE, find_alerts, send_alerts
from btcml.pipeline.ingest import ingest
from btcml.pipeline.predict import seal
from btcml.settings import TOPICS, Settings
from btcml.store.jobs import append_job, finish_job, read_jobs, start_job

from .conftest import NOW


class Receiver(ThreadingHTTPServer):
    """A webhook on loopback that keeps what it was sent, and answers with a status."""

    def __init__(self):
        self.got, self.status = [], 204
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook/secret-path"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def alerting(settings, receiver):
    """Settings that send every alert to the receiver, signed."""
    values = {"btcml_alerts": (receiver.url,), "btcml_alert_key": SecretStr("key"), "btcml_alert_topics": TOPICS}
    return settings.model_copy(update=values)


def topics(store, settings, key):
    return [alert.topic for alert in find_alerts(store, settings, key)]


def test_a_champion_is_told_once_signed_and_logged(store, alerting, receiver, trained):
    """The receiver can check who sent it, and when; the same champion is not told again."""
    (alert,) = send_alerts(store, alerting, trained)
    ((headers, body),) = receiver.got
    assert json.loads(body) == {"topic": "champion", "series": str(trained), "text": alert.text, "facts": alert.facts}
    seconds, mac = (part.partition("=")[2] for part in headers[SIGNATURE].split(","))
    assert mac == hmac.new(b"key", f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    (job,) = read_jobs(store, kinds=["alert"])
    assert (job.status, job.parameters["topic"], job.result["sent"]) == ("ok", "champion", 1)
    assert send_alerts(store, alerting, trained) == []
    assert len(receiver.got) == 1


def test_a_champion_is_told_once_however_many_alerts_came_since(store, alerting, trained, monkeypatch):
    """Also where a message for every forecast has filled the log."""
    send_alerts(store, alerting, trained)
    facts = {"topic": "forecast", "event": "x"}
    for _ in range(60):
        number = append_job(store, "alert", trained, asked_by="scheduler", parameters=facts)
        finish_job(store, number, result={"sent": 1, "failed": []})
    later = alerts.utc_now() + pd.Timedelta(hours=2)
    monkeypatch.setattr(alerts, "utc_now", lambda: later)
    assert "champion" not in [alert.topic for alert in send_alerts(store, alerting, trained)]


def ended_ingest(store, key):
    """An ingest of the scheduler that found nothing newer."""
    number = append_job(store, "ingest", key, asked_by="scheduler", due_at=NOW.floor("5min") + 4 * key.delta)
    finish_job(store, number, result={})


def test_a_backfill_that_took_long_is_no_dead_feed(store, settings, market, trained):
    """Nothing is known of the feed before the first ingest has ended; the scheduler sends alerts while it runs."""
    finish_job(store, append_job(store, "backfill", trained, asked_by="scheduler"), result={})
    market.turn(NOW + 4.5 * trained.delta)
    assert "dead feed" not in topics(store, settings, trained)
    start_job(store, append_job(store, "ingest", trained, asked_by="scheduler", due_at=NOW + 4 * trained.delta))
    assert "dead feed" not in topics(store, settings, trained)
    ended_ingest(store, trained)
    assert "dead feed" in topics(store, settings, trained)


def test_a_dead_feed_is_told_again_after_each_pause(store, alerting, receiver, market, trained, monkeypatch):
    """Three candles without news, though they were asked for; a pause lies between two messages."""
    market.turn(NOW + 4.5 * trained.delta)
    ended_ingest(store, trained)
    assert "dead feed" in [alert.topic for alert in send_alerts(store, alerting, trained)]
    assert send_alerts(store, alerting, trained) == []
    later = alerts.utc_now() + pd.Timedelta(hours=2)
    monkeypatch.setattr(alerts, "utc_now", lambda: later)
    assert [alert.topic for alert in send_alerts(store, alerting, trained)] == ["dead feed"]
    assert "has no candle after" in json.loads(receiver.got[-1][1])["text"]


def test_a_candle_without_a_sealed_forecast_is_told(store, settings, market, trained):
    """Also where the forecast came too late; one that was sealed in time is no miss."""
    assert "missed forecast" not in topics(store, settings, trained)
    seal(store, settings, trained, {})
    market.turn(NOW + trained.delta)
    ingest(store, market, trained)
    assert "missed forecast" not in topics(store, settings, trained)
    market.turn(NOW + 2 * trained.delta)
    ingest(store, market, trained)
    assert "missed forecast" in topics(store, settings, trained)


def test_a_forecast_is_told_where_it_is_wanted(store, alerting, receiver, trained):
    """Off by default: one for every candle is a lot of mail."""
    seal(store, alerting, trained, {})
    assert "forecast" not in Settings().btcml_alert_topics
    assert {alert.topic for alert in send_alerts(store, alerting, trained)} == {"champion", "forecast"}
    told = next(json.loads(body) for _, body in receiver.got if json.loads(body)["topic"] == "forecast")
    assert " expects " in told["text"]
    assert 0 < told["facts"]["prob_up"] < 1


@pytest.mark.parametrize(("inside", "alarm"), [(450, False), (400, True), (495, True)])
def test_coverage_is_told_where_chance_does_not_explain_it(trained, inside, alarm):
    """Of 500 closes 450 are expected; 400 and 495 are no chance."""
    closes = np.where(np.arange(500) < inside, 1.0, 9.0)
    rows = pd.DataFrame({"error_bp": 1.0, "lo": 0.0, "hi": 2.0, "real_close": closes})
    assert (alerts._coverage(trained, rows) is not None) is alarm
    assert alerts._coverage(trained, rows.iloc[-150:]) is None  # too few to tell


def test_a_receiver_that_fails_is_logged_without_its_address_and_tried_again(
    store, alerting, receiver, trained, monkeypatch
):
    """A path may be a secret; after the pause the alert is sent again."""
    receiver.status = 500
    assert send_alerts(store, alerting, trained) == []
    (job,) = read_jobs(store, kinds=["alert"])
    assert job.status == "error"
    assert "127.0.0.1 answered with status 500" in job.error
    assert "secret-path" not in job.error
    assert send_alerts(store, alerting, trained) == []
    assert len(receiver.got) == 1
    receiver.status = 200
    later = alerts.utc_now() + pd.Timedelta(hours=2)
    monkeypatch.setattr(alerts, "utc_now", lambda: later)
    assert len(send_alerts(store, alerting, trained)) == 1


@pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")  # apprise's own import
def test_other_services_are_reached_by_apprise(store, alerting, receiver, trained):
    """Its own generic JSON address stands for mail, Telegram and the rest; an unknown one is one sentence."""
    there = receiver.url.replace("http://", "json://")
    other = alerting.model_copy(update={"btcml_alerts": ("nosuchservice://x", there)})
    assert len(send_alerts(store, other, trained)) == 1
    assert json.loads(receiver.got[0][1])["title"] == "btcml: champion"
    (job,) = read_jobs(store, kinds=["alert"])
    assert (job.status, job.result["sent"]) == ("ok", 1)
    assert "nosuchservice" in job.result["failed"][0]


def test_nothing_is_sent_without_an_address(store, settings, trained):
    """The default."""
    assert send_alerts(store, settings, trained) == []
    assert read_jobs(store, kinds=["alert"]) == []


def test_an_unknown_subject_is_refused():
    """The setting names what can be told."""
    with pytest.raises(ValidationError, match="champion"):
        Settings(btcml_alert_topics="weather")
