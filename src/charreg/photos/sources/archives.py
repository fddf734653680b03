"""Pictures inside an uncompressed tar or a zip, read where they lie: nothing is ever unpacked to disk.

An archive is untrusted. Its list of members is judged as a whole before any of them is read: names that leave the
folder, links, devices, too many members, members that unpack to much more than they take, encrypted or damaged ones
each refuse the archive in one line.
"""

import re
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from charreg.core.errors import CharregError
from charreg.photos.images import RejectedImage
from charreg.photos.sources.photos import Member

SUFFIXES = (".tar", ".zip")
MAX_MEMBERS = 1_000_000  # CelebA has 202,599 pictures
MAX_RATIO = 100  # unpacked to packed; photographs reach 2, bombs 1,000
SLACK = 1 << 20  # bytes; blank little files pack better than MAX_RATIO and harm nobody
STORED, DEFLATED = 0, 8

END, END64_LOCATOR, END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
ENTRY, LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
UTF8_NAME, ENCRYPTED = 0x800, 0x1
BIG = 0xFFFFFFFF  # the number stands in the zip64 field


def list_members(path: Path) -> dict[str, Member]:
    """The files of an archive by name, in its own order. Raises CharregError."""
    members: dict[str, Member] = {}
    stored = 0
    entries = _zip_members(path) if path.name.lower().endswith(".zip") else _tar_members(path)
    for number, (name, member) in enumerate(entries, 1):
        _check_name(path, name)
        if number > MAX_MEMBERS:
            raise CharregError(f"{path}: found more than {MAX_MEMBERS} members, wanted fewer; split the archive")
        if name in members:
            raise CharregError(f"{path}: found {name!r} twice, wanted every name once; pack it again")
        if member.size > MAX_RATIO * member.stored + SLACK:
            raise CharregError(
                f"{path}: {name!r} unpacks {member.stored} bytes to {member.size}, wanted at most {MAX_RATIO} times "
                "as many; not a photograph, leave it out"
            )
        stored += member.stored
        if not name.endswith("/"):
            members[name] = member
    if stored > path.stat().st_size:
        raise CharregError(f"{path}: found members that share their bytes, wanted an honest archive; do not use it")
    return members


def _check_name(path: Path, name: str) -> None:
    if not name or name.startswith("/") or re.match(r"[A-Za-z]:", name) or re.search(r"[\\\0]", name):
        raise CharregError(f"{path}: found a member named {name!r}, wanted relative names; pack it again")
    if ".." in name.split("/"):
        raise CharregError(f"{path}: found a member named {name!r} outside the archive's own folder; do not use it")


def read_member(path: Path, member: Member, limit: int) -> bytes:
    """The bytes of a member, at most `limit`. Raises RejectedImage."""
    if max(member.size, member.stored) > limit:
        raise RejectedImage("too_large")
    try:
        with open(path, "rb") as file:
            file.seek(member.offset)
            if member.crc is not None:
                _skip_local_header(file)
            content = file.read(member.stored)
    except OSError:
        raise RejectedImage("unreadable") from None
    if len(content) < member.stored:
        raise RejectedImage("truncated")
    if member.packed:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
        except zlib.error:
            raise RejectedImage("damaged") from None
    if len(content) != member.size or (member.crc is not None and zlib.crc32(content) != member.crc):
        raise RejectedImage("damaged")
    return content


# --- tar -------------------------------------------------------------------------------------------------


def _tar_members(path: Path) -> Iterator[tuple[str, Member]]:
    try:
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
                if not (info.isreg() or info.isdir()) or info.sparse is not None:
                    raise CharregError(
                        f"{path}: {info.name!r} is a {_kind(info)}, wanted files and folders only; pack it again"
                    )
                yield info.name + "/" * info.isdir(), Member(info.offset_data, info.size, info.size)
            end = tar.offset
        with open(path, "rb") as file:
            file.seek(end)
            whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise CharregError(f"{path}: {error}; wanted an uncompressed tar or a zip, fetch or pack it again") from None
    if not whole:
        raise CharregError(f"{path}: ends without the closing block of a tar; truncated or damaged, fetch it again")


