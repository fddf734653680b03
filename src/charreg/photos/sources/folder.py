"""Any tree of photographs, portraits or ready face crops, loose or in uncompressed tars and zips.

An archive stands for the folder it would unpack to, and `path` may also be one archive. Hidden files are left out. A
portrait's identity is the name of the folder it lies in (empty at the root). boxes.csv at the root, of the tree or of
the archive, tells more (see `table`): where it has an identity, that one counts. Origin, licence and numbers are yours
to know.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.images import SUFFIXES, RejectedImage
from charreg.photos.sources import archives
from charreg.photos.sources.folders import in_order, names_below
from charreg.photos.sources.photos import BOXES, Member, Photo, PhotoList, parse_rows, read_rows
from charreg.photos.sources.table import Facts, Row, read_facts

MAX_TABLE = 1 << 28  # bytes of a boxes.csv inside an archive
Places = dict[str, tuple[Path, Member | None]]


def find_photos(root: Path, split: str) -> PhotoList:
    """The photographs of a split (all, or one that boxes.csv names), by name. Raises CharregError."""
    places = _places(root)
    table = places.pop(BOXES, None)
    if not places:
        raise CharregError(f"{root}: found no picture file, wanted some ending in {' '.join(SUFFIXES)}")
    facts = read_facts(_rows(*table, root / BOXES), root / BOXES) if table else {}
    stray = sorted(set(facts).difference(places))
    if stray:
        raise CharregError(
            f"{root / BOXES}: {stray[0]} is listed but missing ({len(stray)} such); wanted names of files"
        )
    names = in_order(places, root)
    if split != "all":
        names = [name for name in names if name in facts and facts[name].texts.get("split") == split]
        if not names:
            known = ", ".join(sorted({each.texts.get("split", "") for each in facts.values()} - {""})) or "none"
            raise CharregError(f"{root / BOXES}: found no photograph of split {split}, wanted one of: {known}")
    photos = [_photo(name, *places[name], facts.get(name, Facts())) for name in names]
    return PhotoList(photos, annotated=any(each.boxes for each in facts.values()))


def _photo(name: str, path: Path, member: Member | None, facts: Facts) -> Photo:
    identity = facts.texts.get("identity", name.rpartition("/")[0].rpartition("/")[2])
    album = facts.texts.get("album", "")
    return Photo(name, path, tuple(facts.boxes), identity, album, facts.landmarks, facts.native_side, member)


def _places(root: Path) -> Places:
    """Pictures and the table by name: the file or archive they lie in, and where in it. Raises CharregError."""
    if not root.is_dir():
        if not root.name.lower().endswith(archives.SUFFIXES):
            raise CharregError(f"{root}: found a file, wanted a folder, an uncompressed .tar or a .zip")
        return dict(_members(root, ""))
    places: Places = {}
    for name in names_below(root, (*SUFFIXES, *archives.SUFFIXES)):
        _add(places, name, root / name)
    if (root / BOXES).is_file():
        places[BOXES] = (root / BOXES, None)
    return places


def _add(places: Places, name: str, path: Path) -> None:
    """Add a picture, or those of an archive. Raises CharregError."""
    is_archive = name.lower().endswith(archives.SUFFIXES)
    folder = name[: name.rfind("/") + 1]
    for inner, place in _members(path, folder) if is_archive else [(name, (path, None))]:
        if inner in places:
            raise CharregError(f"{path}: {inner} is there twice, loose or in an archive; remove one of them")
        places[inner] = place


def _members(archive: Path, prefix: str) -> Iterator[tuple[str, tuple[Path, Member | None]]]:
    """Pictures and the table of an archive, named as if it were unpacked where it lies. Raises CharregError."""
    for name, member in archives.list_members(archive).items():
        plain = name.removeprefix("./")
        hidden = any(part.startswith(".") for part in plain.split("/"))
        if not hidden and (plain.lower().endswith(SUFFIXES) or prefix + plain == BOXES):
            yield prefix + plain, (archive, member)


def _rows(path: Path, member: Member | None, name: Path) -> Iterator[Row]:
    if member is None:
        return read_rows(path, ("photo",))
    try:
        text = archives.read_member(path, member, MAX_TABLE).decode("utf-8-sig")
    except (RejectedImage, UnicodeDecodeError) as error:
        raise CharregError(f"{name}: {error}; wanted a CSV file in UTF-8, pack the archive again") from None
    return parse_rows(io.StringIO(text, newline=""), name, ("photo",))
