"""The whole graph, every method, on miniature copies of the paper's sets: paper's sources, smoke's budgets."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from charreg.core.faces import Pixels
from charreg.core.params import PackagedPhotosOptions
from charreg.core.profiles import apply_profile, read_profile
from charreg.photos.crowds import make_packaged_photos
from miniature import jpeg, write_helen, write_video
from test_pipeline import Project, copy_project

pytestmark = [pytest.mark.dvc, pytest.mark.long]

PHOTOS = {"train": 8, "web": 6, "cctv": 6}


def pixels_of(path: Path, size: tuple[int, int] | None = None) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size or image.size, Image.Resampling.BICUBIC))


def boxes_of(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Box (left, top, width, height, whole px) and number of the person of every face, by photograph."""
    found: dict[str, list[tuple[str, str]]] = {path.name: [] for path in sorted(folder.glob("*.jpg"))}
    with open(folder / "boxes.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = " ".join(str(round(float(row[key]))) for key in ("left", "top", "width", "height"))
            found[row["photo"]].append((box, row["identity"].removeprefix("s")))
    return found


def as_celeba(portraits: Path, root: Path) -> None:
    """Portraits of 178x218 with numbered people, all in the official text files."""
    (root / "img_align_celeba").mkdir(parents=True)
    points = "66 109 131 111 98 142 76 166 121 166"  # of these faces, which fill more of the picture than CelebA's
    paths = {f"{i:06}.jpg": path for i, path in enumerate(sorted(portraits.glob("*/*.pgm")), 1)}
    for name, path in paths.items():
        (root / "img_align_celeba" / name).write_bytes(jpeg(pixels_of(path, (178, 218))))
    lines = [str(len(paths)), "columns", *(f"{name}  {points}" for name in paths)]
    (root / "list_landmarks_align_celeba.txt").write_text("\n".join(lines) + "\n")
    pairs = [f"{name} {path.parent.name.removeprefix('s')}\n" for name, path in paths.items()]
    (root / "identity_CelebA.txt").write_text("".join(pairs))


def as_helen(portraits: Path, root: Path) -> None:
    paths = sorted(portraits.glob("*/*.pgm"))
    images = {f"{path.parent.name}_{path.stem}": pixels_of(path, (184, 224)) for path in paths}
    write_helen(root, dict.fromkeys(images, (20.0, 50.0, 140.0)), images)


def as_wider(photos: Path, root: Path) -> None:
    """Crowds in train and val, one photograph without a box in test."""
    (root / "wider_face_split").mkdir(parents=True)
    lists: dict[str, list[str]] = {"train_bbx_gt": [], "val_bbx_gt": [], "test_filelist": []}
    for i, (name, faces) in enumerate(boxes_of(photos).items()):
        listing = ("train_bbx_gt", "train_bbx_gt", "val_bbx_gt")[i % 3] if i else "test_filelist"
        place = f"0--Parade/0_Parade_{i}.jpg"
        path = root / f"WIDER_{listing.partition('_')[0]}" / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, path)
        lists[listing] += [place, str(len(faces)), *(f"{box} 0 0 0 0 0 0" for box, _ in faces)] if i else [place]
    for listing, lines in lists.items():
        (root / "wider_face_split" / f"wider_face_{listing}.txt").write_text("\n".join(lines) + "\n")


def as_pipa(photos: Path, root: Path) -> None:
    """Heads with numbered people in all four parts, two albums."""
    lines = []
    for i, (name, heads) in enumerate(boxes_of(photos).items()):
        subset, album = i % 4, 1000 + i % 2
        folder = root / ("leftover", "train", "val", "test")[subset]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, folder / f"{album}_{i}.jpg")
        lines += [f"{album} {i} {box} {person} {subset}\n" for box, person in heads]
    (root / "index.txt").write_text("".join(lines))


