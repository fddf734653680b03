"""Super-resolve a folder of face crops with a trained model, outside the pipeline."""

import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import LR_SIZE
from charreg.core.methods import load_method, resolve_images
from charreg.core.resampling import resize_image
from charreg.photos.images import RejectedImage, read_picture
from charreg.training import distributed

MAX_PIXELS = 100_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def upscale_folder(model: Path, source: Path, out: Path, domain: Literal["genuine", "artificial"]) -> int:
    """Write a 64x64 PNG into `out` for every face crop of a file or folder; returns how many were written.

    Crops of any size are brought to 16x16 first (Pillow BICUBIC). Unreadable files cost one line on stderr each.
    Raises CharregError when there is no crop at all, or none that can be read.
    """
    names = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not names:
        raise CharregError(f"{source}: no picture found, wanted face crops ({', '.join(SUFFIXES)})")
    device = distributed.start("auto")
    method = load_method(model, device)
    rejected: Counter[str] = Counter()
    written = 0
    for name in names:
        try:
            lr = resize_image(read_picture(name, MAX_PIXELS).pixels, LR_SIZE)
        except RejectedImage as fault:
            rejected[fault.reason] += 1
            sys.stderr.write(f"{name}: {fault.reason}, skipped\n")
            continue
        resolved, _ = resolve_images(method, np.asarray(lr)[None], domain, device)
        relative = Path(name.name) if source.is_file() else name.relative_to(source)
        target = out / relative.with_name(f"{relative.name}.png")  # keeps a.jpg and a.png apart
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(resolved[0]).save(target)
        written += 1
    if not written:
        raise CharregError(f"{source}: none of {len(names)} pictures could be read ({dict(rejected)})")
    return written
