"""Raw photographs by the name of their source (`hr_roles.*.source`, `lr_roles.*.source` in params.yaml)."""

from collections.abc import Callable
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources import bench, celeba, folder, helen, packaged, pipa, surveillance, wider_face
from charreg.photos.sources.photos import Box, Photo, PhotoList
from charreg.photos.sources.reading import read_photo

__all__ = ["SOURCES", "Box", "Photo", "PhotoList", "find_photos", "read_photo"]

BY_SPLIT: dict[str, Callable[[Path, str], PhotoList]] = {
    "folder": folder.find_photos,
    "celeba": celeba.find_photos,
    "wider_face": wider_face.find_photos,
    "pipa": pipa.find_photos,
    "bench": bench.find_photos,
}
WHOLE: dict[str, Callable[[Path], PhotoList]] = {"packaged": packaged.find_photos, "helen": helen.find_photos}
SOURCES = (*WHOLE, *BY_SPLIT, "surveillance")


def find_photos(source: str, path: Path, split: str = "all", stride: int = 1) -> PhotoList:
    """The photographs of a source, in an order that depends on their names alone. Raises CharregError.

    split: of celeba, wider_face, pipa, folder and bench; stride: of surveillance, every so-many-th frame.
    """
    if source not in SOURCES:
        raise CharregError(f"source: found {source!r}, wanted one of {', '.join(SOURCES)}")
    if not path.is_dir() and not (source == "folder" and path.is_file()):
        raise CharregError(f"{path}: no such folder, wanted the photographs of source {source}")
    if source == "surveillance":
        return surveillance.find_photos(path, stride)
    return BY_SPLIT[source](path, split) if source in BY_SPLIT else WHOLE[source](path)
