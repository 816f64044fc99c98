"""A PostgreSQL server that speaks TLS by itself: require, verify-full, and what they refuse.

The embedded wheel is built without OpenSSL, so this needs a server of the system; where there is none, only the
proxy of `server.tls_before` tests TLS.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .compose import BIN, free_port
from .server import Server, folder_of, own_authority

SYSTEM = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
pytestmark = pytest.mark.skipif(not SYSTEM, reason="no PostgreSQL server of the system, which could speak TLS")
WORDS = {"BTCML_APP_PASSWORD": "app-word", "BTCML_READ_PASSWORD": "read-word"}


class Encrypted:
    """A server that requires TLS, and its certificate authority."""

    def __init__(self):
        self.folder = folder_of(self)
        self.ca, key, cert = own_authority(self.folder)
        options = ["-cssl=on", f"-cssl_cert_file={cert}", f"-cssl_key_file={key}"]
        self.server = Server(free_port(), "btcml_owner", "owner-word", options, SYSTEM[-1].parent)
        if os.geteuid() == 0:
            for file in (key, cert):
                shutil.chown(file, "nobody")
        self.server.start()
        rules = self.server.data / "pg_hba.conf"
        lines = rules.read_text(encoding="utf-8").splitlines()
        rules.write_text("\n".join(line.replace("host ", "hostssl ", 1) for line in lines), encoding="utf-8")
        self.server.query("postgres", "SELECT pg_reload_conf()")

    def btcml(self, user, word, options, *argv, host="127.0.0.1"):
        """A command of btcml on this server."""
        url = f"postgresql://{user}:{word}@{host}:{self.server.port}/btcml?{options}"
        known = {"DATABASE_URL": url, "BTCML_HOME": str(self.folder / "home"), "BTCML_SOURCE": "simulated", **WORDS}
        path = f"{BIN}:{SYSTEM[-1].parent}:/usr/bin:/bin"
        command = [BIN / "btcml", *argv]
        environment = {"PATH": path, "HOME": str(self.folder)} | known
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def encrypted():
    """The server after a migration by its owner over TLS."""
    found = Encrypted()
    done = found.btcml("btcml_owner", "owner-word", f"sslmode=verify-full&sslrootcert={found.ca}", "db", "migrate")
    assert done.returncode == 0, done.stderr
    yield found
    found.server.stop()


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_candles_go_in_and_out_over_tls(encrypted, mode):
    """By SQLAlchemy and by ADBC's binary COPY; the server refuses connections without TLS."""
    options = f"sslmode={mode}" + (f"&sslrootcert={encrypted.ca}" if mode == "verify-full" else "")
    for argv in (("ingest", "--days", "2"), ("db", "series")):
        done = encrypted.btcml("btcml_app", "app-word", options, *argv)
        assert done.returncode == 0, done.stderr
    query = "SELECT count(*) FROM pg_hba_file_rules WHERE type = 'host' AND auth_method <> 'reject'"
    assert encrypted.server.query("postgres", query) == "0"


@pytest.mark.parametrize(
    ("options", "host", "why"),
    [
        ("sslmode=disable", "127.0.0.1", "no encryption|no pg_hba.conf entry"),
        ("sslmode=verify-full", "127.0.0.1", "root certificate|certificate verify failed"),
        ("sslmode=verify-full&sslrootcert={ca}", "localhost", "does not match host name"),
    ],
    ids=["plain", "unknown-authority", "another-name"],
)
def test_an_untrusted_server_is_refused_in_one_sentence(encrypted, options, host, why):
    """Without TLS, by an unknown authority, under a name that the certificate has not."""
    done = encrypted.btcml("btcml_app", "app-word", options.format(ca=encrypted.ca), "db", "series", host=host)
    assert done.returncode == 1
    assert re.search(why, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert "app-word" not in done.stderr


def test_a_backup_goes_over_tls_too(encrypted):
    """With the system's tools, since the wheel's know no TLS; restored it is the same."""
    options = f"sslmode=verify-full&sslrootcert={encrypted.ca}"
    for argv in (("db", "backup", "tls.backup"), ("db", "restore", "tls.backup", "--replace")):
        done = encrypted.btcml("btcml_owner", "owner-word", options, *argv)
        assert done.returncode == 0, done.stderr
