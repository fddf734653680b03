"""The layout `stages/packaged_photos.py` writes: photographs with boxes.csv, or portraits with portraits.csv."""

from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources.photos import BOXES, Photo, PhotoList, read_boxes, read_rows


def find_photos(root: Path) -> PhotoList:
    """Photographs or portraits exactly as listed. Raises CharregError when a listed file is missing."""
    if (root / BOXES).is_file():
        boxes = read_boxes(root / BOXES)
        photos = [Photo(path.name, path, tuple(boxes.pop(path.name, ()))) for path in sorted(root.glob("*.jpg"))]
        if boxes:
            raise CharregError(
                f"{root / min(boxes)}: missing, {BOXES} lists it; make the photographs again (dvc repro)"
            )
        return PhotoList(photos, annotated=True)
    rows = [row for _, row in read_rows(root / "portraits.csv", ("photo", "identity"))]
    portraits = sorted((Photo(row["photo"], root / row["photo"], (), row["identity"]) for row in rows), key=_name)
    for portrait in portraits:
        if not portrait.path.is_file():
            raise CharregError(
                f"{portrait.path}: missing, portraits.csv lists it; make the portraits again (dvc repro)"
            )
    return PhotoList(portraits, annotated=False)


def _name(photo: Photo) -> str:
    return photo.name
