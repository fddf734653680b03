"""Archives are untrusted: judged as a whole before a member is read, and never unpacked."""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.photos.images import RejectedImage
from charreg.photos.sources import archives, find_photos, read_photo
from charreg.photos.sources.photos import Member
from data_fixtures import encoded, enormous_png, portrait
from miniature import write_tar, write_zip

FACE = encoded(Image.fromarray(portrait()), "PNG")
LIMIT = 100_000_000


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path) -> Iterator[None]:
    yield
    assert {path.suffix for path in tmp_path.rglob("*")} <= {".tar", ".zip"}


def refused(path: Path, complaint: str) -> None:
    def read(*_: object) -> None:
        raise AssertionError("read although the archive has to be refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "read_member", read)
        with pytest.raises(CharregError, match=complaint) as refusal:
            find_photos("folder", path)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("../face.png", "outside the archive's own folder"),
        ("a/../../face.png", "outside the archive's own folder"),
        ("/etc/face.png", "wanted relative names"),
        ("C:/face.png", "wanted relative names"),
        ("a\\..\\face.png", "wanted relative names"),
    ],
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str, complaint: str) -> None:
    refused(write_tar(tmp_path / "a.tar", {"good.png": FACE, name: FACE}), complaint)
    refused(write_zip(tmp_path / "a.zip", {"good.png": FACE, name: FACE}), complaint)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.CHRTYPE, "is a device or pipe"),
        (tarfile.BLKTYPE, "is a device or pipe"),
        (tarfile.FIFOTYPE, "is a device or pipe"),
        (b"Z", "is a member of an odd kind|found"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, complaint: str) -> None:
    refused(write_tar(tmp_path / "a.tar", {"good.png": FACE}, name="x.png", type=kind, linkname="good.png"), complaint)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("x.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.png", FACE)
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "a.zip", r"'x\.png' is a link or a device")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    files = {f"{i}.png": FACE for i in range(4)}
    refused(write_tar(tmp_path / "a.tar", files), "found more than 3 members")
    refused(write_zip(tmp_path / "a.zip", files), "declares 4 members, wanted at most 3")


def test_ten_million_declared_members_are_refused_at_once(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png": FACE})
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    length, begin = struct.unpack_from("<2L", content, end + 12)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10_000_000, 10_000_000, length, begin)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(content[:end] + wide + locator + short)
    refused(path, "declares 10000000 members")


