"""WIDER FACE: its lists with all their oddities, and faces cut by annotation."""

import json
from pathlib import Path

import pytest

from charreg.core.errors import CharregError
from charreg.core.params import Params
from charreg.photos.extraction import extract_lr_faces
from charreg.photos.sources import Box, find_photos
from data_fixtures import Stages
from miniature import write_wider

TRAIN = [
    "WIDER_train/images/0--Parade/0_Parade_Parade_0_452.jpg",
    "WIDER_train/images/0--Parade/0_Parade_marchingband_1_849.jpg",
    "WIDER_train/images/1--Handshaking/1_Handshaking_Handshaking_1_100.jpg",
]


def test_photographs_have_their_boxes(tmp_path: Path) -> None:
    raw = find_photos("wider_face", write_wider(tmp_path), "train")
    assert [photo.name for photo in raw.photos] == TRAIN
    assert raw.annotated
    empty, two, marked = (photo.boxes for photo in raw.photos)
    assert empty == ()  # its line of ten zeros is no face, and the photograph after it is not lost
    assert two == (Box(10, 12, 20, 24), Box(60, 12, 18, 21))
    assert marked == (Box(5, 6, 20, 22, hard=True), Box(40, 6, 20, 22, hard=True), Box(70, 30, 16, 20))


def test_splits(tmp_path: Path) -> None:
    write_wider(tmp_path)
    counts = {
        split: len(find_photos("wider_face", tmp_path, split).photos) for split in ("train", "val", "test", "all")
    }
    assert counts == {"train": 3, "val": 1, "test": 1, "all": 5}
    assert not find_photos("wider_face", tmp_path, "all").annotated  # boxes of test are not published


@pytest.mark.parametrize(
    "missing",
    [
        "WIDER_train/images",
        "wider_face_split/wider_face_val_bbx_gt.txt",
        "wider_face_split/wider_face_test_filelist.txt",
    ],
)
def test_missing_pieces_are_named(tmp_path: Path, missing: str) -> None:
    write_wider(tmp_path)
    (tmp_path / missing).rename(tmp_path / "gone")
    with pytest.raises(CharregError, match=f"found no {missing}; .*or set split to what you have"):
        find_photos("wider_face", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("\n4\n", "\nfour\n", r"txt:9: found 'four', wanted the count of the faces of 1--Handshaking"),
        ("\n4\n", "\n5\n", "ends early, wanted 5 faces of 1--Handshaking"),
        ("\n0\n0 0 0 0 0 0 0 0 0 0\n", "\n0\n", r"txt:7: found '1--Hand.*', wanted a face: left top width height"),
        ("10 12 20 24 2", "10 12 20 24", r"txt:3: found '10 12 20 24 0"),
        ("_1_849", "_1_850", r"images: 0--Parade/0_Parade_marchingband_1_850\.jpg is missing"),
    ],
)
def test_damaged_lists_are_refused_by_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = write_wider(tmp_path) / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CharregError, match=complaint):
        find_photos("wider_face", tmp_path, "train")


def test_annotated_faces_are_cut_without_a_detector(tmp_path: Path, toy_params: Params) -> None:
    raw = find_photos("wider_face", write_wider(tmp_path), "train")
    found = [
        extract_lr_faces(photo, "wider_face", toy_params.detection, toy_params.lr_faces, (), "annotation")
        for photo in raw.photos
    ]
    assert [len(each.faces) for each in found] == [0, 2, 1]
    assert [dict(each.rejections) for each in found] == [{"no_face": 1}, {}, {"hard": 2}]
    image, row, _ = found[1].faces[0]
    assert image.shape == (16, 16, 3)
    assert [row[f"box_{side}"] for side in ("left", "top", "width", "height")] == [10, 12, 20, 24]
    assert row["native_side"] == pytest.approx(1.2 * 24)


def test_the_stage_takes_annotation_where_there_is_one(tmp_path: Path) -> None:
    raw = write_wider(tmp_path / "raw")
    role = {"source": "wider_face", "path": "", "exclude": "none.txt", "boxes": "annotation"}
    stages = Stages(tmp_path)
    faces = stages.lr(raw, "lr", **{"lr_roles.web": {**role, "split": "train"}})
    assert len(faces) == 3
    assert faces.meta["rule"]["boxes"] == "annotation"
    assert not {"recall", "precision"} & set(json.loads(stages.metrics("lr").read_text()))
    with pytest.raises(CharregError, match=r"lr_roles\.web\.boxes: found annotation, .*split all.*wanted detector"):
        stages.lr(raw, "all", **{"lr_roles.web": role})
