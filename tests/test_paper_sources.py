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

from charreg.core.params import PackagedPhotosOptions
from charreg.core.profiles import apply_profile, read_profile
from charreg.photos.crowds import make_packaged_photos
from miniature import jpeg, write_helen, write_video
from test_pipeline import Project, copy_project

pytestmark = [pytest.mark.dvc, pytest.mark.long]

PHOTOS = {"train": 8, "web": 6, "cctv": 6}
Boxes = dict[str, list[dict[str, str]]]


def boxes_of(folder: Path) -> Boxes:
    found: Boxes = {path.name: [] for path in sorted(folder.glob("*.jpg"))}
    with open(folder / "boxes.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["photo"]].append(row)
    return found


def box_cells(row: dict[str, str]) -> list[str]:
    return [str(round(float(row[key]))) for key in ("left", "top", "width", "height")]


def as_celeba(portraits: Path, root: Path) -> None:
    """Portraits of 178x218 with numbered people, all in the official text files."""
    (root / "img_align_celeba").mkdir(parents=True)
    paths = sorted(portraits.glob("*/*.pgm"))
    names = [f"{i + 1:06}.jpg" for i in range(len(paths))]
    for name, path in zip(names, paths, strict=True):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((178, 218), Image.Resampling.BICUBIC))
        (root / "img_align_celeba" / name).write_bytes(jpeg(pixels))
    points = "66 109 131 111 98 142 76 166 121 166"  # of these faces, which fill more of the picture than CelebA's
    lines = [str(len(names)), "columns", *(f"{name}  {points}" for name in names)]
    (root / "list_landmarks_align_celeba.txt").write_text("\n".join(lines) + "\n")
    people = [path.parent.name.removeprefix("s") for path in paths]
    pairs = [f"{name} {person}\n" for name, person in zip(names, people, strict=True)]
    (root / "identity_CelebA.txt").write_text("".join(pairs))


def as_helen(portraits: Path, root: Path) -> None:
    images = {}
    for path in sorted(portraits.glob("*/*.pgm")):
        with Image.open(path) as image:
            images[f"{path.parent.name}_{path.stem}"] = np.asarray(
                image.convert("RGB").resize((184, 224), Image.Resampling.BICUBIC)
            )
    write_helen(root, dict.fromkeys(images, (20.0, 50.0, 140.0)), images)


def as_wider(photos: Path, root: Path) -> None:
    """Crowds in train and val, one photograph without a box in test."""
    (root / "wider_face_split").mkdir(parents=True)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, (name, rows) in enumerate(boxes_of(photos).items()):
        part = ("train", "train", "val")[i % 3] if i else "test"
        place = f"0--Parade/0_Parade_{i}.jpg"
        path = root / f"WIDER_{part}" / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, path)
        faces = [" ".join([*box_cells(row), *"000000"]) for row in rows]
        lists[part] += [place] if part == "test" else [place, str(len(faces)), *faces]
    for part, name in (("train", "train_bbx_gt"), ("val", "val_bbx_gt"), ("test", "test_filelist")):
        (root / "wider_face_split" / f"wider_face_{name}.txt").write_text("\n".join(lists[part]) + "\n")


def as_pipa(photos: Path, root: Path) -> None:
    """Heads with numbered people in all four parts, two albums."""
    lines = []
    for i, (name, rows) in enumerate(boxes_of(photos).items()):
        subset, album = i % 4, 1000 + i % 2
        folder = root / ("leftover", "train", "val", "test")[subset]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, folder / f"{album}_{i}.jpg")
        for row in rows:
            person = row["identity"].removeprefix("s")
            lines.append(" ".join([str(album), str(i), *box_cells(row), person, str(subset)]))
    (root / "index.txt").write_text("\n".join(lines) + "\n")


def as_surveillance(photos: Path, root: Path) -> None:
    """One camera saved frames, the other a video."""
    paths = sorted(photos.glob("*.jpg"))
    (root / "gate").mkdir(parents=True)
    for path in paths[::2]:
        shutil.copy(path, root / "gate" / f"frame{int(path.stem)}.jpg")
    with_pixels = []
    for path in paths[1::2]:
        with Image.open(path) as image:
            with_pixels.append(np.asarray(image.convert("RGB")))
    write_video(root / "yard" / "morning.mp4", pictures=with_pixels)


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