def as_surveillance(photos: Path, root: Path) -> None:
    """One camera saved frames, the other a video."""
    paths = sorted(photos.glob("*.jpg"))
    (root / "gate").mkdir(parents=True)
    for path in paths[::2]:
        shutil.copy(path, root / "gate" / f"frame{int(path.stem)}.jpg")
    write_video(root / "yard" / "morning.mp4", pictures=[pixels_of(path) for path in paths[1::2]])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The graph run once, with the roles of the paper profile."""
    folder = copy_project(tmp_path_factory.mktemp("paper"))
    content = yaml.safe_load((folder / "params.yaml").read_text())
    roles = {key: read_profile(folder / "profiles/paper.yaml")[key] for key in ("hr_roles", "lr_roles")}
    small = apply_profile(apply_profile(content, roles), read_profile(folder / "profiles/smoke.yaml"))
    small["lr_roles"]["cctv"]["stride"] = 1  # of so few frames
    shipped = PackagedPhotosOptions.model_validate({**content["packaged_photos"], "photos": PHOTOS})
    made = tmp_path_factory.mktemp("made")
    make_packaged_photos(made, shipped, 0)
    raw = folder / "data/raw"
    as_celeba(made / "portraits/hr_train", raw / "celeba")
    as_helen(made / "portraits/hr_test", raw / "helen")
    as_wider(made / "photos/train", raw / "wider_face")
    as_pipa(made / "photos/web", raw / "pipa")
    as_surveillance(made / "photos/cctv", raw / "surveillance")
    shutil.copytree(made / "photos/cctv", raw / "folder")
    small["packaged_photos"]["photos"] = dict.fromkeys(PHOTOS, 1)  # a stage of the graph, used by nobody here
    (folder / "params.yaml").write_text(yaml.safe_dump(small, sort_keys=False))
    project = Project(folder)
    project.start()
    yield project
    shutil.rmtree(folder)


def faces_of(project: Project, role: str) -> tuple[dict[str, object], list[dict[str, str]]]:
    place = project.folder / "data" / role
    with open(place / "index.csv", newline="", encoding="utf-8") as file:
        return json.loads((place / "meta.json").read_text()), list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("role", "source", "least"),
    [
        ("hr_faces/train", "celeba", 140),
        ("hr_faces/test", "helen", 45),
        ("lr_faces/train", "wider_face", 100),
        ("lr_faces/web", "pipa", 80),
        ("lr_faces/cctv", "surveillance", 50),
    ],
)
def test_every_set_gave_its_faces(project: Project, role: str, source: str, least: int) -> None:
    meta, rows = faces_of(project, role)
    assert meta["source"] == source
    assert meta["count"] == len(rows) >= least


def test_people_albums_and_cameras_come_along(project: Project) -> None:
    _, celeba = faces_of(project, "hr_faces/train")
    assert len({row["identity"] for row in celeba}) == 17  # packaged_photos.people.hr_train
    _, pipa = faces_of(project, "lr_faces/web")
    assert {row["album"] for row in pipa} == {"1000", "1001"}
    assert len({row["identity"] for row in pipa} - {""}) == 5
    _, frames = faces_of(project, "lr_faces/cctv")
    assert {row["album"] for row in frames} == {"gate", "yard"}


def test_the_report_names_the_sources_and_measures_them(project: Project) -> None:
    text = (project.folder / "reports/report.md").read_text()
    for source in ("celeba", "helen", "wider_face", "pipa", "surveillance"):
        assert source in text
    measured = project.metrics("scores")
    assert measured.keys() >= set(yaml.safe_load((project.folder / "params.yaml").read_text())["methods"])
    found = measured["cr"]
    assert found["web"]["rank1"] >= 0
    assert found["hr_test"]["psnr_rgb"] > 0
    assert "rank1" in found["cctv"]["absent"]  # frames have no identities


def test_a_folder_takes_the_place_of_a_set_with_two_flags(project: Project) -> None:
    flags = ["-S", "lr_roles.cctv.source=folder", "-S", "lr_roles.cctv.path=data/raw/folder"]
    flags += ["-S", "methods=[bicubic,cr]"]  # two rows show it
    ran = project.stages_run("dvc", "exp", "run", *flags)
    assert "lr_faces@cctv" in ran
    assert not ran & {"lr_faces@web", "hr_faces@train", "pretrain_sr"}
    meta, rows = faces_of(project, "lr_faces/cctv")
    assert meta["source"] == "folder"
    assert len({row["identity"] for row in rows} - {""}) == 5
    assert project.metrics("scores")["cr"]["cctv"]["rank1"] >= 0
