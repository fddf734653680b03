"""PIPA: heads, people and albums, and the identity a detected face takes from a head."""

import shutil
from pathlib import Path

import pytest

from charreg.core.errors import CharregError
from charreg.core.params import Params
from charreg.photos.extraction import extract_lr_faces
from charreg.photos.sources import Box, find_photos
from miniature import write_pipa


@pytest.mark.parametrize("in_annotations", [False, True])
def test_photographs_have_their_heads_people_and_albums(tmp_path: Path, in_annotations: bool) -> None:
    raw = find_photos("pipa", write_pipa(tmp_path, in_annotations))
    assert [photo.name for photo in raw.photos] == [
        "leftover/3000_14.jpg",
        "train/1000_11.jpg",
        "val/2000_12.jpg",
        "test/1000_13.jpg",
    ]
    assert raw.photos[1].boxes == (Box(10, 8, 40, 44, "7", "1000"), Box(70, 8, 40, 44, "9", "1000"))
    assert [photo.album for photo in raw.photos] == ["3000", "1000", "2000", "1000"]
    assert raw.photos[0].boxes[0].left == -4
    assert not raw.annotated  # strangers have no box
    assert [photo.name for photo in find_photos("pipa", tmp_path, "test").photos] == ["test/1000_13.jpg"]


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    write_pipa(tmp_path)
    (tmp_path / "test" / "1000_13.jpg").unlink()
    with pytest.raises(CharregError, match=r"test: 1000_13\.jpg is missing, index\.txt lists it \(1 such\)"):
        find_photos("pipa", tmp_path)
    shutil.rmtree(tmp_path / "leftover")
    with pytest.raises(CharregError, match=r"found no leftover; .*or set split to what you have"):
        find_photos("pipa", tmp_path)
    assert len(find_photos("pipa", tmp_path, "train").photos) == 1
    (tmp_path / "index.txt").unlink()
    with pytest.raises(CharregError, match=r"found no index\.txt and no annotations/index\.txt"):
        find_photos("pipa", tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1 2 3 4 5 6 7", r"txt:6: found '1 2 3 4 5 6 7', wanted photoset_id"),
        ("1 2 3 4 5 6 7 4", "txt:6: found subset 4"),
    ],
)
def test_damaged_lines_are_refused(tmp_path: Path, line: str, complaint: str) -> None:
    with open(write_pipa(tmp_path) / "index.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(CharregError, match=complaint):
        find_photos("pipa", tmp_path)


def test_a_detected_face_takes_the_person_of_its_head(tmp_path: Path, toy_params: Params) -> None:
    (photo,) = find_photos("pipa", write_pipa(tmp_path), "train").photos
    params = toy_params.lr_faces.model_copy(update={"face": (10.0, 60.0)})
    found = extract_lr_faces(photo, "pipa", toy_params.detection, params, ())
    people = {row["identity"]: row for _, row, _ in found.faces}
    assert set(people) == {"7", "9"}
    assert people["7"]["box_left"] < people["9"]["box_left"]
    assert {row["album"] for row in people.values()} == {"1000"}
