"""Synthetic corpora: portraits shaped like CelebA's, in any number, and face sets of drawn noise."""

import io
import resource
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from charreg.core.faces import FaceWriter
from charreg.core.runtime import machine
from charreg.photos.crowds import find_portraits
from charreg.photos.sources import Box, Photo

SIZE = (178, 218)  # px of CelebA's aligned portraits
BOXES = tuple(Box(20.0 + 70 * x, 30.0 + 90 * y, 18, 22) for x in (0, 1) for y in (0, 1))  # in a picture of SIZE
FILES = 2000  # different ones; larger corpora name them again, which costs a decoder the same


def write_portraits(folder: Path, count: int = FILES) -> list[Path]:
    """JPEGs of 178x218 px, about 10 kB each: ORL portraits enlarged, tinted and grained, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    sources = [path for several in find_portraits().values() for path in several]
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        with Image.open(sources[number % len(sources)]) as image:
            grey = np.asarray(image.convert("L").resize(SIZE, Image.Resampling.BICUBIC), np.float64)
        tinted = grey[..., None] * draws.uniform(0.7, 1.1, 3) + draws.normal(0, 6, (*grey.shape, 1))
        content = io.BytesIO()
        Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
        path.write_bytes(content.getvalue())
    return paths


def photos_of(paths: Sequence[Path], count: int, boxes: tuple[Box, ...] = ()) -> list[Photo]:
    """So many pictures by different names, the same boxes in each."""
    return [Photo(f"{number:06}.jpg", paths[number % len(paths)], boxes) for number in range(count)]


def write_faces(folder: Path, count: int) -> None:
    """An HR face set of noise."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    noise = draws.integers(0, 256, (64 + 37, 64, 64, 3), dtype=np.uint8)
    with FaceWriter(folder, 64, 16) as writer:
        writer.notes = {"domain": "artificial", "role": "train"}
        for number in range(count):
            image = noise[number % len(noise)]
            row = {"photo": f"{number:06}.jpg", "box_left": 35.7, "identity": str(number // 20)}
            writer.add(image, row, image[:16, :16])


class OwnMemory:
    """Peak memory of this process, MiB, without pages of mapped files, which the system takes back at will."""

    def __enter__(self) -> "OwnMemory":
        self.peak, self._done = self._now(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, self._now())

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A markdown table under the machine it was measured on."""
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
