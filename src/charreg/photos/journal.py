"""Finished photographs of an extraction, kept until it is whole: a killed one goes on with the next photograph.

The journal is one file of records in the order the photographs were finished. A record is its place in the list, its
length and a checksum over all of it, then the packed result: a record torn by a kill or a power cut is not believed,
and neither is anything behind it.
"""

import os
import struct
import zlib
from array import array
from pathlib import Path
from typing import BinaryIO

from charreg.core.errors import CharregError

HEAD = struct.Struct("<QQI")  # place in the list, bytes of the result, CRC-32 of these two and the result
JOURNAL = "photographs.journal"  # its name in a folder of scratch


class Journal:
    """Packed results by place, in constant memory: 8 bytes a photograph. A context manager.

    count: how many photographs there are. Raises CharregError when the disk refuses a record.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count, self.known = path, count, 0
        self._begins = array("q", [-1]) * count  # where in the file the record of a place begins
        self._file: BinaryIO = open(path, "a+b", buffering=0)  # noqa: SIM115  closed by __exit__
        self._end = self._find_records()
        self._file.truncate(self._end)

    def _find_records(self) -> int:
        """Note every whole record; returns where the first that is not begins."""
        begin, size = 0, os.fstat(self._file.fileno()).st_size
        while (record := _record_at(self._file.fileno(), begin, size)) and record[0] < self.count:
            place, result = record
            self._note(place, begin)
            begin += HEAD.size + len(result)
        return begin

    def _note(self, place: int, begin: int) -> None:
        self.known += self._begins[place] < 0
        self._begins[place] = begin

    def __contains__(self, place: int) -> bool:
        return self._begins[place] >= 0

    def append(self, place: int, result: bytes) -> None:
        """Keep the result of the photograph at `place`."""
        record = HEAD.pack(place, len(result), _checksum(place, result)) + result
        try:
            written = self._file.write(record)
            if written != len(record):  # a full disk takes a part of it before it refuses
                self._file.write(record[written:])
        except OSError as error:
            raise CharregError(
                f"{self.path}: {error.strerror or error}; the photographs done so far are kept, mend this and run again"
            ) from None
        self._note(place, self._end)
        self._end += len(record)

    def read(self, place: int) -> bytes:
        """The result that was kept for `place`. Raises CharregError when it is no longer what was written."""
        record = _record_at(self._file.fileno(), self._begins[place], self._end)
        if record is None:
            raise CharregError(f"{self.path}: damaged while in use, wanted the record of photograph {place}; run again")
        return record[1]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _checksum(place: int, result: bytes) -> int:
    return zlib.crc32(result, zlib.crc32(struct.pack("<QQ", place, len(result))))


def _record_at(descriptor: int, begin: int, end: int) -> tuple[int, bytes] | None:
    """Place and result of the record that begins there, None when it is torn, altered or reaches beyond `end`."""
    head = os.pread(descriptor, HEAD.size, begin)
    if len(head) < HEAD.size:
        return None
    place, length, checksum = HEAD.unpack(head)
    if begin + HEAD.size + length > end:
        return None
    result = os.pread(descriptor, length, begin + HEAD.size)
    return (place, result) if _checksum(place, result) == checksum else None


def count_records(path: Path) -> int:
    """How many records a journal seems to have, from their heads alone."""
    count, begin, size = 0, 0, path.stat().st_size
    with open(path, "rb") as file:
        while len(head := file.read(HEAD.size)) == HEAD.size:
            begin += HEAD.size + HEAD.unpack(head)[1]
            if begin > size:
                break
            file.seek(begin)
            count += 1
    return count
