"""Near-duplicates across roles: a training set never holds a face of a test set, and loses no other."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from charreg.core.faces import FaceSet, FaceWriter, Pixels, open_faces
from charreg.core.params import DeduplicateOptions
from charreg.photos.crowds import find_portraits
from charreg.photos.duplicates import BLOCK, Hashes, count_repeats, deduplicate, find_duplicates, hash_faces, near_any
from conftest import draw_genuine_faces
from data_fixtures import set_with_eyes


def random_hashes(count: int, seed: int) -> Hashes:
    faces = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return hash_faces(faces)


def turned(hashes: Hashes, bits: int, seed: int) -> Hashes:
    """The hashes with so many random bits of each turned."""
    draws, content = np.random.default_rng(seed), hashes.view(np.uint8).reshape(len(hashes), 32).copy()
    for row in content:
        for bit in draws.choice(240, bits, replace=False):
            row[bit // 8] ^= 128 >> bit % 8
    return content.view(np.uint64)


def distances(one: Hashes, other: Hashes) -> Any:
    return np.bitwise_count(one[:, None] ^ other[None]).sum(axis=2)


@pytest.mark.parametrize("distance", [0, 1, 24, 60])
def test_what_is_found_is_what_comparing_all_pairs_finds(distance: int) -> None:
    tests = random_hashes(BLOCK + 90, 0)
    near = [turned(tests[-40:], bits, 9) for bits in (0, distance, distance + 1, distance + 2)]
    hashes = np.concatenate([*near, random_hashes(BLOCK, 1)])
    wanted = (distances(hashes, tests) <= distance).any(axis=1)
    assert wanted[:80].all()
    assert not wanted[80:160].any()
    assert np.array_equal(near_any(hashes, tests, distance), wanted)
    assert not near_any(hashes, tests[:0], distance).any()
    assert near_any(hashes[:0], tests, distance).shape == (0,)


def portraits(count: int) -> list[Image.Image]:
    paths = [path for several in find_portraits().values() for path in several[:2]][:count]
    return [Image.open(path).convert("RGB") for path in paths]


def copied(image: Image.Image, quality: int, size: float) -> Image.Image:
    file = io.BytesIO()
    image.resize((round(image.width * size), round(image.height * size)), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=quality
    )
    return Image.open(file)


def small(image: Image.Image, shift: float = 0.0) -> Pixels:
    """The 16x16 face; framed anew with an error of `shift` of its side."""
    left, side = (0.02 + shift) * image.width, 0.94 * image.width
    box = (left, left, left + side, left + side)
    return np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC, box=box))


def test_copies_are_near_and_other_people_are_not() -> None:
    images = portraits(80)
    hashes = hash_faces(np.stack([small(image) for image in images]))
    same = hash_faces(np.stack([small(copied(image, 50, 1.0)) for image in images]))
    framed = hash_faces(np.stack([small(copied(image, 70, 0.7), 0.01) for image in images]))
    brighter = hash_faces(np.stack([small(image.point(lambda level: 20 + level * 4 // 5)) for image in images]))
    assert np.quantile(np.diagonal(distances(hashes, same)), 0.95) <= 24
    assert np.quantile(np.diagonal(distances(hashes, framed)), 0.8) <= 24
    assert np.median(np.diagonal(distances(hashes, brighter))) <= 12
    people = np.arange(80) // 2
    assert distances(hashes, hashes)[people[:, None] != people].min() > 24


# --- sets -------------------------------------------------------------------------------------------


def write_faces(folder: Path, images: Pixels, rows: list[dict[str, Any]]) -> FaceSet:
    folder.mkdir(parents=True)
    with FaceWriter(folder, 16) as writer:
        writer.notes = {"domain": "genuine", "role": "train", "mean_side": 1.0, "side_histogram": {}}
        writer.reject("score", 3)
        for image, row in zip(images, rows, strict=True):
            writer.add(image, {"identity": "", "box_top": 0.0, "box_width": 14.0, "box_height": 17.0, **row})
    return open_faces(folder)


def deduplicated(out: Path, train: FaceSet, *tests: FaceSet, keep: bool = False) -> tuple[FaceSet, dict[str, Any]]:
    out.mkdir()
    options = DeduplicateOptions(near_duplicates="keep" if keep else "drop", distance=24)
    sizes = [array.shape[1] for array in (train.images, train.lr) if array is not None]
    with FaceWriter(out, *sizes) as writer:
        metrics = deduplicate(writer, train, tests, options)
    return open_faces(out), metrics


def test_test_faces_and_their_mirror_images_leave_the_training_set(tmp_path: Path) -> None:
    images = np.stack([small(image) for image in portraits(20)])
    rows = [{"photo": f"{i}.jpg", "box_left": float(i), "identity": f"p{i}"} for i in range(20)]
    faces = write_faces(tmp_path / "train", images, rows)
    web = write_faces(tmp_path / "web", images[[3]], [{"photo": "a.jpg", "box_left": 1.0}])
    cctv = write_faces(tmp_path / "cctv", images[[8], :, ::-1], [{"photo": "b.jpg", "box_left": 1.0}])
    kept, metrics = deduplicated(tmp_path / "drop", faces, web, cctv)
    assert kept.identities == [f"p{i}" for i in range(20) if i not in (3, 8)]
    assert np.array_equal(kept.images, np.delete(images, [3, 8], axis=0))
    assert kept.meta["rejections"] == {"near_duplicate": 2, "score": 3}
    assert (kept.meta["mean_side"], kept.meta["side_histogram"]) == (17.0, {"16-20": 18})
    assert metrics == {"n_faces": 18, "n_test_faces": 2, "near_duplicates": 2}
    kept, metrics = deduplicated(tmp_path / "keep", faces, web, cctv, keep=True)
    assert (len(kept), metrics["near_duplicates"]) == (20, 2)
    assert "near_duplicate" not in kept.meta["rejections"]


def test_copies_of_one_box_share_its_fate(tmp_path: Path) -> None:
    images = np.stack([small(image) for image in portraits(4)])
    rows = [{"photo": name, "box_left": left} for name, left in (("a", 1.0), ("a", 1.0), ("a", 9.0), ("b", 1.0))]
    faces = write_faces(tmp_path / "train", images, rows)
    test = write_faces(tmp_path / "web", images[[1]], [{"photo": "c", "box_left": 1.0}])
    assert find_duplicates(faces, [test], 24).tolist() == [True, True, False, False]


def test_empty_sets_are_valid(tmp_path: Path) -> None:
    empty = draw_genuine_faces(tmp_path / "empty", people=0)
    faces = draw_genuine_faces(tmp_path / "faces", people=1)
    assert len(deduplicated(tmp_path / "none", empty, faces)[0]) == 0
    assert len(deduplicated(tmp_path / "all", faces, empty)[0]) == len(faces)


def test_the_same_photograph_twice_in_a_test_set_is_told(tmp_path: Path) -> None:
    once, twice = set_with_eyes(tmp_path / "once", 16, None), tmp_path / "twice"
    twice.mkdir()
    with FaceWriter(twice, 16) as writer:
        for number in (0, 1, 1, 2):
            writer.add(once.images[number], {"photo": f"{number}.png"})
    assert count_repeats(once) == 0
    assert count_repeats(open_faces(twice)) == 1
