"""The file of a reader study: one SQLite database, opened for each piece of work and closed again.

Write-ahead logging lets several readers work at once; a transaction is on the disk when it returns; what is deleted is
overwritten with zeros. `reader_store` knows what the rows mean.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from arra_med.errors import EvaluationError

APPLICATION_ID = 0x41724D52  # "ArMR", so that another program's database is told apart
_PATIENCE_S = 30.0

_SCHEMA = """
CREATE TABLE study (
    only INTEGER PRIMARY KEY CHECK (only = 1), format_version INTEGER NOT NULL, code TEXT NOT NULL,
    settings TEXT NOT NULL, owner_salt TEXT NOT NULL, owner_digest TEXT NOT NULL, made_by TEXT NOT NULL,
    content_sha256 TEXT NOT NULL) STRICT;
CREATE TABLE cases (number INTEGER PRIMARY KEY, report TEXT NOT NULL) STRICT;
CREATE TABLE images (
    case_number INTEGER NOT NULL REFERENCES cases (number), side INTEGER NOT NULL CHECK (side IN (0, 1)),
    arm TEXT NOT NULL, role TEXT NOT NULL, origin TEXT NOT NULL, sha256 TEXT NOT NULL, png BLOB NOT NULL,
    PRIMARY KEY (case_number, side)) STRICT;
CREATE TABLE readers (number INTEGER PRIMARY KEY AUTOINCREMENT, code_sha256 TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE screens (
    reader INTEGER NOT NULL REFERENCES readers (number) ON DELETE CASCADE, place INTEGER NOT NULL CHECK (place >= 0),
    case_number INTEGER NOT NULL REFERENCES cases (number), seconds REAL NOT NULL CHECK (seconds >= 0),
    PRIMARY KEY (reader, place)) STRICT;
CREATE TABLE answers (
    reader INTEGER NOT NULL, place INTEGER NOT NULL, question TEXT NOT NULL, choice TEXT NOT NULL,
    PRIMARY KEY (reader, place, question),
    FOREIGN KEY (reader, place) REFERENCES screens (reader, place) ON DELETE CASCADE) STRICT;
"""


@contextlib.contextmanager
def new_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Makes the file, mode 0600, and yields it in one transaction; on any error it is removed again.

    Raises:
        EvaluationError: If it is there already, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        raise EvaluationError(f"{path.name}: is there already and may be in use; choose another file") from None
    except OSError as error:
        raise EvaluationError(f"{path.name}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        with _explained(path), contextlib.closing(_connected(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.executescript("BEGIN;" + _SCHEMA)
            yield connection
            connection.execute("COMMIT")
    except BaseException:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def database(path: Path, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """Yields the file in one transaction: of an error inside nothing remains, after it everything is on the disk.

    Args:
        path: The file.
        writing: Whether anything changes; one process writes at a time, the others wait.

    Raises:
        EvaluationError: If it is not there, is no reader study or damaged, or cannot be written.
    """
    if not path.is_file():
        raise EvaluationError(f"{path.name}: this reader study is not there; ask whoever runs it, or check the code")
    with _explained(path), contextlib.closing(_connected(path)) as connection:
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            raise EvaluationError(f"{path.name}: is no file of a reader study; give one that this program made")
        connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # SQLite itself ends it where the disk is full
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def empty_log(path: Path) -> None:
    """Moves what the write-ahead log holds into the file and cuts the log to nothing, so that no deleted row stays in it.

    Raises:
        EvaluationError: If another process reads or writes all the while.
    """
    with _explained(path), contextlib.closing(_connected(path)) as connection:
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise EvaluationError(
            f"{path.name}: the rows are deleted, but the log that still holds them is in use: try again when no one reads"
        )


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_PATIENCE_S
    )
    for setting in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {setting}")
    return connection


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into a sentence; none of its words, which may quote a value, gets out."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise EvaluationError(
                f"{path.name}: the disk is full and nothing was saved; make room, then go on"
            ) from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise EvaluationError(f"{path.name}: is in use and nothing was saved; try again in a moment") from None
        raise EvaluationError(
            f"{path.name}: cannot be opened, or is not whole, and nothing was saved; check the file and its permissions"
        ) from None
    except sqlite3.DatabaseError:
        raise EvaluationError(f"{path.name}: is damaged or no reader study; restore it from a copy") from None
