from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import requests
from pydantic import SecretStr

from btcml.candles import interval_delta
from btcml.errors import BannedError, UsageError
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.ingest import ingest
from btcml.pipeline.predict import load_served, seal
from btcml.pipeline.series import evaluate_series, read_points
from btcml.serve.api import check_host, create_app, serve_api
from btcml.serve.schemas import (
    EvaluationResponse,
    ForecastResponse,
    FuturesResponse,
    JobResponse,
    MetricsResponse,
    ModelInfoResponse,
    PricesResponse,
    SeriesResponse,
)
from btcml.store.jobs import append_job, finish_job
from btcml.store.models import read_champion
from btcml.testing.exchange import running_exchange

from ..processes import WAIT_S, until  # noqa: TID252 - of all tests
from .conftest import Listening


def test_a_forecast_is_answered_with_all_that_a_client_must_know(service):
    """Close, whole candle, interval, probability, model, skill, age, seal; challengers beside it."""
    assert service.post("/ingest/run").status_code == 200
    answer = service.post("/predict", params={"symbol": "BTCUSDT", "interval": "5m"})
    assert answer.status_code == 200, answer.text
    found = ForecastResponse.model_validate(answer.json())
    assert found.delta == pytest.approx(found.predicted_close - found.last_close)
    assert found.delta_pct == pytest.approx(found.delta / found.last_close)
    assert found.delta_bp == pytest.approx(1e4 * found.delta_pct)
    assert found.predicted_low <= found.predicted_close <= found.predicted_high
    assert found.predicted_amp == pytest.approx(found.predicted_high - found.predicted_low)
    assert found.prob_up + found.prob_down == pytest.approx(1)
    assert found.model_age_seconds > 0
    assert {other.model for other in found.challengers} | {found.model} == {"persistence", "autoreg"}
    assert found.verdict.startswith(found.model)


def test_a_kept_forecast_is_renewed_when_a_candle_is_restated(service):
    """The database says that something is new, and the next answer starts from it."""
    service.post("/ingest/run")
    before = service.post("/predict").json()
    with service.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE candles SET close = close + 0.01, high = greatest(high, close + 0.01) "
            "WHERE open_time = (SELECT max(open_time) FROM candles)"
        )
    renewed = pytest.approx(before["last_close"] + 0.01)
    until(lambda: service.post("/predict").json()["last_close"] == renewed)
    service.post("/ingest/run")


def test_a_missing_precondition_is_a_409_with_advice(empty_service):
    """True status, a sentence, a request id, the media type of a problem."""
    answer = empty_service.post("/predict")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert isinstance(problem["detail"], str)
    assert "POST /train" in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_ready_names_what_is_missing(empty_service, service):
    """503 with a list before, 200 after."""
    answer = empty_service.get("/ready")
    assert answer.status_code == 503
    assert any("backfill" in item for item in answer.json()["missing"])
    assert any("train" in item for item in answer.json()["missing"])
    service.post("/ingest/run")
    assert service.get("/ready").json()["missing"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/jobs/999999", 404),
        ("PUT", "/predict", 405),
        ("GET", "/prices/latest?n=0", 422),
        ("GET", "/prices/latest?symbol=../etc/passwd", 422),
        ("GET", "/prices/latest?interval=7m", 422),
        ("GET", "/series?start=yesterday", 422),
        ("POST", "/ingest/run?symbol=NOPE", 404),
        ("GET", "/prices/latest?symbol=ETHUSDT", 409),
    ],
)
def test_every_error_is_a_problem_document_with_its_true_status(service, method, path, status):
    """No 200 with an error inside, no traceback."""
    answer = requests.request(method, service.url + path, timeout=WAIT_S)
    assert answer.status_code == status
    problem = answer.json()
    assert problem["status"] == status
    assert isinstance(problem["detail"], str)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("interval", ["1s", "1M"])
