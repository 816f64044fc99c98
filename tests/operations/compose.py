"""docker-compose.yml as processes of this machine: interpolated as Docker does, ports and folders moved."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})")


def interpolate(value, environment):
    """Replace ${NAME}, ${NAME:-default}, ${NAME:?sentence} and $$, as compose does."""
    if isinstance(value, dict):
        return {key: interpolate(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolate(part, environment) for part in value]
    return _VARIABLE.sub(lambda match: _resolve(match, environment), value) if isinstance(value, str) else value


def _resolve(match, environment):
    name, kind, rest = match.groups()
    if name is None:
        return "$"
    if environment.get(name):
        return environment[name]
    if kind == "?":
        msg = f"{name}: {rest}"
        raise KeyError(msg)
    return rest or ""


def load_env(path):
    """Variables of a .env file."""
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if "=" in line and line[0] != "#")
    return dict(line.split("=", 1) for line in lines)


def compose():
    """The file as it stands."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def services(environment):
    """Every service, interpolated."""
    return interpolate(compose(), environment)["services"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_CONFINE = 'mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,ro,bind / && exec "$@"'


def confined(folder):
    """Words before a command that leave it nothing to write to but the folder; none where this machine cannot."""
    probe = ["unshare", "--mount", "bash", "-c", _CONFINE, str(folder), "true"]
    with contextlib.suppress(OSError):
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return probe[:-1]
    return []


class Machine:
    """Runs services of the compose file as processes: the same command, environment and health check.

    Parameters
    ----------
    environment
        Variables of ``.env``.
    folder
        Where the volumes are.
    database
        Port at which the ``db`` service answers.
    """

    def __init__(self, environment, folder, database):
        self.services = services(environment)
        self.folder = folder
        self.ports = {"8000": str(free_port()), "8866": str(free_port())}
        self._moves = {
            "@db:5432": f"@127.0.0.1:{database}",
            "//api:8000": f"//127.0.0.1:{self.ports['8000']}",
            "/data/": f"{folder}/",
        }
        self.running = {}
        self._confine = confined(folder)

    def _move(self, text):
        for old, new in self._moves.items():
            text = text.replace(old, new)
        for inside, outside in self.ports.items():
            text = re.sub(rf"(?<=127\.0\.0\.1:){inside}\b|^{inside}$", outside, text)
        return text

    def environment(self, name):
        own = {key: self._move(str(value)) for key, value in self.services[name]["environment"].items()}
        plain = {key: os.environ[key] for key in ("LANG", "LD_LIBRARY_PATH") if key in os.environ}
        tmp = self.folder / "tmp"
        tmp.mkdir(exist_ok=True)
        fixed = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp), "TMPDIR": str(tmp), "TZ": "UTC"}
        return plain | fixed | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": str(tmp)} | own

    def start(self, name, *more):
        """Start a service; words after its name replace its command, as those of docker compose run do."""
        service = self.services[name]
        entry = [*service.get("entrypoint", []), *(more or service.get("command", []))]
        command = [self._move(part) for part in entry]
        for volume in service.get("volumes", []):
            Path(self._move(volume.split(":")[1])).mkdir(parents=True, exist_ok=True)
        if service["read_only"]:
            command = [*self._confine, *command]
        (self.folder / "cwd").mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment(name),
                cwd=self.folder / "cwd",
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[name] = process
        return process

    def run(self, name, *more, timeout=900):
        """Run a service that ends, and answer its exit status and output."""
        status = self.start(name, *more).wait(timeout)
        del self.running[name]
        return status, (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def healthy(self, name):
        """Run the service's own health check once."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        moved = [self._move(part) for part in command]
        done = subprocess.run(
            moved, env=self.environment(name), cwd=self.folder, capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def wait_healthy(self, name, seconds=240):
        end = time.monotonic() + seconds
        while not self.healthy(name):
            log = (self.folder / f"{name}.log").read_text(encoding="utf-8")[-2000:]
            assert self.running[name].poll() is None, f"{name} ended: {log}"
            assert time.monotonic() < end, f"{name} is not healthy: {log}"
            time.sleep(1)

    def stop(self, name, seconds=40):
        """Stop a service as Docker does: SIGTERM, then patience."""
        process = self.running.pop(name)
        process.terminate()
        return process.wait(seconds)

    def kill(self):
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
