"""Helen: 2,330 portraits from Flickr (2,000 train, 330 test) with 194 landmarks of one face each.

Layout, as the authors (Le et al., ECCV 2012, University of Illinois) hand it out, all pictures in one folder or in any
folders, and the annotations unpacked beside them:

    helen_1/100032540_1.jpg ...    or any other folder
    annotation/1.txt ...           the picture's name without suffix, then 194 lines `x , y`

The face that is annotated is the one to crop: of several detected faces the one that overlaps it, and where the
detector sees none, the square that its landmarks suggest. Licence: research only; the pictures are Flickr users' own.
"""

from pathlib import Path

import numpy as np

from charreg.core.errors import CharregError
from charreg.photos.sources.folders import find_part, in_order, names_below, read_lines
from charreg.photos.sources.photos import Photo, PhotoList

POINTS = 194
NOSE, LIPS = slice(41, 58), slice(58, 86)  # the outline of the nose from eye to eye; the outer and inner lips' rim
EYES = (slice(114, 134), slice(134, 154))
ADVICE = "fetch it from Helen's official page and unpack it there"


def find_photos(root: Path) -> PhotoList:
    """The annotated portraits by name. Raises CharregError for what is missing."""
    folder = find_part(root, ["annotation"], ADVICE)
    landmarks = dict(_read_annotation(folder / name) for name in in_order(names_below(folder, (".txt",)), folder))
    if not landmarks:
        raise CharregError(f"{folder}: found no .txt, wanted a file of landmarks for each portrait; {ADVICE}")
    portraits = {Path(name).stem: name for name in in_order(names_below(root), root)}
    missing = sorted(set(landmarks).difference(portraits))
    if missing:
        raise CharregError(
            f"{root}: {missing[0]}.jpg is missing, {folder.name} lists it ({len(missing)} such); {ADVICE}"
        )
    names = in_order((portraits[stem] for stem in landmarks), root)
    return PhotoList(
        [Photo(name, root / name, landmarks=landmarks[Path(name).stem]) for name in names], annotated=False
    )


def _read_annotation(path: Path) -> tuple[str, tuple[float, ...]]:
    """A portrait's name and its five points, px. Raises CharregError."""
    lines = [line for _, line in read_lines(path) if line]
    try:
        points = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    except ValueError:
        points = np.zeros(0)
    if points.shape != (POINTS, 2) or not np.isfinite(points).all():
        raise CharregError(f"{path}: found {len(lines)} lines, wanted a name and {POINTS} lines `x , y`; {ADVICE}")
    return lines[0], _five_points(points)


def _five_points(points: np.ndarray) -> tuple[float, ...]:
    """Eyes, nose and corners of the mouth, left to right in the picture, of 194 points [194, 2].

    Eyes are the means of their outlines; the tip of the nose is not annotated, the mean of its outline lies nearest.
    """
    eyes = np.array(sorted(points[eye].mean(axis=0).tolist() for eye in EYES))
    along = points[LIPS] @ (eyes[1] - eyes[0])
    corners = points[LIPS][[along.argmin(), along.argmax()]]
    five = np.concatenate([eyes, points[NOSE].mean(axis=0)[None], corners])
    return tuple(five.round(3).ravel().tolist())