@pytest.mark.parametrize("route", ["GET /prices/latest", "POST /predict", "POST /ingest/run", "POST /train"])
def test_an_interval_that_only_the_exchange_has_is_refused_by_one_true_sentence(service, route, interval):
    """The same one as on the command line."""
    method, path = route.split()
    answer = requests.request(method, f"{service.url}{path}?interval={interval}", timeout=WAIT_S)
    assert answer.status_code == 422
    with pytest.raises(UsageError) as refused:
        interval_delta(interval)
    assert answer.json()["detail"] == str(refused.value)
    assert f"the exchange has {interval}, btcml does not: give one of 1m, 3m" in str(refused.value)


def test_a_time_that_is_not_iso_is_refused_by_one_sentence(service):
    """Whether the fifth of April or the fourth of May was meant is not guessed."""
    for path in ("/series?start=05/04/2026", "/futuros?end=05/04/2026"):
        answer = service.get(path)
        name = path.split("?")[1].split("=")[0]
        expected = (
            f"{name}: expected a UTC time such as 2025-06-30T00:00:00Z, found '05/04/2026': correct it and try again"
        )
        assert (answer.status_code, answer.json()["detail"]) == (422, expected)


def test_a_symbol_beyond_ascii_works_on_every_route(store, settings, tmp_path):
    """Fetched from a replay exchange, stored and answered; a spelling mistake gets the same advice as elsewhere."""
    symbol, end = "币安人生USDT", pd.Timestamp("2025-01-03", tz="UTC")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", end - pd.Timedelta(days=2), end)
    frame.to_parquet(tmp_path / f"{symbol}-5m.parquet")
    source = FileMarket(tmp_path / f"{symbol}-5m.parquet", as_of=end)
    with running_exchange(source, lambda: end, name="letters") as exchange:
        ours = settings.model_copy(update={"btcml_source": "binance", "btcml_binance_urls": (exchange.url,)})
        with Listening(create_app(ours, store)) as url:
            ask = {"symbol": symbol, "interval": "5m"}
            filled = requests.post(url + "/init/backfill", params=ask | {"days": 2}, timeout=WAIT_S).json()
            latest = requests.get(url + "/prices/latest", params=ask | {"n": 3}, timeout=WAIT_S).json()
            again = requests.post(url + "/ingest/run", params=ask, timeout=WAIT_S).json()
            wrong = requests.get(url + "/prices/latest?symbol=btcusdt", timeout=WAIT_S).json()["detail"]
    assert (filled["status"], filled["inserted"], again["status"]) == ("ok", 576, "ok")
    assert (latest["symbol"], latest["count"]) == (symbol, 3)
    assert wrong == "a symbol is 2 to 20 capital letters and digits, found 'btcusdt': write BTCUSDT"


def test_the_newest_candles_come_oldest_first(service):
    """As many as asked for, final ones only."""
    found = PricesResponse.model_validate(service.get("/prices/latest?symbol=BTCUSDT&interval=5m&n=3").json())
    assert found.count == 3
    times = [item.time for item in found.items]
    assert times == sorted(times)
    assert times[-1] + pd.Timedelta("5min") <= pd.Timestamp.now(tz="UTC")


def test_the_series_comes_in_pages_that_join_without_a_seam(service):
    """next_start= of a page is where the next one begins; nothing twice, nothing lost."""
    whole = service.get("/series?fallback_days=2").json()
    SeriesResponse.model_validate(whole)
    first = service.get("/series?fallback_days=2&limit=100").json()
    second = service.get("/series", params={"start": first["next_start"]}).json()
    assert first["points"] + second["points"] == whole["points"]
    assert whole["next_start"] is None


def test_a_series_that_the_client_has_already_is_not_sent_again(service):
    """304 to its own ETag, 200 to another."""
    span = {"start": "2024-01-01", "end": "2030-01-01"}
    answer = service.get("/series", params=span)
    again = service.get("/series", params=span, headers={"If-None-Match": answer.headers["etag"]})
    assert (answer.status_code, again.status_code, again.content) == (200, 304, b"")
    assert service.get("/series", params=span, headers={"If-None-Match": '"x"'}).status_code == 200


def test_ninety_days_of_the_series_take_less_than_three_megabytes_on_the_wire(service):
    """25,920 points, by the size of those that are there."""
    answer = service.get("/series?fallback_days=90", stream=True)
    sent = len(answer.raw.read(decode_content=False))
    points = service.get("/series?fallback_days=90").json()["points"]
    assert len(points) > 500
    assert sent / len(points) * 25_920 < 3_000_000


