"""FaceSet: the one on-disk form of a set of faces.

A folder with `images.npy` (uint8 [N, S, S, 3] RGB), for HR sets also `lr.npy` (the artificial 16x16 faces),
`index.csv` (one row a face) and `meta.json` (count, shapes, digests, rule, rejections by reason).
"""

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from charreg.core.errors import RESTORE, CharregError
from charreg.core.files import sha256_of_file, write_json

LR_SIZE, HR_SIZE = 16, 64  # px: the networks enlarge 16x16 to 64x64

Pixels = npt.NDArray[np.uint8]

LANDMARKS = (
    "left_eye",
    "right_eye",
    "nose",
    "left_mouth",
    "right_mouth",
)  # as the image shows them, left to right
LANDMARK_COLUMNS = tuple(f"{point}_{axis}" for point in LANDMARKS for axis in "xy")  # px of the stored face
SMALL_EYES = tuple(f"small_{column}" for column in LANDMARK_COLUMNS[:4])  # as the detector sees a face made small
TEXT_COLUMNS = ("source", "photo", "identity", "album")
COLUMNS = (
    *("source", "photo", "box_left", "box_top", "box_width", "box_height"),  # box: px of the photograph
    *(
        "native_side",
        "score",
        "scale",
        "identity",
        "album",
    ),  # native_side: side of the square, px of the photograph
    *LANDMARK_COLUMNS,
    *SMALL_EYES,  # of HR faces that were framed so, for the comparison with genuine ones
)


@dataclass(frozen=True)
class FaceSet:
    """Faces read from a folder; arrays are memory-mapped and read-only.

    images: uint8 [N, S, S, 3] RGB; lr: uint8 [N, s, s, 3] or None; index: one row a face with COLUMNS,
    unknown texts empty and unknown numbers missing; meta: what the writer noted (`domain`, `role`, ...).
    """

    folder: Path
    images: Pixels
    lr: Pixels | None
    index: pd.DataFrame
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def identities(self) -> list[str]:
        """The identity of every face, empty where unknown."""
        return [str(name) for name in self.index["identity"]]

    def people(self, least: int = 1) -> list[str]:
        """`identities`, but empty for people with fewer than `least` portraits, too; crops of one count once."""
        names = self.identities
        portraits = set(zip(names, self.index["source"], self.index["photo"], strict=True))
        counts = Counter(name for name, _, _ in portraits)
        return [name if counts[name] >= least else "" for name in names]


class ArrayWriter:
    """Appends uint8 images to a .npy file in constant memory."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape, self.count = path, shape, 0
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115  closed by close()
        self._header()

    def _header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)  # its length does not depend on the count

    def add(self, image: Pixels) -> None:
        if image.dtype != np.uint8 or image.shape != self.shape:
            raise ValueError(f"found {image.dtype} {image.shape}, wanted uint8 {self.shape}")
        self._file.write(np.ascontiguousarray(image).tobytes())
        self.count += 1

    def close(self) -> None:
        if self._file.closed:
            return
        self._file.seek(0)
        self._header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class FaceWriter:
    """Writes a FaceSet into an existing folder; a context manager.

    `folder` is best the one `files.output_folder` yields, so that the set is whole or absent.
    """

    def __init__(self, folder: Path, size: int, lr_size: int | None = None) -> None:
        self.folder = folder
        self.rejections: Counter[str] = Counter()
        self._images = ArrayWriter(folder / "images.npy", (size, size, 3))
        self._lr = ArrayWriter(folder / "lr.npy", (lr_size, lr_size, 3)) if lr_size else None
        self._index_file = open(folder / "index.csv", "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._index = csv.DictWriter(self._index_file, COLUMNS, lineterminator="\n")
        self._index.writeheader()
        self.notes: dict[str, Any] = {}

    def add(self, image: Pixels, row: Mapping[str, Any], lr: Pixels | None = None) -> None:
        """Append one face: uint8 [S, S, 3], its index row (missing columns stay empty), for HR sets its LR face."""
        if (lr is None) != (self._lr is None):
            raise ValueError("an LR face belongs to every face of an HR set and to no other")
        self._images.add(image)
        if self._lr is not None and lr is not None:
            self._lr.add(lr)
        self._index.writerow({key: _cell(value) for key, value in row.items()})

    def reject(self, reason: str, count: int = 1) -> None:
        """Count what did not become a face, under a short reason."""
        self.rejections[reason] += count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._images.close()
        if self._lr:
            self._lr.close()
        self._index_file.close()
        if kind is None:
            self._write_meta()

    def _write_meta(self) -> None:
        arrays = {"images": self._images} | ({"lr": self._lr} if self._lr else {})
        meta = {
            "count": self._images.count,
            "shapes": {name: list(array.shape) for name, array in arrays.items()},
            "sha256": {path.name: sha256_of_file(path) for path in sorted(self.folder.iterdir()) if path.is_file()},
            "rejections": dict(sorted(self.rejections.items())),
            **self.notes,
        }
        write_json(self.folder / "meta.json", meta)


def _cell(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return f"{value:.3f}" if value == value else ""  # NaN is unlike itself; np.isnan takes as long as the rest
    return value


def open_faces(folder: Path) -> FaceSet:
    """Open a FaceSet after checking shapes, sizes and digests.

    Raises CharregError naming the file, what was found and what was wanted.
    """
    folder = Path(folder)
    meta = _read_meta(folder / "meta.json")
    for name, wanted in meta["sha256"].items():
        path = folder / name
        if not path.is_file():
            raise CharregError(f"{path}: missing, meta.json lists it; make the face set again (dvc repro)")
        found = sha256_of_file(path)
        if found != wanted:
            raise CharregError(f"{path}: sha256 {found[:12]}, wanted {wanted[:12]}; damaged, {RESTORE}")
    arrays = {name: _open_array(folder / f"{name}.npy", meta["count"], shape) for name, shape in meta["shapes"].items()}
    texts = dict.fromkeys(TEXT_COLUMNS, str)
    index = pd.read_csv(folder / "index.csv", dtype=texts, keep_default_na=False, na_values=[""])  # NA may be a name
    index[list(TEXT_COLUMNS)] = index[list(TEXT_COLUMNS)].fillna("")
    if len(index) != meta["count"]:
        raise CharregError(f"{folder / 'index.csv'}: {len(index)} rows, wanted {meta['count']} as meta.json says")
    return FaceSet(folder, arrays["images"], arrays.get("lr"), index, meta)


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        valid = isinstance(meta["count"], int) and meta["count"] >= 0 and "images.npy" in meta["sha256"]
        valid = valid and all(len(shape) == 3 for shape in meta["shapes"].values()) and "images" in meta["shapes"]
    except FileNotFoundError:
        raise CharregError(f"{path.parent}: no meta.json, wanted a face set; run the stage that makes it") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise CharregError(f"{path}: not the meta.json of a face set; make the face set again (dvc repro)")
    return dict(meta)


def _open_array(path: Path, count: int, shape: list[int]) -> Pixels:
    wanted = (count, *shape)
    try:
        array = np.load(path, mmap_mode="r" if count else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CharregError(f"{path}: {error}; wanted a uint8 array {wanted}") from None
    if array.shape != wanted or array.dtype != np.uint8:
        raise CharregError(f"{path}: found {array.dtype} {array.shape}, wanted uint8 {wanted}")
    return array  # type: ignore[no-any-return]


def digest_of_faces(faces: FaceSet) -> str:
    """One SHA-256 that changes with any face or row of the set."""
    return hashlib.sha256(json.dumps(faces.meta["sha256"], sort_keys=True).encode()).hexdigest()
