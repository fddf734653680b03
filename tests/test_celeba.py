"""CelebA: its layouts, its people, its landmarks, and the crop all its portraits share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.params import Params
from charreg.photos.extraction import extract_hr_faces
from charreg.photos.sources import find_photos, read_photo
from data_fixtures import Stages
from miniature import CELEBA_POINTS, write_celeba

LAYOUTS = [{"packed": packed, "in_folders": folders} for packed in (False, True) for folders in (False, True)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_portraits_have_their_people_and_landmarks(tmp_path: Path, layout: dict[str, bool]) -> None:
    raw = find_photos("celeba", write_celeba(tmp_path, **layout))
    assert [photo.name for photo in raw.photos] == [f"{i:06}.jpg" for i in range(1, 5)]
    assert [photo.identity for photo in raw.photos] == ["2880", "2880", "11", "11"]
    assert [photo.landmarks for photo in raw.photos] == [tuple(v + i for v in CELEBA_POINTS) for i in range(4)]
    assert not raw.annotated
    assert {read_photo(photo, 10**6).pixels.shape for photo in raw.photos} == {(218, 178, 3)}


def test_loose_and_packed_portraits_give_the_same_pixels(tmp_path: Path) -> None:
    loose, packed = (
        find_photos("celeba", write_celeba(tmp_path / f"{packed}", packed=packed)).photos for packed in (False, True)
    )
    for one, other in zip(loose, packed, strict=True):
        assert np.array_equal(read_photo(one, 10**6).pixels, read_photo(other, 10**6).pixels)


def test_splits_are_those_of_the_partition(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    names = {
        split: [photo.name[:6] for photo in find_photos("celeba", tmp_path, split).photos]
        for split in ("train", "val", "test")
    }
    assert names == {"train": ["000001", "000002"], "val": ["000003"], "test": ["000004"]}
    (tmp_path / "list_eval_partition.txt").unlink()
    assert len(find_photos("celeba", tmp_path).photos) == 4
    with pytest.raises(CharregError, match=r"found no list_eval_partition\.txt"):
        find_photos("celeba", tmp_path, "train")


@pytest.mark.parametrize("missing", ["list_landmarks_align_celeba.txt", "identity_CelebA.txt", "img_align_celeba.zip"])
def test_missing_pieces_are_named(tmp_path: Path, missing: str) -> None:
    (write_celeba(tmp_path, packed=True) / missing).unlink()
    with pytest.raises(CharregError, match=rf"found no .*{missing}.*CelebA's official page") as refusal:
        find_photos("celeba", tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("list_landmarks_align_celeba.txt", "4\n", "5\n", "found 4 portraits, wanted 5"),
        ("list_landmarks_align_celeba.txt", "4\n", "many\n", r"txt:1: found 'many', wanted the number of portraits"),
        ("list_landmarks_align_celeba.txt", "69  109", "69", r"txt:3: found .*wanted a file name and ten numbers"),
        ("identity_CelebA.txt", "000003.jpg 11\n", "", r"identity_CelebA\.txt: 000003\.jpg is missing"),
        ("identity_CelebA.txt", "2880", "x", r"identity_CelebA\.txt:1: found '000001\.jpg x'"),
    ],
)
def test_damaged_lists_are_refused_by_line(tmp_path: Path, file: str, old: str, new: str, complaint: str) -> None:
    path = write_celeba(tmp_path) / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CharregError, match=complaint):
        find_photos("celeba", tmp_path)


def test_a_missing_portrait_is_named(tmp_path: Path) -> None:
    (write_celeba(tmp_path) / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(CharregError, match=r"img_align_celeba: 000002\.jpg is missing, .* lists it \(1 such\)"):
        find_photos("celeba", tmp_path)


def test_the_fixed_crop_is_where_celeba_has_its_faces(tmp_path: Path, toy_params: Params) -> None:
    raw = find_photos("celeba", write_celeba(tmp_path))
    params = toy_params.hr_faces.model_copy(update={"crop": "fixed", "fixed_side": 128.0})
    found = extract_hr_faces(raw.photos[0], "celeba", toy_params.detection, params, 1, 0)
    ((image, row, lr),) = found.faces
    pixels = read_photo(raw.photos[0], 10**6).pixels[57:185, 25:153]  # 128 px about (89, 121)
    halved = pixels.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(image - halved).mean() < 4
    assert lr.shape == (16, 16, 3)
    assert row["native_side"] == 128
    assert row["identity"] == "2880"
    assert (row["left_eye_x"], row["left_eye_y"]) == pytest.approx(((69 - 25) / 2, (109 - 57) / 2))
    assert (row["right_mouth_x"], row["right_mouth_y"]) == pytest.approx(((108 - 25) / 2, (154 - 57) / 2))
    assert np.isnan(row["score"])


def test_a_picture_of_another_size_is_counted_and_left_out(tmp_path: Path, toy_params: Params) -> None:
    photo = find_photos("celeba", write_celeba(tmp_path)).photos[0]
    params = toy_params.hr_faces.model_copy(update={"crop": "fixed"})
    Image.new("RGB", (92, 112)).save(photo.path)
    found = extract_hr_faces(photo, "celeba", toy_params.detection, params, 1, 0)
    assert not found.faces
    assert found.rejections == {"not_framed": 1}


def test_the_stage_makes_a_face_set_of_the_zip(tmp_path: Path) -> None:
    raw = write_celeba(tmp_path / "raw", packed=True)
    role = {"hr_roles.train": {"source": "celeba", "path": ""}, "hr_faces.crop": "fixed", "hr_faces.copies": 1}
    faces = Stages(tmp_path).hr(raw, "hr", **role)
    assert faces.identities == ["2880", "2880", "11", "11"]
    assert faces.meta["rule"]["crop"] == "fixed"
    assert faces.index["left_eye_x"].tolist() == [(69 + i - 25) / 2 for i in range(4)]
    assert faces.index["score"].isna().all()


def test_detected_portraits_keep_celebas_own_landmarks(tmp_path: Path, toy_params: Params) -> None:
    raw = find_photos("celeba", write_celeba(tmp_path, real=True))
    found = extract_hr_faces(raw.photos[0], "celeba", toy_params.detection, toy_params.hr_faces, 1, 0)
    ((_, row, _),) = found.faces
    assert row["score"] > 0.9
    scale = 64 / row["native_side"]
    assert row["right_eye_x"] - row["left_eye_x"] == pytest.approx((106 - 69) * scale, abs=1e-3)
