"""The real-face bench, in miniature: parts that share nobody and no photograph, and crowds of people set aside."""

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.params import SPLITS, ComposedPhotosOptions, HrSource, PackagedPhotosOptions, parse_yaml
from charreg.core.profiles import apply_profile, read_profile
from charreg.photos.composed import make_composed_photos
from charreg.photos.sources import Photo, PhotoList, find_photos, read_photo
from charreg.photos.sources.bench import FEWEST, PARTS, PER_PERSON, SET_ASIDE
from conftest import ROOT, params_of
from data_fixtures import Stages, encoded, portrait
from miniature import write_tar

Rows = list[dict[str, Any]]


def crop(side: int, level: int = 120) -> bytes:
    return encoded(Image.new("RGB", (side, side), (level, 90, 60)), "PNG")


def write_list(root: Path, name: str, rows: Rows) -> None:
    with open(root / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def hr_rows(pictures: dict[str, int]) -> Rows:
    return [
        {"file": f"{name}_{i:04}.png", "identity": name, "native_side": 150}
        for name, count in pictures.items()
        for i in range(count)
    ]


def lr_rows(photographs: dict[str, int], mask: str = "no") -> Rows:
    return [
        {"file": f"{mask}_{name}_{i:03}.png", "source_repo": "somebody/crowds", "source_image": f"{name}.jpg",
         "crop_w": 23, "crop_h": 24, "mask": mask}
        for name, count in photographs.items()
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 people with 1 to 8 pictures, one with 30; 40 photographs with 1 to 10 faces and masks. Not to be changed."""
    root = tmp_path_factory.mktemp("raw") / "bench"
    (root / "hr_test").mkdir(parents=True)
    people = hr_rows({f"p{i}": i % 8 + 1 for i in range(200)} | {"often": 30})
    write_list(root, "hr_train", people)
    write_tar(root / "hr_train.tar", {f"hr_train/{row['file']}": crop(128) for row in people})
    tests = [
        {"file": name, "identity": "", "native_side": 190} for name in ("helen_1.png", "helen_2.png", "glint_a.png")
    ]
    write_list(root, "hr_test", tests)
    for row in tests:
        (root / "hr_test" / row["file"]).write_bytes(crop(128))
    crowds = lr_rows({f"c{i}": i % 10 + 1 for i in range(40)}) + lr_rows({"c1": 5, "masked": 3}, "yes")
    write_list(root, "lr_web", crowds)
    write_tar(root / "lr_web.tar", {f"lr_web/{row['file']}": crop(24) for row in crowds})
    return root


@pytest.fixture
def own_bench(bench: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bench, tmp_path / "bench")


def found(root: Path, split: str) -> list[Photo]:
    return find_photos("bench", root, split).photos


def test_params_name_the_parts_there_are() -> None:
    parts = [name for split, inner in PARTS.items() for name in (split, *(f"{split}/{part}" for part in inner))]
    assert list(SPLITS["bench"]) == parts


def test_people_set_aside_are_in_no_training_picture(bench: Path) -> None:
    train, aside = found(bench, "hr_train/train"), found(bench, "hr_train/set_aside")
    people = [{photo.identity for photo in part} for part in (train, aside)]
    assert people[0].isdisjoint(people[1])
    assert len(people[0] | people[1]) == 201
    assert len(people[1]) == min(SET_ASIDE, 25 * (8 - FEWEST + 1) + 1)
    assert min(Counter(photo.identity for photo in aside).values()) >= FEWEST
    assert max(Counter(photo.identity for photo in train + aside).values()) == PER_PERSON


def test_parts_of_the_web_share_no_photograph_and_leave_masks_out(bench: Path) -> None:
    parts = [found(bench, f"lr_web/{part}") for part in ("train", "validation", "test")]
    albums = [{photo.album for photo in part} for part in parts]
    assert sum(map(len, albums)) == len(set.union(*albums)) == 40
    counts = [len(part) for part in parts]
    assert sum(counts) == len(found(bench, "lr_web")) == 40 * 5.5
    assert 0.2 <= counts[2] / sum(counts) < 0.25
    assert 0.05 < counts[1] / sum(counts) < 0.15
    assert not any(photo.name.startswith("yes") for part in parts for photo in part)


def test_parts_do_not_hang_on_the_order_of_the_list(bench: Path, own_bench: Path) -> None:
    for name in ("hr_train", "lr_web"):
        with open(bench / f"{name}.csv", newline="", encoding="utf-8") as file:
            write_list(own_bench, name, list(csv.DictReader(file))[::-1])
    for split in ("hr_train/set_aside", "lr_web/test"):
        assert [photo.name for photo in found(own_bench, split)] == [photo.name for photo in found(bench, split)]


def test_a_crop_is_read_from_folder_or_archive_with_its_native_side(bench: Path) -> None:
    helen, web = found(bench, "hr_test/helen"), found(bench, "lr_web/test")
    assert [photo.name for photo in helen] == ["helen_1.png", "helen_2.png"]
    assert [photo.native_side for photo in (helen[0], web[0])] == [190, 24]
    assert [read_photo(photo, 10**6).pixels.shape for photo in (helen[0], web[0])] == [(128, 128, 3), (24, 24, 3)]


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda root: (root / "lr_web.csv").unlink(), r"lr_web\.csv; link the bench there: mkdir -p data/raw"),
        (lambda root: (root / "lr_web.tar").unlink(), r"found no lr_web\.tar and no lr_web; link"),
        (lambda root: write_tar(root / "lr_web.tar", {"lr_web/x.png": b"x"}), r"lr_web\.tar: .* is missing, lr_web"),
        (lambda root: (root / "lr_web.csv").write_text("name\nx\n"), r"found columns \['name'\], wanted file"),
        (lambda root: write_list(root, "lr_web", [{"file": "no_c0_000.png", "crop_w": ""}]), "found no size of no_c0"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(own_bench: Path, harm: Any, complaint: str) -> None:
    harm(own_bench)
    with pytest.raises(CharregError, match=complaint):
        find_photos("bench", own_bench, "lr_web")


def test_ready_crops_pass_the_stages(bench: Path, tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    changes = {"lr_roles.web.split": "lr_web/test", "lr_roles.web.boxes": "ready", "lr_faces.face": [8, 32]}
    splits = {f"hr_roles.{role}.split": "hr_test/helen" for role in ("train", "test")}
    splits |= {f"lr_roles.{role}.split": "lr_web/train" for role in ("train", "cctv")}
    web = stages.lr(bench, "web", "bench", **{**splits, **changes})
    hr = stages.hr(bench, "hr", "bench", role="test", **{**splits, **changes, "hr_faces.crop": "ready"})
    assert len(web) == len(found(bench, "lr_web/test"))
    assert set(web.index["native_side"]) == {24.0}
    assert (len(hr), set(hr.index["native_side"])) == (2, {190.0})
    assert (web.images[0] == [120, 90, 60]).all()


def test_the_profile_holds_to_the_sources(bench: Path) -> None:
    """Its roles share neither people nor photographs, and each of its splits exists."""
    profile = apply_profile(parse_yaml(ROOT / "params.yaml"), read_profile(ROOT / "profiles" / "bench.yaml"))
    splits = [
        role["split"]
        for key in ("hr_roles", "lr_roles", "composed_photos")
        for role in profile[key].values()
        if role["source"] == "bench"
    ]
    names = [photo.name for split in splits for photo in found(bench, split)]
    assert len(splits) == 5
    assert len(names) == len(set(names))
    assert profile["lr_roles"]["cctv"]["path"] == "data/composed/cctv"


# --- composed photographs --------------------------------------------------------------------------------


@pytest.fixture
def portraits(tmp_path: Path) -> PhotoList:
    """Two people, two real portraits each, as square ready crops."""
    photos = []
    for person in ("ann", "bob"):
        for i in range(2):
            path = tmp_path / f"{person}{i}.png"
            Image.fromarray(np.ascontiguousarray(portrait()[10:102])).save(path)
            photos.append(Photo(path.name, path, identity=person))
    return PhotoList(photos, annotated=False)


def packaged_params() -> PackagedPhotosOptions:
    return params_of({"packaged_photos.size": [144, 96]}).packaged_photos


def composed(**changes: Any) -> ComposedPhotosOptions:
    return ComposedPhotosOptions.model_validate({"source": "bench", "path": "x", "photos": 2, **changes})


@pytest.mark.parametrize("crop_rule", ["ready", None])
def test_crowds_are_composed_of_own_portraits(portraits: PhotoList, tmp_path: Path, crop_rule: str | None) -> None:
    for name in ("one", "two"):
        make_composed_photos(tmp_path / name, "cctv", composed(crop=crop_rule), portraits, packaged_params(), 0)
    raw = find_photos("packaged", tmp_path / "one")
    assert [len(photo.boxes) for photo in raw.photos] == [6, 6]
    assert {box.identity for photo in raw.photos for box in photo.boxes} == {"ann", "bob"}
    assert read_photo(raw.photos[0], 10**6).pixels.shape == (96, 144, 3)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_portrait_without_a_name_or_face_is_refused(portraits: PhotoList, tmp_path: Path) -> None:
    def compose(photo: Photo, **changes: Any) -> None:
        make_composed_photos(
            tmp_path / "out", "cctv", composed(**changes), PhotoList([photo], annotated=False), packaged_params(), 0
        )

    first = portraits.photos[0]
    with pytest.raises(CharregError, match=r"ann0\.png has no identity"):
        compose(Photo(first.name, first.path))
    blank = tmp_path / "blank.png"
    Image.new("RGB", (90, 140)).save(blank)
    with pytest.raises(CharregError, match=r"composed_photos\.cctv: found no face in 1 portraits of x"):
        compose(Photo("blank.png", blank, identity="ann"))
    with pytest.raises(CharregError, match=r"blank\.png is not square"):
        compose(Photo("blank.png", blank, identity="ann"), crop="ready")
    blank.write_bytes(b"no picture")
    with pytest.raises(CharregError, match=r"blank\.png: not_an_image, wanted a portrait"):
        compose(Photo("blank.png", blank, identity="ann"))


def test_every_hr_source_may_be_composed() -> None:
    sources = get_args(HrSource.model_fields["source"].annotation)
    assert get_args(ComposedPhotosOptions.model_fields["source"].annotation) == sources
