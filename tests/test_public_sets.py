"""CelebA, Helen, WIDER FACE and PIPA as their pages hand them out: layouts, damage, and the faces they give."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.params import Params
from charreg.photos.extraction import extract_hr_faces, extract_lr_faces
from charreg.photos.framing import MEAN_FACE, face_of_landmarks
from charreg.photos.records import Found
from charreg.photos.sources import Box, Photo, find_photos, read_photo
from data_fixtures import Stages
from miniature import CELEBA_POINTS, row_of_faces, write_celeba, write_helen, write_pipa, write_wider

SQUARES = {"100_1": (10.0, 20.0, 100.0), "99_1": (30.0, 8.0, 60.0)}
BLANK = np.full((130, 130, 3), 120, np.uint8)
WRITERS: dict[str, Callable[[Path], Path]] = {
    "celeba": partial(write_celeba, packed=True),
    "helen": partial(write_helen, squares=SQUARES, images=dict.fromkeys(SQUARES, BLANK)),
    "wider_face": write_wider,
    "pipa": write_pipa,
}


def names(source: str, root: Path, split: str) -> list[str]:
    return [photo.name for photo in find_photos(source, root, split).photos]


# --- layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("in_folders", [False, True])
def test_celebas_portraits_have_their_people_and_landmarks(tmp_path: Path, packed: bool, in_folders: bool) -> None:
    raw = find_photos("celeba", write_celeba(tmp_path / "raw", packed, in_folders))
    assert [photo.name for photo in raw.photos] == [f"{i:06}.jpg" for i in range(1, 5)]
    assert [photo.identity for photo in raw.photos] == ["2880", "2880", "11", "11"]
    assert [photo.landmarks for photo in raw.photos] == [tuple(v + i for v in CELEBA_POINTS) for i in range(4)]
    assert not raw.annotated
    for photo, loose in zip(raw.photos, find_photos("celeba", write_celeba(tmp_path / "loose")).photos, strict=True):
        assert np.array_equal(read_photo(photo, 10**6).pixels, read_photo(loose, 10**6).pixels)


def test_a_set_one_folder_too_deep_is_found_and_told(tmp_path: Path) -> None:
    write_celeba(tmp_path / "raw/celeba")
    with pytest.raises(CharregError, match=r"but celeba/list_landmarks.*move it up, or give .*raw/celeba as the path"):
        find_photos("celeba", tmp_path / "raw", "all")


def test_helens_five_points_come_of_194(tmp_path: Path) -> None:
    raw = find_photos("helen", WRITERS["helen"](tmp_path))
    assert [photo.name for photo in raw.photos] == ["helen_1/100_1.jpg", "helen_2/99_1.jpg"]
    for photo, (left, top, side) in zip(raw.photos, SQUARES.values(), strict=True):
        assert np.array(photo.landmarks).reshape(5, 2) == pytest.approx(MEAN_FACE * side + [left, top], abs=0.01)
    assert not raw.annotated


def test_wider_faces_photographs_have_their_boxes(tmp_path: Path) -> None:
    raw = find_photos("wider_face", write_wider(tmp_path), "train")
    assert [photo.name.removeprefix("WIDER_train/images/") for photo in raw.photos] == [
        "0--Parade/0_Parade_Parade_0_452.jpg",
        "0--Parade/0_Parade_marchingband_1_849.jpg",
        "1--Handshaking/1_Handshaking_Handshaking_1_100.jpg",
    ]
    assert raw.annotated
    empty, two, marked = (photo.boxes for photo in raw.photos)
    assert empty == ()  # its line of ten zeros is no face, and the photograph after it is not lost
    assert two == (Box(10, 12, 20, 24), Box(60, 12, 18, 21))
    assert marked == (Box(5, 6, 20, 22, hard=True), Box(40, 6, 20, 22, hard=True), Box(70, 30, 16, 20))


@pytest.mark.parametrize("in_annotations", [False, True])
def test_pipas_photographs_have_their_heads_people_and_albums(tmp_path: Path, in_annotations: bool) -> None:
    raw = find_photos("pipa", write_pipa(tmp_path, in_annotations))
    files = ["leftover/3000_14.jpg", "train/1000_11.jpg", "val/2000_12.jpg", "test/1000_13.jpg"]
    assert [photo.name for photo in raw.photos] == files
    assert raw.photos[1].boxes == (Box(10, 8, 40, 44, "7", "1000"), Box(70, 8, 40, 44, "9", "1000"))
    assert [photo.album for photo in raw.photos] == ["3000", "1000", "2000", "1000"]
    assert raw.photos[0].boxes[0].left == -4
    assert not raw.annotated  # strangers have no box


def test_splits_are_those_of_the_sets(tmp_path: Path) -> None:
    celeba, wider, pipa = (WRITERS[name](tmp_path / name) for name in ("celeba", "wider_face", "pipa"))
    parts = {split: [name[:6] for name in names("celeba", celeba, split)] for split in ("train", "val", "test")}
    assert parts == {"train": ["000001", "000002"], "val": ["000003"], "test": ["000004"]}
    (celeba / "list_eval_partition.txt").unlink()
    assert len(names("celeba", celeba, "all")) == 4  # which wants no partition
    assert [len(names("wider_face", wider, split)) for split in ("train", "val", "test", "all")] == [3, 1, 1, 5]
    assert not find_photos("wider_face", wider, "all").annotated  # boxes of test are not published
    (pipa / "leftover").rename(tmp_path / "gone")
    assert names("pipa", pipa, "test") == ["test/1000_13.jpg"]


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "split", "missing", "complaint"),
    [
        ("celeba", "all", "list_landmarks_align_celeba.txt", "found no list_landmarks.*CelebA's official page"),
        ("celeba", "all", "identity_CelebA.txt", "found no identity_CelebA.*CelebA's official page"),
        ("celeba", "all", "img_align_celeba.zip", r"found no .*img_align_celeba\.zip.*CelebA's official page"),
        ("celeba", "train", "list_eval_partition.txt", r"found no list_eval_partition\.txt"),
        ("helen", "all", "annotation", "found no annotation; fetch it from Helen's official page"),
        ("helen", "all", "helen_2/99_1.jpg", r"99_1\.jpg is missing, annotation lists it \(1 such\)"),
        ("wider_face", "all", "WIDER_train/images", "found no WIDER_train/images; .*or set split to what you have"),
        (
            "wider_face",
            "all",
            "wider_face_split/wider_face_val_bbx_gt.txt",
            "found no .*val_bbx_gt.txt; .*or set split",
        ),
        (
            "wider_face",
            "all",
            "wider_face_split/wider_face_test_filelist.txt",
            "found no .*test_filelist.*or set split",
        ),
        ("pipa", "all", "test/1000_13.jpg", r"test: 1000_13\.jpg is missing, index\.txt lists it \(1 such\)"),
        ("pipa", "all", "leftover", "found no leftover; .*or set split to what you have"),
        ("pipa", "all", "index.txt", r"found no index\.txt and no annotations/index\.txt"),
    ],
)
def test_missing_pieces_are_named(tmp_path: Path, source: str, split: str, missing: str, complaint: str) -> None:
    (WRITERS[source](tmp_path / "raw") / missing).rename(tmp_path / "gone")
    with pytest.raises(CharregError, match=complaint) as refusal:
        find_photos(source, tmp_path / "raw", split)
    assert "\n" not in str(refusal.value)


def test_a_missing_loose_portrait_and_empty_annotations_are_named(tmp_path: Path) -> None:
    (write_celeba(tmp_path) / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(CharregError, match=r"img_align_celeba: 000002\.jpg is missing, .* lists it \(1 such\)"):
        find_photos("celeba", tmp_path)
    (tmp_path / "annotation").mkdir()
    with pytest.raises(CharregError, match=r"annotation: found no \.txt"):
        find_photos("helen", tmp_path)


LANDMARKS, IDENTITIES = "list_landmarks_align_celeba.txt", "identity_CelebA.txt"
WIDER = "wider_face_split/wider_face_train_bbx_gt.txt"


@pytest.mark.parametrize(
    ("source", "file", "old", "new", "complaint"),
    [
        ("celeba", LANDMARKS, "4\n", "5\n", "found 4 portraits, wanted 5"),
        ("celeba", LANDMARKS, "4\n", "many\n", r"txt:1: found 'many', wanted the number of portraits"),
        ("celeba", LANDMARKS, "69  109", "69", r"txt:3: found .*wanted a file name and ten numbers"),
        ("celeba", IDENTITIES, "000003.jpg 11\n", "", r"identity_CelebA\.txt: 000003\.jpg is missing"),
        ("celeba", IDENTITIES, "2880", "x", r"identity_CelebA\.txt:1: found '000001\.jpg x'"),
        ("helen", "annotation/2.txt", "99_1\n", "99_1 ", r"2\.txt: found 194 lines, wanted a name and 194 lines"),
        ("wider_face", WIDER, "\n4\n", "\nfour\n", r"txt:9: found 'four', wanted the count of the faces of 1--Hand"),
        ("wider_face", WIDER, "\n4\n", "\n5\n", "ends early, wanted 5 faces of 1--Handshaking"),
        (
            "wider_face",
            WIDER,
            "\n0\n0 0 0 0 0 0 0 0 0 0\n",
            "\n0\n",
            r"txt:7: found '1--Hand.*', wanted a face: left top",
        ),
        ("wider_face", WIDER, "10 12 20 24 2", "10 12 20 24", r"txt:3: found '10 12 20 24 0"),
        ("wider_face", WIDER, "_1_849", "_1_850", r"images: 0--Parade/0_Parade_marchingband_1_850\.jpg is missing"),
        ("pipa", "index.txt", "44 3 3", "44 3", r"txt:4: found '1000 13 10 8 40 44 3', wanted photoset_id"),
        ("pipa", "index.txt", "44 3 3", "44 3 4", "txt:4: found subset 4"),
    ],
)
def test_damaged_lists_are_refused_by_line(
    tmp_path: Path, source: str, file: str, old: str, new: str, complaint: str
) -> None:
    path = WRITERS[source](tmp_path) / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CharregError, match=complaint):
        find_photos(source, tmp_path)


# --- faces -----------------------------------------------------------------------------------------------


def hr_of(photo: Photo, params: Params, **changes: object) -> Found:
    hr_faces = params.hr_faces.model_copy(update=changes)
    return extract_hr_faces(photo, "", params.detection, hr_faces, 1, 0)


def test_the_fixed_crop_is_where_celeba_has_its_faces(tmp_path: Path, toy_params: Params) -> None:
    photo = find_photos("celeba", write_celeba(tmp_path)).photos[0]
    ((image, row, lr),) = hr_of(photo, toy_params, crop="fixed", fixed_side=128.0).faces
    pixels = read_photo(photo, 10**6).pixels[57:185, 25:153]  # 128 px about (89, 121)
    halved = pixels.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(image - halved).mean() < 4
    assert lr is not None
    assert lr.shape == (16, 16, 3)
    assert (row["native_side"], row["identity"]) == (128, "2880")
    assert (row["left_eye_x"], row["left_eye_y"]) == pytest.approx(((69 - 25) / 2, (109 - 57) / 2))
    assert (row["right_mouth_x"], row["right_mouth_y"]) == pytest.approx(((108 - 25) / 2, (154 - 57) / 2))
    assert np.isnan(row["score"])
    Image.new("RGB", (92, 112)).save(photo.path)  # of another size: counted and left out
    found = hr_of(photo, toy_params, crop="fixed")
    assert (found.faces, found.rejections) == ([], {"not_framed": 1})


def test_the_stage_makes_a_face_set_of_celebas_zip(tmp_path: Path) -> None:
    raw = write_celeba(tmp_path / "raw", packed=True)
    role = {"hr_roles.train": {"source": "celeba", "path": ""}, "hr_faces.crop": "fixed", "hr_faces.copies": 1}
    faces = Stages(tmp_path).hr(raw, "hr", **role)
    assert faces.identities == ["2880", "2880", "11", "11"]
    assert faces.meta["rule"]["crop"] == "fixed"
    assert faces.index["left_eye_x"].tolist() == [(69 + i - 25) / 2 for i in range(4)]
    assert faces.index["score"].isna().all()


def test_detected_portraits_keep_celebas_own_landmarks(tmp_path: Path, toy_params: Params) -> None:
    photo = find_photos("celeba", write_celeba(tmp_path, real=True)).photos[0]
    ((_, row, _),) = hr_of(photo, toy_params).faces
    assert row["score"] > 0.9
    scale = 64 / row["native_side"]
    assert row["right_eye_x"] - row["left_eye_x"] == pytest.approx((106 - 69) * scale, abs=1e-3)


def test_helens_landmarks_frame_a_face_that_nobody_detects(tmp_path: Path, toy_params: Params) -> None:
    raw = find_photos("helen", write_helen(tmp_path, {"100_1": (10, 20, 100)}, {"100_1": BLANK}))
    found = hr_of(raw.photos[0], toy_params)
    ((_, row, _),) = found.faces
    assert "framed_by_landmarks" in found.notes
    assert row["native_side"] == pytest.approx(100, abs=0.1)
    assert (row["left_eye_x"], row["left_eye_y"]) == pytest.approx((0.359 * 64, 0.404 * 64), abs=0.05)
    assert np.isnan(row["score"])


def test_of_several_faces_helens_annotated_one_is_cropped(tmp_path: Path, toy_params: Params) -> None:
    scene = row_of_faces((1, 2))
    for left in (10, 80):  # the pasted portraits begin there
        raw = find_photos("helen", write_helen(tmp_path / str(left), {"1_1": (left + 5, 16, 52)}, {"1_1": scene}))
        ((_, row, _),) = hr_of(raw.photos[0], toy_params).faces
        assert row["score"] > 0.9
        assert left < row["box_left"] + row["box_width"] / 2 < left + 60


def test_the_mean_face_fits_itself_whatever_its_place_and_margin() -> None:
    for margin in (0.2, 0.5):
        face = face_of_landmarks(MEAN_FACE * 80 + [7, 9], margin)
        assert (face.left + face.width / 2, face.top + face.height / 2) == pytest.approx((47, 49))
        assert face.longer_side * 1.2 == pytest.approx(80)


def test_wider_faces_annotated_faces_are_cut_without_a_detector(tmp_path: Path) -> None:
    raw = write_wider(tmp_path / "raw")
    role = {"source": "wider_face", "path": "", "exclude": "none.txt", "boxes": "annotation"}
    stages = Stages(tmp_path)
    faces = stages.lr(raw, "lr", **{"lr_roles.web": {**role, "split": "train"}})
    assert faces.images.shape == (3, 16, 16, 3)
    assert faces.meta["rejections"] == {"hard": 2, "no_face": 1}
    assert faces.meta["rule"]["boxes"] == "annotation"
    row = faces.index.iloc[0]
    assert [row[f"box_{side}"] for side in ("left", "top", "width", "height")] == [10, 12, 20, 24]
    assert row["native_side"] == pytest.approx(1.2 * 24)
    assert json.loads(stages.metrics("lr").read_text()) == {}  # neither recall nor precision
    with pytest.raises(CharregError, match=r"lr_roles\.web\.boxes: found annotation, .*split all.*wanted detector"):
        stages.lr(raw, "all", **{"lr_roles.web": role})


def test_a_detected_face_takes_the_person_of_pipas_head(tmp_path: Path, toy_params: Params) -> None:
    (photo,) = find_photos("pipa", write_pipa(tmp_path), "train").photos
    params = toy_params.lr_faces.model_copy(update={"face": (10.0, 60.0)})
    found = extract_lr_faces(photo, "pipa", toy_params.detection, params, ())
    people = {row["identity"]: row for _, row, _ in found.faces}
    assert set(people) == {"7", "9"}
    assert people["7"]["box_left"] < people["9"]["box_left"]
    assert {row["album"] for row in people.values()} == {"1000"}