@pytest.mark.parametrize("path", ["/prices/latest?n=50", "/futuros", "/series/cached"])
def test_every_long_answer_has_a_tag(service, path):
    """A client that polls gets 304 when nothing is new."""
    tag = service.get(path).headers["etag"]
    assert service.get(path, headers={"If-None-Match": tag}).status_code == 304


def test_sealed_forecasts_come_in_pages(store, settings, trained, market, monkeypatch):
    """The newest first; the page before ends where this one began."""
    for _ in range(5):
        seal(store, settings, trained)
        market.turn(market.time + trained.delta)
        ingest(store, market, trained)
    monkeypatch.setattr("btcml.serve.service.shared_source", lambda *_: market)
    with Listening(create_app(settings, store)) as url:
        whole, first = (
            requests.get(f"{url}/futuros", params=page, timeout=WAIT_S).json() for page in ({}, {"limit": 3})
        )
        page = {"limit": 3, "end": first["next_end"]}
        second = requests.get(f"{url}/futuros", params=page, timeout=WAIT_S).json()
    assert whole["next_end"] is None
    assert len(whole["points"]) == 5
    assert second["points"] + first["points"] == whole["points"]


def test_a_horizon_that_is_asked_for_is_answered_beside_the_next_candle(
    store, settings, trained_ahead, market, monkeypatch
):
    """Omitted it is the next candle; every answer has all horizons in short; others are refused with a sentence."""
    seal(store, settings, trained_ahead)
    monkeypatch.setattr("btcml.serve.service.shared_source", lambda *_: market)
    with Listening(create_app(settings, store)) as url:
        asked = ("/predict", "/predict?horizon=1", "/predict?horizon=12", "/predict?horizon=7", "/predict?horizon=0")
        plain, one, far, none, wrong = (requests.post(url + path, timeout=WAIT_S) for path in asked)
        info = requests.get(url + "/model/info", timeout=WAIT_S).json()
    ModelInfoResponse.model_validate(info)
    served = load_served(store, settings, trained_ahead).forecaster.horizons
    rows = {horizon: {"champion": of.champion} | of.facts["figures"] for horizon, of in served.items()}
    found = ForecastResponse.model_validate(far.json())
    assert plain.json() | {"model_age_seconds": 0} == one.json() | {"model_age_seconds": 0}
    assert [row.horizon for row in found.horizons] == [1, 3, 12]
    assert plain.json()["horizons"] == far.json()["horizons"]
    assert (found.horizon, found.time - found.last_time) == (12, pd.Timedelta("1h"))
    assert (found.lo, found.hi) == (found.quantiles[1], found.quantiles[-2])
    near = ForecastResponse.model_validate(plain.json())
    assert (near.lo, near.hi) == pytest.approx((near.quantiles[1], near.quantiles[-2]), rel=1e-12)
    assert near.quantiles == sorted(near.quantiles)
    assert found.sealed
    assert info["horizons"] == [
        {"horizon": 1, "champion": "persistence", "model": "persistence", "ratio": None, "z": None},
        *({"horizon": h} | {name: rows[h][name] for name in ("champion", "model", "ratio", "z")} for h in (3, 12)),
    ]
    assert (none.status_code, wrong.status_code) == (404, 422)
    assert none.json()["detail"].startswith("the training in service forecasts 1, 3, 12 candles ahead, found 7: name")


def test_a_forecast_with_a_cost_says_whether_a_trade_pays_it(service):
    """At each horizon, as the library decides; persistence is never traded, and without a cost nothing is decided."""
    found = ForecastResponse.model_validate(service.post("/predict?cost_bp=0.5").json())
    (near,) = found.decisions
    assert (near.horizon, near.action, near.needed_bp, near.proven) == (1, "no trade", 0.5, False)
    assert near.reason == "no trade: no model is proven to beat no change"
    assert 0 < near.probability < 1
    assert "decisions" not in service.post("/predict").json()
    assert service.post("/predict?cost_bp=-1").status_code == 422


