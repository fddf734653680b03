"""lr_faces and hr_faces: what becomes a face, what is counted instead, and always the same bytes."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import HR_SIZE, LANDMARK_COLUMNS, SMALL_EYES, FaceSet, Pixels, digest_of_faces, open_faces
from charreg.core.params import Params
from charreg.photos import crowds, extraction
from charreg.photos.crowds import compose_scene, find_portraits, make_packaged_photos, take_picture
from charreg.photos.detection import DetectedFace, Square, detect_faces
from charreg.photos.extraction import Exclusion, extract_hr_faces, extract_lr_faces, jittered, match_boxes
from charreg.photos.geometry import check_agreement, compare_geometry, measure_eyes
from charreg.photos.sources import Box, Photo, find_photos
from conftest import ROOT, params_of
from data_fixtures import CLEAN, PORTRAIT, Stages, damaged_files, encoded, odd_files, photo_of, write_files


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaged")
    make_packaged_photos(folder, params_of().packaged_photos, 0)
    return folder


@pytest.fixture(scope="module")
def lr_serial(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    return Stages(tmp_path_factory.mktemp("lr")).lr(packaged / "photos" / "web", "faces", "packaged")


@pytest.fixture(scope="module")
def hr_single(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """20 portraits of two people, one crop each."""
    return Stages(tmp_path_factory.mktemp("hr")).hr(packaged / "portraits/hr_test", "faces", "packaged", role="test")


def crowd(params: Params, size: tuple[int, int], people: int = 2, **changes: Any) -> tuple[Pixels, list[Any]]:
    """A composed photograph without a camera's faults, uint8 [H, W, 3], and the faces in it."""
    scene_params = params.packaged_photos.model_copy(update={"size": size, **changes})
    portraits = {f"s{i}": [crowds._portrait(find_portraits()[f"s{i}"][0])] for i in range(1, people + 1)}
    grey = [np.full((size[1], size[0], 3), 110, np.uint8)]
    scene, faces = compose_scene(grey, portraits, scene_params, np.random.default_rng(0))
    with Image.open(io.BytesIO(take_picture(scene, CLEAN, np.random.default_rng(0)))) as image:
        return np.asarray(image), faces


# --- damaged and odd files -------------------------------------------------------------------------------


