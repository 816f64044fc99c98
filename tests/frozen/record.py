"""Record what every face of btcml says: command line, HTTP, pages and database schema.

``python tests/frozen/record.py`` writes the records again (but home.json, which is version 0.1's), so that an
intended change is a diff to review; ``record.py faces FOLDER`` and ``record.py report FOLDER`` write a part
elsewhere, which is what the tests do before they compare. Only public faces are asked: verbs, routes, pages and SQL.
"""

from __future__ import annotations

import contextlib
import csv
import html.parser
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import requests

import btcml
from btcml.cli import main

HERE = Path(__file__).parent
RECORDS = HERE / "records"
HOME = HERE / "home-0.1.zip"
CLOCK = "2025-03-02T14:00:02"
"""Time at which the market of that home stands still."""

SERIES = "replay:simulated/BTCUSDT/5m"
ARTIFACTS = {"20250301T120002-5fbddd6f", "20250302T130002-78dceb4e"}
"""Trainings of that home; a newer one has another name each time."""

MINUTES = timedelta(minutes=2)

MACHINE = {
    r"\b[\d.]+ ([GM]iB)": r"<n> \1",
    r"(PostgreSQL |Python\n)[\d.]+": r"\1<version>",
    r"[\d.]+ s (behind|ahead of) this machine": "<n> s from this machine",
    r"(file:[\w.-]+)-[0-9a-f]{8}\b": r"\1-<path>",
}
"""What depends on the machine: its disk, its server, its folders."""

LISTS = {r"(a model is one of )[\w, ]+( or a dotted)": r"\1<models>\2"}
"""What grows with one file and its test; the reference, which a test compares, has the names."""


# ---- what differs between runs ----
class Normal:
    """Replaces what may differ between two runs: paths, addresses, times of writing, hashes, versions."""

    def __init__(self, **places):
        self.places = sorted(((str(value), f"<{name}>") for name, value in places.items()), key=lambda p: -len(p[0]))
        self.begin = datetime.now(UTC) - MINUTES

    def __call__(self, text):
        """Text without what may differ."""
        for value, name in self.places:
            text = text.replace(value, name)
        text = re.sub(r"\b\d{8}T\d{6}-[0-9a-f]{8}\b", lambda m: m[0] if m[0] in ARTIFACTS else "<artifact>", text)
        text = re.sub(r"\b[0-9a-f]{64}\b", "<hash>", text)
        text = re.sub(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)?", self._time, text)
        for pattern, name in (MACHINE | LISTS).items():
            text = re.sub(pattern, name, text)
        return text.replace(btcml.__version__, "<version>")

    def _time(self, match):
        time_ = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        return "<now>" if self.begin <= time_ <= datetime.now(UTC) + MINUTES else match[0]


VOLATILE = {"request_id", "model_age_seconds", "waited_seconds", "bytes"}
"""Fields of which only the presence is recorded."""


def stripped(value):
    """Plain values without the volatile ones."""
    if isinstance(value, dict):
        return {k: "<any>" if k in VOLATILE and v is not None else stripped(v) for k, v in value.items()}
    return [stripped(item) for item in value] if isinstance(value, list) else value


def as_text(value):
    return json.dumps(stripped(value), indent=1, sort_keys=True) + "\n"


def same_anywhere(value, normal):
    """As text without what may differ, and in an order that does not depend on where the checkout is."""
    return as_text(json.loads(normal(as_text(value))))


# ---- the command line ----
class Cli:
    """Runs verbs in this process and keeps what they answer."""

    def __init__(self):
        self.said = {}

    def __call__(self, *argv):
        """Run a verb with --json; return its object."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main([*argv, "--json"])
            except SystemExit as ended:
                status = ended.code
        try:
            answer = json.loads(out.getvalue())
        except ValueError:
            answer = out.getvalue().splitlines()
        name = " ".join(argv)
        name += " (again)" if name in self.said else ""
        self.said[name] = {"status": status, "answer": answer, "notes": notes(err.getvalue())}
        return answer


def notes(text):
    """Standard error without progress, which depends on the machine's speed."""
    return [line for line in text.splitlines() if not re.search(r"\d of [\d,]+ candles$|: cell \d+ of|is ready$", line)]


def options():
    """Every verb and action with its options, as --help names them."""
    found = {}
    for verb in _choices():
        for path in [(verb,)] + [(verb, action) for action in _choices(verb)]:
            found[" ".join(path)] = sorted(set(re.findall(r"--[a-z][a-z-]*", _help(*path))))
    return found


