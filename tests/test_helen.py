"""Helen: 194 landmarks become five; the annotated face is the one that is cropped, detected or not."""

from pathlib import Path

import numpy as np
import pytest

from charreg.core.errors import CharregError
from charreg.core.params import Params
from charreg.photos.extraction import extract_hr_faces
from charreg.photos.framing import MEAN_FACE, face_of_landmarks
from charreg.photos.sources import find_photos
from miniature import row_of_faces, write_helen

SQUARES = {"100_1": (10.0, 20.0, 100.0), "99_1": (30.0, 8.0, 60.0)}
BLANK = np.full((130, 130, 3), 120, np.uint8)


def test_five_points_come_of_194(tmp_path: Path) -> None:
    raw = find_photos("helen", write_helen(tmp_path, SQUARES, dict.fromkeys(SQUARES, BLANK)))
    assert [photo.name for photo in raw.photos] == ["helen_1/100_1.jpg", "helen_2/99_1.jpg"]
    for photo, (left, top, side) in zip(raw.photos, SQUARES.values(), strict=True):
        assert np.array(photo.landmarks).reshape(5, 2) == pytest.approx(MEAN_FACE * side + [left, top], abs=0.01)
    assert not raw.annotated


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharregError, match="found no annotation; fetch it from Helen's official page"):
        find_photos("helen", tmp_path)
    write_helen(tmp_path, SQUARES, {"100_1": BLANK})
    with pytest.raises(CharregError, match=r"99_1\.jpg is missing, annotation lists it \(1 such\)"):
        find_photos("helen", tmp_path)
    path = tmp_path / "annotation" / "2.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(CharregError, match=r"2\.txt: found 194 lines, wanted a name and 194 lines"):
        find_photos("helen", tmp_path)
    for file in (tmp_path / "annotation").iterdir():
        file.unlink()
    with pytest.raises(CharregError, match=r"annotation: found no \.txt"):
        find_photos("helen", tmp_path)


def test_landmarks_frame_a_face_that_nobody_detects(tmp_path: Path, toy_params: Params) -> None:
    raw = find_photos("helen", write_helen(tmp_path, {"100_1": (10, 20, 100)}, {"100_1": BLANK}))
    found = extract_hr_faces(raw.photos[0], "helen", toy_params.detection, toy_params.hr_faces, 1, 0)
    ((_, row, _),) = found.faces
    assert "framed_by_landmarks" in found.notes
    assert row["native_side"] == pytest.approx(100, abs=0.1)
    assert (row["left_eye_x"], row["left_eye_y"]) == pytest.approx((0.359 * 64, 0.404 * 64), abs=0.05)
    assert np.isnan(row["score"])


def test_of_several_faces_the_annotated_one_is_cropped(tmp_path: Path, toy_params: Params) -> None:
    scene = row_of_faces((1, 2))
    for left in (10, 80):  # the pasted portraits begin there
        root = tmp_path / str(left)
        raw = find_photos("helen", write_helen(root, {"100_1": (left + 5, 16, 52)}, {"100_1": scene}))
        found = extract_hr_faces(raw.photos[0], "helen", toy_params.detection, toy_params.hr_faces, 1, 0)
        ((_, row, _),) = found.faces
        assert row["score"] > 0.9
        assert left < row["box_left"] + row["box_width"] / 2 < left + 60


def test_the_mean_face_fits_itself_whatever_its_place_and_margin() -> None:
    points = MEAN_FACE * 80 + [7, 9]
    for margin in (0.2, 0.5):
        face = face_of_landmarks(points, margin)
        assert (face.left + face.width / 2, face.top + face.height / 2) == pytest.approx((47, 49))
        assert face.longer_side * 1.2 == pytest.approx(80)