def test_both_stages_survive_every_damaged_file(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    damaged, odd = damaged_files(), odd_files()
    raw = write_files(stages.folder / "raw", {**damaged, **odd})
    (raw / "link.jpg").symlink_to(raw / "gone.jpg")
    damaged["link.jpg"] = (b"", "unreadable")
    reasons: dict[str, int] = {}
    for _, reason in damaged.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    for extract in (
        lambda: stages.hr(raw, "hr", **{"hr_faces.min_score": 0.5}),
        lambda: stages.lr(raw, "lr", **{"lr_faces.face": [10.0, 200.0], "lr_faces.min_score": 0.5}),
    ):
        faces = extract()
        assert {key: faces.meta["rejections"].get(key) for key in reasons} == reasons
        assert faces.meta["photos"] == len(damaged) + len(odd)
        assert set(faces.index["photo"]) == set(odd)
        assert {note for _, note in odd.values()} <= set(faces.meta["converted"])
        lines = [line for line in capsys.readouterr().err.replace("\r", "\n").split("\n") if "left out" in line]
        for name, (_, reason) in damaged.items():
            assert sum(line.startswith(f"{name}: {reason} (") for line in lines) == 1


def test_folders_without_a_face_give_empty_valid_sets(stages: Stages) -> None:
    blank = encoded(Image.new("RGB", (64, 64), "grey"), "PNG")
    files = {f"{i}.png": (blank, "") for i in range(3)}
    files["tiny.png"] = (encoded(Image.new("RGB", (6, 6), "grey"), "PNG"), "")
    raw = write_files(stages.folder / "raw", files)
    lr, hr = stages.lr(raw, "lr"), stages.hr(raw, "hr")
    assert (len(lr), lr.images.shape, len(hr)) == (0, (0, 16, 16, 3), 0)
    assert hr.lr is not None
    assert lr.meta["rejections"] == hr.meta["rejections"] == {"no_face": 3, "too_small": 1}
    assert lr.meta["mean_side"] is None
    assert json.loads(stages.scores("lr").read_text()) == {
        "n_photos": 4,
        "n_faces": 0,
        "n_identities": 0,
        "rejected": {"no_face": 3, "too_small": 1},
        "converted": {},
    }
    assert (lr.folder / "sheet.png").exists()


def test_a_failing_stage_leaves_the_old_set(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_files(stages.folder / "raw", {"grey.pgm": odd_files()["grey.pgm"]})
    before = digest_of_faces(stages.hr(raw, "hr"))

    def fail(*_: object) -> None:
        raise CharregError("stop here")

    monkeypatch.setattr(extraction, "crop_square", fail)
    with pytest.raises(CharregError, match="stop here"):
        stages.hr(raw, "hr")
    assert digest_of_faces(open_faces(stages.folder / "hr")) == before
    assert not list(stages.folder.glob(".hr*"))


# --- low resolution --------------------------------------------------------------------------------------


def test_packaged_crowds_are_found_with_their_identities(lr_serial: FaceSet, packaged: Path) -> None:
    metrics = json.loads((lr_serial.folder.parent / "scores" / "faces.json").read_text())
    assert metrics["n_true"] == 60
    assert metrics["recall"] >= 0.7
    assert metrics["precision"] >= 0.95
    assert metrics["n_identities"] == 2
    assert metrics["n_faces"] == len(lr_serial) == lr_serial.meta["count"]
    assert metrics["rejected"] == lr_serial.meta["rejections"]
    assert metrics["converted"] == lr_serial.meta["converted"] == {}
    assert lr_serial.meta["domain"] == "genuine"
    assert lr_serial.meta["role"] == "web"
    assert sum(lr_serial.meta["side_histogram"].values()) == len(lr_serial)
    index = lr_serial.index
    sides = index[["box_width", "box_height"]].max(axis=1)
    assert sides.between(10, 26).all()
    assert np.allclose(index["native_side"], 1.2 * sides, atol=0.01)
    assert index["score"].min() >= 0.8
    truth = {photo.name: photo.boxes for photo in find_photos("packaged", packaged / "photos" / "web").photos}
    for row in index[index["identity"] != ""].itertuples():
        centre = (row.box_left + row.box_width / 2, row.box_top + row.box_height / 2)
        nearest = min(
            truth[row.photo],
            key=lambda box: np.hypot(box.left + box.width / 2 - centre[0], box.top + box.height / 2 - centre[1]),
        )
        assert nearest.identity == row.identity
    eyes = index[["left_eye_x", "right_eye_x", "left_eye_y", "right_eye_y"]].mean()
    assert eyes["left_eye_x"] == pytest.approx(6, abs=1)
    assert eyes["right_eye_x"] == pytest.approx(11, abs=1)
    assert eyes["left_eye_y"] == pytest.approx(6.5, abs=1)


def test_file_order_and_locale_do_not_matter(stages: Stages) -> None:
    """Here, and in a process with ASCII for its files, which were written in another order."""
    files = {name: file for name, file in odd_files().items() if name != "exif.jpg"}
    here = stages.hr(write_files(stages.folder / "raw", files), "here")
    arguments = stages.arguments("hr", write_files(stages.folder / "again", files, backwards=True), "there", "train")
    command = [sys.executable, ROOT / "stages/hr_faces.py", *arguments, "--params", stages.params({}, "folder")]
    ascii_names = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(command, cwd=ROOT, env={**os.environ, **ascii_names, "DVC_ROOT": str(stages.folder)}, check=True)
    assert set(here.index["photo"]) == set(files)
    assert open_faces(stages.folder / "there").meta == here.meta  # with digests of all the rest


def test_the_exclude_list_leaves_out_what_it_names_and_reports_stale_lines(
    packaged: Path, stages: Stages, lr_serial: FaceSet, capsys: pytest.CaptureFixture[str]
) -> None:
    first = lr_serial.index.iloc[0]
    lines = ("# made by hand", "", f"{first.photo} {first.box_left} {first.box_top}", "gone.jpg 1 2")
    stages.exclude.write_text("".join(f"{line}\r\n" for line in lines), encoding="utf-8-sig")  # of Windows
    faces = stages.lr(packaged / "photos" / "web", "less", "packaged")
    assert len(faces) == len(lr_serial) - 1
    assert faces.meta["rejections"]["excluded"] == 1
    assert faces.meta["stale_exclusions"] == 1
    assert np.array_equal(faces.images, lr_serial.images[1:])
    assert "1 of 2 lines match no face" in capsys.readouterr().err
    stages.exclude.write_text("0000.jpg 12\n")
    with pytest.raises(CharregError, match=r"exclude\.txt:1: found '0000\.jpg 12', wanted `photo left top`"):
        stages.lr(packaged / "photos" / "web", "less", "packaged")
    stages.exclude.unlink()
    with pytest.raises(CharregError, match=r"exclude\.txt: .*wanted a list"):
        stages.lr(packaged / "photos" / "web", "less", "packaged")


def test_scores_and_sizes_outside_the_window_are_counted(tmp_path: Path, toy_params: Params) -> None:
    pixels, faces = crowd(toy_params, (160, 96))
    Image.fromarray(pixels).save(tmp_path / "crowd.png")
    photo = photo_of(tmp_path / "crowd.png")
    found = extract_lr_faces(photo, "folder", toy_params.detection, toy_params.lr_faces, ())
    assert len(found.faces) == len(faces) == 6
    for changes, reason in (
        ({"face": (40.0, 60.0)}, "face_too_small"),
        ({"face": (2.0, 5.0)}, "face_too_large"),
        ({"min_score": 1.0}, "score"),
    ):
        params = toy_params.lr_faces.model_copy(update=changes)
        refused = extract_lr_faces(photo, "folder", toy_params.detection, params, ())
        assert len(refused.faces) == 0
        assert refused.rejections[reason] >= 6
    row = found.faces[0][1]
    listed = (Exclusion(4, "crowd.png", round(row["box_left"]), round(row["box_top"])),)
    less = extract_lr_faces(photo, "folder", toy_params.detection, toy_params.lr_faces, listed)
    assert (len(less.faces), less.excluded) == (5, {4})


def test_a_photograph_with_five_hundred_faces(tmp_path: Path, toy_params: Params) -> None:
    pixels, faces = crowd(toy_params, (832, 640), people=8, spacing=32, face=(16.0, 18.0))
    assert len(faces) == 520
    Image.fromarray(pixels).save(tmp_path / "crowd.png")
    photo = photo_of(tmp_path / "crowd.png")
    detection = toy_params.detection.model_copy(update={"scales": [1.5], "thresholds": (0.8, 0.8, 0.8)})
    found = extract_lr_faces(photo, "folder", detection, toy_params.lr_faces, ())
    boxes = tuple(Box(face.left, face.top, face.width, face.height) for face in faces)
    seen = [
        DetectedFace(row["box_left"], row["box_top"], row["box_width"], row["box_height"], 1, 1, np.zeros((5, 2)))
        for _, row, _ in found.faces
    ]
    assert 500 <= len(found.faces) <= 525
    assert sum(match is not None for match in match_boxes(seen, boxes, 0.3)) >= 500


def test_no_box_is_matched_twice_and_the_best_overlap_wins() -> None:
    def face(left: float) -> DetectedFace:
        return DetectedFace(left, 0, 10, 10, 1.0, 1.0, np.zeros((5, 2)))

    boxes = (Box(0, 0, 10, 10, "ann"), Box(12, 0, 10, 10, "ben"))
    assert match_boxes([face(4), face(1), face(40)], boxes, 0.3) == [None, 0, None]
    assert match_boxes([face(4), face(1), face(13)], boxes, 0.3) == [None, 0, 1]
    assert match_boxes([face(4)], boxes, 0.3) == [0]
    assert match_boxes([face(40)], boxes, 0.0) == [None]
    assert match_boxes([face(4)], (), 0.3) == [None]


# --- high resolution -------------------------------------------------------------------------------------


def test_hr_faces_have_exact_lr_faces_identities_and_copies(stages: Stages, packaged: Path, hr_single: FaceSet) -> None:
    faces = stages.hr(packaged / "portraits" / "hr_test", "train", "packaged", role="train")
    assert (len(faces), len(hr_single)) == (40, 20)
    assert np.array_equal(faces.images[::2], hr_single.images)  # the first copy is never jittered
    assert not any(np.array_equal(faces.images[i], faces.images[i + 1]) for i in range(0, 40, 2))
    assert faces.lr is not None
    for image, lr in zip(faces.images, faces.lr, strict=True):
        assert np.array_equal(lr, np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)))
    assert len(set(faces.identities)) == 2
    assert all(row.photo.startswith(f"{row.identity}/") for row in faces.index.itertuples())
    assert faces.meta["domain"] == "artificial"
    eyes = hr_single.index[["left_eye_x", "right_eye_x", "left_eye_y", "right_eye_y"]].mean() / 4
    assert eyes.tolist() == pytest.approx([5.7, 10.8, 6.5, 6.5], abs=0.9)