def test_points_of_the_series_are_out_of_sample_and_say_where_they_come_from(service):
    """Each forecast stands beside its candle, its errors and persistence's."""
    point, following = service.get("/series").json()["points"][:2]
    assert point["origin"] in {"walk-forward", "sealed"}
    error = point["pred"]["close_next"] - following["real"]["close"]
    assert point["err"]["close_signed"] == pytest.approx(error)
    assert point["err"]["close_abs"] == pytest.approx(abs(error))


def test_the_series_of_another_model_than_the_champion_can_be_asked_for(service):
    """Persistence says no direction; a challenger's walk-forward does. A model that is not known has no points."""
    points = service.get("/series?model=autoreg").json()
    assert points["model"] == "autoreg"
    made = [point["pred"] for point in points["points"] if point["pred"]]
    assert sum(pred["close_next"] != pred["open_next"] for pred in made) > 10
    assert service.get("/series?model=nobody").json()["points"] == []
    assert service.get("/series", params={"model": "a b"}).status_code == 422


@pytest.mark.parametrize("query", [{}, {"model": "autoreg", "cost_bp": 7.5, "threshold_bp": 0.2}, {"origin": "sealed"}])
def test_the_evaluation_is_the_librarys_to_the_bit(service, query):
    """Of the very forecasts that /series answers: nothing is computed on the way."""
    span = {"fallback_days": 3}
    found = service.get("/evaluation", params=span | query).json()
    EvaluationResponse.model_validate(found)
    model = {name: value for name, value in query.items() if name == "model"}
    newest = pd.Timestamp(service.get("/prices/latest?n=1").json()["items"][0]["time"]) + service.key.delta
    given = (newest - pd.Timedelta(days=3), newest)
    frame = read_points(service.store, service.settings, service.key, given, found["model"], own=bool(model))
    costs = {name: query[name] for name in ("cost_bp", "threshold_bp") if name in query}
    costs["trials"] = read_champion(service.store, service.key).verdict["trials"]
    expected = evaluate_series(frame, found["model"], origin=query.get("origin"), **costs).to_dict()
    assert expected["decision"] is None or expected["decision"]["silent"] == 1 or found["model"] != "persistence"
    assert {name: found[name] for name in expected} == json.loads(json.dumps(expected))


def test_the_evaluation_without_a_forecast_is_empty(empty_service):
    """Before the first training: no scores, and no error."""
    found = empty_service.get("/evaluation").json()
    EvaluationResponse.model_validate(found)
    assert (found["model"], found["scores"], found["candles"]["time"], found["money"]["trips"]) == (None, [], [], 0.0)
    assert "candles" not in empty_service.get("/evaluation?curves=false").json()
    assert empty_service.get("/evaluation?cost_bp=-1").status_code == 422


def test_sealed_forecasts_and_jobs_and_models_have_their_documented_shapes(service):
    """What the schema promises is what comes."""
    service.post("/ingest/run")
    FuturesResponse.model_validate(service.get("/futuros").json())
    assert service.get("/futures").json() == service.get("/futuros").json()
    count = service.post("/futuros/update").json()["count"]
    assert count == sum(point["err_close"] is not None for point in service.get("/futuros").json()["points"])
    info = ModelInfoResponse.model_validate(service.get("/model/info").json())
    assert info.exists
    assert any(model.champion for model in info.models)
    newest = service.get("/jobs?limit=1").json()["items"][0]
    JobResponse.model_validate(newest)
    assert JobResponse.model_validate(service.get(f"/jobs/{newest['id']}").json()).id == newest["id"]


def test_metrics_are_empty_before_the_first_training_of_the_log(empty_service):
    """System 1's client depends on this status."""
    found = empty_service.get("/metrics").json()
    assert (found["status"], found["items"]) == ("empty", [])
    MetricsResponse.model_validate(found)


