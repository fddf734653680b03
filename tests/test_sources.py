"""Sources: which photographs there are, in which order, and what is known of them."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import LANDMARK_COLUMNS
from charreg.photos.images import RejectedImage
from charreg.photos.sources import Box, find_photos, read_photo
from data_fixtures import encoded, odd_files, portrait, write_files
from miniature import write_tar, write_zip


def test_folder_order_depends_on_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b/2.jpg", "b/10.jpg", "a.jpg", "Z.JPG", "c/d/é.png", "c/d/f.png"]
    for root, order in (("one", names), ("two", names[::-1])):
        for name in order:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    walk = os.walk
    first = [photo.name for photo in find_photos("folder", tmp_path / "one").photos]
    monkeypatch.setattr(os, "walk", lambda top, **_: reversed([(f, d[::-1], n[::-1]) for f, d, n in walk(top)]))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert [photo.name for photo in find_photos("folder", tmp_path / "two").photos] == first
    assert first == ["Z.JPG", "a.jpg", "b/10.jpg", "b/2.jpg", "c/d/f.png", "c/d/é.png"]


def test_folder_takes_identities_from_folders_and_leaves_hidden_files(tmp_path: Path) -> None:
    for name in ("ann/1.png", "ann/2.png", "3.png", ".hidden/4.png", ".5.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    raw = find_photos("folder", tmp_path)
    assert {photo.name: photo.identity for photo in raw.photos} == {"3.png": "", "ann/1.png": "ann", "ann/2.png": "ann"}
    assert not raw.annotated


def test_folder_reads_boxes(tmp_path: Path) -> None:
    write_files(tmp_path, odd_files())
    (tmp_path / "boxes.csv").write_text(
        "photo,left,top,width,height,identity,album\ncmyk.jpg,1,2,30,40.5,ann,summer\ncmyk.jpg,5,6,7,8,,\n"
    )
    raw = find_photos("folder", tmp_path)
    boxes = {photo.name: photo.boxes for photo in raw.photos}
    assert raw.annotated
    assert boxes["cmyk.jpg"] == (Box(1, 2, 30, 40.5, "ann", "summer"), Box(5, 6, 7, 8))
    assert boxes["alpha.png"] == ()


def test_links_to_folders_are_followed_once_and_closed_folders_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "elsewhere", {"grey.pgm": odd_files()["grey.pgm"]})
    write_files(tmp_path / "raw/closed", {"palette.png": odd_files()["palette.png"]})
    for name in ("a", "b"):
        (tmp_path / "raw" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "raw")
    scandir = os.scandir

    def refuse(path: str) -> Any:  # root may read anything, so no chmod
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    photos = find_photos("folder", tmp_path / "raw").photos
    assert [photo.name for photo in photos] == ["a/grey.pgm", "closed"]
    with pytest.raises(RejectedImage, match="unreadable"):
        read_photo(photos[1], 10**6)


def test_headers_may_have_blanks_and_capitals(tmp_path: Path) -> None:
    write_files(tmp_path, odd_files())
    (tmp_path / "boxes.csv").write_text("Photo, left, Top , WIDTH,height\ngrey.pgm, 1, 2, 3, 4\n")
    boxes = {photo.name: photo.boxes for photo in find_photos("folder", tmp_path).photos}
    assert [box.corners for box in boxes["grey.pgm"]] == [(1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("picture,left,top,width\na.png,1,2,3\n", r"boxes\.csv: found columns .*wanted photo"),
        ("photo,left,top,width\ngrey.pgm,1,2,3\n", r"boxes\.csv:2: found left and no height"),
        ("photo,left,top,width,height\ngrey.pgm,1,2,x,4\n", r"boxes\.csv:2: found box 1, 2, x, 4"),
        ("photo,left,top,width,height\ngrey.pgm,1,2,0,4\n", r"boxes\.csv:2: found box 1, 2, 0, 4"),
        ("photo,left,top,width,height\ngrey.pgm,1,2,nan,4\n", r"boxes\.csv:2: found box"),
        ("photo,left,top,width,height\ngrey.pgm,1,2,3\n", r"boxes\.csv:2: wrong number of cells"),
        ("photo,left,top,width,height\ngone.png,1,2,3,4\n", r"gone\.png is listed but missing"),
        ("", r"boxes\.csv: found columns \[\]"),
    ],
)
def test_bad_boxes_are_refused_by_line(tmp_path: Path, content: str, complaint: str) -> None:
    write_files(tmp_path, odd_files())
    (tmp_path / "boxes.csv").write_text(content)
    with pytest.raises(CharregError, match=complaint):
        find_photos("folder", tmp_path)


def test_missing_and_empty_folders_and_unknown_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CharregError, match="gone: no such folder"):
        find_photos("folder", tmp_path / "gone")
    with pytest.raises(CharregError, match="found no picture file"):
        find_photos("folder", tmp_path)
    with pytest.raises(CharregError, match="found 'wider', wanted one of packaged, helen, folder, celeba"):
        find_photos("wider", tmp_path)


def test_archives_stand_for_the_folder_they_would_unpack_to(tmp_path: Path) -> None:
    loose, packed = tmp_path / "loose", tmp_path / "packed"
    files = {f"set/ann/{i}.png": encoded(Image.fromarray(portrait()), "PNG") for i in range(3)}
    table = "photo,identity,split,native_side\nset/ann/1.png,ben,train,40.5\nset/ann/2.png,,test,\n"
    for name, content in files.items():
        (loose / name).parent.mkdir(parents=True, exist_ok=True)
        (loose / name).write_bytes(content)
    write_tar(packed / "set" / "ann.tar", {name.removeprefix("set/"): files[name] for name in files})
    for root in (loose, packed):
        (root / "boxes.csv").write_text(table)
    whole = write_zip(tmp_path / "whole.zip", {**files, "boxes.csv": table.encode()})
    for split, names in (("all", [0, 1, 2]), ("train", [1])):
        one, *others = (find_photos("folder", root, split) for root in (loose, packed, whole))
        assert [photo.name for photo in one.photos] == [f"set/ann/{i}.png" for i in names]
        known = [(photo.name, photo.identity, photo.native_side) for photo in one.photos]
        for other in others:
            assert [(photo.name, photo.identity, photo.native_side) for photo in other.photos] == known
            assert np.array_equal(read_photo(other.photos[0], 10**6).pixels, portrait())
    assert {photo.identity for photo in find_photos("folder", loose).photos} == {"ann", "ben", ""}
    with pytest.raises(CharregError, match="found no photograph of split val, wanted one of: test, train"):
        find_photos("folder", loose, "val")
    (packed / "set" / "ann").mkdir()
    (packed / "set" / "ann" / "1.png").write_bytes(b"x")
    with pytest.raises(CharregError, match=r"set/ann/1\.png is there twice"):
        find_photos("folder", packed)


def test_landmarks_of_boxes_csv(tmp_path: Path) -> None:
    write_files(tmp_path, {"grey.pgm": odd_files()["grey.pgm"]})
    header = f"photo,{','.join(LANDMARK_COLUMNS)}\n"
    (tmp_path / "boxes.csv").write_text(f"{header}grey.pgm,{','.join(map(str, range(10)))}\n")
    (photo,) = find_photos("folder", tmp_path).photos
    assert photo.landmarks == tuple(range(10))
    assert photo.boxes == ()
    for rows, complaint in (
        (f"grey.pgm{',1' * 10}\n" * 2, "csv:3: found landmarks of grey.pgm again"),
        (f"grey.pgm{',1' * 9},x\n", "csv:2: found landmarks that are no numbers"),
        (f"grey.pgm{',1' * 9},\n", "csv:2: found left_eye_x and no right_mouth_y"),
    ):
        (tmp_path / "boxes.csv").write_text(header + rows)
        with pytest.raises(CharregError, match=complaint):
            find_photos("folder", tmp_path)
    (tmp_path / "boxes.csv").write_text("photo,native_side\ngrey.pgm,-1\n")
    with pytest.raises(CharregError, match="found native_side -1"):
        find_photos("folder", tmp_path)


def test_what_is_sent_to_a_worker_is_small(tmp_path: Path) -> None:
    """One place in an archive, never its whole list."""
    path = write_zip(tmp_path / "a.zip", {f"{i:04}.png": b"" for i in range(2000)})
    assert max(len(pickle.dumps(photo)) for photo in find_photos("folder", path).photos) < 600


def test_names_that_are_not_utf8_are_refused_by_name(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such names")
    with pytest.raises(CharregError, match=r"udcff\.png.*wanted names in UTF-8"):
        find_photos("folder", tmp_path)


def test_packaged_wants_every_listed_file(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("photo,left,top,width,height,identity\n0000.jpg,1,2,3,4,s1\n")
    with pytest.raises(CharregError, match=r"0000\.jpg: missing, boxes\.csv lists it"):
        find_photos("packaged", tmp_path)
    (tmp_path / "boxes.csv").unlink()
    (tmp_path / "portraits.csv").write_text("photo,identity\ns1/1.pgm,s1\n")
    with pytest.raises(CharregError, match=r"1\.pgm: missing, portraits\.csv lists it"):
        find_photos("packaged", tmp_path)