def test_landmarks_are_of_the_portrait_as_large_as_it_is(
    packaged: Path, toy_params: Params, hr_single: FaceSet
) -> None:
    """FSRNet's priors want them true; the eyes of the face seen small are kept apart, for the geometry alone."""
    faces = hr_single
    large = faces.index[list(LANDMARK_COLUMNS[:4])].to_numpy()
    small = faces.index[list(SMALL_EYES)].to_numpy()
    seen = np.isfinite(small).all(axis=1)
    assert seen.mean() > 0.8
    assert 0.1 < np.abs(large[seen] - small[seen]).mean() < 2
    params = toy_params.hr_faces
    detection = toy_params.detection.model_copy(update={"scales": [params.detection_scale]})
    for i in (0, len(faces) - 1):
        photo = packaged / "portraits" / "hr_test" / faces.index["photo"][i]
        pixels = np.asarray(Image.open(photo).convert("RGB"))
        found = max(detect_faces(pixels, detection), key=lambda face: face.longer_side)
        (left_x, left_y), (right_x, right_y) = found.landmarks[:2] * HR_SIZE / faces.index["native_side"][i]
        eyes = np.array([right_x - left_x, right_y - left_y])
        assert large[i, 2:] - large[i, :2] == pytest.approx(eyes, abs=1e-3)
    used = np.where(seen[:, None], small, large).mean(axis=0).reshape(2, 2)
    assert measure_eyes(faces, 16).eyes == pytest.approx(used / 4)


