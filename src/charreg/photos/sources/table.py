"""boxes.csv of the folder source: what is known of the photographs, a face a line.

`photo` is a name with its folders; any of these columns may follow, and a cell may be empty:

    left top width height        the face's box, px of the photograph
    identity album               who it is, and the occasion
    split                        `split: NAME` of the role takes the photographs of that name alone
    native_side                  of a ready crop: side of the square it was cut from, px of its photograph
    left_eye_x left_eye_y ...    the ten columns of index.csv, px of the picture; of portraits and ready crops
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.core.faces import LANDMARK_COLUMNS
from charreg.photos.sources.photos import BOX_COLUMNS, Box, box_of_row, numbers_of_row

TEXTS = ("identity", "album", "split")
Row = tuple[int, dict[str, str]]


@dataclass(slots=True)
class Facts:
    """What the table says of one photograph."""

    boxes: list[Box] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # of TEXTS, those the table has; empty where lines disagree
    native_side: float | None = None
    landmarks: tuple[float, ...] = ()


def read_facts(rows: Iterable[Row], path: Path) -> dict[str, Facts]:
    """Facts by photograph. Raises CharregError naming the line."""
    facts: dict[str, Facts] = {}
    for number, row in rows:
        place = f"{path}:{number}"
        each = facts.setdefault(row["photo"], Facts())
        for key in TEXTS:
            if key in row:
                each.texts[key] = row[key] if each.texts.get(key, row[key]) == row[key] else ""
        if _has(row, BOX_COLUMNS, place):
            each.boxes.append(box_of_row(row, place))
        if _has(row, LANDMARK_COLUMNS, place):
            if each.landmarks:
                raise CharregError(f"{place}: found landmarks of {row['photo']} again, wanted those of one face")
            each.landmarks = numbers_of_row(row, LANDMARK_COLUMNS)
            if not all(map(math.isfinite, each.landmarks)):
                raise CharregError(f"{place}: found landmarks that are no numbers, wanted ten numbers in px")
        if _has(row, ("native_side",), place):
            (side,) = numbers_of_row(row, ("native_side",))
            if not (math.isfinite(side) and side > 0):
                raise CharregError(f"{place}: found native_side {row['native_side']}, wanted a number of px above 0")
            each.native_side = side
    return facts


def _has(row: dict[str, str], columns: tuple[str, ...], place: str) -> bool:
    """Are these cells filled? Raises CharregError where some of them are and others not."""
    filled = [column for column in columns if row.get(column)]
    if filled and len(filled) < len(columns):
        missing = next(column for column in columns if column not in filled)
        raise CharregError(f"{place}: found {filled[0]} and no {missing}, wanted all or none of {', '.join(columns)}")
    return bool(filled)
