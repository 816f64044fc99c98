"""Backup and restore: the whole database at one moment, and the models beside it, in one file.

A backup is a zip: ``database.dump`` (PostgreSQL's custom format, readable by any ``pg_restore``),
``manifest.json`` (schema, rows and content hash of each table) and ``models/``. It gets its name
only after it has been restored into a scratch database with equal hashes; a restore compares them
again before it commits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from btcml.errors import SourceError, StoreError, UsageError
from btcml.files import write_bytes
from btcml.store.embedded import programs_folder
from btcml.store.engine import (
    SCHEMA,
    connected,
    head_revision,
    known_revisions,
    libpq_parameters,
    migrate,
    require_no_sessions,
)

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection


DUMP = "database.dump"
MANIFEST = "manifest.json"
_FORMAT = 1
_MODELS = "models/"
_LOCK_WAIT = "20s"
_TLS = {"require", "verify-ca", "verify-full"}


def backup_database(url: URL, models: Path, file: Path) -> dict[str, Any]:
    """Write a backup, restore it into a scratch database, and only then give it its name.

    Parameters
    ----------
    url
        Address of the database as its owner.
    models
        Folder of the trained models; their files go into the backup.
    file
        The file to write. Its folder must exist.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``schema``, ``rows`` and ``verified``.

    Raises
    ------
    StoreError
        If PostgreSQL's tools fail, or the restored copy differs.
    """
    if not file.absolute().parent.is_dir():
        msg = f"the folder of {file} does not exist: make it, or back up elsewhere"
        raise UsageError(msg)
    with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".btcml-backup-") as folder:
        dump = Path(folder) / DUMP
        manifest = _dump(url, dump)
        verified = _verify(url, dump, manifest)
        packed = Path(folder) / file.name
        _pack(packed, dump, manifest, models)
        packed.replace(file)
    rows = sum(facts["rows"] for facts in manifest["tables"].values())
    facts = {"file": str(file), "bytes": file.stat().st_size, "schema": manifest["schema"]}
    return facts | {"rows": rows, "verified": verified}


def _dump(url: URL, dump: Path) -> dict[str, Any]:
    """Dump and hash within one exported snapshot, so that both see the same moment."""
    with connected(url, "REPEATABLE READ") as connection:
        snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
        manifest = {
            "format": _FORMAT,
            "schema": connection.scalar(text("SELECT version_num FROM alembic_version")),
            "namespace": SCHEMA,
            "tables": table_hashes(connection),
        }
        options = ["--format=custom", f"--schema={SCHEMA}", f"--snapshot={snapshot}", f"--file={dump}"]
        _run(url, "pg_dump", *options)
    return manifest


def table_hashes(connection: Connection) -> dict[str, dict[str, Any]]:
    """Rows and content hash of every table.

    Returns
    -------
    dict
        Table name to ``rows`` and ``hash``. The hash is the sum over rows of the first 64 bits of
        the SHA-256 of the row's text in UTC: it does not depend on the order of rows.
    """
    connection.execute(text("SET LOCAL timezone = 'UTC'"))
    connection.execute(text("SET LOCAL extra_float_digits = 1"))
    query = f"SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}' ORDER BY 1"
    names = list(connection.execute(text(query)).scalars())
    rows = {name: connection.execute(text(_hash_query(SCHEMA, name))).one() for name in names}
    return {name: {"rows": int(row[0]), "hash": str(row[1])} for name, row in rows.items()}


def _hash_query(schema: str, table: str) -> str:
    bits = "('x' || encode(substr(sha256(convert_to(t::text, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint"
    return f'SELECT count(*), coalesce(sum({bits}), 0) FROM {schema}."{table}" t'


def _verify(url: URL, dump: Path, manifest: dict[str, Any]) -> bool:
    """Restore into a scratch database; False where the role may not create one.

    Raises
    ------
    StoreError
        If the restored copy differs.
    """
    name = f"btcml_verify_{uuid.uuid4().hex[:12]}"
    with connected(url, "AUTOCOMMIT") as connection:
        try:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        except ProgrammingError:
            return False
        try:
            scratch = url.set(database=name)
            _run(scratch, "pg_restore", "--no-owner", "--exit-on-error", "--dbname", name, str(dump))
            with connected(scratch) as copy:
                _compare(table_hashes(copy), manifest)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    return True


def _compare(found: dict[str, Any], manifest: dict[str, Any]) -> None:
    names = set(found) | set(manifest["tables"])
    wrong = sorted(name for name in names if found.get(name) != manifest["tables"].get(name))
    if wrong:
        msg = f"the restored copy differs from the database in {', '.join(wrong)}: back up again, to another disk"
        raise StoreError(msg)


def _pack(file: Path, dump: Path, manifest: dict[str, Any], models: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:  # stored: the dump is compressed already
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
        archive.write(dump, DUMP)
        for path in sorted(path for path in models.rglob("*") if path.is_file()):
            archive.write(path, _MODELS + path.relative_to(models).as_posix(), zipfile.ZIP_DEFLATED)


def load_manifest(file: Path) -> dict[str, Any]:
    """Read the manifest of a backup, after checking every byte of the file.

    Raises
    ------
    SourceError
        If the file is missing, damaged or not a backup of btcml.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
            manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        msg = f"{file} is not a backup of btcml ({error}): give another file"
        raise SourceError(msg) from error
    if damaged or manifest.get("format") != _FORMAT:
        msg = f"the backup {file} is damaged at {damaged or MANIFEST}: take an earlier one"
        raise SourceError(msg)
    return manifest


