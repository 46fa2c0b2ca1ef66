"""The run directory, and its only writer: `run.sqlite`, and raw token losses beside it.

    DIR/run.sqlite              meta, documents, schemes, workers, passes, prompts, answers, cells
    DIR/documents.safetensors   per document: ids int32 [N], utf8_bytes int32 [N], key uint8 [N] (with LongPPL)
    DIR/nll/*.safetensors       per pass: nll float32 [T - 1], nats; file's sha256 in its row
    DIR/evaluator/*.safetensors per document: the evaluator's losses that key tokens come from
    DIR/run.lock                who writes; empty after a crash as before it

A raw file is whole before its row exists (written aside, synced, renamed), and a row's transaction is one batch of
passes with every cell they finish: killed at any moment, at most the batch in flight is lost.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from ropewalk.errors import StoreError, is_own
from ropewalk.experiment import older, tables
from ropewalk.experiment.opening import is_as_sealed, require_harmless, require_schema
from ropewalk.experiment.tables import canonical
from ropewalk.files import read_inside, remove, remove_asides, sha256, write_whole

SCHEMA_VERSION = tables.VERSION
DATABASE = "run.sqlite"
DOCUMENTS = "documents.safetensors"
LOCK = "run.lock"
FOLDERS = ("nll", "evaluator", "figures")
"""Where a run and its report keep files."""
MAX_RAW_BYTES = 2**29
"""Of one raw file: 56 million tokens of documents, 128 million losses."""
BUSY_S = 30.0
"""How long a writer waits for other programs that read the database."""
UNBORN = (LOCK, DATABASE + ".new", DATABASE + ".new-journal")
"""What a process killed while it made a run leaves in its directory; nothing is lost with them."""
SCHEMAS = {1: older.TABLES, SCHEMA_VERSION: tables.TABLES}
"""Schema 1 is read and not written."""
OLDER = {1: (older.BEFORE_SOFTMAX,), SCHEMA_VERSION: (tables.BEFORE_WINDOWS,)}
"""As runs were made before a column came; they are read, and those of today's schema are gone on with."""


