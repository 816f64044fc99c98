"""The command line: exit status 0, 2 for the user's mistake, 1 for a failure, always with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from btcml.cli import main
from btcml.commands import VERBS
from btcml.market.files import FileMarket
from btcml.market.simulate import SimulatedMarket
from btcml.pipeline.story import load_plan
from btcml.testing.exchange import running_exchange


@pytest.fixture
def run(store, home, monkeypatch, capsys):  # noqa: ARG001 - an empty database
    """Run btcml in this process against the test's own database."""
    monkeypatch.setenv("BTCML_HOME", str(home))
    monkeypatch.setenv("BTCML_SOURCE", "simulated")

    def _run(*argv):
        status = main(argv)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return _run


@pytest.fixture
def csv(tmp_path):
    """Return a small file of candles, and what to do to it."""
    start = pd.Timestamp("2025-01-01", tz="UTC")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta(days=2))

    def _write(**changes):
        path = tmp_path / "BTCUSDT-5m.csv"
        frame.astype(dict.fromkeys(changes, object)).assign(**changes).to_csv(path, index=False)
        return str(path)

    return _write


def test_an_ingest_answers_one_json_object(run):
    """For programs: the object alone on standard output."""
    status, out, _ = run("ingest", "--json", "--days", "2")
    assert status == 0
    assert json.loads(out)["inserted"] == json.loads(out)["fetched"] > 500


@pytest.mark.parametrize(
    "argv",
    ["ingest --days 2", "backfill --days 2", "ingest --symbol BTCUSDT,ETHUSDT --days 2", "doctor"]
    + [f"db {action}" for action in ("series", "quarantine", "suspects", "check", "snapshots", "models")],
)
def test_every_json_answer_has_a_status(run, argv):
    """Of a success too, whatever its form."""
    status, out, _ = run(*argv.split(), "--json")
    assert (status, json.loads(out)["status"]) == (0, "ok")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["ingest", "--days", "0"], "days"),
        (["ingest", "--days", "many"], "invalid int value"),
        (["ingest", "--interval", "7m"], "one of 1m"),
        (["ingest", "--symbol", "btcusdt"], "symbol"),
        (["ingest", "--symbol", "BTCUSDX"], "BTCUSDX"),
        (["ingest", "--source", "no/such/file.csv"], "does not exist"),
        (["backfill", "--since", "yesterday"], "--since"),
        (["backfill", "--since", "05/04/2026"], "expected a UTC time such as 2017-08-17"),
        (["ingest", "--interval", "1s"], "the exchange has 1s, btcml does not: give one of 1m"),
        (["ingest", "--interval", "1M"], "the exchange has 1M, btcml does not: give one of 1m"),
        (["report", "--interval", "1M"], "the exchange has 1M, btcml does not: give one of 1m"),
        (["evaluate", "--interval", "1s"], "the exchange has 1s, btcml does not: give one of 1m"),
        (["report", "--end", "05/04/2026"], "expected a UTC time such as 2025-06-30T00:00, found '05/04/2026'"),
        (["exchange", "--at", "05/04/2026"], "expected a UTC time such as 2017-08-17"),
        (["ingest", "--market", "binance"], "of the market simulated are never stored as binance"),
        (["backfill", "--market", "binance", "--days", "2"], "of the market simulated are never stored as binance"),
        (["ingest", "--as-of", "2025-01-01"], "--as-of and --timezone are about a file of candles"),
        (["backfill", "--since", "0001-01-01"], "--since"),
        (["backfill", "--until", "NaT"], "--until"),
        (["ingest", "--audit", "--since", "2190-01-01"], "is empty"),
        (["ingest", "--symbol", "BTCUSDT,ETH-USDT"], "a symbol is"),
        (["report", "--end", "soon"], "end"),
        (["report", "--from-plan", "nothing.mk"], "no plan"),
        (["db", "export", "simulated/BTCUSDT/5m", "candles.txt"], ".parquet or .csv"),
        (["db", "export", "simulated/BTCUSDT/1h", "candles.csv"], "has candles"),
        (["exchange", "--source", "no/such"], "no/such"),
        (["nonsense"], "invalid choice"),
        ([], "VERB"),
        (["ingest", "--sybmol", "BTCUSDT"], "unrecognized"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_exit_2(run, argv, says):
    """What was wrong, in one line on standard error; nothing on standard output; no traceback."""
    status, out, err = run(*argv)
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("btcml: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("interval", ["1s", "1M"])
def test_the_setting_of_an_interval_is_refused_by_the_same_sentence(run, monkeypatch, interval):
    """The variable BTCML_INTERVAL is checked as the option is."""
    monkeypatch.setenv("BTCML_INTERVAL", interval)
    status, _, err = run("ingest")
    assert (status, f"the exchange has {interval}, btcml does not: give one of 1m" in err) == (2, True)


def test_a_symbol_beyond_ascii_works_from_the_exchange_to_the_report(run, tmp_path, monkeypatch):
    """Fetched from a replay exchange and its archive, stored, printed as JSON, exported, and in a run folder's path."""
    symbol, end = "币安人生USDT", pd.Timestamp("2025-02-02", tz="UTC")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "1m", end - pd.Timedelta(days=40), end)
    frame.to_parquet(tmp_path / f"{symbol}-1m.parquet")
    source = FileMarket(tmp_path / f"{symbol}-1m.parquet", as_of=end)
    with running_exchange(source, lambda: end, name="letters", weight_limit=10**9) as exchange:
        for name, value in (("BINANCE_URLS", exchange.url), ("ARCHIVE_URL", exchange.url), ("SOURCE", "binance")):
            monkeypatch.setenv(f"BTCML_{name}", value)
        series = ("--symbol", symbol, "--interval", "1m")
        done = json.loads(run("backfill", *series, "--days", "40", "--json")[1])
        assert (done["status"], done["key"]["symbol"], done["inserted"]) == ("ok", symbol, 40 * 1440)
        assert f"/data/spot/monthly/klines/{symbol}/1m/{symbol}-1m-2025-01.zip" in {seen.path for seen in exchange.log}
        assert json.loads(run("db", "series", "--json")[1])["rows"][0]["symbol"] == symbol
        assert run("db", "export", f"replay:letters/{symbol}/1m", str(tmp_path / "x.csv"))[0] == 0
        assert run("report", *series, "--days", "30", "--plan", str(tmp_path / "plan.mk"))[0] == 0
    text = (tmp_path / "plan.mk").read_text(encoding="utf-8")
    assert text.startswith(f"RUN := reports/build/replay-letters/{symbol}/1m/30d-2025-02-02T0000\n")
    assert load_plan(tmp_path / "plan.mk").symbol == symbol


def test_a_backfill_of_a_file_stores_all_of_it(run, tmp_path):
    """Its 300 days but the last, which may have been open; not the newest 90."""
    start = pd.Timestamp("2024-01-01", tz="UTC")
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "1d", start, start + pd.Timedelta(days=300))
    frame.to_csv(tmp_path / "BTCUSDT-1d.csv", index=False)
    done = run("backfill", "--source", str(tmp_path / "BTCUSDT-1d.csv"), "--interval", "1d", "--json")[1]
    assert json.loads(done)["inserted"] == 299