def _kind(info: tarfile.TarInfo) -> str:
    kinds = ((info.issym(), "symbolic link"), (info.islnk(), "hard link"), (info.isdev(), "device or pipe"))
    return next((kind for found, kind in kinds if found), "member of an odd kind")


# --- zip -------------------------------------------------------------------------------------------------


def _zip_members(path: Path) -> Iterator[tuple[str, Member]]:
    try:
        with open(path, "rb") as file:
            count, begin, end = _directory(file)
            if count > MAX_MEMBERS:
                raise CharregError(f"{path}: declares {count} members, wanted at most {MAX_MEMBERS}; split the archive")
            file.seek(begin)
            for _ in range(count):
                yield _entry(path, file)
            if file.tell() != end:
                raise ValueError("its directory holds other members than it declares")
    except (struct.error, ValueError) as error:
        raise CharregError(f"{path}: {error}; not a whole zip, fetch or pack it again") from None


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Members declared, first byte and end of the central directory. Raises ValueError or struct.error."""
    size = file.seek(0, 2)
    base = max(0, size - END.size - 0xFFFF)  # a comment of up to 65,535 bytes ends the file
    file.seek(base)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0:
        raise ValueError("found no directory at its end")
    *_, count, length, begin, comment = END.unpack_from(tail, place)
    end = base + place
    if end + END.size + comment != size:
        raise ValueError("found other bytes after its directory")
    if end >= END64_LOCATOR.size:
        file.seek(end - END64_LOCATOR.size)
        signature, _, record, _ = END64_LOCATOR.unpack(file.read(END64_LOCATOR.size))
        if signature == b"PK\6\7":  # the numbers stand in a record of 64 bits
            end = min(record, size)
            file.seek(end)
            signature, *_, count, length, begin = END64.unpack(file.read(END64.size))
            if signature != b"PK\6\6":
                raise ValueError("found no zip64 directory where it is said to be")
    if begin + length != end:
        raise ValueError("its directory does not lie where it says")
    return count, begin, begin + length


def _entry(path: Path, file: BinaryIO) -> tuple[str, Member]:
    """The next member of the central directory. Raises CharregError, ValueError or struct.error."""
    (signature, _, _, flags, method, _, _, crc, stored, size, *lengths, _, _, mode, offset) = ENTRY.unpack(
        file.read(ENTRY.size)
    )
    if signature != b"PK\1\2":
        raise ValueError("damaged directory")
    name_bytes, extra, _ = (file.read(length) for length in lengths)
    name = name_bytes.decode("utf-8" if flags & UTF8_NAME else "cp437")
    size, stored, offset = _wide(extra, [size, stored, offset])
    if stat.S_IFMT(mode >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise CharregError(f"{path}: {name!r} is a link or a device, wanted files and folders only; pack it again")
    if flags & ENCRYPTED or method not in (STORED, DEFLATED):
        found = "encrypted" if flags & ENCRYPTED else f"packed by method {method}"
        raise CharregError(f"{path}: {name!r} is {found}, wanted stored or deflated members; pack it again")
    if method == STORED and size != stored:
        raise ValueError(f"{name!r} is stored in {stored} bytes and said to have {size}")
    return name, Member(offset, stored, size, crc, packed=method == DEFLATED)


def _wide(extra: bytes, values: list[int]) -> list[int]:
    """Size, stored size and offset, those too large for 32 bits from the zip64 field."""
    while extra and BIG in values:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            return [next(wide, value) if value == BIG else value for value in values]
        extra = extra[4 + length :]
    return values


def _skip_local_header(file: BinaryIO) -> None:
    header = file.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
        raise RejectedImage("damaged")
    *_, name, extra = LOCAL.unpack(header)
    file.seek(name + extra, 1)
