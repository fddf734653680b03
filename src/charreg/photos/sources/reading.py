"""The one way to the pixels of a photograph: a loose file, a member of an archive or a frame of a video."""

from charreg.photos.images import BYTES_PER_PIXEL, Picture, decode_picture, read_picture
from charreg.photos.sources.archives import read_member
from charreg.photos.sources.photos import Frame, Photo
from charreg.photos.sources.video import read_frame


def read_photo(photo: Photo, max_pixels: int, min_side: int = 1) -> Picture:
    """Decode a photograph. Raises RejectedImage."""
    if photo.place is None:
        return read_picture(photo.path, max_pixels, min_side)
    if isinstance(photo.place, Frame):
        return read_frame(photo.path, photo.place, max_pixels, min_side)
    return decode_picture(read_member(photo.path, photo.place, BYTES_PER_PIXEL * max_pixels), max_pixels, min_side)
