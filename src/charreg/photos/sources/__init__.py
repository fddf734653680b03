"""Raw photographs by the name of their source (`hr_roles.*.source`, `lr_roles.*.source` in params.yaml)."""

from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.sources import bench, celeba, folder, helen, packaged, pipa, surveillance, wider_face
from charreg.photos.sources.photos import Box, Photo, PhotoList
from charreg.photos.sources.reading import read_photo

__all__ = ["SOURCES", "Box", "Photo", "PhotoList", "find_photos", "read_photo"]

SOURCES = ("packaged", "folder", "celeba", "wider_face", "pipa", "surveillance", "helen", "bench")


def find_photos(source: str, path: Path, split: str = "all", stride: int = 1) -> PhotoList:
    """The photographs of a source, in an order that depends on their names alone. Raises CharregError.

    split: of celeba, wider_face, pipa, folder and bench; stride: of surveillance, every so-many-th frame.
    """
    if source not in SOURCES:
        raise CharregError(f"source: found {source!r}, wanted one of {', '.join(SOURCES)}")
    if not path.is_dir() and not (source == "folder" and path.is_file()):
        raise CharregError(f"{path}: no such folder, wanted the photographs of source {source}")
    if source == "packaged":
        return packaged.find_photos(path)
    if source == "folder":
        return folder.find_photos(path, split)
    if source == "bench":
        return bench.find_photos(path, split)
    if source == "celeba":
        return celeba.find_photos(path, split)
    if source == "wider_face":
        return wider_face.find_photos(path, split)
    if source == "pipa":
        return pipa.find_photos(path, split)
    if source == "surveillance":
        return surveillance.find_photos(path, stride)
    return helen.find_photos(path)
