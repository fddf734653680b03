"""Putting a super-resolved face back into its photograph: colours of what it replaces, a soft edge."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from charreg.core.faces import LR_SIZE, Pixels
from charreg.core.resampling import resize_image
from charreg.photos.detection import Square

EDGE = 0.15  # width of the soft edge, share of the square
GREY = 2  # levels by which channels of a grey picture saved as JPEG may differ
MOST_CONTRAST = 2.0  # factor either way
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def is_grey(pixels: Pixels) -> bool:
    """Whether a picture, uint8 [H, W, 3], has no colours."""
    first = pixels[..., 0].astype(np.int16)
    return all(int(np.abs(first - pixels[..., i]).max(initial=0)) <= GREY for i in (1, 2))


def enlarge_photograph(pixels: Pixels, scale: int) -> Image.Image:
    """The photograph `scale` times as large, by Lanczos."""
    image = Image.fromarray(pixels)
    size = image.width * scale, image.height * scale
    return image.copy() if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)


def match_colours(resolved: Pixels, genuine: Pixels) -> Pixels:
    """A resolved face, uint8 [64, 64, 3], with mean and spread of every channel as in the face it replaces [16, 16, 3].

    The transfer of Reinhard et al. (IEEE CG&A 2001), in RGB; both are compared at 16x16, where they show the same.
    """
    small = resize_image(resolved, LR_SIZE).astype(np.float64)
    means, wanted = small.mean(axis=(0, 1)), genuine.mean(axis=(0, 1))
    factor = np.clip(
        genuine.std(axis=(0, 1)) / np.maximum(small.std(axis=(0, 1)), 1.0), 1 / MOST_CONTRAST, MOST_CONTRAST
    )
    matched: Pixels = np.clip(np.rint((resolved - means) * factor + wanted), 0, 255).astype(np.uint8)
    return matched


def in_grey(face: Pixels) -> Pixels:
    """A face without colours, uint8 [S, S, 3]."""
    return np.repeat(np.rint(face @ LUMA).astype(np.uint8)[..., None], 3, axis=2)


def soft_mask(side: int) -> Image.Image:
    """A mask [side, side], white inside, that falls to black within EDGE of its border."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    ramp = np.clip(distance / max(1.0, EDGE * side), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)  # no visible kink
    mask: npt.NDArray[np.uint8] = np.rint(255 * ramp[:, None] * ramp).astype(np.uint8)
    return Image.fromarray(mask)


def paste_face(
    photograph: Image.Image, resolved: Pixels, genuine: Pixels, square: Square, scale: int, keep_model_colours: bool,
    grey: bool,
) -> None:  # fmt: skip
    """Lay a resolved face, uint8 [64, 64, 3], over its square of the enlarged photograph, in place.

    square: px of the photograph before it was enlarged; genuine: the face as it was, uint8 [16, 16, 3].
    """
    face = resolved if keep_model_colours else match_colours(resolved, genuine)
    face = in_grey(face) if grey else face
    side = square.side * scale
    left, top = square.x * scale - side / 2, square.y * scale - side / 2
    x, y, size = int(np.floor(left)), int(np.floor(top)), int(np.ceil(side)) + 1
    zoom = len(face) / side  # px of the face per px of the photograph
    # Whole pixels of the photograph lie under the face shifted by what is left of a pixel; edges are replicated.
    around = np.pad(face, ((len(face),) * 2, (len(face),) * 2, (0, 0)), mode="edge")
    begin = len(face) + (x - left) * zoom, len(face) + (y - top) * zoom
    box = (*begin, begin[0] + size * zoom, begin[1] + size * zoom)
    patch = Image.fromarray(around).resize((size, size), Image.Resampling.BICUBIC, box=box)
    photograph.paste(patch, (x, y), soft_mask(size))
