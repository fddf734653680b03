"""Pictures inside an uncompressed tar or a zip, read where they lie: nothing is ever unpacked to disk.

An archive is untrusted. Its list of members is judged as a whole before any of them is read: names that leave the
folder, links, devices, too many members, members that unpack to much more than they take, encrypted or damaged ones
each refuse the archive in one line.
"""

import re
import stat
import struct
import tarfile
import zipfile
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
END_SIZE, END64_SIZE = 22, 56 + 20  # bytes of the record that ends a zip, and of what comes before it in a large one
MAX_ENTRY = 1024  # bytes a member takes in the directory of a zip, on average
LOCAL = struct.Struct("<4s5H3L2H")
ENCRYPTED = 0x1


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
        for info in _directory(path):
            name = info.orig_filename  # `filename` ends at a NUL
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise CharregError(
                    f"{path}: {name!r} is a link or a device, wanted files and folders only; pack it again"
                )
            if info.flag_bits & ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                found = "encrypted" if info.flag_bits & ENCRYPTED else f"packed by method {info.compress_type}"
                raise CharregError(f"{path}: {name!r} is {found}, wanted stored or deflated members; pack it again")
            packed = info.compress_type == zipfile.ZIP_DEFLATED
            if not packed and info.file_size != info.compress_size:
                raise ValueError(f"{name!r} is stored in {info.compress_size} bytes and said to have {info.file_size}")
            yield name, Member(info.header_offset, info.compress_size, info.file_size, info.CRC, packed)
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        raise CharregError(f"{path}: {error}; not a whole zip, fetch or pack it again") from None


def _directory(path: Path) -> list[zipfile.ZipInfo]:
    """The central directory. Raises CharregError, BadZipFile, ValueError, struct.error or NotImplementedError.

    What it declares is checked before zipfile reads it, because zipfile reads as many members as there are, and
    forgives bytes before the archive and after it.
    """
    with open(path, "rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is None:
            raise ValueError("found no directory at its end")
        signature, _, _, _, count, size, begin, comment, _, place = end
        if count > MAX_MEMBERS:
            raise CharregError(f"{path}: declares {count} members, wanted at most {MAX_MEMBERS}; split the archive")
        if place + END_SIZE + comment != file.seek(0, 2):
            raise ValueError("found other bytes after its directory")
        if begin + size + (END64_SIZE if signature == b"PK\6\6" else 0) != place:
            raise ValueError("its directory does not lie where it says")
        infos = zipfile.ZipFile(file).infolist() if size <= MAX_ENTRY * count else []
        if len(infos) != count:
            raise ValueError("its directory holds other members than it declares")
    return infos


def _skip_local_header(file: BinaryIO) -> None:
    header = file.read(LOCAL.size)
    if len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
        raise RejectedImage("damaged")
    *_, name, extra = LOCAL.unpack(header)
    file.seek(name + extra, 1)
