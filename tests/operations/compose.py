"""docker-compose.yml as processes of this machine: interpolated as Docker does, ports and folders moved."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from ..processes import free_port  # noqa: TID252 - of all tests
from .server import folder_of

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


_CONFINE = 'mount --make-rprivate / && mount --bind "$0" "$0" {shown} && mount -o remount,ro,bind / && exec "$@"'
_SHOWN = """&& mkdir -p "$0/python" && mount --bind {base} "$0/python" && mount -t tmpfs -o mode=755 none {hidden}
 && mkdir -p {base} && mount --bind "$0/python" {base} && umount "$0/python" """


def _script():
    """Commands that make all but a folder read-only, and show an interpreter that is in a user's home."""
    base = Path(sys.base_prefix)
    hidden = [parent for parent in base.parents if not parent.stat().st_mode & 1]
    shown = _SHOWN.replace("\n", "").format(base=base, hidden=hidden[-1]) if hidden else ""
    return _CONFINE.format(shown=shown)


def confined(folder):
    """Words before a command that leave it nothing to write to but the folder; none where this machine cannot."""
    words = ["unshare", "--mount", "bash", "-c", _script(), str(folder)]
    with contextlib.suppress(OSError):
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return []


def as_user(user):
    """Words before a command that make it the service's user, without any capability."""
    number, _, group = user.partition(":")
    words = ["setpriv", f"--reuid={number}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    return [*words, "--bounding-set=-all", "--inh-caps=-all"]


_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"


class Machine:
    """Runs services of the compose file as processes: the same command, environment and health check.

    Parameters
    ----------
    environment
        Variables of ``.env``.
    database
        Port at which the ``db`` service answers.
    """

    def __init__(self, environment, database):
        self.services = services(environment)
        self.folder = folder = folder_of(self)
        self.ports = {"8000": str(free_port()), "8866": str(free_port())}
        self._moves = {
            "@db:5432": f"@127.0.0.1:{database}",
            "//api:8000": f"//127.0.0.1:{self.ports['8000']}",
            "/data/": f"{folder}/",
        }
        self.running = {}
        self._confine = confined(folder)
        self._user = as_user(self.services["api"]["user"])
        probe = [*self._confine, *self._user, sys.executable, "-c", _CHILD]
        if not self._confine or subprocess.run(probe, capture_output=True, check=False).returncode:
            self._user = []

    @property
    def unprivileged(self):
        """Whether the services run as the image's user."""
        return bool(self._user)

    def own(self, path):
        """A folder of the service's user, as an image's volumes are."""
        path.mkdir(parents=True, exist_ok=True)
        if self._user:
            number, _, group = self.services["api"]["user"].partition(":")
            shutil.chown(path, int(number), int(group))
        return path

    def _move(self, text):
        for old, new in self._moves.items():
            text = text.replace(old, new)
        for inside, outside in self.ports.items():
            text = re.sub(rf"(?<=127\.0\.0\.1:){inside}\b|^{inside}$", outside, text)
        return text

    def environment(self, name):
        own = {key: self._move(str(value)) for key, value in self.services[name]["environment"].items()}
        plain = {key: os.environ[key] for key in ("LANG", "LD_LIBRARY_PATH") if key in os.environ}
        tmp = self.own(self.folder / "tmp")
        fixed = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp), "TMPDIR": str(tmp), "TZ": "UTC"}
        return plain | fixed | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": str(tmp)} | own

    def start(self, name, *more):
        """Start a service; words after its name replace its command, as those of docker compose run do."""
        service = self.services[name]
        entry = [*service.get("entrypoint", []), *(more or service.get("command", []))]
        command = [self._move(part) for part in entry]
        for volume in service.get("volumes", []):
            self.own(Path(self._move(volume.split(":")[1])))
        for volume in service.get("tmpfs", []):
            self.own(Path(self._move(f"{volume.split(':')[0]}/")))
        assert service["read_only"]
        command = [*self._confine, *self._user, *command]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment(name),
                cwd=self.own(self.folder / "cwd"),
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
            [*self._user, *moved],
            env=self.environment(name),
            cwd=self.folder,
            capture_output=True,
            timeout=60,
            check=False,
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
        """Stop a service as Docker does: SIGTERM, then wait."""
        process = self.running.pop(name)
        process.terminate()
        return process.wait(seconds)

    def kill(self):
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
