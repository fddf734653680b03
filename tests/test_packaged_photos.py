"""The embedded photographs: who is in them, where, through which camera, and always the same bytes."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.files import sha256_of_file
from charreg.core.params import Params
from charreg.photos import crowds as packaged
from charreg.photos.crowds import (
    compose_scene,
    find_portraits,
    from_light,
    make_packaged_photos,
    motion_kernel,
    package_folder,
    split_people,
    take_picture,
    to_light,
)
from charreg.photos.sources import find_photos
from conftest import params_of
from data_fixtures import CLEAN


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


SMALL = {
    "packaged_photos.people": {"hr_train": 2, "hr_test": 1, "train": 1, "web": 1, "cctv": 1},
    "packaged_photos.photos": {"train": 2, "web": 1, "cctv": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of seed 0."""
    folder = tmp_path_factory.mktemp("packaged")
    make_packaged_photos(folder, params_of(SMALL).packaged_photos, 0)
    return folder


def test_same_seed_same_bytes(made: Path, tmp_path: Path) -> None:
    first = tree(made)
    assert len(first) == 30 + 2 + 4 + 3
    for seed in (0, 4):
        make_packaged_photos(tmp_path / f"{seed}", params_of(SMALL).packaged_photos, seed)
    assert tree(tmp_path / "0") == first
    other = tree(tmp_path / "4")
    assert all(other[path] != first[path] for path in first if path.endswith(".jpg"))


def test_people_are_disjoint_and_boxes_true(made: Path) -> None:
    low, high = params_of(SMALL).packaged_photos.face
    assert (low, high) == (12, 24)
    seen: list[set[str]] = []
    for role in ("hr_train", "hr_test"):
        raw = find_photos("packaged", made / "portraits" / role)
        seen.append({photo.identity for photo in raw.photos})
        assert not raw.annotated
    for role in ("train", "web", "cctv"):
        raw = find_photos("packaged", made / "photos" / role)
        assert raw.annotated
        seen.append({box.identity for photo in raw.photos for box in photo.boxes})
        for photo in raw.photos:
            assert len(photo.boxes) == 30
            for box in photo.boxes:
                assert low - 0.02 <= max(box.width, box.height) <= high + 0.02
                assert box.left > 0
                assert box.left + box.width < 320
                assert box.top > 0
                assert box.top + box.height < 240
    assert [len(people) for people in seen] == [2, 1, 1, 1, 1]
    assert len(set.union(*seen)) == 6
    with open(made / "photos" / "web" / "boxes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["photo", "left", "top", "width", "height", "identity"]
    assert rows[0]["photo"] == "0000.jpg"


def test_a_default_split_uses_everybody_once(make_params: Callable[..., Params]) -> None:
    counts = {"hr_train": 18, "hr_test": 6, "train": 6, "web": 5, "cctv": 5}
    split = split_people(list(find_portraits()), counts, 0)
    assert {role: len(people) for role, people in split.items()} == counts
    assert len({name for people in split.values() for name in people}) == 40
    assert split != split_people(list(find_portraits()), counts, 1)
    with pytest.raises(CharregError, match="41 people wanted, the package ships 40"):
        split_people(list(find_portraits()), {**counts, "web": 6}, 0)


def test_a_face_is_pasted_where_its_box_says(make_params: Callable[..., Params]) -> None:
    params = make_params().packaged_photos
    people = {"s1": [packaged._portrait(find_portraits()["s1"][0])]}
    grey = [np.full((240, 320, 3), 60, np.uint8)]
    scene, faces = compose_scene(grey, people, params, np.random.default_rng(0))
    picture = Image.open(io.BytesIO(take_picture(scene, CLEAN, np.random.default_rng(0))))
    portrait = people["s1"][0]
    face = portrait.face
    inner = (face.left + 10, face.top + 10, face.left + face.width - 10, face.top + face.height - 10)
    wanted = np.asarray(Image.fromarray(portrait.pixels).resize((8, 8), Image.Resampling.BICUBIC, box=inner)).astype(
        int
    )
    for box in faces:
        scale = box.width / face.width
        cut = (box.left + 10 * scale, box.top + 10 * scale)
        cut += (box.left + box.width - 10 * scale, box.top + box.height - 10 * scale)
        found = np.asarray(picture.resize((8, 8), Image.Resampling.BICUBIC, box=cut)).astype(int)
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


def test_sizes_and_cameras_that_do_not_fit_are_refused(make_params: Callable[..., Params], tmp_path: Path) -> None:
    cameras = {"train": ["web"], "web": ["web"], "cctv": ["cctv"]}
    for key, value, complaint in (
        ("spacing", 30, r"packaged_photos\.spacing: 30 px, faces of 24 px want 40"),
        ("camera_of", {**cameras, "web": ["phone"]}, r"camera_of\.web: found"),
        ("camera_of", {**cameras, "train": []}, r"camera_of\.train: found \[\]"),
        ("people", {"hr_train": 1, "train": 1, "web": 1}, r"people: nobody for cctv"),
    ):
        changes = {f"packaged_photos.{key}": value}
        with pytest.raises(CharregError, match=complaint):
            make_packaged_photos(tmp_path, make_params(changes).packaged_photos, 0)
    with pytest.raises(CharregError, match="no_such_package: found no data in it"):
        package_folder("no_such_package", "data")
    assert list(tmp_path.iterdir()) == []


def test_camera_darkens_blurs_casts_and_adds_noise() -> None:
    def levels(**changes: object) -> np.ndarray:
        camera = CLEAN.model_copy(update=changes)
        with Image.open(io.BytesIO(take_picture(scene, camera, np.random.default_rng(1)))) as picture:
            return np.asarray(picture).astype(float)

    stripes = np.tile(np.array([60, 60, 180, 180], dtype=np.uint8), 16)
    scene = to_light(np.broadcast_to(stripes[None, :, None], (64, 64, 3)))
    clean = levels()
    assert np.abs(clean - stripes[None, :, None]).mean() < 3
    assert levels(light=(0.5, 0.5)).mean() < 0.8 * clean.mean()
    for blurred in (levels(defocus=(2, 2)), levels(motion=(4, 4))):
        assert np.abs(np.diff(blurred, axis=1)).mean() < 0.7 * np.abs(np.diff(clean, axis=1)).mean()
    cast = levels(cast=1.5)
    assert np.abs(cast[..., 0] - cast[..., 1]).mean() > 10
    assert np.abs(levels(noise=(8, 8)) - clean).std() > 3
    worse = levels(jpeg=(10, 10))
    assert np.abs(worse - clean).mean() > np.abs(levels(jpeg=(90, 90)) - clean).mean()


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, 2.5])
def test_motion_blur_keeps_light_and_place(length: float, angle: float) -> None:
    kernel = motion_kernel(length, angle)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel >= 0).all()
    assert np.allclose(kernel, kernel[::-1, ::-1])  # no shift of the face against its box
    if length == 0:
        assert kernel.tolist() == [[1.0]]


def test_light_round_trip_and_background_files() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(np.rint(from_light(to_light(every))), every)
    for name in packaged.BACKGROUNDS:
        assert (package_folder("skimage", "data") / name).is_file()