def _help(*argv):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*argv, "--help"])
    return out.getvalue()


def _choices(*argv):
    """Names that stand under a VERB or ACTION heading of a help page."""
    block = re.search(r"^  (?:VERB|ACTION)\n((?:    .*\n?)+)", _help(*argv), re.MULTILINE)
    return re.findall(r"^    ([a-z][a-z-]*)", block[1], re.MULTILINE) if block else []


# ---- servers ----
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(*argv, path):
    """A verb that serves, in a process of its own, once it answers; yields its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "btcml.cli", *argv, "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            while True:
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(log.read())
                with contextlib.suppress(requests.ConnectionError):
                    requests.get(url + path, timeout=600)
                    break
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()


# ---- the database ----
@contextlib.contextmanager
def database(home):
    """A connection to the embedded server of a home, as its owner."""
    lines = (home / "postgres" / "postmaster.pid").read_text().splitlines()
    connection = psycopg2.connect(host=lines[4], port=lines[3], user="postgres", dbname="btcml")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET timezone = 'UTC'; SET search_path = btcml")
            yield lambda query: (cursor.execute(query), cursor.fetchall())[1]
    finally:
        connection.close()


SCHEMA = {
    "columns": """SELECT table_name, ordinal_position, column_name, data_type, collation_name, is_nullable,
        column_default, is_identity FROM information_schema.columns WHERE table_schema = 'btcml' ORDER BY 1, 2""",
    "constraints": """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'btcml'::regnamespace AND contype <> 'n' ORDER BY 1, 2""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'btcml' ORDER BY 1, 2",
    "triggers": """SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
        WHERE NOT tgisinternal ORDER BY 1, 2""",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'btcml' ORDER BY 1",
    "functions": """SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'btcml'::regnamespace
        ORDER BY 1, oid""",
    "grants": """SELECT table_name, grantee, string_agg(privilege_type, ', ' ORDER BY privilege_type)
        FROM information_schema.role_table_grants
        WHERE table_schema = 'btcml' AND grantee LIKE ANY (ARRAY['btcml%', 'PUBLIC']) GROUP BY 1, 2 ORDER BY 1, 2""",
    "roles": """SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls FROM pg_roles
        WHERE rolname LIKE 'btcml%' ORDER BY 1""",
}


def schema(home):
    """The schema as text: one paragraph per kind of thing, one line per thing."""
    parts = []
    with database(home) as ask:
        for title, query in SCHEMA.items():
            rows = [" | ".join("-" if item is None else str(item) for item in row) for row in ask(query)]
            parts.append("\n".join([f"## {title}", *rows]))
    return "\n\n".join(parts) + "\n"


SCORED = """SELECT market, symbol, interval, seq, open_time::text, role, model, artifact, status, base, close, lo, hi,
prob_up, real_close, error_bp, persistence_error_bp FROM forecasts_scored ORDER BY market, symbol, interval, seq"""
CHAIN = """SELECT count(*), count(*) FILTER (WHERE f.hash = forecast_digest(f)),
count(*) FILTER (WHERE f.previous = coalesce(p.hash, '')),
max(f.hash) FILTER (WHERE f.seq = (SELECT max(seq) FROM forecasts))
FROM forecasts f LEFT JOIN forecasts p ON (p.market, p.symbol, p.interval) = (f.market, f.symbol, f.interval)
AND p.seq = f.seq - 1"""


def home_facts(home, cli):
    """What the restored home holds: rows, chain, scores."""
    with database(home) as ask:
        names = [row[0] for row in ask("SELECT tablename FROM pg_tables WHERE schemaname = 'btcml' ORDER BY 1")]
        rows = {name: ask(f'SELECT count(*) FROM "{name}"')[0][0] for name in names}
        chain = dict(zip(("rows", "true hashes", "true links", "head"), ask(CHAIN)[0], strict=True))
        version, scored = ask("SELECT version_num FROM alembic_version")[0][0], ask(SCORED)
    return {"rows": rows, "chain": chain, "scored": scored, "schema": version, "head": cli("db", "migrate")["schema"]}


