"""docker-compose.yml without Docker: its rules, its roles, and its services as processes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from sqlalchemy import make_url

from btcml.cli import make_parser
from btcml.settings import Settings
from btcml.store.engine import migrate

from .compose import BIN, ROOT, Machine, compose, free_port, interpolate, load_env, services
from .server import BIN as POSTGRES
from .server import Server, tls_before

SECRETS = {
    "BTCML_OWNER_PASSWORD",
    "BTCML_APP_PASSWORD",
    "BTCML_READ_PASSWORD",
    "BTCML_API_KEY",
    "BTCML_DASHBOARD_PASSWORD",
}
ENVIRONMENT = {name: f"secret-of-{name.lower()}" for name in SECRETS}


def test_the_file_keeps_the_compose_specification():
    """By the schema that check-jsonschema carries."""
    tool = BIN / "check-jsonschema"
    command = [tool, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_docker_reads_the_file_where_there_is_a_docker(tmp_path):
    """With the engine's own parser; skipped where there is none."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no docker compose on this machine")
    lines = "\n".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    (tmp_path / ".env").write_text(lines, encoding="utf-8")
    command = [
        "docker",
        "compose",
        "--env-file",
        tmp_path / ".env",
        "--file",
        ROOT / "docker-compose.yml",
        "config",
        "-q",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_dockerfile_has_no_lint():
    """Hadolint, with every exception beside its line."""
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_secret_has_a_default():
    """Without .env the file stops with a sentence; the example holds none; each secret is required."""
    with pytest.raises(KeyError, match="run make env"):
        services({})
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\$\{(BTCML_\w*(?:PASSWORD|KEY))[:}]", text))
    assert named == SECRETS | {"BTCML_ALERT_KEY"}
    assert "${BTCML_ALERT_KEY:-}" in text  # optional: alerts are sent unsigned without it
    assert all(f"${{{name}:-" not in text for name in SECRETS)
    example = load_env(ROOT / ".env.example")
    assert {name for name, value in example.items() if not value} == SECRETS


def test_make_env_makes_secrets_once(tmp_path):
    """Readable by the owner alone, different each time, never overwritten."""
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--no-print-directory", "env"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    made = load_env(tmp_path / ".env")
    assert all(len(made[name]) == 32 for name in SECRETS)
    assert len({made[name] for name in SECRETS}) == len(SECRETS)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "already" in again.stderr


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_every_service_is_confined(name):
    """No capability to spare, no new privileges, a read-only root, limits, a log that rotates, a way to restart."""
    service = services(ENVIRONMENT)[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert service["restart"] in {"unless-stopped", "no"}
    assert "healthcheck" in service or service["restart"] == "no"
    assert service["image"].startswith("btcml:") or re.search(r":\d+\.\d+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if service["image"].startswith("btcml:"):
        assert service["user"] == "10001:10001"


def test_every_command_and_variable_exists_in_btcml():
    """A command that the parser refuses, or a setting that does not exist, would only show on the server."""
    known = {name.upper() for name in Settings.model_fields}
    for service in services(ENVIRONMENT).values():
        if service["image"].startswith("btcml:"):
            make_parser().parse_args([*service.get("entrypoint", []), *service.get("command", [])][1:])
            assert set(service["environment"]) <= known


def test_one_service_builds_the_image_and_all_others_wait_for_it():
    """Several builds of one tag collide; a service without a build is started after the one that has it."""
    known = services(ENVIRONMENT)
    assert [name for name, service in known.items() if "build" in service] == ["migrate"]

    def waits_for(name):
        return {*(needed := known[name].get("depends_on", {})), *(far for near in needed for far in waits_for(near))}

    ours = [name for name, service in known.items() if service["image"].startswith("btcml:")]
    assert len(ours) >= 6
    assert all(name == "migrate" or "migrate" in waits_for(name) for name in ours)


def test_a_host_with_one_processor_can_run_every_service():
    """Docker refuses a limit above what there is."""
    assert all(
        float(service["deploy"]["resources"]["limits"]["cpus"]) <= 1 for service in services(ENVIRONMENT).values()
    )
    assert services(ENVIRONMENT | {"BTCML_CPUS": "2"})["scheduler"]["deploy"]["resources"]["limits"]["cpus"] == "2"


def test_adminer_starts_on_a_read_only_root():
    """Its entrypoint links a design and plugins into the folder of the program, and ends where it cannot."""
    adminer = services(ENVIRONMENT)["adminer"]
    assert adminer["read_only"]
    assert not {"ADMINER_DESIGN", "ADMINER_PLUGINS"} & adminer["environment"].keys()


def test_secrets_reach_only_those_who_need_them():
    """The owner's password is known to db, migrate and backup; the reader's to the two of ours."""
    for name, service in services(ENVIRONMENT).items():
        values = " ".join(map(str, service["environment"].values()))
        assert (ENVIRONMENT["BTCML_OWNER_PASSWORD"] in values) == (name in {"db", "migrate", "backup"})
        assert (ENVIRONMENT["BTCML_READ_PASSWORD"] in values) == (name in {"migrate", "backup"})


def test_interpolation_is_that_of_compose():
    """The four forms that the file uses."""
    assert interpolate(["${A}", "${B:-b}", "$$C", {"x": "${A:?no}"}], {"A": "a"}) == ["a", "b", "$C", {"x": "a"}]


def database():
    """A server with the very options of the db service, on a port of its own."""
    options = services(ENVIRONMENT)["db"]["command"][1:]
    return Server(free_port(), "btcml_owner", ENVIRONMENT["BTCML_OWNER_PASSWORD"], options)


@pytest.fixture(scope="module")
def server():
    """A server as the db service is: TCP, SCRAM passwords, an owner of its own."""
    made = database()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def migrated(server):
    """The same after the migrate service has run."""
    status, log = Machine(ENVIRONMENT, server.port).run("migrate")
    assert status == 0, log
    return server


@pytest.mark.parametrize(
    ("changes", "healthy"), [({}, True), ({"POSTGRES_PASSWORD": "wrong"}, False), ({"PGPORT": "1"}, False)]
)
def test_the_database_is_healthy_only_where_it_answers_with_its_password(server, changes, healthy):
    """The db service's own health check, run against the server: over TCP, with the secret."""
    service = services(ENVIRONMENT)["db"]
    kind, command = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    environment = {"PATH": f"{POSTGRES}:/usr/bin:/bin", "PGPORT": str(server.port)} | service["environment"] | changes
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is healthy, done.stderr


def test_the_migrate_service_makes_the_roles_with_their_passwords(migrated):
    """Each role comes in with its own password, and with no other."""
    for role, name in (("btcml_app", "BTCML_APP_PASSWORD"), ("btcml_read", "BTCML_READ_PASSWORD")):
        assert migrated.query("btcml", "SELECT current_user", role, ENVIRONMENT[name]) == role
        with pytest.raises(subprocess.CalledProcessError):
            migrated.query("btcml", "SELECT 1", role, "wrong")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO bans VALUES ('x', now(), 'x', now())",
        "UPDATE candles SET close = 1",
        "DELETE FROM candles",
        "TRUNCATE forecasts",
        "CREATE TABLE t (a int)",
        "CREATE TEMPORARY TABLE t (a int)",
        "CREATE SCHEMA s",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE candles",
        "ALTER ROLE btcml_read SUPERUSER",
        "SET ROLE btcml_app",
        "SELECT rolpassword FROM pg_authid",
        "SELECT passwd FROM pg_shadow",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY candles TO '/tmp/x'",
        "COPY candles TO PROGRAM 'id'",
    ],
)
def test_the_reader_can_read_and_nothing_else(migrated, statement):
    """The role that Adminer gets: every way to write, and every way to a secret, fails."""
    password = ENVIRONMENT["BTCML_READ_PASSWORD"]
    assert migrated.query("btcml", "SELECT count(*) FROM candles", "btcml_read", password) == "0"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        migrated.query("btcml", statement, "btcml_read", password)
    assert re.search("permission denied|must be|cannot", refused.value.stderr)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE t (a int)", "DELETE FROM forecasts", "SET ROLE btcml_owner", "DROP TABLE candles"]
)
def test_the_application_owns_nothing(migrated, statement):
    """What the API could be talked into does not include changing the schema or a sealed forecast."""
    with pytest.raises(subprocess.CalledProcessError):
        migrated.query("btcml", statement, "btcml_app", ENVIRONMENT["BTCML_APP_PASSWORD"])


