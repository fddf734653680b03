"""Crowd photographs composed of portraits of one's own, as `packaged` composes those of shipped ones."""

from pathlib import Path

from tqdm import tqdm

from charreg.core.errors import CharregError
from charreg.core.params import ComposedPhotosOptions, LrRole, PackagedPhotosOptions
from charreg.photos.crowds import (
    MAX_PIXELS,
    PHOTO_ROLES,
    PORTRAIT_DETECTION,
    Portrait,
    check_room,
    find_backgrounds,
    take_photos,
)
from charreg.photos.detection import detect_faces
from charreg.photos.framing import face_of_square, whole_square
from charreg.photos.images import RejectedImage
from charreg.photos.sources import Photo, PhotoList, read_photo


def make_composed_photos(
    out: Path, role: LrRole, source: ComposedPhotosOptions, raw: PhotoList, params: PackagedPhotosOptions, seed: int
) -> None:
    """Write `<n>.jpg` and boxes.csv: a role's photographs of people who are not in the packages.

    A portrait shows one face. Raises CharregError when a portrait cannot be read, is no ready crop where `crop` says
    so, has no identity, or none has a face.
    """
    check_room(params)
    portraits: dict[str, list[Portrait]] = {}
    for photo in tqdm(raw.photos, desc=f"portraits {role}", unit="photo", mininterval=1.0):
        portrait = _portrait_of(photo, source.crop == "ready")
        if portrait is not None:
            portraits.setdefault(photo.identity, []).append(portrait)
    if not portraits:
        raise CharregError(f"composed_photos.{role}: found no face in {len(raw.photos)} portraits of {source.path}")
    with tqdm(total=source.photos, desc=f"composed photos {role}", unit="photo", mininterval=1.0) as progress:
        photos = (PHOTO_ROLES.index(role), source.photos)
        take_photos(out, role, photos, portraits, find_backgrounds(), params, seed, progress)


def _portrait_of(photo: Photo, ready: bool) -> Portrait | None:
    """A portrait of one's own; None where nobody is found in it. Raises CharregError."""
    try:
        pixels = read_photo(photo, MAX_PIXELS).pixels
    except RejectedImage as error:
        raise CharregError(f"{photo.path}: {photo.name}: {error.reason}, wanted a portrait; take it out") from None
    if not photo.identity:
        raise CharregError(f"{photo.path}: {photo.name} has no identity, wanted one for every composed face")
    if ready:
        square = whole_square(pixels)
        if square is None:
            raise CharregError(f"{photo.path}: {photo.name} is not square, wanted a ready crop; set crop to mtcnn")
        return Portrait(photo.path, pixels, face_of_square(square, PORTRAIT_DETECTION.margin, None))
    faces = detect_faces(pixels, PORTRAIT_DETECTION)
    return Portrait(photo.path, pixels, max(faces, key=lambda face: face.longer_side)) if faces else None
