"""Alerts for an operator, sent to signed webhooks and other services.

An alert is a job of the kind ``alert``: the log shows what was sent, and keeps the pause between two of a topic.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import requests
from scipy import stats

from btcml.errors import BusyError, NotReadyError
from btcml.forecast.metrics.interval import LEVEL
from btcml.market import utc_now
from btcml.pipeline.progress import dead_feed
from btcml.settings import duration
from btcml.store.candles import read_last_candles
from btcml.store.engine import database_lock
from btcml.store.forecasts import market_now, read_scored
from btcml.store.jobs import append_job, finish_job, last_alert, start_job
from btcml.store.models import read_champion

if TYPE_CHECKING:
    from btcml.candles import SeriesKey
    from btcml.settings import Settings
    from btcml.store.engine import Store
    from btcml.store.models import ModelRecord

SIGNATURE = "X-Btcml-Signature"
"""Header of a webhook: ``t=SECONDS,v1=HEX``, the HMAC-SHA256 of ``SECONDS.BODY`` under ``BTCML_ALERT_KEY``."""

_COVERED = 500
_FEWEST = 200
_CHANCE = 0.999
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Alert:
    """One message.

    Attributes
    ----------
    topic
        One of `btcml.settings.TOPICS`.
    text
        One sentence.
    facts
        The same as plain values.
    event
        Identity of what happened, so that it is sent once; empty for a state, which is sent again after each pause.
    """

    topic: str
    series: str
    text: str
    facts: dict[str, Any]
    event: str = ""


def find_alerts(store: Store, settings: Settings, key: SeriesKey) -> list[Alert]:
    """Find all that there is to send about a series now."""
    newest = read_last_candles(store, key, 1)
    if newest.empty or key.market.startswith("file:"):
        return []
    last = newest["open_time"].iloc[-1]
    start = last - (_COVERED - 1) * key.delta
    forecasts, champion = read_scored(store, key, start, last + 2 * key.delta, "champion"), read_champion(store, key)
    found = [_feed(store, settings, key, last), _coverage(key, forecasts), _forecast(key, last, forecasts)]
    if champion is not None:
        found += [_champion(champion), _missed(champion, last, forecasts)]
    return [alert for alert in found if alert is not None]


def _feed(store: Store, settings: Settings, key: SeriesKey, last: pd.Timestamp) -> Alert | None:
    now = market_now(store, key.market)
    found = dead_feed(store, settings, key, last + key.delta, now)
    if found is None:
        return None
    facts = {"newest": last.isoformat(), "candles": round((now - last) / key.delta - 1, 1)}
    return Alert("dead feed", str(key), str(found), facts)


def _missed(champion: ModelRecord, last: pd.Timestamp, forecasts: pd.DataFrame) -> Alert | None:
    sealed = (forecasts["open_time"] == last) & (forecasts["status"] == "sealed")
    if champion.trained_at >= last or sealed.any():
        return None
    key = champion.key
    text = f"{key}: the candle of {last:%Y-%m-%d %H:%M} UTC closed without a sealed forecast: see GET /jobs"
    return Alert("missed forecast", str(key), text, {"open_time": last.isoformat()}, last.isoformat())


def _coverage(key: SeriesKey, forecasts: pd.DataFrame) -> Alert | None:
    """Share of closes inside the newest sealed intervals, outside of what chance allows."""
    known = forecasts.dropna(subset=["error_bp", "lo", "hi"])
    if len(known) < _FEWEST:
        return None
    share = float(known["real_close"].between(known["lo"], known["hi"]).mean())
    low, high = (bound / len(known) for bound in stats.binom.interval(_CHANCE, len(known), LEVEL))
    if low <= share <= high:
        return None
    text = (
        f"{key}: {share:.1%} of the newest {len(known)} closes lie inside the {LEVEL:.0%} interval, "
        f"where chance allows {low:.1%} to {high:.1%}"
    )
    return Alert("coverage", str(key), text, {"coverage": share, "rows": len(known), "low": low, "high": high})


def _champion(champion: ModelRecord) -> Alert:
    text = f"{champion.key}: {champion.name} is champion: {champion.verdict.get('reason', 'not judged yet')}"
    return Alert("champion", str(champion.key), text, {"champion": champion.name}, champion.name)


def _forecast(key: SeriesKey, last: pd.Timestamp, forecasts: pd.DataFrame) -> Alert | None:
    rows = forecasts[(forecasts["open_time"] == last + key.delta) & (forecasts["status"] == "sealed")]
    if rows.empty:
        return None
    row = rows.iloc[-1]
    move = 1e4 * float(np.log(row["close"] / row["base"]))
    names = ("model", "base", "close", "lo", "hi", "prob_up")
    facts = {name: None if pd.isna(row[name]) else row[name] for name in names}
    when = (last + key.delta).isoformat()
    text = f"{key}: {row['model']} expects {row['close']:.2f} at the close of {when}, {move:+.2f} bp"
    return Alert("forecast", str(key), text, {"open_time": when, **facts}, when)


def send_alerts(store: Store, settings: Settings, key: SeriesKey) -> list[Alert]:
    """Send what is due of a series to every address of the settings, and log it.

    Returns
    -------
    list of Alert
        Those that were sent now; none where no address is set, or another process is sending.
    """
    if not settings.btcml_alerts:
        return []
    try:
        with database_lock(store, f"alert of {key}"):
            due = [alert for alert in find_alerts(store, settings, key) if _is_due(store, settings, key, alert)]
            return [alert for alert in due if _send(store, settings, key, alert)]
    except BusyError:
        return []


def _is_due(store: Store, settings: Settings, key: SeriesKey, alert: Alert) -> bool:
    if alert.topic not in settings.btcml_alert_topics:
        return False
    tried, sent = (last_alert(store, key, alert.topic, sent=sent) for sent in (False, True))
    if alert.event and sent is not None and sent.parameters["event"] == alert.event:
        return False
    pause = pd.Timedelta(duration(settings.btcml_alert_every))
    return tried is None or utc_now() - tried.created_at >= pause


def _send(store: Store, settings: Settings, key: SeriesKey, alert: Alert) -> bool:
    """Send one alert as a job of the log; return whether any address accepted it."""
    facts = {"topic": alert.topic, "text": alert.text, "event": alert.event}
    number = append_job(store, "alert", key, asked_by="scheduler", parameters=facts)
    start_job(store, number or 0)
    failed = [error for error in (_deliver(settings, address, alert) for address in settings.btcml_alerts) if error]
    accepted = len(settings.btcml_alerts) - len(failed)
    error = "; ".join(failed) if not accepted else None
    finish_job(store, number or 0, result={"sent": accepted, "failed": failed}, error=error)
    return accepted > 0


def _deliver(settings: Settings, address: str, alert: Alert) -> str:
    """Send an alert to one address; return why that failed, or nothing. Paths may be secret: only hosts are named."""
    where = urlsplit(address).hostname or urlsplit(address).scheme
    try:
        if address.startswith(("http://", "https://")):
            request = _request(settings, alert)
            requests.post(address, **request, timeout=_TIMEOUT_S, allow_redirects=False).raise_for_status()
        elif not _apprise(address).notify(title=f"btcml: {alert.topic}", body=alert.text):
            return f"{where} refused the alert"
    except requests.HTTPError as error:
        return f"{where} answered with status {error.response.status_code}"
    except requests.RequestException as error:
        return f"{where} does not answer ({type(error).__name__})"
    except NotReadyError as error:
        return str(error)
    return ""


def _request(settings: Settings, alert: Alert) -> dict[str, Any]:
    """Body and headers of a webhook."""
    facts = {"topic": alert.topic, "series": alert.series, "text": alert.text, "facts": alert.facts}
    body = json.dumps(facts, default=str).encode()
    headers = {"Content-Type": "application/json"}
    if settings.btcml_alert_key is not None:
        now = str(int(time.time())).encode()
        key = settings.btcml_alert_key.get_secret_value().encode()
        headers[SIGNATURE] = f"t={now.decode()},v1={hmac.new(key, now + b'.' + body, hashlib.sha256).hexdigest()}"
    return {"data": body, "headers": headers}


def _apprise(address: str) -> Any:
    try:
        import apprise  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = f"alerts to {urlsplit(address).scheme} need apprise: pip install 'btcml[alerts]'"
        raise NotReadyError(msg) from error
    service = apprise.Apprise()
    if not service.add(address):
        msg = f"apprise does not know the address {urlsplit(address).scheme}: see its list of services"
        raise NotReadyError(msg)
    return service
