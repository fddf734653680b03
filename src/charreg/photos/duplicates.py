"""Near-duplicates: faces of a training set that are faces of a test set too, found by a perceptual hash.

What is hashed is the 16x16 face, not the photograph. The face is what trains and what is tested: one portrait may lie
whole in one set and as a crop in another, while photographs of different people from one fixed camera (or composed over
one background) agree in nearly everything but the faces. Nothing has to be decoded again, and hashes of all sets are
of the same size.

The hash is a difference hash at full resolution: 240 bits, whether a pixel is brighter than its left neighbour. The
customary 64 bits are too few here, because aligned faces look alike: of 2.2 million pairs of different portraits (3,000
of LFW, 739 others) the nearest differ in 4 of 64 bits, but in 41 of 240. Copies of a portrait differ in at most 12 of
240 bits when saved as JPEG of quality 50 (99 percent of them); halved in size, saved with quality 60 and framed anew
with an error of 1 percent, in 14 (median) to 25 (95 percent). Brightness and contrast do not matter; mirrored faces
are looked for as well, because trainings mirror.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from charreg.core.faces import FaceSet, FaceWriter, Pixels
from charreg.core.params import DeduplicateOptions
from charreg.photos.records import Tally

BITS = 240
BLOCK = 512  # hashes compared at a time
BATCH = 4096  # faces at a time: memory grows by a hash a face, 32 bytes
Hashes = npt.NDArray[np.uint64]


def hash_faces(images: Pixels) -> Hashes:
    """Difference hashes of faces, uint8 [N, 16, 16, 3] -> uint64 [N, 4]."""
    grey = images.astype(np.int32) @ np.array([299, 587, 114], np.int32)  # ITU-R BT.601
    bits = (grey[:, :, 1:] > grey[:, :, :-1]).reshape(len(images), BITS)
    packed = np.zeros((len(images), 32), np.uint8)
    packed[:, : BITS // 8] = np.packbits(bits, axis=1)
    return packed.view(np.uint64)


def near_any(hashes: Hashes, others: Hashes, distance: int) -> npt.NDArray[np.bool_]:
    """Which hashes, uint64 [N, 4], lie within a Hamming distance of any of the others, bool [N]; compares all pairs."""
    found = np.zeros(len(hashes), np.bool_)
    for begin in range(0, len(hashes), BLOCK):
        mine = hashes[begin : begin + BLOCK].T[:, :, None]
        for start in range(0, len(others), BLOCK):
            differing = np.bitwise_count(mine ^ others[start : start + BLOCK].T[:, None]).sum(axis=0, dtype=np.uint8)
            found[begin : begin + BLOCK] |= (differing <= distance).any(axis=1)
    return found


def small_faces(faces: FaceSet) -> Pixels:
    """The 16x16 faces of a set, uint8 [N, 16, 16, 3]: of an HR set the artificial ones."""
    return faces.images if faces.lr is None else faces.lr


def count_repeats(faces: FaceSet) -> int:
    """Faces that are an earlier one of the set to the last pixel: the same photograph twice."""
    return len(faces) - len({hash(face.tobytes()) for face in faces.images})


def _hashes_of(faces: FaceSet, side: int = 1) -> Hashes:
    """The hashes of a set; with side -1 of its mirrored faces."""
    small = small_faces(faces)
    parts = [hash_faces(small[begin : begin + BATCH, :, ::side]) for begin in range(0, len(faces), BATCH)]
    return np.concatenate([np.zeros((0, 4), np.uint64), *parts])


def find_duplicates(faces: FaceSet, tests: Sequence[FaceSet], distance: int) -> npt.NDArray[np.bool_]:
    """Which faces lie within so many bits of a face of the test sets or of its mirror image, bool [N].

    Copies cropped from the same box of the same photograph share their fate.
    """
    others = [_hashes_of(test, side) for test in tests for side in (1, -1)]
    near = near_any(_hashes_of(faces), np.concatenate(others), distance) if others else np.zeros(len(faces), np.bool_)
    boxes = faces.index.groupby(["photo", "box_left", "box_top"], sort=False, dropna=False).ngroup().to_numpy()
    return np.isin(boxes, boxes[near])


def deduplicate(
    writer: FaceWriter, faces: FaceSet, tests: Sequence[FaceSet], params: DeduplicateOptions
) -> dict[str, Any]:
    """Write the faces that are no near-duplicates of test faces; returns the metrics of the stage."""
    near = find_duplicates(faces, tests, params.distance)
    dropped = near if params.near_duplicates == "drop" else np.zeros_like(near)
    columns = list(faces.index.columns)
    for number, row in enumerate(faces.index.itertuples(index=False, name=None)):
        if not dropped[number]:
            lr = None if faces.lr is None else faces.lr[number]
            writer.add(faces.images[number], dict(zip(columns, row, strict=True)), lr)
    noted = ("count", "shapes", "sha256", "rejections")  # by the writer itself
    writer.notes = {key: value for key, value in faces.meta.items() if key not in noted}
    for reason, count in faces.meta["rejections"].items():
        writer.reject(reason, count)
    if dropped.any():
        writer.reject("near_duplicate", int(dropped.sum()))
        writer.notes |= {key: value for key, value in _sizes(faces.index[~dropped]).items() if key in writer.notes}
    return {"n_faces": int((~dropped).sum()), "n_test_faces": sum(map(len, tests)), "near_duplicates": int(near.sum())}


def _sizes(index: pd.DataFrame) -> dict[str, Any]:
    """What a set notes of the sizes of its faces."""
    tally = Tally()
    for side in index[["box_width", "box_height"]].max(axis=1).dropna():
        tally.add_face(side, "")
    return {"mean_side": tally.mean_side, "side_histogram": tally.histogram()}
