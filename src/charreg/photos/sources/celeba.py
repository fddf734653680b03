"""CelebA, aligned: 202,599 portraits of 178x218 px of 10,177 people, with five landmarks each.

Layout, as the official page (Large-scale CelebFaces Attributes, MMLAB, The Chinese University of Hong Kong) hands the
files out, in the folder itself or in its subfolders Img, Anno and Eval:

    img_align_celeba/000001.jpg ...     or img_align_celeba.zip, read without unpacking
    list_landmarks_align_celeba.txt     the count, the names of the columns, then `000001.jpg x y` five times
    identity_CelebA.txt                 `000001.jpg 2880`
    list_eval_partition.txt             `000001.jpg 0`; 0 train (162,770), 1 val (19,867), 2 test (19,962)

Licence: non-commercial research only; neither the pictures nor parts of them may be redistributed.
"""

import os
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources.archives import list_members
from charreg.photos.sources.folders import check_present, find_part, in_order, parse_cells, read_lines
from charreg.photos.sources.photos import Member, Photo, PhotoList

SIZE = (178, 218)  # width, height, px of every aligned portrait
IMAGES = "img_align_celeba"
SPLITS = {"train": 0, "val": 1, "test": 2}
ADVICE = "fetch it from CelebA's official page and put it there"


def find_photos(root: Path, split: str) -> PhotoList:
    """The portraits of a split (all, train, val or test) by name. Raises CharregError for what is missing."""
    landmarks_file = _find(root, "list_landmarks_align_celeba.txt", "Anno")
    identities_file = _find(root, "identity_CelebA.txt", "Anno")
    images = find_part(root, [IMAGES, f"{IMAGES}.zip", f"Img/{IMAGES}", f"Img/{IMAGES}.zip"], ADVICE)
    landmarks = _read_landmarks(landmarks_file)
    identities = _read_numbers(identities_file)
    names = in_order(landmarks, root)
    if split != "all":
        partition = _find(root, "list_eval_partition.txt", "Eval")
        parts = _read_numbers(partition)
        check_present(names, parts, partition, landmarks_file)
        names = [name for name in names if parts[name] == SPLITS[split]]
    places = _places(images)
    check_present(names, places, images, landmarks_file)
    check_present(names, identities, identities_file, landmarks_file)
    photos = [
        Photo(name, _path(images, name), (), f"{identities[name]}", landmarks=landmarks[name], place=places[name])
        for name in names
    ]
    return PhotoList(photos, annotated=False)


def _find(root: Path, name: str, folder: str) -> Path:
    return find_part(root, [name, f"{folder}/{name}"], ADVICE)


def _path(images: Path, name: str) -> Path:
    return images / name if images.is_dir() else images


def _places(images: Path) -> dict[str, Member | None]:
    """Where every picture lies, by its name: None for a loose file."""
    if images.is_dir():
        return dict.fromkeys(os.listdir(images))
    return {name.rpartition("/")[2]: member for name, member in list_members(images).items()}


def _read_landmarks(path: Path) -> dict[str, tuple[float, ...]]:
    """The five points of every portrait, px. Raises CharregError for a line that is none, or too few lines."""
    kinds = (str, *[int] * 10)
    landmarks: dict[str, tuple[float, ...]] = {}
    count = 0
    for number, line in read_lines(path):
        if number == 1:
            (count,) = parse_cells(path, number, line, (int,), "the number of portraits")
        elif number > 2 and line:
            name, *points = parse_cells(path, number, line, kinds, "a file name and ten numbers")
            landmarks[name] = tuple(points)
    if len(landmarks) != count or not count:
        raise CharregError(
            f"{path}: found {len(landmarks)} portraits, wanted {count} as its first line says; fetch it again"
        )
    return landmarks


def _read_numbers(path: Path) -> dict[str, int]:
    """The number beside every file name. Raises CharregError."""
    numbers = {}
    for number, line in read_lines(path):
        if line:
            name, value = parse_cells(path, number, line, (str, int), "a file name and a number")
            numbers[name] = value
    return numbers