def test_a_text_price_in_a_file_is_named_with_its_place(run, csv):
    """Nothing is half-written: the series does not exist afterwards."""
    status, _, err = run("ingest", "--source", csv(close="dear"), "--days", "1")
    assert status == 2
    assert "close" in err
    assert run("db", "series", "--json") == (0, '{"status": "ok", "rows": []}\n', "")


def test_a_broken_row_of_a_file_is_quarantined_and_counted(run, csv):
    """The good rows are stored, the broken one is kept with its rule."""
    status, out, _ = run(
        "ingest",
        "--source",
        csv(volume=lambda frame: frame["volume"].where(frame.index > 0, -1.0)),
        "--days",
        "2",
        "--json",
    )
    assert status == 0
    assert json.loads(out)["quarantined"] >= 1


def test_a_file_of_which_every_row_is_broken_is_refused_with_the_reason(run, csv):
    """Not exit 0 with an empty series and no word."""
    status, _, err = run("ingest", "--source", csv(volume=-1.0), "--days", "2")
    assert status == 2
    assert "100% of the rows break the rule volume_not_negative" in err


def test_an_error_is_json_too_where_json_was_asked_for(run):
    """A program reads the sentence from the same place."""
    status, out, err = run("db", "export", "x", "y.csv", "--json")
    assert status == 2
    assert json.loads(out)["error"] in err


def test_a_missing_database_is_a_failure_not_a_mistake(run, monkeypatch):
    """Exit 1, one sentence, no password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/x")
    status, _, err = run("db", "series")
    assert status == 1
    assert "cannot be reached" in err
    assert "secret" not in err


def test_several_symbols_come_at_once(run):
    """One call, one client within the exchange's limits, one result per series."""
    status, out, _ = run("backfill", "--symbol", "BTCUSDT,ETHUSDT", "--days", "2", "--json")
    assert status == 0
    assert [done["key"]["symbol"] for done in json.loads(out)["series"]] == ["BTCUSDT", "ETHUSDT"]
    assert len(json.loads(run("db", "series", "--json")[1])["rows"]) == 2


def test_since_wins_over_the_default_of_days(run):
    """--since says where a span begins; the default of --days does not contradict it."""
    day = ("--since", "2025-01-01", "--until", "2025-01-02")
    status, out, err = run("ingest", "--days", "5", *day, "--json")
    assert (status, json.loads(out)["fetched"]) == (0, 288)
    assert "--days 5 is ignored" in err
    assert "is ignored" not in run("backfill", *day)[2]


