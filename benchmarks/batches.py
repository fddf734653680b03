"""What a batch from a memory-mapped face set costs, as a share of the training step, at default widths.

python benchmarks/batches.py [--faces 20000] [--steps 12]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from corpus import print_table, write_faces

from charreg.core.faces import FaceSet, open_faces
from charreg.core.params import read_all_params
from charreg.cr.pretrain_inverse_cr import PretrainInverseCr
from charreg.cr.pretrain_sr import PretrainSr
from charreg.training.job import Job


class Clock:
    """Sums the processor time of the calls of a function."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.seconds = call, 0.0

    def __call__(self, *args: Any) -> Any:
        begin = time.process_time()
        result = self.call(*args)
        self.seconds += time.process_time() - begin
        return result


def measure(job: Job, streams: list[tuple[Any, str]], steps: int) -> tuple[float, float]:
    """Processor seconds of a batch and of a whole step, medians; every step draws faces it has not seen."""
    clocks = [Clock(getattr(stream, draw)) for stream, draw in streams]
    for (stream, draw), clock in zip(streams, clocks, strict=True):
        setattr(stream, draw, clock)
    batches, whole = [], []
    for step in range(steps + 2):
        before, begin = sum(clock.seconds for clock in clocks), time.process_time()
        job.step(step)
        whole.append(time.process_time() - begin)
        batches.append(sum(clock.seconds for clock in clocks) - before)
    return median(batches[2:]), median(whole[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=20000)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    params, device = read_all_params(Path("params.yaml")), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        write_faces(Path(folder) / "hr", args.faces)
        hr = open_faces(Path(folder) / "hr")
        genuine = FaceSet(hr.folder, hr.lr, None, hr.index, hr.meta) if hr.lr is not None else hr
        sr, inverse = PretrainSr(params, hr, device), PretrainInverseCr(params, hr, genuine, device)
        rows = []
        for name, job, streams in (
            ("pretrain_sr", sr, [(sr.pairs, "batch")]),
            ("pretrain_inverse_cr", inverse, [(inverse.pairs, "artificial"), (inverse.genuine, "batch")]),
        ):
            batch, step = measure(job, streams, args.steps)
            rows.append((name, job.schedule.batch, 1e3 * batch, 1e3 * step, f"{batch / step:.2%}"))
    print_table(("job", "batch", "batch, cpu ms", "step, cpu ms", "share"), rows)


if __name__ == "__main__":
    main()
