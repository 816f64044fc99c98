"""A time-stamp authority on loopback: `openssl ts` behind a small server, under a root certificate made here."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_CONFIG = """[tsa]
default_tsa = own
[own]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
"""


class Authority:
    """Stamps what it is asked to; ``mode`` is how it answers: good, down, garbage, refusing, again (its last answer).

    Attributes
    ----------
    root
        File of its root certificate.
    asked
        How often it was asked.
    """

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.folder, self.root, self.mode, self.asked, self.url = folder, folder / "ca.pem", "good", 0, ""
        self.gate, self._last = threading.Event(), b""
        self.gate.set()
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self._run("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Root", "-days", "3650")
        self._run("req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Time stamps")
        (folder / "ext").write_text("extendedKeyUsage=critical,timeStamping\n", encoding="utf-8")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650", "-extfile", "ext"]
        self._run("x509", "-req", "-in", "tsa.csr", "-out", "tsa.pem", *signed)
        (folder / "ts.cnf").write_text(_CONFIG.format(folder=folder), encoding="utf-8")
        (folder / "serial").write_text("01\n", encoding="utf-8")

    def _run(self, *command):
        subprocess.run(["openssl", *command], cwd=self.folder, check=True, capture_output=True)

    def answer(self, query):
        """Status and answer to a query."""
        self.asked += 1
        assert self.gate.wait(600)
        if self.mode == "again":
            return 200, self._last
        if self.mode != "good":
            return {
                "down": (503, b""),
                "garbage": (200, b"<html>"),
                "refusing": (200, bytes.fromhex("30053003020102")),
            }[self.mode]
        (self.folder / "query").write_bytes(query)
        self._run("ts", "-reply", "-config", "ts.cnf", "-queryfile", "query", "-out", "reply")
        self._last = (self.folder / "reply").read_bytes()
        return 200, self._last

    @contextlib.contextmanager
    def serving(self):
        """Serve on loopback for a block."""
        answer = self.answer

        class _Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.headers["Content-Type"] == "application/timestamp-query"
                status, body = answer(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            try:
                yield self
            finally:
                self.gate.set()
                server.shutdown()
