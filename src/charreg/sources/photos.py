"""What every source yields: photographs and, where known, the faces in them."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from charreg.errors import CharregError

BOXES = "boxes.csv"


@dataclass(frozen=True)
class Box:
    """An annotated face, px of the photograph."""

    left: float
    top: float
    width: float
    height: float
    identity: str = ""
    album: str = ""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """left, top, width, height, as `detection.overlap_of` takes them."""
        return self.left, self.top, self.width, self.height


@dataclass(frozen=True)
class Photo:
    """A photograph or portrait: its file, its name inside the source (with /), what is known of its faces."""

    name: str
    path: Path
    boxes: tuple[Box, ...] = ()
    identity: str = ""  # of a portrait


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
    for number, row in read_rows(path, ("photo", "left", "top", "width", "height")):
        try:
            sides = [float(row[key]) for key in ("left", "top", "width", "height")]
        except ValueError:
            sides = [math.nan]
        if not all(math.isfinite(side) for side in sides) or min(sides[2:]) <= 0:
            found = ", ".join(row[key] for key in ("left", "top", "width", "height"))
            raise CharregError(
                f"{path}:{number}: found box {found}, wanted four numbers in px, width and height above 0"
            )
        boxes.setdefault(row["photo"], []).append(
            Box(sides[0], sides[1], sides[2], sides[3], row.get("identity", ""), row.get("album", ""))
        )
    return boxes


def read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of every row of a CSV file that has these columns. Raises CharregError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise CharregError(f"{path}: found columns {reader.fieldnames}, wanted {', '.join(columns)}")
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise CharregError(f"{path}: missing, wanted a CSV file with {', '.join(columns)}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise CharregError(f"{path}: {error}; wanted a CSV file in UTF-8 with {', '.join(columns)}") from None
    for number, row in rows:
        if None in row or None in row.values():
            raise CharregError(f"{path}:{number}: wrong number of cells, wanted as many as the first line has")
    return rows
