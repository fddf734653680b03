"""Ready crops, high and low resolution: resized as they are, with what the list says of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from charreg.core.faces import LANDMARK_COLUMNS
from charreg.core.params import HrSource, Params
from charreg.core.resampling import resize_image
from charreg.photos.extraction import crop_of
from conftest import draw_face
from data_fixtures import Stages
from miniature import write_zip

READY = {"source": "folder", "path": "", "exclude": "none.txt", "boxes": "ready"}


def save_crops(root: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """Drawn crops as PNG, by name; sizes: width, height."""
    images = {}
    for i, (name, (width, height)) in enumerate(sizes.items()):
        images[name] = draw_face(i, 0, max(width, height))[:height, :width]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[name]).save(root / name)
    return images


def test_ready_lr_crops_are_resized_and_keep_their_native_side(tmp_path: Path) -> None:
    images = save_crops(tmp_path / "raw", {"ann/a.png": (24, 24), "ann/b.png": (20, 20), "b/c.png": (40, 40)})
    faces = Stages(tmp_path).lr(tmp_path / "raw", "lr", **{"lr_roles.web": READY})
    assert faces.index["photo"].tolist() == ["ann/a.png", "ann/b.png"]
    assert faces.meta["rejections"] == {"face_too_large": 1}  # 40 / 1.2 px
    for image, name in zip(faces.images, ("ann/a.png", "ann/b.png"), strict=True):
        assert np.array_equal(image, resize_image(images[name], 16))
    assert faces.index["native_side"].tolist() == [24, 20]
    assert faces.index["box_width"].tolist() == pytest.approx([20, 16.667], abs=1e-3)
    assert faces.identities == ["ann", "ann"]
    assert faces.meta["mean_side"] == pytest.approx(18.333, abs=1e-3)


def test_ready_lr_crops_can_be_excluded_and_take_what_the_list_says(tmp_path: Path) -> None:
    save_crops(tmp_path / "raw", {"a.png": (24, 24), "b.png": (24, 24), "c.png": (48, 48)})
    table = "photo,identity,album,native_side,split\na.png,ann,x,,train\nb.png,ben,x,,test\nc.png,cid,y,18,train\n"
    (tmp_path / "raw" / "boxes.csv").write_text(table)
    stages = Stages(tmp_path)
    faces = stages.lr(tmp_path / "raw", "lr", **{"lr_roles.web": {**READY, "split": "train"}})
    assert faces.identities == ["ann", "cid"]
    assert faces.index["album"].tolist() == ["x", "y"]
    assert faces.index["native_side"].tolist() == [24, 18]
    stages.exclude.write_text("a.png 2 2\n")
    faces = stages.lr(tmp_path / "raw", "less", **{"lr_roles.web": READY})
    assert faces.identities == ["ben", "cid"]
    assert faces.meta["stale_exclusions"] == 0


def test_crops_cut_at_a_border_are_squared_and_others_left_out(tmp_path: Path) -> None:
    images = save_crops(tmp_path / "raw", {"cut.png": (22, 24), "tall.png": (16, 24)})
    faces = Stages(tmp_path).lr(tmp_path / "raw", "lr", **{"lr_roles.web": READY})
    assert faces.index["photo"].tolist() == ["cut.png"]
    assert faces.meta["rejections"] == {"not_framed": 1}
    squared = np.pad(images["cut.png"], ((0, 0), (1, 1), (0, 0)), mode="edge")
    assert np.abs(faces.images[0].astype(int) - resize_image(squared, 16)).max() <= 1


def test_ready_hr_crops_of_an_archive_become_pairs(tmp_path: Path) -> None:
    images = save_crops(tmp_path / "loose", {"ann/1.png": (128, 128), "ann/2.png": (128, 128), "ben/1.png": (112, 112)})
    columns = ("photo", "identity", "native_side", *LANDMARK_COLUMNS)
    table = f"{','.join(columns)}\nset/ann/1.png,ann,150,46,52,82,52,64,73,48,91,80,91\n"
    files = {f"set/{name}": (tmp_path / "loose" / name).read_bytes() for name in images}
    raw = write_zip(tmp_path / "raw.zip", {**files, "boxes.csv": table.encode()})
    stages, role = Stages(tmp_path), {"source": "folder", "path": "", "crop": "ready"}
    faces = stages.hr(raw, "hr", role="test", **{"hr_roles.test": role})
    assert faces.identities == ["ann", "ann", "ben"]
    assert faces.index["native_side"].tolist() == [150, 128, 112]
    assert faces.lr is not None
    for face, lr, image in zip(faces.images, faces.lr, images.values(), strict=True):
        assert np.array_equal(face, resize_image(image, 64))
        assert np.array_equal(lr, resize_image(face, 16))
    assert faces.index["left_eye_x"].tolist()[0] == 23
    assert faces.index["left_eye_x"].isna().tolist() == [False, True, True]
    copies = stages.hr(raw, "train", **{"hr_roles.train": role, "hr_faces.copies": 3})
    assert np.array_equal(copies.images[::3], faces.images)  # the others are jittered about the whole picture
    assert not any(np.array_equal(copies.images[i], copies.images[i + 1]) for i in range(8))


def test_a_role_may_have_a_crop_of_its_own(toy_params: Params) -> None:
    def crop(source: str, own: str | None, general: str) -> str:
        role = HrSource.model_validate({"source": source, "path": "x", "crop": own})
        return crop_of(role, toy_params.hr_faces.model_copy(update={"crop": general}))

    assert crop("celeba", None, "fixed") == "fixed"
    assert crop("helen", None, "fixed") == "mtcnn"  # no portrait but CelebA's has a fixed place for its face
    assert crop("folder", "ready", "fixed") == "ready"
    assert crop("celeba", "mtcnn", "ready") == "mtcnn"
