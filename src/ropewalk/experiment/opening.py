"""What the files of a database must be before SQLite looks at them: a run directory may come from anybody.

SQLite mends a database with whatever journal lies beside it. Such a journal may name another file, which SQLite then
deletes, and a log written ahead comes with an index that SQLite writes to, through links too. No run has either.
"""

from __future__ import annotations

import re
import sqlite3
import stat
from functools import cache
from pathlib import Path

from ropewalk.errors import StoreError
from ropewalk.files import read_inside, read_regular, sha256, write_whole

MAX_BYTES = 2**29
SEAL = "run.sha256"
MAGIC = bytes.fromhex("d9d505f920a163d7")
"""How a journal ends that names another one (SQLite's file format, 3: "The Rollback Journal")."""
KINDS = {"TEXT": "'text'", "INTEGER": "'integer'", "REAL": "'real', 'integer'"}
"""What `typeof` says of values in a column, by its declared type."""


def require_harmless(path: Path) -> None:
    """Refuse a database whose files would make SQLite reach elsewhere.

    Raises:
        StoreError: it is a link or too large, keeps a log written ahead, or has a journal that names another file.
    """
    journal = path.with_name(path.name + "-journal")
    for each in (path, journal):
        if (each.exists() or each.is_symlink()) and not stat.S_ISREG(each.lstat().st_mode):
            raise StoreError(f"{each}: is a link or no file, which no run has; name another directory.")
    if path.stat().st_size > MAX_BYTES:
        raise StoreError(f"{path}: has more than {MAX_BYTES} bytes, which no run has; name another directory.")
    with path.open("rb") as file:
        written_ahead = 2 in file.read(20)[18:]
    if written_ahead or any(path.with_name(path.name + end).is_symlink() for end in ("-wal", "-shm")):
        raise StoreError(f"{path}: keeps its log as a file of its own, which no run does; name another directory.")
    if journal.exists():
        with journal.open("rb") as file:
            file.seek(max(0, journal.stat().st_size - len(MAGIC)))
            if file.read() == MAGIC:
                raise StoreError(f"{journal}: names a file that SQLite would delete; name another directory.")


def seal(path: Path) -> None:
    """Write down the hash of a database that its writer has closed, beside it.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path.parent, SEAL, (sha256(path.read_bytes()) + "\n").encode())


def sealed(directory: Path) -> str | None:
    """The hash that the writer of a run's database left beside it, 64 hex digits; None if there is none."""
    try:
        said = read_inside(directory, SEAL, 100).decode().strip()
    except (OSError, ValueError):
        return None
    return said if re.fullmatch("[0-9a-f]{64}", said) else None


def is_as_sealed(path: Path) -> bool:
    """Whether a database is byte for byte what its writer left: then an error of who reads it is a bug of ropewalk."""
    try:
        return sha256(read_regular(path, MAX_BYTES)) == sealed(path.parent)
    except OSError:
        return False


def require_schema(path: Path, connection: sqlite3.Connection, *schemas: str) -> None:
    """Refuse a database that holds anything but the tables of one of `schemas`, whose pages do not fit together, or
    whose values are not of their columns' types.

    Triggers, views and computed columns would change what is read and written, and run whatever they say. Pages that
    are reached twice make few bytes into rows without end.

    Raises:
        StoreError: naming what no run holds.
        sqlite3.Error: it cannot be read.
    """
    expected = frozenset[tuple[str, str, str | None]]().union(*map(_parts, schemas))
    for part in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if part not in expected:
            raise StoreError(f"{path}: holds the {part[0]} {part[1]!r}, which no run does; name another directory.")
    ((said,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if said != "ok":
        raise sqlite3.DatabaseError(" ".join(str(said).split()))
    _require_kinds(path, connection)


def _require_kinds(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse values of another kind than their column says: SQLite stores any, and readers compare and sort them."""
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, kind, not_null, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
            taken = KINDS[kind] + ("" if not_null else ", 'null'")
            wrong = f"SELECT typeof({column}) FROM {table} WHERE typeof({column}) NOT IN ({taken}) LIMIT 1"
            for (found,) in connection.execute(wrong):
                raise StoreError(
                    f"{path}: {table}.{column} holds a value of the kind {found}, which no run writes; restore the "
                    "file, or start a new run."
                )


@cache
def _parts(schema: str) -> frozenset[tuple[str, str, str | None]]:
    made = sqlite3.connect(":memory:")
    try:
        made.executescript(schema)
        return frozenset(made.execute("SELECT type, name, sql FROM sqlite_master"))
    finally:
        made.close()
