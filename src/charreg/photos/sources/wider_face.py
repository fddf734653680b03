"""WIDER FACE: 32,203 photographs of 61 events with 393,703 annotated faces, many of them tiny.

Layout, as the official page (WIDER FACE, MMLAB, The Chinese University of Hong Kong) hands the files out, unpacked:

    WIDER_train/images/0--Parade/0_Parade_marchingband_1_849.jpg ...     12,880 photographs
    WIDER_val/images/...                                                  3,226
    WIDER_test/images/...                                                16,097, boxes not published
    wider_face_split/wider_face_{train,val}_bbx_gt.txt                   boxes
    wider_face_split/wider_face_test_filelist.txt                        names

A photograph in a `_bbx_gt.txt` is a line with its name, a line with the count of its faces, and that many lines
`left top width height blur expression illumination invalid occlusion pose`; where the count is 0, one line of ten
zeros follows all the same. Faces marked invalid or heavily occluded are not cropped. Licence: research only; the
photographs are from the web and belong to their owners, so do not redistribute them.
"""

from collections.abc import Iterator
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources.folders import check_present, find_part, in_order, names_below, parse_cells, read_lines
from charreg.photos.sources.photos import Box, Photo, PhotoList

SPLITS = ("train", "val", "test")
LISTS = {"test": "wider_face_test_filelist.txt"} | {key: f"wider_face_{key}_bbx_gt.txt" for key in SPLITS[:2]}
ADVICE = "fetch it from WIDER FACE's official page and unpack it there, or set split to what you have"
INVALID, HEAVY = 1, 2
Boxes = dict[str, tuple[Box, ...]]


def find_photos(root: Path, split: str) -> PhotoList:
    """The photographs of a split (all, train, val or test) by name, with their boxes but for those of test.

    Raises CharregError for what is missing.
    """
    photos = []
    splits = SPLITS if split == "all" else (split,)
    for part in splits:
        images = find_part(root, [f"WIDER_{part}/images"], ADVICE)
        listing = find_part(root, [f"wider_face_split/{LISTS[part]}"], ADVICE)
        boxes = _read_names(listing) if part == "test" else _read_boxes(listing)
        check_present(boxes, set(names_below(images)), images, listing)
        prefix = f"WIDER_{part}/images/"
        photos += [Photo(prefix + name, images / name, boxes[name]) for name in in_order(boxes, root)]
    return PhotoList(photos, annotated="test" not in splits)


def _read_names(path: Path) -> Boxes:
    return {line: () for _, line in read_lines(path) if line}


def _read_boxes(path: Path) -> Boxes:
    """Boxes by photograph. Raises CharregError naming a line that is not what the one before it announces."""
    boxes: Boxes = {}
    lines = ((number, line) for number, line in read_lines(path) if line)
    for _, name in lines:
        number, line = _next(lines, path, f"the count of the faces of {name}")
        (count,) = parse_cells(path, number, line, (int,), f"the count of the faces of {name}")
        faces = [_read_box(path, *_next(lines, path, f"{count} faces of {name}")) for _ in range(max(1, count))]
        boxes[name] = tuple(box for box in faces if min(box.width, box.height) > 0)  # the line of zeros is no face
    return boxes


def _next(lines: Iterator[tuple[int, str]], path: Path, wanted: str) -> tuple[int, str]:
    found = next(lines, None)
    if found is None:
        raise CharregError(f"{path}: ends early, wanted {wanted}; fetch the file again")
    return found


def _read_box(path: Path, number: int, line: str) -> Box:
    left, top, width, height, _, _, _, invalid, occlusion, _ = parse_cells(
        path, number, line, (int,) * 10, "a face: left top width height and six marks"
    )
    return Box(left, top, width, height, hard=invalid == INVALID or occlusion == HEAVY)
