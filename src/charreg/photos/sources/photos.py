"""What every source yields: photographs and, where known, the faces in them."""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from charreg.core.errors import CharregError

BOXES = "boxes.csv"
BOX_COLUMNS = ("left", "top", "width", "height")


@dataclass(frozen=True, slots=True)
class Box:
    """An annotated face, px of the photograph."""

    left: float
    top: float
    width: float
    height: float
    identity: str = ""
    album: str = ""
    hard: bool = False  # invalid or heavily occluded: neither cropped nor missed when the detector misses it

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """left, top, width, height, as `detection.overlap_of` takes them."""
        return self.left, self.top, self.width, self.height


@dataclass(frozen=True, slots=True)
class Member:
    """Where a picture lies inside an archive, bytes."""

    offset: int  # of the content in a tar, of the local header in a zip
    stored: int  # in the archive
    size: int  # of the picture file
    crc: int | None = None  # None: of a tar, which has none
    packed: bool = False  # deflated


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a video by its time stamp, and where decoding has to begin; units of the stream."""

    stamp: int
    key: int


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph, portrait or ready crop: its name inside the source (with /), what is known of its faces.

    The last five are known of portraits and ready crops at most; every worker gets one Photo at a time, so it is small.
    """

    name: str
    path: Path  # the picture file, or the archive or video it lies in
    boxes: tuple[Box, ...] = ()
    identity: str = ""
    album: str = ""  # or the camera
    landmarks: tuple[float, ...] = ()  # x and y of the five `faces.LANDMARKS`, px of the photograph
    native_side: float | None = None  # of a ready crop, px of the photograph it was cut from
    place: Member | Frame | None = None  # where the picture lies in `path`; None: it is the file


@dataclass(frozen=True)
class PhotoList:
    """All photographs of a source; `annotated` says that their faces are known, so recall can be measured."""

    photos: list[Photo]
    annotated: bool


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Annotated faces by photo name from a CSV of photo, left, top, width, height[, identity[, album]].

    Raises CharregError naming the line.
    """
    boxes: dict[str, list[Box]] = {}
    for number, row in read_rows(path, ("photo", *BOX_COLUMNS)):
        boxes.setdefault(row["photo"], []).append(box_of_row(row, f"{path}:{number}"))
    return boxes


def box_of_row(row: dict[str, str], place: str) -> Box:
    """The box of a CSV row. Raises CharregError that begins with `place`."""
    sides = numbers_of_row(row, BOX_COLUMNS)
    if not all(math.isfinite(side) for side in sides) or min(sides[2:]) <= 0:
        found = ", ".join(row[key] for key in BOX_COLUMNS)
        raise CharregError(f"{place}: found box {found}, wanted four numbers in px, width and height above 0")
    return Box(sides[0], sides[1], sides[2], sides[3], row.get("identity", ""), row.get("album", ""))


def numbers_of_row(row: dict[str, str], columns: Iterable[str]) -> tuple[float, ...]:
    """The cells as numbers, NaN for what is none."""
    numbers = []
    for column in columns:
        try:
            numbers.append(float(row[column]))
        except ValueError:
            numbers.append(math.nan)
    return tuple(numbers)


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row of a CSV file that has these columns. Raises CharregError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield from parse_rows(file, path, columns)
    except FileNotFoundError:
        raise CharregError(f"{path}: missing, wanted a CSV file with {', '.join(columns)}") from None


def parse_rows(lines: Iterable[str], name: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """As `read_rows`, from the lines of a file called `name`."""
    try:
        reader = csv.DictReader(lines, strict=True, skipinitialspace=True)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
        missing = [column for column in columns if column not in (reader.fieldnames or [])]
        if missing:
            raise CharregError(f"{name}: found columns {reader.fieldnames}, wanted {', '.join(columns)}")
        for row in reader:
            if None in row or None in row.values():
                raise CharregError(
                    f"{name}:{reader.line_num}: wrong number of cells, wanted as many as the first line has"
                )
            yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise CharregError(f"{name}: {error}; wanted a CSV file in UTF-8 with {', '.join(columns)}") from None
