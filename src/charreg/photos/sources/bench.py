"""The real-face bench: sets of ready face crops, each with a list, of which one is taken by name.

Layout; an archive stands for a folder of its name:

    hr_train.csv  hr_train.tar      10,938 portraits (LFW) of 4,661 people, 128x128, `identity`, `native_side`
    hr_test.csv   hr_test/          739 portraits: 199 of Helen (`helen_*`), 540 of celebrities (`glint_*`)
    lr_web.csv    lr_web.tar        3,603 genuine faces of 8-32 px in web photographs, `source_image`, `mask`
    lr_cctv.csv   lr_cctv/          35 genuine faces of one surveillance camera

`split` is SET or SET/PART (PARTS): people or photographs in the order of a hash of their names, so that parts share
nobody and no photograph, and neither a list's order nor new files change who is where. Masked faces are left out, and
of a person at most PER_PERSON portraits count. The bench is for measuring, its pictures are not to be redistributed.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources.archives import list_members
from charreg.photos.sources.folders import check_present, find_part, in_order
from charreg.photos.sources.photos import Member, Photo, PhotoList, numbers_of_row, read_rows

PER_PERSON = 20
SET_ASIDE = 80  # people of hr_train with FEWEST pictures or more, whom a simulated camera photographs
FEWEST = 6
VALIDATION, TEST = 0.1, 0.2  # of the faces of lr_web, by whole photographs
ADVICE = "link the bench there: mkdir -p data/raw && ln -s /path/to/it data/raw/bench"
Row = dict[str, str]


def find_photos(root: Path, split: str) -> PhotoList:
    """The crops of a set or of one of its parts, by name. Raises CharregError for what is missing."""
    name, _, part = split.partition("/")
    listed = find_part(root, [f"{name}.csv"], ADVICE)
    images = find_part(root, [f"{name}.tar", name], ADVICE)
    rows = [row for _, row in read_rows(listed, ("file",)) if row.get("mask", "no") == "no"]
    places = _places(images)
    check_present((row["file"] for row in rows), places, images, listed)
    if part:
        rows = PARTS[name][part](rows)
    by_name = {row["file"]: row for row in _few_of_everybody(rows)}
    return PhotoList([_photo(by_name[file], images, places[file]) for file in in_order(by_name, root)], annotated=False)


def _places(images: Path) -> dict[str, Member | None]:
    if images.is_dir():
        return dict.fromkeys(path.name for path in images.iterdir())
    return {name.rpartition("/")[2]: member for name, member in list_members(images).items()}


def _photo(row: Row, images: Path, place: Member | None) -> Photo:
    sides = numbers_of_row(row, [key for key in ("native_side", "crop_w", "crop_h") if key in row])
    if not sides or not min(sides) > 0:
        raise CharregError(
            f"{images}: found no size of {row['file']} in the list, wanted native_side or crop_w, crop_h"
        )
    path = images / row["file"] if place is None else images
    identity, album = row.get("identity", ""), row.get("source_image", "")
    return Photo(row["file"], path, (), identity, album, native_side=max(sides), place=place)


def _few_of_everybody(rows: Iterable[Row]) -> list[Row]:
    seen: Counter[str] = Counter()
    kept = []
    for row in sorted(rows, key=lambda row: _hash(row["file"])):
        identity = row.get("identity", "")
        seen[identity] += 1
        if not identity or seen[identity] <= PER_PERSON:
            kept.append(row)
    return kept


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


# --- parts -----------------------------------------------------------------------------------------------


def _people_set_aside(rows: list[Row]) -> set[str]:
    pictures = Counter(row["identity"] for row in rows)
    often = [identity for identity, count in pictures.items() if count >= FEWEST]
    return set(sorted(often, key=_hash)[:SET_ASIDE])


def _train_people(rows: list[Row]) -> list[Row]:
    aside = _people_set_aside(rows)
    return [row for row in rows if row["identity"] not in aside]


def _other_people(rows: list[Row]) -> list[Row]:
    aside = _people_set_aside(rows)
    return [row for row in rows if row["identity"] in aside]


def _photograph(row: Row) -> str:
    return f"{row['source_repo']} {row['source_image']}"


def _photographs(part: str) -> Callable[[list[Row]], list[Row]]:
    """The faces of whole photographs: the test part is filled first, then validation, and training has the rest."""

    def choose(rows: list[Row]) -> list[Row]:
        faces = Counter(_photograph(row) for row in rows)
        part_of, taken = {}, 0
        for photograph in sorted(faces, key=_hash):
            share = taken / len(rows)
            part_of[photograph] = "test" if share < TEST else "validation" if share < TEST + VALIDATION else "train"
            taken += faces[photograph]
        return [row for row in rows if part_of[_photograph(row)] == part]

    return choose


def _beginning(word: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row for row in rows if row["file"].startswith(word)]


PARTS: dict[str, dict[str, Callable[[list[Row]], list[Row]]]] = {
    "hr_train": {"train": _train_people, "set_aside": _other_people},
    "hr_test": {"helen": _beginning("helen_"), "celebrities": _beginning("glint_")},
    "lr_web": {part: _photographs(part) for part in ("train", "validation", "test")},
    "lr_cctv": {},
}