def test_bombs_are_refused(tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {"x.png": bytes(1 << 25)}), r"'x\.png' unpacks \d+ bytes to 33554432")
    (tmp_path / "a.zip").unlink()
    with tarfile.open(tmp_path / "a.tar", "w:") as archive:  # a sparse file: a few bytes that stand for a gigabyte
        info = tarfile.TarInfo("x.png")
        fields = {"major": "0", "minor": "1", "name": "x.png", "size": f"{1 << 30}", "map": "0,512", "numblocks": "1"}
        info.pax_headers = {f"GNU.sparse.{key}": value for key, value in fields.items()}
        info.size = 512
        archive.addfile(info, io.BytesIO(bytes(512)))
    refused(tmp_path / "a.tar", r"'x\.png' is a member of an odd kind")


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The bomb without a high ratio: many directory entries for one compressed member."""
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": FACE for i in range(3)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    begin = content.index(b"PK\1\2")
    first = content[: content.index(b"PK\3\4", 4)]
    directory = bytearray(content[begin:])
    for place in [i for i in range(len(directory)) if directory[i : i + 4] == b"PK\1\2"]:
        directory[place + 42 : place + 46] = bytes(4)  # every entry points at the first member
    end = directory.rindex(b"PK\5\6")
    directory[end + 16 : end + 20] = struct.pack("<L", len(first))
    path.write_bytes(bytes(first + directory))
    refused(path, "members that share their bytes")


def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:") as archive:
        for _ in range(2):
            info = tarfile.TarInfo("x.png")
            info.size = len(FACE)
            archive.addfile(info, io.BytesIO(FACE))
    refused(tmp_path / "a.tar", r"found 'x\.png' twice")


def test_encrypted_and_oddly_packed_zips_are_refused(tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {"x.png": FACE}, zipfile.ZIP_BZIP2), "is packed by method 12")
    path = write_zip(tmp_path / "b.zip", {"x.png": FACE})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(bytes(content))
    refused(path, r"'x\.png' is encrypted")


def test_compressed_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole_tar = write_tar(tmp_path / "a.tar", {"a.png": FACE, "b.png": FACE})
    whole_zip = write_zip(tmp_path / "a.zip", {"a.png": FACE, "b.png": FACE})
    tar, packed = whole_tar.read_bytes(), whole_zip.read_bytes()
    whole_tar.unlink(), whole_zip.unlink()
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    refused(tmp_path / "gz.tar", "wanted an uncompressed tar or a zip")
    for name, content in {
        "text.tar": b"no archive\n" * 99, "text.zip": b"no archive\n" * 99, "empty.tar": b"", "empty.zip": b"",
        "cut.tar": tar[: len(tar) // 3], "boundary.tar": tar[: 512 + -(-len(FACE) // 512) * 512],
        "garbage.tar": tar[: 512 + -(-len(FACE) // 512) * 512] + b"x" * 1024,
        "cut.zip": packed[: len(packed) // 2], "tail.zip": packed[:-1], "more.zip": packed + b"x",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, "fetch (or pack )?it again")


def test_flipped_bytes_of_a_directory_never_escape_as_another_error(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for path in (
        write_tar(tmp_path / "a.tar", {"a.png": b"12", "b.png": b"34"}),
        write_zip(tmp_path / "a.zip", {"a.png": b"12"}),
    ):
        content = path.read_bytes()
        for _ in range(200):
            broken = bytearray(content)
            broken[int(draws.integers(min(len(broken), 2600)))] ^= 1 << int(draws.integers(8))
            path.write_bytes(bytes(broken))
            try:
                for member in archives.list_members(path).values():
                    archives.read_member(path, member, LIMIT)
            except (CharregError, RejectedImage):
                pass


# --- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_where_they_lie(tmp_path: Path, method: int) -> None:
    files = {"b/2.png": FACE, "a/1.png": FACE, "notes.txt": b"x", "__MACOSX/._1.png": b"x"}
    raws = [
        find_photos("folder", write_zip(tmp_path / "a.zip", files, method)),
        find_photos("folder", write_tar(tmp_path / "a.tar", files)),
    ]
    for raw in raws:
        assert [(photo.name, photo.identity) for photo in raw.photos] == [("a/1.png", "a"), ("b/2.png", "b")]
        for photo in raw.photos:
            assert np.array_equal(read_photo(photo, LIMIT).pixels, portrait())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.zip"]


def test_zips_with_fields_of_64_bits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are written for more than 65,535 members or 4 GiB."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": FACE for i in range(4)}, zipfile.ZIP_STORED)
    assert path.read_bytes().count(b"PK\6\6") == 1
    photos = find_photos("folder", path).photos
    assert [photo.name for photo in photos] == [f"{i}.png" for i in range(4)]
    assert np.array_equal(read_photo(photos[3], LIMIT).pixels, portrait())


def test_damaged_members_are_left_out_under_their_reason(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": FACE, "big.png": enormous_png()}, zipfile.ZIP_STORED)
    members = archives.list_members(path)
    member = members["a.png"]
    content = bytearray(path.read_bytes())
    content[content.index(FACE) + 5000] ^= 1
    (tmp_path / "flipped.zip").write_bytes(bytes(content))
    lying = Member(member.offset, member.stored, member.size, zlib.crc32(FACE), packed=True)
    for file, wanted, reason in (
        ("flipped.zip", member, "damaged"),
        ("a.zip", lying, "damaged"),
        ("a.zip", Member(3, 5, 5, 0), "damaged"),
        ("a.zip", Member(member.offset, 1 << 20, 1 << 20, None), "truncated"),
        ("gone.zip", member, "unreadable"),
    ):
        with pytest.raises(RejectedImage, match=reason):
            archives.read_member(tmp_path / file, wanted, LIMIT)
    with pytest.raises(RejectedImage, match="too_large"):
        archives.read_member(path, member, member.size - 1)
    (big,) = [photo for photo in find_photos("folder", path).photos if photo.name == "big.png"]
    with pytest.raises(RejectedImage, match="too_large"):
        read_photo(big, 1_000_000)


def test_a_member_that_unpacks_to_more_than_it_declares_is_left_out_early(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": bytes(1 << 26)})
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("a.png")
    with pytest.raises(RejectedImage, match="damaged"):
        archives.read_member(path, Member(info.header_offset, info.compress_size, 1000, info.CRC, packed=True), LIMIT)