def test_a_long_job_is_answered_at_once_where_the_client_prefers_it(service):
    """202 and a job of the log, which ends in another process."""
    answer = service.post("/init/backfill?days=2", headers={"Prefer": "respond-async"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.json()["status"] == "queued"
    while service.get(answer.headers["location"]).json()["status"] in {"queued", "running"}:
        assert service.get("/health").status_code == 200
    job = service.get(answer.headers["location"]).json()
    assert (job["status"], job["result"]["days"]) == ("ok", 2), job


@pytest.mark.soak
def test_a_training_is_answered_at_once_where_the_client_prefers_it(service):
    """202 and a job; it ends in another process, its figures in /metrics, while /health answers."""
    answer = service.post("/train?days=9", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    path = answer.headers["location"]
    while service.get(path).json()["status"] in {"queued", "running"}:
        assert service.get("/health").status_code == 200
    job = service.get(path).json()
    assert (job["status"], job["asked_by"]) == ("ok", "api"), job
    found = MetricsResponse.model_validate(service.get("/metrics").json())
    assert found.status == "ok"
    assert found.persistence_mae > 0
    assert found.split_train < found.split_total
    assert "a trend needs 6 months" in found.edge.sentence


def test_prometheus_reads_requests_jobs_ages_and_skill(service):
    """One text for the machine that watches."""
    service.post("/ingest/run")
    text = service.get("/metrics/prometheus").text
    for name in ("btcml_requests_total", "btcml_request_seconds", "btcml_jobs", "btcml_bans"):
        assert name in text
    for name in ("candle_age_seconds", "model_age_seconds", "forecasts_scored"):
        assert f'btcml_{name}{{interval="5m",market="simulated",symbol="BTCUSDT"}}' in text


def test_several_symbols_are_watched_together(service):
    """One figure, a sample per series; /ready names what is missing of each."""
    both = service.settings.model_copy(update={"btcml_symbols": ("BTCUSDT", "ETHUSDT")})
    service.post("/ingest/run")
    with Listening(create_app(both, service.store)) as url:
        text = requests.get(url + "/metrics/prometheus", timeout=WAIT_S).text
        ready = requests.get(url + "/ready", timeout=WAIT_S)
    for symbol in both.btcml_symbols:
        assert f'btcml_forecasts_scored{{interval="5m",market="simulated",symbol="{symbol}"}}' in text
    assert ready.status_code == 503
    assert [sentence.split(":")[0] for sentence in ready.json()["missing"]] == [
        "candles of simulated/ETHUSDT/5m",
        "a trained model of simulated/ETHUSDT/5m",
    ]
    assert ready.json()["candles_until"] is None  # of ETHUSDT


def test_ready_tells_what_does_not_move_on(empty_service):
    """A training that failed prevents no forecast, but somebody has to look."""
    store, key = empty_service.store, empty_service.key
    finish_job(store, append_job(store, "train", key, asked_by="cli"), error="too few candles", error_status=409)
    (told,) = empty_service.get("/ready").json()["warnings"]
    assert "failed: too few candles" in told


def test_the_lag_of_the_seal_is_in_metrics_and_evaluation(service):
    """Seconds from the close to the seal, from the sealed rows."""
    service.post("/ingest/run")
    lags = service.get("/evaluation?curves=false&start=2020-01-01&end=2199-01-01").json()["seal_lag"]
    assert 0 <= lags["p50"] <= lags["p99"] < 300
    line = re.search(r"btcml_seal_lag_p99_seconds\{.*\} (\S+)", service.get("/metrics/prometheus").text)
    assert float(line[1]) == lags["p99"]


def test_a_ban_has_a_retry_after_header(service):
    """503 with the seconds that are left, not a guess."""
    until = datetime.now(UTC) + timedelta(seconds=300)
    app = create_app(service.settings, service.store)
    app.add_api_route("/banned", _banned(until))
    with Listening(app) as url:
        answer = requests.get(url + "/banned", timeout=WAIT_S)
    assert answer.status_code == 503
    assert 280 < int(answer.headers["Retry-After"]) <= 300


def _banned(until):
    """Return a function that raises a ban."""

    def banned():
        """Refuse."""
        msg = "banned"
        raise BannedError(msg, until)

    return banned


def test_the_documents_ask_no_foreign_host(service):
    """Swagger's page and all that it names come from here."""
    page = service.get("/docs").text
    assert "http://" not in page.replace(service.url, "")
    assert "https://" not in page
    assert service.get("/docs/static/swagger-ui-bundle.js").status_code == 200
    assert "url: '/openapi.json'" in page
    assert service.get("/openapi.json").json()["openapi"].startswith("3.1.")


def test_below_a_path_the_documents_find_their_files(service):
    """Whether the proxy takes the path away or leaves it."""
    with Listening(create_app(service.settings, service.store, root_path="/tools/api")) as url:
        for path in ("", "/tools/api"):
            page = requests.get(f"{url}{path}/docs", timeout=WAIT_S).text
            files = re.findall(r"['\"](/[\w./-]+)['\"]", page)
            assert files
            assert all(name.startswith("/tools/api/") for name in files)
            assert all(requests.get(f"{url}{name}", timeout=WAIT_S).ok for name in files)
            assert requests.get(f"{url}{path}/health", timeout=WAIT_S).ok


def test_a_large_body_is_refused_before_it_is_read(service):
    """Every parameter is in the query."""
    assert service.post("/predict", data=b"x" * 70_000).status_code == 413


def test_a_page_of_another_origin_may_not_change_anything(service):
    """A web page that the user happens to visit cannot start a training here."""
    assert service.post("/ingest/run", headers={"Origin": "https://evil.example"}).status_code == 403
    assert service.post("/ingest/run", headers={"Origin": "http://["}).status_code == 403
    assert service.post("/ingest/run", headers={"Origin": service.url}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[", ""])
def test_a_name_that_was_made_to_point_here_may_not_change_anything(service, host):
    """DNS rebinding: the page's own name leads to this machine, so its origin and host agree."""
    done = service.post("/futures/update", headers={"Host": host, "Origin": f"http://{host}"})
    assert done.status_code in {400, 403}
    assert service.post("/futures/update", headers={"Host": "localhost:8000"}).status_code == 200


def test_a_path_with_a_slash_behind_leads_nowhere(service):
    """A redirect would go wherever the Host header says."""
    answer = service.get("/jobs/", headers={"Host": "evil.example"}, allow_redirects=False)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_beyond_loopback_changing_routes_need_the_key(service, service_settings):
    """401 without, 401 with another, 200 with it; reading needs none."""
    settings = service_settings.model_copy(update={"btcml_api_key": SecretStr("a-long-key")})
    with Listening(create_app(settings, service.store, key_required=True)) as url:
        assert requests.post(url + "/ingest/run", timeout=WAIT_S).status_code == 401
        assert requests.post(url + "/predict?ingest_limit=5", timeout=WAIT_S).status_code == 401
        assert requests.post(url + "/predict", timeout=WAIT_S).status_code == 200
        for token, status in (("wrong", 401), ("a-long-key", 200)):
            answer = requests.post(url + "/ingest/run", headers={"Authorization": f"Bearer {token}"}, timeout=WAIT_S)
            assert answer.status_code == status
        assert requests.get(url + "/prices/latest", timeout=WAIT_S).status_code == 200


def test_a_key_that_is_set_is_required_on_loopback_too(service_settings):
    """A proxy on this machine connects from loopback for everyone."""
    assert check_host(service_settings.model_copy(update={"btcml_api_key": SecretStr("a-long-key")}), "127.0.0.1")
    assert not check_host(service_settings, "127.0.0.1")


def test_listening_beyond_loopback_without_a_key_is_refused(service_settings):
    """There is no default secret."""
    with pytest.raises(UsageError, match="BTCML_API_KEY"):
        serve_api(service_settings, "0.0.0.0", 0)  # noqa: S104 - refused, that is the point


def test_only_listed_origins_may_read_from_a_page(service, service_settings):
    """CORS by list."""
    settings = service_settings.model_copy(update={"btcml_cors_origins": ("http://localhost:8866",)})
    with Listening(create_app(settings, service.store)) as url:
        known = requests.get(url + "/health", headers={"Origin": "http://localhost:8866"}, timeout=WAIT_S)
        other = requests.get(url + "/health", headers={"Origin": "http://evil.example"}, timeout=WAIT_S)
    assert known.headers["access-control-allow-origin"] == "http://localhost:8866"
    assert "access-control-allow-origin" not in other.headers
