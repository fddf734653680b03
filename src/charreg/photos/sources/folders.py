"""What every check of a layout needs: one listing a folder, one order, one line for what is missing."""

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from charreg.core.errors import CharregError
from charreg.photos.images import SUFFIXES


def find_part(root: Path, places: Iterable[str], advice: str) -> Path:
    """The first of several places, relative to `root`, that exists. Raises CharregError with the advice."""
    places = list(places)
    for place in places:
        if (root / place).exists():
            return root / place
    deeper = [path for path in sorted(root.glob("*/*")) + sorted(root.glob("*/*/*")) if path.name in places]
    found = f", but {deeper[0].relative_to(root)}: move it up, or give {deeper[0].parent} as the path" if deeper else ""
    raise CharregError(f"{root}: found no {' and no '.join(places)}{found}; {advice}")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines of an annotation file, white space at their ends removed. Raises CharregError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                yield number, line.strip()
    except UnicodeDecodeError as error:
        raise CharregError(f"{path}: {error}; wanted text in UTF-8, fetch the file again") from None


def parse_cells(path: Path, number: int, line: str, kinds: Iterable[Callable[[str], Any]], wanted: str) -> list[Any]:
    """The cells of a line of an annotation file, parted by white space. Raises CharregError naming the line."""
    cells = line.split()
    try:
        return [kind(cell) for kind, cell in zip(kinds, cells, strict=True)]
    except ValueError:
        raise CharregError(f"{path}:{number}: found {line[:80]!r}, wanted {wanted}; fetch the file again") from None


def names_below(root: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """Files below `root` with these suffixes, relative, with /, in no order; hidden files and folders left out.

    Links to folders are followed, every folder once. A folder that cannot be read is named like a file, so that reading
    it is refused and counted.
    """
    names: list[str] = []
    closed: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    for folder, inner, files in os.walk(root, followlinks=True, onerror=closed.append):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        prefix = "" if (below := os.path.relpath(folder, root)) == os.curdir else f"{Path(below).as_posix()}/"
        names += [prefix + name for name in files if not name.startswith(".") and name.lower().endswith(suffixes)]
    return names + [Path(error.filename).relative_to(root).as_posix() for error in closed]


def in_order(names: Iterable[str], root: Path) -> list[str]:
    """Names sorted by the code points of their normal form (NFC), whatever the locale and the file system say.

    Raises CharregError for a name that is not UTF-8.
    """
    ordered = sorted(names, key=lambda name: (unicodedata.normalize("NFC", name), name))
    for name in ordered:
        if name != name.encode("utf-8", "replace").decode("utf-8"):
            raise CharregError(f"{root}: found a file named {name!r}, wanted names in UTF-8; rename it")
    return ordered


def check_present(wanted: Iterable[str], found: Collection[str], place: Path, listed_in: Path) -> None:
    """Raises CharregError when `place`, a folder, an archive or a list, lacks what another list names."""
    missing = sorted(set(wanted).difference(found))
    if missing:
        raise CharregError(
            f"{place}: {missing[0]} is missing, {listed_in.name} lists it ({len(missing)} such); fetch it again"
        )
