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
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ropewalk.errors import StoreError, is_own
from ropewalk.experiment import arrays as raw_files
from ropewalk.experiment import older, tables
from ropewalk.experiment.guards import DATABASE, UNBORN, require_empty, writing
from ropewalk.experiment.opening import is_as_sealed, require_harmless, require_schema
from ropewalk.experiment.tables import canonical
from ropewalk.files import remove, remove_asides

SCHEMA_VERSION = tables.VERSION
DOCUMENTS = "documents.safetensors"
FOLDERS = ("nll", "evaluator", "figures")
"""Where a run and its report keep files."""
BUSY_S = 30.0
"""How long a writer waits for other programs that read the database."""
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
        """Forget passes and answers that did not end well, so that they are tried again, and shorter passes that were
        measured in place of one in error, which may end well now; call inside `transaction`."""
        self._db.execute(
            "DELETE FROM passes WHERE EXISTS (SELECT 1 FROM passes AS longer WHERE longer.status = 'error' AND "
            "(longer.fingerprint, longer.document, longer.start, longer.bos) = (passes.fingerprint, passes.document, "
            "passes.start, passes.bos) AND longer.stop > passes.stop)"
        )
        self._db.execute("DELETE FROM passes WHERE status != 'ok'")
        self._db.execute("DELETE FROM answers WHERE status != 'ok'")

    def reopen(self) -> None:
        """Forget that a run has ended, and the values that it ended with; call inside `transaction`."""
        self._db.execute("DELETE FROM meta WHERE key = 'ended'")
        self._db.execute("DELETE FROM cells")

    def delete_lost(self) -> list[str]:
        """Forget what raw files that are gone or torn held, so that it is measured anew, and remove what a kill left
        half written; returns the files; call inside `transaction`."""
        passes, documents = self._lost()
        for name in passes:
            self._db.execute("DELETE FROM passes WHERE file = ?", [name])
        if documents:
            self._db.execute("DELETE FROM meta WHERE key = 'documents_sha256'")
        remove_asides(self.directory, FOLDERS)
        return passes + documents

    def is_whole(self) -> bool:
        """Whether all that was measured ended well, and every raw file is there as it was written."""
        failed = self.rows(
            "SELECT 1 FROM passes WHERE status != 'ok' UNION ALL SELECT 1 FROM answers WHERE status != 'ok'"
        )
        return not any(failed) and self._lost() == ([], [])

    def _lost(self) -> tuple[list[str], list[str]]:
        """Raw files that are gone or torn: of passes, and of the documents."""
        measured = self.rows("SELECT file, sha256 FROM passes WHERE status = 'ok'")
        digest = self.meta("documents_sha256")
        files = {DOCUMENTS: digest} | (self.meta("evaluator") or {}).get("files", {}) if digest is not None else {}
        return (
            [str(name) for name, sha in measured if not raw_files.is_whole(self.directory, str(name), str(sha))],
            [name for name, sha in files.items() if not raw_files.is_whole(self.directory, name, sha)],
        )

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
        """The sha256 of DIR/name, arrays of any shape, written whole or not at all; see `arrays.write_arrays`."""
        return raw_files.write_arrays(self.directory, name, arrays)

    def read_arrays(self, name: str, expected: str) -> dict[str, NDArray[Any]]:
        """The arrays of DIR/name, of any shape, which has that sha256; see `arrays.read_arrays`."""
        return raw_files.read_arrays(self.directory, name, expected)


def _finite(text: str) -> float:
    """A number of a record; NaN and what a float cannot hold are a ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
