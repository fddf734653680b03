"""Any tree of photographs, with or without boxes.csv at its root.

A portrait's identity is the name of the folder it lies in (empty at the root). Where boxes.csv lists a photograph,
its boxes give the identities.
"""

import os
import unicodedata
from pathlib import Path

from charreg.errors import CharregError
from charreg.images import SUFFIXES
from charreg.sources.photos import BOXES, Photo, PhotoList, read_boxes


def find_photos(root: Path) -> PhotoList:
    """Photographs below `root`, hidden files left out, sorted by name. Raises CharregError for stray boxes.

    The order is that of the code points of the normalised (NFC) names, whatever the locale and the file system say.
    """
    names = sorted(_names(root), key=lambda name: (unicodedata.normalize("NFC", name), name))
    for name in names:
        if name != name.encode("utf-8", "replace").decode("utf-8"):
            raise CharregError(f"{root}: found a file named {name!r}, wanted names in UTF-8; rename it")
    if not names:
        raise CharregError(f"{root}: found no picture file, wanted some ending in {' '.join(SUFFIXES)}")
    annotated = (root / BOXES).is_file()
    boxes = read_boxes(root / BOXES) if annotated else {}
    stray = sorted(set(boxes) - set(names))
    if stray:
        raise CharregError(
            f"{root / BOXES}: {stray[0]} is listed but missing ({len(stray)} such); wanted names of files"
        )
    photos = [Photo(name, root / name, tuple(boxes.get(name, ())), _identity(name)) for name in names]
    return PhotoList(photos, annotated)


def _names(root: Path) -> list[str]:
    names = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for file in files:
            if not file.startswith(".") and file.lower().endswith(SUFFIXES):
                names.append(Path(folder, file).relative_to(root).as_posix())
    return names


def _identity(name: str) -> str:
    return Path(name).parent.name
