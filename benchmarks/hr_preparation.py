"""HR preparation against merely decoding the same JPEGs on the same cores.

python benchmarks/hr_preparation.py [--images 6000] [--workers 2]

Both go through worker processes in chunks; each is timed for a few images and for many, and the difference counts, so
that starting processes does not. Processor seconds stand beside those of the clock: others may be using the machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from corpus import photos_of, print_table, processor_seconds, write_portraits
from PIL import Image

from charreg.core.faces import HR_SIZE, LR_SIZE, FaceWriter
from charreg.core.params import HrSource, Params, read_all_params
from charreg.photos.executors import map_unordered
from charreg.photos.extraction import make_hr_faces
from charreg.photos.gathering import PhotoScratch
from charreg.photos.sources import Photo

FEW = 500


def decode(photo: Photo) -> int:
    """What every preparation has to do at least."""
    with Image.open(photo.path) as image:
        return int(np.asarray(image.convert("RGB")).shape[0])


def decode_all(photos: list[Photo], executor: str) -> None:
    for _ in map_unordered(decode, photos, executor):
        pass


def prepare_all(photos: list[Photo], params: Params, folder: Path) -> None:
    """What stages/hr_faces.py does with CelebA and `crop: fixed`."""
    scratch = PhotoScratch("hr_faces@test", photos, params)
    with tempfile.TemporaryDirectory(dir=folder) as out, scratch.hold():
        with FaceWriter(Path(out), HR_SIZE, LR_SIZE) as writer:
            source = HrSource(source="celeba", path="")
            make_hr_faces(writer, "test", source, params.detection, params.hr_faces, params.seed, scratch)
        scratch.forget()


def seconds_an_image(run: Callable[[list[Photo]], None], paths: list[Path], images: int) -> tuple[float, float]:
    """Of the clock and of the processors, start-up left out."""
    marks = []
    for count in (FEW, FEW + images):
        clock, processor = time.perf_counter(), processor_seconds()
        run(photos_of(paths, count))
        marks.append((time.perf_counter() - clock, processor_seconds() - processor))
    return (marks[1][0] - marks[0][0]) / images, (marks[1][1] - marks[0][1]) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    os.environ["CHARREG_EXECUTOR"] = executor = f"processes:{args.workers}"
    params = read_all_params(Path("params.yaml"))
    params = params.model_copy(update={"hr_faces": params.hr_faces.model_copy(update={"crop": "fixed"})})
    with tempfile.TemporaryDirectory() as folder:
        paths = write_portraits(Path(folder) / "portraits")
        decoding = seconds_an_image(lambda photos: decode_all(photos, executor), paths, args.images)
        preparing = seconds_an_image(lambda photos: prepare_all(photos, params, Path(folder)), paths, args.images)
    ratio = [one / other for one, other in zip(decoding, preparing, strict=True)]
    rows = [
        ("decoding", 1 / decoding[0], 1e3 * decoding[1], ""),
        ("HR preparation", 1 / preparing[0], 1e3 * preparing[1], f"{ratio[0]:.2f} by the clock, {ratio[1]:.2f} by cpu"),
    ]
    print_table(("", "images/s", "cpu ms/image", "rate against decoding"), rows)


if __name__ == "__main__":
    main()