def restore_database(url: URL, models: Path, file: Path, *, replace: bool = False) -> dict[str, Any]:
    """Put a backup in place of what the database holds: in one transaction.

    Parameters
    ----------
    url
        Address of the database as its owner.
    models
        Folder of trained models; files of the backup are written into it, others stay.
    file
        What `backup_database` wrote.
    replace
        Allow it where the database holds rows.

    Returns
    -------
    dict
        ``rows``, ``models`` (files), and ``schema`` after the restore.

    Raises
    ------
    UsageError, BusyError
        If the database holds rows and `replace` is not set; if others use it.
    StoreError
        If the restored tables differ from the backup's hashes; the database is then as before.
    """
    manifest = load_manifest(file)
    if manifest["schema"] not in known_revisions():
        msg = f"the backup has the schema {manifest['schema']}, newer than this btcml ({head_revision()}): update btcml"
        raise StoreError(msg)
    require_no_sessions(url)
    migrate(url)  # makes the roles that the backup's grants name
    if not replace and (held := _held(url)):
        msg = f"the database holds {held} rows that a restore would drop: back it up, then give --replace"
        raise UsageError(msg)
    with tempfile.TemporaryDirectory(prefix="btcml-restore-") as folder, zipfile.ZipFile(file) as archive:
        _replay(url, Path(archive.extract(DUMP, folder)), manifest)
        count = _unpack(archive, models)
    migrate(url)
    rows = sum(facts["rows"] for facts in manifest["tables"].values())
    return {"file": str(file), "rows": rows, "models": count, "schema": head_revision()}


def _held(url: URL) -> int:
    with connected(url) as connection:
        return sum(facts["rows"] for name, facts in table_hashes(connection).items() if name != "alembic_version")


_EMPTY = (
    f"SET lock_timeout = '{_LOCK_WAIT}'",
    f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
)


def _replay(url: URL, dump: Path, manifest: dict[str, Any]) -> None:
    """Drop, restore and compare in one transaction."""
    script = dump.with_suffix(".sql")
    _run(url, "pg_restore", "--no-owner", f"--file={script}", str(dump))
    schema = manifest.get("namespace", "public")  # where the tables stood until version 0.1
    checks = "".join(_check(schema, name, facts) for name, facts in manifest["tables"].items())
    with script.open("a", encoding="utf-8") as out:
        out.write(f"\nSET timezone = 'UTC';\nSET extra_float_digits = 1;\n{checks}")
    before = [option for statement in _EMPTY for option in ("--command", statement)]
    options = ("-X", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--output={os.devnull}")
    _run(url, "psql", *options, *before, f"--file={script}")


def _check(schema: str, table: str, facts: dict[str, Any]) -> str:
    wanted = f"n = {int(facts['rows'])} AND h = {int(facts['hash'])}"
    return (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM ({_hash_query(schema, table)}) found (n, h) WHERE {wanted}) "
        f"THEN RAISE EXCEPTION 'the table {table} differs from the backup'; END IF; END $$;\n"
        f'ANALYZE "{schema}"."{table}";\n'  # else joins of large tables take minutes until the server does it itself
    )


def _unpack(archive: zipfile.ZipFile, models: Path) -> int:
    """Write the models' files; names that point outside the folder are skipped."""
    root, count = models.resolve(), 0
    for name in archive.namelist():
        target = (root / name.removeprefix(_MODELS)).resolve()
        if name.startswith(_MODELS) and target.is_relative_to(root):
            write_bytes(target, archive.read(name))
            count += 1
    return count


def _run(url: URL, tool: str, *options: str) -> None:
    """Run one of PostgreSQL's own tools; the password is passed in the environment."""
    known = libpq_parameters(url)
    command = [_find(tool, tls=known.get("sslmode") in _TLS), "--no-password", *options]
    names = {"dbname": "DATABASE", "connect_timeout": "CONNECT_TIMEOUT"}
    environment = dict(os.environ)
    for name, value in known.items():
        environment[f"PG{names.get(name, name.upper().replace('_', ''))}"] = str(value)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error:" in line.lower()] or [done.stderr]
        why = lines[0].strip() or "no message"
        msg = f"{tool} failed ({why}): nothing was changed; stop API and scheduler if they hold locks, then repeat"
        raise StoreError(msg)


def _find(tool: str, *, tls: bool) -> str:
    """Path of a PostgreSQL tool: the one of the embedded server, which has no TLS, or the machine's."""
    folder = programs_folder()
    own = folder / tool if folder is not None and not tls else None
    found = str(own) if own is not None and own.exists() else shutil.which(tool)
    if found is None:
        msg = f"{tool} is neither beside the embedded server nor on the PATH: install PostgreSQL's client tools"
        raise StoreError(msg)
    return found
