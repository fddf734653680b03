"""Untrusted picture files -> RGB arrays, or a rejection under a short reason.

Decoded, with a note that is counted: CMYK, palettes, alpha (laid over white), grey, 16-bit grey (the eight bits below
the highest one it uses), EXIF-rotated (turned upright), several pages (TIFF, MPO: the first). Refused: see REASONS.
Formats with an interpreter or an outside program behind them (EPS, PDF, WMF, ...) are not images here.
"""

import io
import stat
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from charreg.core.faces import Pixels

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000")  # JPEG brings MPO with it
HEIF = (".heic", ".heif", ".hif")  # read by pillow-heif, the extra [heif]
# Suffix of a video -> its container format; those that name further files or addresses (playlists) are left out.
VIDEOS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".avi": "avi", ".mkv": "matroska", ".webm": "matroska",
          ".mpg": "mpeg", ".mpeg": "mpeg", ".ts": "mpegts", ".wmv": "asf", ".3gp": "mov", ".flv": "flv"}  # fmt: skip
UNREAD = (".dav", ".h264", ".264", ".h265", ".265", ".hevc", ".vob", ".mts", ".m2ts")  # no videos one can seek in
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".psd", ".tga", ".jxl")  # pictures not read here
# Whatever looks like a picture or a video is looked at and counted, never passed over in silence.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pgm", ".ppm", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"),
    *(".jp2", ".j2k", *HEIF, *RAW, *VIDEOS, *UNREAD),
)
REASONS = {
    "unreadable": "a link to nowhere, or no permission",  # a file or a whole folder
    "empty": "0 bytes",
    "not_an_image": "no known picture format",
    "video": "a video: source surveillance takes its frames, where it can (.mp4, .mkv, .avi and such)",
    "wants_pillow_heif": "HEIF, read once its package is there: pip install 'charreg[heif]'",
    "truncated": "the file ends early",
    "damaged": "wrong checksum or undecodable",
    "too_large": "more pixels than detection.max_pixels, seen in the header",
    "too_small": "no face fits, even enlarged",
    "animated": "several frames",
    "pixel_format": "floating point or more than 16 bits",
}
BYTES_PER_PIXEL = 8  # no sound file is larger than this times max_pixels


class RejectedImage(Exception):  # noqa: N818  an outcome, counted, not an error
    """A picture file that is left out; `reason` is a key of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Picture:
    """A decoded picture: uint8 [H, W, 3] RGB, upright, and what had to be converted (`cmyk`, `alpha`, ...)."""

    pixels: Pixels
    notes: tuple[str, ...]


def read_picture(path: Path, max_pixels: int, min_side: int = 1) -> Picture:
    """Decode a picture file. Raises RejectedImage."""
    if path.suffix.lower() in (*VIDEOS, *UNREAD):
        raise RejectedImage("video")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise RejectedImage("unreadable")
        if not stat.S_ISREG(status.st_mode):
            raise RejectedImage("not_an_image")  # reading a pipe would wait for ever
        if status.st_size > BYTES_PER_PIXEL * max_pixels:
            raise RejectedImage("too_large")
        content = path.read_bytes()
    except OSError:
        raise RejectedImage("unreadable") from None
    return decode_picture(content, max_pixels, min_side)


def decode_picture(content: bytes, max_pixels: int, min_side: int = 1) -> Picture:
    """Decode a picture from memory. Raises RejectedImage."""
    if not content:
        raise RejectedImage("empty")
    limit, tolerant = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False  # max_pixels decides, below
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to lose a photograph
            return _decode(content, max_pixels, min_side)
    except (RejectedImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise RejectedImage(_unidentified(content)) from None
    except Exception as error:  # decoders of untrusted bytes raise nearly everything
        raise RejectedImage(_reason(error)) from None
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, tolerant


def _decode(content: bytes, max_pixels: int, min_side: int) -> Picture:
    with Image.open(io.BytesIO(content), formats=(*FORMATS, *_heif())) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise RejectedImage("too_large")
        if min(width, height) < min_side:
            raise RejectedImage("too_small")
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and image.format not in ("MPO", "TIFF", "HEIF"):
            raise RejectedImage("animated")
        if image.format == "PNG":
            with Image.open(io.BytesIO(content), formats=["PNG"]) as png:
                png.verify()  # load() skips the checksums
        image.load()
        notes = ["first_page"] if pages > 1 and image.format == "TIFF" else []
        upright = _turn_upright(image, notes)
        return Picture(np.ascontiguousarray(_rgb(upright, notes)), tuple(notes))


def _turn_upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation) not in range(2, 9):
            return image
        turned = ImageOps.exif_transpose(image)
    except Exception:  # unreadable metadata: the picture is taken as it lies
        notes.append("exif_unreadable")
        return image
    notes.append("exif_rotated")
    return turned


def _rgb(image: Image.Image, notes: list[str]) -> Pixels:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if mode.startswith("I"):
        values: Any = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise RejectedImage("pixel_format")
        notes.append("16_bit")
        unused = max(0, int(values.max()).bit_length() - 8)  # 12 bits in 16 are not black
        return np.repeat((values >> unused).astype(np.uint8)[..., None], 3, axis=2)
    if mode == "F":
        raise RejectedImage("pixel_format")
    if mode in ("P", "PA"):
        notes.append("palette")
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        notes.append("alpha")
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, opaque).convert("RGB"))
    if mode in ("1", "L", "CMYK", "YCbCr", "LAB", "HSV"):
        notes.append("grey" if mode in ("1", "L") else mode.lower())
    return np.asarray(image.convert("RGB"))


def _reason(error: Exception) -> str:
    text = str(error).lower()
    ends_early = isinstance(error, EOFError) or "truncated" in text or "not enough image data" in text
    return "truncated" if ends_early else "damaged"


@cache
def _heif() -> tuple[str, ...]:
    """The format pillow-heif adds to Pillow, where it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    pillow_heif.register_heif_opener(thumbnails=False)
    return ("HEIF",)


def _unidentified(content: bytes) -> str:
    """Why no decoder takes a file: a key of REASONS."""
    signatures = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if not _heif() and brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc"):
        return "wants_pillow_heif"
    known = content.startswith(signatures) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
    return "damaged" if known or brand == b"avif" else "not_an_image"