# ---- the routes ----
READS = (
    "/",
    "/health",
    "/ready",
    "/docs",
    "/openapi.json",
    "/prices/latest?symbol=BTCUSDT&interval=5m&n=3",
    "/prices/latest?interval=1h&n=2",
    "/series?start=2025-03-02T10:00:00Z&end=2025-03-02T10:15:00Z",
    "/series?start=2025-03-02T13:45:00Z&limit=2",
    "/series?start=2025-03-02T10:00:00Z&end=2025-03-02T10:10:00Z&model=autoreg",
    "/series/cached?start=2025-03-02T10:00:00Z&end=2025-03-02T10:05:00Z",
    "/evaluation?start=2025-03-01T12:00:00Z&cost_bp=2",
    "/futuros?start=2025-03-01T12:30:00Z&end=2025-03-01T12:50:00Z",
    "/futures?limit=2",
    "/metrics?limit=1",
    "/metrics?interval=1h",
    "/model/info",
    "/jobs?limit=3",
    "/jobs?kind=train",
    "/jobs/1",
    "/metrics/prometheus",
    # mistakes
    "/nowhere",
    "/jobs/",
    "/jobs/999999",
    "/prices/latest?n=0",
    "/prices/latest?symbol=../etc/passwd",
    "/prices/latest?interval=7m",
    "/prices/latest?symbol=ETHUSDT",
    "/series?start=yesterday",
    "/futuros?limit=0",
)
ACTIONS = (
    "/predict?symbol=BTCUSDT&interval=5m",
    "/predict",
    "/predict?interval=1h",
    "/predict?symbol=ETHUSDT",
    "/ingest/run?symbol=BTCUSDT&interval=5m&limit=500",
    "/ingest",
    "/ingest/run?symbol=NOPE",
    "/init/backfill?days=10&symbol=BTCUSDT&interval=5m&sleep_ms=0&limit=1000",
    "/init/backfill?days=0",
    "/series/rebuild?days=5",
    "/train/apply?days=5",
    "/futuros/update",
    "/futures/update",
    "/train?days=0",
    "/train?days=8",
    "/export/parquet?symbol=BTCUSDT&interval=5m&n=5",
    "/export/parquet?symbol=ETHUSDT",
    "/health",
)
HEADERS = (
    "allow",
    "cache-control",
    "content-type",
    "etag",
    "location",
    "preference-applied",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
)


def answer_facts(answer):
    """Status, the headers that matter and the body of an answer."""
    kind = answer.headers.get("content-type", "")
    body = answer.json() if "json" in kind else _plain_body(answer.text, kind)
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    headers |= {name: "<any>" for name in ("etag", "x-request-id") if name in headers}
    return {"status": answer.status_code, "headers": headers, "body": body}


def _plain_body(text, kind):
    """Of a page its visible text, of Prometheus' format the names and labels."""
    if "html" in kind:
        return visible(text).splitlines()
    lines = {line.rsplit(" ", 1)[0] for line in text.splitlines() if line.startswith(("btcml_", "# TYPE btcml_"))}
    return sorted(line for line in lines if "_created" not in line and "btcml_request" not in line)


def routes(url):
    """Answers of every route, the reading ones first; and the description of all."""
    said = {}
    for method, paths in (("GET", READS), ("POST", ACTIONS)):
        for path in paths:
            said[f"{method} {path}"] = answer_facts(requests.request(method, url + path, timeout=600))
    tag = requests.get(url + READS[5], timeout=600).headers["etag"]
    special = {
        "GET /prices/latest with its ETag": ("GET", READS[5], {"headers": {"If-None-Match": tag}}),
        "POST /init/backfill at once": ("POST", "/init/backfill?days=2", {"headers": {"Prefer": "respond-async"}}),
        "PUT /predict": ("PUT", "/predict", {}),
        "POST /ingest from a foreign page": ("POST", "/ingest", {"headers": {"Origin": "https://evil.example"}}),
        "POST /predict with a large body": ("POST", "/predict", {"data": b"x" * 70_000}),
    }
    for name, (method, path, given) in special.items():
        said[name] = answer_facts(requests.request(method, url + path, timeout=600, **given))
    job = said["POST /init/backfill at once"]["headers"]["location"]
    while requests.get(url + job, timeout=600).json()["status"] in {"queued", "running"}:
        time.sleep(0.05)
    said["GET the job of it"] = answer_facts(requests.get(url + job, timeout=600))
    description = said.pop("GET /openapi.json")["body"]
    return said, description


