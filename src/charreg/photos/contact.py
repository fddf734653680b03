"""Contact sheets: many faces on one PNG, to look at before training on them."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from charreg.core.faces import FaceSet, Pixels
from charreg.core.files import write_bytes

LABEL = 44  # px for the number of a row's first face
GAP = 2


def save_png(path: Path, pixels: Pixels) -> None:
    """Write a PNG, whole or absent."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    write_bytes(path, file.getvalue())


def enlarge(images: npt.NDArray[np.uint8], factor: int) -> Pixels:
    """Repeat every pixel `factor` times in both directions; uint8 [..., H, W, 3]."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def draw_sheet(cells: Iterable[Pixels], columns: int, numbers: list[int]) -> Pixels:
    """Cells of one size in rows, each row led by the number of its first cell; a white line when there are none."""
    images = list(cells)
    if not images:
        return np.full((1, LABEL, 3), 255, np.uint8)
    height, width = images[0].shape[0] + GAP, images[0].shape[1] + GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (LABEL + columns * width, rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        if column == 0:
            pen.text((2, row * height + height // 2 - 6), str(numbers[i]), fill="black")
        sheet.paste(Image.fromarray(image), (LABEL + column * width, row * height))
    return np.asarray(sheet)


def draw_faces(faces: FaceSet, limit: int = 1000) -> Pixels:
    """All faces of a set, or `limit` of them evenly chosen; numbers are rows of index.csv, from 0.

    LR faces are enlarged three times; HR faces are followed by their artificial LR face, enlarged to the same size.
    """
    shown = min(limit, len(faces))
    numbers = [i * len(faces) // shown for i in range(shown)]
    if faces.lr is None:
        return draw_sheet((enlarge(faces.images[i], 3) for i in numbers), 20, numbers)
    factor = faces.images.shape[1] // faces.lr.shape[1]
    pairs = (np.concatenate([faces.images[i], enlarge(faces.lr[i], factor)], axis=1) for i in numbers)
    return draw_sheet(pairs, 8, numbers)