def test_landmarks_follow_the_jittered_crop(stages: Stages, packaged: Path) -> None:
    """Eyes are dark: the darkness around each landmark stays when the crop is rolled, scaled and shifted."""
    changes = {"hr_faces.jitter": {"roll": 25.0, "scale": 0.2, "shift": 0.08}, "hr_faces.copies": 4}
    faces = stages.hr(packaged / "portraits" / "hr_test", "hr", "packaged", **changes)

    def patches(i: int) -> np.ndarray:
        values = []
        for eye in ("left_eye", "right_eye"):
            x, y = (round(faces.index[f"{eye}_{axis}"][i]) for axis in "xy")
            values.append(faces.images[i, y - 2 : y + 3, x - 2 : x + 3, 0].astype(float).mean())
        return np.array(values)

    moved = [np.abs(patches(i) - patches(i - i % 4)).mean() for i in range(len(faces)) if i % 4]
    shifts = [
        abs(faces.index["left_eye_x"][i] - faces.index["left_eye_x"][i - i % 4]) for i in range(len(faces)) if i % 4
    ]
    assert np.mean(shifts) > 2
    assert np.mean(moved) < 12


def test_jitter_depends_on_seed_photo_and_copy_alone(tmp_path: Path, toy_params: Params) -> None:
    params = toy_params.hr_faces
    square = Square(50, 60, 80)
    draws = [jittered(square, params, np.random.default_rng(seed)) for seed in range(200)]
    assert jittered(square, params, np.random.default_rng(5)) == draws[5]
    assert max(abs(draw.roll) for draw in draws) <= params.jitter.roll
    assert max(abs(draw.side / 80 - 1) for draw in draws) <= params.jitter.scale
    assert max(abs(draw.x - 50) / draw.side for draw in draws) <= params.jitter.shift
    path = find_portraits()["s1"][0]
    again = partial(extract_hr_faces, source="", detection=toy_params.detection, params=params)
    one = again(photo_of(path, "a"), copies=3, seed=0).faces
    assert np.array_equal(one[2][0], again(photo_of(path, "a"), copies=4, seed=0).faces[2][0])
    assert not np.array_equal(one[2][0], again(photo_of(path, "b"), copies=3, seed=0).faces[2][0])
    assert not np.array_equal(one[2][0], again(photo_of(path, "a"), copies=3, seed=1).faces[2][0])


def test_boxes_name_the_portraits_identity(toy_params: Params) -> None:
    photo = Photo("a.pgm", PORTRAIT, (Box(0, 0, 5, 5, "bob"), Box(10, 10, 70, 90, "ann", "summer")), "folder")
    for each, known in ((photo, ("ann", "summer")), (replace(photo, boxes=()), ("folder", ""))):
        found = extract_hr_faces(each, "", toy_params.detection, toy_params.hr_faces, 1, 0)
        assert [(row["identity"], row["album"]) for _, row, _ in found.faces] == [known]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_artificial_and_genuine_faces_lie_alike_whoever_was_drawn(stages: Stages, seed: int) -> None:
    """Measured by the detector at the same size; landmarks of the large portrait would lie 0.3 px further away."""
    few = {"packaged_photos.people": {"hr_train": 5, "train": 5}, "packaged_photos.photos": {"train": 3}}
    make_packaged_photos(stages.folder, params_of(few).packaged_photos, seed)
    hr = stages.hr(stages.folder / "portraits/hr_train", "hr", "packaged", **{"hr_faces.copies": 1})
    lr = stages.lr(stages.folder / "photos/train", "lr", "packaged", role="train")
    agreement = compare_geometry(hr, lr)
    assert min(agreement.artificial.count, agreement.genuine.count) >= 50
    check_agreement(agreement, 0.7)