# ---- pages ----
class _Text(html.parser.HTMLParser):
    """Collects the visible text of a page but its code, one line per block, and the description of each picture."""

    BLOCKS = frozenset({"p", "div", "li", "tr", "h1", "h2", "h3", "h4", "section", "figure", "figcaption", "table"})
    BLOCKS |= {"br", "option", "summary", "dt", "dd", "nav"}
    HIDDEN = frozenset({"script", "style", "svg", "pre"})

    def __init__(self):
        super().__init__()
        self.hidden, self.parts = 0, []

    def handle_starttag(self, tag, attrs):
        if tag in self.HIDDEN:
            self.hidden += 1
        label = dict(attrs).get("aria-label")
        if label:
            self.parts.append(f"\n[{label}]\n")
        self._break(tag)

    def handle_endtag(self, tag):
        if tag in self.HIDDEN:
            self.hidden -= 1
        self._break(tag)

    def _break(self, tag):
        if not self.hidden:
            self.parts.append("\n" if tag in self.BLOCKS else " | " if tag in {"td", "th"} else "")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def visible(page):
    """Visible text of a page."""
    reader = _Text()
    reader.feed(page)
    lines = (re.sub(r"[ |]*\|[ |]*", " | ", line).strip(" |") for line in "".join(reader.parts).splitlines())
    return "\n".join(line for line in lines if line and line != "Code") + "\n"


# ---- collecting ----
def clean_environment(**given):
    """Forget the caller's settings; only these hold."""
    for name in list(os.environ):
        if name.startswith("BTCML_") or name in {"DATABASE_URL", "MODELS_DIR", "API_BASE_URL", "COLUMNS"}:
            del os.environ[name]
    os.environ.update({name: str(value) for name, value in given.items()})