def fetch(url, method="GET", key=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - the same
        return answer.status, answer.read().decode()


def insist(url, key, seconds=300):
    """Post until no other job of the kind runs: the scheduler works too."""
    end = time.monotonic() + seconds
    while True:
        try:
            return json.loads(fetch(url, "POST", key)[1])
        except urllib.error.HTTPError as error:
            if error.code != 409 or time.monotonic() > end:
                raise
            time.sleep(1)


def kept(server):
    """What a restart may not lose."""
    tables = ("candles", "forecasts", "models", "trials", "jobs")
    return {table: int(server.query("btcml", f"SELECT count(*) FROM btcml.{table}")) for table in tables}


@pytest.mark.soak
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_services_run_as_processes_and_a_restart_loses_nothing(tls, tmp_path):
    """Migrate, API, scheduler, dashboard and report: each with its own command, environment and health check."""
    server = database()
    server.start()
    environment = ENVIRONMENT | {"BTCML_SOURCE": "simulated", "BTCML_DAYS": "30", "BTCML_TRAIN_EVERY": "1h"}
    try:
        if not tls:
            _drive(server, environment, server.port)
        else:
            with tls_before(server.port, tmp_path) as door:
                _drive(server, environment | {"BTCML_DB_SSLMODE": "require"}, door.server_address[1])
                assert door.handshakes > 5
    finally:
        server.stop()


def _drive(server, environment, port):
    machine = Machine(environment, port)
    api, key = f"http://127.0.0.1:{machine.ports['8000']}", ENVIRONMENT["BTCML_API_KEY"]
    try:
        assert machine.run("migrate")[0] == 0
        _start(machine)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(f"{api}/ingest/run", "POST")
        assert insist(f"{api}/ingest/run", key)["status"] == "ok"
        assert insist(f"{api}/train?days=30", key)["samples"] > 1000
        assert insist(f"{api}/predict", key)["predicted_close"] > 0
        assert "btcml" in fetch(f"http://127.0.0.1:{machine.ports['8866']}/")[1]
        before = kept(server)
        assert [machine.stop(name) for name in ("dashboard", "scheduler", "api")]
        server.stop()
        server.start()
        _start(machine)
        after = kept(server)
        assert all(after[table] >= number for table, number in before.items())
        assert insist(f"{api}/predict", key)["artifact"]
        assert json.loads(fetch(f"{api}/prices/latest?n=1")[1])
        if server.port == port:
            status, log = machine.run("report", "--days", "30")
            assert status == 0, log
            assert list(machine.folder.glob("reports/*/*/*/*/pages/index.html"))
            _lose_and_restore(machine, server)
    finally:
        machine.kill()


def _lose_and_restore(machine, server):
    """Back up, lose database and models, restore: the services serve what they served before."""
    before = kept(server)
    assert machine.run("backup")[0] == 0
    for name in ("dashboard", "scheduler", "api"):
        machine.stop(name)
    server.query("btcml", "DROP SCHEMA btcml CASCADE")
    shutil.rmtree(machine.folder / "models")
    status, log = machine.run("backup", "btcml", "db", "restore", "/data/backups/btcml.backup")
    assert status == 0, log
    after = kept(server)
    assert all(after[table] >= number for table, number in before.items())
    _start(machine)
    answer = insist(f"http://127.0.0.1:{machine.ports['8000']}/predict", ENVIRONMENT["BTCML_API_KEY"])
    assert answer["predicted_close"] > 0


def test_a_service_runs_as_the_images_user_and_cannot_become_another():
    """Where this machine can say so: root and unshare. Nothing but the volumes can be written."""
    machine = Machine(ENVIRONMENT, 1)
    if not machine.unprivileged:
        pytest.skip("needs root and unshare")
    words = "import os, pathlib; print(os.getuid(), open('/proc/self/status').read().split('CapEff:')[1].split()[0]); "
    machine.start("backup", sys.executable, "-c", words + "pathlib.Path('/tmp/beside').touch()").wait(60)
    log = (machine.folder / "backup.log").read_text(encoding="utf-8")
    assert log.startswith("10001 0000000000000000")
    assert re.search("Read-only file system|Permission denied", log)


def _start(machine):
    for name in ("api", "scheduler", "dashboard"):
        machine.start(name)
        machine.wait_healthy(name)


def test_the_schema_can_be_migrated_by_an_owner_who_is_no_superuser(migrated):
    """A managed database gives CREATEROLE at most."""
    migrated.query("postgres", "CREATE ROLE landlord LOGIN CREATEROLE PASSWORD 'x'")
    migrated.query("postgres", "CREATE DATABASE managed OWNER landlord")
    for role in ("btcml_app", "btcml_read"):
        migrated.query("postgres", f"GRANT {role} TO landlord WITH ADMIN OPTION")
    migrate(make_url(f"postgresql+psycopg2://landlord:x@127.0.0.1:{migrated.port}/managed"))
    assert migrated.query("managed", "SELECT count(*) FROM btcml.forecasts") == "0"
