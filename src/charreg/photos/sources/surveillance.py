"""Surveillance frames: one folder a camera, with pictures, videos or both in it; no annotation.

    camera1/000001.jpg ...     frames that were saved one by one, in the order of the numbers in their names
    camera2/morning.mp4        videos (.mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .ts); wants the extra [video]

`stride` takes every so-many-th frame of a folder of pictures and of each video: neighbours show the same faces. The
camera is noted as the album. The paper measured on DukeMTMC, which its creators withdrew in 2019 after objections on
grounds of privacy: it is not to be had, and copies of it should not be used. Any footage you may lawfully use takes its
place, and the report names it.
"""

import re
from itertools import groupby
from pathlib import Path

from charreg.core.errors import CharregError
from charreg.photos.images import VIDEOS
from charreg.photos.sources import video
from charreg.photos.sources.folders import in_order, names_below
from charreg.photos.sources.photos import Photo, PhotoList


def find_photos(root: Path, stride: int) -> PhotoList:
    """Every `stride`-th frame of every folder and video, camera by camera. Raises CharregError."""
    names = in_order(names_below(root), root)
    loose = [name for name in names if "/" not in name]
    if loose or not names:
        found = loose[0] if loose else "no picture and no video"
        raise CharregError(f"{root}: found {found}, wanted a folder for each camera with its frames or videos in it")
    photos = []
    for folder, files in groupby(sorted(names, key=_by_number), key=lambda name: name.rpartition("/")[0]):
        camera = folder.partition("/")[0]
        pictures = []
        for name in files:
            path = root / name
            if path.suffix.lower() not in VIDEOS:
                pictures.append(Photo(name, path, album=camera))
                continue
            for number, frame in enumerate(video.list_frames(path, stride)):
                photos.append(Photo(f"{name}#{number * stride:06}", path, album=camera, place=frame))
        photos += pictures[::stride]
    return PhotoList(photos, annotated=False)


def _by_number(name: str) -> tuple[str, list[tuple[int, str]]]:
    """Folder by folder, and frame 2 before frame 10."""
    folder, _, file = name.rpartition("/")
    return folder, [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", file)]
