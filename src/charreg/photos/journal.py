"""Finished photographs of an extraction, kept until it is whole: a killed one goes on with the next photograph.

The journal is an SQLite table of packed results by their place in the list, each with a checksum over both. SQLite's
write-ahead log keeps every photograph that was finished before a kill; a row that is not what was written is not
believed.
"""

import contextlib
import sqlite3
import sys
import zlib
from pathlib import Path

from charreg.core.errors import CharregError

JOURNAL = "photographs.sqlite"  # its name in a folder of scratch
TABLE = "CREATE TABLE IF NOT EXISTS photographs (place INTEGER PRIMARY KEY, result BLOB, checksum INTEGER)"
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY)


class Journal:
    """Packed results by place, in constant memory. A context manager; a damaged file is begun anew.

    count: how many photographs there are; known: how many the file held when it was opened.
    Raises CharregError when the disk refuses the file or a record.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count
        try:
            self._base = _open(path, count)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF not in DAMAGED:
                raise self._refusal(error) from None
            sys.stderr.write(f"{path}: {error}; begins anew\n")
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._base = _open(path, count)
        self.known = _count(self._base)

    def __contains__(self, place: int) -> bool:
        return self._base.execute("SELECT 1 FROM photographs WHERE place = ?", [place]).fetchone() is not None

    def append(self, place: int, result: bytes) -> None:
        """Keep the result of the photograph at `place`."""
        row = (place, result, _checksum(place, result))
        try:
            self._base.execute("INSERT OR REPLACE INTO photographs VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            raise self._refusal(error) from None

    def read(self, place: int) -> bytes:
        """The result that was kept for `place`. Raises CharregError when it is no longer what was written."""
        question = "SELECT result FROM photographs WHERE place = ? AND checksum IS checksum(place, result)"
        try:
            (result,) = self._base.execute(question, [place]).fetchone() or (None,)
        except sqlite3.Error:
            result = None
        if result is None:
            raise CharregError(f"{self.path}: damaged while in use, wanted the record of photograph {place}; run again")
        return bytes(result)

    def _refusal(self, error: sqlite3.Error) -> CharregError:
        return CharregError(f"{self.path}: {error}; the photographs done so far are kept, mend this and run again")

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()


def _checksum(place: object, result: object) -> int | None:
    """CRC-32 of a place and a result; None of what neither can be."""
    return zlib.crc32(result, zlib.crc32(str(place).encode())) if isinstance(result, bytes) else None


def _open(path: Path, count: int) -> sqlite3.Connection:
    """A connection to a journal that holds nothing but whole records. Raises sqlite3.Error."""
    base = sqlite3.connect(path, isolation_level=None)  # every statement is a transaction
    try:
        base.create_function("checksum", 2, _checksum, deterministic=True)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute(TABLE)
        whole = "checksum IS checksum(place, result) AND place BETWEEN 0 AND ? - 1"
        base.execute(f"DELETE FROM photographs WHERE NOT ({whole})", [count])
    except BaseException:
        base.close()
        raise
    return base


def _count(base: sqlite3.Connection) -> int:
    return int(base.execute("SELECT count(*) FROM photographs").fetchone()[0])


def count_records(path: Path) -> int:
    """How many photographs a journal holds; 0 while it is being made."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        try:
            return _count(base)
        except sqlite3.Error:
            return 0