def record_faces(out):
    """Restore the home, then ask the database, the service and the command line."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder) / "home"
        clean_environment(BTCML_HOME=home, BTCML_SOURCE="binance", COLUMNS=100)
        exchange = stack.enter_context(server("exchange", "--at", CLOCK, "--speed", "0", path="/api/v3/ping"))
        clean_environment(
            BTCML_HOME=home,
            BTCML_SOURCE="binance",
            BTCML_BINANCE_URLS=exchange,
            BTCML_ARCHIVE_URL=exchange,
            BTCML_HORIZONS="1,3",
        )
        cli = Cli()
        restored = cli("db", "restore", str(HOME))
        facts = home_facts(home, cli)
        facts |= {"restored": restored, "verified": cli("db", "verify-forecasts"), "predict": cli("predict")}
        structure = schema(home)
        with server("api", path="/health") as url:
            facts["POST /predict"] = requests.post(url + "/predict", timeout=600).json()
            normal = Normal(api=url, exchange=exchange, home=home, folder=folder, records=HERE)
            said, description = routes(url)
        ask_verbs(cli, Path(folder))
        records = {
            "home.json": json.dumps(facts, indent=1, sort_keys=True).replace(str(HERE), "<records>") + "\n",
            "schema.txt": structure,
            "routes.json": same_anywhere(said, normal),
            "openapi.json": same_anywhere(description, normal),
            "cli.json": same_anywhere(cli.said, normal),
            "options.json": as_text(options()),
        }
    if out == RECORDS:  # what 0.1 found in its home is never recorded again
        del records["home.json"]
    for name, text in records.items():
        (out / name).write_text(text, encoding="utf-8")


def ask_verbs(cli, folder):
    """Every verb that ends, the reading ones first."""
    for action in ("series", "snapshots", "quarantine", "suspects", "check", "models"):
        cli("db", action)
    cli("doctor")
    cli("doctor", "--scheduler")  # what it finds depends on today, for jobs are dated by real time
    cli.said["doctor --scheduler"] = sorted(cli.said["doctor --scheduler"]["answer"])
    cli("ingest")
    cli("ingest", "--interval", "1h", "--days", "41")
    cli("ingest", "--audit", "--since", "2025-02-21", "--until", "2025-02-22")
    cli("backfill", "--symbol", "BTCUSDT,ETHUSDT", "--interval", "1h", "--days", "2")
    candles = folder / "BTCUSDT-5m.csv"
    cli("db", "export", SERIES, str(candles))
    broken = folder / "broken.csv"
    spoil(candles, broken)
    cli("ingest", "--source", str(broken), "--days", "1")
    cli("db", "quarantine")
    source = ("--source", str(candles))
    cli("ingest", *source, "--days", "10")
    cli("train", *source, "--days", "8")
    cli("predict", *source)
    cli("evaluate", *source, "--models", "ridge,autoreg", "--jobs", "1")
    cli("judge", str(halfway(candles, folder / "halfway.csv")), "--candles", str(candles))
    cli("db", "import", str(old_system(folder / "old")), "--market", "file:old")
    cli("db", "models", SERIES, "--prune")
    cli("db", "models", SERIES, "--roll-back")
    cli("predict")
    cli("db", "verify-forecasts", SERIES)
    cli("db", "backup", str(folder / "again.backup"))
    cli("report", "--source", "simulated", "--interval", "1h", "--days", "25", "--plan", str(folder / "plan.mk"))
    for mistake in (
        ("ingest", "--days", "0"),
        ("ingest", "--interval", "7m"),
        ("ingest", "--source", "no/such.csv"),
        ("ingest", "--symbol", "NOPE"),
        ("backfill", "--since", "yesterday"),
        ("train", "--interval", "1h"),
        ("predict", "--interval", "1h"),
        ("evaluate", *source, "--models", "nonsense"),
        ("judge", str(candles), "--candles", str(candles)),
        ("report", "--end", "soon"),
        ("verify", "no/such"),
        ("db", "export", "x", "y.csv"),
        ("db", "restore", str(candles)),
        ("db", "models", "--prune"),
        ("nonsense",),
    ):
        cli(*mistake)


def spoil(file, to):
    """Copy the last hundred candles, one with a negative volume."""
    with file.open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))[-100:]
    rows[50]["volume"] = "-1"
    with to.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def halfway(file, to):
    """Forecasts of the last four hundred candles: half-way back to the close before."""
    with file.open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))[-402:]
    close = [float(row["close"]) for row in rows]
    lines = [
        f"{rows[n]['open_time']},{rows[n + 1]['open_time']},{(close[n - 1] + close[n]) / 2}" for n in range(1, 401)
    ]
    to.write_text("\n".join(["cutoff,open_time,y_hat", *lines]) + "\n", encoding="utf-8")
    return to


def old_system(folder):
    """Tables of bitcoin-ml as CSV files."""
    folder.mkdir()
    rows = [f"2025-02-20 12:{5 * n:02d}:00,100,101,99,100.5,{10 + n}" for n in range(12)]
    (folder / "btc_candles.csv").write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    (folder / "futuros.csv").write_text("time,pred_close,real_close,err_close\n2025-02-20 12:05:00,1,2,-1\n")
    return folder


def record_report(out):
    """Build a small report of the simulated market; keep the text of its pages and their numbers."""
    with tempfile.TemporaryDirectory() as folder:
        _report(Path(folder), out / "report")


def record_verified(out):
    """Build the same report and make it again, to compare every byte."""
    with tempfile.TemporaryDirectory() as folder:
        pages = _report(Path(folder), out / "report")
        cli = Cli()
        cli("verify", str(pages.parent))
        (out / "report" / "verify.json").write_text(Normal(folder=folder)(as_text(cli.said)), encoding="utf-8")


def _report(folder, place):
    """Build the report in a folder, write what it says to a place; return where its pages are."""
    clean_environment(BTCML_HOME=folder / "home", BTCML_SOURCE="simulated")
    cli = Cli()
    answer = cli("report", "--interval", "1h", "--days", "25", "--out", str(folder / "made"))
    normal, pages = Normal(folder=folder), Path(answer["report"]).parent
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(pages / "data", place / "data")
    texts = {"report.json": as_text(cli.said), "gallery.txt": visible((folder / "made/index.html").read_text("utf-8"))}
    for page in pages.glob("*.html"):
        text = visible(page.read_text("utf-8"))
        texts[f"{page.stem}.txt"] = re.sub(r"\b(?=\w*\d)(?=\w*[a-f])[0-9a-f]{7,64}\b", "<hash>", text)
    for name, text in texts.items():
        (place / name).write_text(normal(text), encoding="utf-8")
    return pages


PARTS = {"faces": record_faces, "report": record_report, "verified": record_verified}

if __name__ == "__main__":
    parts = sys.argv[1:2] or ["faces", "verified"]
    target = Path(sys.argv[2]).absolute() if len(sys.argv) > 2 else RECORDS
    for part in parts:
        PARTS[part](target)
