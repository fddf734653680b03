"""Raw photographs by the name of their source (`hr_roles.*.source`, `lr_roles.*.source` in params.yaml)."""

from pathlib import Path

from charreg.errors import CharregError
from charreg.sources import folder, packaged
from charreg.sources.photos import Box, Photo, PhotoList

__all__ = ["Box", "Photo", "PhotoList", "find_photos"]


def find_photos(source: str, path: Path) -> PhotoList:
    """The photographs of a source, in an order that depends on their names alone. Raises CharregError."""
    if not path.is_dir():
        raise CharregError(f"{path}: no such folder, wanted the photographs of source {source}")
    if source == "packaged":
        return packaged.find_photos(path)
    if source == "folder":
        return folder.find_photos(path)
    raise CharregError(f"source: found {source!r}, wanted packaged or folder")
