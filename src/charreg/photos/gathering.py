"""What is found in photographs -> a FaceSet: mapped over an executor, in the order of the photographs, resumable.

What is found depends on the photograph alone and is written in the order of the list, so the bytes are the same
whatever the executor, however many workers, and however often the process was killed on the way.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from shutil import rmtree
from typing import Any

from tqdm import tqdm

from charreg.core.faces import FaceWriter
from charreg.core.params import Params
from charreg.core.runtime import runtime
from charreg.core.scratch import ScratchFolder, code_digest
from charreg.photos.executors import map_unordered
from charreg.photos.images import REASONS
from charreg.photos.journal import JOURNAL, Journal
from charreg.photos.records import Found, Tally, pack, unpack
from charreg.photos.sources import Photo

LIBRARIES = ("numpy", "pillow", "torch", "torchvision", "facenet-pytorch")  # what pixels and boxes depend on
TaskOf = Callable[[Photo], Callable[[], Found]]  # what to do with a photograph; what it returns is sent to a worker


class PhotoScratch(ScratchFolder):
    """The finished photographs of one extraction.

    They are believed when parameters, exclusions, the list of photographs (all that is known of them, sizes and times
    of the files), code and libraries are the same.
    """

    def __init__(self, stage: str, photos: Sequence[Photo], params: Params, exclusions: Sequence[Any] = ()) -> None:
        fingerprint = {
            "params": params.model_dump(mode="json", warnings=False),
            "exclusions": [repr(exclusion) for exclusion in exclusions],
            "photographs": _digest_of_list(photos),
            "code": code_digest(),
            "versions": {name: version(name) for name in LIBRARIES},
        }
        super().__init__(stage, fingerprint)
        self.photos = photos

    @contextmanager
    def journal(self) -> Iterator["Journal"]:
        """The journal, opened; says on stderr what it already holds. The folder has to be held."""
        with Journal(self.folder / JOURNAL, len(self.photos)) as journal:
            if journal.known:
                sys.stderr.write(f"{self.stage}: goes on with {journal.known} of {len(self.photos)} photographs done\n")
            yield journal

    def forget(self) -> None:
        """Remove the folder, once everything made of it is whole."""
        rmtree(self.folder, ignore_errors=True)


def _digest_of_list(photos: Sequence[Photo]) -> str:
    """SHA-256 of all that is known of the photographs and of the sizes and times of their files."""
    digest = sha256()
    for photo in photos:
        try:
            status = os.stat(photo.path)
            seen = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            seen = str(error.errno)
        digest.update(f"{photo!r} {seen}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def gather(writer: FaceWriter, task_of: TaskOf, scratch: PhotoScratch, title: str) -> Tally:
    """Put what is found in every photograph of the scratch into the writer, in the order of the photographs.

    Photographs whose results an interrupted run left in the journal are not worked on again; `scratch` has to be held.
    """
    tally = Tally()
    with scratch.journal() as journal:
        todo = ((place, task_of(photo)) for place, photo in enumerate(scratch.photos) if place not in journal)
        results = map_unordered(_find_and_pack, todo, runtime().executor)
        bar = tqdm(_in_order(journal, results), total=journal.count, desc=title, unit="photo", mininterval=1.0)
        for packed in bar:
            found = unpack(packed)
            tally.add(found)
            if found.fault:
                reason = f"{found.fault} ({REASONS[found.fault]})"
                message = f"{found.photo}: {reason}, left out ({tally.left_out} of {journal.count})"
                tqdm.write(message, file=sys.stderr)
            for reason, count in sorted(found.rejections.items()):
                writer.reject(reason, count)
            for image, row, lr in found.faces:
                writer.add(image, row, lr)
            bar.set_postfix(faces=tally.count, refresh=False)
    return tally


def _find_and_pack(item: tuple[int, Callable[[], Found]]) -> tuple[int, bytes]:
    """A photograph's place and packed result; a top-level function, so that it can be sent to another process."""
    place, task = item
    return place, pack(task())


def _in_order(journal: Journal, results: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """Packed results by place, each as soon as it is there; those that come early wait in the journal."""
    for place in range(journal.count):
        while place not in journal:
            journal.append(*next(results))
        yield journal.read(place)
