"""Time and memory of HR preparation, LR extraction and reading a face set, in corpora of 1k, 10k and 100k images.

python benchmarks/scale.py [--images 1000 10000 100000] [--workers 2]

Every measurement is a process of its own. Memory is the peak of the main process without pages of mapped files; the
workers hold one photograph each. The faces of LR extraction are boxed beforehand (`boxes: annotation`), so that its
photographs come as fast as they can: a detector works in the workers and would only slow them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from corpus import BOXES, OwnMemory, photos_of, print_table, processor_seconds, write_faces, write_portraits
from hr_preparation import prepare_all

from charreg.core.faces import LR_SIZE, FaceWriter, open_faces
from charreg.core.params import LrSource, read_all_params
from charreg.photos.extraction import make_lr_faces
from charreg.photos.gathering import PhotoScratch
from charreg.photos.sources import PhotoList
from charreg.training.batches import Pairs

TASKS = {"prepare": "HR preparation", "extract": "LR extraction", "read": "reading, one epoch"}


def prepare(folder: Path, count: int) -> None:
    params = read_all_params(Path("params.yaml"))
    params = params.model_copy(update={"hr_faces": params.hr_faces.model_copy(update={"crop": "fixed"})})
    prepare_all(photos_of(sorted((folder / "portraits").iterdir()), count), params, folder)


def extract(folder: Path, count: int) -> None:
    """What stages/lr_faces.py does with annotated photographs, four faces each."""
    params = read_all_params(Path("params.yaml"))
    photos = photos_of(sorted((folder / "portraits").iterdir()), count, BOXES)
    source = LrSource(source="folder", path="", exclude="none", boxes="annotation")
    scratch = PhotoScratch("lr_faces@train", photos, params)
    with tempfile.TemporaryDirectory(dir=folder) as out, scratch.hold():
        with FaceWriter(Path(out), LR_SIZE) as writer:
            found = PhotoList(photos, annotated=True)
            make_lr_faces(writer, "train", found, source, params.detection, params.lr_faces, [], scratch)
        scratch.forget()


def read(folder: Path, count: int) -> None:
    """Open the set (its digest is checked), then one epoch of shuffled batches of 16; this process does it alone."""
    pairs = Pairs(open_faces(folder / f"faces-{count}"), 16, 0, torch.device("cpu"))
    for step in range(count // 16):
        pairs.batch(step)


def measure(task: str, folder: Path, count: int) -> None:
    with OwnMemory() as memory:
        clock, processor = time.perf_counter(), processor_seconds()
        {"prepare": prepare, "extract": extract, "read": read}[task](folder, count)
        seconds = time.perf_counter() - clock, processor_seconds() - processor
    print(json.dumps([*seconds, memory.peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # task, folder: measured in this process
    args = parser.parse_args()
    if args.one:
        measure(args.one[0], Path(args.one[1]), args.images[0])
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_portraits(Path(folder) / "portraits")
        for task in args.tasks:
            for count in args.images:
                if task == "read":
                    write_faces(Path(folder) / f"faces-{count}", count)
                command = [sys.executable, __file__, "--one", task, folder, "--images", str(count)]
                env = {**os.environ, "CHARREG_EXECUTOR": f"processes:{args.workers}"}
                answer = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
                clock, processor, peak = json.loads(answer.splitlines()[-1])
                rows.append(
                    (TASKS[task], f"{count:,}", clock, count / clock, processor, count / processor, round(peak))
                )
    print_table(("", "images", "s", "images/s", "cpu s", "images/cpu s", "peak MiB"), rows)


if __name__ == "__main__":
    main()
