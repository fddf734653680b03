"""PIPA (People in Photo Albums): 37,107 photographs with 63,188 annotated heads of 2,356 people.

Layout, as the authors (Zhang et al., CVPR 2015) handed it out; the list in the folder itself or in annotations/:

    train/  val/  test/  leftover/      <photoset_id>_<photo_id>.jpg
    index.txt                           `photoset_id photo_id xmin ymin width height identity_id subset_id`, a head
                                        a line; subset 0 leftover, 1 train, 2 val, 3 test

Boxes are of heads and name only the people whom somebody knew, so they give identities to detected faces and cannot
take the detector's place. A photoset is an album. Licence: the photographs are Flickr users' under Creative Commons
licences of their own; research only, do not redistribute the collection.
"""

from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources.folders import check_present, find_part, in_order, names_below, parse_cells, read_lines
from charreg.photos.sources.photos import Box, Photo, PhotoList

SPLITS = ("leftover", "train", "val", "test")  # by subset_id
ADVICE = "get PIPA from its authors' page and unpack it there, or set split to what you have"
LINE = "photoset_id photo_id xmin ymin width height identity_id subset_id"


def find_photos(root: Path, split: str) -> PhotoList:
    """The photographs of a split (all, leftover, train, val or test) by name. Raises CharregError."""
    index = find_part(root, ["index.txt", "annotations/index.txt"], ADVICE)
    heads = _read_heads(index)
    photos = []
    for part in SPLITS if split == "all" else (split,):
        folder = find_part(root, [part], ADVICE)
        names = in_order((name for name in heads if name.startswith(f"{part}/")), root)
        check_present((name.partition("/")[2] for name in names), set(names_below(folder)), folder, index)
        photos += [Photo(name, root / name, tuple(heads[name]), album=heads[name][0].album) for name in names]
    return PhotoList(photos, annotated=False)


def _read_heads(path: Path) -> dict[str, list[Box]]:
    """Heads by photograph. Raises CharregError naming the line."""
    heads: dict[str, list[Box]] = {}
    for number, line in read_lines(path):
        if not line:
            continue
        kinds = (str, str, float, float, float, float, str, int)
        album, photo, left, top, width, height, identity, subset = parse_cells(path, number, line, kinds, LINE)
        if subset not in range(len(SPLITS)):
            raise CharregError(f"{path}:{number}: found subset {subset}, wanted 0, 1, 2 or 3; fetch the file again")
        head = Box(left, top, width, height, identity, album)
        heads.setdefault(f"{SPLITS[subset]}/{album}_{photo}.jpg", []).append(head)
    return heads