def test_any_range_can_be_audited(run):
    """Between two days, whatever is stored already."""
    run("backfill", "--days", "3")
    span = ("--since", "2025-01-01", "--until", "2025-01-02")
    status, out, _ = run("ingest", "--audit", *span, "--json")
    assert (status, json.loads(out)["fetched"], json.loads(out)["inserted"]) == (0, 288, 288)
    assert json.loads(run("ingest", "--audit", *span, "--json")[1])["fetched"] == 288
    assert json.loads(run("backfill", *span, "--json")[1])["fetched"] == 0


def test_quarantine_and_suspects_are_listed(run, csv):
    """Which rule, from where, when; and what looks unfinished."""
    assert run("db", "quarantine") == (0, "no row has broken the contract\n", "")
    run("ingest", "--source", csv(volume=lambda frame: frame["volume"].where(frame.index > 0, -1.0)), "--days", "2")
    row = json.loads(run("db", "quarantine", "--json")[1])["rows"][-1]
    assert (row["rule"], row["volume"], row["released_at"]) == ("volume_not_negative", -1.0, None)
    assert run("db", "suspects") == (0, "no suspect span in any series\n", "")


def test_the_whole_contract_is_checked_over_the_database(run):
    """Candles that were ingested break no rule."""
    run("ingest", "--days", "2")
    status, out, _ = run("db", "check", "--json")
    assert status == 0
    assert {row["broken"] for row in json.loads(out)["rows"]} == {0}


def test_what_is_exported_can_be_ingested_again(run, tmp_path):
    """Export and the file market are each other's inverse."""
    run("ingest", "--days", "2")
    for name in ("BTCUSDT-5m.csv", "BTCUSDT-5m.parquet"):
        assert run("db", "export", "simulated/BTCUSDT/5m", str(tmp_path / name))[0] == 0
        status, out, _ = run("ingest", "--source", str(tmp_path / name), "--json")
        counts = json.loads(out)
        assert (status, counts["inserted"], counts["quarantined"]) == (0, 576, 0)
        market = json.loads(run("db", "series", "--json")[1])["rows"][0]["market"]
        assert market.startswith("file:")
        assert run("db", "export", f"{market}/BTCUSDT/5m", str(tmp_path / f"again-{name}"))[0] == 0
        first, again = (
            pd.read_csv(path) if name.endswith("csv") else pd.read_parquet(path)
            for path in (tmp_path / name, tmp_path / f"again-{name}")
        )
        pd.testing.assert_frame_equal(first, again)


def test_an_export_is_taken_for_no_other_symbol(run, tmp_path):
    """The column names the symbol, whatever the file name is."""
    run("ingest", "--days", "2")
    for name in ("c.csv", "c.parquet"):
        run("db", "export", "simulated/BTCUSDT/5m", str(tmp_path / name))
        status, _, err = run("ingest", "--source", str(tmp_path / name), "--symbol", "ETHUSDT")
        assert (status, f"{name} holds BTCUSDT, found symbol 'ETHUSDT'" in err) == (2, True)
        status, _, err = run("ingest", "--source", str(tmp_path / name))
        assert (status, err) == (0, "")


def test_a_file_that_does_not_say_its_symbol_is_noted(run, csv):
    """One line on standard error; a file named like those of the exchange needs none."""
    named = csv()
    status, out, err = run("ingest", "--source", named, "--days", "2", "--json")
    assert (status, err.count("NOTE")) == (0, 1)
    assert json.loads(out)["notes"] == [err.removeprefix("NOTE: ").strip()]
    assert "the last candle, of 2025-01-02 23:55, may have been open" in err
    assert json.loads(run("ingest", "--source", named, "--as-of", "2025-01-03", "--json")[1])["inserted"] == 1
    plain = Path(named).rename(Path(named).with_name("mine.csv"))
    status, _, err = run("ingest", "--source", str(plain), "--symbol", "ETHUSDT", "--days", "2")
    assert status == 0
    assert err.startswith("NOTE: mine.csv does not name its symbol: stored as ETHUSDT")


def test_a_symbol_that_is_given_wins_over_the_name_of_the_file(run, csv):
    """And it says so; the symbol that is only the default does not."""
    named = Path(csv()).rename(Path(csv()).with_name("ETHUSDT-5m.csv"))
    status, _, err = run("ingest", "--source", str(named))
    assert (status, "holds ETHUSDT, found symbol 'BTCUSDT': give --symbol ETHUSDT" in err) == (2, True)
    status, out, err = run("ingest", "--source", str(named), "--symbol", "BTCUSDT", "--json")
    assert (status, json.loads(out)["key"]["symbol"]) == (0, "BTCUSDT")
    assert "NOTE: the file's name says ETHUSDT; its candles are stored as BTCUSDT, as requested" in err
    assert "the file's name says ETHUSDT" in json.loads(out)["notes"][0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    """--help ends with 0 and says what each option means."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert VERBS[verb][1] in capsys.readouterr().out