class Store:
    """An open run directory. Use `create`, `open_run` or `exists`; `transaction` groups writes."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self.directory = directory
        self._db = connection

    @staticmethod
    def exists(directory: Path) -> bool:
        return (directory / DATABASE).is_file()

    @classmethod
    def create(cls, directory: Path) -> Store:
        """Make an empty run in a directory that holds nothing yet.

        Raises:
            StoreError: the directory holds files of something else, or cannot be written.
        """
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            require_empty(directory)
            fresh = directory / (DATABASE + ".new")
            for name in UNBORN[1:]:
                remove(directory, name)
            with contextlib.closing(sqlite3.connect(fresh)) as connection:
                connection.executescript(
                    f"BEGIN; {SCHEMAS[SCHEMA_VERSION]} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
            os.replace(fresh, directory / DATABASE)
        return cls.open_run(directory)

    @classmethod
    def open_run(cls, directory: Path, *, read_only: bool = False) -> Store:
        """Open an existing run; to read only, nothing in the directory is written, mended or removed.

        Raises:
            StoreError: there is none, it is damaged or harmful, a kill cut its last commit short and it is not opened
                to go on, or its schema is newer than this version reads.
        """
        path = directory / DATABASE
        if not path.is_file():
            raise StoreError(f"{directory}: holds no run (no {DATABASE}); name a directory made by `ropewalk run`.")
        require_harmless(path)
        with contextlib.ExitStack() as on_error:
            try:
                mode = "ro" if read_only else "rw"
                connection = sqlite3.connect(
                    f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None
                )
                on_error.callback(connection.close)
                connection.execute("PRAGMA trusted_schema = OFF")
                version = cls._require_version(path, connection)
                require_schema(path, connection, SCHEMAS[version], *OLDER[version])
            except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from SQLite's own words on torn names
                raise cls._unreadable(path, error) from None
            if version < SCHEMA_VERSION and not read_only:
                raise StoreError(
                    f"{directory}: was made by an older ropewalk (schema {version}) and can be read, but not gone on "
                    "with; finish it with that version, or choose another --out."
                )
            on_error.pop_all()
        return cls(directory, connection)

    @staticmethod
    def _require_version(path: Path, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{path}: has schema {version}, this ropewalk reads up to {SCHEMA_VERSION}; upgrade ropewalk."
            )
        begun = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'cells'").fetchall()
        if version not in SCHEMAS or not begun:
            raise StoreError(f"{path}: is not a ropewalk run (schema {version}); name another directory.")
        return version

    @staticmethod
    def _unreadable(path: Path, error: Exception) -> StoreError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK:
            return StoreError(
                f"{path}: its last commit was cut short, and only its writer may undo that; run the same experiment "
                "with this --out again, it goes on from there."
            )
        return StoreError(f"{path}: is no readable database ({error}); restore it or start a new directory.")

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside become durable together, or none does."""
        with writing(self.directory):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._unreadable(self.directory / DATABASE, error) from None

    def table(self, name: str, order: str = "rowid") -> list[dict[str, Any]]:
        """Every row of a table, by column, in the order of one."""
        return self.named(f"SELECT * FROM {name} ORDER BY {order}")

    def named(self, query: str) -> list[dict[str, Any]]:
        """What a query gives, each row by column."""
        rows = self.rows(query)
        names = [each[0] for each in self._db.execute(query).description] if rows else []
        return [dict(zip(names, values, strict=True)) for values in rows]

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT COUNT(*) FROM {table}")[0][0])

    @property
    def version(self) -> int:
        return int(self.rows("PRAGMA user_version")[0][0])

    def workers(self) -> list[dict[str, Any]]:
        """Rows of the table workers; schema 1 records one for all passes."""
        if self.version > 1:
            return [
                {**row, "versions": self.parsed(row["versions"], "versions of a worker")}
                for row in self.table("workers")
            ]
        return older.workers(self)

    def documents(self) -> list[dict[str, Any]]:
        """Rows of the table documents; where it knows no windows, each is the first of its own."""
        return [{"cluster": row["id"], "start": 0} | row for row in self.table("documents", "document")]

    def schemes(self) -> dict[str, dict[str, Any]]:
        """What passes ran under, as `Scheme.plain` says it, by fingerprint."""
        if self.version > 1:
            rows = self.table("schemes")
            return {row["fingerprint"]: self.parsed(row["scheme"], f"scheme {row['fingerprint']}") for row in rows}
        return older.schemes(self)

    def prompts(self) -> list[dict[str, Any]]:
        """Rows of the table prompts, in the order of their places."""
        return self.table("prompts", "place") if self.version > 1 else older.prompts(self)

    def answers(self) -> list[dict[str, Any]]:
        """Rows of the table answers."""
        return self.table("answers") if self.version > 1 else older.answers(self)

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Insert or replace one row; call inside `transaction`."""
        marks = ", ".join("?" for _ in row)
        self._db.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))

    def delete_failures(self) -> None:
        """Forget passes and answers that did not end well, so that they are tried again; call inside `transaction`."""
        self._db.execute("DELETE FROM passes WHERE status != 'ok'")
        self._db.execute("DELETE FROM answers WHERE status != 'ok'")

    def reopen(self) -> None:
        """Forget that a run has ended, and the values that it ended with; call inside `transaction`."""
        self._db.execute("DELETE FROM meta WHERE key = 'ended'")
        self._db.execute("DELETE FROM cells")

    def delete_lost(self) -> list[str]:
        """Forget what raw files that are gone or torn held, so that it is measured anew, and remove what a kill left
        half written; returns the files; call inside `transaction`."""
        lost = []
        for name, digest in self.rows("SELECT file, sha256 FROM passes WHERE status = 'ok'"):
            if not self._is_whole(str(name), str(digest)):
                self._db.execute("DELETE FROM passes WHERE file = ?", [name])
                lost.append(str(name))
        digest = self.meta("documents_sha256")
        files = {DOCUMENTS: digest} | (self.meta("evaluator") or {}).get("files", {}) if digest is not None else {}
        if torn := [name for name, digest in files.items() if not self._is_whole(name, digest)]:
            self._db.execute("DELETE FROM meta WHERE key = 'documents_sha256'")
            lost += torn
        remove_asides(self.directory, FOLDERS)
        return lost

    def delete_of(self, worker: int, *, documents: bool) -> None:
        """Forget what a worker measured, and every value, as some are made of it, and perhaps what is known of the
        documents; call inside `transaction`."""
        for name in ("passes", "answers"):
            self._db.execute(f"DELETE FROM {name} WHERE worker = ?", [worker])
        self._db.execute("DELETE FROM cells")
        if documents:
            self._db.execute("DELETE FROM meta WHERE key = 'documents_sha256'")

    def meta(self, key: str) -> Any:
        found = self.rows("SELECT value FROM meta WHERE key = ?", [key])
        return self.parsed(found[0][0], f"meta {key}") if found else None

    def parsed(self, text: Any, what: str) -> Any:
        """JSON out of a column.

        Raises:
            StoreError: `what` is no JSON, or holds a number that no writer writes: NaN, or beyond floats.
        """
        try:
            return json.loads(text, parse_constant=_finite, parse_float=_finite)
        except (TypeError, ValueError, RecursionError):
            raise self.damaged(what) from None

    def damaged(self, what: str) -> StoreError:
        return StoreError(f"{self.directory / DATABASE}: {what} is damaged; restore the file, or start a new run.")

    def require_damaged(self, error: BaseException) -> None:
        """Raise an error of ropewalk's own code again if the database is as its writer left it: no damage caused it."""
        if is_own(error) and is_as_sealed(self.directory / DATABASE):
            raise error

    def set_meta(self, key: str, value: Any) -> None:
        self.insert("meta", {"key": key, "value": canonical(value)})

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Write arrays to DIR/name, whole or not at all; returns the file's sha256."""
        data = save_safetensors({key: np.ascontiguousarray(value) for key, value in arrays.items()})
        if len(data) > MAX_RAW_BYTES:
            raise StoreError(
                f"{self.directory / name}: needs {len(data)} bytes, more than {MAX_RAW_BYTES}; measure "
                "fewer or shorter documents."
            )
        with writing(self.directory):
            write_whole(self.directory, name, data)
        return sha256(data)

    def _read(self, name: str) -> bytes:
        """A raw file. Raises StoreError where it lies outside the run, and OSError where it cannot be read."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise StoreError(f"{self.directory / DATABASE}: names the raw file {name!r} outside the run; restore it.")
        return read_inside(self.directory, str(path), MAX_RAW_BYTES)

    def _is_whole(self, name: str, digest: str) -> bool:
        try:
            return sha256(self._read(name)) == digest
        except OSError:
            return False

    def read_arrays(self, name: str, expected: str) -> dict[str, NDArray[Any]]:
        """Read arrays back.

        Raises:
            StoreError: the file is missing, lies outside the run, or is not what was written.
        """
        path = self.directory / name
        try:
            data = self._read(name)
            if sha256(data) != expected:
                raise StoreError(
                    f"{path}: its sha256 is not {expected[:16]}..., the file was altered or torn; "
                    "run again to measure it anew."
                )
            return load_safetensors(data)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); run again to measure it anew.") from None
        except (SafetensorError, LookupError, TypeError, ValueError) as error:  # the others for kinds numpy has not
            raise StoreError(
                f"{path}: is no safetensors file ({error}); delete it and run again to measure it anew."
            ) from None


def require_empty(directory: Path) -> None:
    """Refuse a directory that holds something else; call only where there is no run in it.

    Raises:
        StoreError: naming one of the files, or that it is a file itself.
    """
    if directory.is_dir():
        others = sorted(path.name for path in directory.iterdir() if path.name not in UNBORN)
        if others:
            raise StoreError(f"{directory}: holds {others[0]!r} and no run; name an empty or a new directory.")
    elif directory.exists():
        raise StoreError(f"{directory}: is a file and no directory; name an empty or a new directory.")


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn what disks and SQLite refuse into one sentence."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{directory}: cannot be written ({error.strerror or error}); free space or choose another "
            "directory with --out, then run again: finished work is kept."
        ) from None
    except sqlite3.Error as error:
        raise StoreError(
            f"{directory / DATABASE}: cannot be written ({error}); close other programs that use it, "
            "free space, then run again: finished work is kept."
        ) from None


@contextlib.contextmanager
def sound(directory: Path) -> Iterator[None]:
    """Turn what nonsense in a run directory makes of the code that reads it into one sentence, cause attached.

    A run may come from anybody. Every value in it that something depends on is checked where it is used; this is for
    values of another kind than any that ropewalk writes, in any of some sixty columns and records. Where the database
    is byte for byte what its writer left, the mistake is ropewalk's own and stays what it is.
    """
    try:
        yield
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RecursionError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        if is_as_sealed(directory / DATABASE):
            raise
        said = " ".join(str(error).split())[:120]
        raise StoreError(
            f"{directory / DATABASE}: what it holds does not fit together ({type(error).__name__}: {said}); restore "
            "the file, or start a new run."
        ) from error


def _finite(text: str) -> float:
    """A number of a record; NaN and what a float cannot hold are a ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
